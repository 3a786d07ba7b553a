//! Layer norm and softmax of rows, and what is asked of a row of logits.

use super::Cpu;
use super::arena::cast_mut;
use super::gemm::End;
use super::simd::{Isa, Kernel, Simd, math};
use super::tile::{Rows, Tile};

/// Normalisation of rows (Ba et al. 2016) with gain and bias.
pub(crate) struct LayerNorm {
    isa: Isa,
    gain: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

/// Rows that are worth a thread.
const ROWS: usize = 32;

impl LayerNorm {
    /// `gain` and `bias` are `[channels]`.
    pub(crate) fn new(isa: Isa, gain: Vec<f32>, bias: Vec<f32>, eps: f32) -> Self {
        assert_eq!(gain.len(), bias.len());
        Self { isa, gain, bias, eps }
    }

    /// `out` `[rows, channels]` from `x`.
    pub(crate) fn forward(&self, cpu: &Cpu, x: Rows<'_>, out: Tile<'_>) {
        self.forward_end(cpu, x, out, End::default());
    }

    /// As [`LayerNorm::forward`], with `end` of each value.
    pub(crate) fn forward_end(&self, cpu: &Cpu, x: Rows<'_>, out: Tile<'_>, end: End) {
        assert_eq!((x.len(), x.columns(), self.gain.len()), (out.rows(), out.columns(), out.columns()));
        cpu.team.each_rows(out, ROWS, |i, out| self.isa.run(Normalise { norm: self, x: x.slice(i * ROWS, ROWS), out, end }));
    }
}

struct Normalise<'a> {
    norm: &'a LayerNorm,
    x: Rows<'a>,
    out: Tile<'a>,
    end: End,
}

impl Kernel for Normalise<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let width = self.out.columns();
        let LayerNorm { gain, bias, eps, .. } = self.norm;
        for r in 0..self.out.rows() {
            let (x, out) = (self.x.row(r), self.out.row(r));
            let mean = total(s, x) / width as f32;
            let (middle, mut squares) = (s.splat(mean), s.splat(0.0));
            for i in (0..width).step_by(S::LANES) {
                // SAFETY: so many are left. The mean in the other lanes is no deviation.
                let v = s.sub(unsafe { s.load_part(x.as_ptr().add(i), S::LANES.min(width - i), mean) }, middle);
                squares = s.fma(v, v, squares);
            }
            let scale = s.splat(1.0 / (s.sum(squares) / width as f32 + eps).sqrt());
            for i in (0..width).step_by(S::LANES) {
                let n = S::LANES.min(width - i);
                // SAFETY: `n` values are left in each: all are `width` long.
                unsafe {
                    let v = s.mul(s.sub(s.load_part(x.as_ptr().add(i), n, 0.0), middle), scale);
                    let v = s.fma(v, s.load_part(gain.as_ptr().add(i), n, 0.0), s.load_part(bias.as_ptr().add(i), n, 0.0));
                    self.end.store(s, v, out.as_mut_ptr().add(i), n);
                }
            }
        }
    }
}

/// The sum, lane by lane: in an order that depends on the length alone.
#[inline(always)]
fn total<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut all = s.splat(0.0);
    for i in (0..x.len()).step_by(S::LANES) {
        // SAFETY: so many are left.
        all = s.add(all, unsafe { s.load_part(x.as_ptr().add(i), S::LANES.min(x.len() - i), 0.0) });
    }
    s.sum(all)
}

/// The largest value, NaN aside.
#[inline(always)]
pub(super) fn largest<S: Simd>(s: S, x: &[f32]) -> f32 {
    let whole = x.len() / (2 * S::LANES) * (2 * S::LANES);
    let mut all = [s.splat(f32::NEG_INFINITY); 2];
    // What is there is the first argument: the second is what NaN gives.
    for i in (0..whole).step_by(2 * S::LANES) {
        for (j, all) in all.iter_mut().enumerate() {
            // SAFETY: two vectors are there.
            *all = s.max(unsafe { s.load(x.as_ptr().add(i + j * S::LANES)) }, *all);
        }
    }
    let [mut all, other] = all;
    all = s.max(other, all);
    for i in (whole..x.len()).step_by(S::LANES) {
        // SAFETY: so many are left.
        let v = unsafe { s.load_part(x.as_ptr().add(i), S::LANES.min(x.len() - i), f32::NEG_INFINITY) };
        all = s.max(v, all);
    }
    s.largest(all)
}

