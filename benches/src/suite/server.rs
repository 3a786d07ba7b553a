//! What a long-lived server gains: a model that is loaded, a dub that is known, requests that are made one.

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dubcore::media::{self, Limits, WavFormat};
use dubcore::{
    Audio, Batching, Dubber, Factory, Job, KeepAll, Lang, LoadOptions, ModelRef, Output, Pipeline, ResultCache,
    ResultCacheOptions, TranslateOptions, Translator,
};

use crate::meter::{Meter, Row};
use crate::{Set, clip};

/// Requests at once.
const CLIENTS: usize = 8;
/// The length of the media that are dubbed.
const MINUTE: usize = 60;

/// Warm against cold.
pub fn server() -> Result<()> {
    let mut meter = Meter::new()?;
    models(&mut meter)?;
    dubs(&mut meter)?;
    requests(&mut meter)
}

fn models(meter: &mut Meter) -> Result<()> {
    let factory = Factory::builder().policy(KeepAll).build()?;
    let (model, opts, job) = (Set::Micro.models()?[0].clone(), LoadOptions::default(), Job::new());
    let get = || factory.stt(black_box(&model), &opts, &job).map(drop);
    let cold = || factory.clear(&job).and_then(|()| get());
    meter.each("server", "a recogniser, not loaded", Row::new(5), cold)?;
    meter.each("server", "a recogniser, loaded", Row::new(3), get)
}

fn dubs(meter: &mut Meter) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("dubcore-bench-server-{}", std::process::id()));
    let result = dubs_in(meter, &folder);
    // What cannot be removed is no measurement.
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn dubs_in(meter: &mut Meter, folder: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let file = folder.join("minute.wav");
    media::write_wav(&file, &minute()?, WavFormat::I16)?;
    let dubber = Set::Micro.dubber(Factory::global()?, &Job::new())?;
    let dub = |dubber: &Dubber| {
        let request = Set::Micro.request(black_box(file.clone())).output(Output::Memory);
        dubber.start(request, Job::new()).and_then(|run| run.finish()).expect("a dub")
    };
    let row = |seconds| Row::new(seconds).audio(MINUTE as f64);
    meter.each("server", "dub a minute, for the first time", row(45), || dub(&dubber))?;
    let disk = ResultCacheOptions::default().disk(folder.join("results"));
    let (in_memory, on_disk) = (ResultCache::new(ResultCacheOptions::default())?, ResultCache::new(disk.clone())?);
    for results in [&in_memory, &on_disk] {
        dub(&dubber.clone().remembering(results));
    }
    let again = dubber.clone().remembering(&in_memory);
    meter.each("server", "dub a minute, again", row(3), || assert!(dub(&again).cached))?;
    // As a process that has just begun finds it.
    meter.each("server", "dub a minute, again, from disk", row(3), || {
        let results = ResultCache::new(disk.clone()).expect("a cache");
        assert!(dub(&dubber.clone().remembering(&results)).cached);
    })
}

/// A clip as often as it takes.
fn minute() -> Result<Audio> {
    let audio = media::decode(&clip("kitchen.wav").into(), &Limits::default(), &Job::new())?;
    let rate = audio.rate();
    let samples = audio.samples().iter().copied().cycle().take(MINUTE * rate as usize).collect();
    Ok(Audio::new(samples, rate)?)
}

/// As many clients as [`CLIENTS`], each with a sentence.
fn requests(meter: &mut Meter) -> Result<()> {
    let factory = Factory::builder().policy(KeepAll).build()?;
    let model = Set::Micro.models()?[1].clone();
    let alone = pen(&factory, &model, &LoadOptions::default())?;
    let batched = pen(&factory, &model, &LoadOptions::default().batch(Batching::default().most(CLIENTS)))?;
    let row = Row::new(5);
    meter.rounds("server", "8 clients translate, each by itself", row, |rounds| clients(&alone, rounds))?;
    meter.rounds("server", "8 clients translate, made one", row, |rounds| clients(&batched, rounds))
}

fn pen(factory: &Factory, model: &ModelRef, opts: &LoadOptions) -> Result<Arc<dyn Translator>> {
    factory.translator(model, opts, &Job::new()).context("the translator")
}

fn clients(pen: &Arc<dyn Translator>, rounds: u64) -> Duration {
    let start = Arc::new(Barrier::new(CLIENTS + 1));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|i| {
            let (pen, start) = (pen.clone(), start.clone());
            std::thread::spawn(move || {
                let (text, opts) = (format!("She has {} books and a dog.", i + 2), TranslateOptions::new(Lang::EN, Lang::ES));
                start.wait();
                for _ in 0..rounds {
                    pen.translate(&[&text], &opts, &Job::new()).remove(0).expect("a translation");
                }
            })
        })
        .collect();
    start.wait();
    let began = Instant::now();
    clients.into_iter().for_each(|c| c.join().expect("a client"));
    began.elapsed()
}
