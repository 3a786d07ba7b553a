//! The HiFi-GAN generator (Kong et al. 2020): latent frames to a waveform.

use std::ops::Range;

use super::conv::ConvSpec;
use super::cpu::{Act as Fused, Conv, ConvToOne, ConvTranspose, Cpu, End, Format, Isa, Rows, Shape, Tile, put};
use super::weight_norm::kernel;
use super::weights::Weights;
use super::{Act, Ctx, with_values};
use crate::device::Use;
use crate::error::Result;
use crate::sync::Mutex;

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

/// Frames are decoded in pieces of about so many samples, so that memory has a bound: each costs some 3 frames more, which its
/// edges need.
const PIECE: usize = 65_536;

/// Values of a signal that a second-level cache holds beside what residual blocks make of it.
const CHUNK: usize = 64 << 10;

/// The slope of PyTorch's `leaky_relu` where none is given, as before the last convolution.
const LAST_SLOPE: f32 = 0.01;

const ADD: End = End { act: Fused::None, add: true };

pub(crate) struct HifiGan {
    pre: Conv,
    speaker: Option<Conv>,
    stages: Vec<Stage>,
    post: ConvToOne,
    input: usize,
    slope: f32,
    hop: usize,
}

struct Stage {
    up: ConvTranspose,
    blocks: Vec<ResidualBlock>,
    rate: usize,
    channels: usize,
    /// How many steps on either side of a step its residual blocks look at.
    reach: usize,
}

struct ResidualBlock {
    isa: Isa,
    slope: f32,
    pairs: Vec<(Conv, Conv)>,
}

impl HifiGan {
    pub(crate) fn load(w: &Weights, spec: &HifiGanSpec) -> Result<Self> {
        let on = w.engine().on_processor();
        let pre = ConvSpec::same(spec.input, spec.channels, 7).load(&w.at("conv_pre"), on)?;
        let cond = |w: &Weights| ConvSpec::same(spec.speaker, spec.channels, 1).load(w, on);
        let speaker = if spec.speaker > 0 { Some(cond(&w.at("cond"))?) } else { None };
        // A stage's output is the mean of its blocks'. They are summed, and what comes next, whose activation keeps factors,
        // divides.
        let share = 1.0 / spec.blocks.len().max(1) as f32;
        let mut stages = Vec::new();
        for (i, (&rate, &width)) in spec.rates.iter().zip(&spec.widths).enumerate() {
            let (from, channels) = (spec.channels >> i, spec.channels >> (i + 1));
            let up = up(&w.at("upsampler").at(i), on, (from, channels, width), rate, if i > 0 { share } else { 1.0 })?;
            let mut blocks = Vec::new();
            for (j, (width, dilations)) in spec.blocks.iter().enumerate() {
                let w = w.at("resblocks").at(i * spec.blocks.len() + j);
                blocks.push(ResidualBlock::load(&w, on, channels, (*width, dilations), spec.slope)?);
            }
            let reach = blocks.iter().map(ResidualBlock::reach).max().unwrap_or(0);
            stages.push(Stage { up, blocks, rate, channels, reach });
        }
        let last = stages.last().map_or(spec.channels, |s| s.channels);
        let mut weights = kernel(&w.at("conv_post"), &[1, last, 7])?;
        weights.iter_mut().for_each(|v| *v *= if stages.is_empty() { 1.0 } else { share });
        let post = ConvToOne::new(on.0, (last, 7), &weights, 0.0);
        let hop = spec.rates.iter().product();
        Ok(Self { pre, speaker, stages, post, input: spec.input, slope: spec.slope, hop })
    }

    /// Samples per frame.
    pub(crate) fn hop(&self) -> usize {
        self.hop
    }

    /// The waveform of `latents` `[1, frames, input]`, -1 to 1, in the voice of `speaker` `[1, 1, n]`.
    pub(crate) fn forward(&self, ctx: &Ctx<'_>, latents: &Act, speaker: Option<&Act>) -> Result<Vec<f32>> {
        self.pieces(ctx, latents, speaker, (PIECE / self.hop).max(8))
    }

