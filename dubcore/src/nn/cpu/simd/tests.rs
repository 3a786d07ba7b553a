//! Every instruction set's operations against plain Rust.

use super::*;

/// `f` of vectors of 16 numbers, whatever the number of lanes.
struct Map<F>([f32; 16], F);

trait Function {
    fn call<S: Simd>(&self, s: S, v: S::F) -> S::F;
}

impl<F: Function> Kernel for Map<F> {
    type Out = [f32; 16];

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [f32; 16] {
        let mut out = [0.0; 16];
        for i in (0..16).step_by(S::LANES) {
            // SAFETY: `LANES` divides 16.
            unsafe { s.store(out.as_mut_ptr().add(i), self.1.call(s, s.load(self.0.as_ptr().add(i)))) };
        }
        out
    }
}

macro_rules! function {
    ($name:ident, $f:path) => {
        #[derive(Clone, Copy)]
        struct $name;
        impl Function for $name {
            #[inline(always)]
            fn call<S: Simd>(&self, s: S, v: S::F) -> S::F {
                $f(s, v)
            }
        }
    };
}

function!(Exp, math::exp);
function!(Exp2, math::exp2);
function!(Tanh, math::tanh);
function!(Silu, math::silu);
function!(Gelu, math::gelu);

fn each(isa: Isa, f: impl Function + Copy, values: &[f32], check: impl Fn(f32, f32)) {
    for chunk in values.chunks(16) {
        let mut x = [0.5; 16];
        x[..chunk.len()].copy_from_slice(chunk);
        for (x, y) in x.iter().zip(isa.run(Map(x, f))) {
            check(*x, y);
        }
    }
}

#[test]
fn functions_are_near_the_true_ones_and_pass_nan_on() {
    let values: Vec<f32> = (-90_000..90_000).step_by(7).map(|i| i as f32 / 1000.0).collect();
    for isa in Isa::all() {
        each(isa, Exp, &values, |x, y| {
            let want = f64::from(x.clamp(-87.336, 88.0)).exp();
            assert!(y.is_normal(), "{isa:?} exp {x}: {y}");
            assert!((f64::from(y) - want).abs() < 2.5e-7 * want, "{isa:?} exp {x}: {y} for {want}");
        });
        let powers: Vec<f32> = values.iter().map(|v| 1.4 * v).collect();
        each(isa, Exp2, &powers, |x, y| {
            let want = f64::from(x).exp2();
            assert!((f64::from(y) - want).abs() < 2.5e-7 * want, "{isa:?} 2^{x}: {y} for {want}");
        });
        assert!(isa.run(Map([f32::NAN; 16], Exp2))[3].is_nan(), "{isa:?}");
        let ends = [f32::INFINITY, f32::NEG_INFINITY, 3e38, -3e38, f32::NAN, 0.0, -0.0, 1e-40];
        let at = |x: f32| {
            let mut v = [0.0; 16];
            v[3] = x;
            v
        };
        for x in ends {
            let (exp, tanh) = (isa.run(Map(at(x), Exp))[3], isa.run(Map(at(x), Tanh))[3]);
            let (silu, gelu) = (isa.run(Map(at(x), Silu))[3], isa.run(Map(at(x), Gelu))[3]);
            if x.is_nan() {
                assert!(exp.is_nan() && tanh.is_nan() && silu.is_nan() && gelu.is_nan(), "{isa:?}");
            } else {
                assert!(exp.is_finite() && exp > 0.0, "{isa:?} {x}: {exp}");
                assert!((f64::from(tanh) - f64::from(x).tanh()).abs() < 1e-6, "{isa:?} {x}: {tanh}");
                assert!(!gelu.is_nan() && (x <= 0.0 || gelu == x || x < 1.0), "{isa:?} {x}: {gelu}");
            }
        }
    }
}

struct Words;

