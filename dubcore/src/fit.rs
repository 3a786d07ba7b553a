//! Fits a line of speech into the time the original took.
//!
//! In this order, each step only where the one before is not enough: the voice's own speaking rate; a stretch that keeps
//! the pitch; the silence before the next line; more stretch; a cut behind the last word that fits. The last two mark the
//! line as overflowing. Lines never overlap.
//!
//! A line shorter than its slot is slowed, at most to the low end of [`FitOptions::rate`] in all, and then simply ends
//! early: speech that drags sounds worse than a pause.

use std::time::Duration;

use crate::audio::{Audio, Span, time_to_samples};
use crate::error::{Error, Result};
use crate::stage::{Speech, Word, setters};
use crate::stretch::{FACTORS, stretch, stretched_len};

/// A change of speed below this is not heard, and not worth a stretch that is not needed.
const UNHEARD: f64 = 0.02;

/// How a line may be changed to fit. Factors are speeds: 1.2 is a fifth faster.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct FitOptions {
    /// The slowest and fastest rate the voice is asked to speak at; 0.9 to 1.2 by default, 0.25 to 4 at most. The low end
    /// also bounds what rate and stretch slow together.
    pub rate: (f64, f64),
    /// The slowest and fastest stretch of what was spoken; 0.85 to 1.25 by default, 0.25 to 4 at most, around 1.
    pub stretch: (f64, f64),
    /// The fastest stretch where the gap to the next line does not suffice either; 1.6 by default, at most 4.
    pub max_stretch: f64,
    /// The pause that remains before the next line; 50 ms by default, at most 10 s.
    pub guard: Duration,
    /// The fade-out of a line that is cut; 30 ms by default, at most 10 s.
    pub fade: Duration,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            rate: (0.9, 1.2),
            stretch: (0.85, 1.25),
            max_stretch: 1.6,
            guard: Duration::from_millis(50),
            fade: Duration::from_millis(30),
        }
    }
}

setters! { FitOptions:
    /// Sets [`FitOptions::rate`].
    rate: (f64, f64),
    /// Sets [`FitOptions::stretch`].
    stretch: (f64, f64),
    /// Sets [`FitOptions::max_stretch`].
    max_stretch: f64,
    /// Sets [`FitOptions::guard`].
    guard: Duration,
    /// Sets [`FitOptions::fade`].
    fade: Duration,
}

impl FitOptions {
    /// Whether the options make sense.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the option.
    pub(crate) fn check(&self) -> Result<()> {
        let range = |(low, high): (f64, f64)| FACTORS.contains(&low) && FACTORS.contains(&high) && low <= high;
        if !range(self.rate) {
            return Err(Error::argument(format!("rate {:?}: want low <= high, both {FACTORS:?}", self.rate)));
        }
        if !range(self.stretch) || !(self.stretch.0..=self.stretch.1).contains(&1.0) {
            return Err(Error::argument(format!("stretch {:?}: want low <= 1 <= high, both {FACTORS:?}", self.stretch)));
        }
        if !(self.stretch.1..=*FACTORS.end()).contains(&self.max_stretch) {
            let (low, high) = (self.stretch.1, FACTORS.end());
            return Err(Error::argument(format!("max_stretch {}: want {low}..={high}", self.max_stretch)));
        }
        for (name, time) in [("guard", self.guard), ("fade", self.fade)] {
            if time > Duration::from_secs(10) {
                return Err(Error::argument(format!("{name} {time:?} is longer than 10 s")));
            }
        }
        Ok(())
    }
}

/// A line in its place.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Fitted {
    /// The sound, at the voice's rate; empty only if there was no room, or nothing was said.
    pub audio: Audio,
    /// When it begins.
    pub start: Duration,
    /// The rate the voice spoke at.
    pub rate: f64,
    /// The stretch applied to what it spoke.
    pub stretch: f64,
    /// Both together.
    pub speed: f64,
    /// It did not fit within the natural bounds and the gap behind it: it was stretched beyond them, or cut.
    pub overflow: bool,
    /// Its end was cut off.
    pub cut: bool,
    /// How far it runs past its slot, into the gap before the next line.
    pub borrowed: Duration,
}

