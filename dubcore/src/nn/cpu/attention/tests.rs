//! Every instruction set against arithmetic in f64.

use proptest::prelude::*;

use super::super::linear::tests::noise;
use super::super::{Cpu, Format, Isa, KvCache, Queries, Rows, Seen, Tile};

const FORMATS: [Format; 2] = [Format::F32, Format::Bf16];

/// One row of attention, of all heads, over the keys at `seen`.
fn reference(q: &[f32], keys: &[f32], values: &[f32], seen: &[usize], head: usize) -> Vec<f64> {
    let channels = q.len();
    let mut out = vec![0.0; channels];
    for from in (0..channels).step_by(head) {
        let dot = |t: usize| (from..from + head).map(|c| f64::from(q[c]) * f64::from(keys[t * channels + c])).sum::<f64>();
        let scores: Vec<f64> = seen.iter().map(|t| dot(*t)).collect();
        let max = scores.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
        for (t, s) in seen.iter().zip(&scores) {
            for c in from..from + head {
                out[c] += (s - max).exp() / sum * f64::from(values[t * channels + c]);
            }
        }
    }
    out
}

fn check(isa: Isa, format: Format, (heads, head): (usize, usize), keys: usize, rows: usize, causal: bool, seed: u64) {
    let (cpu, channels) = (Cpu::new(0), heads * head);
    let (q, k, v) = (noise(rows * channels, seed), noise(keys * channels, seed + 1), noise(keys * channels, seed + 2));
    let mut cache = KvCache::new(isa, format, (2, heads, head), keys);
    cache.fill(&cpu, 1, Rows::dense(&k, channels), Rows::dense(&v, channels));
    let seen = if causal { Seen::Causal(keys) } else { Seen::First(keys) };
    let mut out = vec![0.0; rows * channels];
    let queries = [Queries { rows, sequence: 1, seen }];
    cache.attend(&cpu, Rows::dense(&q, channels), &queries, Tile::dense(&mut out, channels));
    let bound = if format == Format::F32 { 3e-6 } else { 2e-2 };
    for r in 0..rows {
        let sees: Vec<usize> = (0..if causal { keys + r + 1 - rows } else { keys }).collect();
        let want = reference(&q[r * channels..][..channels], &k, &v, &sees, head);
        for (got, want) in out[r * channels..].iter().zip(want) {
            assert!((f64::from(*got) - want).abs() < bound, "{isa:?} {format:?} {heads}x{head} {keys} {r}: {got} for {want}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn all_shapes(heads in 1usize..4, head in prop_oneof![1usize..70, Just(32usize), Just(64usize)], keys in 1usize..150, rows in 1usize..40, causal in any::<bool>(), seed in 0u64..99) {
        for isa in Isa::all() {
            for format in FORMATS {
                check(isa, format, (heads, head), keys.max(if causal { rows } else { 1 }), rows, causal, seed);
            }
        }
    }
}

#[test]
fn what_is_written_one_by_one_is_what_is_filled_in() {
    let cpu = Cpu::new(0);
    let (heads, head, keys) = (3, 20, 45);
    let channels = heads * head;
    let (k, v) = (noise(keys * channels, 1), noise(keys * channels, 2));
    for isa in Isa::all() {
        for format in FORMATS {
            let mut filled = KvCache::new(isa, format, (2, heads, head), keys);
            let mut written = KvCache::new(isa, format, (2, heads, head), keys);
            assert!(filled.room() >= keys && filled.bytes() >= 2 * keys * channels * 4);
            assert_eq!(KvCache::floats(isa, format, (2, heads, head), keys) * 4, filled.bytes());
            filled.fill(&cpu, 1, Rows::dense(&k, channels), Rows::dense(&v, channels));
            for t in 0..keys {
                written.write(1, t, &k[t * channels..][..channels], &v[t * channels..][..channels]);
            }
            assert_eq!(filled.keys.as_slice::<u32>(), written.keys.as_slice::<u32>());
            assert_eq!(filled.values.as_slice::<u32>(), written.values.as_slice::<u32>());
        }
    }
}

#[test]
fn a_row_is_the_same_in_any_company_and_beams_follow_their_paths() {
    let cpu = Cpu::new(0);
    let (heads, head, steps, beams) = (2, 24, 70, 3);
    let channels = heads * head;
    let (q, k, v) = (noise(beams * channels, 1), noise(steps * beams * channels, 2), noise(steps * beams * channels, 3));
    let table: Vec<u8> = (0..beams * steps).map(|i| (i * 7 % 11 % beams) as u8).collect();
    for isa in Isa::all() {
        for format in FORMATS {
            let mut shared = KvCache::new(isa, format, (1, heads, head), steps * beams);
            shared.fill(&cpu, 0, Rows::dense(&k, channels), Rows::dense(&v, channels));
            let mut together = vec![0.0; beams * channels];
            let queries = [Queries { rows: beams, sequence: 0, seen: Seen::Path { table: &table, beams } }];
            shared.attend(&cpu, Rows::dense(&q, channels), &queries, Tile::dense(&mut together, channels));
            for beam in 0..beams {
                let mut own = KvCache::new(isa, format, (1, heads, head), steps);
                for t in 0..steps {
                    let at = (t * beams + usize::from(table[beam * steps + t])) * channels;
                    own.write(0, t, &k[at..][..channels], &v[at..][..channels]);
                }
                let mut alone = vec![0.0; channels];
                let queries = [Queries { rows: 1, sequence: 0, seen: Seen::First(steps) }];
                own.attend(
                    &cpu,
                    Rows::dense(&q[beam * channels..][..channels], channels),
                    &queries,
                    Tile::dense(&mut alone, channels),
                );
                let together = &together[beam * channels..][..channels];
                if format == Format::F32 {
                    assert_eq!(alone, together, "{isa:?} beam {beam}");
                } else {
                    // Pairs of keys are added at once: whose, depends on the beams.
                    assert!(alone.iter().zip(together).all(|(a, b)| (a - b).abs() < 1e-4), "{isa:?} beam {beam}");
                }
            }
        }
    }
}

#[test]
fn rows_of_several_sequences_and_of_one() {
    let cpu = Cpu::new(0);
    let (heads, head) = (2, 32);
    let channels = heads * head;
    let lengths = [5usize, 64, 33];
    for isa in Isa::all() {
        for format in FORMATS {
            let mut cache = KvCache::new(isa, format, (3, heads, head), 64);
            for (i, n) in lengths.iter().enumerate() {
                let (k, v) = (noise(n * channels, i as u64), noise(n * channels, 10 + i as u64));
                cache.fill(&cpu, i, Rows::dense(&k, channels), Rows::dense(&v, channels));
            }
            let rows = [1usize, 4, 30];
            let q = noise(35 * channels, 20);
            let of = |i: usize| Queries { rows: rows[i], sequence: i, seen: Seen::First(lengths[i]) };
            let mut all = vec![0.0; 35 * channels];
            cache.attend(&cpu, Rows::dense(&q, channels), &[of(0), of(1), of(2)], Tile::dense(&mut all, channels));
            let mut first = 0;
            for (i, count) in rows.into_iter().enumerate() {
                for r in 0..count {
                    let row = &q[(first + r) * channels..][..channels];
                    let mut alone = vec![0.0; channels];
                    let queries = [Queries { rows: 1, ..of(i) }];
                    cache.attend(&cpu, Rows::dense(row, channels), &queries, Tile::dense(&mut alone, channels));
                    assert_eq!(alone, all[(first + r) * channels..][..channels], "{isa:?} {format:?} {i} {r}");
                }
                first += count;
            }
        }
    }
}

#[test]
fn what_is_not_a_number_reaches_those_who_see_it() {
    let cpu = Cpu::new(0);
    let (channels, keys) = (16, 40);
    let (q, mut k, v) = (noise(channels, 1), noise(keys * channels, 2), noise(keys * channels, 3));
    k[20 * channels] = f32::NAN;
    for isa in Isa::all() {
        for format in FORMATS {
            let mut cache = KvCache::new(isa, format, (1, 2, 8), keys);
            cache.fill(&cpu, 0, Rows::dense(&k, channels), Rows::dense(&v, channels));
            for (sees, nan) in [(20, false), (21, true), (40, true)] {
                let mut out = vec![0.0; channels];
                let queries = [Queries { rows: 1, sequence: 0, seen: Seen::First(sees) }];
                cache.attend(&cpu, Rows::dense(&q, channels), &queries, Tile::dense(&mut out, channels));
                assert_eq!(out[..8].iter().all(|v| v.is_nan()), nan, "{isa:?} {format:?} {sees}");
                assert!(out[8..].iter().all(|v| !v.is_nan()), "the other head does not see it");
            }
        }
    }
}
