//! Where somebody speaks: a small neural detector over 32 ms frames (Silero VAD 6.2, which music, hum and hiss do not
//! mislead) and the rules that make spans of its probabilities. Spans come out while samples go in, and do not depend on
//! how the samples were cut.

use std::time::Duration;

use crate::audio::{Audio, Span, samples_to_time, time_to_samples};
use crate::error::Result;
use crate::nn::silero::{FRAME, Silero, State};
use crate::runtime::Job;
use crate::team::Team;

/// The one rate the detector hears, in Hz.
pub(crate) const RATE: u32 = 16_000;
/// Frames on either side that a cut looks at: the gap inside a plosive is shorter than this window, a pause is not.
const CUT_REACH: usize = 2;
/// A level this much lower makes a place as good for a cut as being no speech at all, in dB: in a pause between two
/// words the detector goes on hearing speech.
const CUT_LEVEL: f32 = 40.0;
/// What is as quiet as this counts as silence, in dB.
const SILENCE: f32 = -60.0;

/// Frames between two looks at the job: some 10 ms.
const CHECKED: usize = 1_000;

/// How spans are made of probabilities.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct VadOptions {
    /// Probability at which speech begins, 0 to 1.
    pub(crate) onset: f32,
    /// Probability below which it pauses, at most `onset`: between the two, what was goes on.
    pub(crate) offset: f32,
    /// Speech shorter than this is a click; the less certain it is, the longer it has to be.
    pub(crate) min_speech: Duration,
    /// A shorter pause does not end a span.
    pub(crate) min_silence: Duration,
    /// Added before and after a span, at most half of `min_silence` so that neighbours never overlap.
    pub(crate) pad: Duration,
    /// No span is longer, pads included; at least 0.5 s. A longer one is cut in its second half, at the quietest place.
    pub(crate) max_len: Duration,
}

impl Default for VadOptions {
    fn default() -> Self {
        Self {
            onset: 0.5,
            offset: 0.35,
            min_speech: Duration::from_millis(120),
            min_silence: Duration::from_millis(350),
            pad: Duration::from_millis(144),
            max_len: Duration::from_secs(10),
        }
    }
}

/// The speech in `audio` (any rate), in order, not overlapping, no span longer than `max_len`. Several threads listen.
///
/// # Errors
/// `Internal` if the sound cannot be resampled; those of [`Vad::new`] and of [`Job::check`].
pub(crate) fn speech_spans(audio: &Audio, max_len: Duration, opts: &VadOptions, job: &Job) -> Result<Vec<Span>> {
    let resampled = audio.resample_while(RATE, || job.check())?;
    let mut vad = Vad { team: Team::new(0), ..Vad::new(&VadOptions { max_len, ..opts.clone() })? };
    let mut found = Vec::new();
    for part in resampled.samples().chunks(CHECKED * FRAME) {
        job.check()?;
        vad.team.refresh();
        found.extend(vad.push(part));
    }
    found.extend(vad.flush());
    // Resampling rounds the length to the nearest sample of the other rate.
    let end = audio.duration();
    Ok(found.into_iter().map(|s| Span::new(s.start.min(end), s.end.min(end))).collect())
}

/// A streaming detector.
pub(crate) struct Vad {
    network: &'static Silero,
    team: Team,
    state: State,
    /// Samples that were not heard yet.
    rest: Vec<f32>,
    /// Samples received.
    received: u64,
    spans: Spans,
}

impl Vad {
    /// A detector that has heard nothing.
    ///
    /// # Errors
    /// `InvalidArgument` where `DUBCORE_CPU_ISA` names what the processor has not.
    pub(crate) fn new(opts: &VadOptions) -> Result<Self> {
        let (network, team, state) = (Silero::get()?, Team::alone(), State::default());
        Ok(Self { network, team, state, rest: Vec::new(), received: 0, spans: Spans::new(opts) })
    }