/// The rate to ask the voice for, where `predicted` is what the line takes at rate 1: what fills the slot, within
/// [`FitOptions::rate`].
pub(crate) fn plan_rate(predicted: Duration, slot: Duration, opts: &FitOptions) -> f64 {
    if predicted.is_zero() {
        return 1.0_f64.clamp(opts.rate.0, opts.rate.1);
    }
    (predicted.as_secs_f64() / slot.as_secs_f64()).clamp(opts.rate.0, opts.rate.1)
}

/// The latest time at which a line may end: a guard before the next line, and not after the programme.
pub(crate) fn latest_end(next_start: Option<Duration>, programme_end: Option<Duration>, opts: &FitOptions) -> Option<Duration> {
    let before_next = next_start.map(|t| t.saturating_sub(opts.guard));
    [before_next, programme_end].into_iter().flatten().min()
}

/// Fits `speech`, spoken at `rate`, into `slot`, or the time from the slot's start to `limit` (see [`latest_end`]).
///
/// # Errors
/// `InvalidArgument` for options out of range.
pub(crate) fn fit(speech: &Speech, rate: f64, slot: Span, limit: Option<Duration>, opts: &FitOptions) -> Result<Fitted> {
    opts.check()?;
    let (len, hz) = (speech.audio.len(), speech.audio.rate());
    // Whole samples that certainly lie inside.
    let samples = |t: Duration| usize::try_from(t.as_nanos() * u128::from(hz) / 1_000_000_000).unwrap_or(usize::MAX);
    let room = limit.map_or(usize::MAX, |end| samples(end.saturating_sub(slot.start)));
    let target = samples(slot.duration()).min(room);
    let plan = plan_stretch(len, target, room, rate, opts);
    let mut audio = stretch(&speech.audio, plan.stretch)?;
    if plan.cut {
        audio = cut(&audio, &speech.words, plan.stretch, room, opts.fade)?;
    }
    let borrowed = audio.duration().saturating_sub(slot.duration());
    let Plan { stretch, overflow, cut } = plan;
    Ok(Fitted { audio, start: slot.start, rate, stretch, speed: rate * stretch, overflow, cut, borrowed })
}

#[derive(Debug, PartialEq)]
struct Plan {
    stretch: f64,
    overflow: bool,
    cut: bool,
}

/// What to do with `len` samples for which `target` are meant and `room >= target` are free.
fn plan_stretch(len: usize, target: usize, room: usize, rate: f64, opts: &FitOptions) -> Plan {
    let natural = |stretch| Plan { stretch, overflow: false, cut: false };
    let needed = |places: usize| if places == 0 { f64::INFINITY } else { len as f64 / places as f64 };
    let high = opts.stretch.1;
    if len <= target {
        let slowest = opts.stretch.0.max(opts.rate.0 / rate).min(1.0);
        let slower = needed(target).max(slowest);
        let worth_it = slower < 1.0 - UNHEARD && len > 0;
        return natural(if worth_it { slower } else { 1.0 });
    }
    if needed(target) <= high {
        return natural(needed(target));
    }
    if stretched_len(len, high) <= room {
        return natural(high);
    }
    let stretch = needed(room).clamp(high, opts.max_stretch);
    Plan { stretch, overflow: true, cut: stretched_len(len, stretch) > room }
}

/// Cuts what was stretched behind the last word that ends within `room` samples, and fades it out. Where no word fits, or
/// none is known, the room is filled.
fn cut(audio: &Audio, words: &[Word], stretch: f64, room: usize, fade: Duration) -> Result<Audio> {
    let hz = audio.rate();
    let end = |word: &Word| (time_to_samples(word.span.end, hz) as f64 / stretch).round() as usize;
    let fade = time_to_samples(fade, hz) as usize;
    let kept = match words.iter().map(end).filter(|end| (1..=room).contains(end)).max() {
        // The fade comes behind the word, as far as there is room.
        Some(end) => (end + fade).min(room),
        None => room,
    };
    let mut samples = audio.samples()[..kept.min(audio.len())].to_vec();
    fade_out(&mut samples, fade);
    Audio::new(samples, hz)
}

