//! Parity with Python transformers on the same weights.

use super::*;
use crate::backends::fixtures::{Expected, expected_cases, fixture};
use crate::device::cpu;
use crate::lang::Lang;
use crate::source::ModelRef;
use crate::stage::Fallback;

/// The windows' tokens at the first try.
fn first_try(model: &Whisper, ctx: &Ctx<'_>, encoded: &Act, opts: &SttOptions) -> Result<Vec<Vec<u32>>> {
    let opts = opts.clone().fallback(Fallback::none());
    let mut session = model.decoder.start(ctx, encoded, None)?;
    let signs = model.signs(ctx, &mut session, encoded.shape()?.0)?;
    let windows: Vec<_> = signs.iter().map(|s| Window { sound: &[], no_speech: s.no_speech, halves: false }).collect();
    let prompt = model.special.prompt(model.language(&opts)?.unwrap(), &opts)?;
    let heard = model.decode(ctx, &mut session, &prompt, &windows, &opts, &mut |_, _| ())?;
    Ok(heard.into_iter().map(|h| h.best.found.tokens).collect())
}

fn model(dir: &std::path::Path) -> Whisper {
    load_whisper(&ModelFiles::locate(&ModelRef::directory(dir)).unwrap(), cpu(), ComputeType::F32).unwrap().0
}

/// Features as the reference has them, `[windows, mels, frames]`.
fn by_band(mel: &Act) -> Result<Vec<f32>> {
    let (windows, frames, mels) = mel.shape()?;
    Ok(turned(&mel.values()?, (windows, frames, mels)))
}

/// Features of the reference.
fn by_frame(features: &[f32], shape: &[usize]) -> Result<Act> {
    Act::new(turned(features, (shape[0], shape[1], shape[2])), (shape[0], shape[2], shape[1]))
}

/// `[n, rows, columns]` as `[n, columns, rows]`.
fn turned(values: &[f32], (n, rows, columns): (usize, usize, usize)) -> Vec<f32> {
    let at = |i: usize| i / (rows * columns) * rows * columns + i % rows * columns + i / rows % columns;
    (0..n * rows * columns).map(|i| values[at(i)]).collect()
}

