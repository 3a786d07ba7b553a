//! Duration predictors of VITS: how many frames each token takes, as a logarithm.

use super::conv::ConvSpec;
use super::cpu::{Act as Fused, Conv, Cpu, End, Format, Isa, LayerNorm, Rows, Tile};
use super::spline::Spline;
use super::weights::Weights;
use super::{Act, Ctx};
use crate::device::Use;
use crate::error::{Error, ErrorKind, Result};

const SET: End = End { act: Fused::None, add: false };
const RELU: End = End { act: Fused::Relu, add: false };
const GELU: End = End { act: Fused::Gelu, add: false };

// Both compute in f32, whatever the rest of the voice does: a duration is rounded to whole frames.

/// The convolution of all `x`, `[tokens, channels]`.
fn conv(cpu: &Cpu, conv: &Conv, x: &[f32], end: End) -> Vec<f32> {
    let tokens = x.len() / conv.channels();
    let mut out = vec![0.0; tokens * conv.outputs()];
    conv.forward(cpu, Rows::dense(x, conv.channels()), Fused::None, Tile::dense(&mut out, conv.outputs()), end);
    out
}

fn norm(w: &Weights, isa: Isa, channels: usize, eps: f64) -> Result<LayerNorm> {
    Ok(LayerNorm::new(isa, w.values("weight", &[channels])?, w.values("bias", &[channels])?, eps as f32))
}

/// The deterministic predictor of FastSpeech: two convolutions and a projection.
pub(crate) struct DurationPredictor {
    convs: Vec<(Conv, LayerNorm)>,
    project: Conv,
    speaker: Option<Conv>,
}

impl DurationPredictor {
    /// Over `channels`, with `filters` inside; `speaker` channels of the speaker's vector, 0 for none.
    pub(crate) fn load(w: &Weights, (channels, filters, speaker): (usize, usize, usize), width: usize, eps: f64) -> Result<Self> {
        let isa = w.engine().on_processor().0;
        let on = (isa, Format::F32);
        let layer = |i: usize, from| -> Result<_> {
            let conv = ConvSpec::same(from, filters, width).load(&w.at(format!("conv_{i}")), on)?;
            Ok((conv, norm(&w.at(format!("norm_{i}")), isa, filters, eps)?))
        };
        let cond = |w: &Weights| ConvSpec::same(speaker, channels, 1).load(w, on);
        Ok(Self {
            convs: vec![layer(1, channels)?, layer(2, filters)?],
            project: ConvSpec::same(filters, 1, 1).load(&w.at("proj"), on)?,
            speaker: if speaker > 0 { Some(cond(&w.at("cond"))?) } else { None },
        })
    }

    /// The logarithm of each token's duration, for `x` `[1, tokens, channels]`.
    pub(crate) fn forward(&self, ctx: &Ctx<'_>, x: &Act, speaker: Option<&Act>) -> Result<Vec<f32>> {
        let cpu = Cpu::new(0);
        let mut x = x.values()?;
        condition(&cpu, &mut x, self.speaker.as_ref(), speaker)?;
        for (layer, norm) in &self.convs {
            ctx.check()?;
            let h = conv(&cpu, layer, &x, RELU);
            x.resize(h.len(), 0.0);
            norm.forward(&cpu, Rows::dense(&h, layer.outputs()), Tile::dense(&mut x, layer.outputs()));
        }
        Ok(conv(&cpu, &self.project, &x, SET))
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
    pre: Conv,
    speaker: Option<Conv>,
    context: DepthSeparable,
    project: Conv,
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
        let isa = w.engine().on_processor().0;
        let on = (isa, Format::F32);
        let square = |name: &str| ConvSpec::same(c, c, 1).load(&w.at(name), on);
        let cond = |w: &Weights| ConvSpec::same(spec.speaker, c, 1).load(w, on);
        let first = w.at("flows").at(0);
        let (shift, scale) = (first.values("translate", &[2, 1])?, first.values("log_scale", &[2, 1])?);
        // Flow 0 is the affine one. The reference skips flow 1 when it runs backwards: it changes only the channel that
        // is thrown away.
        let mut flows = Vec::new();
        for i in 2..=spec.flows {
            flows.push(ConvFlow::load(&w.at("flows").at(i), isa, spec)?);
        }
        Ok(Self {
            pre: square("conv_pre")?,
            speaker: if spec.speaker > 0 { Some(cond(&w.at("cond"))?) } else { None },
            context: DepthSeparable::load(&w.at("conv_dds"), isa, spec)?,
            project: square("conv_proj")?,
            affine: [(shift[0], scale[0]), (shift[1], scale[1])],
            flows,
        })
    }

