//! The HiFi-GAN generator (Kong et al. 2020): latent frames to a waveform.

use rayon::prelude::*;

use super::conv::ConvSpec;
use super::rows::{RowConv, RowConvTranspose, with_values};
use super::weights::Weights;
use super::{Act, Ctx};
use crate::device::Use;
use crate::error::Result;

/// The shape of a [`HifiGan`]. `rates` and `widths` are equally long, and so are the lists of a residual block.
#[derive(Clone)]
pub(crate) struct HifiGanSpec {
    /// Channels of a latent frame.
    pub(crate) input: usize,
    /// Channels before the first upsampling, which halves them, as does each.
    pub(crate) channels: usize,
    pub(crate) rates: Vec<usize>,
    pub(crate) widths: Vec<usize>,
    /// Width and dilations of each parallel residual block of a stage.
    pub(crate) blocks: Vec<(usize, Vec<usize>)>,
    pub(crate) slope: f32,
    /// Channels of the speaker's vector; 0 if there is none.
    pub(crate) speaker: usize,
}

/// Frames are decoded in pieces of about so many samples: small enough for the caches and for a quick cancellation, and
/// as many at once as there are threads.
const PIECE: usize = 16_384;

/// The slope of PyTorch's `leaky_relu` where none is given, as before the last convolution.
const LAST_SLOPE: f32 = 0.01;

pub(crate) struct HifiGan {
    pre: RowConv,
    speaker: Option<RowConv>,
    stages: Vec<Stage>,
    post: RowConv,
    input: usize,
    slope: f32,
    hop: usize,
}

struct Stage {
    up: RowConvTranspose,
    blocks: Vec<ResidualBlock>,
    rate: usize,
    channels: usize,
    /// How many steps on either side of a step its residual blocks look at.
    reach: usize,
}

struct ResidualBlock(Vec<(RowConv, RowConv)>);

impl HifiGan {
    pub(crate) fn load(w: &Weights, spec: &HifiGanSpec) -> Result<Self> {
        let pre = RowConv::load(&w.at("conv_pre"), ConvSpec::same(spec.input, spec.channels, 7), true)?;
        let cond = |w: &Weights| RowConv::load(w, ConvSpec::same(spec.speaker, spec.channels, 1), true);
        let speaker = if spec.speaker > 0 { Some(cond(&w.at("cond"))?) } else { None };
        let mut stages = Vec::new();
        for (i, (&rate, &width)) in spec.rates.iter().zip(&spec.widths).enumerate() {
            let (from, channels) = (spec.channels >> i, spec.channels >> (i + 1));
            let up = RowConvTranspose::load(&w.at("upsampler").at(i), from, channels, width, rate)?;
            let mut blocks = Vec::new();
            for (j, (width, dilations)) in spec.blocks.iter().enumerate() {
                let w = w.at("resblocks").at(i * spec.blocks.len() + j);
                blocks.push(ResidualBlock::load(&w, channels, *width, dilations)?);
            }
            let reach = |(width, dilations): &(usize, Vec<usize>)| dilations.iter().map(|d| width / 2 * (d + 1)).sum();
            let reach = spec.blocks.iter().map(reach).max().unwrap_or(0);
            stages.push(Stage { up, blocks, rate, channels, reach });
        }
        let last = stages.last().map_or(spec.channels, |s| s.channels);
        let post = RowConv::load(&w.at("conv_post"), ConvSpec::same(last, 1, 7), false)?;
        let hop = spec.rates.iter().product();
        Ok(Self { pre, speaker, stages, post, input: spec.input, slope: spec.slope, hop })
    }

    /// Samples per frame.
    pub(crate) fn hop(&self) -> usize {
        self.hop
    }

    /// The waveform of `latents` `[1, frames, input]`, -1 to 1, in the voice of `speaker` `[1, 1, n]`.
    ///
    /// It is made in pieces, each with as much around it as the convolutions can see. Where the pieces lie depends on
    /// nothing but the number of frames, and a piece is one thread's work.
    pub(crate) fn forward(&self, ctx: &Ctx<'_>, latents: &Act, speaker: Option<&Act>) -> Result<Vec<f32>> {
        let given = match (&self.speaker, speaker) {
            (Some(cond), Some(vector)) => Some(cond.apply(&vector.values()?, &mut Vec::new())),
            _ => None,
        };
        with_values(&latents.0, |z| {
            let frames = z.len() / self.input;
            let piece = (PIECE / self.hop).max(8);
            let starts: Vec<usize> = (0..frames).step_by(piece).collect();
            let pieces: Result<Vec<Vec<f32>>> = starts
                .into_par_iter()
                .map(|from| self.piece(ctx, z, given.as_deref(), from, (from + piece).min(frames)))
                .collect();
            Ok(pieces?.concat())
        })?
    }

