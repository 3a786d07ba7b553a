//! Every instruction set against arithmetic in f64.

use proptest::prelude::*;

use super::super::pack::{Format, Packed, Shape};
use super::super::simd::Isa;
use super::super::{Act, Cpu, End, Rows, Tile};

/// Numbers of a normal size that look random.
pub(in crate::nn::cpu) fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..n).map(|_| next() + next()).collect()
}

/// Its Taylor series, which is exact enough where erf is not yet 1.
fn erf(z: f64) -> f64 {
    if z.abs() > 5.0 {
        return z.signum();
    }
    let mut term = z;
    let series = (0..200).map(|n| {
        let value = term / f64::from(2 * n + 1);
        term *= -z * z / f64::from(n + 1);
        value
    });
    series.sum::<f64>() * std::f64::consts::FRAC_2_SQRT_PI
}

fn reference(act: Act, v: f64) -> f64 {
    match act {
        Act::None => v,
        Act::Relu => v.max(0.0),
        Act::Gelu => 0.5 * v * (1.0 + erf(v * std::f64::consts::FRAC_1_SQRT_2)),
        Act::GeluTanh => 0.5 * v * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044_715 * v.powi(3))).tanh()),
        Act::Silu => v / (1.0 + (-v).exp()),
        Act::Tanh => v.tanh(),
        Act::Leaky(slope) => v.max(v * f64::from(slope)),
    }
}

/// How far a format may be from exact arithmetic on numbers of size 1: by the number of inputs.
fn bound(format: Format, inputs: usize) -> f64 {
    let root = (inputs as f64).sqrt();
    match format {
        Format::F32 => 1e-6 * (2.0 + root),
        Format::Bf16 => 8e-3 * root.max(1.0),
        Format::Int8 => 1.2e-2 * root.max(1.0),
    }
}

const FORMATS: [Format; 3] = [Format::F32, Format::Bf16, Format::Int8];

fn run(isa: Isa, format: Format, x: &[f32], w: &[f32], bias: &[f32], (m, n, k): (usize, usize, usize), end: End) -> Vec<f32> {
    run_with(&Cpu::new(0), isa, format, x, w, bias, (m, n, k), end)
}

#[allow(clippy::too_many_arguments, reason = "all that a product depends on")]
fn run_with(
    cpu: &Cpu,
    isa: Isa,
    format: Format,
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    (m, n, k): (usize, usize, usize),
    end: End,
) -> Vec<f32> {
    let packed = Packed::linear(&Cpu::new(0), isa, format, w, Some(bias), (n, k));
    let mut out = vec![0.5; m * n];
    packed.forward(cpu, Rows::new(x, m, k, k), Tile::new(&mut out, m, n, n), end);
    out
}

fn check(isa: Isa, format: Format, (m, n, k): (usize, usize, usize), act: Act, add: bool, seed: u64) {
    let (x, w, bias) = (noise(m * k, seed), noise(n * k, seed + 1), noise(n, seed + 2));
    let got = run(isa, format, &x, &w, &bias, (m, n, k), End { act, add });
    for r in 0..m {
        for o in 0..n {
            let dot: f64 = (0..k).map(|i| f64::from(x[r * k + i]) * f64::from(w[o * k + i])).sum();
            let want = reference(act, dot + f64::from(bias[o])) + if add { 0.5 } else { 0.0 };
            let error = (f64::from(got[r * n + o]) - want).abs();
            assert!(
                error <= bound(format, k),
                "{isa:?} {format:?} {m}x{k}x{n} {act:?}: {} for {want} at {r}, {o}",
                got[r * n + o]
            );
        }
    }
}

fn act() -> impl Strategy<Value = Act> {
    let all = [Act::None, Act::Relu, Act::Gelu, Act::GeluTanh, Act::Silu, Act::Tanh, Act::Leaky(0.1)];
    prop::sample::select(all.to_vec())
}

