//! Dubs and loads by the embedded models and by models of real size, cancelled at random moments: however large the step that
//! the work is in, it must end soon.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dubcore::{ErrorKind, Factory, Job, Output, Pipeline};
use serde_json::json;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Set, clip};

/// Moments of a dub, and of a load.
const DUBS: usize = 200;
const LOADS: usize = 50;

/// Cancels both and prints, for each, a line of JSON with the milliseconds until the work ended.
pub fn all() -> Result<()> {
    dubs("dub by the embedded models", Set::Micro)?;
    dubs("dub of real size", Set::Real)?;
    loads()
}

fn dubs(what: &str, set: Set) -> Result<()> {
    let dubber = set.dubber(&Factory::builder().build()?, &Job::new())?;
    // What ended the run; `None` for a dub that is whole.
    let dub = |job: &Job| -> dubcore::Result<Option<ErrorKind>> {
        let mut run = dubber.start(set.request(clip("kitchen.wav")).output(Output::Memory), job.clone())?;
        Ok(run.find_map(|line| line.err()).map(|e| e.kind()))
    };
    let began = Instant::now();
    ensure!(dub(&Job::new())?.is_none(), "the dub is not whole");
    let whole = began.elapsed();
    let took = cancelled(what, whole, DUBS, |job| dub(job).unwrap_or_else(|e| Some(e.kind())))?;
    tell(what, whole, took);
    ensure!(dub(&Job::new())?.is_none(), "the models are the worse for it");
    Ok(())
}

fn loads() -> Result<()> {
    // The files are made before anything is timed.
    Set::Real.models()?;
    let load = |job: &Job| {
        let result = Factory::builder().build().map_err(anyhow::Error::from).and_then(|f| Set::Real.dubber(&f, job));
        result.err().map(|e| e.downcast_ref::<dubcore::Error>().map_or(ErrorKind::Internal, |e| e.kind()))
    };
    let began = Instant::now();
    ensure!(load(&Job::new()).is_none(), "the models do not load");
    let whole = began.elapsed();
    tell("load of real size", whole, cancelled("load", whole, LOADS, load)?);
    Ok(())
}

/// How long `work` goes on after its job is cancelled, at `count` moments of the `whole` that it takes. Moments at which
/// it had ended by itself do not count.
fn cancelled(
    what: &str,
    whole: Duration,
    count: usize,
    work: impl Fn(&Job) -> Option<ErrorKind> + Sync,
) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for tries in 0.. {
        if took.len() == count {
            break;
        }
        ensure!(tries < 2 * count, "only {} of {tries} were cancelled in time: the {what} is too short", took.len());
        let moment = whole.mul_f64(rng.random_range(0.0..1.0));
        let job = Job::new();
        let (send, ended) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let kind = work(&job);
                let _ = send.send((Instant::now(), kind));
            });
            if ended.recv_timeout(moment).is_ok() {
                return Ok(());
            }
            let cancelled = Instant::now();
            job.cancel();
            let (at, kind) = ended.recv()?;
            match kind {
                Some(ErrorKind::Cancelled) => {
                    took.push(at.saturating_duration_since(cancelled));
                    eprintln!("{what}, cancelled behind {moment:.1?}: {:.0?}", at.saturating_duration_since(cancelled));
                }
                // It came to its end by itself in the meantime.
                None => {}
                Some(other) => anyhow::bail!("the {what} ended with {other}"),
            }
            Ok(())
        })?;
    }
    Ok(took)
}

fn tell(what: &str, whole: Duration, mut took: Vec<Duration>) {
    took.sort();
    let millis: Vec<u128> = took.iter().map(Duration::as_millis).collect();
    println!("{}", json!({"what": what, "whole": whole.as_secs_f64(), "millis": millis}));
}