    /// Hears `samples` (16 kHz mono, following the last ones) and returns the spans that have become certain.
    pub(crate) fn push(&mut self, samples: &[f32]) -> Vec<Span> {
        self.received += samples.len() as u64;
        self.rest.extend_from_slice(samples);
        let mut out = Vec::new();
        let whole = self.rest.len() - self.rest.len() % FRAME;
        self.hear(whole, &mut out);
        spans(out)
    }

    /// Ends the sound and returns what is left. The detector then hears a new sound, from time zero.
    pub(crate) fn flush(&mut self) -> Vec<Span> {
        let mut out = Vec::new();
        self.hear(self.rest.len(), &mut out);
        self.spans.flush(&mut out);
        let end = std::mem::take(&mut self.received);
        out.iter_mut().for_each(|(_, to)| *to = (*to).min(end));
        self.state = State::default();
        spans(out)
    }

    /// Hears the first so many samples of what is left.
    fn hear(&mut self, samples: usize, out: &mut Vec<(u64, u64)>) {
        let probs = self.network.hear(&self.team, &mut self.state, &self.rest[..samples]);
        for (frame, prob) in self.rest[..samples].chunks(FRAME).zip(probs) {
            self.spans.push(Heard { prob, level: level(frame) }, out);
        }
        self.rest.drain(..samples);
    }

    /// Before this time no further span will begin: sound that ended here is no longer needed.
    pub(crate) fn settled(&self) -> Duration {
        samples_to_time(self.spans.settled().min(self.received), RATE)
    }
}

fn spans(samples: Vec<(u64, u64)>) -> Vec<Span> {
    samples.into_iter().filter(|(from, to)| from < to).map(|(from, to)| Span::from_samples(from, to, RATE)).collect()
}

/// How loud a frame is, in dB; full scale is 0.
fn level(frame: &[f32]) -> f32 {
    let power = frame.iter().map(|s| s * s).sum::<f32>() / FRAME as f32;
    (10.0 * power.log10()).max(SILENCE)
}

/// A frame as it was heard.
#[derive(Clone, Copy)]
struct Heard {
    /// The probability that it is speech.
    prob: f32,
    /// How loud it is, in dB; full scale is 0.
    level: f32,
}

impl Heard {
    /// From 0 where it is as likely something else, to 1.
    fn certainty(self) -> f32 {
        (2.0 * self.prob - 1.0).max(0.0)
    }
}

/// The rules, in frames. Apart from the detector, so that they can be tested on made-up probabilities.
struct Spans {
    onset: f32,
    offset: f32,
    min_speech: f32,
    min_silence: u64,
    pad: u64,
    max_len: u64,
    /// Frames received.
    now: u64,
    /// No span may begin before this frame.
    floor: u64,
    open: Option<Open>,
}

/// A span that has begun.
struct Open {
    /// Its first frame, pad included.
    start: u64,
    /// The frame after its last speech.
    end: u64,
    /// Its frames of speech, each as far as it is certain.
    certain: f32,
    /// It goes on from a span that was cut, so it is no click however short.
    continued: bool,
    /// What was heard from `start` on.
    heard: Vec<Heard>,
}

impl Spans {
    fn new(opts: &VadOptions) -> Self {
        let frames = |t: Duration| time_to_samples(t, RATE) / FRAME as u64;
        let min_silence = frames(opts.min_silence).max(1);
        Self {
            onset: opts.onset,
            offset: opts.offset.min(opts.onset),
            min_speech: opts.min_speech.as_secs_f32() * RATE as f32 / FRAME as f32,
            min_silence,
            pad: frames(opts.pad).min(min_silence / 2),
            max_len: frames(opts.max_len.max(Duration::from_millis(500))),
            now: 0,
            floor: 0,
            open: None,
        }
    }

    fn push(&mut self, heard: Heard, out: &mut Vec<(u64, u64)>) {
        self.now += 1;
        self.step(self.now - 1, heard, out);
    }

