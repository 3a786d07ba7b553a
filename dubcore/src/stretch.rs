//! Speech made faster or slower at the same pitch: WSOLA by the `wsola` crate, whose delay and ragged ends are taken off.

use std::num::{NonZeroU16, NonZeroU32};

use crate::audio::Audio;
use crate::error::{Error, Result};

/// Factors accepted; the ear accepts far fewer.
pub(crate) const FACTORS: std::ops::RangeInclusive<f64> = 0.25..=4.0;

/// Frames of 20 ms, matched within 10 ms: short enough to keep consonants, long enough for two periods of a low voice.
const CONFIG: wsola::Config = wsola::Config { hop_ms: 10.0, search_ms: 10.0 };

/// Makes `audio` `factor` times as fast (2 is half as long). The result has [`stretched_len`] samples and begins where
/// the original does.
///
/// # Errors
/// `InvalidArgument` for a factor outside [`FACTORS`].
pub(crate) fn stretch(audio: &Audio, factor: f64) -> Result<Audio> {
    if !FACTORS.contains(&factor) {
        return Err(Error::argument(format!("stretch factor {factor} is outside {}..={}", FACTORS.start(), FACTORS.end())));
    }
    let len = stretched_len(audio.len(), factor);
    if len == audio.len() {
        return Ok(audio.clone());
    }
    let failed = |e: wsola::Error| Error::internal("stretching failed").with_source(e);
    let rate = NonZeroU32::new(audio.rate()).unwrap_or(NonZeroU32::MIN);
    let mut engine = wsola::TimeStretch::with_config(rate, NonZeroU16::MIN, CONFIG).map_err(failed)?;
    engine.set_tempo(factor as f32);
    let hop = engine.min_output_buff_size();
    // One hop in front takes the engine's fade-in, and is dropped with it. Behind the sound there must be enough for
    // the last samples to get past the search. Mirrored sound, because an edge would be repeated inside the result.
    let behind = ((4 * hop) as f64 * factor.max(1.0)).ceil() as usize + hop;
    let sound = audio.samples();
    let mirrored = |from: Option<usize>| from.and_then(|i| sound.get(i)).copied().unwrap_or(0.0);
    engine.push(&(0..hop).rev().map(|i| mirrored(Some(i))).collect::<Vec<_>>());
    engine.push(sound);
    engine.push(&(1..=behind).map(|i| mirrored(sound.len().checked_sub(i))).collect::<Vec<_>>());
    engine.set_draining();
    let mut out = vec![0.0; (hop + len).next_multiple_of(hop)];
    let written = engine.pull(&mut out).map_err(failed)?;
    out.truncate(written);
    out.drain(..hop.min(written));
    out.resize(len, 0.0);
    Audio::new(out, audio.rate())
}

/// How many samples `len` samples become: the nearest to `len / factor`.
pub(crate) fn stretched_len(len: usize, factor: f64) -> usize {
    (len as f64 / factor).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vowel-like sound of 120 Hz, gliding by 10 % and swelling once a second.
    fn voice(rate: u32, seconds: f64) -> Audio {
        let n = (seconds * f64::from(rate)) as usize;
        let mut phase = 0.0;
        let wave = |i: usize| {
            let t = i as f64 / f64::from(rate);
            phase += std::f64::consts::TAU * 120.0 * (1.0 + 0.1 * (t * 2.0).sin()) / f64::from(rate);
            let tones: f64 = (1..12).map(|k| (phase * f64::from(k)).sin() / f64::from(k)).sum();
            (tones * 0.2 * (0.6 + 0.4 * (t * std::f64::consts::TAU).cos())) as f32
        };
        Audio::new((0..n).map(wave).collect(), rate).unwrap()
    }

    /// The frequency between 80 and 240 Hz at which 50 ms of sound repeat themselves best.
    fn pitch(samples: &[f32], rate: u32) -> f64 {
        let (short, long) = (rate as usize / 240, rate as usize / 80);
        let window = samples.len() - long - 1;
        let likeness = |lag: usize| {
            let pairs = samples[..window].iter().zip(&samples[lag..]);
            let (mut both, mut a, mut b) = (0.0, 1e-12, 1e-12);
            pairs.for_each(|(x, y)| (both, a, b) = (both + f64::from(x * y), a + f64::from(x * x), b + f64::from(y * y)));
            both / (a * b).sqrt()
        };
        let best = (short + 1..long).max_by(|x, y| likeness(*x).total_cmp(&likeness(*y))).unwrap();
        let (l, m, r) = (likeness(best - 1), likeness(best), likeness(best + 1));
        f64::from(rate) / (best as f64 + (l - r) / (2.0 * (l - 2.0 * m + r)))
    }

    #[test]
    fn keeps_pitch_and_place() {
        for rate in [16_000, 22_050] {
            let sound = voice(rate, 3.0);
            for factor in [0.85, 1.1, 1.25, 1.6] {
                let got = stretch(&sound, factor).unwrap();
                assert_eq!(got.len(), stretched_len(sound.len(), factor));
                let curve = |s: &[f32]| s.windows(3).map(|w| (w[0] - 2.0 * w[1] + w[2]).abs()).fold(0.0, f32::max);
                let (now, then) = (curve(got.samples()), curve(sound.samples()));
                assert!(now < 1.5 * then, "{factor}: clicks, {now} against {then}");
                let width = rate as usize / 20;
                for at in (0..got.len() - width).step_by(width) {
                    let from = ((at as f64 * factor) as usize).min(sound.len() - width);
                    let (now, then) = (&got.samples()[at..at + width], &sound.samples()[from..from + width]);
                    assert!((pitch(now, rate) / pitch(then, rate) - 1.0).abs() < 0.02, "{factor}: pitch at {at}");
                    let power = |s: &[f32]| s.iter().map(|x| x * x).sum::<f32>().sqrt();
                    assert!((power(now) / power(then) - 1.0).abs() < 0.25, "{factor}: loudness at {at}");
                }
            }
        }
    }

    #[test]
    fn begins_at_once_and_ends_where_it_should() {
        // A burst at either end must be there afterwards.
        let burst = |i: usize| if (0..480).contains(&(i % 15_520)) { (i as f32 * 0.5).sin() * 0.5 } else { 0.0 };
        let sound = Audio::new((0..16_000).map(burst).collect(), 16_000).unwrap();
        for factor in [0.8, 1.3, 1.6] {
            let got = stretch(&sound, factor).unwrap();
            let loud = |s: &[f32]| s.iter().map(|x| x * x).sum::<f32>();
            assert!(loud(&got.samples()[..400]) > 3.0, "{factor}: beginning lost");
            assert!(loud(&got.samples()[got.len() - 400..]) > 3.0, "{factor}: end lost");
        }
    }

    #[test]
    fn any_length_and_factor() {
        for n in [0, 1, 2, 100, 159, 160, 161, 319, 320, 321, 1_000] {
            for factor in [0.25, 0.5, 0.999, 1.0, 1.001, 1.7, 4.0] {
                for rate in [1_000, 16_000, 384_000] {
                    let sound = Audio::new(vec![0.5; n], rate).unwrap();
                    let got = stretch(&sound, factor).unwrap();
                    assert_eq!(got.len(), stretched_len(n, factor), "{n} samples by {factor}");
                }
            }
        }
        let sound = voice(16_000, 0.5);
        assert_eq!(stretch(&sound, 1.0).unwrap().samples(), sound.samples());
        for factor in [0.0, -1.0, f64::NAN, f64::INFINITY, 4.1] {
            assert!(stretch(&sound, factor).is_err());
        }
    }
}
