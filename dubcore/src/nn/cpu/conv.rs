//! Convolutions over time of channel-last signals, `[time, channels]`.
//!
//! In this layout the inputs of an output step are, for each tap, one row of the padded signal: the product of
//! [`super::gemm`] walks from row to row by the dilation, and no matrix of windows is made. A transposed convolution is one
//! to all phases of its stride at once. Signals are rounded once, with their activation, to what the weights are.

use super::Cpu;
use super::arena::{Arena, Lent, cast};
use super::gemm::{Act, Convert, End, Operand, Product};
use super::pack::{Format, Packed, Shape};
use super::simd::{Isa, Kernel, MATRIX_ROWS, Simd};
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
        let packed = Packed::new(&Cpu::new(0), isa, rounded(format), shape, bias, |o, row| {
            by_tap(&weights[o * channels * taps..][..channels * taps], taps, row);
        });
        Self { packed, stride, left: (taps - 1) * dilation / 2, dilation }
    }

    pub(crate) fn channels(&self) -> usize {
        self.packed.shape.channels
    }

    pub(crate) fn outputs(&self) -> usize {
        self.packed.shape.outputs
    }

    /// How many steps before an output step its inputs begin; with an odd number of taps, they end as many behind it.
    pub(crate) fn reach(&self) -> usize {
        self.left
    }

    pub(crate) fn packed(&self) -> &Packed {
        &self.packed
    }

    /// Steps of the output for `steps` of the input.
    pub(crate) fn steps(&self, steps: usize) -> usize {
        steps.div_ceil(self.stride)
    }

    /// `out` `[steps, outputs]` from `before(x)`, `x` `[time, channels]`.
    pub(crate) fn forward(&self, cpu: &Cpu, x: Rows<'_>, before: Act, out: Tile<'_>, end: End) {
        assert_eq!(out.rows(), self.steps(x.len()));
        self.forward_from(cpu, x, 0, before, out, end);
    }

    /// As many steps of the output as `out` has rows, from step `first` on.
    pub(crate) fn forward_from(&self, cpu: &Cpu, x: Rows<'_>, first: usize, before: Act, out: Tile<'_>, end: End) {
        assert_eq!((x.columns(), out.columns()), (self.packed.shape.channels, self.packed.shape.outputs));
        assert!(first + out.rows() <= self.steps(x.len()));
        let (steps, arena) = (part(cpu, &self.packed, out.rows()), &cpu.arena);
        cpu.team.each_rows(out, steps, |i, out| self.rows(arena, x, first + i * steps, before, out, end));
    }

    /// One thread's part of it.
    fn rows(&self, arena: &Arena, x: Rows<'_>, first: usize, before: Act, out: Tile<'_>, end: End) {
        let w = &self.packed;
        let reach = (w.shape.taps - 1) * self.dilation;
        let from = (first * self.stride) as isize - self.left as isize;
        let rows = (out.rows() - 1) * self.stride + reach + 1;
        let inside = from >= 0 && from as usize + rows <= x.len();
        let held;
        let (words, per_row) = if inside && before == Act::None && w.format == Format::F32 {
            // As they are.
            (cast(x.slice(from as usize, rows).values()), x.stride())
        } else {
            held = padded((w.isa, w.format), arena, x, before, from, rows);
            (&*held, w.words())
        };
        let a = Operand { words, row: per_row * self.stride, tap: per_row * self.dilation, rows: out.rows(), scales: &[] };
        w.isa.run(Product { w, panel: 0, a, out, end });
    }
}

/// Weights `[channels, taps]` of an output as `[taps, channels]`.
pub(crate) fn by_tap(weights: &[f32], taps: usize, to: &mut [f32]) {
    let channels = weights.len() / taps;
    for (c, of_channel) in weights.chunks_exact(taps).enumerate() {
        of_channel.iter().enumerate().for_each(|(tap, w)| to[tap * channels + c] = *w);
    }
}

/// A convolution to one channel. Of a panel of outputs all but one would be empty: each step is a dot product instead.
pub(crate) struct ConvToOne {
    isa: Isa,
    /// `[taps, channels]`.
    weights: Vec<f32>,
    bias: f32,
    channels: usize,
    left: usize,
}

impl ConvToOne {
    /// Weights `[channels, taps]`, as PyTorch stores them.
    pub(crate) fn new(isa: Isa, (channels, taps): (usize, usize), weights: &[f32], bias: f32) -> Self {
        assert!(weights.len() == channels * taps && taps > 0);
        let mut turned = vec![0.0; weights.len()];
        by_tap(weights, taps, &mut turned);
        Self { isa, weights: turned, bias, channels, left: (taps - 1) / 2 }
    }

    /// How many steps on either side of a step its inputs are.
    pub(crate) fn reach(&self) -> usize {
        self.left
    }

