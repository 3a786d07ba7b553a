//! The text encoder's layer: self-attention with learned vectors for near relative positions (Shaw et al. 2018, as in
//! Glow-TTS), and a convolutional feed-forward network, each normalised after its residual.

use candle_core::{Device, Tensor};

use super::conv::ConvSpec;
use super::layers::{Activation, LayerNorm, softmax};
use super::rows::{RowConv, Strided, product_strided, with_values};
use super::weights::Weights;
use super::{Act, Ctx};
use crate::device::Use;
use crate::error::Result;

/// The shape of a [`RelativeLayer`].
#[derive(Clone, Copy)]
pub(crate) struct RelativeSpec {
    pub(crate) channels: usize,
    pub(crate) heads: usize,
    /// Positions at most so far away have vectors of their own; `None` if none has.
    pub(crate) window: Option<usize>,
    /// Whether the projections have biases.
    pub(crate) bias: bool,
    pub(crate) ffn: usize,
    pub(crate) ffn_width: usize,
    pub(crate) activation: Activation,
    pub(crate) eps: f64,
}

pub(crate) struct RelativeLayer {
    query: RowConv,
    key: RowConv,
    value: RowConv,
    out: RowConv,
    /// Vectors added to keys and values, `[2 window + 1, head]`.
    near: Option<(Vec<f32>, Vec<f32>)>,
    norm_1: LayerNorm,
    ffn: (RowConv, RowConv),
    norm_2: LayerNorm,
    spec: RelativeSpec,
}

impl RelativeLayer {
    pub(crate) fn load(w: &Weights, spec: RelativeSpec) -> Result<Self> {
        let c = spec.channels;
        let attention = w.at("attention");
        let square = |name: &str| RowConv::linear(&attention.at(name), c, c, spec.bias);
        let near = |name: &str, window: usize| attention.values(name, &[1, 2 * window + 1, c / spec.heads]);
        let ffn = w.at("feed_forward");
        let conv = |name: &str, from, to| RowConv::load(&ffn.at(name), ConvSpec::same(from, to, spec.ffn_width), true);
        Ok(Self {
            query: square("q_proj")?,
            key: square("k_proj")?,
            value: square("v_proj")?,
            out: square("out_proj")?,
            near: spec.window.map(|n| Ok::<_, crate::Error>((near("emb_rel_k", n)?, near("emb_rel_v", n)?))).transpose()?,
            norm_1: LayerNorm::load(&w.at("layer_norm"), c, spec.eps)?,
            ffn: (conv("conv_1", c, spec.ffn)?, conv("conv_2", spec.ffn, c)?),
            norm_2: LayerNorm::load(&w.at("final_layer_norm"), c, spec.eps)?,
            spec,
        })
    }

    /// `x` is one sequence, `[1, tokens, channels]`.
    pub(crate) fn forward(&self, ctx: &Ctx<'_>, x: &Act) -> Result<Act> {
        let (_, t, c) = x.shape()?;
        // Queries, keys, values and their sum; scores before and after softmax, or the wide layer twice.
        let _held = ctx.take(Use::Workspace, t * (5 * c + 2 * t.max(self.spec.ffn)))?;
        let attended = self.attend(ctx, x)?;
        let x = self.norm_1.forward(ctx, &Act((&x.0 + attended.0)?))?;
        let h = Act(self.spec.activation.apply(&self.ffn.0.forward(ctx, &x)?.0)?);
        let h = self.ffn.1.forward(ctx, &h)?;
        self.norm_2.forward(ctx, &Act((&x.0 + h.0)?))
    }

    fn attend(&self, ctx: &Ctx<'_>, x: &Act) -> Result<Act> {
        let (_, t, c) = x.shape()?;
        let size = c / self.spec.heads;
        let mut q = self.query.forward(ctx, x)?.values()?;
        q.iter_mut().for_each(|v| *v *= (size as f32).powf(-0.5));
        let (k, v) = (self.key.forward(ctx, x)?.values()?, self.value.forward(ctx, x)?.values()?);
        let mut out = vec![0.0; t * c];
        for head in 0..self.spec.heads {
            ctx.check()?;
            let at = head * size;
            let of = |values| Strided { values: &<[f32]>::split_at(values, at).1[..(t - 1) * c + size], stride: c };
            let mut scores = vec![0.0; t * t];
            product_strided(of(&q), of(&k), true, (t, t, size), &mut scores, t);
            if let (Some((keys, _)), Some(window)) = (&self.near, self.spec.window) {
                let mut near = vec![0.0; t * (2 * window + 1)];
                let keys = Strided { values: keys, stride: size };
                product_strided(of(&q), keys, true, (t, 2 * window + 1, size), &mut near, 2 * window + 1);
                band(t, window, |i, j, place| scores[i * t + j] += near[i * (2 * window + 1) + place]);
            }
            let scores = softmax(&Tensor::from_vec(scores, (t, t), &Device::Cpu)?)?;
            with_values(&scores, |p| {
                let weights = Strided { values: p, stride: t };
                product_strided(weights, of(&v), false, (t, size, t), &mut out[at..], c);
                if let (Some((_, values)), Some(window)) = (&self.near, self.spec.window) {
                    let mut near = vec![0.0; t * (2 * window + 1)];
                    band(t, window, |i, j, place| near[i * (2 * window + 1) + place] = p[i * t + j]);
                    let (near, values) = (Strided { values: &near, stride: 2 * window + 1 }, Strided { values, stride: size });
                    product_strided(near, values, false, (t, size, 2 * window + 1), &mut out[at..], c);
                }
            })?;
        }
        self.out.forward(ctx, &Act::new(out, (1, t, c))?)
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
