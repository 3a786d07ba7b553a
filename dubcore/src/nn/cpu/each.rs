//! What is done to values one by one, between products.

use super::Cpu;
use super::gemm::End;
use super::simd::{Isa, Kernel, Simd, math};
use super::tile::{Rows, Tile};

/// Rows that are worth a thread.
const ROWS: usize = 96;

/// `out` = `act(x)`, or that added to what is there.
pub(crate) fn put(cpu: &Cpu, isa: Isa, x: Rows<'_>, out: Tile<'_>, end: End) {
    assert_eq!((x.len(), x.columns()), (out.rows(), out.columns()));
    cpu.team.each_rows(out, ROWS, |i, out| isa.run(Put { x: x.slice(i * ROWS, ROWS), out, end }));
}

struct Put<'a> {
    x: Rows<'a>,
    out: Tile<'a>,
    end: End,
}

impl Kernel for Put<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for r in 0..self.out.rows() {
            finish(s, self.x.row(r), self.out.row(r), self.end);
        }
    }
}

#[inline(always)]
fn finish<S: Simd>(s: S, x: &[f32], out: &mut [f32], end: End) {
    assert_eq!(x.len(), out.len());
    for i in (0..x.len()).step_by(S::LANES) {
        let n = S::LANES.min(x.len() - i);
        // SAFETY: `n` values are left in each.
        unsafe { end.store(s, s.load_part(x.as_ptr().add(i), n, 0.0), out.as_mut_ptr().add(i), n) };
    }
}

/// The gated unit of WaveNet: `out` `[rows, channels]` = tanh of the first half of each row of `x` times the sigmoid of the
/// second.
pub(crate) fn gate(cpu: &Cpu, isa: Isa, x: Rows<'_>, out: Tile<'_>) {
    assert_eq!((x.len(), x.columns()), (out.rows(), 2 * out.columns()));
    cpu.team.each_rows(out, ROWS, |i, out| isa.run(Gate { x: x.slice(i * ROWS, ROWS), out }));
}

struct Gate<'a> {
    x: Rows<'a>,
    out: Tile<'a>,
}

impl Kernel for Gate<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for r in 0..self.out.rows() {
            let (x, out) = (self.x.row(r), self.out.row(r));
            let (filter, gate) = x.split_at(out.len());
            for i in (0..out.len()).step_by(S::LANES) {
                let n = S::LANES.min(out.len() - i);
                // SAFETY: `n` values are left in each: `x` is twice as long as `out`.
                unsafe {
                    let filter = math::tanh(s, s.load_part(filter.as_ptr().add(i), n, 0.0));
                    let gate = math::sigmoid(s, s.load_part(gate.as_ptr().add(i), n, 0.0));
                    s.store_part(out.as_mut_ptr().add(i), s.mul(filter, gate), n);
                }
            }
        }
    }
}

/// The cell of an LSTM (Hochreiter & Schmidhuber 1997) after its products: from `gates` `[4, width]`, those of input, forgetting,
/// cell and output as PyTorch has them, the next `cell` and `output`.
pub(crate) fn lstm(isa: Isa, gates: &[f32], cell: &mut [f32], output: &mut [f32]) {
    assert!(gates.len() == 4 * cell.len() && cell.len() == output.len());
    isa.run(Lstm { gates, cell, output });
}

struct Lstm<'a> {
    gates: &'a [f32],
    cell: &'a mut [f32],
    output: &'a mut [f32],
}

impl Kernel for Lstm<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.cell.len();
        for i in (0..width).step_by(S::LANES) {
            let n = S::LANES.min(width - i);
            // SAFETY: `n` values are left in each: all are `width` long, the gates four times.
            unsafe {
                let gate = self.gates.as_ptr().add(i);
                let input = math::sigmoid(s, s.load_part(gate, n, 0.0));
                let forget = math::sigmoid(s, s.load_part(gate.add(width), n, 0.0));
                let fresh = math::tanh(s, s.load_part(gate.add(2 * width), n, 0.0));
                let output = math::sigmoid(s, s.load_part(gate.add(3 * width), n, 0.0));
                let cell = s.fma(forget, s.load_part(self.cell.as_ptr().add(i), n, 0.0), s.mul(input, fresh));
                s.store_part(self.cell.as_mut_ptr().add(i), cell, n);
                s.store_part(self.output.as_mut_ptr().add(i), s.mul(output, math::tanh(s, cell)), n);
            }
        }
    }
}

/// The logarithm to the base 10 of each value, of which those below `least`, a normal number, and NaN count as that.
pub(crate) fn log10(isa: Isa, values: &mut [f32], least: f32) {
    isa.run(Log10 { values, least });
}

