//! Lists of tensors, and the numbers in them.

use std::path::Path;

use anyhow::{Context, Result};
use half::f16;
use safetensors::tensor::{Dtype, TensorView};

use super::Storage;

/// The tensors of a checkpoint.
#[derive(Default)]
pub(super) struct Tensors(Vec<Tensor>);

struct Tensor {
    name: String,
    shape: Vec<usize>,
    fill: Fill,
}

enum Fill {
    /// Evenly spread around zero, with this deviation.
    Random(f32),
    Same(f32),
    Values(Vec<f32>),
}

impl Tensors {
    fn push(&mut self, name: impl Into<String>, shape: &[usize], fill: Fill) {
        self.0.push(Tensor { name: name.into(), shape: shape.to_vec(), fill });
    }

    pub(super) fn random(&mut self, name: impl Into<String>, shape: &[usize], deviation: f32) {
        self.push(name, shape, Fill::Random(deviation));
    }

    pub(super) fn same(&mut self, name: impl Into<String>, shape: &[usize], value: f32) {
        self.push(name, shape, Fill::Same(value));
    }

    pub(super) fn values(&mut self, name: impl Into<String>, shape: &[usize], values: Vec<f32>) {
        self.push(name, shape, Fill::Values(values));
    }

    /// A linear layer whose output is as large as its input.
    pub(super) fn linear(&mut self, name: &str, input: usize, output: usize, bias: bool) {
        self.random(format!("{name}.weight"), &[output, input], (input as f32).powf(-0.5));
        if bias {
            self.random(format!("{name}.bias"), &[output], 0.02);
        }
    }

    pub(super) fn norm(&mut self, name: &str, channels: usize) {
        self.same(format!("{name}.weight"), &[channels], 1.0);
        self.same(format!("{name}.bias"), &[channels], 0.0);
    }

    /// A convolution whose output is `gain` times as large as its input.
    pub(super) fn conv(&mut self, name: &str, (output, input, width): (usize, usize, usize), gain: f32) {
        self.random(format!("{name}.weight"), &[output, input, width], gain * ((input * width) as f32).powf(-0.5));
        self.random(format!("{name}.bias"), &[output], 0.02);
    }

    /// The blocks that encoders and decoders of transformers share; `key_bias` as in `Shape::key_bias` of the library.
    pub(super) fn attention(&mut self, name: &str, width: usize, key_bias: bool) {
        for (part, bias) in [("q_proj", true), ("k_proj", key_bias), ("v_proj", true), ("out_proj", true)] {
            self.linear(&format!("{name}.{part}"), width, width, bias);
        }
        self.norm(&format!("{name}_layer_norm"), width);
    }

    pub(super) fn feed_forward(&mut self, name: &str, width: usize, inner: usize) {
        self.linear(&format!("{name}.fc1"), width, inner, true);
        self.linear(&format!("{name}.fc2"), inner, width, true);
        self.norm(&format!("{name}.final_layer_norm"), width);
    }

    /// Fills and writes them.
    pub(super) fn write(self, path: &Path, storage: Storage, seed: u64) -> Result<()> {
        let mut random = Random::new(seed);
        let mut stored = Vec::new();
        for Tensor { name, shape, fill } in self.0 {
            let count: usize = shape.iter().product();
            let values = match fill {
                // An even spread of deviation 1 reaches to the root of 3.
                Fill::Random(deviation) => (0..count).map(|_| random.even() * deviation * 3f32.sqrt()).collect(),
                Fill::Same(value) => vec![value; count],
                Fill::Values(values) => values,
            };
            let bytes: Vec<u8> = match storage {
                Storage::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                Storage::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            };
            stored.push((name, shape, bytes));
        }
        let dtype = if storage == Storage::F32 { Dtype::F32 } else { Dtype::F16 };
        let views: Vec<_> = stored
            .iter()
            .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(dtype, shape.clone(), bytes)?)))
            .collect::<Result<_>>()?;
        safetensors::serialize_to_file(views, None, path).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Numbers that look random and are the same everywhere (xorshift*, Marsaglia 2003).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Zero would stay zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number, 0 to `below`, which is left out.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.next() % below
    }

    /// The next number, -1 to 1.
    pub(crate) fn even(&mut self) -> f32 {
        (self.next() >> 39) as f32 / (1 << 23) as f32 - 1.0
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 1
    }
}
