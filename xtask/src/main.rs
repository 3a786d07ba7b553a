//! The project's tasks. `cargo xtask test` checks everything that a change can break; `cargo xtask test --long` what
//! takes too long for every change. A name behind either runs that group alone. `cargo xtask bench` measures.
//!
//! A group is a row of [`GROUPS`] and a function that says what it counted.

mod bench;
mod c;
mod coverage;
mod deny;
mod fuzz;
mod hours;
mod install;
mod memory;
mod python;
mod rust;
mod shell;
mod soak;
mod tree;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Parser;

use shell::{Needs, Project};

#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Task {
    /// Run the tests: all groups, or those named.
    Test {
        /// Run the groups that take up to an hour each, instead of the everyday ones.
        #[arg(long)]
        long: bool,
        /// Only these groups.
        groups: Vec<String>,
    },
    /// Run the benchmarks, all or those named, and print one table.
    Bench {
        /// Put the table into docs/performance.md.
        #[arg(long)]
        write: bool,
        /// Only these: sound, kernels, micro, micro-dub, server, real, real-dub, python.
        suites: Vec<String>,
    },
    /// Measure the embedded models on sentences of the project's own, and compare with what was measured before.
    EvalPack {
        /// Write the figures there too.
        #[arg(long)]
        json: Option<PathBuf>,
        /// A folder with the corpus's test.tsv, to measure on that too.
        #[arg(long)]
        data: Option<PathBuf>,
        /// A folder that models/train/heldout.py made, to measure recognition on.
        #[arg(long)]
        speech: Option<PathBuf>,
        /// A recogniser of others to measure, a folder in Hugging Face layout; may be given several times; with --prompts.
        #[arg(long)]
        weights: Vec<PathBuf>,
        /// Recordings of people for them: a list as benches/quality/quality.py takes it.
        #[arg(long)]
        prompts: Option<PathBuf>,
        /// In which numbers, with commas between several: those behind the first are held to bounds beside it.
        #[arg(long, default_value = "f32")]
        compute_type: String,
        /// Print what lacks something.
        #[arg(long)]
        show: bool,
        /// Keep the figures in models/eval/figures.json.
        #[arg(long)]
        write: bool,
    },
    /// Build the C library and install it, with its headers and what pkg-config and CMake read.
    InstallC {
        /// Where to: `lib` and `include` lie in it.
        #[arg(long, default_value = "/usr/local")]
        prefix: PathBuf,
    },
    /// Write a model with random weights and the shape of a published checkpoint: whisper-base, opus-mt or mms-tts.
    RandomModel {
        /// The shape, the folder, and options; `--help` behind `--` tells.
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// A row of the table of test groups.
struct Group {
    name: &'static str,
    about: &'static str,
    long: bool,
    /// What it wants from the machine, checked before any group runs.
    needs: &'static [Needs],
    run: fn(&Project) -> Result<Tally>,
}

/// In the order they run: what fails fastest comes first.
const GROUPS: &[Group] = &[
    Group { name: "tree", about: "tracked files keep the house rules", long: false, needs: &[], run: tree::check },
    Group { name: "fmt", about: "rustfmt would change nothing", long: false, needs: &[], run: rust::fmt },
    Group { name: "clippy", about: "no lint of any crate, in any target", long: false, needs: &[Needs::Gcc], run: rust::clippy },
    Group {
        name: "rust",
        about: "unit and integration tests",
        long: false,
        needs: &[Needs::Gcc, Needs::Ffmpeg],
        run: rust::test,
    },
    Group { name: "doc", about: "examples in the documentation", long: false, needs: &[Needs::Gcc], run: rust::doctest },
    Group { name: "docs", about: "the reference builds without a warning", long: false, needs: &[Needs::Gcc], run: rust::docs },
    Group {
        name: "loom",
        about: "the factory's heart in every order of its threads",
        long: false,
        needs: &[Needs::Gcc],
        run: rust::loom,
    },
    Group { name: "soak", about: "mixed traffic at one factory", long: false, needs: &[Needs::Gcc], run: soak::soak },
    Group {
        name: "c",
        about: "header, examples and misuse",
        long: false,
        needs: &[Needs::Gcc, Needs::Cpp, Needs::Clang, Needs::CMake],
        run: c::test,
    },
    Group { name: "python", about: "the wheel, installed", long: false, needs: &[Needs::Gcc, Needs::Python], run: python::test },
    Group { name: "deny", about: "licences and origins of dependencies", long: true, needs: &[Needs::Gcc], run: deny::deny },
    Group { name: "asan", about: "tests under AddressSanitizer", long: true, needs: &[Needs::Gcc], run: memory::asan },
    Group {
        name: "valgrind",
        about: "tests under memcheck",
        long: true,
        needs: &[Needs::Gcc, Needs::Valgrind],
        run: memory::valgrind,
    },
    Group {
        name: "c-valgrind",
        about: "the C tests under memcheck",
        long: true,
        needs: &[Needs::Gcc, Needs::Valgrind],
        run: c::long::valgrind,
    },
    Group {
        name: "c-random",
        about: "a million C calls, and ten minutes of them",
        long: true,
        needs: &[Needs::Gcc],
        run: c::long::random_and_soak,
    },
    Group {
        name: "policies",
        about: "a million uses of models under every policy",
        long: true,
        needs: &[Needs::Gcc],
        run: rust::policies,
    },
    Group { name: "coverage", about: "lines that the tests reach", long: true, needs: &[Needs::Gcc], run: coverage::coverage },
    Group { name: "fuzz", about: "the fuzzers, each a million inputs", long: true, needs: &[Needs::Gcc], run: fuzz::fuzz },
    Group { name: "programme", about: "two hours in bounded memory", long: true, needs: &[Needs::Gcc], run: hours::programme },
    Group {
        name: "hosts",
        about: "Python: the source distribution; threads, forks, exits, leaks",
        long: true,
        needs: &[Needs::Gcc, Needs::Python],
        run: python::long,
    },
    Group { name: "cancel", about: "dubs and loads are cancelled", long: true, needs: &[Needs::Gcc], run: hours::cancel },
];

/// What a group counted.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: usize,
    /// What failed, by name.
    failures: Vec<String>,
}

