//! What stays in memory: models by a policy, results by what they depend on.

pub(crate) mod policy;
pub(crate) mod results;
