//! Convolutions over time of channel-last signals, `[time, channels]`.
//!
//! In this layout the inputs of an output step are, for each tap, one row of the padded signal: the product of
//! [`super::gemm`] walks from row to row by the dilation, and no matrix of windows is made. A transposed convolution is one
//! to all phases of its stride at once. Signals are rounded once, with their activation, to what the weights are.

use super::Cpu;
use super::arena::{Arena, Lent};
use super::gemm::{Act, Convert, End, Operand, Product};
use super::pack::{Format, Packed, Shape};
use super::simd::Isa;
use super::tile::{Rows, Tile};

/// A convolution.
pub(crate) struct Conv {
    packed: Packed,
    stride: usize,
    /// Zeros before the signal.
    left: usize,
    dilation: usize,
}

/// The most steps that a thread does at a time.
const STEPS: usize = 384;

impl Conv {
    /// Weights `[outputs, channels, taps]`, as PyTorch stores them. With stride 1 the output is as long as the input; with
    /// another it has a step for each `stride` of the input. Int8 is held as bf16: a scale for each step would not do.
    pub(crate) fn new(
        isa: Isa,
        format: Format,
        shape: Shape,
        weights: &[f32],
        bias: Option<&[f32]>,
        (stride, dilation): (usize, usize),
    ) -> Self {
        let Shape { outputs, channels, taps } = shape;
        assert!(weights.len() == outputs * channels * taps && taps > 0 && stride > 0 && dilation > 0);
        let packed = Packed::new(isa, rounded(format), shape, bias, |o, row| {
            for (c, by_tap) in weights[o * channels * taps..].chunks_exact(taps).take(channels).enumerate() {
                by_tap.iter().enumerate().for_each(|(tap, w)| row[tap * channels + c] = *w);
            }
        });
        Self { packed, stride, left: (taps - 1) * dilation / 2, dilation }
    }

    /// Steps of the output for `steps` of the input.
    pub(crate) fn steps(&self, steps: usize) -> usize {
        steps.div_ceil(self.stride)
    }

    /// `out` `[steps, outputs]` from `before(x)`, `x` `[time, channels]`.
    pub(crate) fn forward(&self, cpu: &Cpu, x: Rows<'_>, before: Act, out: Tile<'_>, end: End) {
        assert_eq!((x.columns(), out.columns()), (self.packed.shape.channels, self.packed.shape.outputs));
        assert_eq!(out.rows(), self.steps(x.len()));
        let (steps, arena) = (part(cpu, out.rows()), &cpu.arena);
        cpu.team.each_rows(out, steps, |i, out| {
            let reach = (self.packed.shape.taps - 1) * self.dilation;
            let from = (i * steps * self.stride) as isize - self.left as isize;
            let rows = (out.rows() - 1) * self.stride + reach + 1;
            let words = padded(&self.packed, arena, x, before, from, rows);
            let row = self.packed.words();
            let a = Operand { words: &words, row: row * self.stride, tap: row * self.dilation, rows: out.rows(), scales: &[] };
            self.packed.isa.run(Product { w: &self.packed, panel: 0, a, out, end });
        });
    }
}

/// A transposed convolution that lengthens by its stride: `padding = (taps - stride) / 2` on either side is cut off.
pub(crate) struct ConvTranspose {
    /// To the outputs of all phases of the stride.
    packed: Packed,
    outputs: usize,
    stride: usize,
    padding: usize,
}

impl ConvTranspose {
    /// Weights `[channels, outputs, taps]`, as PyTorch stores them. `taps` is at least `stride`, and differs from it by an even
    /// number.
    pub(crate) fn new(isa: Isa, format: Format, shape: Shape, weights: &[f32], bias: &[f32], stride: usize) -> Self {
        let Shape { outputs, channels, taps } = shape;
        assert!(weights.len() == outputs * channels * taps && bias.len() == outputs);
        assert!(stride > 0 && taps >= stride && (taps - stride).is_multiple_of(2));
        let back = taps.div_ceil(stride);
        let all = Shape { outputs: stride * outputs, channels, taps: back };
        // Phase p of output step j is the sum over i of x[j - i] times tap i * stride + p.
        let packed = Packed::new(isa, rounded(format), all, Some(&bias.repeat(stride)), |column, row| {
            let (phase, o) = (column / outputs, column % outputs);
            for i in 0..back {
                let (tap, row) = (i * stride + phase, &mut row[(back - 1 - i) * channels..][..channels]);
                let weight = |c: usize| if tap < taps { weights[(c * outputs + o) * taps + tap] } else { 0.0 };
                row.iter_mut().enumerate().for_each(|(c, w)| *w = weight(c));
            }
        });
        Self { packed, outputs, stride, padding: (taps - stride) / 2 }
    }

