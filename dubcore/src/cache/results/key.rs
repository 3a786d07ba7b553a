//! What a result is known by: a hash of everything it depends on, in an encoding of our own, so that neither a library's
//! idea of printing nor the order of fields decides what is equal.

use std::time::Duration;

use crate::audio::{Audio, Span};
use crate::lang::Lang;
use crate::stage::{Fallback, StageInfo, SttOptions, Task, TranslateOptions, TtsOptions};

/// Raised when results would come out differently from the same inputs.
const GENERATION: u64 = 3;

/// The address of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

impl Key {
    /// The key of a result of the kind `kind` that depends on `what`, and on this version of the library.
    pub(crate) fn of(kind: &str, what: &impl Keyed) -> Self {
        let mut hash = Hash(blake3::Hasher::new());
        hash.bytes(kind.as_bytes());
        hash.bytes(env!("CARGO_PKG_VERSION").as_bytes());
        hash.number(GENERATION);
        what.feed(&mut hash);
        Self(*hash.0.finalize().as_bytes())
    }

    /// As it is.
    pub(crate) fn bytes(self) -> [u8; 32] {
        self.0
    }

    /// As the name of a file.
    pub(super) fn hex(self) -> String {
        blake3::Hash::from(self.0).to_hex().to_string()
    }
}

/// Takes in values, each with its length, so that no two sequences of values read the same.
pub(crate) struct Hash(blake3::Hasher);

impl Hash {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    pub(crate) fn number(&mut self, n: u64) {
        self.0.update(&n.to_le_bytes());
    }
}

/// What a result can depend on.
pub(crate) trait Keyed {
    /// Feeds all that matters, always in the same order.
    fn feed(&self, hash: &mut Hash);
}

macro_rules! keyed_numbers {
    ($($type:ty: $as_u64:expr),* $(,)?) => {
        $(impl Keyed for $type {
            fn feed(&self, hash: &mut Hash) {
                hash.number(($as_u64)(*self));
            }
        })*
    };
}

keyed_numbers! {
    u32: u64::from,
    u64: |n| n,
    usize: |n| n as u64,
    bool: u64::from,
    // Zero has two signs; they are equal and so are what they make.
    f64: |x: f64| (x + 0.0).to_bits(),
    f32: |x: f32| u64::from((x + 0.0).to_bits()),
    Task: |t: Task| match t { Task::Transcribe => 0, Task::Translate => 1 },
}

impl Keyed for str {
    fn feed(&self, hash: &mut Hash) {
        hash.bytes(self.as_bytes());
    }
}

impl Keyed for String {
    fn feed(&self, hash: &mut Hash) {
        self.as_str().feed(hash);
    }
}

impl<T: Keyed + ?Sized> Keyed for &T {
    fn feed(&self, hash: &mut Hash) {
        (**self).feed(hash);
    }
}

impl<T: Keyed> Keyed for Option<T> {
    fn feed(&self, hash: &mut Hash) {
        self.is_some().feed(hash);
        if let Some(value) = self {
            value.feed(hash);
        }
    }
}

impl<T: Keyed> Keyed for [T] {
    fn feed(&self, hash: &mut Hash) {
        self.len().feed(hash);
        self.iter().for_each(|value| value.feed(hash));
    }
}

impl<T: Keyed> Keyed for Vec<T> {
    fn feed(&self, hash: &mut Hash) {
        self.as_slice().feed(hash);
    }
}

macro_rules! keyed_tuples {
    ($(($($name:ident),+)),* $(,)?) => {
        $(impl<$($name: Keyed),+> Keyed for ($($name,)+) {
            #[allow(non_snake_case, reason = "the types' names serve for the values")]
            fn feed(&self, hash: &mut Hash) {
                let ($($name,)+) = self;
                $($name.feed(hash);)+
            }
        })*
    };
}

keyed_tuples! { (A, B), (A, B, C), (A, B, C, D), (A, B, C, D, E) }

impl Keyed for Duration {
    fn feed(&self, hash: &mut Hash) {
        hash.number(self.as_secs());
        hash.number(self.subsec_nanos().into());
    }
}

impl Keyed for Span {
    fn feed(&self, hash: &mut Hash) {
        (self.start, self.end).feed(hash);
    }
}

impl Keyed for Lang {
    fn feed(&self, hash: &mut Hash) {
        self.iso639_3().feed(hash);
    }
}

impl Keyed for Audio {
    fn feed(&self, hash: &mut Hash) {
        self.rate().feed(hash);
        self.len().feed(hash);
        let mut bytes = Vec::with_capacity(4 << 10);
        for some in self.samples().chunks(1 << 10) {
            bytes.clear();
            bytes.extend(some.iter().flat_map(|s| s.to_le_bytes()));
            hash.0.update(&bytes);
        }
    }
}

