//! The groups `python` and `hosts`: the wheel is built, installed into an environment of its own, and tested there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::Tally;
use crate::shell::{Project, output, run, watch};

/// The pinned packages: the builder, the test runner, the type checker.
const REQUIREMENTS: &str = "python/requirements-test.txt";

pub(crate) fn test(project: &Project) -> Result<Tally> {
    let bin = environment(project)?;
    warn_of_double_builds(project)?;
    // The dev profile shares the dependencies with the Rust tests, and optimises them: see Cargo.toml.
    let wheel = wheel(project, &bin, "dev")?;
    install(project, &bin, &wheel)?;
    let mut tally = pytest(project, &bin, &["python/tests"])?;
    tally.check("every call works in an environment with nothing else", bare(project, &wheel).is_ok());
    Ok(tally)
}

/// What goes wrong once in a while, many times over; and the package as it is given away: a wheel that is built from the
/// source distribution, as where no wheel fits.
pub(crate) fn long(project: &Project) -> Result<Tally> {
    let bin = environment(project)?;
    let sources = project.scratch("sdist")?;
    run(project.command(bin.join("maturin")).args(["sdist", "--out"]).arg(&sources))?;
    let wheels = project.scratch("wheels")?;
    let built = ["wheel", "--quiet", "--no-deps", "--wheel-dir"];
    run(project.command(bin.join("pip")).args(built).arg(&wheels).arg(only_file(&sources)?))?;
    let wheel = only_file(&wheels)?;
    install(project, &bin, &wheel)?;
    let mut tally = pytest(project, &bin, &["-s", "--long", "python/tests/test_long.py"])?;
    tally.check("every call works in an environment with nothing else", bare(project, &wheel).is_ok());
    Ok(tally)
}

/// A program in Python that measures, under an interpreter that has the wheel of the release profile.
pub(crate) fn program(project: &Project, script: &str) -> Result<Command> {
    let bin = environment(project)?;
    let wheel = wheel(project, &bin, "release")?;
    install(project, &bin, &wheel)?;
    let mut command = project.command(bin.join("python"));
    command.arg(script);
    Ok(command)
}

fn wheel(project: &Project, bin: &Path, profile: &str) -> Result<PathBuf> {
    let wheels = project.scratch("wheels")?;
    let mut build = project.command(bin.join("maturin"));
    build.args(["build", "--profile", profile, "--compatibility", "linux", "--interpreter"]).arg(bin.join("python"));
    run(build.arg("--out").arg(&wheels))?;
    only_file(&wheels)
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let entry = std::fs::read_dir(folder)?.next().with_context(|| format!("nothing was put into {}", folder.display()))?;
    Ok(entry?.path())
}

fn install(project: &Project, bin: &Path, wheel: &Path) -> Result<()> {
    run(project.command(bin.join("pip")).args(["install", "--quiet", "--no-deps", "--force-reinstall"]).arg(wheel))
}

fn pytest(project: &Project, bin: &Path, args: &[&str]) -> Result<Tally> {
    let (status, lines) = watch(project.command(bin.join("pytest")).arg("-ra").args(args))?;
    let tally = count(&lines);
    if !status.success() && tally.failed == 0 {
        bail!("pytest failed ({status}), but no test did: see above");
    }
    Ok(tally)
}

/// Makes every call once in a new environment that has the wheel and nothing else.
fn bare(project: &Project, wheel: &Path) -> Result<()> {
    let dir = project.scratch("bare")?;
    run(project.command("python3").args(["-m", "venv"]).arg(&dir))?;
    install(project, &dir.join("bin"), wheel)?;
    let (status, lines) = watch(project.command(dir.join("bin/python")).arg("python/tests/calls.py"))?;
    ensure!(status.success() && lines.len() > 10, "calls.py ended with {status}");
    Ok(())
}

/// The `bin` of a virtual environment with exactly the pinned packages, made anew when they change.
fn environment(project: &Project) -> Result<PathBuf> {
    let wanted = std::fs::read_to_string(project.root.join(REQUIREMENTS)).context(REQUIREMENTS)?;
    let dir = project.target.join("xtask/venv");
    let (bin, stamp) = (dir.join("bin"), dir.join("requirements.txt"));
    // The stamp is written last: an environment whose making was interrupted has none.
    if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) && bin.join("python").exists() {
        return Ok(bin);
    }
    run(project.command("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    run(project.command(bin.join("pip")).args(["install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS]))?;
    std::fs::write(&stamp, wanted)?;
    Ok(bin)
}

/// The wheel is built with one crate selected, the tests with all. Where that gives a dependency other features, it and
/// all above it are built twice: minutes that nobody would notice.
fn warn_of_double_builds(project: &Project) -> Result<()> {
    let list = |select: &[&str], edges: &str| -> Result<Vec<String>> {
        let mut tree = project.cargo("tree");
        tree.args(select).args(["--edges", edges, "--prefix", "none", "--format", "{p} {f}"]);
        Ok(output(&mut tree)?.lines().map(|l| l.trim_end_matches(" (*)").to_string()).collect())
    };
    let tests = list(&["--workspace"], "normal,build,dev")?;
    let mut twice: Vec<_> =
        list(&["--package", "dubcore-py"], "normal,build")?.into_iter().filter(|l| !tests.contains(l)).collect();
    twice.sort();
    twice.dedup();
    if !twice.is_empty() {
        println!(
            "note: built twice, because the tests enable more features of them (widen them in Cargo.toml): {}",
            twice.join(", ")
        );
    }
    Ok(())
}

fn count(lines: &[String]) -> Tally {
    let mut tally = Tally::default();
    // The last line: "==== 2 failed, 10 passed, 1 skipped in 3.21s ====".
    let summary = lines.iter().rev().find(|l| l.starts_with("==") && l.contains(" in ")).map_or("", String::as_str);
    for part in summary.trim_matches(['=', ' ']).split(" in ").next().unwrap_or_default().split(", ") {
        if let Some((Ok(number), what)) = part.split_once(' ').map(|(n, what)| (n.parse::<usize>(), what)) {
            match what {
                "passed" | "xfailed" => tally.passed += number,
                "failed" | "error" | "errors" | "xpassed" => tally.failed += number,
                "skipped" => tally.skipped += number,
                _ => {}
            }
        }
    }
    let failures = lines.iter().filter_map(|l| l.strip_prefix("FAILED ").or_else(|| l.strip_prefix("ERROR ")));
    tally.failures = failures.map(|l| l.split(" - ").next().unwrap_or(l).to_string()).collect();
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_names() {
        let lines = [
            "FAILED python/tests/test_dub.py::test_a - assert 1 == 2",
            "ERROR python/tests/test_dub.py::test_b",
            "==== 1 failed, 10 passed, 2 skipped, 1 error in 3.21s ====",
        ];
        let tally = count(&lines.map(String::from));
        assert_eq!((tally.passed, tally.failed, tally.skipped), (10, 2, 2));
        assert_eq!(tally.failures, ["python/tests/test_dub.py::test_a", "python/tests/test_dub.py::test_b"]);
    }
}
