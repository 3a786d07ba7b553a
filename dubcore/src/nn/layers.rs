//! The small layers: linear, layer norm, embedding, activation functions.

use std::sync::Arc;

use candle_core::cpu::erf::erf_f32;
use candle_core::{D, Device, Tensor};

use super::cpu::Packed;
use super::elementwise::{add, map};
use super::engine::Engine;
use super::weights::Weights;
use super::with_values;
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
    pub(in crate::nn) fn tied(embedding: &Embedding, bias: Option<Vec<f32>>) -> Result<Self> {
        let bias = bias.map(|b| Tensor::new(b, &Device::Cpu)).transpose()?;
        Ok(Self { weight: embedding.tensor()?.clone(), bias })
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
    table: Table,
    /// Tokens and channels.
    size: (usize, usize),
    scale: f64,
}

#[derive(Clone)]
enum Table {
    Plain(Tensor),
    /// As the product wants it that makes logits of it. Vectors are read out of it: exactly what went in as f32, else as it
    /// was rounded, so that there is one copy of what may be a third of a model.
    Packed(Arc<Packed>),
}

impl Embedding {
    /// Reads `weight` `[tokens, channels]`; each vector is multiplied by `scale` when looked up.
    pub(crate) fn load(w: &Weights, tokens: usize, channels: usize, scale: f64) -> Result<Self> {
        let table = Table::Plain(w.tensor("weight", &[tokens, channels])?);
        Ok(Self { table, size: (tokens, channels), scale })
    }

    /// As [`Embedding::load`], for a table of which a decoder makes its logits, too.
    pub(crate) fn vocabulary(w: &Weights, tokens: usize, channels: usize, scale: f64) -> Result<Self> {
        let Engine::Cpu(isa, format) = w.engine() else { return Self::load(w, tokens, channels, scale) };
        let size = (tokens, channels);
        let packed = w.pack((isa, format), &[w.matrix("weight", size)?], None)?;
        Ok(Self { table: Table::Packed(Arc::new(packed)), size, scale })
    }

    /// A table that is computed, not read, `[rows, channels]`.
    pub(crate) fn from_values(values: Vec<f32>, rows: usize, channels: usize) -> Result<Self> {
        let table = Table::Plain(Tensor::from_vec(values, (rows, channels), &Device::Cpu)?);
        Ok(Self { table, size: (rows, channels), scale: 1.0 })
    }

    fn tensor(&self) -> Result<&Tensor> {
        match &self.table {
            Table::Plain(table) => Ok(table),
            Table::Packed(_) => Err(Error::internal("a packed table is no tensor")),
        }
    }

    /// The table of a [`Embedding::vocabulary`] as the kernels have it.
    pub(in crate::nn) fn packed(&self) -> Result<&Packed> {
        match &self.table {
            Table::Packed(table) => Ok(table),
            Table::Plain(_) => Err(Error::internal("a table of logits was not packed")),
        }
    }

    /// The vectors of rows of tokens, all rows equally long.
    pub(crate) fn lookup(&self, rows: &[impl AsRef<[u32]>]) -> Result<Act> {
        let width = rows.first().map_or(0, |r| r.as_ref().len());
        let mut x = vec![0.0; rows.len() * width * self.size.1];
        self.lookup_into(rows, &mut x)?;
        Act::new(x, (rows.len(), width, self.size.1))
    }

    /// As [`Embedding::lookup`], `[rows, time, channels]`.
    pub(in crate::nn) fn lookup_into(&self, rows: &[impl AsRef<[u32]>], x: &mut [f32]) -> Result<()> {
        let (known, channels) = self.size;
        let tokens = rows.iter().flat_map(|r| r.as_ref());
        debug_assert_eq!(tokens.clone().count() * channels, x.len());
        if let Some(bad) = tokens.clone().find(|t| **t as usize >= known) {
            return Err(Error::internal(format!("token {bad} is outside the vocabulary of {known}")));
        }
        let each = tokens.zip(x.chunks_exact_mut(channels.max(1)));
        match &self.table {
            Table::Plain(table) => with_values(table, |table| {
                each.for_each(|(token, x)| x.copy_from_slice(&table[*token as usize * channels..][..channels]));
            })?,
            Table::Packed(table) => each.for_each(|(token, x)| table.row(*token as usize, x)),
        }
        if self.scale != 1.0 {
            x.iter_mut().for_each(|v| *v *= self.scale as f32);
        }
        Ok(())
    }

    /// `x` plus the rows `from..` of the table: position embeddings.
    pub(crate) fn add_positions(&self, x: &Act, from: usize) -> Result<Act> {
        let shape = x.shape()?;
        debug_assert_eq!(shape.2, self.size.1);
        let mut values = x.values()?;
        self.add_positions_to(&mut values, shape.1, from)?;
        Act::new(values, shape)
    }

    /// As [`Embedding::add_positions`], to `x` `[rows, time, channels]` in place.
    pub(in crate::nn) fn add_positions_to(&self, x: &mut [f32], time: usize, from: usize) -> Result<()> {
        self.check_positions(from + time)?;
        let channels = self.size.1;
        with_values(self.tensor()?, |table| {
            let positions = &table[from * channels..][..time * channels];
            for row in x.chunks_exact_mut((time * channels).max(1)) {
                row.iter_mut().zip(positions).for_each(|(x, p)| *x += p);
            }
        })
    }

    fn check_positions(&self, wanted: usize) -> Result<()> {
        let most = self.size.0;
        match wanted <= most {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::LimitExceeded, format!("{wanted} positions exceed the model's {most}"))),
        }
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
