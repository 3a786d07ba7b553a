//! Where Whisper's windows lie: around speech, none longer than the model hears at once.

use std::time::Duration;

use crate::audio::{Audio, Span};
use crate::error::{Error, Result};
use crate::runtime::Job;
use crate::stage::SttOptions;
use crate::vad::{VadOptions, speech_spans};

/// A longer silence is not worth a place in a window, and invites the decoder to fill it.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How much of what the model hears at once is filled. Where speech comes close to the end, the model often takes the last
/// sentence for one that goes on behind it, and leaves it to the next window: which it takes as long to hear as a full one.
const FILLED: f64 = 14.0 / 15.0;

/// Less than this is no reason to hear a window again: times are not told more exactly, and words have pads.
const LEFT_OUT: Duration = Duration::from_secs(1);

/// A part of the audio that is heard at once.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part {
    pub(super) span: Span,
    /// Where in it somebody speaks, if that was looked for.
    speech: Vec<Span>,
}

impl Part {
    fn of_speech(span: Span) -> Self {
        Self { span, speech: vec![span] }
    }

    /// What is to be heard once more, as the model stopped at `until` although somebody goes on speaking. The reference
    /// implementation's next window begins at the last timestamp, too; it does not know whether anything was left out.
    pub(super) fn rest(&self, until: Duration) -> Option<Self> {
        let after = |s: &Span| Span::new(s.start.max(until), s.end.max(until));
        let speech: Vec<Span> = self.speech.iter().map(after).filter(|s| s.duration() > LEFT_OUT / 4).collect();
        let spoken: Duration = speech.iter().map(Span::duration).sum();
        let (start, end) = (speech.first()?.start, speech.last()?.end);
        let got_on = until.saturating_sub(self.span.start) >= LEFT_OUT;
        (got_on && spoken >= LEFT_OUT).then(|| Self { span: Span::new(start, end), speech })
    }

    /// Its two halves, cut at the pause nearest to its middle. Each is shorter, so that halving ends.
    pub(super) fn halves(&self) -> Option<[Self; 2]> {
        let middle = (self.span.start + self.span.end) / 2;
        let off = |at: &usize| ((self.speech[at - 1].end + self.speech[*at].start) / 2).abs_diff(middle);
        let (before, after) = self.speech.split_at((1..self.speech.len()).min_by_key(off)?);
        let half = |start, end, speech: &[Span]| Self { span: Span::new(start, end), speech: speech.to_vec() };
        Some([half(self.span.start, before.last()?.end, before), half(after.first()?.start, self.span.end, after)])
    }
}

/// The spans asked for, or those in which somebody speaks; what is longer than `longest` is cut where speech pauses.
pub(super) fn windows(audio: &Audio, opts: &SttOptions, longest: Duration, job: &Job) -> Result<Vec<Part>> {
    let all = Span::new(Duration::ZERO, audio.duration());
    let speech = |span: Span| -> Result<Vec<Span>> {
        let found = speech_spans(&audio.slice(span), longest, &VadOptions::default(), job)?;
        Ok(found.into_iter().map(|s| s.shifted(span.start)).collect())
    };
    if opts.spans.is_empty() {
        let found = speech(all)?;
        return Ok(match found.is_empty() {
            // Hum and hiss make the model talk.
            true => Vec::new(),
            // With some silence around it a short recording is heard better than cut to the word.
            false if all.duration() <= longest => vec![Part { span: all, speech: found }],
            false if opts.timestamps => filled(found, longest.mul_f64(FILLED)),
            false => found.into_iter().map(Part::of_speech).collect(),
        });
    }
    let mut windows = Vec::new();
    let mut last = Duration::ZERO;
    for span in &opts.spans {
        if span.start < last || span.start >= span.end || span.end > all.end + Duration::from_millis(1) {
            return Err(Error::argument(format!(
                "span {:.3}..{:.3} s is empty, out of order, or outside the audio of {:.3} s",
                span.start.as_secs_f64(),
                span.end.as_secs_f64(),
                all.end.as_secs_f64()
            )));
        }
        last = span.end;
        match span.duration() <= longest {
            true if opts.timestamps => windows.push(Part { span: *span, speech: speech(*span)? }),
            true => windows.push(Part { span: *span, speech: Vec::new() }),
            false => windows.extend(speech(*span)?.into_iter().map(Part::of_speech)),
        }
    }
    Ok(windows)
}

/// Neighbours joined as long as they are no longer than `longest` together: the times of what is said are then the model's to
/// tell.
fn filled(spans: Vec<Span>, longest: Duration) -> Vec<Part> {
    let mut out: Vec<Part> = Vec::new();
    for span in spans {
        match out.last_mut() {
            Some(Part { span: last, speech })
                if span.end - last.start <= longest && span.start.saturating_sub(last.end) <= LONGEST_PAUSE =>
            {
                last.end = span.end;
                speech.push(span);
            }
            _ => out.push(Part::of_speech(span)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: u64, to: u64) -> Span {
        Span::new(Duration::from_secs(from), Duration::from_secs(to))
    }

    #[test]
    fn windows_are_filled_but_not_with_silence() {
        let spans = vec![span(0, 10), span(11, 20), span(21, 29), span(30, 31), span(40, 50), span(52, 70), span(71, 72)];
        let found = filled(spans.clone(), Duration::from_secs(30));
        assert_eq!(found.iter().map(|p| p.span).collect::<Vec<_>>(), [span(0, 29), span(30, 31), span(40, 70), span(71, 72)]);
        assert_eq!(found.into_iter().flat_map(|p| p.speech).collect::<Vec<_>>(), spans);
    }

    #[test]
    fn halves_are_cut_where_speech_pauses() {
        let part = Part { span: span(0, 30), speech: vec![span(1, 8), span(9, 12), span(14, 29)] };
        let [a, b] = part.halves().unwrap();
        assert_eq!((a.span, b.span), (span(0, 12), span(14, 30)));
        assert_eq!((a.speech.as_slice(), b.speech.as_slice()), part.speech.split_at(2));
        assert_eq!(a.halves().unwrap().map(|p| p.span), [span(0, 8), span(9, 12)]);
        assert_eq!(b.halves(), None, "there is no pause");
        assert_eq!(Part { span: span(0, 30), speech: vec![] }.halves(), None);
    }

    #[test]
    fn speech_that_was_left_out_is_heard_again() {
        let part = Part { span: span(0, 29), speech: vec![span(0, 10), span(12, 20), span(22, 29)] };
        let rest = |ms| part.rest(Duration::from_millis(ms)).map(|p| p.span);
        assert_eq!(rest(29_000), None);
        assert_eq!(rest(28_500), None, "the end of the last word");
        assert_eq!(rest(20_500), Some(span(22, 29)));
        assert_eq!(rest(19_900), Some(span(22, 29)), "the end of a word before it");
        assert_eq!(rest(12_000), Some(span(12, 29)));
        assert_eq!(rest(500), None, "it got no further, and would not the next time");
        let quiet = Part { span: span(0, 29), speech: vec![] };
        assert_eq!(quiet.rest(Duration::from_secs(5)), None);
        // Each time something is left, less is.
        let (mut part, mut times) = (part, 0);
        while let Some(next) = part.rest(part.span.start + Duration::from_secs(1)) {
            assert!(next.span.start > part.span.start && next.span.end == part.span.end);
            (part, times) = (next, times + 1);
        }
        assert!((20..=29).contains(&times), "{times}");
    }
}
