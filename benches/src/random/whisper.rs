//! The shape of `openai/whisper-base`.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::tensors::Tensors;
use super::{Made, embedded, embedded_json, text};

const WIDTH: usize = 512;
const LAYERS: usize = 6;
const INNER: usize = 2048;
const VOCABULARY: usize = 51_865;
const MELS: usize = 80;
const FRAMES: usize = 1500;
const POSITIONS: usize = 448;

/// Where the real vocabulary has its special tokens.
const END: usize = 50_257;
const START: usize = 50_258;
const ENGLISH: usize = 50_259;
const TRANSLATE: usize = 50_358;
const TRANSCRIBE: usize = 50_359;
const NO_SPEECH: usize = 50_362;
const NO_TIMESTAMPS: usize = 50_363;

pub(super) fn make() -> Result<Made> {
    let (tokenizer, words) = tokenizer()?;
    // Only whole words, no times and never the end: a window has as many words as tokens are asked for.
    let suppress: Vec<usize> = (0..VOCABULARY).filter(|id| !words.contains(id)).collect();
    let config = json!({
        "model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"], "activation_function": "gelu",
        "d_model": WIDTH, "encoder_layers": LAYERS, "encoder_attention_heads": 8, "encoder_ffn_dim": INNER,
        "decoder_layers": LAYERS, "decoder_attention_heads": 8, "decoder_ffn_dim": INNER, "vocab_size": VOCABULARY,
        "num_mel_bins": MELS, "max_source_positions": FRAMES, "max_target_positions": POSITIONS, "scale_embedding": false,
        "bos_token_id": END, "eos_token_id": END, "pad_token_id": END, "decoder_start_token_id": START,
    });
    let generation = json!({
        "lang_to_id": {"<|en|>": ENGLISH}, "task_to_id": {"transcribe": TRANSCRIBE, "translate": TRANSLATE},
        "no_timestamps_token_id": NO_TIMESTAMPS, "max_initial_timestamp_index": 50, "is_multilingual": true,
        "bos_token_id": END, "eos_token_id": END, "pad_token_id": END, "decoder_start_token_id": START,
        "begin_suppress_tokens": [], "suppress_tokens": suppress,
        "alignment_heads": [[3, 1], [4, 2], [4, 3], [4, 7], [5, 1], [5, 2], [5, 4], [5, 6]],
    });
    let mut pre = embedded_json("stt-en", "preprocessor_config.json")?;
    for (key, value) in [("chunk_length", 30), ("n_samples", 480_000), ("nb_max_frames", 2 * FRAMES)] {
        pre[key] = value.into();
    }
    let files = vec![
        ("config.json", text(&config)),
        ("generation_config.json", text(&generation)),
        ("preprocessor_config.json", text(&pre)),
        ("tokenizer.json", text(&tokenizer)),
    ];
    Ok(Made { tensors: tensors(), files })
}

fn tensors() -> Tensors {
    let mut t = Tensors::default();
    t.conv("model.encoder.conv1", (WIDTH, MELS, 3), 1.0);
    t.conv("model.encoder.conv2", (WIDTH, WIDTH, 3), 1.0);
    t.random("model.encoder.embed_positions.weight", &[FRAMES, WIDTH], 0.5);
    t.random("model.decoder.embed_tokens.weight", &[VOCABULARY, WIDTH], 0.05);
    t.random("model.decoder.embed_positions.weight", &[POSITIONS, WIDTH], 0.05);
    for (side, cross) in [("encoder", false), ("decoder", true)] {
        for i in 0..LAYERS {
            let layer = format!("model.{side}.layers.{i}");
            t.attention(&format!("{layer}.self_attn"), WIDTH, false);
            if cross {
                t.attention(&format!("{layer}.encoder_attn"), WIDTH, false);
            }
            t.feed_forward(&layer, WIDTH, INNER);
        }
        t.norm(&format!("model.{side}.layer_norm"), WIDTH);
    }
    t
}

/// The embedded recogniser's tokenizer, filled up, with the special tokens where the real one has them; and which tokens
/// are whole words.
fn tokenizer() -> Result<(Value, Vec<usize>)> {
    let mut tokenizer: Value = serde_json::from_slice(embedded("stt-en", "tokenizer.json")?)?;
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().context("tokenizer.json has no vocabulary")?;
    let known = vocabulary.len();
    // "Ġ" is how byte-level BPE writes the space before a word.
    let word = |token: &str| token.strip_prefix('Ġ').is_some_and(|w| w.len() > 1 && w.chars().all(|c| c.is_ascii_lowercase()));
    let words = vocabulary.iter().filter(|(t, _)| word(t)).filter_map(|(_, id)| Some(id.as_u64()? as usize)).collect();
    let fillers: Map<String, Value> = (known..END).map(|id| (format!("Ġfiller{id}"), id.into())).collect();
    vocabulary.extend(fillers);

    let mut added = vec![
        (END, "<|endoftext|>".to_string(), true),
        (START, "<|startoftranscript|>".into(), true),
        (ENGLISH, "<|en|>".into(), true),
        (TRANSLATE, "<|translate|>".into(), true),
        (TRANSCRIBE, "<|transcribe|>".into(), true),
        (NO_SPEECH, "<|nospeech|>".into(), true),
        (NO_TIMESTAMPS, "<|notimestamps|>".into(), true),
    ];
    let other = |id: &usize| !added.iter().any(|a| a.0 == *id);
    let unnamed: Vec<_> = (END..=NO_TIMESTAMPS).filter(other).map(|id| (id, format!("<|{id}|>"), true)).collect();
    added.extend(unnamed);
    added.extend((NO_TIMESTAMPS + 1..VOCABULARY).map(|id| {
        let ticks = id - NO_TIMESTAMPS - 1;
        (id, format!("<|{}.{:02}|>", ticks / 50, ticks % 50 * 2), false)
    }));
    added.sort();
    let entry = |(id, content, special): &(usize, String, bool)| json!({"id": id, "content": content, "special": special, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false});
    tokenizer["added_tokens"] = added.iter().map(entry).collect();
    // It names special tokens by number, and texts are never encoded.
    tokenizer["post_processor"] = Value::Null;
    Ok((tokenizer, words))
}