    /// The waveform in one piece.
    #[cfg(test)]
    pub(crate) fn whole(&self, ctx: &Ctx<'_>, latents: &Act) -> Result<Vec<f32>> {
        with_values(&latents.0, |z| self.piece(ctx, z, None, 0, z.len() / self.input))?
    }

    /// The samples of frames `from..to`.
    fn piece(&self, ctx: &Ctx<'_>, z: &[f32], speaker: Option<&[f32]>, from: usize, to: usize) -> Result<Vec<f32>> {
        let frames = z.len() / self.input;
        // How many steps around the piece matter: at the input of the last convolution, then, backwards, of each stage.
        let mut around = vec![3];
        for stage in self.stages.iter().rev() {
            around.push((around[around.len() - 1] + stage.reach).div_ceil(stage.rate) + stage.up.reach());
        }
        around.reverse();
        let window = |rate, around| Window { from: from * rate, to: to * rate, end: frames * rate, around };
        let (mut lo, hi) = window(1, around[0] + 3).bounds();

        let (mut scratch, mut mid, mut up) = (Vec::new(), Vec::new(), Vec::new());
        let mut h = self.pre.apply(&z[lo * self.input..hi * self.input], &mut scratch);
        if let Some(given) = speaker {
            h.chunks_exact_mut(given.len()).for_each(|row| row.iter_mut().zip(given).for_each(|(h, g)| *h += g));
        }
        let (mut channels, mut rate) = (self.pre.output, 1);
        for (stage, around) in self.stages.iter().zip(around.windows(2)) {
            ctx.check()?;
            lo = window(rate, around[0]).trim(&mut h, lo, channels);
            // The output, the sum of its blocks, and a block's three.
            let _held = ctx.take(Use::Workspace, 5 * h.len() / channels * stage.rate * stage.channels)?;
            stage.up.apply(&h, |v| leaky(v, self.slope), &mut scratch, &mut up);
            (lo, rate, channels) = (lo * stage.rate, rate * stage.rate, stage.channels);
            lo = window(rate, around[1] + stage.reach).trim(&mut up, lo, channels);
            h.clear();
            h.resize(up.len(), 0.0);
            for block in &stage.blocks {
                block.add(ctx, &up, self.slope, &mut scratch, &mut mid, &mut h)?;
            }
            let share = 1.0 / stage.blocks.len() as f32;
            h.iter_mut().for_each(|h| *h *= share);
        }
        lo = window(rate, 3).trim(&mut h, lo, channels);
        up.clear();
        up.resize(h.len() / channels, 0.0);
        self.post.accumulate(&h, |v| leaky(v, LAST_SLOPE), &mut scratch, &mut up);
        let begin = from * rate - lo;
        Ok(up[begin..begin + (to - from) * rate].iter().map(|v| v.tanh()).collect())
    }
}

/// Steps `from..to` of `end`, with `around` more on either side.
struct Window {
    from: usize,
    to: usize,
    end: usize,
    around: usize,
}

impl Window {
    fn bounds(&self) -> (usize, usize) {
        (self.from.saturating_sub(self.around), (self.to + self.around).min(self.end))
    }

    /// Cuts `h`, whose first row is step `first`, down to the window; returns its first step from now on.
    fn trim(&self, h: &mut Vec<f32>, first: usize, channels: usize) -> usize {
        let (lo, hi) = self.bounds();
        h.truncate((hi - first) * channels);
        h.drain(..(lo - first) * channels);
        lo
    }
}

impl ResidualBlock {
    fn load(w: &Weights, channels: usize, width: usize, dilations: &[usize]) -> Result<Self> {
        let mut pairs = Vec::new();
        for (i, &dilation) in dilations.iter().enumerate() {
            let spec = ConvSpec::same(channels, channels, width);
            let first = RowConv::load(&w.at("convs1").at(i), ConvSpec { dilation, ..spec }, true)?;
            pairs.push((first, RowConv::load(&w.at("convs2").at(i), spec, true)?));
        }
        Ok(Self(pairs))
    }

    /// Adds the block's output for `x` to `sum`.
    fn add(
        &self,
        ctx: &Ctx<'_>,
        x: &[f32],
        slope: f32,
        scratch: &mut Vec<f32>,
        mid: &mut Vec<f32>,
        sum: &mut [f32],
    ) -> Result<()> {
        let mut h = x.to_vec();
        for (first, second) in &self.0 {
            ctx.check()?;
            first.begin(h.len() / first.output, mid);
            first.accumulate(&h, |v| leaky(v, slope), scratch, mid);
            ctx.check()?;
            second.add_bias(&mut h);
            second.accumulate(mid, |v| leaky(v, slope), scratch, &mut h);
        }
        sum.iter_mut().zip(&h).for_each(|(s, h)| *s += h);
        Ok(())
    }
}

fn leaky(v: f32, slope: f32) -> f32 {
    if v > 0.0 { v } else { v * slope }
}
