//! Plain Rust on eight lanes, for every processor. The compiler makes of it what the target has at least (on x86-64, SSE2).

use super::{Simd, bf16};

#[derive(Clone, Copy)]
pub(super) struct Scalar;

const LANES: usize = 8;
type F = [f32; LANES];
type I = [u32; LANES];

#[inline(always)]
fn each(a: F, b: F, f: impl Fn(f32, f32) -> f32) -> F {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Scalar {
    type F = F;
    type I = I;
    const LANES: usize = LANES;
    const ROWS: usize = 2;

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> F {
        // SAFETY: the caller's promise; an array has no alignment beyond its elements'.
        unsafe { *p.cast::<F>() }
    }

    #[inline(always)]
    unsafe fn load_words(self, p: *const u32) -> I {
        // SAFETY: as above.
        unsafe { *p.cast::<I>() }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: F) {
        // SAFETY: as above.
        unsafe { *p.cast::<F>() = v }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: F) {
        // SAFETY: as above.
        unsafe { *p.cast::<[u16; LANES]>() = v.map(bf16) }
    }

    #[inline(always)]
    unsafe fn store_byte(self, p: *mut u8, v: F) {
        // SAFETY: as above.
        unsafe { *p.cast::<[u8; LANES]>() = v.map(|v| v.round_ties_even() as u8) }
    }

    #[inline(always)]
    fn splat(self, v: f32) -> F {
        [v; LANES]
    }

    #[inline(always)]
    fn splat_word(self, v: u32) -> I {
        [v; LANES]
    }

    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        each(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        each(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        each(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        each(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn fma(self, a: F, b: F, c: F) -> F {
        // Not `mul_add`: where the processor has no such instruction, that is a call.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        each(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        each(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn abs(self, v: F) -> F {
        v.map(f32::abs)
    }

    #[inline(always)]
    fn round(self, v: F) -> F {
        v.map(f32::round_ties_even)
    }

    #[inline(always)]
    fn scale(self, v: F, n: F) -> F {
        each(v, n, |v, n| v * f32::from_bits(((n as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn sum(self, v: F) -> f32 {
        ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
    }

    #[inline(always)]
    fn largest(self, v: F) -> f32 {
        v.into_iter().fold(f32::NEG_INFINITY, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn words(self, v: F) -> I {
        v.map(f32::to_bits)
    }

    #[inline(always)]
    fn floats(self, v: I) -> F {
        v.map(f32::from_bits)
    }

    #[inline(always)]
    fn whole(self, v: I) -> F {
        v.map(|v| v as i32 as f32)
    }

    #[inline(always)]
    fn dot_bf16(self, acc: F, a: I, b: I) -> F {
        let high = |v: u32| f32::from_bits(v & 0xffff_0000);
        let low = |v: u32| f32::from_bits(v << 16);
        std::array::from_fn(|i| acc[i] + high(a[i]) * high(b[i]) + low(a[i]) * low(b[i]))
    }

    #[inline(always)]
    unsafe fn dot_i8(self, acc: I, a: *const u32, b: I) -> I {
        // SAFETY: the caller's promise.
        let a = unsafe { *a }.to_le_bytes();
        std::array::from_fn(|i| {
            let b = b[i].to_le_bytes();
            let product = |k: usize| i32::from(a[k]) * i32::from(b[k] as i8);
            acc[i].wrapping_add((product(0) + product(1) + product(2) + product(3)) as u32)
        })
    }
}
