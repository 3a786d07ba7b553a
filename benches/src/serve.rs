//! dubcore as a contender of `benches/peers/run.py`: loads what it is told, and runs it as often as it is told.
//!
//! A line of JSON in, a line of JSON out, by the `do` of the request: `load` (a task and what it wants), `run` (gives the
//! seconds and how many tokens, values or samples came out) and `answer` (what came out: tokens, or values in a file). Its first
//! line says that it is ready, and it ends with its input.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dubcore::bench::{Encoded, Features, Recogniser, Vocoder};
use dubcore::{
    Audio, ComputeType, Factory, Fallback, Job, Lang, LoadOptions, ModelRef, Span, StageInfo, Stt, SttOptions, TranslateOptions,
    Translator, Tts, TtsOptions,
};
use serde_json::{Value, json};

/// Answers until there is no more input.
pub fn serve() -> Result<()> {
    let mut work = None;
    say(&json!({"ready": true}))?;
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let reply = answer(&request, &mut work).unwrap_or_else(|e| json!({"error": format!("{e:#}")}));
        say(&reply)?;
    }
    Ok(())
}

fn say(reply: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{reply}")?;
    Ok(out.flush()?)
}

fn answer(request: &Value, work: &mut Option<Work>) -> Result<Value> {
    match (request["do"].as_str(), work) {
        (Some("load"), work) => {
            let began = Instant::now();
            let loaded = Work::load(request)?;
            let seconds = began.elapsed().as_secs_f64();
            let info = loaded.info();
            *work = Some(loaded);
            Ok(json!({"seconds": seconds, "arithmetic": info.compute_type, "set": info.kernels}))
        }
        (Some("run"), Some(work)) => {
            let (seconds, count) = work.run()?;
            Ok(json!({"seconds": seconds, "count": count}))
        }
        (Some("answer"), Some(work)) => work.answer(Path::new(request["file"].as_str().context("no file")?)),
        (Some("run" | "answer"), None) => bail!("nothing is loaded"),
        _ => bail!("what shall be done? {request}"),
    }
}

/// What is to be done, with its model and its input.
enum Work {
    LogMel { model: Recogniser, sound: Audio },
    Encoder { model: Recogniser, features: Features },
    Decoder { model: Recogniser, encoded: Encoded, tokens: usize },
    Window { model: Arc<dyn Stt>, sound: Audio, tokens: usize, requests: usize },
    Translate { model: Arc<dyn Translator>, texts: Vec<String>, opts: TranslateOptions },
    Vocoder { model: Vocoder, latents: Vec<f32> },
    Voice { model: Arc<dyn Tts>, text: String, opts: TtsOptions },
}

impl Work {
    fn load(request: &Value) -> Result<Self> {
        let text = |key: &str| request[key].as_str().with_context(|| format!("the request has no {key}"));
        let number = |key: &str| Ok::<_, anyhow::Error>(request[key].as_u64().with_context(|| format!("no {key}"))? as usize);
        let (dir, job) = (PathBuf::from(text("model")?), Job::new());
        let sound = || Ok::<_, anyhow::Error>(Audio::new(floats(text("sound")?)?, 16_000)?);
        // It also sets the number of threads, which the environment tells.
        let factory = Factory::global()?;
        let (model, opts) = (ModelRef::directory(&dir), LoadOptions::default());
        // Parts of a model are loaded past the factory, which reads this itself.
        let compute = std::env::var("DUBCORE_COMPUTE_TYPE").map_or(Ok(ComputeType::default()), |asked| asked.parse())?;
        Ok(match text("task")? {
            "log-mel" => Self::LogMel { model: Recogniser::load(&dir, compute)?, sound: sound()? },
            "encoder" => {
                let model = Recogniser::load(&dir, compute)?;
                Self::Encoder { features: model.features(&sound()?)?, model }
            }
            "decoder" => {
                let model = Recogniser::load(&dir, compute)?;
                let encoded = model.encode(&model.features(&sound()?)?)?;
                Self::Decoder { model, encoded, tokens: number("tokens")? }
            }
            "window" => {
                let model = factory.stt(&model, &opts, &job)?;
                Self::Window { model, sound: sound()?, tokens: number("tokens")?, requests: number("requests")? }
            }
            "translate" => {
                let texts = request["texts"].as_array().context("no texts")?;
                let texts = texts.iter().filter_map(|t| t.as_str().map(String::from)).collect();
                let model = factory.translator(&model, &opts, &job)?;
                let opts = TranslateOptions::new(Lang::EN, Lang::ES).beams(number("beams")?).max_tokens(number("tokens")?);
                Self::Translate { model, texts, opts }
            }
            "vocoder" => Self::Vocoder { model: Vocoder::load(&dir, compute)?, latents: floats(text("latents")?)? },
            "voice" => {
                let still = TtsOptions::default().noise_scale(0.0).noise_scale_duration(0.0);
                Self::Voice { model: factory.tts(&model, &opts, &job)?, text: text("text")?.into(), opts: still }
            }
            other => bail!("there is no task {other}"),
        })
    }