    fn step(&mut self, frame: u64, heard: Heard, out: &mut Vec<(u64, u64)>) {
        let Some(open) = &mut self.open else {
            if heard.prob >= self.onset {
                self.open(frame, heard, false);
            }
            return;
        };
        open.heard.push(heard);
        open.certain += heard.certainty();
        if heard.prob >= self.offset {
            open.end = frame + 1;
        } else if frame + 1 - open.end >= self.min_silence {
            self.close(out);
            return;
        }
        if frame + 1 - open.start >= self.max_len {
            self.cut(out);
        }
    }

    /// Begins a span at a frame of speech. What was heard before it is not kept: pads are never cut.
    fn open(&mut self, frame: u64, first: Heard, continued: bool) {
        let start = frame.saturating_sub(self.pad).max(self.floor);
        let mut heard = vec![Heard { prob: 1.0, level: 0.0 }; (frame - start) as usize];
        heard.push(first);
        self.open = Some(Open { start, end: frame + 1, certain: first.certainty(), continued, heard });
    }

    fn close(&mut self, out: &mut Vec<(u64, u64)>) {
        if let Some(open) = self.open.take()
            && (open.continued || open.certain >= self.min_speech)
        {
            let end = (open.end + self.pad).min(open.start + self.max_len);
            out.push((open.start * FRAME as u64, end * FRAME as u64));
            self.floor = end;
        }
    }

    /// Cuts an open span that has become too long, and goes on with what follows the cut.
    fn cut(&mut self, out: &mut Vec<(u64, u64)>) {
        let Some(open) = self.open.take() else { return };
        let at = open.start + quietest(&open.heard) as u64;
        let (before, after) = open.heard.split_at((at - open.start) as usize);
        let last = before.iter().rposition(|h| h.prob >= self.offset);
        let end = last.map_or(at, |last| (open.start + last as u64 + 1 + self.pad).min(at));
        out.push((open.start * FRAME as u64, end * FRAME as u64));
        self.floor = at;
        let Some(first) = after.iter().position(|h| h.prob >= self.offset) else { return };
        self.open(at + first as u64, after[first], true);
        for (i, heard) in after.iter().enumerate().skip(first + 1) {
            self.step(at + i as u64, *heard, out);
        }
    }

    fn flush(&mut self, out: &mut Vec<(u64, u64)>) {
        self.close(out);
        (self.now, self.floor, self.open) = (0, 0, None);
    }

    fn settled(&self) -> u64 {
        let frame = self.open.as_ref().map_or(self.now.saturating_sub(self.pad), |o| o.start);
        frame.max(self.floor) * FRAME as u64
    }
}