    /// The logarithm of each token's duration, for `x` `[1, tokens, channels]` and `noise` `[2, tokens]`, already scaled.
    pub(crate) fn forward(&self, ctx: &Ctx<'_>, x: &Act, speaker: Option<&Act>, noise: &[f32]) -> Result<Vec<f32>> {
        let (_, tokens, channels) = x.shape()?;
        if noise.len() != 2 * tokens {
            return Err(Error::internal("noise does not fit the text"));
        }
        // What a layer is given and makes, and the context.
        let _held = ctx.take(Use::Workspace, 5 * tokens * channels)?;
        let mut cpu = Cpu::new(0);
        let mut h = conv(&cpu, &self.pre, &x.values()?, SET);
        condition(&cpu, &mut h, self.speaker.as_ref(), speaker)?;
        self.context.forward(ctx, &cpu, &mut h)?;
        let context = conv(&cpu, &self.project, &h, SET);
        let (mut first, mut second) = (noise[..tokens].to_vec(), noise[tokens..].to_vec());
        for flow in self.flows.iter().rev() {
            cpu.team.refresh();
            std::mem::swap(&mut first, &mut second);
            flow.reverse(ctx, &cpu, &first, &mut second, &context)?;
        }
        // The last flip brings `second` to the front, where the affine flow's first channel undoes its scale.
        let (shift, log_scale) = self.affine[0];
        Ok(second.into_iter().map(|z| (z - shift) * (-log_scale).exp()).collect())
    }
}

/// One coupling layer whose transformation is a spline.
struct ConvFlow {
    pre: Conv,
    stack: DepthSeparable,
    project: Conv,
    spec: StochasticSpec,
}

impl ConvFlow {
    fn load(w: &Weights, isa: Isa, spec: StochasticSpec) -> Result<Self> {
        let on = (isa, Format::F32);
        Ok(Self {
            pre: ConvSpec::same(1, spec.channels, 1).load(&w.at("conv_pre"), on)?,
            stack: DepthSeparable::load(&w.at("conv_dds"), isa, spec)?,
            project: ConvSpec::same(spec.channels, 3 * spec.bins - 1, 1).load(&w.at("conv_proj"), on)?,
            spec,
        })
    }

    /// Undoes what the flow did to `second`, knowing `first`.
    fn reverse(&self, ctx: &Ctx<'_>, cpu: &Cpu, first: &[f32], second: &mut [f32], context: &[f32]) -> Result<()> {
        let StochasticSpec { bins, channels, bound, .. } = self.spec;
        let mut x = context.to_vec();
        self.pre.forward(
            cpu,
            Rows::dense(first, 1),
            Fused::None,
            Tile::dense(&mut x, channels),
            End { act: Fused::None, add: true },
        );
        self.stack.forward(ctx, cpu, &mut x)?;
        let raw = conv(cpu, &self.project, &x, SET);
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
    pointwise: Conv,
    norm_2: LayerNorm,
}

impl DepthSeparable {
    fn load(w: &Weights, isa: Isa, StochasticSpec { channels: c, width, layers, .. }: StochasticSpec) -> Result<Self> {
        // PyTorch's default, which the reference leaves as it is.
        let norm = |name: &str, i: usize| norm(&w.at(name).at(i), isa, c, 1e-5);
        let mut stack = Vec::new();
        for i in 0..layers {
            let stored = w.at("convs_dilated").at(i).values("weight", &[c, 1, width])?;
            let square = ConvSpec::same(c, c, 1);
            stack.push(DepthSeparableLayer {
                depthwise: (0..width * c).map(|j| stored[j % c * width + j / c]).collect(),
                bias: w.at("convs_dilated").at(i).values("bias", &[c])?,
                dilation: width.saturating_pow(i as u32),
                norm_1: norm("norms_1", i)?,
                pointwise: square.load(&w.at("convs_pointwise").at(i), (isa, Format::F32))?,
                norm_2: norm("norms_2", i)?,
            });
        }
        Ok(Self(stack))
    }

    fn forward(&self, ctx: &Ctx<'_>, cpu: &Cpu, x: &mut [f32]) -> Result<()> {
        for layer in &self.0 {
            ctx.check()?;
            let c = layer.bias.len();
            let h = layer.depthwise(x);
            let mut normed = vec![0.0; h.len()];
            layer.norm_1.forward_end(cpu, Rows::dense(&h, c), Tile::dense(&mut normed, c), GELU);
            let h = conv(cpu, &layer.pointwise, &normed, SET);
            layer.norm_2.forward_end(cpu, Rows::dense(&h, c), Tile::dense(x, c), End { add: true, ..GELU });
        }
        Ok(())
    }
}

impl DepthSeparableLayer {
    fn depthwise(&self, x: &[f32]) -> Vec<f32> {
        let c = self.bias.len();
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
        out
    }
}

/// Adds the projection of the speaker's vector to each step of `x`.
fn condition(cpu: &Cpu, x: &mut [f32], project: Option<&Conv>, speaker: Option<&Act>) -> Result<()> {
    if let (Some(project), Some(vector)) = (project, speaker) {
        let given = conv(cpu, project, &vector.values()?, SET);
        x.chunks_exact_mut(given.len()).for_each(|row| row.iter_mut().zip(&given).for_each(|(x, g)| *x += g));
    }
    Ok(())
}