/// Any number, and whole tiles of a matrix unit.
fn inputs() -> impl Strategy<Value = usize> {
    prop_oneof![1usize..150, (1usize..4).prop_map(|tiles| 64 * tiles)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn products_of_all_shapes(m in 0usize..40, n in 1usize..130, k in inputs(), act in act(), add in any::<bool>(), seed in 0u64..1000) {
        for isa in Isa::all() {
            for format in FORMATS {
                check(isa, format, (m, n, k), act, add, seed);
            }
        }
    }
}

#[test]
fn products_of_the_models_sizes() {
    for isa in Isa::all() {
        for format in FORMATS {
            for shape in [(1, 512, 512), (100, 512, 96), (5, 96, 2048), (1, 1, 1), (97, 33, 64), (33, 2048, 17)] {
                check(isa, format, shape, Act::Gelu, true, 7);
            }
        }
    }
}

#[test]
fn a_row_is_the_same_in_any_company() {
    for (isa, (m, n, k)) in Isa::all().into_iter().flat_map(|isa| [(isa, (77, 210, 130)), (isa, (77, 130, 128))]) {
        let (x, w, bias) = (noise(m * k, 1), noise(n * k, 2), noise(n, 3));
        for format in FORMATS {
            let end = End { act: Act::Gelu, add: true };
            let all =
                run_with(&Cpu { team: crate::team::Team::alone(), ..Cpu::new(0) }, isa, format, &x, &w, &bias, (m, n, k), end);
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            for count in [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 25, 32, 33, 64, 77] {
                for from in [0, m - count] {
                    let some = run(isa, format, &x[from * k..(from + count) * k], &w, &bias, (count, n, k), end);
                    assert_eq!(bits(&some), bits(&all[from * n..(from + count) * n]), "{isa:?} {format:?} {count} from {from}");
                }
            }
        }
    }
}

#[test]
fn what_is_not_a_number_stays_in_its_row() {
    let (m, n, k) = (14, 40, 37);
    let (w, bias) = (noise(n * k, 2), noise(n, 3));
    for isa in Isa::all() {
        for format in FORMATS {
            for act in [Act::None, Act::Relu, Act::Gelu, Act::GeluTanh, Act::Silu, Act::Tanh, Act::Leaky(0.1)] {
                for at in [0, 5, 36] {
                    let mut x = noise(m * k, 1);
                    x[3 * k + at] = f32::NAN;
                    let got = run(isa, format, &x, &w, &bias, (m, n, k), End { act, add: false });
                    for (i, v) in got.iter().enumerate() {
                        assert_eq!(v.is_nan(), i / n == 3, "{isa:?} {format:?} {act:?} {i}");
                    }
                }
            }
        }
    }
}

#[test]
fn large_and_small_numbers_keep_their_size() {
    let (m, n, k) = (3, 35, 50);
    let (w, bias) = (noise(n * k, 2), vec![0.0; n]);
    for isa in Isa::all() {
        for format in FORMATS {
            for size in [1e-25f32, 1e-10, 1e10, 1e30] {
                let x: Vec<f32> = noise(m * k, 1).iter().map(|v| v * size).collect();
                let got = run(isa, format, &x, &w, &bias, (m, n, k), End::default());
                for (i, v) in got.iter().enumerate() {
                    let want: f64 = (0..k).map(|j| f64::from(x[i / n * k + j]) * f64::from(w[i % n * k + j])).sum();
                    let error = (f64::from(*v) - want).abs() / f64::from(size);
                    assert!(error <= bound(format, k), "{isa:?} {format:?} {size}: {v} for {want}");
                }
            }
            let zero = run(isa, format, &vec![0.0; m * k], &w, &noise(n, 4), (m, n, k), End::default());
            assert_eq!(zero[..n], noise(n, 4)[..], "rows of zeros give the bias");
            for act in [Act::Gelu, Act::Silu, Act::Tanh, Act::Relu] {
                let x = vec![3e37; k];
                let got = run(
                    isa,
                    format,
                    &x,
                    &[&vec![1.0; k][..], &vec![-1.0; k]].concat(),
                    &[0.0; 2],
                    (1, 2, k),
                    End { act, add: false },
                );
                assert!(got.iter().all(|v| !v.is_nan()), "{isa:?} {format:?} {act:?} {got:?}");
            }
        }
    }
}

#[test]
fn rows_of_weights_come_back() {
    for isa in Isa::all() {
        for (outputs, inputs) in [(1, 1), (33, 7), (70, 64), (5, 130)] {
            let (w, bias) = (noise(outputs * inputs, 1), noise(outputs, 2));
            for (format, bound) in [(Format::F32, 0.0), (Format::Bf16, 1.0 / 256.0), (Format::Int8, 0.5 / 127.0)] {
                let packed = Packed::linear(&Cpu::new(0), isa, format, &w, None, (outputs, inputs));
                // Another bias leaves the weights where they are.
                let biased = packed.with_bias(&bias);
                assert_eq!(packed.panels().as_ptr(), biased.panels().as_ptr());
                for (o, want) in w.chunks_exact(inputs).enumerate() {
                    let mut got = vec![9.0; inputs];
                    biased.row(o, &mut got);
                    let most = want.iter().fold(0f32, |m, v| m.max(v.abs()));
                    for (got, want) in got.iter().zip(want) {
                        let off = (got - want).abs();
                        assert!(off <= bound * most * 1.001, "{isa:?} {format:?} {outputs}x{inputs}: {got} for {want}");
                    }
                }
            }
        }
    }
}

#[test]
fn taps_are_inputs_in_their_order() {
    let shape = Shape { outputs: 19, channels: 5, taps: 3 };
    let w = noise(19 * 15, 1);
    for isa in Isa::all() {
        let as_taps = Packed::new(&Cpu::new(0), isa, Format::F32, shape, None, |o, row| row.copy_from_slice(&w[o * 15..][..15]));
        let plain = Packed::linear(&Cpu::new(0), isa, Format::F32, &w, None, (19, 15));
        assert_eq!(as_taps.panels(), plain.panels());
        assert!(as_taps.bytes() >= 19 * 15 * 4);
    }
}
