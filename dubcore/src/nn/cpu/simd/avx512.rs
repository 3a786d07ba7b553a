//! AVX-512 (F, BW, DQ, VL) with VNNI, and with BF16 and AMX where the processor has them: vectors of sixteen lanes, 32
//! registers.

use std::arch::is_x86_feature_detected;
use std::arch::x86_64::*;

use super::{Kernel, Matrix, Simd, amx};

/// A value exists only inside [`run`], [`run_bf16`] and [`run_amx`], so every intrinsic below is one that the processor has.
#[derive(Clone, Copy)]
pub(super) struct Avx512<const BF16: bool, const AMX: bool>(());

pub(super) fn present() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
}

pub(super) fn bf16_present() -> bool {
    is_x86_feature_detected!("avx512bf16")
}

/// Whether the processor's maker is AMD.
pub(super) fn is_amd() -> bool {
    let name = __cpuid(0);
    [name.ebx, name.edx, name.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
}

/// # Safety
/// [`present`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx512::<false, false>(()))
}

/// # Safety
/// [`present`] and [`bf16_present`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
pub(super) unsafe fn run_bf16<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx512::<true, false>(()))
}

/// # Safety
/// [`present`], [`bf16_present`] and [`amx::present`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16,avx2,fma")]
pub(super) unsafe fn run_amx<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx512::<true, true>(()))
}

/// The first `n` lanes.
#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    debug_assert!(n <= 16);
    (0xffff_u32 >> (16 - n)) as __mmask16
}

/// A call of an intrinsic without memory.
macro_rules! op {
    ($call:expr) => {
        // SAFETY: `self` exists, so the processor has the instruction.
        unsafe { $call }
    };
}

impl<const BF16: bool, const AMX: bool> Simd for Avx512<BF16, AMX> {
    type F = __m512;
    type I = __m512i;
    const LANES: usize = 16;
    const ROWS: usize = 12;
    const MATRIX: bool = AMX;

    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn load_words(self, p: *const u32) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        // SAFETY: as above.
        unsafe { _mm512_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: __m512) {
        // SAFETY: as above; without BF16 the words are rounded as whole numbers, and NaN is kept apart.
        unsafe {
            let halves = if BF16 {
                // A type of its own for the same 256 bits.
                std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v))
            } else {
                let bits = _mm512_castps_si512(v);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
                let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
                let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x40_0000));
                _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(_mm512_mask_blend_epi32(nan, rounded, quiet)))
            };
            _mm256_storeu_si256(p.cast(), halves);
        }
    }

    #[inline(always)]
    unsafe fn store_byte(self, p: *mut u8, v: __m512) {
        // SAFETY: as above.
        unsafe {
            _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
        }
    }

    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize, rest: f32) -> __m512 {
        // SAFETY: lanes outside the mask are not read.
        unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(rest), mask(n), p) }
    }

    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, v: __m512, n: usize) {
        // SAFETY: lanes outside the mask are not written.
        unsafe { _mm512_mask_storeu_ps(p, mask(n), v) }
    }

    #[inline(always)]
    fn splat(self, v: f32) -> __m512 {
        op!(_mm512_set1_ps(v))
    }

    #[inline(always)]
    fn splat_word(self, v: u32) -> __m512i {
        op!(_mm512_set1_epi32(v as i32))
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        op!(_mm512_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_min_ps(a, b))
    }

    #[inline(always)]
    fn abs(self, v: __m512) -> __m512 {
        op!(_mm512_abs_ps(v))
    }

    #[inline(always)]
    fn round(self, v: __m512) -> __m512 {
        op!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v))
    }

    #[inline(always)]
    fn scale(self, v: __m512, n: __m512) -> __m512 {
        op!(_mm512_scalef_ps(v, n))
    }

    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        op!(_mm512_reduce_add_ps(v))
    }

    #[inline(always)]
    fn largest(self, v: __m512) -> f32 {
        op!(_mm512_reduce_max_ps(v))
    }

    #[inline(always)]
    fn words(self, v: __m512) -> __m512i {
        op!(_mm512_castps_si512(v))
    }

    #[inline(always)]
    fn floats(self, v: __m512i) -> __m512 {
        op!(_mm512_castsi512_ps(v))
    }

    #[inline(always)]
    fn whole(self, v: __m512i) -> __m512 {
        op!(_mm512_cvtepi32_ps(v))
    }

    #[inline(always)]
    fn dot_bf16(self, acc: __m512, a: __m512i, b: __m512i) -> __m512 {
        if BF16 {
            // SAFETY: as for `op`; the transmuted type is another name of the same 512 bits.
            unsafe {
                _mm512_dpbf16_ps(acc, std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b))
            }
        } else {
            // SAFETY: as for `op`.
            unsafe {
                let high = |v| _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(0xffff_0000_u32 as i32)));
                let low = |v| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(v));
                _mm512_fmadd_ps(low(a), low(b), _mm512_fmadd_ps(high(a), high(b), acc))
            }
        }
    }

    #[inline(always)]
    unsafe fn dot_i8(self, acc: __m512i, a: *const u32, b: __m512i) -> __m512i {
        // SAFETY: the caller's promise, and as for `op`.
        unsafe { _mm512_dpbusd_epi32(acc, self.splat_word(*a), b) }
    }

    #[inline(always)]
    unsafe fn matrix_begin(self, rows: usize) {
        // SAFETY: `AMX` says that it is there; the caller ends it.
        unsafe { amx::begin(rows) }
    }

    #[inline(always)]
    unsafe fn matrix_sum(self, m: Matrix, to: *mut f32, to_row: usize) {
        let Matrix { int8, rows, a, row, tap, taps, words, b } = m;
        debug_assert!(words.is_multiple_of(amx::WORDS));
        let walk = amx::Walk { a: a.cast(), row: 4 * row, tap: 4 * tap, taps, steps: words / amx::WORDS, b: b.cast() };
        // SAFETY: the caller's promise.
        unsafe {
            if int8 { amx::sum_int8(rows, walk, to.cast(), 4 * to_row) } else { amx::sum_bf16(rows, walk, to.cast(), 4 * to_row) }
        }
    }

    #[inline(always)]
    unsafe fn matrix_end(self) {
        // SAFETY: as for `matrix_begin`.
        unsafe { amx::end() }
    }
}
