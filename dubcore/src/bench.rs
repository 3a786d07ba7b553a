//! Inner parts that the benchmarks time by themselves. No part of the interface: it may change with every version.

pub mod kernels;

use crate::audio::Audio;
pub use crate::backends::vits::bench::Vocoder;
pub use crate::backends::whisper::bench::{Encoded, Features, Recogniser};
use crate::error::Result;
use crate::nn::mel;

/// Whisper's features.
pub struct LogMel(mel::LogMel);

impl LogMel {
    /// For windows of so many seconds at 16 kHz.
    ///
    /// # Errors
    /// `ModelCorrupt` for sizes that no model has.
    pub fn new(mels: usize, seconds: usize) -> Result<Self> {
        Ok(Self(mel::LogMel::new(mels, 400, 160, seconds * 16_000, 16_000)?))
    }

    /// Computes the features of one window and throws them away.
    ///
    /// # Errors
    /// `Internal`, which it does not have in practice.
    pub fn forward(&self, audio: &Audio) -> Result<()> {
        self.0.forward(&[audio.samples()]).map(drop)
    }
}
