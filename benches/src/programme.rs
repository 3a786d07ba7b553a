//! A programme of any length: speech of the sample clips and of the embedded voice, pauses, and noise that is not speech.
//! It ends with a sentence whose time is known to the sample, so that drift shows; and its dub, with the memory it took.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dubcore::media::{Limits, Reader, WavFile, WavFormat, WavWriter, decode};
use dubcore::{
    Audio, DubModels, DubRequest, Dubber, Factory, Job, Lang, Line, LoadOptions, Pipeline, Span, TtsOptions, time_to_samples,
};
use serde_json::{Value, json};

use crate::random::Random;
use crate::{clip, meter};

const RATE: u32 = 44_100;

/// The sentence at the end, as it lies in its clip, and the silence around it.
const LAST: (&str, f64, f64) = ("kitchen.wav", 0.6, 2.19);
const BEFORE_LAST: f64 = 3.0;
const BEHIND_LAST: f64 = 2.0;

/// Writes about `minutes` of sound to `path`, stereo, 16 bits, and gives what is known of it: frames, and the span of the
/// last sentence in seconds.
pub fn make(minutes: f64, path: &Path) -> Result<Value> {
    let speech = speech()?;
    let mut out = Out { writer: WavWriter::create(path, 2, RATE, WavFormat::I16)?, random: Random::new(7), frames: 0 };
    let until = (minutes * 60.0 * f64::from(RATE)) as u64;
    let last = decode(&clip(LAST.0).into(), &Limits::default(), &Job::new())?;
    let last = last.slice(Span::new(Duration::from_secs_f64(LAST.1), Duration::from_secs_f64(LAST.2))).resample(RATE)?;
    while out.frames < until {
        let pick = out.random.below(100);
        match pick {
            // Mostly speech, one or several clips together.
            0..70 => out.say(&speech[(pick % speech.len() as u64) as usize])?,
            70..85 => out.music(5 + pick % 7)?,
            _ => out.hiss(4 + pick % 5)?,
        }
        let pause = 300 + out.random.below(1_700);
        out.silence(pause as f64 / 1_000.0)?;
    }
    out.silence(BEFORE_LAST)?;
    let from = out.frames;
    out.say(&last)?;
    let to = out.frames;
    out.silence(BEHIND_LAST)?;
    let frames = out.frames;
    out.writer.finish()?;
    let time = |frame: u64| frame as f64 / f64::from(RATE);
    Ok(json!({"frames": frames, "rate": RATE, "from": time(from), "to": time(to)}))
}

/// What is said: both clips, and three sentences of the embedded voice.
fn speech() -> Result<Vec<Audio>> {
    let mut all = Vec::new();
    for name in ["kitchen.wav", "station.mp4"] {
        all.push(decode(&clip(name).into(), &Limits::default(), &Job::new())?.resample(RATE)?);
    }
    let voice = Factory::global()?.tts(&"micro/tts-es".parse()?, &LoadOptions::default(), &Job::new())?;
    let sentences = ["El tren de la mañana sale siempre tarde.", "Espera diez minutos.", "No hay nadie en casa."];
    for made in voice.synthesize(&sentences, &TtsOptions::default(), &Job::new()) {
        all.push(made?.audio.resample(RATE)?);
    }
    Ok(all)
}

struct Out {
    writer: WavWriter<WavFile>,
    random: Random,
    frames: u64,
}

impl Out {
    fn write(&mut self, frames: impl Iterator<Item = [f32; 2]>) -> Result<()> {
        let block: Vec<f32> = frames.flatten().collect();
        self.frames += block.len() as u64 / 2;
        Ok(self.writer.write(&block)?)
    }

    /// From somewhere between left and right.
    fn say(&mut self, speech: &Audio) -> Result<()> {
        let left = 0.7 + 0.3 * self.random.even();
        self.write(speech.samples().iter().map(|s| [s * left, s * (1.4 - left)]))
    }

    fn silence(&mut self, seconds: f64) -> Result<()> {
        let count = (seconds * f64::from(RATE)) as usize;
        self.write(std::iter::repeat_n([0.0; 2], count))
    }

