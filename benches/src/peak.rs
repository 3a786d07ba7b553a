//! What one core can multiply and add at most: loops over registers alone.

/// Billions of operations a second, a multiplication and an addition being two, by what they are done with.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peak {
    pub(crate) avx2: f64,
    pub(crate) avx512: f64,
    pub(crate) avx512_bf16: f64,
    pub(crate) avx512_vnni: f64,
    pub(crate) amx_bf16: f64,
    pub(crate) amx_int8: f64,
}

impl Peak {
    /// The best of some rounds; 0 for what `sets` lack. To be asked beside what it is compared with, as other programs may
    /// take turns on the core.
    pub(crate) fn measure(sets: &[&str]) -> Self {
        #[cfg(target_arch = "x86_64")]
        return x86::measure(|set| sets.contains(&set));
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = sets;
            Self::default()
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::hint::black_box;
    use std::time::Instant;

    use super::Peak;

    const ROUNDS: usize = 400_000;
    /// Sums that do not wait for one another.
    const SUMS: usize = 14;

    /// Billions of operations a second where a step does `ops`.
    fn rate(ops: usize, work: impl Fn()) -> f64 {
        let once = || {
            let began = Instant::now();
            work();
            (ops * ROUNDS) as f64 / began.elapsed().as_secs_f64() / 1e9
        };
        (0..5).map(|_| once()).fold(0.0, f64::max)
    }

    macro_rules! steps {
        ($name:ident, $features:literal, $one:expr, $step:expr) => {
            #[target_feature(enable = $features)]
            fn $name() {
                let one = black_box($one);
                let mut sums = [one; SUMS];
                for _ in 0..ROUNDS {
                    for sum in &mut sums {
                        *sum = $step(*sum, one);
                    }
                }
                black_box(sums);
            }
        };
    }

    steps!(fma256, "avx2,fma", _mm256_set1_ps(1.0), |sum, x| _mm256_fmadd_ps(x, x, sum));
    steps!(fma512, "avx512f", _mm512_set1_ps(1.0), |sum, x| _mm512_fmadd_ps(x, x, sum));
    steps!(bytes512, "avx512f,avx512vnni", _mm512_set1_epi32(1), |sum, x| _mm512_dpbusd_epi32(sum, x, x));

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn halves512() {
        let one: __m512bh = _mm512_cvtne2ps_pbh(black_box(_mm512_set1_ps(1.0)), black_box(_mm512_set1_ps(1.0)));
        let mut sums = [_mm512_set1_ps(0.0); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, one, one);
            }
        }
        black_box(sums);
    }

    /// Four tiles of sums of 16 rows by 16 columns, each with a step of 64 bytes.
    fn tiles(int8: bool) {
        #[repr(C, align(64))]
        struct Config([u8; 64]);
        let mut config = Config([0; 64]);
        config.0[0] = 1;
        for tile in 0..8 {
            config.0[16 + 2 * tile] = 64;
            config.0[48 + tile] = 16;
        }
        // SAFETY: asked for only where the library found the unit and got the right to use it. Nothing but tiles is touched,
        // and they are released.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly));
            for _ in 0..ROUNDS {
                if int8 {
                    asm!("tdpbusd tmm0, tmm4, tmm6", "tdpbusd tmm1, tmm4, tmm7", options(nostack, nomem));
                    asm!("tdpbusd tmm2, tmm5, tmm6", "tdpbusd tmm3, tmm5, tmm7", options(nostack, nomem));
                } else {
                    asm!("tdpbf16ps tmm0, tmm4, tmm6", "tdpbf16ps tmm1, tmm4, tmm7", options(nostack, nomem));
                    asm!("tdpbf16ps tmm2, tmm5, tmm6", "tdpbf16ps tmm3, tmm5, tmm7", options(nostack, nomem));
                }
            }
            asm!("tilerelease", options(nostack, nomem));
        }
    }

    pub(super) fn measure(has: impl Fn(&str) -> bool) -> Peak {
        let mut peak = Peak::default();
        if has("avx2") {
            // SAFETY: the processor has it.
            peak.avx2 = rate(SUMS * 16, || unsafe { fma256() });
        }
        if has("avx512") {
            // SAFETY: as above.
            peak.avx512 = rate(SUMS * 32, || unsafe { fma512() });
            // SAFETY: as above: the library's set includes it.
            peak.avx512_vnni = rate(SUMS * 128, || unsafe { bytes512() });
        }
        if has("avx512_bf16") {
            // SAFETY: as above.
            peak.avx512_bf16 = rate(SUMS * 64, || unsafe { halves512() });
        }
        if has("amx") {
            peak.amx_bf16 = rate(4 * 16 * 16 * 64, || tiles(false));
            peak.amx_int8 = rate(4 * 16 * 16 * 128, || tiles(true));
        }
        peak
    }
}