    /// `act` of as many steps of the output as `out` has, from step `first` on, of `before(x)`, `x` `[time, channels]`.
    pub(crate) fn forward_from(&self, cpu: &Cpu, x: Rows<'_>, first: usize, before: Act, out: &mut [f32], act: Act) {
        assert_eq!(x.columns(), self.channels);
        assert!(first + out.len() <= x.len());
        let arena = &cpu.arena;
        let taps = self.weights.len() / self.channels;
        cpu.team.each_rows(Tile::dense(out, 1), STEPS, |i, mut out| {
            let from = (first + i * STEPS) as isize - self.left as isize;
            let words = padded((self.isa, Format::F32), arena, x, before, from, out.rows() + taps - 1);
            let values = Rows::new(cast(&words), out.rows(), self.weights.len(), self.channels);
            self.isa.run(Dots { weights: &self.weights, bias: self.bias, x: values, act, out: out.all() });
        });
    }
}

/// Dot products of rows with weights.
struct Dots<'a> {
    weights: &'a [f32],
    bias: f32,
    x: Rows<'a>,
    act: Act,
    out: &'a mut [f32],
}

impl Kernel for Dots<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        /// Rows whose sums do not wait for one another.
        const ROWS: usize = 4;
        let mut row = 0;
        for out in self.out.chunks_mut(ROWS) {
            if out.len() == ROWS {
                dots::<S, ROWS>(s, self.weights, std::array::from_fn(|r| self.x.row(row + r)), out);
            } else {
                for (r, out) in out.chunks_mut(1).enumerate() {
                    dots::<S, 1>(s, self.weights, [self.x.row(row + r)], out);
                }
            }
            row += ROWS;
        }
        let bias = s.splat(self.bias);
        for i in (0..self.out.len()).step_by(S::LANES) {
            let n = S::LANES.min(self.out.len() - i);
            // SAFETY: so many are left.
            unsafe {
                let v = s.add(s.load_part(self.out.as_ptr().add(i), n, 0.0), bias);
                s.store_part(self.out.as_mut_ptr().add(i), self.act.apply(s, v), n);
            }
        }
    }
}

/// Each sum adds lane by lane, in an order that does not depend on the rows beside it.
#[inline(always)]
fn dots<S: Simd, const ROWS: usize>(s: S, weights: &[f32], x: [&[f32]; ROWS], out: &mut [f32]) {
    assert!(x.iter().all(|x| x.len() == weights.len()) && out.len() == ROWS);
    let mut sums = [s.splat(0.0); ROWS];
    for i in (0..weights.len()).step_by(S::LANES) {
        let n = S::LANES.min(weights.len() - i);
        // SAFETY: so many are left of each: all are equally long.
        unsafe {
            let w = s.load_part(weights.as_ptr().add(i), n, 0.0);
            for (sum, x) in sums.iter_mut().zip(x) {
                *sum = s.fma(s.load_part(x.as_ptr().add(i), n, 0.0), w, *sum);
            }
        }
    }
    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = s.sum(sum));
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
        let packed = Packed::new(&Cpu::new(0), isa, rounded(format), all, Some(&bias.repeat(stride)), |column, row| {
            let (phase, o) = (column / outputs, column % outputs);
            for i in 0..back {
                let (tap, row) = (i * stride + phase, &mut row[(back - 1 - i) * channels..][..channels]);
                let weight = |c: usize| if tap < taps { weights[(c * outputs + o) * taps + tap] } else { 0.0 };
                row.iter_mut().enumerate().for_each(|(c, w)| *w = weight(c));
            }
        });
        Self { packed, outputs, stride, padding: (taps - stride) / 2 }
    }

    /// How many input steps on either side an output step may depend on.
    pub(crate) fn reach(&self) -> usize {
        self.packed.shape.taps
    }

    pub(crate) fn packed(&self) -> &Packed {
        &self.packed
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
            let w = (self.packed.isa, self.packed.format);
            let words = padded(w, arena, x, before, from as isize - reach as isize, out.rows() + reach);
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
            let steps = part(cpu, &self.packed, rows);
            let whole = &mut out[whole_from * wide - cut..][..rows * wide];
            cpu.team.each_rows(Tile::dense(whole, wide), steps, |i, out| product(whole_from + i * steps, out));
        }
    }
}

fn rounded(format: Format) -> Format {
    if format == Format::F32 { Format::F32 } else { Format::Bf16 }
}

/// Steps that a thread does at a time: whole strips of the product, and two parts for each thread at least, so that one that was
/// interrupted is helped out.
fn part(cpu: &Cpu, w: &Packed, steps: usize) -> usize {
    let strip = if w.format == Format::F32 { 12 } else { MATRIX_ROWS };
    steps.div_ceil(2 * cpu.team.threads()).clamp(1, STEPS).next_multiple_of(strip)
}

/// `before` of the rows `from..from + rows` of `x`, as words of a format; zeros outside of it.
fn padded<'a>(
    (isa, format): (Isa, Format),
    arena: &'a Arena,
    x: Rows<'_>,
    before: Act,
    from: isize,
    rows: usize,
) -> Lent<'a, u32> {
    let per_row = format.words(x.columns());
    let mut words = arena.lend(rows * per_row);
    let left = from.min(0).unsigned_abs().min(rows);
    let first = from.max(0) as usize;
    let inside = x.slice(first, rows - left);
    let (before_it, rest) = words.split_at_mut(left * per_row);
    let (of_it, behind_it) = rest.split_at_mut(inside.len() * per_row);
    before_it.fill(0);
    behind_it.fill(0);
    isa.run(Convert { x: inside, act: before, format, words: of_it, per_row, scales: &mut [] });
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
