//! The shape of `Helsinki-NLP/opus-mt-en-es`.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::tensors::Tensors;
use super::{Made, embedded, embedded_json, text};

const WIDTH: usize = 512;
const LAYERS: usize = 6;
const INNER: usize = 2048;
const VOCABULARY: usize = 65_001;
const PAD: usize = 65_000;
/// Every sentence has as many tokens, start and end included.
const LENGTH: usize = 10;

pub(super) fn make() -> Result<Made> {
    let mut vocabulary = embedded_json("mt-en-es", "vocab.json")?;
    let pieces = vocabulary.as_object_mut().context("vocab.json is a map")?;
    pieces.remove("<pad>");
    let word = |p: &str| p.strip_prefix('▁').is_some_and(|w| w.chars().count() > 2 && w.chars().all(|c| c.is_ascii_lowercase()));
    let words: Vec<usize> = pieces.iter().filter(|(p, _)| word(p)).filter_map(|(_, id)| Some(id.as_u64()? as usize)).collect();
    for id in pieces.len()..PAD {
        pieces.insert(format!("▁filler{id}"), id.into());
    }
    pieces.insert("<pad>".into(), PAD.into());

    let config = json!({
        "model_type": "marian", "architectures": ["MarianMTModel"], "activation_function": "swish", "d_model": WIDTH,
        "encoder_layers": LAYERS, "encoder_attention_heads": 8, "encoder_ffn_dim": INNER,
        "decoder_layers": LAYERS, "decoder_attention_heads": 8, "decoder_ffn_dim": INNER,
        "vocab_size": VOCABULARY, "decoder_vocab_size": VOCABULARY, "max_position_embeddings": 512,
        "scale_embedding": true, "static_position_embeddings": true, "normalize_before": false, "normalize_embedding": false,
        "share_encoder_decoder_embeddings": true, "tie_word_embeddings": true,
        "bos_token_id": 0, "eos_token_id": 0, "forced_eos_token_id": 0, "pad_token_id": PAD, "decoder_start_token_id": PAD,
        "bad_words_ids": [[PAD]], "num_beams": 4, "max_length": LENGTH,
    });
    let files = vec![
        ("config.json", text(&config)),
        ("tokenizer_config.json", embedded("mt-en-es", "tokenizer_config.json")?.to_vec()),
        ("vocab.json", text(&Value::Object(pieces.clone()))),
        ("source.spm", embedded("mt-en-es", "source.spm")?.to_vec()),
        ("target.spm", embedded("mt-en-es", "target.spm")?.to_vec()),
    ];
    Ok(Made { tensors: tensors(&words), files })
}

fn tensors(words: &[usize]) -> Tensors {
    let mut t = Tensors::default();
    t.random("model.shared.weight", &[VOCABULARY, WIDTH], (WIDTH as f32).powf(-0.5));
    // Nothing but words that the voice can say, and no end before the last token.
    let mut bias = vec![-1e4; VOCABULARY];
    words.iter().for_each(|id| bias[*id] = 0.0);
    t.values("final_logits_bias", &[1, VOCABULARY], bias);
    for (side, cross) in [("encoder", false), ("decoder", true)] {
        for i in 0..LAYERS {
            let layer = format!("model.{side}.layers.{i}");
            t.attention(&format!("{layer}.self_attn"), WIDTH, true);
            if cross {
                t.attention(&format!("{layer}.encoder_attn"), WIDTH, true);
            }
            t.feed_forward(&layer, WIDTH, INNER);
        }
    }
    t
}
