//! The final track: the original, ducked while a line is spoken, with the lines on top. It works in place on the frames
//! of the source as they come, and holds nothing but the lines that were not played yet.

use std::time::Duration;

use ebur128::{EbuR128, Mode};

use crate::audio::{Audio, RATES, Span, time_to_samples};
use crate::error::{Error, Result};
use crate::stage::setters;

/// How far a line's loudness is changed at most, in dB.
const MAX_GAIN_DB: f64 = 12.0;
/// Below this part of the ceiling the limiter changes nothing.
const KNEE: f32 = 0.8;

/// How the original and the lines are put together.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct MixOptions {
    /// Gain of the original during lines in dB, -120 to 0; -24 by default. `None` mutes it there.
    pub duck_db: Option<f64>,
    /// Whether the original is heard at all; by default it is. Without it the track is the lines in silence.
    pub original: bool,
    /// How long before a line the original begins to fade; 50 ms by default, at most 10 s.
    pub attack: Duration,
    /// How long after a line it takes to come back; 200 ms by default, at most 10 s.
    pub release: Duration,
    /// Whether lines are made as loud as the original speech, by at most 12 dB; by default they are.
    pub match_loudness: bool,
    /// Peak level during lines in dBFS, -60 to 0; -1 by default. Elsewhere the original stays as it is.
    pub ceiling_db: f64,
}

impl Default for MixOptions {
    fn default() -> Self {
        Self {
            duck_db: Some(-24.0),
            original: true,
            attack: Duration::from_millis(50),
            release: Duration::from_millis(200),
            match_loudness: true,
            ceiling_db: -1.0,
        }
    }
}

setters! { MixOptions:
    /// Sets [`MixOptions::duck_db`].
    duck_db: impl Into<Option<f64>>,
    /// Sets [`MixOptions::original`].
    original: bool,
    /// Sets [`MixOptions::attack`].
    attack: Duration,
    /// Sets [`MixOptions::release`].
    release: Duration,
    /// Sets [`MixOptions::match_loudness`].
    match_loudness: bool,
    /// Sets [`MixOptions::ceiling_db`].
    ceiling_db: f64,
}

impl MixOptions {
    /// Whether the options make sense.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the option.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(db) = self.duck_db
            && !(-120.0..=0.0).contains(&db)
        {
            return Err(Error::argument(format!("duck_db {db} is outside -120..=0")));
        }
        if !(-60.0..=0.0).contains(&self.ceiling_db) {
            return Err(Error::argument(format!("ceiling_db {} is outside -60..=0", self.ceiling_db)));
        }
        for (name, ramp) in [("attack", self.attack), ("release", self.release)] {
            if ramp > Duration::from_secs(10) {
                return Err(Error::argument(format!("{name} {ramp:?} is longer than 10 s")));
            }
        }
        Ok(())
    }
}

/// How loud speech is, in LUFS: gated (EBU R 128), or by its mean power below the 400 ms that the gate needs. `None` for
/// silence.
pub(crate) fn loudness(audio: &Audio) -> Option<f64> {
    let gated = || {
        let mut meter = EbuR128::new(1, audio.rate(), Mode::I).ok()?;
        meter.add_frames_f32(audio.samples()).ok()?;
        meter.loudness_global().ok().filter(|l| l.is_finite())
    };
    let plain = || {
        let power = audio.samples().iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / audio.len().max(1) as f64;
        (power > 1e-10).then(|| 10.0 * power.log10() - 0.691)
    };
    gated().or_else(plain)
}

/// Mixes lines into a source that is handed over frame by frame. What comes out does not depend on how the frames were
/// grouped.
pub(crate) struct Mixer {
    rate: u32,
    channels: usize,
    opts: MixOptions,
    /// Gain of the original during lines.
    floor: f32,
    ceiling: f32,
    attack: u64,
    release: u64,
    /// Frames processed.
    position: u64,
    ducked: Vec<Interval>,
    lines: Vec<Line>,
}

/// Frames during which the original is ducked.
struct Interval {
    from: u64,
    to: u64,
}

/// A line at the source's rate and its final level.
struct Line {
    from: u64,
    samples: Audio,
}

impl Mixer {
    /// A mixer for a source of `channels` interleaved channels at `rate` Hz.
    ///
    /// # Errors
    /// `InvalidArgument` for a rate outside [`RATES`], no channel, or options out of range.
    pub(crate) fn new(rate: u32, channels: usize, opts: &MixOptions) -> Result<Self> {
        opts.check()?;
        if !RATES.contains(&rate) || channels == 0 {
            return Err(Error::argument(format!("cannot mix {channels} channels at {rate} Hz")));
        }
        let gain = |db: f64| 10f64.powf(db / 20.0) as f32;
        Ok(Self {
            rate,
            channels,
            floor: opts.duck_db.map_or(0.0, gain),
            ceiling: gain(opts.ceiling_db),
            attack: time_to_samples(opts.attack, rate),
            release: time_to_samples(opts.release, rate),
            opts: opts.clone(),
            position: 0,
            ducked: Vec::new(),
            lines: Vec::new(),
        })
    }

