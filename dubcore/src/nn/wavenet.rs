//! The non-causal WaveNet of WaveGlow and Glow-TTS: gated dilated convolutions with residual and skip paths.

use super::Ctx;
use super::conv::ConvSpec;
use super::cpu::{Act, Conv, Cpu, End, Format, Isa, Rows, Tile, gate};
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
    isa: Isa,
    layers: Vec<Layer>,
    speaker: Option<Conv>,
    channels: usize,
}

struct Layer {
    /// To filters and gates.
    into: Conv,
    /// To what is added to the layer's input; the last layer has none.
    residual: Option<Conv>,
    skip: Conv,
}

impl WaveNet {
    pub(in crate::nn) fn load(w: &Weights, on: (Isa, Format), spec: WaveNetSpec) -> Result<Self> {
        let WaveNetSpec { channels: c, layers: count, width, dilation_rate, speaker } = spec;
        let mut layers = Vec::new();
        for i in 0..count {
            let dilation = dilation_rate.saturating_pow(i as u32);
            let into = ConvSpec { dilation, ..ConvSpec::same(c, 2 * c, width) }.load(&w.at("in_layers").at(i), on)?;
            let (square, out) = (ConvSpec::same(c, c, 1), w.at("res_skip_layers").at(i));
            layers.push(if i + 1 < count {
                let (mut weights, mut bias) = ConvSpec { output: 2 * c, ..square }.read(&out)?;
                let skip = square.pack(w, on, &weights.split_off(c * c), &bias.split_off(c))?;
                Layer { into, residual: Some(square.pack(w, on, &weights, &bias)?), skip }
            } else {
                Layer { into, residual: None, skip: square.load(&out, on)? }
            });
        }
        let cond = |w: &Weights| ConvSpec::same(speaker, 2 * c * count, 1).load(w, on);
        let speaker = if speaker > 0 { Some(cond(&w.at("cond_layer"))?) } else { None };
        Ok(Self { isa: on.0, layers, speaker, channels: c })
    }

    /// `skip` `[t, channels]` from `x`, which is changed.
    pub(in crate::nn) fn forward(
        &self,
        ctx: &Ctx<'_>,
        cpu: &Cpu,
        x: &mut [f32],
        speaker: Option<&[f32]>,
        skip: &mut [f32],
    ) -> Result<()> {
        let c = self.channels;
        // The gates before and after.
        let _held = ctx.take(Use::Workspace, 3 * x.len())?;
        let mut given = Vec::new();
        if let (Some(cond), Some(vector)) = (&self.speaker, speaker) {
            given.resize(cond.outputs(), 0.0);
            let to = Tile::dense(&mut given, cond.outputs());
            cond.forward(cpu, Rows::dense(vector, vector.len()), Act::None, to, End::default());
        }
        let mut h = cpu.arena.lend::<f32>(2 * x.len());
        let mut gated = cpu.arena.lend::<f32>(x.len());
        let add = End { act: Act::None, add: true };
        for (i, layer) in self.layers.iter().enumerate() {
            ctx.check()?;
            let by_layer = given.get(i * 2 * c..(i + 1) * 2 * c);
            if let Some(by_layer) = by_layer {
                h.chunks_exact_mut(2 * c).for_each(|row| row.copy_from_slice(by_layer));
            }
            let end = End { act: Act::None, add: by_layer.is_some() };
            layer.into.forward(cpu, Rows::dense(x, c), Act::None, Tile::dense(&mut h, 2 * c), end);
            gate(cpu, self.isa, Rows::dense(&h, 2 * c), Tile::dense(&mut gated, c));
            if let Some(residual) = &layer.residual {
                residual.forward(cpu, Rows::dense(&gated, c), Act::None, Tile::dense(x, c), add);
            }
            let end = if i > 0 { add } else { End::default() };
            layer.skip.forward(cpu, Rows::dense(&gated, c), Act::None, Tile::dense(skip, c), end);
        }
        Ok(())
    }
}