    /// Chords that swell, with a hiss above them.
    fn music(&mut self, seconds: u64) -> Result<()> {
        let notes = [220.0, 261.6, 329.6, 392.0].map(|hz| hz * (1.0 + self.random.below(4) as f32 * 0.25));
        let mut random = Random::new(self.frames);
        let frames = (0..seconds * u64::from(RATE)).map(|i| {
            let t = i as f32 / RATE as f32;
            let swell = 0.5 - 0.5 * (t * std::f32::consts::TAU * 0.4).cos();
            let chord: f32 = notes.iter().map(|hz| (t * hz * std::f32::consts::TAU).sin()).sum();
            [chord * swell * 0.03 + random.even() * 0.003, chord * swell * 0.025 + random.even() * 0.003]
        });
        self.write(frames)
    }

    fn hiss(&mut self, seconds: u64) -> Result<()> {
        let mut random = Random::new(self.frames);
        let frames = (0..seconds * u64::from(RATE)).map(|_| [random.even() * 0.02, random.even() * 0.02]);
        self.write(frames)
    }
}

/// Dubs the programme at `path`, whose facts `make` gave, into `track`; gives what was found.
pub fn dub(path: &Path, facts: &Value, track: &Path) -> Result<Value> {
    let factory = Factory::global()?;
    let dubber = Dubber::from_factory(factory, &DubModels::default(), Some(Lang::EN), Lang::ES, &Job::new())?;
    let began = Instant::now();
    let request = DubRequest::new(path, Lang::ES).from(Lang::EN).output(track.to_path_buf());
    let mut run = dubber.start(request, Job::new())?;
    let (mut last, mut failed) = (None, 0);
    let (mut told, mut memory) = (0.0, Vec::new());
    for line in &mut run {
        match line {
            Err(_) => failed += 1,
            Ok(line) => {
                let at = line.source.span.end.as_secs_f64();
                if at >= told + 600.0 {
                    told = at;
                    memory.push(json!({"minute": (at / 60.0).round(), "rss": meter::rss()}));
                    eprintln!(
                        "{:.0} min dubbed in {:.0} s, {} MB",
                        at / 60.0,
                        began.elapsed().as_secs_f64(),
                        meter::rss() / 1_000_000
                    );
                }
                last = Some(line);
            }
        }
    }
    let dub = run.finish()?;
    let took = began.elapsed().as_secs_f64();
    let peak = meter::peak_rss();
    ensure!(dub.complete || failed > 0, "the dub is not complete");
    let last: Line = last.context("no line was dubbed")?;
    let placement = last.placement.context("the last line is not spoken")?;
    let heard = place(track, &last)?;
    Ok(json!({
        "seconds": dub.duration.as_secs_f64(), "took": took, "peak": peak, "memory": memory,
        "lines": dub.lines.len(), "failed": failed, "last": last.source.text,
        "frames": Reader::open(&track.into(), &Limits::default())?.frames_hint(),
        // How late the recogniser's last line begins and ends, by the truth; and how late its speech is, by its placement.
        "start_off": last.source.span.start.as_secs_f64() - facts["from"].as_f64().context("facts have no from")?,
        "end_off": last.source.span.end.as_secs_f64() - facts["to"].as_f64().context("facts have no to")?,
        "heard_off": heard - placement.span.start.as_secs_f64(),
    }))
}

/// Where in the track the speech of a line really is, in seconds: where it is most like the sound there.
fn place(track: &Path, line: &Line) -> Result<f64> {
    let sound = line.audio.as_ref().context("a line comes with its sound")?.resample(RATE)?;
    let start = line.placement.context("the line is not spoken")?.span.start;
    let reach = time_to_samples(Duration::from_millis(300), RATE) as usize;
    let from = (time_to_samples(start, RATE) as usize).saturating_sub(reach);
    // Only the end is kept of what is read.
    let mut reader = Reader::open(&track.into(), &Limits::default())?;
    let (mut block, mut heard, mut at) = (Vec::new(), Vec::new(), 0);
    while reader.read(&mut block)? > 0 {
        for frame in block.chunks_exact(reader.channels()) {
            if at >= from {
                heard.push(frame[0]);
            }
            at += 1;
        }
        block.clear();
    }
    let alike = |lag: &usize| {
        let there = &heard[(*lag).min(heard.len())..];
        sound.samples().iter().zip(there).map(|(a, b)| f64::from(a * b)).sum::<f64>()
    };
    // Most of a second is enough, and a step of a fifth of a millisecond.
    let best = (0..2 * reach).step_by(8).max_by(|a, b| alike(a).total_cmp(&alike(b))).unwrap_or(0);
    Ok((from + best) as f64 / f64::from(RATE))
}
