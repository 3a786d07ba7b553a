//! The non-causal WaveNet of WaveGlow and Glow-TTS: gated dilated convolutions with residual and skip paths.

use super::Ctx;
use super::conv::ConvSpec;
use super::rows::RowConv;
use super::weights::Weights;
use crate::device::Use;
use crate::error::Result;

/// The shape of a [`WaveNet`].
#[derive(Clone, Copy)]
pub(crate) struct WaveNetSpec {
    pub(crate) channels: usize,
    pub(crate) layers: usize,
    pub(crate) width: usize,
    /// The dilation of layer i is the i-th power of this.
    pub(crate) dilation_rate: usize,
    /// Channels of the speaker's vector; 0 if there is none.
    pub(crate) speaker: usize,
}

pub(in crate::nn) struct WaveNet {
    layers: Vec<(RowConv, RowConv)>,
    speaker: Option<RowConv>,
    channels: usize,
}

impl WaveNet {
    pub(in crate::nn) fn load(w: &Weights, spec: WaveNetSpec) -> Result<Self> {
        let WaveNetSpec { channels: c, layers: count, width, dilation_rate, speaker } = spec;
        let mut layers = Vec::new();
        for i in 0..count {
            let dilation = dilation_rate.saturating_pow(i as u32);
            let into = RowConv::load(&w.at("in_layers").at(i), ConvSpec { dilation, ..ConvSpec::same(c, 2 * c, width) }, true)?;
            // The last layer has no residual path.
            let out = if i + 1 < count { 2 * c } else { c };
            layers.push((into, RowConv::load(&w.at("res_skip_layers").at(i), ConvSpec::same(c, out, 1), true)?));
        }
        let cond = |w: &Weights| RowConv::load(w, ConvSpec::same(speaker, 2 * c * count, 1), true);
        let speaker = if speaker > 0 { Some(cond(&w.at("cond_layer"))?) } else { None };
        Ok(Self { layers, speaker, channels: c })
    }

    /// `[t, channels]` to the same.
    pub(in crate::nn) fn apply(&self, ctx: &Ctx<'_>, mut x: Vec<f32>, speaker: Option<&[f32]>) -> Result<Vec<f32>> {
        let c = self.channels;
        let t = x.len() / c;
        // The input, the gates, what is left and what is skipped.
        let _held = ctx.take(Use::Workspace, t * 8 * c)?;
        let mut scratch = Vec::new();
        let given = match (&self.speaker, speaker) {
            (Some(cond), Some(vector)) => cond.apply(vector, &mut scratch),
            _ => Vec::new(),
        };
        let mut skip = vec![0.0; t * c];
        let mut gated = vec![0.0; t * c];
        for (i, (into, out)) in self.layers.iter().enumerate() {
            ctx.check()?;
            let mut h = into.apply(&x, &mut scratch);
            if let Some(by_layer) = given.get(i * 2 * c..(i + 1) * 2 * c) {
                h.chunks_exact_mut(2 * c).for_each(|row| row.iter_mut().zip(by_layer).for_each(|(h, g)| *h += g));
            }
            for (row, to) in h.chunks_exact(2 * c).zip(gated.chunks_exact_mut(c)) {
                let (filter, gate) = row.split_at(c);
                filter.iter().zip(gate).zip(to).for_each(|((f, g), y)| *y = gated_unit(*f, *g));
            }
            let y = out.apply(&gated, &mut scratch);
            if i + 1 < self.layers.len() {
                for ((row, x), skip) in y.chunks_exact(2 * c).zip(x.chunks_exact_mut(c)).zip(skip.chunks_exact_mut(c)) {
                    let (residual, on) = row.split_at(c);
                    x.iter_mut().zip(residual).for_each(|(x, r)| *x += r);
                    skip.iter_mut().zip(on).for_each(|(s, o)| *s += o);
                }
            } else {
                skip.iter_mut().zip(&y).for_each(|(s, o)| *s += o);
            }
        }
        Ok(skip)
    }
}

/// tanh(filter) * sigmoid(gate), both by `exp`, which is half the price of `tanh`.
fn gated_unit(filter: f32, gate: f32) -> f32 {
    // Beyond 9 tanh is 1 in f32, and the exponential would overflow.
    let e = (2.0 * filter.clamp(-9.0, 9.0)).exp();
    (e - 1.0) / ((e + 1.0) * (1.0 + (-gate).exp()))
}