/// Lets the last `fade` samples fall to zero along a half cosine.
fn fade_out(samples: &mut [f32], fade: usize) {
    let fade = fade.clamp(1, samples.len().max(1));
    let from = samples.len() - fade.min(samples.len());
    for (i, sample) in samples[from..].iter_mut().enumerate() {
        let done = (i + 1) as f32 / fade as f32;
        *sample *= if i + 1 == fade { 0.0 } else { 0.5 + 0.5 * (done * std::f32::consts::PI).cos() };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stage::Metadata;

    const HZ: u32 = 4_000;

    fn seconds(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    /// Speech with a word every 0.3 s.
    fn speech(length: f64) -> Speech {
        let n = (length * f64::from(HZ)) as usize;
        let wave = (0..n).map(|i| (i as f32 * 0.05).sin() * 0.3 + 0.1).collect();
        let mut speech = Speech::new(Audio::new(wave, HZ).unwrap(), Metadata::default());
        let word = |i: usize| Word::new("la", Span::new(seconds(i as f64 * 0.3), seconds(i as f64 * 0.3 + 0.25)));
        speech.words = (0..(length / 0.3) as usize).map(word).collect();
        speech
    }

    fn fitted(length: f64, slot: f64, gap: Option<f64>) -> Fitted {
        let opts = FitOptions::default();
        let slot = Span::new(seconds(2.0), seconds(2.0 + slot));
        let limit = latest_end(gap.map(|g| slot.end + seconds(g)), None, &opts);
        fit(&speech(length), 1.0, slot, limit, &opts).unwrap()
    }

    #[test]
    fn each_step_in_turn() {
        let shape = |f: &Fitted| ((f.stretch * 100.0).round() / 100.0, f.overflow, f.cut, f.borrowed.as_millis());
        // Length, slot, gap: stretch, overflow, cut, borrowed.
        assert_eq!(shape(&fitted(2.0, 2.0, Some(1.0))), (1.0, false, false, 0));
        assert_eq!(shape(&fitted(1.99, 2.0, Some(1.0))), (1.0, false, false, 0), "too little to stretch for");
        assert_eq!(shape(&fitted(1.9, 2.0, Some(1.0))), (0.95, false, false, 0), "fills its slot");
        assert_eq!(shape(&fitted(1.0, 2.0, Some(1.0))), (0.9, false, false, 0), "ends early");
        assert_eq!(shape(&fitted(2.4, 2.0, Some(1.0))), (1.2, false, false, 0));
        assert_eq!(shape(&fitted(3.0, 2.0, Some(1.0))), (1.25, false, false, 400), "borrows the gap");
        assert_eq!(shape(&fitted(3.0, 2.0, None)), (1.25, false, false, 400));
        assert_eq!(shape(&fitted(3.0, 2.0, Some(0.05))), (1.5, true, false, 0));
        assert_eq!(shape(&fitted(3.0, 2.0, Some(0.0))), (1.54, true, false, 0), "leaves the guard");
        let cut = fitted(6.0, 2.0, Some(0.05));
        // Words end at 0.25 + 0.3 i: at 1.6 times the speed the tenth ends at 1.844 s, the eleventh beyond 2 s.
        assert_eq!(shape(&cut), (1.6, true, true, 0));
        assert!((cut.audio.duration().as_secs_f64() - ((0.25 + 0.3 * 9.0) / 1.6 + 0.03)).abs() < 1e-3, "{cut:?}");
        assert_eq!(cut.start, seconds(2.0));
    }

    #[test]
    fn without_words_the_room_is_filled() {
        let mut speech = speech(6.0);
        speech.words.clear();
        let slot = Span::new(Duration::ZERO, seconds(2.0));
        let got = fit(&speech, 1.0, slot, Some(seconds(2.0)), &FitOptions::default()).unwrap();
        assert_eq!((got.audio.len(), got.cut), (2 * HZ as usize, true));
    }

    #[test]
    fn rates() {
        let opts = FitOptions::default();
        for (predicted, slot, want) in [
            (2.0, 2.0, 1.0),
            (1.0, 2.0, 0.9),
            (1.9, 2.0, 0.95),
            (2.2, 2.0, 1.1),
            (5.0, 2.0, 1.2),
            (0.0, 0.0, 1.0),
            (1.0, 0.0, 1.2),
        ] {
            assert!((plan_rate(seconds(predicted), seconds(slot), &opts) - want).abs() < 1e-9, "{predicted} in {slot}");
        }
        // What the voice slowed is not slowed again.
        let slot = Span::new(Duration::ZERO, seconds(4.0));
        let got = fit(&speech(1.0), 0.9, slot, None, &opts).unwrap();
        assert_eq!((got.stretch, got.speed), (1.0, 0.9));
    }

    #[test]
    fn wrong_options_are_refused() {
        let opts = FitOptions::default;
        for wrong in [
            opts().rate((1.2, 0.9)),
            opts().rate((f64::NAN, 1.0)),
            opts().stretch((1.1, 1.2)),
            opts().stretch((0.0, 1.2)),
            opts().max_stretch(1.1),
            opts().max_stretch(9.0),
            opts().guard(Duration::MAX),
            opts().fade(Duration::MAX),
        ] {
            let e = fit(&speech(1.0), 1.0, Span::default(), None, &wrong).unwrap_err();
            assert_eq!(e.kind(), crate::ErrorKind::InvalidArgument, "{wrong:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn never_outside(
            length in 0.0..6.0, slot in 0.0..4.0, gap in proptest::option::of(0.0..2.0), end in proptest::option::of(0.0..8.0),
            start in 0.0..3.0, rate in 0.9..1.2, worded: bool,
        ) {
            let opts = FitOptions::default();
            let mut speech = speech(length);
            if !worded {
                speech.words.clear();
            }
            let slot = Span::new(seconds(start), seconds(start + slot));
            let next = gap.map(|g| slot.end + seconds(g));
            let limit = latest_end(next, end.map(seconds), &opts);
            let got = fit(&speech, rate, slot, limit, &opts).unwrap();

            let over = got.start + got.audio.duration();
            prop_assert!(got.audio.is_empty() || limit.is_none_or(|limit| over <= limit), "{got:?} passes {limit:?}");
            if let Some(next) = next {
                prop_assert!(got.audio.is_empty() || over + opts.guard <= next);
            }
            prop_assert_eq!(got.borrowed, over.saturating_sub(slot.end));
            prop_assert!((opts.stretch.0..=opts.max_stretch).contains(&got.stretch));
            prop_assert!((got.speed - rate * got.stretch).abs() < 1e-9);
            prop_assert!(got.stretch >= 1.0 || got.speed >= opts.rate.0 - 1e-9);
            prop_assert_eq!(got.overflow, got.stretch > opts.stretch.1 || got.cut);
            prop_assert!(!got.cut || got.stretch == opts.max_stretch);
            if got.cut {
                prop_assert_eq!(got.audio.samples().last().copied().unwrap_or(0.0), 0.0);
            } else {
                prop_assert_eq!(got.audio.len(), stretched_len(speech.audio.len(), got.stretch));
            }
            let room = limit.map_or(1.0, |l| l.saturating_sub(slot.start).as_secs_f64());
            prop_assert!(!got.audio.is_empty() || speech.audio.is_empty() || room < 1.0 / f64::from(HZ));
            // Borrows only what natural speed cannot do without.
            prop_assert!(got.borrowed.is_zero() || got.stretch >= opts.stretch.1);
        }
    }
}
