//! AVX2 with FMA: vectors of eight lanes, sixteen registers.

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::*;

use super::{Kernel, Simd};

/// A value exists only inside [`run`], so every intrinsic below is one that the processor has.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

pub(super) fn present() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// # Safety
/// [`present`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx2(()))
}

/// A call of an intrinsic without memory.
macro_rules! op {
    ($call:expr) => {
        // SAFETY: `self` exists, so the processor has the instruction.
        unsafe { $call }
    };
}

impl Avx2 {
    /// Words, each within 16 bits, to halfwords in order.
    #[inline(always)]
    fn narrow(self, v: __m256i) -> __m128i {
        // SAFETY: as for `op`.
        unsafe { _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v)) }
    }

    #[inline(always)]
    fn fold(self, v: __m256, f: impl Fn(__m128, __m128) -> __m128) -> f32 {
        // SAFETY: as for `op`.
        unsafe {
            let four = f(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = f(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(f(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}

impl Simd for Avx2 {
    type F = __m256;
    type I = __m256i;
    const LANES: usize = 8;
    const ROWS: usize = 6;
    const BYTE_WORDS: usize = 2;

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn load_words(self, p: *const u32) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        // SAFETY: as above.
        unsafe { _mm256_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: __m256) {
        // SAFETY: as above; the words are rounded as whole numbers, and NaN is kept apart.
        unsafe {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_castsi256_ps(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))));
            let quiet = _mm256_or_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(0x40_0000)));
            let kept = _mm256_blendv_ps(rounded, quiet, _mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            _mm_storeu_si128(p.cast(), self.narrow(_mm256_srli_epi32::<16>(_mm256_castps_si256(kept))));
        }
    }

    #[inline(always)]
    unsafe fn store_byte(self, p: *mut u8, v: __m256) {
        // SAFETY: as above.
        unsafe {
            let halves = self.narrow(_mm256_cvtps_epi32(v));
            _mm_storel_epi64(p.cast(), _mm_packus_epi16(halves, halves));
        }
    }

    #[inline(always)]
    fn splat(self, v: f32) -> __m256 {
        op!(_mm256_set1_ps(v))
    }

    #[inline(always)]
    fn splat_word(self, v: u32) -> __m256i {
        op!(_mm256_set1_epi32(v as i32))
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        op!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        op!(_mm256_min_ps(a, b))
    }

    #[inline(always)]
    fn abs(self, v: __m256) -> __m256 {
        op!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), v))
    }

    #[inline(always)]
    fn round(self, v: __m256) -> __m256 {
        op!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v))
    }

    #[inline(always)]
    fn scale(self, v: __m256, n: __m256) -> __m256 {
        // SAFETY: as for `op`.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        }
    }

    #[inline(always)]
    fn sum(self, v: __m256) -> f32 {
        self.fold(v, |a, b| op!(_mm_add_ps(a, b)))
    }

    #[inline(always)]
    fn largest(self, v: __m256) -> f32 {
        self.fold(v, |a, b| op!(_mm_max_ps(a, b)))
    }

    #[inline(always)]
    fn words(self, v: __m256) -> __m256i {
        op!(_mm256_castps_si256(v))
    }

    #[inline(always)]
    fn floats(self, v: __m256i) -> __m256 {
        op!(_mm256_castsi256_ps(v))
    }

    #[inline(always)]
    fn whole(self, v: __m256i) -> __m256 {
        op!(_mm256_cvtepi32_ps(v))
    }

    #[inline(always)]
    fn dot_bf16(self, acc: __m256, a: __m256i, b: __m256i) -> __m256 {
        // SAFETY: as for `op`.
        unsafe {
            let high = |v| _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32(0xffff_0000_u32 as i32)));
            let low = |v| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(v));
            _mm256_fmadd_ps(low(a), low(b), _mm256_fmadd_ps(high(a), high(b), acc))
        }
    }

    #[inline(always)]
    unsafe fn dot_i8(self, acc: __m256i, a: *const u32, b: __m256i) -> __m256i {
        // `maddubs` adds two products in a halfword, which these overflow. As halfwords both sides are multiplied exactly: the
        // inputs come as such, and what is made of `b` serves all rows of a tile.
        // SAFETY: the caller's promise, and as for `op`.
        unsafe {
            let (even, odd) = (self.splat_word(*a), self.splat_word(*a.add(1)));
            let be = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(b));
            let bo = _mm256_srai_epi16::<8>(b);
            _mm256_add_epi32(_mm256_add_epi32(acc, _mm256_madd_epi16(even, be)), _mm256_madd_epi16(odd, bo))
        }
    }
}