    /// The waveform, made in pieces of at most so many frames, each with as much around it as the convolutions can see: where
    /// they lie changes nothing.
    pub(crate) fn pieces(&self, ctx: &Ctx<'_>, latents: &Act, speaker: Option<&Act>, most: usize) -> Result<Vec<f32>> {
        let mut cpu = Cpu::new(0);
        let given = match (&self.speaker, speaker) {
            (Some(cond), Some(vector)) => {
                let mut given = vec![0.0; cond.outputs()];
                let vector = vector.values()?;
                let (vector, to) = (Rows::dense(&vector, vector.len()), Tile::dense(&mut given, cond.outputs()));
                cond.forward(&cpu, vector, Fused::None, to, End::default());
                given
            }
            _ => Vec::new(),
        };
        with_values(&latents.0, |z| {
            let frames = z.len() / self.input;
            let mut sound = vec![0.0; frames * self.hop];
            let piece = frames.div_ceil(frames.div_ceil(most).max(1)).max(1);
            for (i, out) in sound.chunks_mut(piece * self.hop).enumerate() {
                cpu.team.refresh();
                self.piece(ctx, &cpu, z, &given, i * piece, out)?;
            }
            Ok(sound)
        })?
    }

    /// The samples of frames from `from` on.
    fn piece(&self, ctx: &Ctx<'_>, cpu: &Cpu, z: &[f32], speaker: &[f32], from: usize, out: &mut [f32]) -> Result<()> {
        let (frames, to) = (z.len() / self.input, from + out.len() / self.hop);
        // How many steps around the piece matter: at the input of the last convolution, then, backwards, of each stage.
        let mut around = vec![self.post.reach()];
        for stage in self.stages.iter().rev() {
            around.push((around[around.len() - 1] + stage.reach).div_ceil(stage.rate) + stage.up.reach());
        }
        around.reverse();
        // The steps of the piece and so many more, as far as there are.
        let window = |rate: usize, around: usize| (from * rate).saturating_sub(around)..(to * rate + around).min(frames * rate);

        let (mut rate, mut channels) = (1, self.pre.outputs());
        let mut at = window(1, around[0]);
        let seen = window(1, around[0] + self.pre.reach());
        let mut h = cpu.arena.lend::<f32>(at.len() * channels);
        let (z, to) = (rows(z, &seen, 0, self.input), Tile::dense(&mut h, channels));
        self.pre.forward_from(cpu, z, at.start - seen.start, Fused::None, to, End::default());
        if !speaker.is_empty() {
            h.chunks_exact_mut(channels).for_each(|row| row.iter_mut().zip(speaker).for_each(|(h, g)| *h += g));
        }
        for (stage, around) in self.stages.iter().zip(&around[1..]) {
            ctx.check()?;
            let wide = at.len() * stage.rate * stage.channels;
            // Its input, that lengthened, the sum of the blocks, and what a block works on.
            let _held = ctx.take(Use::Workspace, h.len() + 5 * wide)?;
            let mut up = cpu.arena.lend::<f32>(wide);
            stage.up.forward(cpu, Rows::dense(&h, channels), Fused::Leaky(self.slope), &mut up);
            let first = at.start * stage.rate;
            (rate, channels) = (rate * stage.rate, stage.channels);
            at = window(rate, *around);
            let known = window(rate, around + stage.reach);
            let x = Signal { values: &up[(known.start - first) * channels..][..known.len() * channels], at: known };
            let mut sum = cpu.arena.lend::<f32>(at.len() * channels);
            stage.blocks(ctx, cpu, &x, at.start, Tile::dense(&mut sum, channels))?;
            h = sum;
        }
        ctx.check()?;
        let first = from * rate - at.start;
        self.post.forward_from(cpu, Rows::dense(&h, channels), first, Fused::Leaky(LAST_SLOPE), out, Fused::Tanh);
        Ok(())
    }
}

/// A part of a signal: the steps `at` of it.
struct Signal<'a> {
    values: &'a [f32],
    at: Range<usize>,
}

/// The rows of the steps `range`, of values that begin at step `first`.
fn rows<'a>(values: &'a [f32], range: &Range<usize>, first: usize, channels: usize) -> Rows<'a> {
    Rows::dense(&values[(range.start - first) * channels..(range.end - first) * channels], channels)
}

fn up(
    w: &Weights,
    (isa, format): (Isa, Format),
    (input, output, width): (usize, usize, usize),
    stride: usize,
    factor: f32,
) -> Result<ConvTranspose> {
    let mut weights = kernel(w, &[input, output, width])?;
    weights.iter_mut().for_each(|v| *v *= factor);
    let shape = Shape { outputs: output, channels: input, taps: width };
    let up = ConvTranspose::new(isa, format, shape, &weights, &w.values("bias", &[output])?, stride);
    w.packed(up.packed(), weights.len() + output)?;
    Ok(up)
}

