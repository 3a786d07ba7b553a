//! Weights in the order in which the matrix product reads them.
//!
//! A product multiplies rows of inputs by all outputs' weights. Outputs are taken in *panels* of two vectors' width, and a
//! panel's weights lie input by input: for each input the weights of all its outputs side by side, one vector load each. A
//! load gives 32-bit *words*: an f32, two bf16 of neighbouring inputs, or four int8, as the dot-product instructions want
//! them. A convolution has the inputs of one tap after the other.

use std::sync::Arc;

use super::arena::Buffer;
use super::simd::{Isa, bf16};

/// How numbers are held while they are multiplied. Sums are f32 (of int8: whole numbers, exact).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    F32,
    /// Weights and inputs rounded to bf16.
    Bf16,
    /// Weights scaled by output and inputs scaled by row, both rounded to -127..=127.
    Int8,
}

impl Format {
    /// Numbers in a word.
    pub(super) fn per_word(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
            Self::Int8 => 4,
        }
    }

    /// Words of a row of `channels` numbers.
    pub(super) fn words(self, channels: usize) -> usize {
        channels.div_ceil(self.per_word())
    }
}

/// The shape of what is packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) outputs: usize,
    /// Inputs of a tap.
    pub(crate) channels: usize,
    /// 1 but for convolutions.
    pub(crate) taps: usize,
}

/// Packed weights and bias. Clones share the weights.
#[derive(Clone)]
pub(crate) struct Packed {
    pub(super) isa: Isa,
    pub(super) format: Format,
    pub(super) shape: Shape,
    /// Panel by panel, `[taps, words, width]`. What is beyond the outputs is zero.
    panels: Arc<Buffer>,
    /// By output; zero where there is none, and beyond the outputs.
    bias: Buffer,
    /// By output, for int8: what a whole number stands for, and -128 times the sum of its weights, because inputs are stored
    /// with 128 added.
    scale: Buffer,
    offset: Buffer,
}

impl Packed {
    /// `row` writes the weights of an output, tap by tap, `[taps, channels]`.
    pub(crate) fn new(
        isa: Isa,
        format: Format,
        shape: Shape,
        bias: Option<&[f32]>,
        mut row: impl FnMut(usize, &mut [f32]),
    ) -> Self {
        let width = 2 * isa.lanes();
        let Shape { outputs, channels, taps } = shape;
        let (words, padded) = (format.words(channels), outputs.next_multiple_of(width));
        let int8 = if format == Format::Int8 { padded } else { 0 };
        let mut panels = Buffer::lasting::<u32>(padded * taps * words);
        let (mut scales, mut offsets) = (Buffer::new::<f32>(int8), Buffer::new::<f32>(int8));
        let mut weights = vec![0.0; taps * channels];
        for output in 0..outputs {
            row(output, &mut weights);
            let (panel, column) = (output / width, output % width);
            let to = &mut panels.as_mut::<u32>()[panel * taps * words * width..][..taps * words * width];
            let to = to[column..].iter_mut().step_by(width);
            match format {
                Format::F32 => to.zip(&weights).for_each(|(to, w)| *to = w.to_bits()),
                Format::Bf16 => to.zip(weights.chunks(channels.max(1)).flat_map(|tap| tap.chunks(2))).for_each(|(to, pair)| {
                    *to = u32::from(bf16(pair[0])) | u32::from(bf16(pair.get(1).copied().unwrap_or(0.0))) << 16;
                }),
                Format::Int8 => {
                    let scale = int8_scale(&weights);
                    let mut sum = 0;
                    for (to, four) in to.zip(weights.chunks(channels.max(1)).flat_map(|tap| tap.chunks(4))) {
                        let mut bytes = [0; 4];
                        for (byte, w) in bytes.iter_mut().zip(four) {
                            let whole = (w / scale).round_ties_even() as i8;
                            sum += i32::from(whole);
                            *byte = whole as u8;
                        }
                        *to = u32::from_le_bytes(bytes);
                    }
                    scales.as_mut()[output] = scale;
                    offsets.as_mut()[output] = -128.0 * sum as f32;
                }
            }
        }
        let (panels, none) = (Arc::new(panels), Buffer::new::<f32>(padded));
        let packed = Self { isa, format, shape, panels, bias: none, scale: scales, offset: offsets };
        match bias {
            Some(bias) => packed.with_bias(bias),
            None => packed,
        }
    }

