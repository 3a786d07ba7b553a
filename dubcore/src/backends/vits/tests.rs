//! Parity with transformers, bad files, cancellation, and results that depend on nothing but the request.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::*;
use crate::backend;
use crate::source::ModelRef;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn files(dir: &Path) -> ModelFiles {
    ModelFiles::locate(&ModelRef::directory(dir)).unwrap()
}

fn open(files: &ModelFiles) -> Result<Vits> {
    let config = Config::read(files)?;
    let tokenizer = Tokenizer::load(files, config.vocab_size)?;
    let weights = Weights::parse("model.safetensors", files.read("model.safetensors")?)?;
    let model = Model::load(&weights, &config)?;
    Ok(Vits { info: StageInfo::new("test"), tokenizer, config, model })
}

fn micro() -> Arc<dyn Tts> {
    match backend::load(&ModelFiles::locate(&"micro/tts-es".parse().unwrap()).unwrap(), &[BACKEND]).unwrap().stage {
        Stage::Tts(voice) => voice,
        _ => panic!("not a voice"),
    }
}

/// A recorded run of the reference.
struct Case {
    voice: Vits,
    expected: Weights,
    about: Value,
}

impl Case {
    fn open(name: &str) -> Self {
        let dir = fixtures().join("vits").join(name);
        let expected = Weights::parse("expected", std::fs::read(dir.join("expected.safetensors")).unwrap().into()).unwrap();
        let about = serde_json::from_slice(&std::fs::read(dir.join("expected.json")).unwrap()).unwrap();
        Self { voice: open(&files(&dir)).unwrap(), expected, about }
    }

    fn tensor(&self, name: &str) -> (Vec<f32>, Vec<usize>) {
        let shape = self.expected.shape(name).unwrap();
        (self.expected.values(name, &shape).unwrap(), shape)
    }

    fn durations(&self, name: &str) -> Vec<usize> {
        self.tensor(name).0.iter().map(|d| *d as usize).collect()
    }
}

fn worst(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Rows and columns exchanged.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| values.iter().skip(c).step_by(columns)).copied().collect()
}

const CASES: [&str; 4] = ["deterministic", "stochastic", "deterministic-speakers", "stochastic-speakers"];

#[test]
fn tokens_equal_the_reference() {
    for name in CASES {
        let case = Case::open(name);
        for text in case.about["texts"].as_array().unwrap() {
            let want: Vec<u32> = serde_json::from_value(text["input_ids"].clone()).unwrap();
            assert_eq!(case.voice.tokenizer.encode(text["text"].as_str().unwrap()).ids, want, "{name}: {text}");
        }
    }
}

#[test]
fn speech_equals_the_reference() {
    for name in CASES {
        let case = Case::open(name);
        let text = case.about["texts"][0]["text"].as_str().unwrap();
        let ids = case.voice.tokenizer.encode(text).ids;
        let model = &case.voice.model;
        let flow = case.voice.config.flow_size;
        let quiet = vec![0.0; 2 * ids.len()];
        let run = |speaker, noise: &[f32], pace, prior_noise: &[f32], scale| {
            nn::run(&Job::new(), |ctx| {
                let prior = model.read(ctx, &ids, speaker, noise, pace)?;
                let sound = model.speak(ctx, &prior, prior_noise, scale)?;
                Ok((prior, sound))
            })
            .unwrap()
        };
        let compare = |what: &str, (prior, sound): &(Prior, Vec<f32>)| {
            assert_eq!(prior.durations, case.durations(&format!("durations{what}")), "{name}{what}");
            let silent = if what.is_empty() { "_silent" } else { what };
            let error = worst(sound, &case.tensor(&format!("waveform{silent}")).0);
            println!("{name}{silent}: waveform within {error:.2e}");
            assert!(error <= 1e-3, "{name}{what}: {error}");
        };

        let silent = run(0, &quiet, 1.0, &[], 0.0);
        let stats = silent.0.stats.values().unwrap();
        let half = |from: usize| stats.chunks_exact(2 * flow).flat_map(move |r| r[from..from + flow].to_vec()).collect::<Vec<_>>();
        let error = worst(&half(0), &case.tensor("prior_means").0).max(worst(&half(flow), &case.tensor("prior_log_variances").0));
        println!("{name}: text encoder within {error:.2e}");
        assert!(error <= 1e-4);
        compare("", &silent);
        compare("_rate", &run(0, &quiet, case.about["speaking_rate"].as_f64().unwrap(), &[], 0.0));
        if case.voice.config.num_speakers > 1 {
            compare("_speaker3", &run(3, &quiet, 1.0, &[], 0.0));
        }
        let mut duration_noise = quiet.clone();
        if case.expected.has("noise_duration") {
            duration_noise = case.tensor("noise_duration").0;
            let scale = case.about["noise_scale_duration"].as_f64().unwrap() as f32;
            duration_noise.iter_mut().for_each(|v| *v *= scale);
        }
        let (noise, shape) = case.tensor("noise_prior");
        let scale = case.about["noise_scale"].as_f64().unwrap() as f32;
        compare("_noise", &run(0, &duration_noise, 1.0, &transposed(&noise, shape[2]), scale));

        if case.expected.has("batch.input_ids") {
            let ids = case.voice.tokenizer.encode("sí, ya voy").ids;
            let noise = vec![0.0; 2 * ids.len()];
            let (durations, sound) = nn::run(&Job::new(), |ctx| {
                let prior = model.read(ctx, &ids, 0, &noise, 1.0)?;
                Ok((prior.durations.clone(), model.speak(ctx, &prior, &[], 0.0)?))
            })
            .unwrap();
            let (_, shape) = case.tensor("batch.durations");
            let row = &case.durations("batch.durations")[shape[2]..shape[2] + ids.len()];
            assert_eq!(durations, row, "{name}: a padded row");
            let error = worst(&sound, &case.tensor("short.waveform_silent").0);
            println!("{name}: second row within {error:.2e}");
            assert!(error <= 1e-3);
        }
    }
}

#[test]
fn pieces_of_sound_equal_the_whole() {
    // 3 s of latents: several pieces on one side, one piece that sees all on the other.
    for name in CASES {
        let case = Case::open(name);
        let (flow, hop) = (case.voice.config.flow_size, case.voice.model.decoder.hop());
        let frames = 48_000 / hop;
        let latents = Act::new(noise(1, 0, frames * flow, 1.0), (1, frames, flow)).unwrap();
        let decoder = &case.voice.model.decoder;
        let (whole, pieces) = nn::run(&Job::new(), |ctx| {
            Ok((decoder.whole(ctx, &latents)?, decoder.forward(ctx, &latents, None)?))
        })
        .unwrap();
        assert!(worst(&pieces, &whole) < 1e-5, "{name}: {}", worst(&pieces, &whole));
    }
}