impl Tally {
    fn passed(passed: usize) -> Self {
        Self { passed, ..Self::default() }
    }

    /// Counts one check, and says how it went.
    fn check(&mut self, what: impl Into<String>, holds: bool) {
        let what = what.into();
        println!("{} {what}", if holds { "ok" } else { "FAILED" });
        match holds {
            true => self.passed += 1,
            false => self.fail(what),
        }
    }

    fn fail(&mut self, what: impl Into<String>) {
        self.failed += 1;
        self.failures.push(what.into());
    }
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Test { long, groups } => test(long, &groups),
        Task::Bench { write, suites } => Project::find().and_then(|p| bench::run(&p, &suites, write)).map(|()| true),
        Task::EvalPack { json, data, speech, weights, prompts, compute_type, show, write } => {
            let paths = [("--json", json), ("--data", data), ("--speech", speech), ("--prompts", prompts)];
            let paths = paths.into_iter().filter_map(|(name, path)| Some((name, path?)));
            let paths = paths.chain(weights.into_iter().map(|folder| ("--weights", folder)));
            eval_pack(paths, &compute_type, &[("--show", show), ("--write", write)]).map(|()| true)
        }
        Task::InstallC { prefix } => install(&prefix).map(|()| true),
        Task::RandomModel { args } => random_model(&args).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn eval_pack<'a>(paths: impl Iterator<Item = (&'a str, PathBuf)>, compute_type: &str, flags: &[(&str, bool)]) -> Result<()> {
    let project = Project::find()?;
    shell::provide([Needs::Gcc, Needs::Python].iter())?;
    let here = std::env::current_dir()?;
    let mut command = python::program(&project, "models/eval/measure.py")?;
    for (name, path) in paths {
        // A relative path is meant from where one is.
        command.arg(name).arg(here.join(path));
    }
    command.args(["--compute-type", compute_type]);
    command.args(flags.iter().filter(|(_, on)| *on).map(|(name, _)| name));
    shell::run(&mut command)
}

fn install(prefix: &Path) -> Result<()> {
    // A relative folder is meant from where one is.
    install::install(&Project::find()?, &std::path::absolute(prefix)?)
}

fn random_model(args: &[String]) -> Result<()> {
    let project = Project::find()?;
    let here = std::env::current_dir()?;
    let mut command = project.command(bench::program(&project)?);
    // A relative folder is meant from where one is.
    shell::run(command.arg("random-model").args(args).current_dir(here))
}

fn test(long: bool, named: &[String]) -> Result<bool> {
    for name in named {
        if !GROUPS.iter().any(|g| g.name == name && g.long == long) {
            let known: Vec<_> =
                GROUPS.iter().filter(|g| g.long == long).map(|g| format!("  {:10} {}", g.name, g.about)).collect();
            bail!("there is no group {name:?} {} --long; there are\n{}", if long { "with" } else { "without" }, known.join("\n"));
        }
    }
    let chosen: Vec<_> =
        GROUPS.iter().filter(|g| g.long == long && (named.is_empty() || named.iter().any(|n| n == g.name))).collect();
    let project = Project::find()?;
    shell::provide(chosen.iter().flat_map(|g| g.needs))?;

    let mut rows = Vec::new();
    for group in chosen {
        println!("\n=== {}: {}", group.name, group.about);
        let start = Instant::now();
        let tally = (group.run)(&project).unwrap_or_else(|e| {
            println!("{}: {e:#}", group.name);
            Tally { failed: 1, failures: vec![format!("{e:#}")], ..Tally::default() }
        });
        let tally = match tally.passed + tally.failed {
            0 => Tally { failed: 1, failures: vec!["it checked nothing".into()], ..tally },
            _ => tally,
        };
        println!("=== {}: {} passed, {} failed", group.name, tally.passed, tally.failed);
        rows.push((group.name, tally, start.elapsed()));
    }
    Ok(summary(&rows))
}

/// Prints the outcome of the run, and tells whether all is well.
fn summary(rows: &[(&str, Tally, Duration)]) -> bool {
    println!("\ngroup       passed  failed  skipped     time");
    for (name, t, time) in rows {
        println!("{name:10} {:7} {:7} {:8} {:7.1}s", t.passed, t.failed, t.skipped, time.as_secs_f64());
    }
    for (name, t, _) in rows {
        t.failures.iter().for_each(|f| println!("FAILED {name}: {f}"));
    }
    let sum = |count: fn(&Tally) -> usize| rows.iter().map(|(_, t, _)| count(t)).sum::<usize>();
    let (passed, failed, skipped) = (sum(|t| t.passed), sum(|t| t.failed), sum(|t| t.skipped));
    match skipped {
        0 => println!("\n{passed} passed, {failed} failed"),
        _ => println!("\n{passed} passed, {failed} failed, {skipped} skipped"),
    }
    failed == 0
}