struct Log10<'a> {
    values: &'a mut [f32],
    least: f32,
}

impl Kernel for Log10<'_> {
    type Out = ();

    /// In loops that the compiler turns into vectors of the set: its operations have no shifts.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for v in self.values {
            let bits = v.max(self.least).to_bits() as i32;
            // v = m 2^e with m between the roots of 1/2 and 2.
            let e = (bits - std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32) >> 23;
            let f = f32::from_bits((bits - (e << 23)) as u32) - 1.0;
            // The minimax polynomial for (ln(1 + f) - f + f^2 / 2) / f^3 (Cephes, logf).
            let mut p = 7.037_683_6e-2;
            for c in
                [-0.115_146_1, 0.116_769_99, -0.124_201_41, 0.142_493_23, -0.166_680_57, 0.200_007_15, -0.249_999_94, 0.333_333_3]
            {
                p = p * f + c;
            }
            let ln = f + f * f * (p * f - 0.5);
            *v = e as f32 * std::f32::consts::LOG10_2 + ln * std::f32::consts::LOG10_E;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gemm::Act;
    use super::super::linear::tests::noise;
    use super::*;

    #[test]
    fn values_are_put_and_added() {
        let cpu = Cpu::new(0);
        for isa in Isa::all() {
            for (rows, columns) in [(0, 3), (1, 1), (7, 5), (200, 33)] {
                let x = noise(rows * columns, 1);
                let mut got = vec![0.5; x.len()];
                put(&cpu, isa, Rows::dense(&x, columns), Tile::dense(&mut got, columns), End { act: Act::Relu, add: true });
                assert!(got.iter().zip(&x).all(|(got, x)| *got == x.max(0.0) + 0.5), "{isa:?}");
                put(&cpu, isa, Rows::dense(&x, columns), Tile::dense(&mut got, columns), End::default());
                assert_eq!(got, x, "{isa:?}");
            }
        }
    }

    #[test]
    fn gates_open_and_close() {
        let cpu = Cpu::new(0);
        for isa in Isa::all() {
            for (rows, columns) in [(1, 1), (7, 5), (200, 33)] {
                let mut x: Vec<f32> = noise(rows * 2 * columns, 1).iter().map(|v| 20.0 * v).collect();
                (x[0], x[columns]) = (1e30, -1e30);
                let mut got = vec![0.0; rows * columns];
                gate(&cpu, isa, Rows::dense(&x, 2 * columns), Tile::dense(&mut got, columns));
                for (i, got) in got.iter().enumerate() {
                    let at = i / columns * 2 * columns + i % columns;
                    let want = f64::from(x[at]).tanh() / (1.0 + (-f64::from(x[at + columns])).exp());
                    assert!((f64::from(*got) - want).abs() < 1e-6, "{isa:?}: {got} for {want}");
                }
                x[0] = f32::NAN;
                gate(&cpu, isa, Rows::dense(&x, 2 * columns), Tile::dense(&mut got, columns));
                assert!(got[0].is_nan());
            }
        }
    }

    #[test]
    fn an_lstm_remembers_and_forgets() {
        for isa in Isa::all() {
            for width in [1, 5, 33, 128] {
                let gates: Vec<f32> = noise(4 * width, 1).iter().map(|v| 8.0 * v).collect();
                let before = noise(width, 2);
                let (mut cell, mut output) = (before.clone(), vec![0.0; width]);
                lstm(isa, &gates, &mut cell, &mut output);
                for i in 0..width {
                    let gate = |which: usize| f64::from(gates[which * width + i]);
                    let open = |which| 1.0 / (1.0 + (-gate(which)).exp());
                    let want = open(1) * f64::from(before[i]) + open(0) * gate(2).tanh();
                    assert!((f64::from(cell[i]) - want).abs() < 1e-6, "{isa:?}: {} for {want}", cell[i]);
                    let want = open(3) * want.tanh();
                    assert!((f64::from(output[i]) - want).abs() < 1e-6, "{isa:?}: {} for {want}", output[i]);
                }
            }
        }
    }

    #[test]
    fn logarithms_of_all_sizes() {
        for isa in Isa::all() {
            let x: Vec<f32> =
                (0..4000).map(|i| 10f64.powf(f64::from(i) / 100.0 - 20.0) as f32).chain([0.0, -1.0, f32::NAN]).collect();
            let mut got = x.clone();
            log10(isa, &mut got, 1e-10);
            for (got, x) in got.iter().zip(&x) {
                let want = f64::from(x.max(1e-10)).log10();
                assert!((f64::from(*got) - want).abs() < 2e-7 * want.abs().max(1.0), "{isa:?} {x}: {got} for {want}");
            }
        }
    }
}
