//! Whether what a window was heard to say will do: repetitive or improbable text is tried again at a higher temperature,
//! and improbable text where the model itself suspects silence is no speech (Radford et al. 2022, section 4.5).
//!
//! The rules are those of OpenAI's `transcribe`, with two differences. Where speech pauses within a window whose text is
//! repetitive but probable, its halves are heard before anything is drawn: a loop ends with its context, and what the speaker
//! does repeat is repeated less in half of it, where a draw that passes is one that left something out. Of tries that all
//! failed the most probable is taken, as in faster-whisper, but where all repeat themselves alike the first.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::nn::decode::Hypothesis;
use crate::stage::Fallback;

/// One try at a window.
pub(super) struct Try {
    pub(super) found: Hypothesis,
    pub(super) temperature: f64,
    /// Length of the text by its length when compressed.
    pub(super) compression_ratio: f64,
}

/// What is to be done with a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Silence,
    /// To be heard again in halves.
    Halve,
    Retry,
}

impl Try {
    /// `no_speech` is the window's probability of holding no speech, where the model tells; `halves`, whether it may be halved.
    pub(super) fn judge(&self, rules: &Fallback, no_speech: Option<f64>, halves: bool) -> Verdict {
        let improbable = rules.avg_logprob.is_some_and(|least| f64::from(self.found.score) < least);
        let silent = no_speech.zip(rules.no_speech).is_some_and(|(p, most)| p > most);
        let repetitive = self.is_repetitive(rules);
        match () {
            () if silent && improbable => Verdict::Silence,
            () if repetitive && !improbable && halves => Verdict::Halve,
            () if improbable || repetitive => Verdict::Retry,
            () => Verdict::Keep,
        }
    }

    fn is_repetitive(&self, rules: &Fallback) -> bool {
        rules.compression_ratio.is_some_and(|most| self.compression_ratio > most)
    }

    /// Whether this failed try is a better answer than an earlier one: a text without repetitions, or with far fewer, then the
    /// more probable one. What is drawn from repetitive speech leaves a repetition out now and then, and is more probable so.
    pub(super) fn better_than(&self, earlier: &Self, rules: &Fallback) -> bool {
        match (self.is_repetitive(rules), earlier.is_repetitive(rules)) {
            (false, true) => true,
            (true, false) => false,
            (true, true) => self.compression_ratio < earlier.compression_ratio / 2.0,
            (false, false) => self.found.score > earlier.found.score,
        }
    }
}

/// Bytes of `text` by bytes of its zlib stream at level 6: above 2.4 it repeats itself.
pub(super) fn compression_ratio(text: &str) -> f64 {
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::new(6));
    // Writing to memory does not fail.
    let packed = zlib.write_all(text.as_bytes()).and_then(|()| zlib.finish()).map_or(1, |bytes| bytes.len().max(1));
    text.len() as f64 / packed as f64
}

/// The random numbers of each draw of a try. They come from the window's sound, so that neither its place nor its
/// neighbours change what it is heard to say.
pub(super) fn numbers(seed: u64, sound: &[f32], attempt: usize, draws: usize) -> impl Iterator<Item = ChaCha8Rng> {
    let mut hash = blake3::Hasher::new();
    hash.update(&seed.to_le_bytes());
    sound.iter().for_each(|s| {
        hash.update(&s.to_le_bytes());
    });
    let key = *hash.finalize().as_bytes();
    (0..draws).map(move |draw| {
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream((attempt as u64) << 32 | draw as u64);
        rng
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    fn attempt(score: f32, compression_ratio: f64) -> Try {
        Try { found: Hypothesis { tokens: vec![1], score }, temperature: 0.0, compression_ratio }
    }

    #[test]
    fn each_rule_by_itself() {
        let rules = Fallback::default();
        let judge = |score, ratio, no_speech| attempt(score, ratio).judge(&rules, no_speech, true);
        assert_eq!(judge(-0.5, 1.5, Some(0.1)), Verdict::Keep);
        assert_eq!(judge(-0.5, 2.41, Some(0.1)), Verdict::Halve, "repetitive");
        assert_eq!(judge(-0.5, 2.39, Some(0.1)), Verdict::Keep);
        assert_eq!(judge(-1.01, 1.5, Some(0.1)), Verdict::Retry, "improbable");
        assert_eq!(judge(-1.01, 1.5, Some(0.61)), Verdict::Silence);
        assert_eq!(judge(-0.99, 1.5, Some(0.99)), Verdict::Keep, "silence must be improbable, too");
        assert_eq!(judge(-0.5, 2.41, Some(0.99)), Verdict::Halve, "repetitive and probable is no silence");
        assert_eq!(judge(-1.01, 2.41, Some(0.1)), Verdict::Retry, "repetitive and improbable");
        assert_eq!(judge(-1.01, 1.5, None), Verdict::Retry, "a model without a token for silence");
        assert_eq!(attempt(-0.5, 2.41).judge(&rules, Some(0.1), false), Verdict::Retry, "repetitive without a pause");
        let off = Fallback::none();
        assert_eq!(attempt(-9.0, 30.0).judge(&off, Some(1.0), true), Verdict::Keep);
    }

    #[test]
    fn the_best_of_failed_tries() {
        let rules = Fallback::default();
        assert!(attempt(-1.2, 1.0).better_than(&attempt(-1.3, 1.0), &rules));
        assert!(attempt(-1.4, 1.0).better_than(&attempt(-0.3, 9.0), &rules));
        assert!(!attempt(-0.3, 9.0).better_than(&attempt(-1.4, 1.0), &rules));
        assert!(attempt(-0.6, 4.0).better_than(&attempt(-0.3, 9.0), &rules), "a loop that was left");
        assert!(!attempt(-0.1, 2.6).better_than(&attempt(-0.3, 2.7), &rules), "the speaker repeats it");
    }

    #[test]
    fn numbers_are_the_sounds_own() {
        let first = |seed, sound: &[f32], attempt, draw| numbers(seed, sound, attempt, 8).nth(draw).unwrap().random::<u64>();
        let one = first(0, &[0.1, 0.2], 1, 0);
        assert_eq!(one, first(0, &[0.1, 0.2], 1, 0));
        for other in
            [first(1, &[0.1, 0.2], 1, 0), first(0, &[0.1, 0.3], 1, 0), first(0, &[0.1, 0.2], 2, 0), first(0, &[0.1, 0.2], 1, 1)]
        {
            assert_ne!(one, other);
        }
    }
}
