//! Mono sound in memory, spans of time, and exact conversion between time and samples.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::resample::Resampler;

/// Sample rates accepted everywhere, in Hz.
pub const RATES: std::ops::RangeInclusive<u32> = 1_000..=384_000;

/// Whether a rate that a caller gave is in [`RATES`].
pub(crate) fn check_rate(rate: u32) -> Result<()> {
    match RATES.contains(&rate) {
        true => Ok(()),
        false => Err(Error::argument(format!("sample rate {rate} Hz is outside {}..={} Hz", RATES.start(), RATES.end()))),
    }
}

/// A span of time, `start <= end`, measured from the beginning of the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// Where it begins.
    pub start: Duration,
    /// Where it ends (exclusive).
    pub end: Duration,
}

impl Span {
    /// From `start` to `end`; an `end` before `start` gives an empty span.
    pub fn new(start: Duration, end: Duration) -> Self {
        Self { start, end: end.max(start) }
    }

    /// From one sample index to another at `rate` Hz.
    pub fn from_samples(start: u64, end: u64, rate: u32) -> Self {
        Self::new(samples_to_time(start, rate), samples_to_time(end, rate))
    }

    /// How long it is.
    pub fn duration(&self) -> Duration {
        self.end - self.start
    }

    /// The span moved later by `by`.
    #[must_use]
    pub fn shifted(&self, by: Duration) -> Self {
        Self { start: self.start + by, end: self.end + by }
    }
}

