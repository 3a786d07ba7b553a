//! The whole dub of each sample clip, from the file to a finished track, with the models loaded beforehand.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use dubcore::{Dub, Factory, Job, Output, Pipeline};

use crate::meter::{Meter, Row, peak_rss};
use crate::{Set, clip};

/// The shorter clip comes first, so that its memory is its own.
pub fn dub(set: Set) -> Result<()> {
    let mut meter = Meter::new()?;
    let began = Instant::now();
    let dubber = set.dubber(Factory::global()?, &Job::new())?;
    let loaded = Factory::global()?.status().bytes;
    println!(
        "note {}: models loaded in {:.2} s, {} MB of weights, peak memory {} MB",
        set.name(),
        began.elapsed().as_secs_f64(),
        loaded / 1_000_000,
        peak_rss() / 1_000_000
    );
    for name in ["kitchen.wav", "station.mp4"] {
        let one = || {
            let request = set.request(black_box(clip(name))).output(Output::Memory);
            dubber.start(request, Job::new()).and_then(|run| run.finish()).expect("a dub")
        };
        let dubbed = one();
        println!("note {}, {name}: {}", set.name(), told(&dubbed));
        let seconds = if set == Set::Micro { 15 } else { 60 };
        meter.each(set.name(), &format!("dub {name}"), Row::new(seconds).audio(dubbed.duration.as_secs_f64()), one)?;
    }
    Ok(())
}

fn told(dub: &Dub) -> String {
    let t = &dub.times;
    let part = |part: std::time::Duration| 100.0 * part.as_secs_f64() / t.total().as_secs_f64();
    let spoken: f64 = dub.lines.iter().filter_map(|l| l.placement).map(|p| p.span.duration().as_secs_f64()).sum();
    format!(
        "{:.1} s, {} lines, {spoken:.1} s spoken; listen {:.0} %, transcribe {:.0} %, translate {:.0} %, speak {:.0} %, mix {:.0} %",
        dub.duration.as_secs_f64(),
        dub.lines.len(),
        part(t.listen),
        part(t.transcribe),
        part(t.translate),
        part(t.speak),
        part(t.mix),
    )
}
