//! Functions of vectors. NaN in, NaN out.

use super::Simd;

/// e^v, within 2 units in the last place; no less than e^-87.336, the least that is a normal number (others take a hundred
/// times as long), and no more than e^88.
#[inline(always)]
pub(in super::super) fn exp<S: Simd>(s: S, v: S::F) -> S::F {
    // Second arguments are what NaN comes through.
    let x = s.min(s.splat(88.0), s.max(s.splat(-87.336), v));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts, the first with so few bits that its product with n is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    // The minimax polynomial of degree 5 for (e^r - 1 - r) / r^2 within |r| <= ln 2 / 2 (Cephes, expf).
    let mut p = s.splat(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = s.fma(p, r, s.splat(c));
    }
    let p = s.add(s.fma(p, s.mul(r, r), r), s.splat(1.0));
    s.scale(p, n)
}

/// 2^v, within 2 units in the last place, for -126 <= v <= 127, which is not looked at.
#[inline(always)]
pub(in super::super) fn exp2<S: Simd>(s: S, v: S::F) -> S::F {
    let n = s.round(v);
    let r = s.sub(v, n);
    // The minimax polynomial of degree 6 for 2^r within |r| <= 1 / 2, of those that are 1 at 0.
    let mut p = s.splat(1.535_336e-4);
    for c in [1.339_887_4e-3, 9.618_437e-3, 5.550_332_4e-2, 0.240_226_48, std::f32::consts::LN_2, 1.0] {
        p = s.fma(p, r, s.splat(c));
    }
    s.scale(p, n)
}

/// x Φ(x): the exact GELU, with erf. Absolute error below 4e-7 of the larger of |x| and 1.
#[inline(always)]
pub(in super::super) fn gelu<S: Simd>(s: S, v: S::F) -> S::F {
    let one = s.splat(1.0);
    // Bounded, so that infinity stays itself.
    let size = s.min(s.splat(3e38), s.abs(v));
    let z = s.mul(size, s.splat(std::f32::consts::FRAC_1_SQRT_2));
    // erfc(z) = e^(-z^2) times a polynomial in t (Abramowitz & Stegun 7.1.26, error below 1.5e-7).
    let t = s.div(one, s.fma(z, s.splat(0.327_591_1), one));
    let mut p = s.splat(1.061_405_4);
    for c in [-1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6] {
        p = s.fma(p, t, s.splat(c));
    }
    // Bounded, so that the products are normal numbers.
    let erfc = s.mul(s.mul(p, t), exp(s, s.max(s.splat(-80.0), s.mul(s.mul(z, z), s.splat(-1.0)))));
    // x Φ(x) = max(x, 0) - |x| erfc(|x| / √2) / 2: nothing cancels for large negative x.
    s.fma(s.mul(size, s.splat(-0.5)), erfc, s.max(s.splat(0.0), v))
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(in super::super) fn sigmoid<S: Simd>(s: S, v: S::F) -> S::F {
    s.div(s.splat(1.0), s.add(s.splat(1.0), exp(s, s.sub(s.splat(0.0), v))))
}

/// x sigmoid(x).
#[inline(always)]
pub(in super::super) fn silu<S: Simd>(s: S, v: S::F) -> S::F {
    s.div(v, s.add(s.splat(1.0), exp(s, s.sub(s.splat(0.0), v))))
}

/// tanh by the exponential: absolute error below 2e-7.
#[inline(always)]
pub(in super::super) fn tanh<S: Simd>(s: S, v: S::F) -> S::F {
    // Beyond 9 it is 1 in f32.
    let x = s.min(s.splat(9.0), s.max(s.splat(-9.0), v));
    let e = exp(s, s.add(x, x));
    s.div(s.sub(e, s.splat(1.0)), s.add(e, s.splat(1.0)))
}

/// The tanh approximation of GELU.
#[inline(always)]
pub(in super::super) fn gelu_tanh<S: Simd>(s: S, v: S::F) -> S::F {
    let root = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
    let inner = s.mul(s.mul(v, s.splat(root)), s.fma(s.mul(v, v), s.splat(0.044_715), s.splat(1.0)));
    s.mul(s.mul(v, s.splat(0.5)), s.add(s.splat(1.0), tanh(s, inner)))
}
