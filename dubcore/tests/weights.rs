//! Weights in several files give what the same weights in one file give, to the bit, for every architecture.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::*;
use dubcore::{ErrorKind, Factory, Job, Lang, LoadOptions, ModelRef, Result, SttOptions, TranslateOptions, TtsOptions};
use safetensors::SafeTensors;
use serde_json::json;

fn fixtures(group: &str) -> Vec<PathBuf> {
    let group = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(group);
    let mut cases: Vec<_> = std::fs::read_dir(group).unwrap().map(|f| f.unwrap().path()).filter(|p| p.is_dir()).collect();
    cases.sort();
    cases
}

/// A copy of a model's directory with its weights spread over `count` files, neighbours apart.
fn sharded(dir: &Path, count: usize) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(dir).unwrap().map(|f| f.unwrap()) {
        if file.file_name() != "model.safetensors" && file.path().is_file() {
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
    }
    let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
    let whole = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = whole.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let mut weight_map = BTreeMap::new();
    for shard in 0..count {
        let name = format!("model-{:05}-of-{count:05}.safetensors", shard + 1);
        let mine: Vec<_> = tensors.iter().skip(shard).step_by(count).cloned().collect();
        assert!(!mine.is_empty());
        weight_map.extend(mine.iter().map(|(tensor, _)| (tensor.clone(), name.clone())));
        std::fs::write(copy.path().join(name), safetensors::serialize(mine, None).unwrap()).unwrap();
    }
    let index = json!({"metadata": {"total_size": bytes.len()}, "weight_map": weight_map});
    std::fs::write(copy.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    copy
}

/// What a model makes of one input, to the bit, and how many bytes its weights take.
fn result(kind: &str, dir: &Path) -> Result<(String, u64)> {
    let factory = Factory::builder().build()?;
    let (model, opts, job) = (ModelRef::directory(dir), LoadOptions::default(), Job::new());
    let made = match kind {
        "whisper" => {
            let sound = clip_audio("kitchen.wav").slice(span(0.5, 2.3));
            let heard = factory.stt(&model, &opts, &job)?.transcribe(&sound, &SttOptions::default().max_tokens(20), &job)?;
            let segment = heard.segments.first().expect("something is heard");
            format!("{} {:x}", segment.text, segment.avg_logprob.unwrap().to_bits())
        }
        "marian" => {
            let to = TranslateOptions::new(Lang::EN, Lang::ES).beams(2).max_tokens(20);
            let said = factory.translator(&model, &opts, &job)?.translate(&["The cat sat down."], &to, &job).remove(0)?;
            format!("{} {:x}", said.text, said.score.to_bits())
        }
        _ => {
            let made = factory.tts(&model, &opts, &job)?.synthesize(&["hola a ti"], &TtsOptions::default(), &job).remove(0)?;
            assert!(made.audio.len() > 100);
            format!("{:?}", made.audio.samples().iter().map(|s| s.to_bits()).collect::<Vec<_>>())
        }
    };
    Ok((made, factory.status().bytes))
}

#[test]
fn several_files_are_one_model() {
    within(300, || {
        for kind in ["whisper", "marian", "vits"] {
            let cases = fixtures(kind);
            assert!(cases.len() >= 3, "{kind}");
            for dir in cases {
                let (want, bytes) = result(kind, &dir).unwrap();
                assert!(want.len() > 8 && bytes > 1_000, "{kind}: {want}");
                for count in [1, 3] {
                    let copy = sharded(&dir, count);
                    assert_eq!(result(kind, copy.path()).unwrap(), (want.clone(), bytes), "{} in {count}", dir.display());
                }
            }
        }
    });
}

#[test]
fn embedded_models_as_several_files() {
    within(300, || {
        for (name, kind) in [("stt-en", "whisper"), ("mt-en-es", "marian"), ("tts-es", "vits")] {
            let dir = ModelCopy::new(name);
            let copy = sharded(dir.folder.path(), 4);
            assert_eq!(result(kind, copy.path()).unwrap(), result(kind, dir.folder.path()).unwrap(), "{name}");
        }
    });
}

#[test]
fn a_file_that_is_missing_is_named_and_can_be_added() {
    within(120, || {
        let copy = sharded(ModelCopy::new("tts-es").folder.path(), 3);
        let gone = copy.path().join("model-00002-of-00003.safetensors");
        let bytes = std::fs::read(&gone).unwrap();
        std::fs::remove_file(&gone).unwrap();
        let e = result("vits", copy.path()).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::ModelNotFound);
        assert!(e.to_string().contains("model-00002-of-00003.safetensors"), "{e}");
        std::fs::write(&gone, bytes).unwrap();
        result("vits", copy.path()).unwrap();
    });
}
