//! Parity with Python transformers on the same weights, and with Python sentencepiece.

use super::*;
use crate::backends::fixtures::{Expected, expected_cases, fixture};
use crate::device::cpu;
use crate::lang::Lang;
use crate::nn::sentencepiece::SentencePiece;
use crate::source::ModelRef;

fn model(dir: &std::path::Path) -> Marian {
    load_marian(&ModelFiles::locate(&ModelRef::directory(dir)).unwrap(), cpu(), ComputeType::F32).unwrap().0
}

#[test]
fn encoder_logits_and_tokens_equal_transformers() {
    let cases = expected_cases("marian");
    assert!(cases.len() >= 3);
    for dir in cases {
        let name = dir.display().to_string();
        let want = Expected::read(&dir);
        let model = model(&dir);
        let mask = want.ints("attention_mask").0;
        let ids = want.tokens("input_ids");
        let width = ids[0].len();
        let rows: Vec<&[u32]> =
            ids.iter().zip(mask.chunks(width)).map(|(row, mask)| &row[..mask.iter().filter(|m| **m == 1).count()]).collect();
        assert!(rows.iter().any(|r| r.len() < width), "{name}: no row is padded");
        nn::run(&Job::new(), cpu(), |ctx| {
            let (encoded, padding) = model.encode(ctx, &rows)?;
            // Behind a row's end the encoder's output means nothing and is not compared.
            let (_, time, channels) = encoded.shape()?;
            let (expected, got) = (want.floats("encoder").0, encoded.values()?);
            for (i, row) in rows.iter().enumerate() {
                let span = i * time * channels..i * time * channels + row.len() * channels;
                let worst = expected[span.clone()].iter().zip(&got[span]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst <= 1e-4, "{name}: encoder row {i} is off by {worst}");
            }
            let tokens = want.tokens("decoder_input_ids");
            let logits = model.decoder.start(ctx, &encoded, padding)?.all_logits(ctx, &tokens)?;
            want.close("logits", &logits.values()?, 1e-4);
            Ok(())
        })
        .unwrap();
        let max = want.json["max_new_tokens"].as_u64().unwrap() as usize;
        for (key, beams) in [("greedy", 1), ("beam4", 4)] {
            let opts = TranslateOptions::new(Lang::EN, Lang::ES).beams(beams).max_tokens(max);
            let (search, rules) = model.search(&opts).unwrap();
            let found = model.translate_rows(&rows, (&search, &rules), &Job::new(), (0.0, 1.0)).unwrap();
            let got: Vec<Vec<u32>> = found.iter().map(|h| h[0].tokens.clone()).collect();
            assert_eq!(got, want.rows(key), "{name}: {key}");
            assert!(got.iter().filter(|t| t.len() >= 30).count() * 2 >= got.len(), "{name}: {key} is short");
            if let Some(scores) = want.json["beam4_scores"].as_array().filter(|_| beams == 4) {
                for (h, score) in found.iter().zip(scores) {
                    assert!((f64::from(h[0].score) - score.as_f64().unwrap()).abs() < 1e-4, "{name}: {score}");
                }
            }
        }
    }
}

#[test]
fn sentencepiece_equals_the_reference() {
    let files = ModelFiles::locate(&"micro/mt-en-es".parse().unwrap()).unwrap();
    let text = std::fs::read_to_string(fixture("sentencepiece/lines.jsonl")).unwrap();
    let (source, target) =
        (SentencePiece::load(&files, "source.spm").unwrap(), SentencePiece::load(&files, "target.spm").unwrap());
    let mut lines = 0;
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = line["text"].as_str().unwrap();
        let ids = |key: &str| serde_json::from_value::<Vec<usize>>(line[key].clone()).ok();
        let want = ids("source").unwrap();
        assert_eq!(source.ids(text), want, "{text:?}");
        assert_eq!(target.ids(text), ids("target").unwrap_or(want), "{text:?}");
        lines += 1;
    }
    assert!(lines >= 5_000, "{lines} lines");
}

#[test]
fn texts_go_end_to_end() {
    for dir in expected_cases("marian") {
        let want = Expected::read(&dir);
        let model = model(&dir);
        for text in want.json["texts"].as_array().unwrap() {
            let source = text["text"].as_str().unwrap();
            let ids = model.tokenizer.encode(source, Lang::ES).unwrap();
            assert_eq!(ids, serde_json::from_value::<Vec<u32>>(text["input_ids"].clone()).unwrap(), "{source:?}");
            let greedy: Vec<u32> = serde_json::from_value(text["greedy"].clone()).unwrap();
            assert_eq!(model.tokenizer.decode(&greedy).unwrap(), text["greedy_text"].as_str().unwrap(), "{source:?}");
        }
    }
}

#[test]
fn the_micro_model_translates_as_in_python() {
    let model = load_marian(&ModelFiles::locate(&"micro/mt-en-es".parse().unwrap()).unwrap(), cpu(), ComputeType::F32).unwrap().0;
    let want: serde_json::Value = serde_json::from_slice(&std::fs::read(fixture("micro/mt-en-es.json")).unwrap()).unwrap();
    let sentences = want["sentences"].as_array().unwrap();
    assert!(sentences.len() >= 10);
    let texts: Vec<&str> = sentences.iter().map(|s| s["text"].as_str().unwrap()).collect();
    let max = want["max_new_tokens"].as_u64().unwrap() as usize;
    for (key, beams) in [("greedy_text", 1), ("beam4_text", 4)] {
        let opts = TranslateOptions::new(Lang::EN, Lang::ES).beams(beams).max_tokens(max);
        for (found, s) in model.translate(&texts, &opts, &Job::new()).into_iter().zip(sentences) {
            let found = found.unwrap();
            assert_eq!(found.text, s[key].as_str().unwrap());
            if beams == 4 {
                assert!((found.score - s["beam4_score"].as_f64().unwrap()).abs() < 1e-4);
            }
        }
    }
}

#[test]
fn one_bad_text_does_not_lose_the_others() {
    let model = load_marian(&ModelFiles::locate(&"micro/mt-en-es".parse().unwrap()).unwrap(), cpu(), ComputeType::F32).unwrap().0;
    let long = "word ".repeat(2_000);
    let opts = TranslateOptions::new(Lang::EN, Lang::ES);
    let found = model.translate(&["Good morning.", &long, "", "I am hungry."], &opts, &Job::new());
    assert!(!found[0].as_ref().unwrap().text.is_empty() && !found[3].as_ref().unwrap().text.is_empty());
    assert_eq!(found[1].as_ref().unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert_eq!(found[2].as_ref().unwrap().text, "");
    let alternatives =
        model.translate(&["I am hungry."], &opts.clone().alternatives(2), &Job::new()).remove(0).unwrap().alternatives;
    assert_eq!(alternatives.len(), 2);
    for (opts, kind) in [
        (TranslateOptions::new(Lang::ES, Lang::EN), ErrorKind::UnsupportedLanguage),
        (opts.clone().beams(99), ErrorKind::InvalidArgument),
        (opts.clone().beams(2).alternatives(2), ErrorKind::InvalidArgument),
    ] {
        assert_eq!(model.translate(&["Hello."], &opts, &Job::new()).remove(0).unwrap_err().kind(), kind);
    }
    let job = Job::new();
    job.cancel();
    // Nobody learns any more that one of them is too long.
    let found = model.translate(&["Hello.", &long], &opts, &job);
    assert!(found.iter().all(|r| r.as_ref().err().map(Error::kind) == Some(ErrorKind::Cancelled)));
}
