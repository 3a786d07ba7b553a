//! The group `fuzz`: every fuzzer of `fuzz/`, until it has had a million inputs and twenty minutes.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::Tally;
use crate::shell::{Project, run};

const CARGO_FUZZ: &str = "0.13.1";
/// Where cargo-fuzz puts programs: it always names the target.
const HOST: &str = "x86_64-unknown-linux-gnu";

const INPUTS: u64 = 1_000_000;
const TIME: Duration = Duration::from_secs(20 * 60);

/// Name, and the longest input in bytes: the seeds', or what a run should not take longer for. The slowest come first.
const FUZZERS: [(&str, usize); 5] =
    [("tokenizer", 3_500), ("config", 2_000), ("media", 5_000), ("srt", 1_000), ("safetensors", 1_000)];

/// What libFuzzer itself watches over. What an input may make the library ask for is counted by the fuzzers, far more
/// tightly: the memory here is mostly the sanitizer's.
const LIMITS: [&str; 4] = ["-timeout=10", "-rss_limit_mb=2048", "-malloc_limit_mb=1024", "-print_final_stats=1"];

pub(crate) fn fuzz(project: &Project) -> Result<Tally> {
    let mut tally = Tally::default();
    let astray = astray(&std::fs::read_to_string(project.root.join("Cargo.lock"))?, &lock(project)?);
    tally.check(format!("fuzz/Cargo.lock has the workspace's versions: {astray:?}"), astray.is_empty());

    let target = project.target.join("fuzz");
    let program = project.tool("cargo-fuzz", CARGO_FUZZ)?;
    run(project.nightly(&program)?.args(["build", "--target-dir"]).arg(&target))?;

    let scratch = project.scratch("fuzz")?;
    let todo = Mutex::new(VecDeque::from(FUZZERS));
    let done = Mutex::new(Vec::new());
    let next = || todo.lock().map_or(None, |mut todo| todo.pop_front());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((name, longest)) = next() {
                    let fuzzer = Fuzzer { project, name, longest, program: target.join(HOST).join("release").join(name) };
                    let outcome = fuzzer.run(&scratch.join(name));
                    if let Ok(mut done) = done.lock() {
                        done.push((name, outcome));
                    }
                }
            });
        }
    });
    for (name, outcome) in done.into_inner().unwrap_or_default() {
        match outcome {
            Ok(stats) => tally.check(format!("{name}: {stats}"), true),
            Err(e) => tally.check(format!("{name}: {e:#}"), false),
        }
    }
    ensure!(tally.passed + tally.failed == 1 + FUZZERS.len(), "a fuzzer got lost");
    Ok(tally)
}

struct Fuzzer<'a> {
    project: &'a Project,
    name: &'static str,
    longest: usize,
    program: PathBuf,
}

/// What a fuzzer did, over all its rounds.
#[derive(Default)]
struct Stats {
    inputs: u64,
    time: Duration,
    /// Peak of resident memory, in MB.
    rss: u64,
}

impl std::fmt::Display for Stats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { inputs, time, rss } = self;
        let seconds = time.as_secs_f64();
        write!(f, "{inputs} inputs in {seconds:.0} s, {:.0} a second, peak {rss} MB", *inputs as f64 / seconds)
    }
}

impl Fuzzer<'_> {
    /// Rounds until there were enough inputs and enough time, all over one corpus in `place`. The committed seeds are only
    /// read.
    fn run(&self, place: &Path) -> Result<Stats> {
        let corpus = place.join("corpus");
        std::fs::create_dir_all(&corpus)?;
        let mut stats = Stats::default();
        let begin = Instant::now();
        while stats.inputs < INPUTS || begin.elapsed() < TIME {
            // Each round reads the corpus first, so there are few: one for the time, one for what is missing then.
            let enough = match TIME.saturating_sub(begin.elapsed()).as_secs() {
                0 => format!("-runs={}", INPUTS.saturating_sub(stats.inputs).max(1)),
                left => format!("-max_total_time={left}"),
            };
            self.round(place, &enough, &mut stats)?;
            stats.time = begin.elapsed();
        }
        Ok(stats)
    }

    fn round(&self, place: &Path, enough: &str, stats: &mut Stats) -> Result<()> {
        let here = self.project.root.join("fuzz");
        let mut command = self.project.command(&self.program);
        // Safe code keeps no reference into a frame that is gone; to look for one costs every fifth input.
        command.env("ASAN_OPTIONS", "detect_stack_use_after_return=0");
        command.arg(place.join("corpus")).arg(here.join("seeds").join(self.name)).args(LIMITS);
        command.arg(format!("-max_len={}", self.longest)).arg(enough);
        command.arg(format!("-artifact_prefix={}/", place.display()));
        let words = here.join("words").join(self.name);
        if words.exists() {
            command.arg(format!("-dict={}", words.display()));
        }
        let (ended, said) = self.watch(&mut command)?;
        let number = |what: &str| said.iter().rev().find_map(|l| l.strip_prefix(what)?.trim().parse::<u64>().ok());
        ensure!(ended, "it stopped at an input, which lies in {}:\n{}", place.display(), said.join("\n"));
        let Some(inputs) = number("stat::number_of_executed_units:") else { bail!("it did not say how many inputs it had") };
        stats.inputs += inputs;
        stats.rss = stats.rss.max(number("stat::peak_rss_mb:").unwrap_or(0));
        Ok(())
    }

    /// Runs it, passing on one line of progress in a while; whether it ended well, and the last of what it said.
    fn watch(&self, command: &mut Command) -> Result<(bool, Vec<String>)> {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().context("the fuzzer does not start")?;
        let pipe = child.stderr.take().context("the child's output was asked for")?;
        let mut last = VecDeque::new();
        let mut shown = Instant::now();
        for line in BufReader::new(pipe).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            if line.starts_with("memory: ") || line.starts_with('#') && shown.elapsed() > Duration::from_secs(60) {
                println!("{}: {line}", self.name);
                shown = Instant::now();
            }
            last.push_back(line);
            if last.len() > 60 {
                last.pop_front();
            }
        }
        Ok((child.wait()?.success(), last.into()))
    }
}

fn lock(project: &Project) -> Result<String> {
    std::fs::read_to_string(project.root.join("fuzz/Cargo.lock")).context("fuzz/Cargo.lock is missing")
}

/// Packages that both lock files have, but not in the same version: then something else is fuzzed than is used.
fn astray(workspace: &str, fuzz: &str) -> Vec<String> {
    let packages = |lock: &str| -> Vec<(String, String)> {
        let field = |block: &str, key: &str| {
            let line = block.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
            line.trim_matches('"').to_owned()
        };
        lock.split("[[package]]").skip(1).map(|b| (field(b, "name = "), field(b, "version = "))).collect()
    };
    let ours = packages(workspace);
    let known = |name: &str| ours.iter().any(|(n, _)| n == name);
    packages(fuzz)
        .into_iter()
        .filter(|p| known(&p.0) && !ours.contains(p))
        .map(|(name, version)| format!("{name} {version}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_are_found() {
        let package = |name, version| format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
        let ours = package("a", "1.0.0") + &package("b", "1.0.0") + &package("b", "2.0.0");
        assert!(astray(&ours, &(package("b", "2.0.0") + &package("only-here", "3.0.0"))).is_empty());
        assert_eq!(astray(&ours, &package("a", "1.0.1")), ["a 1.0.1"]);
    }
}
