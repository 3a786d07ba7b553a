//! Parity with transformers, bad files, cancellation, and results that depend on nothing but the request.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::backend;
use crate::backends::fixtures::{Expected, expected_cases, fixture};
use crate::device::cpu;
use crate::source::ModelRef;

fn files(dir: &Path) -> ModelFiles {
    ModelFiles::locate(&ModelRef::directory(dir)).unwrap()
}

fn open(files: &ModelFiles) -> Result<Vits> {
    let config = Config::read(files)?;
    let tokenizer = Tokenizer::load(files, config.vocab_size)?;
    let weights = Weights::open(files, cpu(), ComputeType::F32)?;
    let model = Model::load(&weights, &config)?;
    Ok(Vits { info: StageInfo::new("test"), place: cpu().clone(), tokenizer, config, model })
}

fn micro() -> Arc<dyn Tts> {
    match backend::load(&ModelFiles::locate(&"micro/tts-es".parse().unwrap()).unwrap(), cpu(), ComputeType::F32, &[BACKEND])
        .unwrap()
        .stage
    {
        Stage::Tts(voice) => voice,
        _ => panic!("not a voice"),
    }
}

/// A recorded run of the reference.
struct Case {
    voice: Vits,
    expected: Expected,
}

impl Case {
    fn open(dir: &Path) -> Self {
        Self { voice: open(&files(dir)).unwrap(), expected: Expected::read(dir) }
    }

    fn all() -> impl Iterator<Item = Self> {
        expected_cases("vits").into_iter().map(|dir| Self::open(&dir))
    }

    fn named(name: &str) -> Self {
        Self::open(&fixture("vits").join(name))
    }

    fn number(&self, key: &str) -> f64 {
        self.expected.json[key].as_f64().unwrap()
    }
}

/// What is read of `ids` and how it sounds, with the noise given.
fn speak(model: &Model, ids: &[u32], speaker: usize, noise: &[f32], pace: f64, prior_noise: (&[f32], f32)) -> (Prior, Vec<f32>) {
    nn::run(&Job::new(), cpu(), |ctx| {
        let prior = model.read(ctx, ids, speaker, noise, pace)?;
        let (values, scale) = prior_noise;
        let sound = model.speak(ctx, &prior, (!values.is_empty()).then(|| values.iter().copied()), scale)?;
        Ok((prior, sound))
    })
    .unwrap()
}

fn same_durations(prior: &Prior, expected: &Expected, name: &str) {
    assert_eq!(prior.durations.iter().map(|d| *d as f32).collect::<Vec<_>>(), expected.floats(name).0, "{name}");
}

/// Rows and columns exchanged.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| values.iter().skip(c).step_by(columns)).copied().collect()
}

#[test]
fn tokens_equal_the_reference() {
    for case in Case::all() {
        for text in case.expected.json["texts"].as_array().unwrap() {
            let want: Vec<u32> = serde_json::from_value(text["input_ids"].clone()).unwrap();
            assert_eq!(case.voice.tokenizer.encode(text["text"].as_str().unwrap()).ids, want, "{text}");
        }
    }
}

