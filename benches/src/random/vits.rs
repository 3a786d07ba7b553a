//! The shape of `facebook/mms-tts-spa`, with the parts that only training needs.

use anyhow::Result;
use serde_json::json;

use super::tensors::Tensors;
use super::{Made, embedded, embedded_json, text};

const WIDTH: usize = 192;
const LAYERS: usize = 6;
const HEADS: usize = 2;
const INNER: usize = 768;
const WINDOW: usize = 4;
const FLOWS: usize = 4;
const WAVENET: usize = 4;
const POSTERIOR_WAVENET: usize = 16;
const BINS: usize = 10;
const SPECTRUM: usize = 513;
const CHANNELS: usize = 512;
const RATES: [usize; 4] = [8, 8, 2, 2];
const WIDTHS: [usize; 4] = [16, 16, 4, 4];
const BLOCKS: [usize; 3] = [3, 7, 11];
const DILATIONS: [usize; 3] = [1, 3, 5];

/// Frames of a token, rounded up when spoken: with a blank before each letter that makes some 15 letters a second.
const FRAMES: f32 = 1.8;
/// How far the noise of the rhythm moves their logarithm.
const SPREAD: f32 = 0.1;

pub(super) fn make() -> Result<Made> {
    let vocabulary = embedded_json("tts-es", "vocab.json")?;
    let letters = vocabulary.as_object().map_or(0, |v| v.len());
    let config = json!({
        "model_type": "vits", "architectures": ["VitsModel"], "vocab_size": letters, "pad_token_id": 0,
        "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "window_size": WINDOW,
        "use_bias": true, "ffn_dim": INNER, "ffn_kernel_size": 3, "flow_size": WIDTH, "hidden_act": "relu",
        "layer_norm_eps": 1e-5, "spectrogram_bins": SPECTRUM, "num_speakers": 1, "speaker_embedding_size": 0,
        "use_stochastic_duration_prediction": true, "depth_separable_channels": 2, "depth_separable_num_layers": 3,
        "duration_predictor_flow_bins": BINS, "duration_predictor_tail_bound": 5.0, "duration_predictor_kernel_size": 3,
        "duration_predictor_num_flows": FLOWS, "duration_predictor_filter_channels": 256,
        "prior_encoder_num_flows": FLOWS, "prior_encoder_num_wavenet_layers": WAVENET,
        "posterior_encoder_num_wavenet_layers": POSTERIOR_WAVENET, "wavenet_kernel_size": 5, "wavenet_dilation_rate": 1,
        "upsample_initial_channel": CHANNELS, "upsample_rates": RATES, "upsample_kernel_sizes": WIDTHS,
        "resblock_kernel_sizes": BLOCKS, "resblock_dilation_sizes": vec![DILATIONS; 3], "leaky_relu_slope": 0.1,
        "sampling_rate": 16_000, "speaking_rate": 1.0, "noise_scale": 0.667, "noise_scale_duration": 0.8,
    });
    let files = vec![
        ("config.json", text(&config)),
        ("tokenizer_config.json", embedded("tts-es", "tokenizer_config.json")?.to_vec()),
        ("vocab.json", text(&vocabulary)),
    ];
    let mut t = Tensors::default();
    text_encoder(&mut t, letters);
    duration_predictor(&mut t);
    for i in 0..FLOWS {
        let name = format!("flow.flows.{i}");
        t.conv(&format!("{name}.conv_pre"), (WIDTH, WIDTH / 2, 1), 1.0);
        wavenet(&mut t, &format!("{name}.wavenet"), WAVENET);
        t.conv(&format!("{name}.conv_post"), (WIDTH / 2, WIDTH, 1), 0.5);
    }
    t.conv("posterior_encoder.conv_pre", (WIDTH, SPECTRUM, 1), 1.0);
    wavenet(&mut t, "posterior_encoder.wavenet", POSTERIOR_WAVENET);
    t.conv("posterior_encoder.conv_proj", (2 * WIDTH, WIDTH, 1), 1.0);
    decoder(&mut t);
    Ok(Made { tensors: t, files })
}