    /// How many frames may be processed before a line that begins at `start` (the original's or its own beginning,
    /// whichever is earlier) has to be pushed.
    pub(crate) fn frames_before(&self, start: Duration) -> u64 {
        time_to_samples(start, self.rate).saturating_sub(self.attack)
    }

    /// Adds a line (mono, any rate) to be heard from `start` on. `original` is where the original says it, and `level`
    /// how loud (see [`loudness`]).
    ///
    /// # Errors
    /// `Internal` if frames that the line would change were processed already, or if it cannot be resampled.
    pub(crate) fn push_line(&mut self, original: Span, level: Option<f64>, start: Duration, audio: &Audio) -> Result<()> {
        let begin = original.start.min(start);
        if self.frames_before(begin) < self.position {
            return Err(Error::internal(format!("a line at {begin:?} reached the mixer after its time")));
        }
        let samples = audio.resample(self.rate)?;
        let gain = self.gain(&samples, level);
        let samples = Audio::new(samples.samples().iter().map(|s| s * gain).collect(), self.rate)?;
        let from = time_to_samples(start, self.rate);
        let frames = |t| time_to_samples(t, self.rate);
        self.ducked.push(Interval { from: frames(original.start), to: frames(original.end) });
        self.ducked.push(Interval { from, to: from + samples.len() as u64 });
        self.ducked.retain(|i| i.from < i.to);
        self.lines.push(Line { from, samples });
        Ok(())
    }

    /// What brings a line to the original's level without its peaks passing the ceiling.
    fn gain(&self, line: &Audio, level: Option<f64>) -> f32 {
        let wanted = level.filter(|_| self.opts.match_loudness);
        let change = wanted.zip(loudness(line)).map_or(0.0, |(want, have)| (want - have).clamp(-MAX_GAIN_DB, MAX_GAIN_DB));
        let peak = line.samples().iter().fold(0f32, |m, s| m.max(s.abs()));
        let gain = 10f64.powf(change / 20.0) as f32;
        if peak * gain > self.ceiling { self.ceiling / peak } else { gain }
    }

    /// Turns the next frames of the source (interleaved) into the same frames of the track.
    ///
    /// # Errors
    /// `InvalidArgument` if the samples are not whole frames.
    pub(crate) fn process(&mut self, frames: &mut [f32]) -> Result<()> {
        if !frames.len().is_multiple_of(self.channels) {
            return Err(Error::argument(format!("{} samples are not whole frames of {} channels", frames.len(), self.channels)));
        }
        if self.opts.original {
            self.duck(frames);
        } else {
            frames.fill(0.0);
        }
        self.add(frames);
        self.position += (frames.len() / self.channels) as u64;
        let (now, release) = (self.position, self.release);
        self.ducked.retain(|i| i.to + release > now);
        self.lines.retain(|l| l.to() > now);
        Ok(())
    }

    fn duck(&self, frames: &mut [f32]) {
        let to = self.position + (frames.len() / self.channels) as u64;
        if self.ducked.iter().all(|i| i.from >= to + self.attack) {
            return;
        }
        for (at, frame) in (self.position..).zip(frames.chunks_exact_mut(self.channels)) {
            let depth = self.ducked.iter().map(|i| i.depth(at, self.attack, self.release)).fold(0.0, f32::max);
            if depth > 0.0 {
                let gain = 1.0 - (1.0 - self.floor) * depth;
                frame.iter_mut().for_each(|s| *s *= gain);
            }
        }
    }

    fn add(&self, frames: &mut [f32]) {
        let to = self.position + (frames.len() / self.channels) as u64;
        let mut playing = self.lines.iter().filter(|l| l.from < to).peekable();
        if playing.peek().is_none() {
            return;
        }
        let playing: Vec<&Line> = playing.collect();
        for (at, frame) in (self.position..).zip(frames.chunks_exact_mut(self.channels)) {
            let mut sounds = playing.iter().filter_map(|l| l.at(at)).peekable();
            if sounds.peek().is_some() {
                let sound: f32 = sounds.sum();
                frame.iter_mut().for_each(|s| *s = limit(*s + sound, self.ceiling));
            }
        }
    }
}