    fn info(&self) -> StageInfo {
        match self {
            Self::LogMel { model, .. } | Self::Encoder { model, .. } | Self::Decoder { model, .. } => model.info(),
            Self::Window { model, .. } => model.info(),
            Self::Translate { model, .. } => model.info(),
            Self::Vocoder { model, .. } => model.info(),
            Self::Voice { model, .. } => model.info(),
        }
    }

    /// The seconds that it took, and how much came out.
    fn run(&self) -> Result<(f64, usize)> {
        match self {
            Self::LogMel { model, sound } => timed(|| Ok(model.features(sound).map(|_| 1)?)),
            Self::Encoder { model, features } => timed(|| Ok(model.encode(features).map(|_| 1)?)),
            Self::Decoder { model, encoded, tokens } => {
                // What a token takes more: keys and values of the window and the prompt are the same for both.
                let (all, count) = timed(|| Ok(model.decode(encoded, *tokens)?.len()))?;
                let (first, _) = timed(|| Ok(model.decode(encoded, 1)?.len()))?;
                Ok(((all - first) / (count.max(2) - 1) as f64, count))
            }
            Self::Window { model, sound, tokens, requests } => at_once(*requests, || heard(&**model, sound, *tokens)),
            // The end, which is forced behind the last word, is a token too.
            Self::Translate { model, texts, opts } => timed(|| {
                let found = translated(&**model, texts, opts)?;
                Ok(found.iter().map(|text| text.split(' ').count() + 1).sum())
            }),
            Self::Vocoder { model, latents } => timed(|| Ok(model.forward(latents)?.len())),
            Self::Voice { model, text, opts } => timed(|| Ok(spoken(&**model, text, opts)?.len())),
        }
    }

    /// What came out, for comparison with others'. Values go into `file`.
    fn answer(&self, file: &Path) -> Result<Value> {
        let values = |values: &[f32]| {
            std::fs::write(file, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())?;
            Ok::<_, anyhow::Error>(json!({"file": file}))
        };
        Ok(match self {
            Self::LogMel { model, sound } => values(&model.features(sound)?.values()?)?,
            Self::Encoder { model, features } => values(&model.encode(features)?.values()?)?,
            Self::Decoder { model, encoded, tokens } => json!({"tokens": [model.decode(encoded, *tokens)?]}),
            Self::Window { .. } => json!({}),
            Self::Translate { model, texts, opts, .. } => {
                // Each token of a random translator is a word.
                let words = |text: String| text.split(' ').map(String::from).collect::<Vec<_>>();
                json!({"tokens": translated(&**model, texts, opts)?.into_iter().map(words).collect::<Vec<_>>()})
            }
            Self::Vocoder { model, latents } => values(&model.forward(latents)?)?,
            Self::Voice { model, text, opts } => values(spoken(&**model, text, opts)?.samples())?,
        })
    }
}

fn timed(work: impl FnOnce() -> Result<usize>) -> Result<(f64, usize)> {
    let began = Instant::now();
    let count = std::hint::black_box(work()?);
    Ok((began.elapsed().as_secs_f64(), count))
}

/// The same request from several threads, until the last is served.
fn at_once(requests: usize, work: impl Fn() -> Result<usize> + Sync) -> Result<(f64, usize)> {
    if requests == 1 {
        return timed(work);
    }
    let start = Barrier::new(requests + 1);
    std::thread::scope(|scope| {
        let ask = || {
            start.wait();
            work()
        };
        let clients: Vec<_> = (0..requests).map(|_| scope.spawn(ask)).collect();
        start.wait();
        timed(|| clients.into_iter().map(|c| c.join().expect("a client")).sum())
    })
}

/// A whole window, from sound to text: the number of its tokens, each of which is a word.
fn heard(model: &dyn Stt, sound: &Audio, tokens: usize) -> Result<usize> {
    let whole = vec![Span::new(Duration::ZERO, sound.duration())];
    let opts = SttOptions::default().language(Lang::EN).spans(whole).fallback(Fallback::none()).max_tokens(tokens);
    Ok(model.transcribe(sound, &opts, &Job::new())?.text().split_whitespace().count())
}

fn translated(model: &dyn Translator, texts: &[String], opts: &TranslateOptions) -> Result<Vec<String>> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    Ok(model.translate(&texts, opts, &Job::new()).into_iter().map(|t| t.map(|t| t.text)).collect::<dubcore::Result<_>>()?)
}

fn spoken(model: &dyn Tts, text: &str, opts: &TtsOptions) -> Result<Audio> {
    Ok(model.synthesize(&[text], opts, &Job::new()).pop().context("no speech")??.audio)
}

/// A file of 32-bit floats.
fn floats(path: impl AsRef<Path>) -> Result<Vec<f32>> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}