impl Kernel for Words {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let name = S::LANES;
        // Where products of bytes are largest, sums of two come near the ends of halfwords, or beyond.
        for (a, b) in [(255, -127i8), (255, 127), (0, 127), (128, -1), (1, 0), (7, -3)] {
            let weights = s.splat_word(u32::from_le_bytes([b as u8; 4]));
            for bytes in [[a; 4], [a, 100, 3, 0]] {
                let word = u32::from_le_bytes(bytes);
                let words = if S::BYTE_WORDS == 1 { [word, 0] } else { halves(word) };
                // SAFETY: as many words as the instruction set asks for.
                let got = s.whole(unsafe { s.dot_i8(s.splat_word(5), words.as_ptr(), weights) });
                let sum: i32 = bytes.iter().map(|a| i32::from(*a)).sum();
                assert_eq!(s.largest(got), (5 + sum * i32::from(b)) as f32, "{name} lanes");
            }
        }
        let pair = |low: f32, high: f32| u32::from(bf16(low)) | u32::from(bf16(high)) << 16;
        let got = s.dot_bf16(s.splat(0.5), s.splat_word(pair(3.0, -2.0)), s.splat_word(pair(0.25, 8.0)));
        assert_eq!(s.largest(got), 0.5 + 0.75 - 16.0);
    }
}

struct Stores;

impl Kernel for Stores {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // Two lie in the middle between two bf16.
        let ties = [1.0 + 2f32.powi(-8), 1.0 + 3.0 * 2f32.powi(-8)];
        let values: Vec<f32> =
            (0..160).map(|i| (i as f32 - 80.0) * 1.3).chain([1e38, -1e38, 1e-30, ties[0], ties[1], f32::NAN]).collect();
        for from in 0..values.len() - MAX_LANES {
            let mut halves = [0u16; MAX_LANES];
            // SAFETY: a vector can be read, and `halves` has room for it.
            unsafe { s.store_bf16(halves.as_mut_ptr(), s.load(values.as_ptr().add(from))) };
            for (h, v) in halves.iter().zip(&values[from..]).take(S::LANES) {
                let back = f32::from_bits(u32::from(*h) << 16);
                assert!(*h == bf16(*v) || v.is_nan() && back.is_nan(), "{v}: {back}");
            }
        }
        let whole: Vec<f32> = (0..512).map(|i| i as f32 / 2.0).map(|v| v.min(255.0)).collect();
        for from in (0..whole.len()).step_by(S::LANES) {
            let mut bytes = [0u8; MAX_LANES];
            // SAFETY: as above.
            unsafe { s.store_byte(bytes.as_mut_ptr(), s.load(whole.as_ptr().add(from))) };
            for (b, v) in bytes.iter().zip(&whole[from..]).take(S::LANES) {
                assert_eq!(f32::from(*b), v.round_ties_even(), "{v}");
            }
        }
        for n in 0..=S::LANES {
            let mut out = vec![7.0; n];
            // SAFETY: `n` floats can be read, and written: no more, which a checker of memory sees.
            unsafe { s.store_part(out.as_mut_ptr(), s.load_part(values[..n].to_vec().as_ptr(), n, -1.0), n) };
            assert_eq!(out, values[..n]);
        }
        // SAFETY: as above.
        let v = unsafe { s.load_part(values.as_ptr(), 3, 2.0) };
        let want = values[..3].iter().sum::<f32>() + 2.0 * (S::LANES - 3) as f32;
        assert!((s.sum(v) - want).abs() < 1e-3);
        assert_eq!(s.largest(v), 2.0);
        let n = s.scale(s.splat(1.5), s.splat(-126.0));
        assert_eq!(s.largest(n), 1.5 * f32::MIN_POSITIVE);
    }
}

#[test]
fn words_are_multiplied_exactly_and_stored_as_they_should() {
    for isa in Isa::all() {
        isa.run(Words);
        isa.run(Stores);
    }
}

#[test]
fn instruction_sets_have_names() {
    let all = Isa::all();
    assert_eq!((all[0].name(), Isa::named("scalar", &all)), ("scalar", Ok(all[0])));
    for isa in &all {
        assert_eq!(format!("{isa:?}"), isa.name());
        assert!(isa.lanes() <= MAX_LANES && isa.lanes().is_power_of_two());
    }
    let e = Isa::named("sse9", &all).unwrap_err();
    assert!(e.contains("DUBCORE_CPU_ISA") && e.contains("scalar"), "{e}");
    assert!(all.contains(&Isa::chosen().unwrap()));
}