#[test]
fn encoder_logits_and_tokens_equal_transformers() {
    let cases = expected_cases("whisper");
    assert!(cases.len() >= 2);
    for dir in cases {
        let name = dir.display().to_string();
        let want = Expected::read(&dir);
        // As if its generation_config.json said so.
        let model = Whisper { num_beams: Some(4), ..model(&dir) };
        let clips: Vec<Vec<f32>> = (0..3).map(|i| want.floats(&format!("audio.{i}")).0).collect();
        let (features, feature_shape) = want.floats("input_features");
        let job = Job::new();
        nn::run(&job, cpu(), |ctx| {
            let mel = model.mel.forward(&clips.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
            assert_eq!(mel.shape()?, (feature_shape[0], feature_shape[2], feature_shape[1]), "{name}");
            want.close("input_features", &by_band(&mel)?, 1e-4);
            let mel = by_frame(&features, &feature_shape)?;
            let encoded = model.encode(ctx, &mel)?;
            want.close("encoder", &encoded.values()?, 1e-4);
            let tokens = want.tokens("decoder_input_ids");
            let logits = model.decoder.start(ctx, &encoded, None)?.all_logits(ctx, &tokens)?;
            // f32 has 24 bits: where logits reach 47, as one case's do, both sides' rounding leaves its mark.
            let logits_values = logits.values()?;
            let largest = logits_values.iter().fold(0f32, |m, v| m.max(v.abs()));
            want.close("logits", &logits_values, (4e-6 * largest).max(1e-4));
            // Token by token through the cache must give what all at once gives.
            let mut session = model.decoder.start(ctx, &encoded, None)?;
            let mut last = Vec::new();
            for i in 0..tokens[0].len() {
                session.step(ctx, &tokens.iter().map(|row| vec![row[i]]).collect::<Vec<_>>(), &mut last)?;
            }
            let (_, time, vocab) = logits.shape()?;
            let all = logits.values()?;
            for (row, last) in last.chunks_exact(vocab).enumerate() {
                let from = (row * time + time - 1) * vocab;
                let worst = last.iter().zip(&all[from..]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-4, "{name}: cached step off by {worst}");
            }
            let max = want.json["max_new_tokens"].as_u64().unwrap() as usize;
            let searches = [("greedy", 1, false), ("beam4", 4, false), ("beam4", 0, false), ("greedy_timestamps", 1, true)];
            for (key, beams, timestamps) in searches {
                let opts = SttOptions::default().language(Lang::EN).beams(beams).timestamps(timestamps).max_tokens(max);
                let got = first_try(&model, ctx, &encoded, &opts)?;
                assert!(got.iter().all(|t| t.len() >= 30), "{name}: {key} is short");
                assert_eq!(got, want.rows(key), "{name}: {key}");
            }
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn log_mel_equals_the_feature_extractor() {
    let want = Expected::read(&fixture("logmel"));
    let mut seen = 0;
    for name in want.names().iter().filter(|n| n.starts_with("mel.")) {
        let mut parts = name.split('.').skip(1);
        let (clip, mels) = (parts.next().unwrap(), parts.next().unwrap());
        let (audio, _) = want.floats(&format!("audio.{clip}"));
        let shape = want.floats(name).1;
        let frames = shape[shape.len() - 1];
        let mel = LogMel::new(mels.parse().unwrap(), 400, 160, frames * 160, 16_000).unwrap();
        want.close(name, &by_band(&mel.forward(&[&audio]).unwrap()).unwrap(), 1e-4);
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} spectrograms");
}

#[test]
fn the_micro_model_hears_as_in_python() {
    let model = load_whisper(&ModelFiles::locate(&"micro/stt-en".parse().unwrap()).unwrap(), cpu(), ComputeType::F32).unwrap().0;
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(fixture("micro/stt-en.json")).unwrap()).unwrap();
    let want = Expected::file(&fixture("micro/stt-en.safetensors"));
    assert_eq!(model.num_beams, Some(5));
    let clips = json["clips"].as_array().unwrap();
    assert!(clips.len() >= 3);
    for (i, clip) in clips.iter().enumerate() {
        let audio: Vec<f32> = want.shorts(&format!("audio.{i}")).iter().map(|s| f32::from(*s) / 32_768.0).collect();
        nn::run(&Job::new(), cpu(), |ctx| {
            let encoded = model.encode(ctx, &model.mel.forward(&[&audio])?)?;
            let (_, time, channels) = encoded.shape()?;
            let values = encoded.values()?;
            let sample: Vec<f32> = (0..time)
                .step_by(10)
                .flat_map(|t| (0..channels).step_by(16).map(move |c| t * channels + c))
                .map(|at| values[at])
                .collect();
            want.close(&format!("encoder.{i}"), &sample, 1e-4);
            for (key, timestamps) in [("greedy", false), ("greedy_timestamps", true)] {
                let max = json["max_new_tokens"].as_u64().unwrap() as usize;
                let opts = SttOptions::default().beams(1).timestamps(timestamps).max_tokens(max);
                let found = first_try(&model, ctx, &encoded, &opts)?;
                assert_eq!(found[0], serde_json::from_value::<Vec<u32>>(clip[key].clone()).unwrap(), "clip {i} {key}");
            }
            Ok(())
        })
        .unwrap();
        let audio = Audio::new(audio, 16_000).unwrap();
        let text = model.transcribe(&audio, &SttOptions::default().beams(1), &Job::new()).unwrap().text();
        // What the model makes of noise, nobody is told.
        let want = if clip["speech"] == true { clip["text"].as_str().unwrap().trim() } else { "" };
        assert_eq!(text, want);
    }
}

/// With DUBCORE_DUMP_WINDOWS=FILE it writes the windows' sound there instead, for tests/generate/windows.py.
#[test]
fn each_window_of_a_dub_gives_the_tokens_of_transformers() {
    let dump = std::env::var_os("DUBCORE_DUMP_WINDOWS");
    let mut sounds = Vec::new();
    let model = load_whisper(&ModelFiles::locate(&"micro/stt-en".parse().unwrap()).unwrap(), cpu(), ComputeType::F32).unwrap().0;
    let want: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixture("windows/expected.json")).unwrap_or_default()).unwrap_or_default();
    for (clip, at_least) in [("station.mp4", 10), ("kitchen.wav", 4)] {
        let input = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/media").join(clip);
        let windows = crate::pipeline::windows(&input.into());
        assert!(windows.len() >= at_least);
        for (i, (span, audio)) in windows.iter().enumerate() {
            if dump.is_some() {
                let bytes: Vec<u8> = audio.samples().iter().flat_map(|s| s.to_le_bytes()).collect();
                sounds.push((format!("{clip}/{i:02}/{}", span.start.as_millis()), audio.len(), bytes));
                continue;
            }
            let expected = &want[clip][i];
            assert_eq!(
                u128::from(expected["start_ms"].as_u64().unwrap()),
                span.start.as_millis(),
                "{clip} window {i}: run windows.py"
            );
            let tokens = nn::run(&Job::new(), cpu(), |ctx| {
                let encoded = model.encode(ctx, &model.mel.forward(&[audio.samples()])?)?;
                Ok(first_try(&model, ctx, &encoded, &SttOptions::default().beams(1))?.remove(0))
            });
            let expected: Vec<u32> = serde_json::from_value(expected["tokens"].clone()).unwrap();
            assert_eq!(tokens.unwrap(), expected, "{clip} window {i}");
        }
        if dump.is_none() {
            assert_eq!(want[clip].as_array().unwrap().len(), windows.len(), "{clip}: run windows.py");
        }
    }
    if let Some(path) = dump {
        let view =
            |(name, len, bytes)| (name, safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![len], bytes).unwrap());
        let tensors: Vec<_> = sounds.iter().map(|(n, l, b)| view((n.clone(), *l, b.as_slice()))).collect();
        safetensors::serialize_to_file(tensors, None, std::path::Path::new(&path)).unwrap();
    }
}

fn rules_fixture() -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(fixture("whisper-rules/expected.json")).unwrap()).unwrap()
}