#[test]
fn speech_equals_the_reference() {
    for case in Case::all() {
        let (model, expected) = (&case.voice.model, &case.expected);
        let ids = &expected.tokens("input_ids")[0];
        let flow = case.voice.config.flow_size;
        let quiet = vec![0.0; 2 * ids.len()];
        let (prior, sound) = speak(model, ids, 0, &quiet, 1.0, (&[], 0.0));
        let stats = prior.stats.values().unwrap();
        let half = |at: usize| stats.chunks_exact(2 * flow).flat_map(|r| &r[at..at + flow]).copied().collect::<Vec<_>>();
        expected.close("prior_means", &half(0), 1e-4);
        expected.close("prior_log_variances", &half(flow), 1e-4);
        same_durations(&prior, expected, "durations");
        expected.close("waveform_silent", &sound, 1e-3);

        let (prior, sound) = speak(model, ids, 0, &quiet, case.number("speaking_rate"), (&[], 0.0));
        same_durations(&prior, expected, "durations_rate");
        expected.close("waveform_rate", &sound, 1e-3);

        let mut noise = quiet.clone();
        if expected.has("noise_duration") {
            noise = expected.floats("noise_duration").0;
            noise.iter_mut().for_each(|v| *v *= case.number("noise_scale_duration") as f32);
        }
        let (prior_noise, shape) = expected.floats("noise_prior");
        let prior_noise = (&*transposed(&prior_noise, shape[2]), case.number("noise_scale") as f32);
        let (prior, sound) = speak(model, ids, 0, &noise, 1.0, prior_noise);
        same_durations(&prior, expected, "durations_noise");
        expected.close("waveform_noise", &sound, 1e-3);

        if case.voice.config.num_speakers > 1 {
            let (prior, sound) = speak(model, ids, 3, &quiet, 1.0, (&[], 0.0));
            same_durations(&prior, expected, "durations_speaker3");
            expected.close("waveform_speaker3", &sound, 1e-3);
        }
        if expected.has("batch.input_ids") {
            // The padded row of the reference's batch, by itself.
            let mask = &expected.tokens("batch.attention_mask")[1];
            let row: Vec<u32> =
                expected.tokens("batch.input_ids")[1].iter().zip(mask).filter(|t| *t.1 == 1).map(|t| *t.0).collect();
            let (prior, sound) = speak(model, &row, 0, &vec![0.0; 2 * row.len()], 1.0, (&[], 0.0));
            let (want, _) = expected.floats("batch.durations");
            assert!(prior.durations.iter().zip(&want[ids.len()..]).all(|(d, w)| *d as f32 == *w));
            expected.close("short.waveform_silent", &sound, 1e-3);
        }
    }
}

#[test]
fn the_micro_voice_equals_the_reference() {
    let voice = open(&ModelFiles::locate(&"micro/tts-es".parse().unwrap()).unwrap()).unwrap();
    let expected = Expected::file(&fixture("micro/tts-es.safetensors"));
    let about: Value = serde_json::from_slice(&std::fs::read(fixture("micro/tts-es.json")).unwrap()).unwrap();
    for (i, sentence) in about["sentences"].as_array().unwrap().iter().enumerate() {
        let ids = voice.tokenizer.encode(sentence["text"].as_str().unwrap()).ids;
        assert_eq!(json!(ids), sentence["input_ids"]);
        let (prior, sound) = speak(&voice.model, &ids, 0, &vec![0.0; 2 * ids.len()], 1.0, (&[], 0.0));
        assert_eq!((json!(prior.durations), json!(sound.len())), (sentence["durations"].clone(), sentence["samples"].clone()));
        let every: Vec<f32> = sound.into_iter().step_by(sentence["step"].as_u64().unwrap() as usize).collect();
        expected.close(&format!("waveform.{i}"), &every, 1e-3);
    }
}

#[test]
fn pieces_of_sound_equal_the_whole() {
    // 3 s of latents: several pieces on one side, one piece that sees all on the other.
    for case in Case::all() {
        let (flow, hop) = (case.voice.config.flow_size, case.voice.model.decoder.hop());
        let frames = 48_000 / hop;
        let latents = Act::new(noise(1, 0).take(frames * flow).collect(), (1, frames, flow)).unwrap();
        let decoder = &case.voice.model.decoder;
        let (whole, pieces) = nn::run(&Job::new(), cpu(), |ctx| {
            Ok((decoder.pieces(ctx, &latents, None, frames)?, decoder.pieces(ctx, &latents, None, 8)?))
        })
        .unwrap();
        assert_eq!(pieces, whole);
    }
}

fn voice(dir: &Path) -> Arc<dyn Tts> {
    match backend::load(&files(dir), cpu(), ComputeType::F32, &[BACKEND]).unwrap().stage {
        Stage::Tts(voice) => voice,
        _ => panic!("not a voice"),
    }
}

/// A copy of a small voice with its files changed.
fn altered(file: &str, change: impl FnOnce(&mut Value)) -> Result<Loaded> {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer_config.json", "vocab.json", "model.safetensors"] {
        std::fs::copy(fixture("vits/stochastic-speakers").join(name), dir.path().join(name)).unwrap();
    }
    let path = dir.path().join(file);
    let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(&path, value.to_string()).unwrap();
    backend::load(&files(dir.path()), cpu(), ComputeType::F32, &[BACKEND])
}

