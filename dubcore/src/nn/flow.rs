//! The normalising flow of VITS (Kim et al. 2021): from the text's prior to the decoder's latents.

use super::conv::ConvSpec;
use super::cpu::{Act as Fused, Conv, Cpu, End, Rows, Tile};
use super::wavenet::WaveNet;
pub(crate) use super::wavenet::WaveNetSpec;
use super::weights::Weights;
use super::{Act, Ctx, with_values};
use crate::device::Use;
use crate::error::{Error, Result};

/// Volume-preserving affine coupling layers (Glow-TTS), run backwards.
pub(crate) struct ResidualCoupling {
    layers: Vec<Coupling>,
    channels: usize,
}

struct Coupling {
    pre: Conv,
    wavenet: WaveNet,
    /// To what is added to the second half: the mean, with its sign turned.
    post: Conv,
}

impl ResidualCoupling {
    /// Reads `flows.0..count` over an even number of `channels`.
    pub(crate) fn load(w: &Weights, channels: usize, count: usize, spec: WaveNetSpec) -> Result<Self> {
        let half = channels / 2;
        let on = w.engine().on_processor();
        let mut layers = Vec::new();
        for i in 0..count {
            let w = w.at("flows").at(i);
            let out = ConvSpec::same(spec.channels, half, 1);
            let (mut mean, mut bias) = out.read(&w.at("conv_post"))?;
            mean.iter_mut().chain(&mut bias).for_each(|v| *v = -*v);
            layers.push(Coupling {
                pre: ConvSpec::same(half, spec.channels, 1).load(&w.at("conv_pre"), on)?,
                wavenet: WaveNet::load(&w.at("wavenet"), on, spec)?,
                post: out.pack(&w, on, &mean, &bias)?,
            });
        }
        Ok(Self { layers, channels })
    }

    /// The latents of a sample of the prior, `[1, frames, channels]`, in the voice of `speaker` `[1, 1, n]`.
    pub(crate) fn reverse(
        &self,
        ctx: &Ctx<'_>,
        prior: Sample<'_, impl Iterator<Item = f32>>,
        speaker: Option<&Act>,
    ) -> Result<Act> {
        let (c, half) = (self.channels, self.channels / 2);
        let mut cpu = Cpu::new(0);
        let speaker = speaker.map(Act::values).transpose()?;
        let frames = prior.frames;
        let _latents = ctx.take(Use::Workspace, frames * c)?;
        let mut z = prior.values()?;
        for layer in self.layers.iter().rev() {
            ctx.check()?;
            cpu.team.refresh();
            z.chunks_exact_mut(c).for_each(<[f32]>::reverse);
            let inner = layer.pre.outputs();
            let _held = ctx.take(Use::Workspace, 2 * frames * inner)?;
            let (mut h, mut skip) = (cpu.arena.lend::<f32>(frames * inner), cpu.arena.lend::<f32>(frames * inner));
            let first = Rows::new(&z, frames, half, c);
            layer.pre.forward(&cpu, first, Fused::None, Tile::dense(&mut h, inner), End::default());
            layer.wavenet.forward(ctx, &cpu, &mut h, speaker.as_deref(), &mut skip)?;
            let second = Tile::new(&mut z[half..], frames, half, c);
            layer.post.forward(&cpu, Rows::dense(&skip, inner), Fused::None, second, End { act: Fused::None, add: true });
        }
        Act::new(z, (1, frames, c))
    }
}

/// What is to be drawn from the prior: it is made where its memory is counted, when the flow begins.
pub(crate) struct Sample<'a, N> {
    stats: &'a Act,
    durations: &'a [usize],
    noise: Option<N>,
    scale: f32,
    frames: usize,
    channels: usize,
}

/// Draws from the prior: `stats` `[1, tokens, 2 channels]` holds each token's mean and log deviation, which stand for as
/// many frames as `durations` says; `noise` gives `[frames, channels]` in that order, and may go on; without it the means
/// are taken.
///
/// A text without any frame gets one of zero mean and unit deviation, as in the reference.
pub(crate) fn sample_prior<'a, N>(stats: &'a Act, durations: &'a [usize], noise: Option<N>, scale: f32) -> Result<Sample<'a, N>> {
    let (_, tokens, both) = stats.shape()?;
    let channels = both / 2;
    let frames = durations.iter().sum::<usize>().max(1);
    if durations.len() != tokens {
        return Err(Error::internal("durations do not fit the text"));
    }
    Ok(Sample { stats, durations, noise, scale, frames, channels })
}

impl<N: Iterator<Item = f32>> Sample<'_, N> {
    /// `[frames, channels]`.
    fn values(self) -> Result<Vec<f32>> {
        let Self { durations, mut noise, scale, frames, channels, .. } = self;
        let mut z = Vec::with_capacity(frames * channels);
        with_values(&self.stats.0, |stats| {
            let silence = vec![0.0; 2 * channels];
            let rows = stats.chunks_exact(2 * channels).zip(durations).flat_map(|(row, n)| std::iter::repeat_n(row, *n));
            for row in rows.chain(std::iter::once(&silence[..])).take(frames) {
                let (mean, log_deviation) = row.split_at(channels);
                match &mut noise {
                    Some(noise) => {
                        z.extend(mean.iter().zip(log_deviation).zip(noise).map(|((m, d), noise)| m + noise * d.exp() * scale));
                    }
                    None => z.extend_from_slice(mean),
                }
            }
        })?;
        match z.len() == frames * channels {
            true => Ok(z),
            false => Err(Error::internal("there is less noise than the voice speaks frames")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::device::Place;
    use crate::device::simulated::Simulated;
    use crate::error::ErrorKind;
    use crate::runtime::Job;

    #[test]
    fn a_sample_is_counted_before_it_is_made() {
        let flow = ResidualCoupling { layers: Vec::new(), channels: 2 };
        let stats = Act::new(vec![1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0], (1, 2, 4)).unwrap();
        let drawn = |bytes, noise| {
            let gpu: Place = Arc::new(Simulated::new(bytes));
            crate::nn::run(&Job::new(), &gpu, |ctx| {
                flow.reverse(ctx, sample_prior(&stats, &[1, 3], Some(std::iter::repeat_n(0.5, noise)), 2.0)?, None)?.values()
            })
        };
        // Four frames of two channels.
        assert_eq!(drawn(32, 8).unwrap(), [2.0, 3.0, 4.0, 5.0, 4.0, 5.0, 4.0, 5.0]);
        assert_eq!(drawn(31, 8).unwrap_err().kind(), ErrorKind::OutOfMemory);
        assert_eq!(drawn(32, 7).unwrap_err().kind(), ErrorKind::Internal);
    }
}