fn parsed<T: serde::de::DeserializeOwned>(value: &serde_json::Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn timestamps_follow_the_rules_of_transformers() {
    let want = rules_fixture();
    let id = |name: &str| parsed::<u32>(&want[name]);
    let special = Special {
        start: 13,
        end: id("end"),
        languages: vec![(Lang::EN, u32::MAX)],
        tasks: BTreeMap::new(),
        no_timestamps: Some(id("no_timestamps")),
        no_speech: None,
        suppress: Vec::new(),
        begin_suppress: Vec::new(),
        max_initial_timestamp: Some(id("max_initial")),
    };
    let rules = WhisperRules::new(&special, true);
    let cases = want["timestamps"].as_array().unwrap();
    assert!(cases.len() >= 20);
    for case in cases {
        let mut scores: Vec<f32> = parsed(&case["scores"]);
        crate::nn::decode::Rules::apply(&rules, &parsed::<Vec<u32>>(&case["generated"]), &mut scores);
        let allowed: Vec<usize> = (0..scores.len()).filter(|i| scores[*i] > f32::NEG_INFINITY).collect();
        assert_eq!(allowed, parsed::<Vec<usize>>(&case["allowed"]), "{}", case["rule"]);
    }
}

#[test]
fn texts_are_as_repetitive_as_in_python() {
    let cases = rules_fixture()["compression"].as_array().unwrap().clone();
    assert!(cases.len() >= 6);
    for case in cases {
        let (text, want): (String, f64) = (parsed(&case["text"]), parsed(&case["ratio"]));
        let got = compression_ratio(&text);
        // Compressors of the same level need not agree on every byte, but nearly.
        let bytes = |ratio: f64| text.len() as f64 / ratio;
        assert!((bytes(got) - bytes(want)).abs() < 3.5, "{text:?}: {got}, in Python {want}");
        assert_eq!(got > 2.4, want > 2.4, "{text:?}");
    }
}

#[test]
fn windows_are_tried_again_or_dropped_as_by_transformers() {
    let want = rules_fixture();
    let (mut kept, mut tried, mut silent) = (0, 0, 0);
    for dir in expected_cases("whisper") {
        let model = model(&dir);
        let fixture = Expected::read(&dir);
        let (greedy, max) = (fixture.rows("greedy"), fixture.json["max_new_tokens"].as_u64().unwrap() as usize);
        let (features, shape) = fixture.floats("input_features");
        let sounds: Vec<Vec<f32>> = (0..shape[0]).map(|i| fixture.floats(&format!("audio.{i}")).0).collect();
        let rules = want["judged"][dir.file_name().unwrap().to_str().unwrap()].as_array().unwrap();
        nn::run(&Job::new(), cpu(), |ctx| {
            let encoded = model.encode(ctx, &by_frame(&features, &shape)?)?;
            let mut session = model.decoder.start(ctx, &encoded, None)?;
            let signs = model.signs(ctx, &mut session, shape[0])?;
            for (signs, want) in signs.iter().zip(fixture.json["no_speech_probability"].as_array().unwrap()) {
                let (got, want) = (signs.no_speech.unwrap(), want.as_f64().unwrap());
                assert!((got / want - 1.0).abs() < 1e-3, "{got} for {want}");
            }
            for (i, rule) in rules.iter().enumerate() {
                let fallback = Fallback::default()
                    .temperatures(vec![0.0, 0.5])
                    .compression_ratio(None)
                    .avg_logprob(rule["avg_logprob_below"].as_f64())
                    .no_speech(rule["no_speech_above"].as_f64());
                let opts = SttOptions::default().language(Lang::EN).max_tokens(max).fallback(fallback.clone());
                let prompt = model.special.prompt(model.language(&opts)?.unwrap(), &opts)?;
                let windows: Vec<_> =
                    sounds.iter().zip(&signs).map(|(sound, s)| Window { sound, no_speech: s.no_speech, halves: false }).collect();
                let heard = model.decode(ctx, &mut session, &prompt, &windows, &opts, &mut |_, _| ())?;
                for (row, heard) in heard.iter().enumerate() {
                    let expected = &rule["windows"][row];
                    let name = format!("{} rule {i} window {row}", dir.display());
                    let (again, silence): (bool, bool) = (parsed(&expected["retry"]), parsed(&expected["silence"]));
                    assert_eq!(heard.verdict == Verdict::Silence, silence, "{name}");
                    if again {
                        // What was drawn counts if it is good enough, or better than the first try.
                        let first: f64 = parsed(&expected["avg_logprob"]);
                        let drawn = heard.best.temperature == 0.5;
                        assert!(drawn || f64::from(heard.best.found.score) >= first - 1e-4, "{name}");
                        tried += 1;
                    } else {
                        assert_eq!((heard.best.temperature, &heard.best.found.tokens), (0.0, &greedy[row]), "{name}");
                        assert!(
                            (f64::from(heard.best.found.score) - parsed::<f64>(&expected["avg_logprob"])).abs() < 1e-4,
                            "{name}"
                        );
                        if silence { silent += 1 } else { kept += 1 }
                    }
                }
            }
            // At a threshold that nothing meets every window is drawn, and its neighbours do not change what comes out.
            let fallback = Fallback::default().temperatures(vec![0.0, 0.8]).avg_logprob(100.0).no_speech(None);
            let opts = SttOptions::default().language(Lang::EN).max_tokens(max).fallback(fallback);
            let prompt = model.special.prompt(model.language(&opts)?.unwrap(), &opts)?;
            let windows: Vec<_> = sounds.iter().map(|sound| Window { sound, no_speech: None, halves: false }).collect();
            let texts = |heard: Vec<Heard>| heard.into_iter().map(|h| h.best.found.tokens).collect::<Vec<_>>();
            let together = texts(model.decode(ctx, &mut session, &prompt, &windows, &opts, &mut |_, _| ())?);
            let (rows, time, width) = encoded.shape()?;
            let values = encoded.values()?;
            for row in 0..rows {
                let own = Act::new(values[row * time * width..(row + 1) * time * width].to_vec(), (1, time, width))?;
                let mut session = model.decoder.start(ctx, &own, None)?;
                let alone = model.decode(ctx, &mut session, &prompt, &windows[row..=row], &opts, &mut |_, _| ())?;
                assert_eq!(texts(alone)[0], together[row], "{} window {row} alone", dir.display());
            }
            Ok(())
        })
        .unwrap();
    }
    assert!(kept >= 5 && tried >= 5 && silent >= 5, "{kept} kept, {tried} tried again, {silent} silent");
}

#[test]
fn the_language_is_told_once_by_all_windows() {
    for dir in expected_cases("whisper") {
        let model = model(&dir);
        let want = Expected::read(&dir);
        let sounds: Vec<Vec<f32>> = (0..3).map(|i| want.floats(&format!("audio.{i}")).0).collect();
        let detected: Vec<u32> = parsed(&want.json["detected_language"]);
        let sounds: Vec<&[f32]> = sounds.iter().map(Vec::as_slice).collect();
        nn::run(&Job::new(), cpu(), |ctx| {
            let encoded = model.encode(ctx, &model.mel.forward(&sounds)?)?;
            let signs = model.signs(ctx, &mut model.decoder.start(ctx, &encoded, None)?, 3)?;
            for (row, want) in detected.iter().enumerate() {
                let (token, p) = model.special.common_language(&signs[row..=row], &sounds[row..=row])?;
                assert_eq!(token, *want, "{} window {row}", dir.display());
                assert!((0.5..=1.0).contains(&p), "the likelier of two languages has {p}");
            }
            let (common, _) = model.special.common_language(&signs, &sounds)?;
            assert!(detected.contains(&common));
            let silence: [&[f32]; 3] = [&[]; 3];
            assert_eq!(model.special.common_language(&signs, &silence)?, (302, 0.0), "English, for want of any sound");
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn languages_are_told_by_the_tokenizer_where_nothing_else_names_them() {
    let files = ModelFiles::locate(&ModelRef::directory(fixture("whisper/a"))).unwrap();
    let text = TextDecoder::load(&files).unwrap();
    let read = |vocab_size: usize, is_multilingual: Option<bool>| {
        let config = Config { vocab_size, ..files.json::<Config>("config.json").unwrap() };
        let generation = Generation { is_multilingual, ..Generation::default() };
        Special::read(&config, generation, &text, &files).unwrap()
    };
    for special in [read(51_865, None), read(51_866, Some(true))] {
        assert_eq!(special.languages, [(Lang::EN, 302), (Lang::ES, 303)]);
        assert_eq!((special.tasks["transcribe"], special.tasks["translate"]), (305, 304));
    }
    for special in [read(51_864, None), read(51_866, Some(false))] {
        assert_eq!(special.languages, [(Lang::EN, u32::MAX)], "English alone");
    }
}