    /// The same weights with another bias.
    pub(crate) fn with_bias(&self, bias: &[f32]) -> Self {
        let mut packed = self.clone();
        packed.bias.as_mut()[..self.shape.outputs].copy_from_slice(bias);
        packed
    }

    /// The weights of an output of a linear layer, as they were rounded.
    pub(crate) fn row(&self, output: usize, to: &mut [f32]) {
        let width = self.width();
        assert!(self.shape.taps == 1 && output < self.shape.outputs && to.len() == self.shape.channels);
        let from = &self.panels()[output / width * self.panel_words() + output % width..];
        let words = from.iter().step_by(width);
        match self.format {
            Format::F32 => to.iter_mut().zip(words).for_each(|(to, word)| *to = f32::from_bits(*word)),
            Format::Bf16 => to.chunks_mut(2).zip(words).for_each(|(to, word)| {
                let both = [word << 16, word & 0xffff_0000].map(f32::from_bits);
                to.copy_from_slice(&both[..to.len()]);
            }),
            Format::Int8 => {
                let scale = self.scale()[output];
                to.chunks_mut(4).zip(words).for_each(|(to, word)| {
                    to.iter_mut().zip(word.to_le_bytes()).for_each(|(to, byte)| *to = f32::from(byte as i8) * scale);
                });
            }
        }
    }

    /// Weights `[outputs, inputs]` of a linear layer.
    pub(crate) fn linear(
        isa: Isa,
        format: Format,
        weights: &[f32],
        bias: Option<&[f32]>,
        (outputs, inputs): (usize, usize),
    ) -> Self {
        assert_eq!(weights.len(), outputs * inputs);
        let shape = Shape { outputs, channels: inputs, taps: 1 };
        Self::new(isa, format, shape, bias, |o, row| row.copy_from_slice(&weights[o * inputs..][..inputs]))
    }

    pub(crate) fn inputs(&self) -> usize {
        self.shape.channels
    }

    pub(crate) fn outputs(&self) -> usize {
        self.shape.outputs
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        [&*self.panels, &self.bias, &self.scale, &self.offset].into_iter().map(Buffer::bytes).sum()
    }

    /// Outputs of a panel.
    pub(super) fn width(&self) -> usize {
        2 * self.isa.lanes()
    }

    /// Words of a tap.
    pub(super) fn words(&self) -> usize {
        self.format.words(self.shape.channels)
    }

    /// Words of a panel.
    pub(super) fn panel_words(&self) -> usize {
        self.shape.taps * self.words() * self.width()
    }

    pub(super) fn panels(&self) -> &[u32] {
        self.panels.as_slice()
    }

    pub(super) fn bias(&self) -> &[f32] {
        self.bias.as_slice()
    }

    pub(super) fn scale(&self) -> &[f32] {
        self.scale.as_slice()
    }

    pub(super) fn offset(&self) -> &[f32] {
        self.offset.as_slice()
    }
}

/// What 1 stands for where `values` are to fit -127..=127; NaN where one is not finite.
fn int8_scale(values: &[f32]) -> f32 {
    let largest = values.iter().fold(LEAST, |m, v| m.max(v.abs()));
    if values.iter().all(|v| v.is_finite()) { largest / 127.0 } else { f32::NAN }
}

/// Rows below are zero as int8: their scale would be no normal number.
pub(super) const LEAST: f32 = 1e-30;
