//! The engines beside one another, on weights that nobody trained.

use safetensors::tensor::{Dtype, TensorView};

use super::*;
use crate::nn::cpu::{Format, Isa};
use crate::runtime::Job;

const VOCABULARY: usize = 61;

/// Weights of both sides, and the embeddings.
fn weights(s: &Shape) -> Weights {
    let mut tensors: Vec<(String, Vec<usize>)> = Vec::new();
    let mut linear = |name: String, outputs: usize, inputs: usize, bias: bool| {
        tensors.push((format!("{name}.weight"), vec![outputs, inputs]));
        if bias {
            tensors.push((format!("{name}.bias"), vec![outputs]));
        }
    };
    let mut norms = Vec::new();
    for side in ["encoder", "decoder"] {
        for i in 0..s.layers {
            let at = |name: &str| format!("{side}.layers.{i}.{name}");
            let blocks: &[&str] = if side == "encoder" { &["self_attn"] } else { &["self_attn", "encoder_attn"] };
            for block in blocks {
                for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                    linear(at(&format!("{block}.{part}")), s.width, s.width, part != "k_proj" || s.key_bias);
                }
                norms.push(at(&format!("{block}_layer_norm")));
            }
            linear(at("fc1"), s.ffn, s.width, true);
            linear(at("fc2"), s.width, s.ffn, true);
            norms.push(at("final_layer_norm"));
        }
        norms.push(format!("{side}.layer_norm"));
    }
    linear("tokens".into(), VOCABULARY, s.width, false);
    linear("positions".into(), 40, s.width, false);
    for norm in norms {
        tensors.push((format!("{norm}.weight"), vec![s.width]));
        tensors.push((format!("{norm}.bias"), vec![s.width]));
    }
    let mut seed = 1u32;
    let mut bytes: Vec<Vec<u8>> = Vec::new();
    for (_, shape) in &tensors {
        let count: usize = shape.iter().product();
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        bytes.push((0..count).flat_map(|_| (next() * 0.4).to_le_bytes()).collect());
    }
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape), bytes)| (name.clone(), TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    Weights::parse("x", safetensors::serialize(views, None).unwrap().into()).unwrap()
}

fn shape(norm_first: bool, activation: Activation) -> Shape {
    Shape { width: 40, heads: 2, ffn: 72, layers: 2, activation, norm_first, key_bias: !norm_first }
}

/// The encoder's output, then the logits of: three rows with a prompt of two tokens, after rows were doubled and traded, and of
/// a second try on two rows of one sequence.
fn outputs(engine: Engine, s: &Shape) -> Vec<Vec<f32>> {
    let w = weights(s).on(engine);
    let encoder = Encoder::load(&w.at("encoder"), s).unwrap();
    let tokens = Embedding::vocabulary(&w.at("tokens"), VOCABULARY, s.width, 1.0).unwrap();
    let positions = Embedding::load(&w.at("positions"), 40, s.width, 1.0).unwrap();
    let bias = Some((0..VOCABULARY).map(|i| i as f32 / 50.0).collect());
    let decoder = Decoder::load(&w.at("decoder"), s, tokens.clone(), positions.clone(), (&tokens, bias)).unwrap();
    crate::nn::run(&Job::new(), crate::device::cpu(), |ctx| {
        let lengths = [7, 3, 5];
        let input: Vec<Vec<u32>> = (0..3).map(|r| (0..7).map(|i| r * 9 + i * 5).collect()).collect();
        let padding = Padding::new(&lengths, 7);
        let x = positions.add_positions(&tokens.lookup(&input)?, 0)?;
        let encoded = encoder.forward(ctx, &x, padding.as_ref())?;
        let mut out = Vec::new();
        for (row, length) in encoded.values()?.chunks(7 * s.width).zip(lengths) {
            out.push(row[..length * s.width].to_vec());
        }
        let mut session = decoder.start(ctx, &encoded, padding)?;
        let logits = |session: &mut Session<'_>, tokens: &[Vec<u32>]| -> Result<Vec<Vec<f32>>> {
            let mut logits = Vec::new();
            session.step(ctx, tokens, &mut logits)?;
            Ok(logits.chunks_exact(VOCABULARY).map(<[f32]>::to_vec).collect())
        };
        out.extend(logits(&mut session, &[vec![1, 2], vec![3, 4], vec![5, 6]])?);
        session.select(&[0, 0, 1, 1, 2])?;
        for step in 0..34u32 {
            let feed: Vec<Vec<u32>> = (0..5).map(|r| vec![(step * 7 + r * 3) % VOCABULARY as u32]).collect();
            out.extend(logits(&mut session, &feed)?);
            session.select(if step % 2 == 0 { &[1, 0, 2, 2, 4] } else { &[0, 0, 3, 2, 4] })?;
        }
        session.select(&[2, 3])?;
        out.extend(logits(&mut session, &[vec![8], vec![9]])?);
        session.restart(&[1, 1])?;
        out.extend(logits(&mut session, &[vec![1, 2, 3], vec![1, 5, 3]])?);
        session.select(&[1])?;
        out.extend(logits(&mut session, &[vec![8]])?);
        session.restart(&[0, 1, 2])?;
        out.extend(
            session.all_logits(ctx, &[vec![1, 2], vec![3, 4], vec![5, 6]])?.values()?.chunks(VOCABULARY).map(<[f32]>::to_vec),
        );
        Ok(out)
    })
    .unwrap()
}

#[test]
fn engines_agree() {
    for (norm_first, activation) in [(true, Activation::Gelu), (false, Activation::Silu)] {
        let s = shape(norm_first, activation);
        let want = outputs(Engine::Candle, &s);
        for isa in Isa::all() {
            for (format, bound) in [(Format::F32, 2e-4), (Format::Bf16, 0.2), (Format::Int8, 0.6)] {
                let got = outputs(Engine::Cpu(isa, format), &s);
                assert_eq!(got.len(), want.len());
                for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                    let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(got.len() == want.len() && worst < bound, "{isa:?} {format:?} {norm_first}: {i} is off by {worst}");
                }
            }
        }
    }
}
