//! Mixed traffic at one factory, as a server has it: `cargo run --release --example soak -- --seconds 60 --threads 16`.
//!
//! Threads recognise, translate and speak while others unload, sweep, pin and preload the same models, which do not all fit.
//! Each result is compared with the one that a single thread got before. Prints one line of JSON.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use dubcore::media::{self, Limits};
use dubcore::{
    Audio, Batching, Error, ErrorKind, Factory, Job, KeepAll, Lang, LoadOptions, Lru, ModelRef, Result, Span, SttOptions,
    TranslateOptions, TtsOptions,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Mixed traffic at one factory.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// How long.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// How many threads.
    #[arg(long, default_value_t = 16)]
    threads: usize,
    /// The seed of what they do.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

const STT: &str = "micro/stt-en";
const TRANSLATOR: &str = "micro/mt-en-es";
const TTS: &str = "micro/tts-es";

const ENGLISH: [&str; 4] = ["Good morning.", "Where is the station?", "We left the keys on the table.", "I am hungry."];
const SPANISH: [&str; 3] = ["Buenos días.", "El agua está fría.", "Mañana iremos al mercado."];

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error ({}): {}", e.kind(), e.report());
            ExitCode::FAILURE
        }
    }
}

/// What was asked for, and what a single thread got.
struct Truth {
    clips: Vec<(Audio, String)>,
    translations: Vec<String>,
    speech: Vec<blake3::Hash>,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    errors: AtomicU64,
    mismatches: AtomicU64,
    longest_wait: AtomicU64,
    longest_call: AtomicU64,
}

/// Whether nothing went wrong.
fn run(args: &Args) -> Result<bool> {
    let truth = truth()?;
    // Two of the three models fit.
    let factory = Factory::builder().policy(Lru { models: 2 }).build()?;
    let counts = Counts::default();
    // Once before it counts: caches fill, threads get their stacks and heaps.
    traffic(&factory, &truth, &Counts::default(), args, Duration::from_secs_f64(args.seconds / 4.0));
    let rss_start = settled(&factory)?;
    traffic(&factory, &truth, &counts, args, Duration::from_secs_f64(args.seconds));
    let rss_end = settled(&factory)?;
    let status = factory.status();
    let count = |n: &AtomicU64| n.load(Ordering::SeqCst);
    let line = serde_json::json!({
        "seconds": args.seconds, "threads": args.threads,
        "requests": count(&counts.requests), "errors": count(&counts.errors), "mismatches": count(&counts.mismatches),
        "longest_wait_ms": count(&counts.longest_wait), "longest_call_ms": count(&counts.longest_call),
        "rss_start_mb": rss_start, "rss_end_mb": rss_end, "loads": status.loads, "evictions": status.evictions,
    });
    writeln!(std::io::stdout(), "{line}")
        .map_err(|e| Error::new(ErrorKind::Io, "cannot write to standard output").with_source(e))?;
    Ok(count(&counts.requests) > 0 && count(&counts.errors) == 0 && count(&counts.mismatches) == 0)
}

fn model(name: &str) -> Result<ModelRef> {
    name.parse()
}

fn truth() -> Result<Truth> {
    let factory = Factory::builder().policy(KeepAll).build()?;
    let media = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/media/kitchen.wav");
    let audio = media::decode(&media.into(), &Limits::default(), &Job::new())?.resample(16_000)?;
    let part = |from: u64| audio.slice(Span::new(Duration::from_millis(from), Duration::from_millis(from + 2_500)));
    let clips: Vec<Audio> = [0, 2_000, 5_000].map(part).into();
    let alone = LoadOptions::default();
    Ok(Truth {
        translations: ENGLISH.iter().map(|t| translate(&factory, &alone, t)).collect::<Result<_>>()?,
        speech: SPANISH.iter().map(|t| speak(&factory, &alone, t)).collect::<Result<_>>()?,
        clips: clips.into_iter().map(|audio| hear(&factory, &alone, &audio).map(|text| (audio, text))).collect::<Result<_>>()?,
    })
}

fn hear(factory: &Factory, load: &LoadOptions, audio: &Audio) -> Result<String> {
    let spans = vec![Span::new(Duration::ZERO, audio.duration())];
    let opts = SttOptions::default().language(Lang::EN).spans(spans);
    Ok(factory.stt(&model(STT)?, load, &Job::new())?.transcribe(audio, &opts, &Job::new())?.text())
}

fn translate(factory: &Factory, load: &LoadOptions, text: &str) -> Result<String> {
    let translator = factory.translator(&model(TRANSLATOR)?, load, &Job::new())?;
    one(translator.translate(&[text], &TranslateOptions::new(Lang::EN, Lang::ES), &Job::new())).map(|t| t.text)
}

