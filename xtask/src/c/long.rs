//! Tests of the C library that take too long for every change.

use anyhow::Result;

use super::place::{Compiler, Linking, Place};
use super::{at_random, misuse, random, soak};
use crate::Tally;
use crate::shell::{Project, run, watch};

/// Calls at random, in so many processes with a seed each.
const CALLS: usize = 1_000_000;
const SEEDS: u64 = 4;

const SOAK: f64 = 600.0;

/// Calls at random under memcheck, which is slow.
const SLOW_CALLS: &str = "5000";

fn place(project: &Project) -> Result<Place<'_>> {
    run(project.cargo("build").args(["--workspace", "--lib"]))?;
    Place::new(project)
}

/// A million calls at random, and ten minutes of everything.
pub(crate) fn random_and_soak(project: &Project) -> Result<Tally> {
    let (place, mut tally) = (place(project)?, Tally::default());
    for seed in 1..=SEEDS {
        at_random(&place, CALLS / SEEDS as usize, seed, &mut tally)?;
    }
    soak(&place, SOAK, &mut tally)?;
    Ok(tally)
}

/// The C tests under memcheck: no error, and no byte lost.
pub(crate) fn valgrind(project: &Project) -> Result<Tally> {
    let (place, mut tally) = (place(project)?, Tally::default());
    let text = place.dir.join("notes.txt");
    std::fs::write(&text, "This is no sound.\n".repeat(100))?;
    let all = place.write("misuse_all.c", &misuse::program(&place.header)?)?;
    let random = place.write("random_all.c", &random::program(&place.header)?)?;
    let (clip, scratch) = place.world()?;
    let world = [clip.as_os_str(), scratch.as_os_str()];
    let never = place.dir.join("never");
    for (source, arguments) in [
        (place.tests.join("misuse.c"), vec![text.as_os_str(), never.as_os_str()]),
        (all, world.to_vec()),
        (place.tests.join("behaviour.c"), [&world[..], &["no-fork".as_ref()]].concat()),
        (random, [&world[..], &[SLOW_CALLS.as_ref(), "7".as_ref()]].concat()),
    ] {
        let program = place.compile(Compiler::Gcc, Linking::Static, &source, &["-pthread", "-lm"])?;
        let mut command = place.program("valgrind");
        // What is known by a pointer into its midst alone, as hash tables are, counts as possibly lost: that is no error.
        command.args(["--quiet", "--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=definite"]);
        command.args(["--errors-for-leak-kinds=definite", "--num-callers=30"]).current_dir(&scratch);
        // memcheck runs one thread at a time, and another that waits for work takes its turns from those that have some.
        command.env("DUBCORE_CPU_THREADS", "1");
        let (status, lines) = watch(command.arg(program).args(arguments))?;
        lines.iter().filter_map(|l| l.strip_prefix("FAILED ")).for_each(|l| tally.fail(format!("under memcheck: {l}")));
        let name = source.file_name().unwrap_or_default().to_string_lossy();
        tally.check(format!("memcheck finds nothing in {name} ({status})"), status.success());
    }
    Ok(tally)
}