/// Which model, to the bit, and the arithmetic. Where it runs, and by what, is part of it: other kernels round otherwise.
impl Keyed for StageInfo {
    fn feed(&self, hash: &mut Hash) {
        (&self.model, &self.revision, self.device.to_string(), &self.compute_type, &self.kernels).feed(hash);
    }
}

// Destructured, so that an option that is added cannot be forgotten.

impl Keyed for SttOptions {
    fn feed(&self, hash: &mut Hash) {
        let Self { language, task, timestamps, spans, beams, max_tokens, fallback } = self;
        (language, task, timestamps, spans).feed(hash);
        (beams, max_tokens, fallback).feed(hash);
    }
}

impl Keyed for Fallback {
    fn feed(&self, hash: &mut Hash) {
        let Self { temperatures, compression_ratio, avg_logprob, no_speech, best_of, seed } = self;
        (temperatures, compression_ratio, avg_logprob, no_speech).feed(hash);
        (best_of, seed).feed(hash);
    }
}

impl Keyed for TranslateOptions {
    fn feed(&self, hash: &mut Hash) {
        let Self { from, to, beams, max_tokens, alternatives } = self;
        (from, to, beams, max_tokens, alternatives).feed(hash);
    }
}

impl Keyed for TtsOptions {
    fn feed(&self, hash: &mut Hash) {
        let Self { language, speaker, speaking_rate, noise_scale, noise_scale_duration, seed } = self;
        (language, speaker, speaking_rate).feed(hash);
        (noise_scale, noise_scale_duration, seed).feed(hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_option_counts() {
        let stt = SttOptions::default;
        let tts = TtsOptions::default;
        let mt = || TranslateOptions::new(Lang::EN, Lang::ES);
        let fallback = |f: Fallback| stt().fallback(f);
        let plain = Fallback::default;
        let keys = [
            Key::of("a", &stt()),
            Key::of("b", &stt()),
            Key::of("a", &stt().language(Lang::EN)),
            Key::of("a", &stt().task(Task::Translate)),
            Key::of("a", &stt().timestamps(true)),
            Key::of("a", &stt().spans(vec![Span::default()])),
            Key::of("a", &stt().beams(2)),
            Key::of("a", &stt().max_tokens(2)),
            Key::of("a", &fallback(plain().temperatures(vec![0.0]))),
            Key::of("a", &fallback(plain().compression_ratio(None))),
            Key::of("a", &fallback(plain().avg_logprob(-2.0))),
            Key::of("a", &fallback(plain().no_speech(0.5))),
            Key::of("a", &fallback(plain().best_of(4))),
            Key::of("a", &fallback(plain().seed(1))),
            Key::of("a", &mt()),
            Key::of("a", &TranslateOptions::new(Lang::ES, Lang::EN)),
            Key::of("a", &mt().beams(4)),
            Key::of("a", &mt().max_tokens(4)),
            Key::of("a", &mt().alternatives(4)),
            Key::of("a", &tts()),
            Key::of("a", &tts().language(Lang::ES)),
            Key::of("a", &tts().speaker(1)),
            Key::of("a", &tts().speaking_rate(1.1)),
            Key::of("a", &tts().noise_scale(1.0)),
            Key::of("a", &tts().noise_scale_duration(1.0)),
            Key::of("a", &tts().seed(1)),
        ];
        let different: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
        assert_eq!(Key::of("a", &stt()), keys[0]);
    }

    proptest! {
        #[test]
        fn what_is_split_otherwise_is_another(a in "[ab]{0,3}", b in "[ab]{0,3}", c in "[ab]{0,3}", d in "[ab]{0,3}") {
            let same = (&a, &b) == (&c, &d);
            prop_assert_eq!(Key::of("k", &(&a, &b)) == Key::of("k", &(&c, &d)), same);
            prop_assert_eq!(Key::of("k", &vec![a.as_str(), &b]) == Key::of("k", &vec![c.as_str(), &d]), same);
        }

        #[test]
        fn sound_counts_to_the_bit(samples in prop::collection::vec(-1f32..1.0, 1..3000), at: prop::sample::Index) {
            let at = at.index(samples.len());
            let mut other = samples.clone();
            other[at] = f32::from_bits(other[at].to_bits() ^ 1);
            let key = |s: &[f32], rate| Key::of("k", &Audio::new(s.to_vec(), rate).unwrap());
            prop_assert_ne!(key(&samples, 8_000), key(&other, 8_000));
            prop_assert_ne!(key(&samples, 8_000), key(&samples, 16_000));
            prop_assert_eq!(key(&samples, 8_000), key(&samples.clone(), 8_000));
        }
    }
}
