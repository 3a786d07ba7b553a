//! The text encoder of VITS: layers of self-attention with learned vectors for near relative positions (Shaw et al. 2018, as
//! in Glow-TTS), and a convolutional feed-forward network, each normalised after its residual.

use super::conv::ConvSpec;
use super::cpu::{Act as Fused, Conv, Cpu, End, Format, Isa, LayerNorm, Packed, Rows, Shape, Tile, softmax_rows};
use super::layers::Activation;
use super::weights::Weights;
use super::{Act, Ctx};
use crate::device::Use;
use crate::error::Result;

/// The shape of a [`TextEncoder`].
#[derive(Clone, Copy)]
pub(crate) struct RelativeSpec {
    pub(crate) channels: usize,
    pub(crate) heads: usize,
    pub(crate) layers: usize,
    /// Positions at most so far away have vectors of their own; `None` if none has.
    pub(crate) window: Option<usize>,
    /// Whether the projections have biases.
    pub(crate) bias: bool,
    pub(crate) ffn: usize,
    pub(crate) ffn_width: usize,
    pub(crate) activation: Activation,
    pub(crate) eps: f64,
    /// Channels of the prior's means, and as many of its deviations.
    pub(crate) prior: usize,
}

const SET: End = End { act: Fused::None, add: false };
const ADD: End = End { act: Fused::None, add: true };

/// It computes in f32, whatever the rest of the voice does: durations hang on it, which are rounded to whole frames.
pub(crate) struct TextEncoder {
    isa: Isa,
    layers: Vec<Layer>,
    project: Conv,
    spec: RelativeSpec,
}

struct Layer {
    /// Queries, which include the scale of the scores, keys and values.
    qkv: Packed,
    out: Packed,
    near: Option<Near>,
    norm_1: LayerNorm,
    ffn: (Conv, Conv),
    norm_2: LayerNorm,
}

/// Vectors added to keys and values, `[2 window + 1, head]`.
struct Near {
    window: usize,
    keys: Packed,
    values: Packed,
}

impl TextEncoder {
    /// Reads `encoder.layers` and `project`.
    pub(crate) fn load(w: &Weights, spec: RelativeSpec) -> Result<Self> {
        let isa = w.engine().on_processor().0;
        let project = ConvSpec::same(spec.channels, 2 * spec.prior, 1);
        let layer = |i| Layer::load(&w.at("encoder.layers").at(i), isa, spec);
        Ok(Self {
            isa,
            layers: (0..spec.layers).map(layer).collect::<Result<_>>()?,
            project: project.load(&w.at("project"), (isa, Format::F32))?,
            spec,
        })
    }

    /// What is made of one sequence `x`, `[1, tokens, channels]`, and the prior that it stands for, `[1, tokens, 2 prior]`: means
    /// and logarithms of deviations.
    pub(crate) fn forward(&self, ctx: &Ctx<'_>, x: &Act) -> Result<(Act, Act)> {
        let (_, t, c) = x.shape()?;
        let mut cpu = Cpu::new(0);
        let mut x = x.values()?;
        // Queries, keys, values and their sum; scores of a head, or the wide layer.
        let _held = ctx.take(Use::Workspace, t * (5 * c + 2 * t.max(self.spec.ffn)))?;
        for layer in &self.layers {
            ctx.check()?;
            cpu.team.refresh();
            let mut other = cpu.arena.lend::<f32>(t * c);
            other.copy_from_slice(&x);
            self.attend(ctx, &cpu, layer, &x, &mut other)?;
            layer.norm_1.forward(&cpu, Rows::dense(&other, c), Tile::dense(&mut x, c));
            let mut wide = cpu.arena.lend::<f32>(t * self.spec.ffn);
            let end = End { act: self.spec.activation.fused(), add: false };
            layer.ffn.0.forward(&cpu, Rows::dense(&x, c), Fused::None, Tile::dense(&mut wide, self.spec.ffn), end);
            other.copy_from_slice(&x);
            layer.ffn.1.forward(&cpu, Rows::dense(&wide, self.spec.ffn), Fused::None, Tile::dense(&mut other, c), ADD);
            layer.norm_2.forward(&cpu, Rows::dense(&other, c), Tile::dense(&mut x, c));
        }
        let mut prior = vec![0.0; t * 2 * self.spec.prior];
        self.project.forward(&cpu, Rows::dense(&x, c), Fused::None, Tile::dense(&mut prior, 2 * self.spec.prior), SET);
        Ok((Act::new(x, (1, t, c))?, Act::new(prior, (1, t, 2 * self.spec.prior))?))
    }