    /// `out` `[time * stride, outputs]` from `before(x)`, `x` `[time, channels]`.
    pub(crate) fn forward(&self, cpu: &Cpu, x: Rows<'_>, before: Act, out: &mut [f32]) {
        let (time, wide) = (x.len(), self.stride * self.outputs);
        assert_eq!((x.columns(), out.len()), (self.packed.shape.channels, time * wide));
        if time == 0 {
            return;
        }
        let cut = self.padding * self.outputs;
        let reach = self.packed.shape.taps - 1;
        let arena = &cpu.arena;
        let product = |from: usize, out: Tile<'_>| {
            let words = padded(&self.packed, arena, x, before, from as isize - reach as isize, out.rows() + reach);
            let row = self.packed.words();
            let a = Operand { words: &words, row, tap: row, rows: out.rows(), scales: &[] };
            self.packed.isa.run(Product { w: &self.packed, panel: 0, a, out, end: End::default() });
        };
        // Rows of all phases, of which the first and the last ones lie partly in what is cut off.
        let (whole_from, whole_to) = (cut.div_ceil(wide), (time * wide + cut) / wide);
        let mut edge = cpu.arena.lend::<f32>(wide);
        for row in (0..whole_from).chain(whole_to..time + reach) {
            let (from, to) = ((row * wide).max(cut), ((row + 1) * wide).min(cut + out.len()));
            if from < to {
                product(row, Tile::new(&mut edge, 1, wide, wide));
                out[from - cut..to - cut].copy_from_slice(&edge[from - row * wide..to - row * wide]);
            }
        }
        if whole_from < whole_to {
            let rows = whole_to - whole_from;
            let steps = part(cpu, rows);
            let whole = &mut out[whole_from * wide - cut..][..rows * wide];
            cpu.team.each_rows(Tile::dense(whole, wide), steps, |i, out| product(whole_from + i * steps, out));
        }
    }
}

fn rounded(format: Format) -> Format {
    if format == Format::F32 { Format::F32 } else { Format::Bf16 }
}

/// Steps that a thread does at a time.
fn part(cpu: &Cpu, steps: usize) -> usize {
    steps.div_ceil(2 * cpu.team.threads()).clamp(1, STEPS).next_multiple_of(96)
}

