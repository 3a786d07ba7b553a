//! Long groups that need a release build: hours of sound, and cancelling models of real size.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::Tally;
use crate::shell::{Project, output, run};

/// Minutes of the short programme and of the long one.
const SHORT: f64 = 1.0;
const LONG: f64 = 120.0;

/// How much more memory the long programme may take.
const GROWTH: f64 = 100e6;

/// How far the last line may be from where it is in the short programme, in seconds.
const DRIFT: f64 = 0.05;

/// Two hours are dubbed in the memory of a minute, and the last line is where it belongs.
pub(crate) fn programme(project: &Project) -> Result<Tally> {
    let program = crate::bench::program(project)?;
    let dir = project.scratch("programme")?;
    let mut tally = Tally::default();
    let short = dub(project, &program, &dir, SHORT, &mut tally)?;
    let long = dub(project, &program, &dir, LONG, &mut tally)?;
    let number = |of: &Value, key: &str| of[key].as_f64().with_context(|| format!("the programme did not tell {key}"));

    let (less, more) = (number(&short, "peak")?, number(&long, "peak")?);
    tally.check(
        format!("{LONG} min take {:.0} MB, {SHORT} min {:.0} MB: {:.0} MB more", more / 1e6, less / 1e6, (more - less) / 1e6),
        more - less <= GROWTH,
    );
    for key in ["start_off", "end_off"] {
        let (short, long) = (number(&short, key)?, number(&long, key)?);
        let what = format!("the last line's {key} is {long:.3} s, in the short programme {short:.3} s");
        tally.check(what, (long - short).abs() <= DRIFT);
        // Detectors begin a little early and end a little late, by a fixed margin.
        tally.check(format!("{key} is small"), long.abs() <= 0.3);
    }
    for (minutes, found) in [(SHORT, &short), (LONG, &long)] {
        let off = number(found, "heard_off")?;
        tally.check(format!("the last line of {minutes} min is heard {off:.4} s from its place"), off.abs() <= DRIFT);
    }
    // Gigabytes of sound are of no use to anyone.
    std::fs::remove_dir_all(&dir)?;
    Ok(tally)
}

fn dub(project: &Project, program: &Path, dir: &Path, minutes: f64, tally: &mut Tally) -> Result<Value> {
    let (source, track): (PathBuf, PathBuf) = (dir.join(format!("{minutes}.wav")), dir.join(format!("{minutes}.es.wav")));
    let began = Instant::now();
    run(project.command(program).arg("make-programme").arg(minutes.to_string()).arg(&source))?;
    println!("a programme of {minutes} min, made in {:.0} s", began.elapsed().as_secs_f64());
    let found: Value = serde_json::from_str(&output(project.command(program).arg("dub-programme").arg(&source).arg(&track))?)?;
    println!("{found}");
    let made: Value = serde_json::from_slice(&std::fs::read(source.with_extension("json"))?)?;
    let ratio = found["took"].as_f64().zip(found["seconds"].as_f64()).map_or(0.0, |(took, of)| took / of);
    tally.check(format!("{minutes} min are dubbed, real-time factor {ratio:.3}, no line failed"), found["failed"] == 0);
    tally.check(format!("the track of {minutes} min has the source's frames"), found["frames"] == made["frames"]);
    Ok(found)
}

/// Dubs and loads end within a second, whenever they are cancelled, in ninety-nine of a hundred cases.
pub(crate) fn cancel(project: &Project) -> Result<Tally> {
    let program = crate::bench::program(project)?;
    let mut tally = Tally::default();
    for line in output(project.command(program).arg("cancel"))?.lines() {
        let found: Value = serde_json::from_str(line)?;
        let millis: Vec<u64> = serde_json::from_value(found["millis"].clone())?;
        let at = |part: f64| millis.get(((millis.len() - 1) as f64 * part).round() as usize).copied().unwrap_or(u64::MAX);
        let (what, whole) = (found["what"].as_str().context("it tells what")?, found["whole"].as_f64().unwrap_or(0.0));
        let shown = format!(
            "a {what}, {whole:.1} s long, cancelled {} times, ends after {} ms (median), {} ms (p90), {} ms (p99), {} ms (all)",
            millis.len(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0)
        );
        tally.check(shown, at(0.99) < 1_000);
    }
    Ok(tally)
}
