//! What stays in memory.

pub(crate) mod policy;
