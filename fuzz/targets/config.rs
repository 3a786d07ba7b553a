//! The JSON files of models whose weights and tokens are intact: whatever they say, the model is loaded or refused.
//!
//! The first byte chooses the model. With an even second byte the rest is the text of one of its JSON files; with an odd
//! one, changes to the right files, three bytes each: which file, which key, which value. Text finds what the parsers do not
//! expect, changes what the checks behind them do not.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

macro_rules! fixture {
    ($dir:literal: $($file:literal),*) => {
        &[$(($file, include_bytes!(concat!("../../dubcore/tests/fixtures/", $dir, "/", $file)))),*]
    };
}

type Files = &'static [(&'static str, &'static [u8])];

const MODELS: [Files; 5] = [
    fixture!("whisper/a": "config.json", "generation_config.json", "preprocessor_config.json", "model.safetensors"),
    fixture!("marian/untied-swish": "config.json", "generation_config.json", "tokenizer_config.json", "model.safetensors",
        "vocab.json", "target_vocab.json", "source.spm", "target.spm"),
    fixture!("marian/shared-relu": "config.json", "generation_config.json", "tokenizer_config.json", "model.safetensors",
        "vocab.json", "source.spm", "target.spm"),
    fixture!("vits/stochastic-speakers": "config.json", "tokenizer_config.json", "model.safetensors", "vocab.json"),
    fixture!("vits/deterministic": "config.json", "tokenizer_config.json", "model.safetensors", "vocab.json"),
];

/// Stands for Whisper's, whose parsing would take most of the time.
const TOKENIZER: &[u8] = br#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "added_tokens": []}"#;

fuzz_target!(init: dubcore_fuzz::init(), |data: &[u8]| {
    let [model, way, rest @ ..] = data else { return };
    let model = MODELS[usize::from(*model) % MODELS.len()];
    let mut files: Vec<(&str, Vec<u8>)> = model.iter().map(|(name, bytes)| (*name, bytes.to_vec())).collect();
    files.push(("tokenizer.json", TOKENIZER.to_vec()));
    let jsons = model.iter().filter(|(name, _)| name.ends_with("config.json")).count();
    match way % 2 {
        0 => files[usize::from(way / 2) % jsons].1 = rest.to_vec(),
        _ => change(&mut files[..jsons], rest),
    }
    let size = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    dubcore_fuzz::run(size, 64 << 20, 64, || drop(dubcore::fuzzing::model(&files)));
});

fn change(files: &mut [(&str, Vec<u8>)], how: &[u8]) {
    let mut jsons: Vec<Value> = files.iter().map(|(_, bytes)| serde_json::from_slice(bytes).unwrap()).collect();
    for [file, key, value] in how.as_chunks::<3>().0 {
        let at = usize::from(*file) % jsons.len();
        let Some(object) = jsons[at].as_object_mut() else { continue };
        let keys: Vec<String> = object.keys().cloned().collect();
        // What decides on the parser stays: without it nothing is reached.
        let keys: Vec<_> = keys.iter().filter(|key| *key != "model_type").collect();
        if let Some(key) = keys.get(usize::from(*key) % keys.len().max(1)) {
            match object.get_mut(*key) {
                // Into lists and objects by the value's upper half.
                Some(Value::Array(list)) if *value >= 128 && !list.is_empty() => {
                    let at = usize::from(*value) % list.len();
                    list[at] = odd(value.wrapping_mul(7) % 128, &list[at]);
                }
                Some(old) => *old = odd(*value, old),
                None => {}
            }
        }
    }
    for ((_, bytes), json) in files.iter_mut().zip(jsons) {
        *bytes = json.to_string().into_bytes();
    }
}

/// A value that somebody may not have thought of.
fn odd(choice: u8, old: &Value) -> Value {
    let near = old.as_i64().unwrap_or(1);
    match choice % 40 {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(false),
        3 => json!(""),
        4 => json!("gelu"),
        5 => json!("relu"),
        6 => json!([]),
        7 => json!({}),
        8 => json!([[0, 1], [u32::MAX]]),
        9 => json!(1e308),
        10 => json!(-1.0),
        11 => json!(0.5),
        12 => json!(f64::MIN_POSITIVE),
        13 => json!(usize::MAX),
        14 => json!(i64::MAX),
        15 => json!(i64::MIN),
        16 => json!(u32::MAX),
        17 => json!(i32::MIN),
        18 => json!(1u64 << 40),
        19 => json!(1 << 22),
        20 => json!((1 << 22) + 1),
        21 => json!(1 << 16),
        22 => json!((1 << 16) - 1),
        23 => json!(near.wrapping_add(1)),
        24 => json!(near.wrapping_sub(1)),
        25 => json!(near.wrapping_mul(2)),
        26 => json!(near / 2),
        27 => json!([near, near]),
        28 => json!(vec![1; 17]),
        n => json!(n - 29),
    }
}
