//! The small layers: linear, layer norm, embedding, activation functions.

use candle_core::cpu::erf::erf_f32;
use candle_core::{D, Device, Tensor};

use super::elementwise::{add, map};
use super::weights::Weights;
use super::{Act, cpu};
use crate::error::{Error, ErrorKind, Result};

/// `y = x W^T + b` over the last dimension.
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Reads `weight` `[output, input]` and, if asked, `bias` `[output]`.
    pub(crate) fn load(w: &Weights, input: usize, output: usize, bias: bool) -> Result<Self> {
        let bias = if bias { Some(w.tensor("bias", &[output])?) } else { None };
        Ok(Self { weight: w.tensor("weight", &[output, input])?, bias })
    }

    /// A projection that shares its weight with an embedding.
    pub(crate) fn tied(embedding: &Embedding, bias: Option<Vec<f32>>) -> Result<Self> {
        let bias = bias.map(|b| Tensor::new(b, &Device::Cpu)).transpose()?;
        Ok(Self { weight: embedding.table.clone(), bias })
    }

    /// Weight `[output, input]` and bias.
    pub(in crate::nn) fn parts(&self) -> (&Tensor, Option<&Tensor>) {
        (&self.weight, self.bias.as_ref())
    }

    pub(in crate::nn) fn outputs(&self) -> Result<usize> {
        Ok(self.weight.dim(0)?)
    }

    pub(in crate::nn) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        // One matrix product over all rows; a product per batch entry would lose the larger blocks.
        let (b, t, c) = x.dims3()?;
        let y = x.reshape((b * t, c))?.matmul(&self.weight.t()?)?;
        let y = match &self.bias {
            Some(bias) => add(&y, bias)?,
            None => y,
        };
        Ok(y.reshape((b, t, ()))?)
    }
}

/// Normalisation over the last dimension (Ba et al. 2016).
pub(crate) struct LayerNorm {
    gain: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    /// Reads `weight` and `bias`, `[channels]`.
    pub(crate) fn load(w: &Weights, channels: usize, eps: f64) -> Result<Self> {
        Ok(Self { gain: w.tensor("weight", &[channels])?, bias: w.tensor("bias", &[channels])?, eps: eps as f32 })
    }

    pub(in crate::nn) fn apply(&self, x: &Tensor) -> Result<Tensor> {
        Ok(candle_nn::ops::layer_norm(&x.contiguous()?, &self.gain, &self.bias, self.eps)?)
    }
}

/// A table of vectors, looked up by token. Clones share it.
#[derive(Clone)]
pub(crate) struct Embedding {
    table: Tensor,
    scale: f64,
}

impl Embedding {
    /// Reads `weight` `[tokens, channels]`; each vector is multiplied by `scale` when looked up.
    pub(crate) fn load(w: &Weights, tokens: usize, channels: usize, scale: f64) -> Result<Self> {
        Ok(Self { table: w.tensor("weight", &[tokens, channels])?, scale })
    }

    /// A table that is computed, not read, `[rows, channels]`.
    pub(crate) fn from_values(values: Vec<f32>, rows: usize, channels: usize) -> Result<Self> {
        Ok(Self { table: Tensor::from_vec(values, (rows, channels), &Device::Cpu)?, scale: 1.0 })
    }

    /// The vectors of rows of tokens, all rows equally long.
    pub(crate) fn lookup(&self, rows: &[impl AsRef<[u32]>]) -> Result<Act> {
        let width = rows.first().map_or(0, |r| r.as_ref().len());
        let tokens: Vec<u32> = rows.iter().flat_map(|r| r.as_ref().iter().copied()).collect();
        let known = self.table.dim(0)?;
        if let Some(bad) = tokens.iter().find(|t| **t as usize >= known) {
            return Err(Error::internal(format!("token {bad} is outside the vocabulary of {known}")));
        }
        let tokens = Tensor::from_vec(tokens, rows.len() * width, &Device::Cpu)?;
        let x = self.table.index_select(&tokens, 0)?.reshape((rows.len(), width, ()))?;
        Ok(Act(if self.scale == 1.0 { x } else { (x * self.scale)? }))
    }

    /// `x` plus the rows `from..` of the table: position embeddings.
    pub(crate) fn add_positions(&self, x: &Act, from: usize) -> Result<Act> {
        let (_, t, _) = x.shape()?;
        if from + t > self.table.dim(0)? {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("{} positions exceed the model's {}", from + t, self.table.dim(0)?),
            ));
        }
        Ok(Act(add(&x.0, &self.table.narrow(0, from, t)?)?))
    }
}

/// Activation functions by their names in config.json.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Activation {
    Relu,
    /// The exact form with erf.
    Gelu,
    /// The tanh approximation (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh,
    /// x * sigmoid(x).
    Silu,
    Tanh,
}

impl Activation {
    pub(crate) fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "relu" => Self::Relu,
            "gelu" => Self::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Self::GeluTanh,
            "swish" | "silu" => Self::Silu,
            "tanh" => Self::Tanh,
            _ => {
                return Err(Error::new(
                    ErrorKind::ModelIncompatible,
                    format!("activation function {name:?} is not known: relu, gelu, gelu_new, swish, silu and tanh are"),
                ));
            }
        })
    }

    /// The kernels' name for it.
    pub(in crate::nn) fn fused(self) -> cpu::Act {
        match self {
            Self::Relu => cpu::Act::Relu,
            Self::Gelu => cpu::Act::Gelu,
            Self::GeluTanh => cpu::Act::GeluTanh,
            Self::Silu => cpu::Act::Silu,
            Self::Tanh => cpu::Act::Tanh,
        }
    }

    pub(in crate::nn) fn apply(self, x: &Tensor) -> Result<Tensor> {
        let root = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
        match self {
            Self::Relu => map(x, |v| v.max(0.0)),
            Self::Gelu => map(x, |v| (erf_f32(v * std::f32::consts::FRAC_1_SQRT_2) + 1.0) * 0.5 * v),
            Self::GeluTanh => map(x, |v| 0.5 * v * (1.0 + (root * v * (1.0 + 0.044_715 * v * v)).tanh())),
            Self::Silu => map(x, |v| v / (1.0 + (-v).exp())),
            Self::Tanh => map(x, f32::tanh),
        }
    }
}

/// Softmax over the last dimension.
pub(in crate::nn) fn softmax(x: &Tensor) -> Result<Tensor> {
    debug_assert!(x.dim(D::Minus1).is_ok_and(|n| n > 0));
    Ok(candle_nn::ops::softmax_last_dim(&x.contiguous()?)?)
}