#[test]
fn hostile_configurations_are_typed_errors() {
    let config: Value = serde_json::from_slice(&std::fs::read(fixture("vits/stochastic-speakers/config.json")).unwrap()).unwrap();
    let huge = u64::MAX;
    let values = [
        json!(0),
        json!(1),
        json!(3),
        json!(7),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(huge),
        json!(1u64 << 40),
        json!(65_536),
        json!(null),
        json!("x"),
        json!([]),
        json!([0]),
        json!([1]),
        json!([huge]),
        json!([[0]]),
        json!([[huge]]),
        json!([[]]),
        json!([4, 4]),
        json!([[1, 3]]),
        json!([65_536, 65_536]),
        json!(vec![2; 64]),
        json!(true),
        json!({}),
    ];
    let mut refused = 0;
    for key in config.as_object().unwrap().keys().filter(|k| *k != "model_type") {
        for value in &values {
            // Some are harmless; what matters is that none panics, hangs or swallows memory.
            if let Err(e) = altered("config.json", |c| c[key] = value.clone()) {
                let kinds = [ErrorKind::ModelCorrupt, ErrorKind::ModelIncompatible];
                assert!(kinds.contains(&e.kind()), "{key} = {value}: {e:?}");
                refused += 1;
            }
        }
    }
    assert!(refused > 500, "{refused}");
    for (key, value, kind) in [
        ("flow_size", json!(15), ErrorKind::ModelCorrupt),
        ("hidden_act", json!("mystery"), ErrorKind::ModelIncompatible),
        ("resblock_dilation_sizes", json!([[1, 3]]), ErrorKind::ModelCorrupt),
        ("upsample_kernel_sizes", json!([16]), ErrorKind::ModelCorrupt),
        ("num_attention_heads", json!(5), ErrorKind::ModelCorrupt),
        ("hidden_size", json!(48), ErrorKind::ModelCorrupt),
        ("speaker_embedding_size", json!(0), ErrorKind::ModelCorrupt),
    ] {
        let e = altered("config.json", |c| c[key] = value.clone()).err().unwrap();
        assert_eq!(e.kind(), kind, "{key} = {value}: {e:?}");
    }
}

#[test]
fn voices_that_need_other_text_say_so() {
    for (key, part) in [("is_uroman", "romanised"), ("phonemize", "phonemes")] {
        let e = altered("tokenizer_config.json", |c| c[key] = true.into()).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::ModelIncompatible);
        assert!(e.to_string().contains(part), "{e}");
    }
    let e = altered("vocab.json", |c| c["a"] = 46.into()).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::ModelCorrupt, "{e}");
    assert!(altered("vocab.json", |c| *c = json!({})).is_err());
    let stage = altered("tokenizer_config.json", |c| c["language"] = "fra".into()).unwrap().stage;
    assert_eq!(stage.info().from, ["fr".parse::<Lang>().unwrap()]);
    let tokenizer = altered("tokenizer_config.json", |c| c["language"] = Value::Null);
    assert!(tokenizer.unwrap().stage.info().from.is_empty());
}

