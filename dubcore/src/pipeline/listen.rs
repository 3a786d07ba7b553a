//! The first pass over the media: find speech, and keep just the sound that is still needed.

use std::collections::VecDeque;
use std::time::Duration;

use crate::audio::{Audio, Span, samples_to_time, time_to_samples};
use crate::error::Result;
use crate::media::{Input, Limits, MonoStream};
use crate::runtime::Job;
use crate::vad::{RATE, Vad, VadOptions};

/// So much sound is looked at for more spans behind the first of a batch, and for a first one: what lies between two that
/// are hours apart need not be held.
const BATCH_REACH: Duration = Duration::from_secs(120);
const QUIET: Duration = Duration::from_secs(30);

/// Speech found in a stream that is read once.
pub(super) struct Listener {
    stream: MonoStream,
    vad: Vad,
    /// Spans found and not yet taken.
    spans: VecDeque<Span>,
    /// The sound from sample `dropped` on.
    heard: Vec<f32>,
    dropped: u64,
    /// Sound before this time is not asked for any more.
    keep: Duration,
    ended: bool,
}

impl Listener {
    pub(super) fn open(input: &Input, limits: &Limits) -> Result<Self> {
        Ok(Self {
            stream: MonoStream::open(input, limits, RATE)?,
            vad: Vad::new(&VadOptions::default())?,
            spans: VecDeque::new(),
            heard: Vec::new(),
            dropped: 0,
            keep: Duration::ZERO,
            ended: false,
        })
    }

    /// Up to `count` of the next spans of speech, none longer than the detector's limit. Fewer where they lie far apart,
    /// none where it was quiet for long or the media have ended.
    pub(super) fn next_spans(&mut self, count: usize, job: &Job) -> Result<Vec<Span>> {
        let quiet = self.position() + QUIET;
        while self.spans.len() < count && !self.ended {
            let enough = self.spans.front().map_or(quiet, |first| first.start + BATCH_REACH);
            if self.position() >= enough {
                break;
            }
            self.hear(job)?;
        }
        let take = self.spans.len().min(count);
        Ok(self.spans.drain(..take).collect())
    }

    /// Reads on until `time` was heard, or the end. Speech is not looked for: spans that were found are forgotten.
    pub(super) fn hear_until(&mut self, time: Duration, job: &Job) -> Result<()> {
        while self.position() < time && !self.ended {
            self.hear(job)?;
            self.spans.clear();
        }
        Ok(())
    }

    fn hear(&mut self, job: &Job) -> Result<()> {
        job.check()?;
        let before = self.heard.len();
        if self.stream.read(&mut self.heard)? == 0 {
            self.ended = true;
            self.spans.extend(self.vad.flush());
        } else {
            self.spans.extend(self.vad.push(&self.heard[before..]));
        }
        self.free();
        Ok(())
    }

    /// The sound of a span that was not forgotten.
    pub(super) fn audio(&self, span: Span) -> Result<Audio> {
        let at = |t| (time_to_samples(t, RATE).saturating_sub(self.dropped) as usize).min(self.heard.len());
        Audio::new(self.heard[at(span.start)..at(span.end)].to_vec(), RATE)
    }

    /// Says that sound before `time` will not be asked for. Spans that begin earlier must have been dealt with.
    pub(super) fn forget(&mut self, time: Duration) {
        self.keep = self.keep.max(time);
        self.free();
    }

    fn free(&mut self) {
        let keep = self.spans.front().map_or(self.vad.settled(), |s| s.start).min(self.keep);
        let gone = (time_to_samples(keep, RATE).saturating_sub(self.dropped) as usize).min(self.heard.len());
        // Moving what remains costs as much as it frees, so it is done by the minute.
        if gone >= 60 * RATE as usize {
            self.heard.drain(..gone);
            self.dropped += gone as u64;
        }
    }

    /// The time heard so far.
    pub(super) fn position(&self) -> Duration {
        samples_to_time(self.dropped + self.heard.len() as u64, RATE)
    }

    /// Whether all was heard and every span taken.
    pub(super) fn finished(&self) -> bool {
        self.ended && self.spans.is_empty()
    }

    /// Length of the media: exact once it was heard, before that what the media tell.
    pub(super) fn duration(&self) -> Option<Duration> {
        let frames = if self.ended { Some(self.stream.source_frames()) } else { self.stream.source_frames_hint() };
        frames.map(|n| samples_to_time(n, self.stream.source_rate()))
    }
}
