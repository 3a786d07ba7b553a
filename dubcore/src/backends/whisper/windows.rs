//! Where Whisper's windows lie: around speech, none longer than the model hears at once.

use std::time::Duration;

use crate::audio::{Audio, Span};
use crate::error::{Error, Result};
use crate::stage::SttOptions;
use crate::vad::{VadOptions, speech_spans};

/// A longer silence is not worth a place in a window, and invites the decoder to fill it.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The spans asked for, or those in which somebody speaks; what is longer than `longest` is cut where speech pauses.
pub(super) fn windows(audio: &Audio, opts: &SttOptions, longest: Duration) -> Result<Vec<Span>> {
    let all = Span::new(Duration::ZERO, audio.duration());
    let speech = |span: Span| -> Result<Vec<Span>> {
        let found = speech_spans(&audio.slice(span), longest, &VadOptions::default())?;
        Ok(found.into_iter().map(|s| s.shifted(span.start)).collect())
    };
    if opts.spans.is_empty() {
        let found = speech(all)?;
        return Ok(match found.is_empty() {
            // Hum and hiss make the model talk.
            true => Vec::new(),
            // With some silence around it a short recording is heard better than cut to the word.
            false if all.duration() <= longest => vec![all],
            false if opts.timestamps => filled(found, longest),
            false => found,
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
            true => windows.push(*span),
            false => windows.extend(speech(*span)?),
        }
    }
    Ok(windows)
}

/// Neighbours joined as long as they fit into one window: the times of what is said are then the model's to tell.
fn filled(spans: Vec<Span>, longest: Duration) -> Vec<Span> {
    let mut out: Vec<Span> = Vec::new();
    for span in spans {
        match out.last_mut() {
            Some(last) if span.end - last.start <= longest && span.start.saturating_sub(last.end) <= LONGEST_PAUSE => {
                last.end = span.end;
            }
            _ => out.push(span),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_filled_but_not_with_silence() {
        let span = |from: u64, to: u64| Span::new(Duration::from_secs(from), Duration::from_secs(to));
        let spans = vec![span(0, 10), span(11, 20), span(21, 29), span(30, 31), span(40, 50), span(52, 70), span(71, 72)];
        let longest = Duration::from_secs(30);
        assert_eq!(filled(spans, longest), [span(0, 29), span(30, 31), span(40, 70), span(71, 72)]);
    }
}