/// The power of two below which there is no weight: it is nothing beside 1, and products with less than the least normal
/// number would take a processor a hundred times as long.
const FAINT: f32 = -86.0;

/// e^(v - max), where that is no more than 1, and 0 where it is below 2^[`FAINT`].
#[inline(always)]
fn weight<S: Simd>(s: S, v: S::F, max: S::F) -> S::F {
    let faint = s.splat(FAINT);
    let power = s.mul(s.sub(v, max), s.splat(std::f32::consts::LOG2_E));
    s.sub(math::exp2(s, s.max(faint, power)), math::exp2(s, faint))
}

/// The [`weight`] of x in place of x; returns the sum. NaN in x, or nothing but negative infinity, makes the sum NaN.
#[inline(always)]
pub(super) fn exponentials<S: Simd>(s: S, x: &mut [f32], max: f32) -> f32 {
    let whole = x.len() / S::LANES * S::LANES;
    let (max, mut sum) = (s.splat(max), s.splat(0.0));
    let at = x.as_mut_ptr();
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: a vector is there.
        unsafe {
            let e = weight(s, s.load(at.add(i)), max);
            s.store(at.add(i), e);
            sum = s.add(sum, e);
        }
    }
    if whole < x.len() {
        let n = x.len() - whole;
        // SAFETY: so many are left. The other lanes add nothing.
        unsafe {
            let e = weight(s, s.load_part(at.add(whole), n, f32::NEG_INFINITY), max);
            s.store_part(at.add(whole), e, n);
            sum = s.add(sum, e);
        }
    }
    s.sum(sum)
}

/// As [`exponentials`], for the first `n` of `x`, which is a whole number of vectors: rounded to bf16, in the first half of
/// `x`, with zeros behind them.
#[inline(always)]
pub(super) fn exponentials_bf16<S: Simd>(s: S, x: &mut [f32], n: usize, max: f32) -> f32 {
    let whole = n.next_multiple_of(S::LANES);
    assert!(whole <= x.len());
    // Adds nothing.
    x[n..whole].fill(f32::NEG_INFINITY);
    let (max, mut sum) = (s.splat(max), s.splat(0.0));
    let at = x.as_mut_ptr();
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: a vector is there; what is stored ends no later than what has been loaded.
        unsafe {
            let e = weight(s, s.load(at.add(i)), max);
            s.store_bf16(at.cast::<u16>().add(i), e);
            sum = s.add(sum, e);
        }
    }
    let all = x.len();
    cast_mut::<f32, u16>(x)[n..all].fill(0);
    s.sum(sum)
}

/// Softmax in place.
#[inline(always)]
pub(super) fn softmax<S: Simd>(s: S, x: &mut [f32]) {
    let max = largest(s, x);
    let scale = s.splat(1.0 / exponentials(s, x, max));
    for i in (0..x.len()).step_by(S::LANES) {
        let n = S::LANES.min(x.len() - i);
        // SAFETY: so many are left.
        unsafe { s.store_part(x.as_mut_ptr().add(i), s.mul(s.load_part(x.as_ptr().add(i), n, 0.0), scale), n) };
    }
}

/// Softmax of each row in place.
pub(crate) fn softmax_rows(cpu: &Cpu, isa: Isa, x: Tile<'_>) {
    cpu.team.each_rows(x, ROWS, |_, x| isa.run(Softmax(x)));
}

struct Softmax<'a>(Tile<'a>);

impl Kernel for Softmax<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for r in 0..self.0.rows() {
            softmax(s, self.0.row(r));
        }
    }
}

/// What a search asks of a row of logits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Peak {
    /// Where the largest is, the first of equals.
    pub(crate) at: usize,
    pub(crate) max: f32,
    /// The logarithm of the sum of all exponentials; NaN where one of them is NaN.
    pub(crate) log_sum: f32,
}

/// The peak of a row that is not empty.
pub(crate) fn peak(isa: Isa, logits: &[f32]) -> Peak {
    isa.run(FindPeak(logits))
}

struct FindPeak<'a>(&'a [f32]);

