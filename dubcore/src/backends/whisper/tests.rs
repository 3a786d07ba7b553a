//! Parity with Python transformers on the same weights.

use super::*;
use crate::backends::fixtures::{Expected, expected_cases, fixture};
use crate::source::ModelRef;

fn model(dir: &std::path::Path) -> Whisper {
    load_whisper(&ModelFiles::locate(&ModelRef::directory(dir)).unwrap()).unwrap().0
}

#[test]
fn encoder_logits_and_tokens_equal_transformers() {
    let cases = expected_cases("whisper");
    assert!(cases.len() >= 2);
    for dir in cases {
        let name = dir.display().to_string();
        let want = Expected::read(&dir);
        let model = model(&dir);
        let clips: Vec<Vec<f32>> = (0..3).map(|i| want.floats(&format!("audio.{i}")).0).collect();
        let (features, feature_shape) = want.floats("input_features");
        let job = Job::new();
        nn::run(&job, |ctx| {
            let mel = model.mel.forward(&clips.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
            assert_eq!(mel.shape()?, (feature_shape[0], feature_shape[1], feature_shape[2]), "{name}");
            want.close("input_features", &mel.values()?, 1e-4);
            let mel = Signal::new(features.clone(), mel.shape()?)?;
            let encoded = model.encode(ctx, &mel)?;
            want.close("encoder", &encoded.values()?, 1e-4);
            let tokens = want.tokens("decoder_input_ids");
            let logits = model.decoder.start(ctx, &encoded, None)?.all_logits(ctx, &tokens)?;
            want.close("logits", &logits.values()?, 1e-4);
            // Token by token through the cache must give what all at once gives.
            let mut session = model.decoder.start(ctx, &encoded, None)?;
            let mut last = Vec::new();
            for i in 0..tokens[0].len() {
                last = session.step(ctx, &tokens.iter().map(|row| vec![row[i]]).collect::<Vec<_>>())?;
            }
            let (_, time, vocab) = logits.shape()?;
            let all = logits.values()?;
            for (row, last) in last.iter().enumerate() {
                let from = (row * time + time - 1) * vocab;
                let worst = last.iter().zip(&all[from..]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-4, "{name}: cached step off by {worst}");
            }
            let max = want.json["max_new_tokens"].as_u64().unwrap() as usize;
            for (key, beams, timestamps) in [("greedy", 1, false), ("beam4", 4, false), ("greedy_timestamps", 1, true)] {
                let opts = SttOptions::default().language(Lang::EN).beams(beams).timestamps(timestamps).max_tokens(max);
                let language = model.language(&opts)?;
                let found = model.decode(ctx, &encoded, language, &opts, &mut |_, _| ())?;
                let got: Vec<Vec<u32>> = found.into_iter().map(|h| h.1.tokens).collect();
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
        want.close(name, &mel.forward(&[&audio]).unwrap().values().unwrap(), 1e-4);
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} spectrograms");
}

#[test]
fn the_micro_model_hears_as_in_python() {
    let model = load_whisper(&ModelFiles::locate(&"micro/stt-en".parse().unwrap()).unwrap()).unwrap().0;
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(fixture("micro/stt-en.json")).unwrap()).unwrap();
    let want = Expected::file(&fixture("micro/stt-en.safetensors"));
    let clips = json["clips"].as_array().unwrap();
    assert!(clips.len() >= 3);
    for (i, clip) in clips.iter().enumerate() {
        let audio: Vec<f32> = want.shorts(&format!("audio.{i}")).iter().map(|s| f32::from(*s) / 32_768.0).collect();
        nn::run(&Job::new(), |ctx| {
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
                let opts =
                    SttOptions::default().timestamps(timestamps).max_tokens(json["max_new_tokens"].as_u64().unwrap() as usize);
                let found = model.decode(ctx, &encoded, model.language(&opts)?, &opts, &mut |_, _| ())?;
                assert_eq!(found[0].1.tokens, serde_json::from_value::<Vec<u32>>(clip[key].clone()).unwrap(), "clip {i} {key}");
            }
            Ok(())
        })
        .unwrap();
        let text = model.transcribe(&Audio::new(audio, 16_000).unwrap(), &SttOptions::default(), &Job::new()).unwrap().text();
        assert_eq!(text, clip["text"].as_str().unwrap().trim());
    }
}

/// With DUBCORE_DUMP_WINDOWS=FILE it writes the windows' sound there instead, for tests/generate/windows.py.
#[test]
fn each_window_of_a_dub_gives_the_tokens_of_transformers() {
    let dump = std::env::var_os("DUBCORE_DUMP_WINDOWS");
    let mut sounds = Vec::new();
    let model = load_whisper(&ModelFiles::locate(&"micro/stt-en".parse().unwrap()).unwrap()).unwrap().0;
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
            let tokens = nn::run(&Job::new(), |ctx| {
                let encoded = model.encode(ctx, &model.mel.forward(&[audio.samples()])?)?;
                let opts = SttOptions::default();
                Ok(model.decode(ctx, &encoded, model.language(&opts)?, &opts, &mut |_, _| ())?.remove(0).1.tokens)
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
