//! Results as they are kept: their size, and their form on disk.
//!
//! On disk a result is a description in MessagePack, which keeps numbers to the bit, and behind it the samples or bytes that
//! would make it large.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::audio::Audio;
use crate::stage::{Metadata, Segment, Speech, Transcript, Translation, Word};

/// What can be remembered. Cloning must be cheap.
pub(crate) trait Value: Clone + Send + Sync + 'static {
    /// About how many bytes it takes in memory.
    fn bytes(&self) -> usize;

    /// Its form on disk, where it has one.
    fn encode(&self) -> Option<Vec<u8>>;

    /// From its form on disk. `None` where that is not such a value.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// A description, and what it describes.
pub(crate) fn pack(description: &impl Serialize, body: impl IntoIterator<Item = u8>) -> Option<Vec<u8>> {
    let description = rmp_serde::to_vec_named(description).ok()?;
    let mut out = u32::try_from(description.len()).ok()?.to_le_bytes().to_vec();
    out.extend(description);
    out.extend(body);
    Some(out)
}

/// The inverse of [`pack`].
pub(crate) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (description, body) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((rmp_serde::from_slice(description).ok()?, body))
}

/// Samples as bytes.
pub(crate) fn samples_to_bytes(samples: &[f32]) -> impl Iterator<Item = u8> {
    samples.iter().flat_map(|s| s.to_le_bytes())
}

/// The inverse of [`samples_to_bytes`].
pub(crate) fn samples_of_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

pub(crate) fn segment_bytes(segment: &Segment) -> usize {
    size_of::<Segment>() + segment.text.len() + words_bytes(&segment.words)
}

fn words_bytes(words: &[Word]) -> usize {
    words.iter().map(|w| size_of::<Word>() + w.text.len()).sum()
}

impl Value for Transcript {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.segments.iter().map(segment_bytes).sum::<usize>()
    }

    fn encode(&self) -> Option<Vec<u8>> {
        pack(self, [])
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(unpack(bytes)?.0)
    }
}

impl Value for Translation {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.text.len() + self.alternatives.iter().map(|(t, _)| t.len() + 32).sum::<usize>()
    }

    fn encode(&self) -> Option<Vec<u8>> {
        pack(self, [])
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(unpack(bytes)?.0)
    }
}

#[derive(Serialize, Deserialize)]
struct Spoken {
    rate: u32,
    words: Vec<Word>,
    metadata: Metadata,
}

impl Value for Speech {
    fn bytes(&self) -> usize {
        size_of::<Self>() + 4 * self.audio.len() + words_bytes(&self.words)
    }

    fn encode(&self) -> Option<Vec<u8>> {
        let spoken = Spoken { rate: self.audio.rate(), words: self.words.clone(), metadata: self.metadata.clone() };
        pack(&spoken, samples_to_bytes(self.audio.samples()))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (Spoken { rate, words, metadata }, body) = unpack(bytes)?;
        Some(Self { audio: Audio::new(samples_of_bytes(body), rate).ok()?, words, metadata })
    }
}

/// How long a text would take, as a voice predicts it.
impl Value for Option<Duration> {
    fn bytes(&self) -> usize {
        size_of::<Self>()
    }

    fn encode(&self) -> Option<Vec<u8>> {
        pack(self, [])
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(unpack(bytes)?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Span;
    use crate::lang::Lang;
    use crate::stage::StageInfo;
    use proptest::prelude::*;

    fn same<V: Value>(value: &V) -> bool {
        let bytes = value.encode().unwrap();
        V::decode(&bytes).unwrap().encode().unwrap() == bytes
    }

    proptest! {
        #[test]
        fn values_come_back_to_the_bit(
            text in ".{0,20}", score: f64, times in (0u64..1 << 50, 0u64..1 << 50), probability: Option<f64>,
            samples in prop::collection::vec(-1f32..1.0, 0..50), rate in 1_000u32..384_000, bytes: Vec<u8>,
        ) {
            let time = Duration::from_nanos(times.0);
            let span = Span::new(time, time + Duration::from_nanos(times.1));
            let word = Word { probability, ..Word::new(text.clone(), span) };
            let segment = Segment { words: vec![word.clone()], avg_logprob: probability, ..Segment::new(span, text.clone()) };
            let metadata = Metadata { quality: probability, ..Metadata::new(&StageInfo::new("m"), time, time) };
            let transcript = Transcript { language_probability: probability, ..Transcript::new(Lang::ES, vec![segment], metadata.clone()) };
            prop_assert!(same(&transcript));
            let back = Transcript::decode(&transcript.encode().unwrap()).unwrap();
            // Spans are stored as seconds: exact to the nanosecond for a month.
            prop_assert_eq!(back.segments[0].words[0].span, span);
            prop_assert_eq!(back.language, Lang::ES);
            let translation = Translation { alternatives: vec![(text.clone(), score)], ..Translation::new(text, score, metadata.clone()) };
            prop_assert!(same(&translation));
            let speech = Speech { words: vec![word], ..Speech::new(Audio::new(samples.clone(), rate).unwrap(), metadata) };
            prop_assert!(same(&speech));
            let back = Speech::decode(&speech.encode().unwrap()).unwrap();
            prop_assert_eq!((back.audio.samples(), back.audio.rate()), (&samples[..], rate));
            prop_assert!(same(&Some(time)));
            // Bytes that are nothing of ours are no value, and no panic.
            let _ = (Transcript::decode(&bytes), Translation::decode(&bytes), Speech::decode(&bytes), Option::<Duration>::decode(&bytes));
        }
    }
}