impl Kernel for FindPeak<'_> {
    type Out = Peak;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Peak {
        let max = largest(s, self.0);
        let at = self.0.iter().position(|v| *v == max).unwrap_or(0);
        let (top, mut sum) = (s.splat(max), s.splat(0.0));
        for i in (0..self.0.len()).step_by(S::LANES) {
            // SAFETY: so many are left. What is far below counts as nothing.
            let v = unsafe { s.load_part(self.0.as_ptr().add(i), S::LANES.min(self.0.len() - i), f32::NEG_INFINITY) };
            sum = s.add(sum, weight(s, v, top));
        }
        Peak { at, max, log_sum: max + s.sum(sum).ln() }
    }
}

/// Where the share `share` (0 to below 1) of all probabilities of `logits` at `temperature` ends, those of the tokens before
/// included: with an even random number, a token drawn by its probability.
pub(crate) fn draw(isa: Isa, logits: &[f32], peak: Peak, temperature: f64, share: f64) -> usize {
    // Finite: at next to no temperature the largest is drawn.
    let scale = (1.0 / temperature).min(f64::from(f32::MAX)) as f32;
    isa.run(Draw { logits, peak, scale, share })
}

struct Draw<'a> {
    logits: &'a [f32],
    peak: Peak,
    scale: f32,
    share: f64,
}

/// Logits whose weights are summed apart, so that only those of one such part are looked at one by one.
const PART: usize = 256;

impl Draw<'_> {
    /// The weights of a part, and their sum.
    #[inline(always)]
    fn weigh<S: Simd>(&self, s: S, part: &[f32]) -> ([f32; PART], f64) {
        let (mut weights, mut sum) = ([0.0; PART], s.splat(0.0));
        for i in (0..part.len().min(PART)).step_by(S::LANES) {
            // SAFETY: so many are left, the others weigh nothing, and a part is a whole number of vectors.
            unsafe {
                let v = s.load_part(part.as_ptr().add(i), S::LANES.min(part.len() - i), f32::NEG_INFINITY);
                let v = weight(s, s.mul(s.sub(v, s.splat(self.peak.max)), s.splat(self.scale)), s.splat(0.0));
                s.store(weights.as_mut_ptr().add(i), v);
                sum = s.add(sum, v);
            }
        }
        (weights, f64::from(s.sum(sum)))
    }
}

impl Kernel for Draw<'_> {
    type Out = usize;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> usize {
        let parts = self.logits.chunks(PART);
        let mut sums = Vec::with_capacity(parts.len());
        for part in parts.clone() {
            sums.push(self.weigh(s, part).1);
        }
        let mut left = self.share * sums.iter().sum::<f64>();
        for (p, (part, sum)) in parts.zip(sums).enumerate() {
            if left >= sum {
                left -= sum;
                continue;
            }
            for (i, weight) in self.weigh(s, part).0.into_iter().enumerate() {
                left -= f64::from(weight);
                if left < 0.0 {
                    return p * PART + i;
                }
            }
        }
        // Rounded away at the very end.
        self.peak.at
    }
}

/// Calls `found` with each value above `bar`, in order, and its place; `found` returns the bar from there on. What is below is
/// passed by vectors.
pub(crate) fn above(isa: Isa, values: &[f32], bar: f32, found: impl FnMut(usize, f32) -> f32) {
    isa.run(Above { values, bar, found });
}

struct Above<'a, F> {
    values: &'a [f32],
    bar: f32,
    found: F,
}

