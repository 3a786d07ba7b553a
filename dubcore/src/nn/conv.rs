//! Convolutions over time.

use candle_core::Tensor;

use super::cpu::{Act as Fused, Conv, Cpu, End, Format, Isa, Rows, Shape, Tile};
use super::elementwise::add;
use super::engine::Engine;
use super::layers::Activation;
use super::weight_norm::kernel;
use super::weights::Weights;
use super::{Act, Ctx, with_values};
use crate::device::Use;
use crate::error::{Error, Result};

/// The shape of a convolution.
#[derive(Clone, Copy)]
pub(crate) struct ConvSpec {
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) width: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
}

impl ConvSpec {
    /// `input` to `output` channels, `width` taps, stride and dilation 1, padded so that the length stays.
    pub(crate) fn same(input: usize, output: usize, width: usize) -> Self {
        Self { input, output, width, stride: 1, dilation: 1 }
    }

    /// Reads `weight` `[output, input, width]`, weight-normalised or not, and `bias`.
    pub(in crate::nn) fn read(self, w: &Weights) -> Result<(Vec<f32>, Vec<f32>)> {
        Ok((kernel(w, &[self.output, self.input, self.width])?, w.values("bias", &[self.output])?))
    }

    /// What was read, for the kernels, which keep it in this form alone.
    pub(in crate::nn) fn pack(self, w: &Weights, (isa, format): (Isa, Format), weights: &[f32], bias: &[f32]) -> Result<Conv> {
        let shape = Shape { outputs: self.output, channels: self.input, taps: self.width };
        let conv = Conv::new(isa, format, shape, weights, Some(bias), (self.stride, self.dilation));
        w.packed(conv.packed(), weights.len() + bias.len())?;
        Ok(conv)
    }

    /// Both.
    pub(in crate::nn) fn load(self, w: &Weights, on: (Isa, Format)) -> Result<Conv> {
        let (weights, bias) = self.read(w)?;
        self.pack(w, on, &weights, &bias)
    }
}

/// A convolution with a bias, and an activation function behind it.
pub(crate) struct Conv1d {
    spec: ConvSpec,
    activation: Activation,
    on: On,
}

enum On {
    /// The reference: kernel and bias.
    Candle(Tensor, Tensor),
    Cpu(Conv),
}

impl Conv1d {
    /// Reads `weight` `[output, input, width]` and `bias` `[output]`.
    pub(crate) fn load(w: &Weights, spec: ConvSpec, activation: Activation) -> Result<Self> {
        let on = match w.engine() {
            Engine::Candle => {
                let kernel = w.tensor("weight", &[spec.output, spec.input, spec.width])?;
                On::Candle(kernel, w.tensor("bias", &[spec.output])?.reshape((1, spec.output, 1))?)
            }
            Engine::Cpu(isa, format) => On::Cpu(spec.load(w, (isa, format))?),
        };
        Ok(Self { spec, activation, on })
    }

    /// `[batch, time, input]` to `[batch, time / stride, output]`.
    pub(crate) fn forward(&self, ctx: &Ctx<'_>, x: &Act) -> Result<Act> {
        let s = self.spec;
        let (batch, time, channels) = x.shape()?;
        if channels != s.input {
            return Err(Error::internal(format!("a convolution of {} channels was given {channels}", s.input)));
        }
        match &self.on {
            On::Candle(kernel, bias) => {
                // Every window laid out once, and the output before and after the bias.
                let _held = ctx.take(Use::Workspace, batch * time / s.stride * (s.input * s.width + 2 * s.output))?;
                let x = x.0.transpose(1, 2)?.contiguous()?;
                let y = add(&x.conv1d(kernel, s.width / 2, s.stride, s.dilation, 1)?, bias)?;
                Ok(Act(self.activation.apply(&y)?.transpose(1, 2)?.contiguous()?))
            }
            On::Cpu(conv) => {
                let steps = conv.steps(time);
                let _held = ctx.take(Use::Workspace, batch * steps * s.output)?;
                let cpu = Cpu::new(0);
                let mut out = vec![0.0; batch * steps * s.output];
                let end = End { act: self.activation.fused(), add: false };
                with_values(&x.0, |x| {
                    let rows = x.chunks_exact((time * channels).max(1)).zip(out.chunks_exact_mut((steps * s.output).max(1)));
                    for (x, out) in rows {
                        let out = Tile::dense(out, s.output);
                        conv.forward(&cpu, Rows::dense(x, channels), Fused::None, out, end);
                    }
                })?;
                Act::new(out, (batch, steps, s.output))
            }
        }
    }
}
