//! From Whisper's tokens to text and timed segments.

use std::collections::BTreeMap;

use tokenizers::Tokenizer;

use super::Special;
use crate::audio::Span;
use crate::error::{Error, Result};
use crate::lang::Lang;
use crate::nn::decode::Hypothesis;
use crate::source::ModelFiles;
use crate::stage::Segment;

/// Seconds between two timestamp tokens.
const TICK: f64 = 0.02;

pub(super) struct TextDecoder(Tokenizer);

impl TextDecoder {
    pub(super) fn load(files: &ModelFiles) -> Result<Self> {
        let bytes = files.read("tokenizer.json")?;
        Tokenizer::from_bytes(&bytes).map(Self).map_err(|e| {
            let cause = Error::internal(e.to_string());
            files.corrupt("tokenizer.json", "is not a tokenizer").with_source(cause)
        })
    }

    pub(super) fn id(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }

    /// The tokens that stand for languages, such as `<|es|>`.
    pub(super) fn languages(&self) -> BTreeMap<String, u32> {
        let is_language = |token: &str| {
            let code = token.strip_prefix("<|").and_then(|t| t.strip_suffix("|>"));
            code.is_some_and(|code| code.parse::<Lang>().is_ok())
        };
        let all = self.0.get_added_vocabulary().get_vocab().iter();
        all.filter(|(token, _)| is_language(token)).map(|(token, id)| (token.clone(), *id)).collect()
    }

    pub(super) fn text(&self, tokens: &[u32]) -> Result<String> {
        self.0.decode(tokens, true).map_err(|e| Error::internal(format!("the tokens could not be decoded: {e}")))
    }

    /// What is said, without timestamps.
    pub(super) fn words(&self, found: &Hypothesis, special: &Special) -> Result<String> {
        let first = special.no_timestamps.map_or(u32::MAX, |id| id + 1);
        let words: Vec<u32> = found.tokens.iter().copied().filter(|t| *t < first && *t != special.end).collect();
        Ok(self.text(&words)?.trim().to_string())
    }

    /// The segments of a window, cut at its timestamps if it has any, and whether the last of them was never ended. Empty
    /// text gives none.
    pub(super) fn segments(&self, found: &Hypothesis, window: Span, special: &Special) -> Result<(Vec<Segment>, bool)> {
        let first = special.no_timestamps.map_or(u32::MAX, |id| id + 1);
        let time = |token: u32| window.start + std::time::Duration::from_secs_f64(f64::from(token - first) * TICK);
        let mut out = Vec::new();
        let mut start = window.start;
        let mut text: Vec<u32> = Vec::new();
        let mut close = |start, end: std::time::Duration, tokens: &mut Vec<u32>| -> Result<()> {
            let text = self.text(tokens)?.trim().to_string();
            tokens.clear();
            if !text.is_empty() {
                let span = Span::new(start, end.min(window.end));
                out.push(Segment { avg_logprob: Some(f64::from(found.score)), ..Segment::new(span, text) });
            }
            Ok(())
        };
        for &token in &found.tokens {
            if token == special.end {
                break;
            }
            if token < first {
                text.push(token);
            } else if text.is_empty() {
                start = time(token).min(window.end);
            } else {
                close(start, time(token), &mut text)?;
                start = time(token).min(window.end);
            }
        }
        let unended = !text.is_empty();
        close(start, window.end, &mut text)?;
        Ok((out, unended))
    }
}
