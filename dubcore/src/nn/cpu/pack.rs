//! Weights in the order in which the matrix product reads them.
//!
//! A product multiplies rows of inputs by all outputs' weights. Outputs are taken in *panels* of two vectors' width, and a
//! panel's weights lie input by input: for each input the weights of all its outputs side by side, one vector load each. A
//! load gives 32-bit *words*: an f32, two bf16 of neighbouring inputs, or four int8, as the dot-product instructions want
//! them. A convolution has the inputs of one tap after the other.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use super::Cpu;
use super::arena::{Buffer, cast, cast_mut};
use super::gemm::{Act, Convert, weights};
use super::simd::{Isa, Kernel, MAX_LANES, Simd};
use super::tile::{Rows, Tile};

/// How numbers are held while they are multiplied. Sums are f32 (of int8: whole numbers, exact).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    F32,
    /// Weights and inputs rounded to bf16.
    Bf16,
    /// Weights scaled by output and rounded to signed bytes, inputs scaled and shifted by row and rounded to unsigned ones.
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
    /// By output, for int8: what a whole number stands for, and the sum of its weights, by which the inputs' shift is taken out
    /// of a sum.
    scale: Buffer,
    total: Buffer,
}

impl Packed {
    /// `row` writes the weights of an output, tap by tap, `[taps, channels]`.
    pub(crate) fn new(
        cpu: &Cpu,
        isa: Isa,
        format: Format,
        shape: Shape,
        bias: Option<&[f32]>,
        row: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Self {
        let of_output = (shape.taps * shape.channels).max(1);
        let rows = |first: usize, to: &mut [f32]| -> Result<(), Infallible> {
            to.chunks_exact_mut(of_output).enumerate().for_each(|(i, to)| row(first + i, to));
            Ok(())
        };
        let Ok(packed) = Self::read(cpu, isa, format, shape, bias, rows);
        packed
    }

    /// As [`Packed::new`]; `rows` writes the weights of as many outputs as there is room for, from the given one on. An error
    /// ends it.
    pub(crate) fn read<E: Send + Sync>(
        cpu: &Cpu,
        isa: Isa,
        format: Format,
        shape: Shape,
        bias: Option<&[f32]>,
        rows: impl Fn(usize, &mut [f32]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let width = 2 * isa.lanes();
        let Shape { outputs, channels, taps } = shape;
        assert!(format != Format::Int8 || taps == 1, "a tap would need a scale of its own");
        let (words, padded) = (format.words(channels), outputs.next_multiple_of(width));
        let (of_output, of_panel, int8) =
            (taps * channels, taps * words * width, if format == Format::Int8 { padded } else { 0 });
        let mut panels = Buffer::lasting::<u32>(padded * taps * words);
        let (mut scale, mut total) = (Buffer::new::<f32>(int8), Buffer::new::<f32>(int8));
        let scales = Tile::dense(&mut scale.as_mut()[..int8], width).shared();
        let totals = Tile::dense(&mut total.as_mut()[..int8], width).shared();
        let (failed, arena) = (OnceLock::new(), &cpu.arena);
        let of_part = (SHARE / (width * of_output).max(1)).max(1);
        cpu.team.each_rows(Tile::dense(&mut panels.as_mut()[..padded * taps * words], of_panel), of_part, |part, mut to| {
            let first = part * of_part * width;
            let count = (to.rows() * width).min(outputs - first);
            let mut from = arena.lend::<f32>(count * of_output);
            if failed.get().is_some() {
                return;
            }
            if let Err(e) = rows(first, &mut from) {
                let _ = failed.set(e);
                return;
            }
            let mut words = arena.lend::<u32>(width * taps * words);
            for (i, from) in from.chunks((width * of_output).max(1)).enumerate() {
                // SAFETY: each panel has numbers of its own, and is filled once.
                let (mut scales, mut totals) =
                    unsafe { (scales.piece(part * of_part + i, 1, 0, width), totals.piece(part * of_part + i, 1, 0, width)) };
                let (scales, totals) = (scales.all(), totals.all());
                let to = cast_mut(to.row(i));
                isa.run(Fill { format, taps, from: Rows::dense(from, channels), words: &mut words, to, scales, totals });
            }
        });
        let panels = Arc::new(panels);
        if let Some(e) = failed.into_inner() {
            return Err(e);
        }
        let packed = Self { isa, format, shape, panels, bias: Buffer::new::<f32>(padded), scale, total };
        Ok(match bias {
            Some(bias) => packed.with_bias(bias),
            None => packed,
        })
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
        cpu: &Cpu,
        isa: Isa,
        format: Format,
        weights: &[f32],
        bias: Option<&[f32]>,
        (outputs, inputs): (usize, usize),
    ) -> Self {
        assert_eq!(weights.len(), outputs * inputs);
        let shape = Shape { outputs, channels: inputs, taps: 1 };
        Self::new(cpu, isa, format, shape, bias, |o, row| row.copy_from_slice(&weights[o * inputs..][..inputs]))
    }

    pub(crate) fn inputs(&self) -> usize {
        self.shape.channels
    }

    pub(crate) fn outputs(&self) -> usize {
        self.shape.outputs
    }

    /// Bytes that such weights will take.
    pub(crate) fn bytes_of(isa: Isa, format: Format, Shape { outputs, channels, taps }: Shape) -> usize {
        let beside = if format == Format::Int8 { 3 } else { 1 };
        4 * outputs.next_multiple_of(2 * isa.lanes()) * (taps * format.words(channels) + beside)
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        [&*self.panels, &self.bias, &self.scale, &self.total].into_iter().map(Buffer::bytes).sum()
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

    pub(super) fn total(&self) -> &[f32] {
        self.total.as_slice()
    }
}

/// Numbers that are worth a thread, and a read from a file.
const SHARE: usize = 64 << 10;

/// Fills a panel.
pub(super) struct Fill<'a> {
    pub(super) format: Format,
    pub(super) taps: usize,
    /// Tap by tap the weights of some outputs.
    pub(super) from: Rows<'a>,
    /// Room for those as words.
    pub(super) words: &'a mut [u32],
    pub(super) to: &'a mut [u32],
    /// For int8.
    pub(super) scales: &'a mut [f32],
    pub(super) totals: &'a mut [f32],
}

impl Kernel for Fill<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { format, taps, from, words, to, scales, totals } = self;
        let (width, per_row) = (2 * S::LANES, format.words(from.columns()));
        if per_row == 0 {
            return;
        }
        let words = &mut words[..from.len() * per_row];
        if format == Format::Int8 {
            for (i, words) in words.chunks_exact_mut(per_row).enumerate() {
                scales[i] = weights(s, from.row(i), cast_mut(words));
                totals[i] = cast::<u32, u8>(words).iter().map(|weight| i32::from(*weight as i8)).sum::<i32>() as f32;
            }
        } else {
            Convert { x: from, act: Act::None, format, words, per_row, scales: &mut [] }.run(s);
        }
        // A cache line of each output at a time is turned.
        const TURN: usize = 16;
        let outputs = from.len() / taps;
        let mut turned = [[0; 2 * MAX_LANES]; TURN];
        for tap in 0..taps {
            for at in (0..per_row).step_by(TURN) {
                let n = TURN.min(per_row - at);
                for column in 0..outputs {
                    let line = &words[(column * taps + tap) * per_row + at..][..n];
                    turned.iter_mut().zip(line).for_each(|(to, word)| to[column] = *word);
                }
                let to = &mut to[(tap * per_row + at) * width..][..n * width];
                to.chunks_exact_mut(width).zip(&turned).for_each(|(to, row)| to[..outputs].copy_from_slice(&row[..outputs]));
            }
        }
    }
}

/// Rows below are zero as int8: their scale would be no normal number.
pub(super) const LEAST: f32 = 1e-30;