impl<F: FnMut(usize, f32) -> f32> Kernel for Above<'_, F> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        const BLOCK: usize = 64;
        for (b, block) in self.values.chunks(BLOCK).enumerate() {
            if largest(s, block) > self.bar {
                for (i, v) in block.iter().enumerate() {
                    if *v > self.bar {
                        self.bar = (self.found)(b * BLOCK + i, *v);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gemm::Act;
    use super::super::linear::tests::noise;
    use super::*;

    #[test]
    fn softmax_of_all_lengths() {
        let cpu = Cpu::new(0);
        for isa in Isa::all() {
            for n in [1, 2, 7, 8, 15, 16, 17, 33, 448, 1500] {
                for size in [0.0, 1.0, 100.0, 1e30] {
                    let x: Vec<f32> = noise(n, 3).iter().map(|v| v * size).collect();
                    let max = x.iter().fold(f32::MIN, |m, v| m.max(*v));
                    let sum: f64 = x.iter().map(|v| f64::from(v - max).exp()).sum();
                    let mut got = x.clone();
                    softmax_rows(&cpu, isa, Tile::dense(&mut got, n));
                    for (v, x) in got.iter().zip(&x) {
                        let want = f64::from(x - max).exp() / sum;
                        assert!((f64::from(*v) - want).abs() < 3e-7 + 1e-6 * want, "{isa:?} {n} {size}: {v} for {want}");
                        assert!(*v == 0.0 || v.is_normal(), "{isa:?} {n} {size}: {v}");
                    }
                    got[n / 2] = f32::NAN;
                    softmax_rows(&cpu, isa, Tile::dense(&mut got, n));
                    assert!(got.iter().all(|v| v.is_nan()), "{isa:?} {n}");
                }
            }
        }
    }

    #[test]
    fn tokens_are_drawn_by_their_share() {
        for isa in Isa::all() {
            for n in [1, 5, 255, 256, 257, 3000] {
                let mut logits: Vec<f32> = noise(n, 5).iter().map(|v| 10.0 * v).collect();
                logits[n / 3] = f32::NEG_INFINITY;
                logits[n - 1] = 0.0;
                let top = peak(isa, &logits);
                for temperature in [1e-60, 0.2, 1.0] {
                    let weights: Vec<f64> = logits.iter().map(|v| (f64::from(v - top.max) / temperature).exp()).collect();
                    let all: f64 = weights.iter().sum();
                    for (i, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight / all > 1e-4) {
                        let before = weights[..i].iter().sum::<f64>();
                        for within in [0.01, 0.5, 0.99] {
                            let share = (before + within * weight) / all;
                            assert_eq!(draw(isa, &logits, top, temperature, share), i, "{isa:?} {n} {temperature}");
                        }
                    }
                    for share in [0.0, 1.0 - f64::EPSILON] {
                        let found = draw(isa, &logits, top, temperature, share);
                        assert!(logits[found].is_finite(), "{isa:?} {n}: what is forbidden is never drawn");
                    }
                }
            }
        }
    }

    #[test]
    fn rows_are_normalised() {
        let cpu = Cpu::new(0);
        for isa in Isa::all() {
            for (rows, n) in [(1, 1), (3, 7), (2, 16), (70, 33), (5, 512)] {
                let (gain, bias) = (noise(n, 1), noise(n, 2));
                let x: Vec<f32> = noise(rows * n, 3).iter().map(|v| v * 10.0 + 4.0).collect();
                let norm = LayerNorm::new(isa, gain.clone(), bias.clone(), 1e-5);
                let mut got = vec![0.0; rows * n];
                norm.forward(&cpu, Rows::dense(&x, n), Tile::dense(&mut got, n));
                let (mut more, end) = (got.clone(), End { act: Act::Relu, add: true });
                norm.forward_end(&cpu, Rows::dense(&x, n), Tile::dense(&mut more, n), end);
                assert!(more.iter().zip(&got).all(|(more, got)| *more == got.max(0.0) + got));
                for (row, got) in x.chunks(n).zip(got.chunks(n)) {
                    let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
                    let var = row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n as f64;
                    for i in 0..n {
                        let want = (f64::from(row[i]) - mean) / (var + 1e-5).sqrt() * f64::from(gain[i]) + f64::from(bias[i]);
                        assert!((f64::from(got[i]) - want).abs() < 2e-5, "{isa:?} {n}: {} for {want}", got[i]);
                    }
                }
            }
        }
    }

    #[test]
    fn the_peak_and_what_is_above_a_bar() {
        for isa in Isa::all() {
            for n in [1, 5, 64, 65, 1000] {
                let mut x = noise(n, 9);
                x[n / 2] = 3.0;
                x[n - 1] = 3.0;
                let got = peak(isa, &x);
                let want = x.iter().map(|v| f64::from(*v).exp()).sum::<f64>().ln();
                assert_eq!((got.at, got.max), (n / 2, 3.0));
                assert!((f64::from(got.log_sum) - want).abs() < 1e-5, "{isa:?} {n}");
                let mut seen = Vec::new();
                above(isa, &x, 0.25, |i, v| {
                    seen.push((i, v));
                    0.25
                });
                let all: Vec<_> = x.iter().copied().enumerate().filter(|(_, v)| *v > 0.25).collect();
                assert_eq!(seen, all);
                x[0] = f32::NAN;
                assert!(peak(isa, &x).log_sum.is_nan());
            }
        }
    }
}