/// The sample nearest to `time` at `rate` Hz, in integer arithmetic: no drift however long the input.
pub fn time_to_samples(time: Duration, rate: u32) -> u64 {
    u64::try_from((time.as_nanos() * u128::from(rate) + 500_000_000) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// The time of sample `n` at `rate` Hz, to the nearest nanosecond, so that [`time_to_samples`] gives `n` back.
pub fn samples_to_time(n: u64, rate: u32) -> Duration {
    let nanos = (u128::from(n) * 1_000_000_000 + u128::from(rate) / 2) / u128::from(rate);
    Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32)
}

/// How many samples `n` samples at `from` Hz become at `to` Hz.
pub fn resampled_len(n: u64, from: u32, to: u32) -> u64 {
    ((u128::from(n) * u128::from(to) + u128::from(from) / 2) / u128::from(from)) as u64
}

/// Mono sound: f32 samples (nominal range -1..=1, always finite) at a rate in [`RATES`].
///
/// Cloning and [`Audio::slice`] share the samples.
#[derive(Clone)]
pub struct Audio {
    samples: Arc<dyn AsRef<[f32]> + Send + Sync>,
    from: usize,
    to: usize,
    rate: u32,
}

impl Audio {
    /// Takes `samples` at `rate` Hz.
    ///
    /// # Errors
    /// `InvalidArgument` for a rate outside [`RATES`] or a sample that is not finite.
    pub fn new(samples: Vec<f32>, rate: u32) -> Result<Self> {
        Self::shared(samples, rate)
    }

    /// As [`Audio::new`], of samples that somebody else owns, without a copy. They must not change as long as it lives.
    ///
    /// # Errors
    /// As for [`Audio::new`].
    pub fn shared(samples: impl AsRef<[f32]> + Send + Sync + 'static, rate: u32) -> Result<Self> {
        let owner = samples;
        let samples = owner.as_ref();
        check_rate(rate)?;
        if let Some(at) = samples.iter().position(|s| !s.is_finite()) {
            return Err(Error::argument(format!("sample {at} is {}: samples must be finite", samples[at])));
        }
        let to = samples.len();
        Ok(Self { samples: Arc::new(owner), from: 0, to, rate })
    }

    /// The samples.
    pub fn samples(&self) -> &[f32] {
        &(*self.samples).as_ref()[self.from..self.to]
    }

    /// Samples per second.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.to - self.from
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Length in time.
    pub fn duration(&self) -> Duration {
        samples_to_time(self.len() as u64, self.rate)
    }

    /// The part inside `span`, clipped to what is there; shares the samples.
    #[must_use]
    pub fn slice(&self, span: Span) -> Self {
        let clip = |t| (time_to_samples(t, self.rate)).min(self.len() as u64) as usize;
        Self {
            samples: self.samples.clone(),
            from: self.from + clip(span.start),
            to: self.from + clip(span.end),
            rate: self.rate,
        }
    }

    /// The same sound at `rate` Hz: band-limited (FFT resampler of rubato), delay removed to
    /// half a sample, length exact to the sample (see [`resampled_len`]).
    ///
    /// # Errors
    /// `InvalidArgument` for a rate outside [`RATES`].
    pub fn resample(&self, rate: u32) -> Result<Self> {
        self.resample_while(rate, || Ok(()))
    }

    /// [`Audio::resample`], given up with the error of `check`, which is asked before each chunk, milliseconds of work at
    /// the most.
    pub(crate) fn resample_while(&self, rate: u32, check: impl Fn() -> Result<()>) -> Result<Self> {
        if rate == self.rate {
            return Ok(self.clone());
        }
        check_rate(rate)?;
        let want = resampled_len(self.len() as u64, self.rate, rate);
        let mut out = Vec::with_capacity(want as usize);
        if want > 0 {
            let mut resampler = Resampler::new(self.rate, rate)?;
            for chunk in self.samples().chunks(Resampler::CHUNK) {
                check()?;
                resampler.push(chunk, want, &mut out)?;
            }
            resampler.finish(want, &mut out)?;
        }
        Self::new(out, rate)
    }
}

impl fmt::Debug for Audio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Audio({:.3} s at {} Hz)", self.duration().as_secs_f64(), self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn time_and_samples_round_trip() {
        for rate in [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 384_000] {
            for n in [0u64, 1, 2, 3, 7, 1_000, 44_101, 10_000_019, 384_000 * 3_600 * 24 + 1] {
                assert_eq!(time_to_samples(samples_to_time(n, rate), rate), n, "{n} at {rate}");
            }
        }
    }

    #[test]
    fn resampling_keeps_length_pitch_and_place() {
        for (from, to) in
            [(8_000, 16_000), (44_100, 16_000), (48_000, 16_000), (16_000, 44_100), (22_050, 48_000), (16_000, 11_025)]
        {
            let n = from as usize * 2 + 123;
            // A tone burst whose centre must stay where it was.
            let wave = |i: usize, rate: u32| {
                let t = i as f64 / f64::from(rate) - 1.0;
                ((t * 440.0 * std::f64::consts::TAU).cos() * (-t * t * 50.0).exp()) as f32
            };
            let audio = Audio::new((0..n).map(|i| wave(i, from)).collect(), from).unwrap();
            let got = audio.resample(to).unwrap();
            assert_eq!(got.len() as u64, resampled_len(n as u64, from, to));
            let worst = got.samples().iter().enumerate().map(|(i, s)| (s - wave(i, to)).abs()).fold(0.0, f32::max);
            // Half a sample of the tone's steepest slope: the delay is trimmed in whole samples.
            let half = 0.5 * 440.0 * std::f32::consts::TAU / to as f32;
            assert!(worst < half + 2e-3, "{from} -> {to}: off by {worst}");
        }
    }

    #[test]
    fn resampling_can_be_given_up() {
        let audio = Audio::new(vec![0.0; 100 * 1024], 48_000).unwrap();
        let asked = std::cell::Cell::new(0);
        let result = audio.resample_while(16_000, || {
            asked.set(asked.get() + 1);
            if asked.get() < 3 { Ok(()) } else { Err(Error::new(ErrorKind::Cancelled, "enough")) }
        });
        assert_eq!((result.unwrap_err().kind(), asked.get()), (ErrorKind::Cancelled, 3));
    }

    #[test]
    fn slices_share_and_clip() {
        let a = Audio::new((0..100).map(|i| i as f32).collect(), 1_000).unwrap();
        let s = a.slice(Span::from_samples(10, 20, 1_000));
        assert_eq!(s.samples(), &a.samples()[10..20]);
        assert_eq!(s.slice(Span::from_samples(5, 500, 1_000)).samples(), &a.samples()[15..20]);
        assert!(a.slice(Span::from_samples(500, 600, 1_000)).is_empty());
    }

    #[test]
    fn wrong_samples_are_refused() {
        assert!(Audio::new(vec![f32::NAN], 16_000).is_err());
        assert!(Audio::new(vec![0.0], 0).is_err());
        assert!(Audio::new(vec![0.0], 16_000).unwrap().resample(7).is_err());
        assert_eq!(Audio::new(vec![], 16_000).unwrap().resample(8_000).unwrap().len(), 0);
    }
}
