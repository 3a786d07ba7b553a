//! Vector instructions behind one trait, so that each kernel is written once.
//!
//! A kernel is generic over [`Simd`]. [`Isa::run`] calls it inside a function that is compiled for the instruction set, and
//! everything is inlined into that function. A value of an instruction set's type exists only where the processor has it:
//! that is what makes arithmetic safe, and leaves only memory accesses unsafe.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(super) mod math;
mod scalar;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::error::{Error, Result};
use crate::process::PerProcess;

/// The operations that kernels are made of. `F` holds lanes of f32, `I` the same lanes as 32-bit words.
///
/// Comparisons follow x86: where one of two numbers is NaN, `max` and `min` give the second.
pub(super) trait Simd: Copy + Send + Sync {
    type F: Copy;
    type I: Copy;

    /// Lanes of a vector, at most [`MAX_LANES`].
    const LANES: usize;
    /// Rows of the largest tile of a matrix product whose sums fit the registers, two vectors wide.
    const ROWS: usize;
    /// Words that four bytes of inputs take: one, or two where bytes are multiplied as halfwords, the even ones before the odd.
    const BYTE_WORDS: usize = 1;
    /// Whether there is a unit for products of whole tiles of bf16 and int8: [`MATRIX_ROWS`] rows by two vectors.
    const MATRIX: bool = false;

    /// # Safety
    /// `LANES` floats can be read at `p`.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// # Safety
    /// `LANES` words can be read at `p`.
    unsafe fn load_words(self, p: *const u32) -> Self::I;
    /// # Safety
    /// `LANES` floats can be written at `p`.
    unsafe fn store(self, p: *mut f32, v: Self::F);
    /// Rounds to the nearest bf16, ties to even.
    ///
    /// # Safety
    /// `LANES` halfwords can be written at `p`.
    unsafe fn store_bf16(self, p: *mut u16, v: Self::F);
    /// Rounds to the nearest whole number, ties to even. `v` is within 0..=255.
    ///
    /// # Safety
    /// `LANES` bytes can be written at `p`.
    unsafe fn store_byte(self, p: *mut u8, v: Self::F);

