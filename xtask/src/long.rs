//! Groups that take too long for every change. Each needs less than an hour on two cores.

use anyhow::{Context, Result, ensure};

use crate::Tally;
use crate::rust::counted;
use crate::shell::{Project, run, watch, works};

/// Pinned, because its checks grow stricter with its versions.
const CARGO_DENY: &str = "0.20.2";

/// Licences, duplicates and origins of all dependencies, by deny.toml. Advisories are left out: their list is fetched
/// from a place that a closed network does not reach.
pub(crate) fn deny(project: &Project) -> Result<Tally> {
    let tools = project.target.join("tools");
    let program = tools.join("bin/cargo-deny");
    if !works(project.command(&program).arg("--version")) {
        let mut install = project.cargo("install");
        install.args(["--locked", "--version", CARGO_DENY, "--root"]).arg(&tools).arg("cargo-deny");
        // Its own build folder: in ours it would wait for, and be waited for by, every other build.
        run(install.env("CARGO_TARGET_DIR", tools.join("build")))?;
    }
    let mut tally = Tally::default();
    for check in ["licenses", "bans", "sources"] {
        let (status, _) = watch(project.command(&program).args(["--workspace", "check", check]))?;
        tally.check(check, status.success());
    }
    Ok(tally)
}

/// The unit tests of the core, with every access to memory checked. The standard library is not instrumented: the
/// stable way to build it so does not exist.
pub(crate) fn asan(project: &Project) -> Result<Tally> {
    ensure!(
        works(project.command("rustup").args(["run", "nightly", "cargo", "--version"])),
        "AddressSanitizer needs a nightly compiler: rustup toolchain install nightly"
    );
    let target = "x86_64-unknown-linux-gnu";
    let mut command = project.command("rustup");
    command.args(["run", "nightly", "cargo", "test", "--package", "dubcore", "--lib", "--no-fail-fast", "--target", target]);
    // The stable compiler that runs us must not be the one that it finds.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC");
    // Nothing is shared with the stable build, and in its folder everyone else would wait for this one.
    command.env("CARGO_TARGET_DIR", project.target.join("asan"));
    command.env("RUSTFLAGS", "-Zsanitizer=address").env("ASAN_OPTIONS", "detect_stack_use_after_return=1");
    counted(&mut command).context("under AddressSanitizer")
}
