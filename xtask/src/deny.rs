//! The group `deny`. Every group with `--long` needs less than an hour on two cores, but `fuzz`.

use anyhow::Result;

use crate::Tally;
use crate::shell::{Project, watch};

/// Pinned, because its checks grow stricter with its versions.
const CARGO_DENY: &str = "0.20.2";

/// Licences, duplicates and origins of all dependencies, by deny.toml. Advisories are left out: their list is fetched
/// from a place that a closed network does not reach.
pub(crate) fn deny(project: &Project) -> Result<Tally> {
    let program = project.tool("cargo-deny", CARGO_DENY)?;
    let mut tally = Tally::default();
    for check in ["licenses", "bans", "sources"] {
        let (status, _) = watch(project.command(&program).args(["--workspace", "check", check]))?;
        tally.check(check, status.success());
    }
    Ok(tally)
}