#[test]
fn a_voice_is_named_after_its_language() {
    let mut case = Case::named("deterministic");
    case.voice.tokenizer = {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("vocab.json"), r#"{"a": 0}"#).unwrap();
        std::fs::write(dir.path().join("tokenizer_config.json"), r#"{"phonemize": false}"#).unwrap();
        Tokenizer::load(&files(dir.path()), 1).unwrap()
    };
    for (name, want) in [("facebook/mms-tts-spa", "es"), ("./mms-tts-eng@main", "en"), ("/x/mms-tts-azj-script_latin", "azj")] {
        assert_eq!(languages(&case.voice.tokenizer, name), [want.parse::<Lang>().unwrap()], "{name}");
    }
    assert!(languages(&case.voice.tokenizer, "x/voice").is_empty());
}

#[test]
fn every_missing_tensor_is_named() {
    let from = fixture("vits/stochastic-speakers");
    let bytes = std::fs::read(from.join("model.safetensors")).unwrap();
    let all = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let c = Config::read(&files(&from)).unwrap();
    for gone in all.names().into_iter().filter(|n| !IDLE.iter().any(|s| n.starts_with(s))) {
        let rest = all.tensors().into_iter().filter(|(name, _)| name != gone);
        let file = safetensors::serialize(rest, None).unwrap();
        let e =
            Model::load(&Weights::parse("m", file.into()).unwrap(), &c).err().unwrap_or_else(|| panic!("{gone} is not needed"));
        assert_eq!(e.kind(), ErrorKind::ModelCorrupt);
        let stem = gone.split(".parametrizations").next().unwrap();
        assert!(e.to_string().contains(stem), "{gone}: {e}");
    }
}

#[test]
fn the_micro_voice_speaks() {
    let voice = micro();
    let info = voice.info();
    assert_eq!((info.from.as_slice(), info.speakers, info.sample_rate), ([Lang::ES].as_slice(), 1, 16_000));
    let text = "Hola, ¿qué tal? Hoy hace buen tiempo.";
    let opts = TtsOptions::default();
    let speech = voice.synthesize(&[text], &opts, &Job::new()).remove(0).unwrap();
    let seconds = speech.audio.duration().as_secs_f64();
    assert!((1.5..6.0).contains(&seconds), "{seconds}");
    assert!(speech.audio.samples().iter().map(|s| s * s).sum::<f32>() / speech.audio.len() as f32 > 1e-4);
    assert_eq!(voice.duration(text, &opts, &Job::new()).unwrap(), Some(speech.audio.duration()));
    let words: Vec<_> = speech.words.iter().map(|w| w.text.as_str()).collect();
    assert_eq!(words, ["Hola,", "¿qué", "tal?", "Hoy", "hace", "buen", "tiempo."]);
    assert!(speech.words.windows(2).all(|w| w[0].span.end <= w[1].span.start));
    assert!(speech.words.iter().all(|w| w.span.duration() > Duration::from_millis(40)));
    assert!(speech.words[6].span.end <= speech.audio.duration());
    assert_eq!((speech.metadata.audio_duration, &*speech.metadata.model), (speech.audio.duration(), "micro/tts-es"));

    let counted = voice.synthesize(&["Son 12 años."], &opts, &Job::new()).remove(0).unwrap();
    assert_eq!(counted.words.iter().map(|w| w.text.as_str()).collect::<Vec<_>>(), ["Son", "doce", "años."]);

    let twice = TtsOptions::default().speaking_rate(2.0);
    let faster = voice.duration(text, &twice, &Job::new()).unwrap().unwrap().as_secs_f64();
    assert!(faster < 0.75 * seconds && faster > 0.4 * seconds);
}

#[test]
fn long_texts_are_spoken_in_pieces() {
    let voice = micro();
    let sentence = "El tren de la mañana sale siempre tarde.";
    let long = [sentence; 12].join(" ");
    let opts = TtsOptions::default();
    let one = voice.duration(sentence, &opts, &Job::new()).unwrap().unwrap().as_secs_f64();
    let speech = voice.synthesize(&[&long], &opts, &Job::new()).remove(0).unwrap();
    assert!((speech.audio.duration().as_secs_f64() / one - 12.0).abs() < 2.0);
    assert_eq!(speech.words.len(), 12 * 8);
    assert!(speech.words.windows(2).all(|w| w[0].span.end <= w[1].span.start));
    assert_eq!(voice.duration(&long, &opts, &Job::new()).unwrap(), Some(speech.audio.duration()));
}

#[test]
fn wrong_requests_are_refused_one_by_one() {
    let voice = micro();
    let opts = TtsOptions::default;
    // One text is too long as it is, the other in words.
    let (long, signs) = ("a".repeat(MAX_TEXT + 1), "%".repeat(MAX_TEXT));
    let results = voice.synthesize(&["", "sí", " 火\n", "—", "...", &long, &signs], &opts(), &Job::new());
    let kinds: Vec<_> = results.iter().map(|r| r.as_ref().err().map(Error::kind)).collect();
    let bad = Some(ErrorKind::InvalidArgument);
    let limit = Some(ErrorKind::LimitExceeded);
    assert_eq!(kinds, [bad, None, bad, bad, bad, limit, limit]);
    assert!(results[2].as_ref().err().unwrap().to_string().contains('火'));
    for opts in [
        opts().speaker(1),
        opts().speaking_rate(0.2),
        opts().speaking_rate(f64::NAN),
        opts().speaking_rate(4.1),
        opts().noise_scale(2.1),
        opts().noise_scale(-0.1),
        opts().noise_scale_duration(f64::INFINITY),
    ] {
        assert_eq!(voice.synthesize(&["sí"], &opts, &Job::new())[0].as_ref().err().map(Error::kind), bad, "{opts:?}");
        assert!(voice.duration("sí", &opts, &Job::new()).is_err());
    }
    let e = voice.duration("sí", &opts().language(Lang::EN), &Job::new()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::UnsupportedLanguage);
    assert!(voice.duration("sí", &opts().language(Lang::ES), &Job::new()).is_ok());
}

#[test]
fn durations_gone_astray_are_a_limit_not_memory() {
    let mut case = Case::named("deterministic");
    case.voice.config.speaking_rate = 1e-5;
    let e = case.voice.synthesize(&["sí"], &TtsOptions::default(), &Job::new()).remove(0).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::LimitExceeded);
}

