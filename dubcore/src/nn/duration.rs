//! Duration predictors of VITS: how many frames each token takes, as a logarithm.

use super::conv::ConvSpec;
use super::elementwise::add;
use super::layers::{Activation, LayerNorm};
use super::rows::RowConv;
use super::spline::Spline;
use super::weights::Weights;
use super::{Act, Ctx};
use crate::error::{Error, ErrorKind, Result};

/// The deterministic predictor of FastSpeech: two convolutions and a projection.
pub(crate) struct DurationPredictor {
    convs: Vec<(RowConv, LayerNorm)>,
    project: RowConv,
    speaker: Option<RowConv>,
}

impl DurationPredictor {
    /// Over `channels`, with `filters` inside; `speaker` channels of the speaker's vector, 0 for none.
    pub(crate) fn load(w: &Weights, (channels, filters, speaker): (usize, usize, usize), width: usize, eps: f64) -> Result<Self> {
        let conv = |i: usize, from| -> Result<_> {
            let conv = RowConv::load(&w.at(format!("conv_{i}")), ConvSpec::same(from, filters, width), true)?;
            Ok((conv, LayerNorm::load(&w.at(format!("norm_{i}")), filters, eps)?))
        };
        let cond = |w: &Weights| RowConv::load(w, ConvSpec::same(speaker, channels, 1), true);
        Ok(Self {
            convs: vec![conv(1, channels)?, conv(2, filters)?],
            project: RowConv::load(&w.at("proj"), ConvSpec::same(filters, 1, 1), true)?,
            speaker: if speaker > 0 { Some(cond(&w.at("cond"))?) } else { None },
        })
    }

    /// The logarithm of each token's duration, for `x` `[1, tokens, channels]`.
    pub(crate) fn forward(&self, ctx: &Ctx<'_>, x: &Act, speaker: Option<&Act>) -> Result<Vec<f32>> {
        let mut x = condition(ctx, x.clone(), self.speaker.as_ref(), speaker)?;
        for (conv, norm) in &self.convs {
            let h = Activation::Relu.apply(&conv.forward(ctx, &x)?.0)?;
            x = norm.forward(ctx, &Act(h))?;
        }
        self.project.forward(ctx, &x)?.values()
    }
}

/// The shape of a [`StochasticDurationPredictor`].
#[derive(Clone, Copy)]
pub(crate) struct StochasticSpec {
    pub(crate) channels: usize,
    /// Taps of the depth-separable convolutions; the dilation of layer i is its i-th power.
    pub(crate) width: usize,
    /// Layers of a depth-separable stack.
    pub(crate) layers: usize,
    pub(crate) flows: usize,
    pub(crate) bins: usize,
    pub(crate) bound: f32,
    /// Channels of the speaker's vector; 0 if there is none.
    pub(crate) speaker: usize,
}

/// The flow-based predictor of VITS, run backwards: noise becomes a natural rhythm.
pub(crate) struct StochasticDurationPredictor {
    pre: RowConv,
    speaker: Option<RowConv>,
    context: DepthSeparable,
    project: RowConv,
    /// Translation and logarithm of scale of the two latent channels.
    affine: [(f32, f32); 2],
    flows: Vec<ConvFlow>,
}

impl StochasticDurationPredictor {
    pub(crate) fn load(w: &Weights, spec: StochasticSpec) -> Result<Self> {
        if !(1..=Spline::MAX_BINS).contains(&spec.bins) {
            let what = format!("duration_predictor_flow_bins {} of config.json is outside 1..={}", spec.bins, Spline::MAX_BINS);
            return Err(Error::new(ErrorKind::ModelCorrupt, what));
        }
        let c = spec.channels;
        let square = |name: &str| RowConv::load(&w.at(name), ConvSpec::same(c, c, 1), true);
        let cond = |w: &Weights| RowConv::load(w, ConvSpec::same(spec.speaker, c, 1), true);
        let first = w.at("flows").at(0);
        let (shift, scale) = (first.values("translate", &[2, 1])?, first.values("log_scale", &[2, 1])?);
        // Flow 0 is the affine one. The reference skips flow 1 when it runs backwards: it changes only the channel that
        // is thrown away.
        let mut flows = Vec::new();
        for i in 2..=spec.flows {
            flows.push(ConvFlow::load(&w.at("flows").at(i), spec)?);
        }
        Ok(Self {
            pre: square("conv_pre")?,
            speaker: if spec.speaker > 0 { Some(cond(&w.at("cond"))?) } else { None },
            context: DepthSeparable::load(&w.at("conv_dds"), spec)?,
            project: square("conv_proj")?,
            affine: [(shift[0], scale[0]), (shift[1], scale[1])],
            flows,
        })
    }

    /// The logarithm of each token's duration, for `x` `[1, tokens, channels]` and `noise` `[2, tokens]`, already scaled.
    pub(crate) fn forward(&self, ctx: &Ctx<'_>, x: &Act, speaker: Option<&Act>, noise: &[f32]) -> Result<Vec<f32>> {
        let (_, tokens, _) = x.shape()?;
        if noise.len() != 2 * tokens {
            return Err(Error::internal("noise does not fit the text"));
        }
        let h = condition(ctx, self.pre.forward(ctx, x)?, self.speaker.as_ref(), speaker)?;
        let h = self.project.forward(ctx, &self.context.forward(ctx, h)?)?;
        let (mut first, mut second) = (noise[..tokens].to_vec(), noise[tokens..].to_vec());
        for flow in self.flows.iter().rev() {
            std::mem::swap(&mut first, &mut second);
            flow.reverse(ctx, &first, &mut second, &h)?;
        }
        // The last flip brings `second` to the front, where the affine flow's first channel undoes its scale.
        let (shift, log_scale) = self.affine[0];
        Ok(second.into_iter().map(|z| (z - shift) * (-log_scale).exp()).collect())
    }
}

