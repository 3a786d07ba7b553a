//! [`MonoStream`]: mono at the wanted rate, in bounded memory.

use super::{Input, Limits, Reader};
use crate::audio::{check_rate, resampled_len};
use crate::error::Result;
use crate::resample::Resampler;

/// Reads media as mono (mixed as [the module](super) says) at a rate of choice, in bounded memory.
///
/// The samples are those of [`decode`](super::decode) followed by [`Audio::resample`](crate::Audio::resample).
pub struct MonoStream {
    reader: Reader,
    rate: u32,
    resampler: Option<Resampler>,
    block: Vec<f32>,
    mono: Vec<f32>,
    ended: bool,
}

impl MonoStream {
    /// Opens the media, to be read at `rate` Hz.
    ///
    /// # Errors
    /// Those of [`Reader::open`]; `InvalidArgument` for a rate outside [`RATES`](crate::RATES).
    pub fn open(input: &Input, limits: &Limits, rate: u32) -> Result<Self> {
        check_rate(rate)?;
        let reader = Reader::open(input, limits)?;
        let resampler = (reader.rate() != rate).then(|| Resampler::new(reader.rate(), rate)).transpose()?;
        Ok(Self { reader, rate, resampler, block: Vec::new(), mono: Vec::new(), ended: false })
    }

    /// Appends some of the next samples and tells how many; 0 at the end.
    ///
    /// # Errors
    /// Those of [`Reader::read`].
    pub fn read(&mut self, out: &mut Vec<f32>) -> Result<usize> {
        let before = out.len();
        while out.len() == before && !self.ended {
            self.block.clear();
            self.ended = self.reader.read(&mut self.block)? == 0;
            let Some(resampler) = &mut self.resampler else {
                self.reader.mix_down(&self.block, out);
                continue;
            };
            self.reader.mix_down(&self.block, &mut self.mono);
            resampler.take(&mut self.mono, out)?;
            if self.ended {
                let want = resampled_len(self.reader.frames(), self.reader.rate(), self.rate);
                resampler.push(&self.mono, want, out)?;
                resampler.finish(want, out)?;
            }
        }
        Ok(out.len() - before)
    }

    /// Samples per second given out.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Samples per second in the media.
    pub fn source_rate(&self) -> u32 {
        self.reader.rate()
    }

    /// Channels in the media.
    pub fn source_channels(&self) -> usize {
        self.reader.channels()
    }

    /// Frames of the media read so far; at the end their total.
    pub fn source_frames(&self) -> u64 {
        self.reader.frames()
    }

    /// How many frames the media will have, if they tell. See [`Reader::frames_hint`].
    pub fn source_frames_hint(&self) -> Option<u64> {
        self.reader.frames_hint()
    }
}

impl std::fmt::Debug for MonoStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MonoStream({:?}, at {} Hz)", self.reader, self.rate)
    }
}