impl Interval {
    /// How far the original is ducked at frame `at`: 1 inside, 0 far away, a raised cosine between.
    fn depth(&self, at: u64, attack: u64, release: u64) -> f32 {
        let ramp = |near: u64, length: u64| {
            let away = near as f32 / (length as f32 + 1.0);
            if away >= 1.0 { 0.0 } else { 0.5 + 0.5 * (away * std::f32::consts::PI).cos() }
        };
        match at {
            at if at < self.from => ramp(self.from - at, attack),
            at if at < self.to => 1.0,
            at => ramp(at - self.to + 1, release),
        }
    }
}

impl Line {
    fn to(&self) -> u64 {
        self.from + self.samples.len() as u64
    }

    fn at(&self, frame: u64) -> Option<f32> {
        let i = frame.checked_sub(self.from)?;
        self.samples.samples().get(usize::try_from(i).ok()?).copied()
    }
}

/// Bends what lies above the knee so that it never passes the ceiling; the slope has no corner.
fn limit(x: f32, ceiling: f32) -> f32 {
    let (size, knee) = (x.abs(), KNEE * ceiling);
    if size <= knee {
        return x;
    }
    let room = ceiling - knee;
    let bent = knee + room * ((size - knee) / room).tanh();
    bent.min(ceiling).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u32 = 8_000;

    fn ms(t: u64) -> Duration {
        Duration::from_millis(t)
    }

    fn span(from: u64, to: u64) -> Span {
        Span::new(ms(from), ms(to))
    }

    fn tone(hz: f32, level: f32, millis: u64, rate: u32) -> Audio {
        let n = time_to_samples(ms(millis), rate) as usize;
        let wave = |i: usize| (i as f32 * hz * std::f32::consts::TAU / rate as f32).sin() * level;
        Audio::new((0..n).map(wave).collect(), rate).unwrap()
    }

    /// Two channels of different tones, four seconds.
    fn source(level: f32) -> Vec<f32> {
        let (left, right) = (tone(300.0, level, 4_000, HZ), tone(500.0, level, 4_000, HZ));
        left.samples().iter().zip(right.samples()).flat_map(|(l, r)| [*l, *r]).collect()
    }

    fn mixed(source: &[f32], chunk: usize, opts: &MixOptions, lines: &[(Span, u64, Audio)]) -> Vec<f32> {
        let mut mixer = Mixer::new(HZ, 2, opts).unwrap();
        let mut out = source.to_vec();
        let mut next = 0;
        for frames in out.chunks_mut(chunk * 2) {
            // As late as allowed.
            let end = mixer.position + (frames.len() / 2) as u64;
            while let Some((original, start, audio)) = lines.get(next)
                && mixer.frames_before(original.start.min(ms(*start))) < end
            {
                mixer.push_line(*original, Some(-20.0), ms(*start), audio).unwrap();
                next += 1;
            }
            mixer.process(frames).unwrap();
        }
        assert!(mixer.lines.iter().all(|l| l.to() > mixer.position), "played lines are kept");
        out
    }

    fn lines() -> Vec<(Span, u64, Audio)> {
        vec![
            (span(500, 1_200), 600, tone(1_000.0, 0.2, 900, 16_000)),
            (span(1_550, 1_700), 1_550, tone(700.0, 0.9, 200, 22_050)),
            (span(2_500, 3_000), 2_600, tone(900.0, 0.01, 2_000, HZ)),
        ]
    }

    fn power(x: &[f32]) -> f32 {
        (x.iter().map(|s| s * s).sum::<f32>() / x.len() as f32).sqrt()
    }

    #[test]
    fn chunks_do_not_matter_and_nothing_grows() {
        let source = source(0.4);
        for opts in [MixOptions::default(), MixOptions::default().original(false), MixOptions::default().duck_db(None)] {
            let whole = mixed(&source, 1_000_000, &opts, &lines());
            assert_eq!(whole.len(), source.len());
            for chunk in [1, 7, 100, 1_024, 9_999] {
                assert!(mixed(&source, chunk, &opts, &lines()) == whole, "chunks of {chunk}");
            }
        }
    }

    #[test]
    fn without_lines_nothing_changes() {
        let source = source(1.5);
        assert!(mixed(&source, 333, &MixOptions::default(), &[]) == source);
        assert!(mixed(&source, 333, &MixOptions::default().original(false), &[]).iter().all(|s| *s == 0.0));
    }

    #[test]
    fn ducks_smoothly_and_comes_back() {
        // A constant shows the gain itself; the line is silent.
        let source = vec![0.5; 4 * HZ as usize * 2];
        let silence = Audio::new(vec![0.0; HZ as usize], HZ).unwrap();
        let out = mixed(&source, 500, &MixOptions::default(), &[(span(1_000, 1_500), 1_200, silence)]);
        let at = |t: u64| out[time_to_samples(ms(t), HZ) as usize * 2];
        let low = 0.5 * 10f32.powf(-24.0 / 20.0);
        assert_eq!((at(940), at(2_405)), (0.5, 0.5));
        assert!((at(975) - (0.5 + low) / 2.0).abs() < 0.01, "half way down");
        assert!([1_000, 1_400, 1_700, 2_199].iter().all(|t| (at(*t) - low).abs() < 1e-6));
        assert!((at(2_300) - (0.5 + low) / 2.0).abs() < 0.01, "half way up");
        let jump =
            out.chunks_exact(2).map(|f| f[0]).collect::<Vec<_>>().windows(2).map(|w| (w[0] - w[1]).abs()).fold(0.0, f32::max);
        assert!(jump < 0.003, "a step of {jump}");
    }

    #[test]
    fn lines_are_as_loud_as_the_original_and_in_place() {
        let opts = MixOptions::default().original(false);
        let line = tone(1_000.0, 0.2, 1_000, 16_000);
        let have = loudness(&line).unwrap();
        let out = mixed(&source(0.1), 800, &opts, &[(span(1_000, 2_000), 1_000, line.clone())]);
        let frame = |t: u64| time_to_samples(ms(t), HZ) as usize * 2;
        assert!(out[..frame(999)].iter().chain(&out[frame(2_001)..]).all(|s| *s == 0.0));
        let left: Vec<f32> = out.iter().step_by(2).copied().collect();
        assert!(out.chunks_exact(2).all(|f| f[0] == f[1]), "the same on all channels");
        let now = loudness(&Audio::new(left[HZ as usize..2 * HZ as usize].to_vec(), HZ).unwrap()).unwrap();
        assert!((have - -20.0).abs() > 2.0 && (now - -20.0).abs() < 0.3, "{have} became {now}");
        // A whisper is raised by no more than 12 dB.
        let out = mixed(&source(0.1), 800, &opts, &[(span(1_000, 2_000), 1_000, tone(1_000.0, 0.002, 1_000, HZ))]);
        let raised = power(&out[frame(1_200)..frame(1_800)]) / (0.002 / 2f32.sqrt());
        assert!((20.0 * raised.log10() - 12.0).abs() < 0.1, "{raised}");
    }

    #[test]
    fn short_and_silent_sounds_have_a_level() {
        let long = loudness(&tone(1_000.0, 0.1, 2_000, 16_000)).unwrap();
        let short = loudness(&tone(1_000.0, 0.1, 200, 16_000)).unwrap();
        assert!((long - short).abs() < 1.0, "{long} and {short}");
        assert_eq!(loudness(&Audio::new(vec![0.0; 16_000], 16_000).unwrap()), None);
        assert_eq!(loudness(&Audio::new(vec![], 16_000).unwrap()), None);
    }

    #[test]
    fn peaks_stay_below_the_ceiling() {
        let opts = MixOptions::default().duck_db(-0.5);
        let out = mixed(&source(1.0), 512, &opts, &[(span(1_000, 2_000), 1_000, tone(333.0, 1.0, 1_000, HZ))]);
        let loud = &out[HZ as usize * 2..HZ as usize * 4];
        assert!(loud.iter().all(|s| s.abs() <= 10f32.powf(-1.0 / 20.0)));
        for i in -400..400 {
            let (a, b) = (i as f32 / 100.0, (i + 1) as f32 / 100.0);
            assert!(limit(a, 0.9) <= limit(b, 0.9) && limit(a, 0.9).abs() <= 0.9);
        }
    }

    #[test]
    fn late_lines_and_wrong_options_are_refused() {
        let mut mixer = Mixer::new(HZ, 2, &MixOptions::default()).unwrap();
        mixer.process(&mut [0.0; 2_000]).unwrap();
        assert!(mixer.push_line(span(100, 200), None, ms(100), &tone(100.0, 0.1, 50, HZ)).is_err());
        mixer.push_line(span(200, 300), None, ms(250), &tone(100.0, 0.1, 50, HZ)).unwrap();
        mixer.push_line(span(400, 400), None, ms(400), &Audio::new(vec![], HZ).unwrap()).unwrap();
        assert!(mixer.process(&mut [0.0; 3]).is_err());
        assert!(Mixer::new(HZ, 0, &MixOptions::default()).is_err());
        let opts = MixOptions::default;
        for wrong in [opts().duck_db(1.0), opts().duck_db(f64::NAN), opts().ceiling_db(3.0), opts().attack(Duration::MAX)] {
            assert!(Mixer::new(HZ, 2, &wrong).is_err(), "{wrong:?}");
        }
    }
}