    /// Adds to `sum` what attention makes of `x`. Keys and values are packed as weights of two products.
    fn attend(&self, ctx: &Ctx<'_>, cpu: &Cpu, layer: &Layer, x: &[f32], sum: &mut [f32]) -> Result<()> {
        let (c, heads) = (self.spec.channels, self.spec.heads);
        let (t, size) = (x.len() / c, c / heads);
        let mut qkv = cpu.arena.lend::<f32>(t * 3 * c);
        layer.qkv.forward(cpu, Rows::dense(x, c), Tile::dense(&mut qkv, 3 * c), SET);
        let mut mixed = cpu.arena.lend::<f32>(t * c);
        let mut scores = cpu.arena.lend::<f32>(t * t);
        let pack = |outputs, channels, row: &(dyn Fn(usize, &mut [f32]) + Sync)| {
            Packed::new(cpu, self.isa, Format::F32, Shape { outputs, channels, taps: 1 }, None, row)
        };
        for head in 0..heads {
            ctx.check()?;
            let part = |of: usize, i: usize| &qkv[(i * 3 + of) * c + head * size..][..size];
            let keys = pack(t, size, &|i, row| row.copy_from_slice(part(1, i)));
            let values = pack(size, t, &|o, row| row.iter_mut().enumerate().for_each(|(i, v)| *v = part(2, i)[o]));
            let queries = Rows::new(&qkv[head * size..], t, size, 3 * c);
            keys.forward(cpu, queries, Tile::dense(&mut scores, t), SET);
            if let Some(Near { window, keys, .. }) = &layer.near {
                let places = 2 * window + 1;
                let mut near = cpu.arena.lend::<f32>(t * places);
                keys.forward(cpu, queries, Tile::dense(&mut near, places), SET);
                band(t, *window, |i, j, place| scores[i * t + j] += near[i * places + place]);
            }
            softmax_rows(cpu, self.isa, Tile::dense(&mut scores, t));
            let mut out = Tile::new(&mut mixed[head * size..], t, size, c);
            values.forward(cpu, Rows::dense(&scores, t), out.again(), SET);
            if let Some(Near { window, values, .. }) = &layer.near {
                let places = 2 * window + 1;
                let mut near = cpu.arena.lend::<f32>(t * places);
                near.fill(0.0);
                band(t, *window, |i, j, place| near[i * places + place] = scores[i * t + j]);
                values.forward(cpu, Rows::dense(&near, places), out, ADD);
            }
        }
        layer.out.forward(cpu, Rows::dense(&mixed, c), Tile::dense(sum, c), ADD);
        Ok(())
    }
}

impl Layer {
    fn load(w: &Weights, isa: Isa, spec: RelativeSpec) -> Result<Self> {
        let c = spec.channels;
        let size = c / spec.heads;
        let on = (isa, Format::F32);
        let attention = w.at("attention");
        let square = |name: &str| -> Result<(Vec<f32>, Vec<f32>)> {
            let w = attention.at(name);
            Ok((w.values("weight", &[c, c])?, if spec.bias { w.values("bias", &[c])? } else { vec![0.0; c] }))
        };
        let mut queries = square("q_proj")?;
        queries.0.iter_mut().chain(&mut queries.1).for_each(|v| *v *= (size as f32).powf(-0.5));
        let (weights, biases): (Vec<_>, Vec<_>) = [queries, square("k_proj")?, square("v_proj")?].into_iter().unzip();
        let (out, bias) = square("out_proj")?;
        let near = |window: usize| -> Result<Near> {
            let places = 2 * window + 1;
            let read = |name: &str| attention.values(name, &[1, places, size]);
            let (keys, values) = (read("emb_rel_k")?, read("emb_rel_v")?);
            let turned: Vec<f32> = (0..size).flat_map(|o| values.iter().skip(o).step_by(size)).copied().collect();
            let (keys, values) = ((keys, (places, size)), (turned, (size, places)));
            let pack = |(weights, size): (Vec<f32>, _)| Packed::linear(&Cpu::new(0), isa, Format::F32, &weights, None, size);
            Ok(Near { window, keys: pack(keys), values: pack(values) })
        };
        let norm = |name: &str| -> Result<LayerNorm> {
            let w = w.at(name);
            Ok(LayerNorm::new(isa, w.values("weight", &[c])?, w.values("bias", &[c])?, spec.eps as f32))
        };
        let ffn = w.at("feed_forward");
        let conv = |name: &str, from, to| ConvSpec::same(from, to, spec.ffn_width).load(&ffn.at(name), on);
        Ok(Self {
            qkv: Packed::linear(&Cpu::new(0), isa, Format::F32, &weights.concat(), Some(&biases.concat()), (3 * c, c)),
            out: Packed::linear(&Cpu::new(0), isa, Format::F32, &out, Some(&bias), (c, c)),
            near: spec.window.map(near).transpose()?,
            norm_1: norm("layer_norm")?,
            ffn: (conv("conv_1", c, spec.ffn)?, conv("conv_2", spec.ffn, c)?),
            norm_2: norm("final_layer_norm")?,
        })
    }
}

/// Calls `each` with every pair of positions at most `window` apart, and the place of their distance in the table.
fn band(t: usize, window: usize, mut each: impl FnMut(usize, usize, usize)) {
    for i in 0..t {
        for j in i.saturating_sub(window)..(i + window + 1).min(t) {
            each(i, j, j + window - i);
        }
    }
}