    fn splat(self, v: f32) -> Self::F;
    fn splat_word(self, v: u32) -> Self::I;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a b + c`, rounded once where the processor can.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    fn abs(self, v: Self::F) -> Self::F;
    /// To the nearest whole number, ties to even.
    fn round(self, v: Self::F) -> Self::F;
    /// `v 2^n` for a whole `n` within -126..=127.
    fn scale(self, v: Self::F, n: Self::F) -> Self::F;
    /// The sum of all lanes, in an order that never changes.
    fn sum(self, v: Self::F) -> f32;
    /// The largest lane; any where one is NaN.
    fn largest(self, v: Self::F) -> f32;

    fn words(self, v: Self::F) -> Self::I;
    fn floats(self, v: Self::I) -> Self::F;
    /// Signed whole numbers to f32.
    fn whole(self, v: Self::I) -> Self::F;
    /// `acc` plus the products of two bf16 in each word, f32 sums.
    fn dot_bf16(self, acc: Self::F, a: Self::I, b: Self::I) -> Self::F;
    /// `acc` plus the products of four bytes at `a`, the same for all lanes, by those of each word of `b`; exact. Those of `a` are
    /// unsigned, those of `b` signed, -127..=127.
    ///
    /// # Safety
    /// [`Simd::BYTE_WORDS`] words can be read at `a`.
    unsafe fn dot_i8(self, acc: Self::I, a: *const u32, b: Self::I) -> Self::I;

    /// Readies the matrix unit for products of `rows` rows.
    ///
    /// # Safety
    /// [`Simd::MATRIX`]; `rows` is 1 to [`MATRIX_ROWS`], and [`Simd::matrix_end`] follows on this thread.
    #[inline(always)]
    unsafe fn matrix_begin(self, _rows: usize) {}

    /// The sums of a product, row by row, `to_row` apart: f32 of bf16, whole numbers of int8.
    ///
    /// # Safety
    /// [`Simd::matrix_begin`] for so many rows; `words` is a multiple of [`MATRIX_WORDS`], all operands can be read, and rows of
    /// two vectors written.
    #[inline(always)]
    unsafe fn matrix_sum(self, _m: Matrix, _to: *mut f32, _to_row: usize) {
        unreachable!("there is no matrix unit");
    }

    /// # Safety
    /// [`Simd::MATRIX`].
    #[inline(always)]
    unsafe fn matrix_end(self) {}

    /// The first `n` floats at `p`, with `rest` in the other lanes.
    ///
    /// # Safety
    /// `n` floats can be read at `p`.
    #[inline(always)]
    unsafe fn load_part(self, p: *const f32, n: usize, rest: f32) -> Self::F {
        debug_assert!(n <= Self::LANES);
        if n == Self::LANES {
            // SAFETY: the caller's promise.
            return unsafe { self.load(p) };
        }
        let mut lanes = [rest; MAX_LANES];
        // SAFETY: the caller's promise, and there is room for a vector.
        unsafe {
            std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
            self.load(lanes.as_ptr())
        }
    }

    /// Stores the first `n` lanes.
    ///
    /// # Safety
    /// `n` floats can be written at `p`.
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, v: Self::F, n: usize) {
        debug_assert!(n <= Self::LANES);
        if n == Self::LANES {
            // SAFETY: the caller's promise.
            return unsafe { self.store(p, v) };
        }
        let mut lanes = [0.0; MAX_LANES];
        // SAFETY: there is room for a vector, and the caller's promise.
        unsafe {
            self.store(lanes.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
        }
    }
}

/// Lanes of the widest vector.
pub(super) const MAX_LANES: usize = 16;

/// The most rows of a product by a matrix unit, and of how many words a tap's inputs must be a multiple.
pub(super) const MATRIX_ROWS: usize = 32;
pub(super) const MATRIX_WORDS: usize = 16;

/// A product by a matrix unit: `rows` rows at `a`, whose rows and taps lie so many words apart, by the panel at `b`.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    pub(super) int8: bool,
    pub(super) rows: usize,
    pub(super) a: *const u32,
    pub(super) row: usize,
    pub(super) tap: usize,
    pub(super) taps: usize,
    pub(super) words: usize,
    pub(super) b: *const u32,
}

/// What runs on an instruction set. `run` must be `#[inline(always)]`, as must be all it calls with vectors: no closure sees
/// them, as it may be compiled apart, for any processor, where each operation is a call.
pub(super) trait Kernel {
    type Out;
    fn run<S: Simd>(self, s: S) -> Self::Out;
}

/// An instruction set that this processor has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Isa(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// With VNNI, without BF16.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// With BF16 and the matrix unit.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

impl Isa {
    /// Those that this processor has, the slowest first.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self(Set::Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            if avx2::present() {
                all.push(Self(Set::Avx2));
            }
            if avx512::present() {
                all.push(Self(Set::Avx512));
            }
            if avx512::present() && avx512::bf16_present() {
                all.push(Self(Set::Avx512Bf16));
                if amx::present() {
                    all.push(Self(Set::Amx));
                }
            }
        }
        all
    }

    /// The fastest that this processor has.
    pub(crate) fn best() -> Self {
        let all = Self::all();
        all[all.len() - 1]
    }

    /// The one that this process uses: the fastest, unless `DUBCORE_CPU_ISA` names another. With `candle`, which stands for
    /// another engine, it does what that has not.
    ///
    /// # Errors
    /// `InvalidArgument` where it names none, or one that the processor lacks.
    pub(crate) fn chosen() -> Result<Self> {
        // Without a lock: another thread may be choosing when the process forks.
        static CHOSEN: PerProcess<std::result::Result<Isa, String>> = PerProcess::new();
        let choose = || match std::env::var("DUBCORE_CPU_ISA") {
            Ok(name) if !matches!(name.as_str(), "" | "auto" | "candle") => Self::named(&name, &Self::all()),
            _ => Ok(Self::best()),
        };
        CHOSEN.get_with(|_| choose()).clone().map_err(Error::argument)
    }

    /// `avx512` is the best of its kind: with BF16 where the processor has it.
    fn named(name: &str, all: &[Self]) -> std::result::Result<Self, String> {
        let is = |isa: &&Self| isa.name() == name || name == "avx512" && isa.name() == "avx512_bf16";
        all.iter().rev().find(is).copied().ok_or_else(|| {
            let known: Vec<_> = all.iter().map(Self::name).collect();
            format!("DUBCORE_CPU_ISA is {name:?}: this processor has {}; without it the fastest is used", known.join(", "))
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.0 {
            Set::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Bf16 => "avx512_bf16",
            #[cfg(target_arch = "x86_64")]
            Set::Amx => "amx",
        }
    }

    /// Whether products take less time in bf16 than in f32. A matrix unit is several times as fast. `VDPBF16PS` does twice as
    /// many multiplications as an f32 instruction, and takes as long on AMD's processors (docs/kernels.md has the figures), but
    /// five times as long on Intel's.
    pub(crate) fn is_faster_in_bf16(self) -> bool {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Set::Amx => true,
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Bf16 => avx512::is_amd(),
            _ => false,
        }
    }

    /// Lanes of its vectors.
    pub(super) fn lanes(self) -> usize {
        self.run(Sizes).0
    }

    /// Words that four bytes of inputs take.
    pub(super) fn byte_words(self) -> usize {
        self.run(Sizes).1
    }

    /// Runs a kernel.
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Out {
        match self.0 {
            Set::Scalar => kernel.run(scalar::Scalar),
            // SAFETY: a value of this set is made only where the processor has it.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2::run(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { avx512::run(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Bf16 => unsafe { avx512::run_bf16(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Amx => unsafe { avx512::run_amx(kernel) },
        }
    }
}

/// What the constants of an instruction set are.
struct Sizes;

impl Kernel for Sizes {
    type Out = (usize, usize);

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> (usize, usize) {
        (S::LANES, S::BYTE_WORDS)
    }
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Asks for the cache line at `p`, which may be anywhere.
#[inline(always)]
pub(super) fn prefetch<T>(p: *const T) {
    // SAFETY: asking for a line reads nothing, and is no error wherever it is. Every x86-64 can be asked.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Four bytes as halfwords: the even ones, then the odd.
#[inline(always)]
pub(super) fn halves(word: u32) -> [u32; 2] {
    [word & 0x00ff_00ff, word >> 8 & 0x00ff_00ff]
}

/// The nearest bf16, ties to even.
#[inline(always)]
pub(super) fn bf16(v: f32) -> u16 {
    let bits = v.to_bits();
    if v.is_nan() {
        // Stays one: rounding could carry it into infinity.
        return (bits >> 16) as u16 | 0x40;
    }
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}