fn text_encoder(t: &mut Tensors, letters: usize) {
    t.random("text_encoder.embed_tokens.weight", &[letters, WIDTH], (WIDTH as f32).powf(-0.5));
    for i in 0..LAYERS {
        let layer = format!("text_encoder.encoder.layers.{i}");
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            t.linear(&format!("{layer}.attention.{part}"), WIDTH, WIDTH, true);
        }
        for part in ["emb_rel_k", "emb_rel_v"] {
            t.random(format!("{layer}.attention.{part}"), &[1, 2 * WINDOW + 1, WIDTH / HEADS], 0.1);
        }
        t.conv(&format!("{layer}.feed_forward.conv_1"), (INNER, WIDTH, 3), 1.0);
        t.conv(&format!("{layer}.feed_forward.conv_2"), (WIDTH, INNER, 3), 1.0);
        t.norm(&format!("{layer}.layer_norm"), WIDTH);
        t.norm(&format!("{layer}.final_layer_norm"), WIDTH);
    }
    // Means and log deviations stay near zero.
    t.conv("text_encoder.project", (2 * WIDTH, WIDTH, 1), 0.3);
}

fn duration_predictor(t: &mut Tensors) {
    let name = "duration_predictor";
    for part in ["conv_pre", "conv_proj"] {
        t.conv(&format!("{name}.{part}"), (WIDTH, WIDTH, 1), 1.0);
    }
    t.conv(&format!("{name}.post_conv_pre"), (WIDTH, 1, 1), 1.0);
    t.conv(&format!("{name}.post_conv_proj"), (WIDTH, WIDTH, 1), 1.0);
    depth_separable(t, &format!("{name}.conv_dds"));
    depth_separable(t, &format!("{name}.post_conv_dds"));
    for flows in ["flows", "post_flows"] {
        // Run backwards, (z - translate) / e^log_scale of noise around zero is the logarithm of a duration.
        t.same(format!("{name}.{flows}.0.log_scale"), &[2, 1], -SPREAD.ln());
        t.same(format!("{name}.{flows}.0.translate"), &[2, 1], -FRAMES.ln() / SPREAD);
        for i in 1..=FLOWS {
            let flow = format!("{name}.{flows}.{i}");
            t.conv(&format!("{flow}.conv_pre"), (WIDTH, 1, 1), 1.0);
            depth_separable(t, &format!("{flow}.conv_dds"));
            t.conv(&format!("{flow}.conv_proj"), (3 * BINS - 1, WIDTH, 1), 1.0);
        }
    }
}

fn depth_separable(t: &mut Tensors, name: &str) {
    for i in 0..3 {
        t.conv(&format!("{name}.convs_dilated.{i}"), (WIDTH, 1, 3), 1.0);
        t.conv(&format!("{name}.convs_pointwise.{i}"), (WIDTH, WIDTH, 1), 1.0);
        t.norm(&format!("{name}.norms_1.{i}"), WIDTH);
        t.norm(&format!("{name}.norms_2.{i}"), WIDTH);
    }
}

fn wavenet(t: &mut Tensors, name: &str, layers: usize) {
    // Stored as magnitude and direction.
    let mut normed = |name: String, output: usize, width: usize| {
        t.same(format!("{name}.weight_g"), &[output, 1, 1], 1.0);
        t.random(format!("{name}.weight_v"), &[output, WIDTH, width], 1.0);
        t.random(format!("{name}.bias"), &[output], 0.02);
    };
    for i in 0..layers {
        normed(format!("{name}.in_layers.{i}"), 2 * WIDTH, 5);
        normed(format!("{name}.res_skip_layers.{i}"), if i + 1 < layers { 2 * WIDTH } else { WIDTH }, 1);
    }
}

fn decoder(t: &mut Tensors) {
    t.conv("decoder.conv_pre", (CHANNELS, WIDTH, 7), 1.0);
    for (i, (rate, width)) in RATES.into_iter().zip(WIDTHS).enumerate() {
        let (from, to) = (CHANNELS >> i, CHANNELS >> (i + 1));
        // A step of the output is made of width / rate steps of the input.
        let name = format!("decoder.upsampler.{i}");
        t.random(format!("{name}.weight"), &[from, to, width], ((from * width / rate) as f32).powf(-0.5));
        t.random(format!("{name}.bias"), &[to], 0.02);
        for (j, width) in BLOCKS.into_iter().enumerate() {
            for (k, convs) in (0..DILATIONS.len()).flat_map(|k| [(k, "convs1"), (k, "convs2")]) {
                t.conv(&format!("decoder.resblocks.{}.{convs}.{k}", i * BLOCKS.len() + j), (to, to, width), 0.5);
            }
        }
    }
    t.random("decoder.conv_post.weight", &[1, CHANNELS >> RATES.len(), 7], 0.1);
}