impl Stage {
    /// `out`, from step `first` on, is the sum of what the blocks make of `x`.
    ///
    /// A narrow signal is done in chunks that stay in a thread's cache through all layers: there is little to compute for
    /// each value that is read. What a chunk's edges need is computed twice, so a wide one is done layer by layer.
    fn blocks(&self, ctx: &Ctx<'_>, cpu: &Cpu, x: &Signal<'_>, first: usize, out: Tile<'_>) -> Result<()> {
        let most = CHUNK / self.channels;
        if most < 16 * self.reach {
            return self.sum(ctx, cpu, x, first, out);
        }
        let chunks = out.rows().div_ceil(most).next_multiple_of(cpu.team.threads());
        let steps = out.rows().div_ceil(chunks.max(1));
        // Memory goes from chunk to chunk, but no thread takes it from another's cache while that works.
        let spare = Mutex::new(Vec::new());
        cpu.team.each_rows(out, steps, |i, out| {
            let cpu = spare.lock().pop().unwrap_or_else(Cpu::alone);
            // It fails where the job has ended, which is asked once more below.
            let _ = self.sum(ctx, &cpu, x, first + i * steps, out);
            spare.lock().push(cpu);
        });
        ctx.check()
    }

    fn sum(&self, ctx: &Ctx<'_>, cpu: &Cpu, x: &Signal<'_>, first: usize, mut out: Tile<'_>) -> Result<()> {
        for (i, block) in self.blocks.iter().enumerate() {
            block.forward(ctx, cpu, x, first, out.again(), i > 0)?;
        }
        Ok(())
    }
}

impl ResidualBlock {
    fn load(w: &Weights, on: (Isa, Format), channels: usize, (width, dilations): (usize, &[usize]), slope: f32) -> Result<Self> {
        let mut pairs = Vec::new();
        for (i, &dilation) in dilations.iter().enumerate() {
            let spec = ConvSpec::same(channels, channels, width);
            let first = ConvSpec { dilation, ..spec }.load(&w.at("convs1").at(i), on)?;
            pairs.push((first, spec.load(&w.at("convs2").at(i), on)?));
        }
        Ok(Self { isa: on.0, slope, pairs })
    }

    fn reach(&self) -> usize {
        self.pairs.iter().map(|(first, second)| first.reach() + second.reach()).sum()
    }

    /// `out`, from step `first` on, becomes what the block makes of `x`, or grows by it.
    fn forward(&self, ctx: &Ctx<'_>, cpu: &Cpu, x: &Signal<'_>, first: usize, mut out: Tile<'_>, add: bool) -> Result<()> {
        let end = first + out.rows();
        // So many steps around the output, as far as there are.
        let wide = |reach: usize| x.at.start.max(first.saturating_sub(reach))..x.at.end.min(end + reach);
        let channels = x.values.len() / x.at.len().max(1);
        let mut reach = self.reach();
        let mut at = wide(reach);
        let mut h = cpu.arena.lend::<f32>(at.len() * channels);
        let mut mid = cpu.arena.lend::<f32>(at.len() * channels);
        let base = at.start;
        let part = |range: &Range<usize>| (range.start - base) * channels..(range.end - base) * channels;
        for (i, (one, two)) in self.pairs.iter().enumerate() {
            ctx.check()?;
            reach -= one.reach();
            let inner = wide(reach);
            reach -= two.reach();
            let next = wide(reach);
            let from = if i == 0 { rows(x.values, &at, x.at.start, channels) } else { rows(&h, &at, base, channels) };
            let mid = &mut mid[..inner.len() * channels];
            let act = Fused::Leaky(self.slope);
            let to = Tile::dense(mid, channels);
            one.forward_from(cpu, from, inner.start - at.start, act, to, End { act, add: false });
            ctx.check()?;
            if i == 0 {
                put(
                    cpu,
                    self.isa,
                    rows(x.values, &next, x.at.start, channels),
                    Tile::dense(&mut h[part(&next)], channels),
                    End::default(),
                );
            }
            let mid = Rows::dense(mid, channels);
            if i + 1 < self.pairs.len() {
                two.forward_from(
                    cpu,
                    mid,
                    next.start - inner.start,
                    Fused::None,
                    Tile::dense(&mut h[part(&next)], channels),
                    ADD,
                );
            } else {
                put(cpu, self.isa, rows(&h, &next, base, channels), out.again(), End { act: Fused::None, add });
                two.forward_from(cpu, mid, next.start - inner.start, Fused::None, out.again(), ADD);
            }
            at = next;
        }
        Ok(())
    }
}
