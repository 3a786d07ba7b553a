//! AMX, the matrix unit of newer Intel processors: products of tiles of up to 16 rows of 64 bytes. A panel of weights, two
//! vectors wide and sixteen words deep, is two of its tiles as it lies.
//!
//! Rust has no stable intrinsics for it. Its registers belong to the thread from [`begin`] to [`end`]; the compiler never
//! uses them.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

use super::super::pages::LINE;
use super::{MATRIX_ROWS as ROWS, prefetch};

/// Words of a tile's row.
pub(super) const WORDS: usize = super::MATRIX_WORDS;

/// Whether the processor has it, for bf16 and int8, and the system lets this process use it.
pub(super) fn present() -> bool {
    // Leaf 7: bits of EDX for bf16, tiles and int8. Leaf 1: whether the system saves extended registers.
    const NEED: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    if __cpuid(0).eax < 7 || __cpuid_count(7, 0).edx & NEED != NEED || __cpuid(1).ecx >> 27 & 1 == 0 {
        return false;
    }
    saved_by_the_system() && allowed()
}

/// Whether the system keeps the registers when it switches threads.
fn saved_by_the_system() -> bool {
    #[target_feature(enable = "xsave")]
    fn states() -> u64 {
        // SAFETY: register 0 is there where XSAVE is.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: the caller has seen that the system has XSAVE on.
    unsafe { states() >> 17 & 3 == 3 }
}

/// Asks Linux for the right to use tiles, which it gives to a process once and for all.
#[cfg(target_os = "linux")]
fn allowed() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and changes what this process may do.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> bool {
    false
}

/// What the tiles' sizes are: see `ldtilecfg`.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Sets the tiles' sizes for `rows` rows, 1 to [`ROWS`].
///
/// # Safety
/// [`present`], and [`end`] follows on this thread.
#[inline(always)]
pub(super) unsafe fn begin(rows: usize) {
    debug_assert!((1..=ROWS).contains(&rows));
    let (upper, lower) = (rows.min(16) as u8, rows.saturating_sub(16) as u8);
    let mut config = Config { palette: 1, start: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
    // Sums above (0, 1) and below (2, 3), inputs above (4) and below (5), weights (6, 7).
    for (tile, rows) in [upper, upper, lower, lower, upper, lower, 16, 16].into_iter().enumerate() {
        config.rows[tile] = rows;
        config.row_bytes[tile] = if rows > 0 { 64 } else { 0 };
    }
    // SAFETY: the configuration is one, and is read only.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly, preserves_flags)) };
}

/// # Safety
/// [`present`].
#[inline(always)]
pub(super) unsafe fn end() {
    // SAFETY: nothing is in the tiles that anybody needs.
    unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
}

/// Where the operands of a product lie, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    pub(super) a: *const u8,
    /// From a row of inputs to the next, and from a tap to the next.
    pub(super) row: usize,
    pub(super) tap: usize,
    pub(super) taps: usize,
    /// Tiles of a tap.
    pub(super) steps: usize,
    pub(super) b: *const u8,
}

/// Bytes of a panel's weights that one step takes.
const STEP: usize = 128 * WORDS;

macro_rules! walk {
    ($name:ident, $dot:literal) => {
        /// The sums of `rows` rows by a panel of 32 outputs, stored row by row at `to`, `to_row` bytes apart.
        ///
        /// # Safety
        /// [`begin`] for `rows` came before on this thread; all that `walk` leads to can be read, and the sums written.
        #[inline(always)]
        pub(super) unsafe fn $name(rows: usize, walk: Walk, to: *mut u8, to_row: usize) {
            let Walk { a, row, tap, taps, steps, mut b } = walk;
            let both = rows > 16;
            // SAFETY: the caller's promise. Tiles are as large as `begin` made them.
            unsafe {
                asm!("tilezero tmm0", "tilezero tmm1", options(nostack, nomem, preserves_flags));
                if both {
                    asm!("tilezero tmm2", "tilezero tmm3", options(nostack, nomem, preserves_flags));
                }
                for t in 0..taps {
                    let mut a = a.add(t * tap);
                    for _ in 0..steps {
                        if !both {
                            // Few rows wait for weights: the next step's are asked for.
                            for line in (0..STEP).step_by(LINE) {
                                prefetch(b.wrapping_add(STEP + line));
                            }
                        }
                        asm!(
                            "tileloadd tmm4, [{a} + {row}*1]",
                            "tileloadd tmm6, [{b} + {wide}*1]",
                            concat!($dot, " tmm0, tmm4, tmm6"),
                            "tileloadd tmm7, [{b} + {wide}*1 + 64]",
                            concat!($dot, " tmm1, tmm4, tmm7"),
                            a = in(reg) a, row = in(reg) row, b = in(reg) b, wide = in(reg) 128usize,
                            options(nostack, readonly, preserves_flags)
                        );
                        if both {
                            asm!(
                                "tileloadd tmm5, [{a} + {row}*1]",
                                concat!($dot, " tmm2, tmm5, tmm6"),
                                concat!($dot, " tmm3, tmm5, tmm7"),
                                a = in(reg) a.add(16 * row), row = in(reg) row,
                                options(nostack, readonly, preserves_flags)
                            );
                        }
                        a = a.wrapping_add(4 * WORDS);
                        b = b.wrapping_add(STEP);
                    }
                }
                asm!(
                    "tilestored [{to} + {row}*1], tmm0",
                    "tilestored [{to} + {row}*1 + 64], tmm1",
                    to = in(reg) to, row = in(reg) to_row, options(nostack, preserves_flags)
                );
                if both {
                    asm!(
                        "tilestored [{to} + {row}*1], tmm2",
                        "tilestored [{to} + {row}*1 + 64], tmm3",
                        to = in(reg) to.add(16 * to_row), row = in(reg) to_row, options(nostack, preserves_flags)
                    );
                }
            }
        }
    };
}

walk!(sum_bf16, "tdpbf16ps");
walk!(sum_int8, "tdpbusd");