/// The frame in the second half around which it is quietest and speech least likely; the later of equals, for longer
/// spans are recognised better.
fn quietest(heard: &[Heard]) -> usize {
    let around = |i: usize| {
        let window = &heard[i.saturating_sub(CUT_REACH)..(i + CUT_REACH + 1).min(heard.len())];
        window.iter().map(|h| h.prob + h.level / CUT_LEVEL).sum::<f32>() / window.len() as f32
    };
    let second_half = heard.len() / 2..heard.len();
    second_half.rev().min_by(|a, b| around(*a).total_cmp(&around(*b))).unwrap_or(heard.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sentence made with espeak-ng: 16-bit mono at 16 kHz, speech from 0.00 s to the end, no pause.
    fn sentence() -> Vec<f32> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vad/harbour.wav");
        let mut wav = hound::WavReader::open(path).unwrap();
        wav.samples::<i16>().map(|s| f32::from(s.unwrap()) / 32_768.0).collect()
    }

    fn noise(n: usize, level: f32, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * level
        };
        (0..n).map(|_| next()).collect()
    }

    /// Sentences `gap` seconds apart in soft noise, one second of it around them.
    fn talk(sentences: usize, gap: f64) -> (Vec<f32>, Vec<Span>) {
        let (mut out, mut truth) = (noise(16_000, 0.002, 1), Vec::new());
        for i in 0..sentences {
            let from = out.len() as u64;
            out.extend(sentence());
            truth.push(Span::from_samples(from, out.len() as u64, RATE));
            let pause = if i + 1 == sentences { 1.0 } else { gap };
            out.extend(noise((pause * 16_000.0) as usize, 0.002, i as u64));
        }
        (out, truth)
    }

    fn audio(samples: Vec<f32>) -> Audio {
        Audio::new(samples, RATE).unwrap()
    }

    fn ms(a: Duration, b: Duration) -> i128 {
        a.as_millis() as i128 - b.as_millis() as i128
    }

    const TEN: Duration = Duration::from_secs(10);

    #[test]
    fn finds_the_sentences() {
        let (sound, truth) = talk(3, 0.8);
        let found = speech_spans(&audio(sound.clone()), TEN, &VadOptions::default(), &Job::new()).unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
        for (found, truth) in found.iter().zip(&truth) {
            // Pads included: never inside the speech, and not far outside.
            assert!((-260..=0).contains(&ms(found.start, truth.start)), "{found:?} for {truth:?}");
            assert!((-20..=260).contains(&ms(found.end, truth.end)), "{found:?} for {truth:?}");
        }
        for rate in [8_000, 22_050, 48_000] {
            let same =
                speech_spans(&audio(sound.clone()).resample(rate).unwrap(), TEN, &VadOptions::default(), &Job::new()).unwrap();
            assert_eq!(same.len(), 3, "at {rate} Hz");
            assert!(ms(same[1].start, found[1].start).abs() <= 50, "at {rate} Hz");
        }
    }

    #[test]
    fn a_short_pause_does_not_end_a_span() {
        let (sound, _) = talk(2, 0.15);
        assert_eq!(speech_spans(&audio(sound), TEN, &VadOptions::default(), &Job::new()).unwrap().len(), 1);
    }

    #[test]
    fn steady_sound_is_not_speech() {
        let tone = |hz: f32| (0..80_000).map(|i| 0.3 * (i as f32 * hz * std::f32::consts::TAU / 16_000.0).sin()).collect();
        let mut sounds: Vec<Vec<f32>> =
            vec![vec![], vec![0.0; 100], vec![0.0; 80_000], tone(50.0), tone(440.0), vec![2.0; 20_000]];
        sounds.extend([0.001, 0.01, 0.1, 0.3, 0.5, 1.0].map(|level| noise(80_000, level, 3)));
        for (i, sound) in sounds.into_iter().enumerate() {
            assert_eq!(speech_spans(&audio(sound), TEN, &VadOptions::default(), &Job::new()).unwrap(), vec![], "sound {i}");
        }
    }

    #[test]
    fn chunks_do_not_matter() {
        let (sound, _) = talk(4, 0.5);
        let whole = speech_spans(&audio(sound.clone()), Duration::from_secs(4), &VadOptions::default(), &Job::new()).unwrap();
        assert!(whole.len() >= 4);
        let opts = VadOptions { max_len: Duration::from_secs(4), ..VadOptions::default() };
        let mut vad = Vad::new(&opts).unwrap();
        for size in [1, 100, 255, 256, 257, 4_096, 16_001, sound.len()] {
            let mut got = Vec::new();
            for chunk in sound.chunks(size) {
                let before = vad.settled();
                let new = vad.push(chunk);
                assert!(new.iter().all(|s| s.start >= before), "a span began before {before:?}: {new:?}");
                got.extend(new);
            }
            got.extend(vad.flush());
            assert_eq!(got, whole, "chunks of {size}");
        }
    }

    #[test]
    fn hearing_can_be_cancelled() {
        let job = Job::new();
        job.cancel();
        let found = speech_spans(&audio(vec![0.0; 16_000]), TEN, &VadOptions::default(), &job);
        assert_eq!(found.unwrap_err().kind(), crate::error::ErrorKind::Cancelled);
    }

    #[test]
    fn long_speech_is_cut_between_sentences() {
        // Eight minutes of sentences in soft noise. No pause is long enough to end a span: all ends are cuts.
        let clip = sentence();
        let gaps = noise(150, 1.0, 7);
        let (mut sound, mut truth) = (Vec::new(), Vec::new());
        for (i, gap) in gaps.iter().enumerate() {
            let from = sound.len() as u64;
            sound.extend(&clip);
            truth.push(Span::from_samples(from, sound.len() as u64, RATE));
            // 0.1 to 0.3 s.
            sound.extend(noise(((0.2 + 0.1 * gap) * RATE as f32) as usize, 0.002, i as u64));
        }
        let sound = audio(sound);
        for seconds in [8, 10, 30] {
            let max = Duration::from_secs(seconds);
            let opts = VadOptions { pad: Duration::ZERO, ..VadOptions::default() };
            let found = speech_spans(&sound, max, &opts, &Job::new()).unwrap();
            assert!(found.len() as f64 >= sound.duration().as_secs_f64() / max.as_secs_f64(), "{} of {max:?}", found.len());
            assert!(found.iter().all(|s| s.duration() <= max));
            for pair in found.windows(2) {
                assert!(pair[0].end <= pair[1].start);
                let edge = Duration::from_millis(40);
                let inside = |t: Duration| truth.iter().any(|s| t > s.start + edge && t + edge < s.end);
                assert!(!inside(pair[0].end) && !inside(pair[1].start), "{pair:?} cuts a sentence");
            }
        }
    }

    #[test]
    fn rules() {
        let run = |probs: &[f32], opts: &VadOptions| {
            let (mut spans, mut out) = (Spans::new(opts), Vec::new());
            probs.iter().for_each(|prob| spans.push(Heard { prob: *prob, level: -20.0 }, &mut out));
            spans.flush(&mut out);
            out.iter().map(|(from, to)| (from / FRAME as u64, to / FRAME as u64)).collect::<Vec<_>>()
        };
        let frames = |n: u64| samples_to_time(n * FRAME as u64, RATE);
        let opts = VadOptions {
            min_speech: frames(3),
            min_silence: frames(6),
            pad: frames(2),
            max_len: frames(40),
            ..VadOptions::default()
        };
        let line = |parts: &[(usize, f32)]| parts.iter().flat_map(|(n, p)| std::iter::repeat_n(*p, *n)).collect::<Vec<_>>();
        // A click; speech; between the thresholds it goes on.
        assert_eq!(run(&line(&[(10, 0.0), (2, 0.9), (20, 0.0)]), &opts), []);
        assert_eq!(run(&line(&[(10, 0.0), (4, 0.9), (20, 0.0)]), &opts), [(8, 16)]);
        assert_eq!(run(&line(&[(10, 0.4), (4, 0.9), (4, 0.4), (20, 0.0)]), &opts), [(8, 20)]);
        // A pause that is too short, and one that is long enough.
        assert_eq!(run(&line(&[(4, 0.9), (5, 0.0), (4, 0.9), (9, 0.0)]), &opts), [(0, 15)]);
        assert_eq!(run(&line(&[(4, 0.9), (6, 0.0), (4, 0.9), (9, 0.0)]), &opts), [(0, 6), (8, 16)]);
        // No pause at all: cut at the limit. A dip in the second half: cut there, nothing lost.
        let solid = run(&line(&[(100, 0.9)]), &opts);
        assert!(solid.iter().all(|(a, b)| b - a <= 40) && solid.windows(2).all(|w| w[0].1 == w[1].0), "{solid:?}");
        assert!(solid[0].0 == 0 && solid[solid.len() - 1].1 >= 100, "{solid:?}");
        let dip = run(&line(&[(25, 0.9), (4, 0.1), (30, 0.9), (9, 0.0)]), &opts);
        assert!((25..=29).contains(&dip[0].1) && (25..=29).contains(&dip[1].0), "{dip:?}");
        // Whatever comes, spans are ordered, apart and not too long.
        for seed in 0..200 {
            let probs: Vec<f32> = noise(500, 0.5, seed).iter().map(|p| p + 0.5).collect();
            let found = run(&probs, &opts);
            assert!(found.iter().all(|(a, b)| a < b && b - a <= 40), "{found:?}");
            assert!(found.windows(2).all(|w| w[0].1 <= w[1].0), "{found:?}");
        }
    }
}
