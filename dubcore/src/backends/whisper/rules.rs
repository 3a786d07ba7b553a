//! What Whisper's decoder may write next: suppressed tokens, and timestamps in pairs that never fall.
//!
//! The rules and their order are those of transformers' `WhisperTimeStampLogitsProcessor` and suppression processors.

use super::Special;
use crate::nn::decode::{Rules, forbid};

pub(super) struct WhisperRules<'a> {
    special: &'a Special,
    /// The first timestamp token, if timestamps are wanted.
    timestamps: Option<usize>,
}

impl<'a> WhisperRules<'a> {
    pub(super) fn new(special: &'a Special, timestamps: bool) -> Self {
        let first = special.no_timestamps.filter(|_| timestamps).map(|id| id as usize + 1);
        Self { special, timestamps: first }
    }
}

impl Rules for WhisperRules<'_> {
    fn apply(&self, generated: &[u32], scores: &mut [f32]) {
        if generated.is_empty() {
            forbid(scores, &self.special.begin_suppress);
        }
        forbid(scores, &self.special.suppress);
        if let Some(first) = self.timestamps.filter(|first| *first < scores.len()) {
            self.timestamp_rules(first, generated, scores);
        }
    }
}

impl WhisperRules<'_> {
    fn timestamp_rules(&self, first: usize, generated: &[u32], scores: &mut [f32]) {
        let is_time = |t: &u32| *t as usize >= first;
        scores[first - 1] = f32::NEG_INFINITY;
        let last = generated.last().is_some_and(is_time);
        let before = generated.len() < 2 || is_time(&generated[generated.len() - 2]);
        if last {
            // Times come in pairs: after the second of a pair text follows, after a lone one its partner or the end.
            let forbidden = if before { first..scores.len() } else { 0..(self.special.end as usize).min(scores.len()) };
            scores[forbidden].fill(f32::NEG_INFINITY);
        }
        if let Some(latest) = generated.iter().rfind(|t| is_time(t)) {
            // A segment may begin where the last one ended, but not end where it began.
            let from = *latest as usize + usize::from(!(last && !before));
            let to = from.clamp(first, scores.len());
            scores[first..to].fill(f32::NEG_INFINITY);
        }
        if generated.is_empty() {
            scores[..first].fill(f32::NEG_INFINITY);
            if let Some(max) = self.special.max_initial_timestamp {
                let beyond = (first + max as usize + 1).min(scores.len());
                scores[beyond..].fill(f32::NEG_INFINITY);
            }
        }
        // If a time is more probable than any one word, it is a time.
        let (text, times) = scores.split_at(first);
        let loudest = text.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let peak = times.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if peak > f32::NEG_INFINITY {
            let all = peak + times.iter().map(|s| (s - peak).exp()).sum::<f32>().ln();
            if all > loudest {
                scores[..first].fill(f32::NEG_INFINITY);
            }
        }
    }
}
