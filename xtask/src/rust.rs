//! Groups of Cargo's own: format, lints, tests, documentation.

use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::Tally;
use crate::shell::{Project, line, output, run, watch};

/// Every tracked Rust file, by rustfmt itself: `cargo fmt` looks only at those that a module names.
pub(crate) fn fmt(project: &Project) -> Result<Tally> {
    let listed = output(project.command("git").args(["ls-files", "-z", "--", "*.rs"]))?;
    let files: Vec<_> = listed.split_terminator('\0').filter(|f| project.root.join(f).exists()).collect();
    ensure!(!files.is_empty(), "git tracks no Rust file here");
    let status = project.command("rustfmt").args(["--check", "--edition", "2024"]).args(&files).status()?;
    ensure!(status.success(), "rustfmt would change what is shown above: run `rustfmt --edition 2024` on those files");
    Ok(Tally::passed(files.len()))
}

pub(crate) fn clippy(project: &Project) -> Result<Tally> {
    run(project.cargo("clippy").args(["--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    Ok(Tally::passed(project.crates))
}

/// All tests but the header's, which the group `c` counts.
pub(crate) fn test(project: &Project) -> Result<Tally> {
    let mut command = project.cargo("test");
    command.args(["--workspace", "--lib", "--bins", "--tests", "--no-fail-fast", "--", "--skip", HEADER]);
    counted(&mut command)
}

/// A million random operations on every policy.
pub(crate) fn policies(project: &Project) -> Result<Tally> {
    let mut command = project.cargo("test");
    command.args(["--package", "dubcore", "--lib", "--", "factory::tests"]).env("DUBCORE_TEST_RUNS", "500");
    counted(&mut command)
}

/// The test that compares the C header with the source.
pub(crate) const HEADER: &str = "the_header_is_current";

/// Over the whole workspace, although only one crate has any: features are unified over what is selected, so anything
/// less would build the dependencies again.
pub(crate) fn doctest(project: &Project) -> Result<Tally> {
    counted(project.cargo("test").args(["--workspace", "--doc"]))
}

/// In a target directory of its own, because the flag would build everything in ours again. Optimised, because loom runs
/// each test some thousand times.
pub(crate) fn loom(project: &Project) -> Result<Tally> {
    let mut command = project.cargo("test");
    command.args(["--package", "dubcore-loom", "--release", "--lib", "--target-dir"]).arg(project.target.join("loom"));
    counted(command.env("RUSTFLAGS", "--cfg loom"))
}

pub(crate) fn docs(project: &Project) -> Result<Tally> {
    run(project.cargo("doc").args(["--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Tally::passed(1))
}

/// Runs a `cargo test` and counts by the test harness's own lines.
pub(crate) fn counted(command: &mut Command) -> Result<Tally> {
    let (status, lines) = watch(command)?;
    let mut tally = count(&lines);
    if !status.success() && tally.failed == 0 {
        bail!("{} failed ({status}), but no test did: see above", line(command));
    }
    // A name may be missing where a test was killed together with its harness.
    tally.failures.sort();
    Ok(tally)
}

/// What the lines of test harnesses say.
pub(crate) fn count(lines: &[String]) -> Tally {
    let mut tally = Tally::default();
    for said in lines {
        if let Some(counts) = said.strip_prefix("test result: ") {
            let number = |what: &str| {
                let before = counts.split_once(what).map_or("", |(before, _)| before);
                before.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
            };
            tally.passed += number(" passed");
            tally.failed += number(" failed");
            tally.skipped += number(" ignored");
        } else if let Some(name) = said.strip_prefix("test ").and_then(|l| l.strip_suffix(" ... FAILED")) {
            tally.failures.push(name.to_string());
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_names() {
        let lines = [
            "running 3 tests",
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ];
        let tally = count(&lines.map(String::from));
        assert_eq!((tally.passed, tally.failed, tally.skipped), (17, 1, 2));
        assert_eq!(tally.failures, ["a::c"]);
    }
}
