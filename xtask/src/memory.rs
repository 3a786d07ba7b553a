//! The groups `asan` and `valgrind`: tests with every access to memory checked. The first sees more of the stack, the second
//! sees also what is not compiled with it (the standard library, C), and what is read before it is written.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::Tally;
use crate::rust::{count, counted};
use crate::shell::{Project, output, watch};

/// Unit tests of the core, and the tests of what comes from outside. The standard library is not instrumented: the stable
/// way to build it so does not exist.
pub(crate) fn asan(project: &Project) -> Result<Tally> {
    let target = "x86_64-unknown-linux-gnu";
    let mut command = project.nightly("cargo")?;
    // Nothing is shared with the stable build, and in its folder everyone else would wait for this one.
    command.env("CARGO_TARGET_DIR", project.target.join("asan"));
    command.args([
        "test",
        "--package",
        "dubcore",
        "--lib",
        "--test",
        "media",
        "--test",
        "hostile",
        "--no-fail-fast",
        "--target",
        target,
    ]);
    command.env("RUSTFLAGS", "-Zsanitizer=address").env("ASAN_OPTIONS", "detect_stack_use_after_return=1");
    counted(&mut command).context("under AddressSanitizer")
}

/// What memcheck runs, by test program and filter: whatever reads foreign bytes or is unsafe, and keeps up at its speed. The
/// rest is arithmetic, which takes an hour at a fiftieth of its speed and accesses memory no differently.
const CHECKED: &[(&str, &str)] = &[
    ("dubcore", "audio::"),
    ("dubcore", "media::"),
    ("dubcore", "subtitle::"),
    ("dubcore", "source::"),
    ("dubcore", "runtime::"),
    ("dubcore", "process::"),
    ("dubcore", "nn::weights::"),
    ("media", ""),
    ("paths", "media_that_cannot_be_read"),
];

/// Tests under memcheck. A definite leak is a failure.
///
/// memcheck's processor has no AVX-512, and says so: gemm and candle choose their kernels at run time, and choose AVX2.
pub(crate) fn valgrind(project: &Project) -> Result<Tally> {
    let programs = programs(project)?;
    let mut tally = Tally::default();
    for (name, filter) in CHECKED {
        let (mut lines, mut clean) = (Vec::new(), true);
        // The bindings' libraries have the core's name.
        for program in programs.iter().filter(|p| is(p, name)) {
            let mut command = memcheck(project);
            command.arg(program).args(["--test-threads=1", filter]);
            let (status, said) = watch(&mut command)?;
            lines.extend(said);
            clean &= status.success();
        }
        let run = count(&lines);
        ensure!(run.passed + run.failed > 0, "no test of {name} is called {filter:?}");
        tally.passed += run.passed;
        tally.failed += run.failed;
        tally.failures.extend(run.failures);
        tally.check(format!("memcheck finds nothing in {name} {filter}"), clean);
    }
    Ok(tally)
}

fn memcheck(project: &Project) -> std::process::Command {
    let mut command = project.command("valgrind");
    command.args(["--quiet", "--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=definite"]);
    command.args(["--errors-for-leak-kinds=definite", "--num-callers=30"]);
    command
}

/// The test programs of the workspace.
fn programs(project: &Project) -> Result<Vec<String>> {
    let listed = output(project.cargo("test").args(["--workspace", "--lib", "--tests", "--no-run", "--message-format=json"]))?;
    // One field of each line of JSON: too little to be worth a parser among the dependencies.
    let path = |line: &str| Some(line.split_once(r#""executable":""#)?.1.split_once('"')?.0.to_owned());
    Ok(listed.lines().filter_map(path).collect())
}

/// Whether a program is a test program of that name: `deps/NAME-HASH`.
fn is(program: &str, name: &str) -> bool {
    let program = Path::new(program);
    let of_tests = program.parent().is_some_and(|folder| folder.ends_with("deps"));
    of_tests && program.file_name().and_then(|f| f.to_str()?.rsplit_once('-')).is_some_and(|(stem, _)| stem == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_have_names() {
        assert!(is("/a/b-c/deps/media-0123abc", "media") && !is("/a/deps/media-tool-0123abc", "media"));
        assert!(!is("/a/debug/dubcore-bench", "dubcore"), "a program beside the tests");
    }
}