#[test]
fn seeds_decide_the_sound_and_nothing_else_does() {
    // A voice with noise in its durations.
    let voice = voice(&fixture("vits/stochastic-speakers"));
    let texts = ["hola, mi niño", "sí, ya voy", "el tren de la mañana"];
    let bits = |speech: &Result<Speech>| speech.as_ref().unwrap().audio.samples().iter().map(|s| s.to_bits()).collect::<Vec<_>>();
    let opts = TtsOptions::default().seed(7);
    let alone: Vec<_> = texts.iter().map(|t| bits(&voice.synthesize(&[t], &opts, &Job::new())[0])).collect();
    let together: Vec<_> = voice.synthesize(&texts, &opts, &Job::new()).iter().map(bits).collect();
    assert_eq!(alone, together);
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8).map(|_| scope.spawn(|| voice.synthesize(&texts, &opts, &Job::new()))).collect();
        for run in runs {
            assert_eq!(run.join().unwrap().iter().map(bits).collect::<Vec<_>>(), alone);
        }
    });
    let other = voice.synthesize(&texts, &TtsOptions::default().seed(8), &Job::new());
    assert!(other.iter().zip(&alone).all(|(o, a)| bits(o) != *a));
    for text in texts {
        let length = voice.synthesize(&[text], &opts, &Job::new())[0].as_ref().unwrap().audio.duration();
        assert_eq!(voice.duration(text, &opts, &Job::new()).unwrap(), Some(length));
    }
    let still = |speaker| TtsOptions::default().noise_scale(0.0).noise_scale_duration(0.0).speaker(speaker);
    let said = |speaker, seed| bits(&voice.synthesize(&["sí"], &still(speaker).seed(seed), &Job::new())[0]);
    assert_eq!(said(1, 1), said(1, 2));
    assert_ne!(said(1, 1), said(2, 1));
}

#[test]
fn cancellation_is_quick_and_leaves_the_voice_usable() {
    let voice = micro();
    let long = "Hoy hace buen tiempo y los niños juegan en el parque, mientras sus padres leen. ".repeat(200);
    let job = Job::new();
    let (asked, results) = std::thread::scope(|scope| {
        let work = scope.spawn(|| voice.synthesize(&[&long, "sí"], &TtsOptions::default(), &job));
        std::thread::sleep(Duration::from_millis(300));
        job.cancel();
        (Instant::now(), work.join().unwrap())
    });
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    assert!(results.iter().all(|r| r.as_ref().err().map(Error::kind) == Some(ErrorKind::Cancelled)), "{results:?}");
    assert!(voice.synthesize(&["sí"], &TtsOptions::default(), &Job::new())[0].is_ok());
}
