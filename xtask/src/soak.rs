//! The group `soak`: mixed traffic at one factory, for a short while.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Tally;
use crate::shell::{Project, run, watch};

/// Nobody waits longer for a model, a status or a sweep. What a call itself takes depends on the machine.
const LONGEST_WAIT_MS: f64 = 5_000.0;

pub(crate) fn soak(project: &Project) -> Result<Tally> {
    // The whole workspace is selected, so that no dependency is built again with fewer features.
    run(project.cargo("build").args(["--workspace", "--example", "soak"]))?;
    let mut command = project.command(project.target.join("debug/examples/soak"));
    let (status, lines) = watch(command.args(["--seconds", "20", "--threads", "16"]))?;
    let told: Value = lines
        .iter()
        .rev()
        .find_map(|line| serde_json::from_str(line).ok())
        .with_context(|| format!("the soak told nothing ({status})"))?;
    let number = |key: &str| told[key].as_f64().with_context(|| format!("the soak did not tell {key}"));
    let mut tally = Tally::default();
    ensure!(number("requests")? > 0.0 && number("evictions")? > 0.0, "the soak did nothing: {told}");
    tally.check(format!("{} requests, {} errors", told["requests"], told["errors"]), number("errors")? == 0.0);
    tally.check(format!("{} results that differ from those of one thread", told["mismatches"]), number("mismatches")? == 0.0);
    let wait = number("longest_wait_ms")?;
    tally.check(format!("nobody waited longer than {wait} ms"), wait <= LONGEST_WAIT_MS);
    tally.check(format!("it ended well ({status})"), status.success());
    Ok(tally)
}