/// One coupling layer whose transformation is a spline.
struct ConvFlow {
    pre: RowConv,
    stack: DepthSeparable,
    project: RowConv,
    spec: StochasticSpec,
}

impl ConvFlow {
    fn load(w: &Weights, spec: StochasticSpec) -> Result<Self> {
        Ok(Self {
            pre: RowConv::load(&w.at("conv_pre"), ConvSpec::same(1, spec.channels, 1), true)?,
            stack: DepthSeparable::load(&w.at("conv_dds"), spec)?,
            project: RowConv::load(&w.at("conv_proj"), ConvSpec::same(spec.channels, 3 * spec.bins - 1, 1), true)?,
            spec,
        })
    }

    /// Undoes what the flow did to `second`, knowing `first`.
    fn reverse(&self, ctx: &Ctx<'_>, first: &[f32], second: &mut [f32], context: &Act) -> Result<()> {
        let x = Act::new(first.to_vec(), (1, first.len(), 1))?;
        let x = Act((self.pre.forward(ctx, &x)?.0 + &context.0)?);
        let raw = self.project.forward(ctx, &self.stack.forward(ctx, x)?)?.values()?;
        let StochasticSpec { bins, channels, bound, .. } = self.spec;
        let scale = (channels as f32).sqrt();
        for (row, z) in raw.chunks_exact(3 * bins - 1).zip(second) {
            let scaled = |part: &[f32]| part.iter().map(|v| v / scale).collect::<Vec<_>>();
            let (widths, heights) = (scaled(&row[..bins]), scaled(&row[bins..2 * bins]));
            *z = Spline { widths: &widths, heights: &heights, derivatives: &row[2 * bins..], bound }.inverse(*z);
        }
        Ok(())
    }
}

/// A residual stack of dilated depth-wise and point-wise convolutions.
struct DepthSeparable(Vec<DepthSeparableLayer>);

struct DepthSeparableLayer {
    /// `[taps, channels]`.
    depthwise: Vec<f32>,
    bias: Vec<f32>,
    dilation: usize,
    norm_1: LayerNorm,
    pointwise: RowConv,
    norm_2: LayerNorm,
}

impl DepthSeparable {
    fn load(w: &Weights, StochasticSpec { channels: c, width, layers, .. }: StochasticSpec) -> Result<Self> {
        // PyTorch's default, which the reference leaves as it is.
        let norm = |name: &str, i: usize| LayerNorm::load(&w.at(name).at(i), c, 1e-5);
        let mut stack = Vec::new();
        for i in 0..layers {
            let stored = w.at("convs_dilated").at(i).values("weight", &[c, 1, width])?;
            stack.push(DepthSeparableLayer {
                depthwise: (0..width * c).map(|j| stored[j % c * width + j / c]).collect(),
                bias: w.at("convs_dilated").at(i).values("bias", &[c])?,
                dilation: width.saturating_pow(i as u32),
                norm_1: norm("norms_1", i)?,
                pointwise: RowConv::load(&w.at("convs_pointwise").at(i), ConvSpec::same(c, c, 1), true)?,
                norm_2: norm("norms_2", i)?,
            });
        }
        Ok(Self(stack))
    }

    fn forward(&self, ctx: &Ctx<'_>, mut x: Act) -> Result<Act> {
        for layer in &self.0 {
            let h = layer.norm_1.forward(ctx, &layer.depthwise(&x)?)?;
            let h = layer.pointwise.forward(ctx, &Act(Activation::Gelu.apply(&h.0)?))?;
            let h = Activation::Gelu.apply(&layer.norm_2.forward(ctx, &h)?.0)?;
            x = Act((x.0 + h)?);
        }
        Ok(x)
    }
}

impl DepthSeparableLayer {
    fn depthwise(&self, x: &Act) -> Result<Act> {
        let c = self.bias.len();
        let shape = x.shape()?;
        let x = x.values()?;
        let t = x.len() / c;
        let left = (self.depthwise.len() / c - 1) * self.dilation / 2;
        let mut out = self.bias.repeat(t);
        for (row, to) in out.chunks_exact_mut(c).enumerate() {
            for (k, kernel) in self.depthwise.chunks_exact(c).enumerate() {
                let Some(from) = (row + k * self.dilation).checked_sub(left).filter(|r| *r < t) else { continue };
                let from = &x[from * c..(from + 1) * c];
                to.iter_mut().zip(from.iter().zip(kernel)).for_each(|(y, (x, w))| *y += x * w);
            }
        }
        Act::new(out, shape)
    }
}

/// `x` plus the projection of the speaker's vector, in each step.
fn condition(ctx: &Ctx<'_>, x: Act, project: Option<&RowConv>, speaker: Option<&Act>) -> Result<Act> {
    match (project, speaker) {
        (Some(project), Some(vector)) => Ok(Act(add(&x.0, &project.forward(ctx, vector)?.0)?)),
        _ => Ok(x),
    }
}
