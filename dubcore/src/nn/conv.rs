//! Convolutions over time.

use candle_core::Tensor;

use super::elementwise::add;
use super::layers::Activation;
use super::weights::Weights;
use super::{Ctx, Signal};
use crate::device::Use;
use crate::error::Result;

/// A convolution with an optional bias.
pub(crate) struct Conv1d {
    kernel: Tensor,
    bias: Option<Tensor>,
    spec: ConvSpec,
}

/// The shape of a convolution.
#[derive(Clone, Copy)]
pub(crate) struct ConvSpec {
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) width: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
    pub(crate) dilation: usize,
    pub(crate) groups: usize,
}

impl ConvSpec {
    /// `input` to `output` channels, `width` taps, stride, dilation and groups 1, padded so that the length stays.
    pub(crate) fn same(input: usize, output: usize, width: usize) -> Self {
        Self { input, output, width, stride: 1, padding: width / 2, dilation: 1, groups: 1 }
    }
}

impl Conv1d {
    /// Reads `weight` `[output, input / groups, width]` and, if asked, `bias` `[output]`.
    pub(crate) fn load(w: &Weights, spec: ConvSpec, bias: bool) -> Result<Self> {
        let kernel = w.tensor("weight", &[spec.output, spec.input / spec.groups, spec.width])?;
        let bias = if bias { Some(bias_row(w, spec.output)?) } else { None };
        Ok(Self { kernel, bias, spec })
    }

    pub(crate) fn forward(&self, ctx: &Ctx<'_>, x: &Signal) -> Result<Signal> {
        let s = self.spec;
        let (rows, _, steps) = x.0.dims3()?;
        // Every window laid out once, and the output before and after the bias.
        let _held = ctx.take(Use::Workspace, rows * steps / s.stride * (s.input * s.width + 2 * s.output))?;
        let y = x.0.conv1d(&self.kernel, s.padding, s.stride, s.dilation, s.groups)?;
        Ok(Signal(match &self.bias {
            Some(bias) => add(&y, bias)?,
            None => y,
        }))
    }

    /// The convolution followed by an activation function.
    pub(crate) fn forward_act(&self, ctx: &Ctx<'_>, x: &Signal, act: Activation) -> Result<Signal> {
        Ok(Signal(act.apply(&self.forward(ctx, x)?.0)?))
    }
}

fn bias_row(w: &Weights, channels: usize) -> Result<Tensor> {
    Ok(w.tensor("bias", &[channels])?.reshape((1, channels, 1))?)
}