/// `before` of the rows `from..from + rows` of `x`, as words; zeros outside of it.
fn padded<'a>(w: &Packed, arena: &'a Arena, x: Rows<'_>, before: Act, from: isize, rows: usize) -> Lent<'a, u32> {
    let per_row = w.words();
    let mut words = arena.lend(rows * per_row);
    let left = from.min(0).unsigned_abs().min(rows);
    let first = from.max(0) as usize;
    let inside = x.slice(first, rows - left);
    let (before_it, rest) = words.split_at_mut(left * per_row);
    let (of_it, behind_it) = rest.split_at_mut(inside.len() * per_row);
    before_it.fill(0);
    behind_it.fill(0);
    w.isa.run(Convert { x: inside, act: before, format: w.format, words: of_it, per_row, scales: &mut [] });
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::linear::tests::noise;
    use super::*;

    fn bound(format: Format, inputs: usize) -> f64 {
        let root = (inputs as f64).sqrt();
        if format == Format::F32 { 1e-6 * (2.0 + root) } else { 8e-3 * root.max(1.0) }
    }

    fn check(isa: Isa, format: Format, (time, c, n, taps): (usize, usize, usize, usize), stride: usize, dilation: usize) {
        let cpu = Cpu::new(0);
        let (x, w, bias) = (noise(time * c, 1), noise(n * c * taps, 2), noise(n, 3));
        let shape = Shape { outputs: n, channels: c, taps };
        let conv = Conv::new(isa, format, shape, &w, Some(&bias), (stride, dilation));
        let steps = conv.steps(time);
        let mut got = vec![0.25; steps * n];
        let end = End { act: Act::None, add: true };
        conv.forward(&cpu, Rows::dense(&x, c), Act::Leaky(0.1), Tile::dense(&mut got, n), end);
        for t in 0..steps {
            for o in 0..n {
                let mut want = f64::from(bias[o]) + 0.25;
                for k in 0..taps {
                    let at = (t * stride + k * dilation) as isize - ((taps - 1) * dilation / 2) as isize;
                    for i in (0..c).filter(|_| (0..time as isize).contains(&at)) {
                        let v = f64::from(x[at as usize * c + i]);
                        want += v.max(0.1 * v) * f64::from(w[(o * c + i) * taps + k]);
                    }
                }
                let error = (f64::from(got[t * n + o]) - want).abs();
                assert!(error < bound(format, c * taps), "{isa:?} {format:?} {time} {c} {n} {taps} {stride} {dilation}: {error}");
            }
        }
    }

    fn check_transposed(isa: Isa, format: Format, (time, c, n): (usize, usize, usize), taps: usize, stride: usize) {
        let cpu = Cpu::new(0);
        let (x, w, bias) = (noise(time * c, 1), noise(n * c * taps, 2), noise(n, 3));
        let conv = ConvTranspose::new(isa, format, Shape { outputs: n, channels: c, taps }, &w, &bias, stride);
        let mut got = vec![0.25; time * stride * n];
        conv.forward(&cpu, Rows::dense(&x, c), Act::Leaky(0.1), &mut got);
        let padding = (taps - stride) / 2;
        let mut want = vec![0.0; (time * stride + 2 * padding) * n];
        for t in 0..time {
            for k in 0..taps {
                for i in 0..c {
                    let v = f64::from(x[t * c + i]);
                    for o in 0..n {
                        want[(t * stride + k) * n + o] += v.max(0.1 * v) * f64::from(w[(i * n + o) * taps + k]);
                    }
                }
            }
        }
        for (i, got) in got.iter().enumerate() {
            let want = want[padding * n + i] + f64::from(bias[i % n]);
            let error = (f64::from(*got) - want).abs();
            assert!(error < bound(format, c * taps), "{isa:?} {format:?} {time} {c} {n} {taps} {stride} at {i}: {error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn all_shapes(time in 1usize..90, c in 1usize..20, n in 1usize..70, taps in 1usize..12, stride in 1usize..4, dilation in 1usize..6) {
            for isa in Isa::all() {
                for format in [Format::F32, Format::Bf16, Format::Int8] {
                    check(isa, format, (time, c, n, taps), stride, dilation);
                }
            }
        }

        #[test]
        fn all_transposed_shapes(time in 1usize..40, c in 1usize..10, n in 1usize..40, more in 0usize..6, stride in 1usize..9) {
            for isa in Isa::all() {
                for format in [Format::F32, Format::Bf16] {
                    check_transposed(isa, format, (time, c, n), stride + 2 * more, stride);
                }
            }
        }
    }

    #[test]
    fn nothing_becomes_nothing() {
        let cpu = Cpu::new(0);
        for isa in Isa::all() {
            let shape = Shape { outputs: 2, channels: 3, taps: 3 };
            let conv = Conv::new(isa, Format::F32, shape, &[0.5; 18], None, (1, 1));
            conv.forward(&cpu, Rows::new(&[], 0, 3, 3), Act::None, Tile::new(&mut [], 0, 2, 2), End::default());
            let up = ConvTranspose::new(isa, Format::F32, Shape { taps: 4, ..shape }, &[0.5; 24], &[0.0; 2], 2);
            up.forward(&cpu, Rows::new(&[], 0, 3, 3), Act::None, &mut []);
        }
    }
}