/// A hash of the sound.
fn speak(factory: &Factory, load: &LoadOptions, text: &str) -> Result<blake3::Hash> {
    let tts = factory.tts(&model(TTS)?, load, &Job::new())?;
    let speech = one(tts.synthesize(&[text], &TtsOptions::default(), &Job::new()))?;
    let bytes: Vec<u8> = speech.audio.samples().iter().flat_map(|s| s.to_le_bytes()).collect();
    Ok(blake3::hash(&bytes))
}

fn one<T>(mut results: Vec<Result<T>>) -> Result<T> {
    results.pop().unwrap_or_else(|| Err(Error::new(ErrorKind::Internal, "no result")))
}

/// All threads, for so long.
fn traffic(factory: &Factory, truth: &Truth, counts: &Counts, args: &Args, time: Duration) {
    let (end, start) = (Instant::now() + time, Barrier::new(args.threads));
    std::thread::scope(|scope| {
        for i in 0..args.threads {
            let start = &start;
            scope.spawn(move || {
                let mut r = ChaCha8Rng::seed_from_u64(args.seed + i as u64);
                start.wait();
                while Instant::now() < end {
                    counts.requests.fetch_add(1, Ordering::SeqCst);
                    match request(factory, truth, counts, &mut r) {
                        Ok(true) => {}
                        Ok(false) => drop(counts.mismatches.fetch_add(1, Ordering::SeqCst)),
                        Err(e) => {
                            eprintln!("{}: {}", e.kind(), e.report());
                            counts.errors.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            });
        }
    });
}

/// One request; whether it gave what it must.
fn request(factory: &Factory, truth: &Truth, counts: &Counts, r: &mut ChaCha8Rng) -> Result<bool> {
    let name = [STT, TRANSLATOR, TTS][r.random_range(0..3)];
    let load = match r.random_range(0..3) {
        0 => LoadOptions::default(),
        1 => LoadOptions::default().pool_size(2).queue(usize::MAX),
        _ => LoadOptions::default().batch(Batching::default()),
    };
    let wait = |work: &mut dyn FnMut() -> Result<bool>| longest(&counts.longest_wait, work);
    match r.random_range(0..100) {
        0..40 => {
            let i = r.random_range(0..ENGLISH.len());
            longest(&counts.longest_call, &mut || Ok(translate(factory, &load, ENGLISH[i])? == truth.translations[i]))
        }
        40..60 => {
            let i = r.random_range(0..SPANISH.len());
            // In a batch samples may differ by 1e-5; alone they are the same to the bit.
            let alone = load.batch(None);
            longest(&counts.longest_call, &mut || Ok(speak(factory, &alone, SPANISH[i])? == truth.speech[i]))
        }
        60..68 => {
            let (audio, text) = &truth.clips[r.random_range(0..truth.clips.len())];
            longest(&counts.longest_call, &mut || Ok(hear(factory, &load, audio)? == *text))
        }
        68..76 => wait(&mut || {
            let brief = Job::new().timeout(Duration::from_millis(500));
            match factory.unload(&model(name)?, &brief) {
                Err(e) if e.kind() != ErrorKind::Busy => Err(e),
                _ => Ok(true),
            }
        }),
        76..84 => wait(&mut || {
            factory.sweep();
            Ok(true)
        }),
        84..88 => {
            let pinned = r.random_bool(0.25);
            wait(&mut || {
                factory.pin(&model(name)?, pinned);
                Ok(true)
            })
        }
        88..94 => wait(&mut || {
            one(factory.preload(&[model(name)?], &load, &Job::new()))?;
            Ok(true)
        }),
        _ => wait(&mut || {
            let status = factory.status();
            Ok(status.bytes == status.residents.iter().map(|r| r.bytes).sum::<u64>())
        }),
    }
}

fn longest(most: &AtomicU64, work: &mut dyn FnMut() -> Result<bool>) -> Result<bool> {
    let began = Instant::now();
    let result = work();
    most.fetch_max(began.elapsed().as_millis() as u64, Ordering::SeqCst);
    result
}

/// Resident memory in MB with all models loaded anew and nothing going on.
fn settled(factory: &Factory) -> Result<f64> {
    factory.clear(&Job::new())?;
    for name in [STT, TRANSLATOR, TTS] {
        one(factory.preload(&[model(name)?], &LoadOptions::default(), &Job::new()))?;
    }
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0.0);
    Ok((pages * 4096.0 / 1e6).round())
}
