//! [`MonoStream`]: mono at the wanted rate, in bounded memory.

use audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Indexing, Resampler};

use super::{Input, Limits, Reader};
use crate::audio::{RATES, resampled_len};
use crate::error::{Error, Result};

/// Frames the resampler takes at once; must be what `Audio::resample` uses, so that both give the same samples.
const CHUNK: usize = 1024;

/// Reads media as mono (mixed as [the module](super) says) at a rate of choice, in bounded memory.
///
/// The samples are those of [`decode`](super::decode) followed by [`Audio::resample`](crate::Audio::resample).
pub struct MonoStream {
    reader: Reader,
    rate: u32,
    resampler: Option<Stretch>,
    block: Vec<f32>,
    mono: Vec<f32>,
    ended: bool,
}

impl MonoStream {
    /// Opens the media, to be read at `rate` Hz.
    ///
    /// # Errors
    /// Those of [`Reader::open`]; `InvalidArgument` for a rate outside [`RATES`].
    pub fn open(input: &Input, limits: &Limits, rate: u32) -> Result<Self> {
        if !RATES.contains(&rate) {
            return Err(Error::argument(format!("sample rate {rate} Hz is outside {}..={} Hz", RATES.start(), RATES.end())));
        }
        let reader = Reader::open(input, limits)?;
        let resampler = (reader.rate() != rate).then(|| Stretch::new(reader.rate(), rate)).transpose()?;
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
                resampler.finish(&mut self.mono, self.reader.frames(), out)?;
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

/// The resampler of `Audio::resample`, fed chunk by chunk.
struct Stretch {
    fft: Fft<f32>,
    from: u32,
    to: u32,
    chunk_out: Vec<f32>,
    /// Samples of the resampler's delay still to drop.
    delay: usize,
    given: u64,
}

impl Stretch {
    fn new(from: u32, to: u32) -> Result<Self> {
        let fft = Fft::new(from as usize, to as usize, CHUNK, 1, FixedSync::Input)
            .map_err(|e| Error::internal(format!("resampling {from} Hz to {to} Hz failed: {e}")))?;
        let (delay, room) = (fft.output_delay(), fft.output_frames_max());
        Ok(Self { fft, from, to, chunk_out: vec![0.0; room], delay, given: 0 })
    }

    /// Takes whole chunks from the front of `input`, but leaves the last one: it may be the end.
    fn take(&mut self, input: &mut Vec<f32>, out: &mut Vec<f32>) -> Result<()> {
        let mut used = 0;
        while input.len() - used > CHUNK {
            self.process(&input[used..used + CHUNK], u64::MAX, out)?;
            used += CHUNK;
        }
        input.drain(..used);
        Ok(())
    }

    /// Takes the rest, then silence until all of the `total` frames that went in have come out.
    fn finish(&mut self, input: &mut Vec<f32>, total: u64, out: &mut Vec<f32>) -> Result<()> {
        let want = resampled_len(total, self.from, self.to);
        if !input.is_empty() {
            self.process(input, want, out)?;
            input.clear();
        }
        while self.given < want {
            self.process(&[], want, out)?;
        }
        Ok(())
    }

    /// Resamples up to a chunk (less than that is followed by silence), giving out no more than `most` in all.
    fn process(&mut self, input: &[f32], most: u64, out: &mut Vec<f32>) -> Result<()> {
        let failed = |e: &dyn std::error::Error| Error::internal(format!("resampling failed: {e}"));
        let mut chunk = [0.0; CHUNK];
        chunk[..input.len()].copy_from_slice(input);
        let adapter = SequentialSlice::new(&chunk, 1, CHUNK).map_err(|e| failed(&e))?;
        let room = self.chunk_out.len();
        let mut output = SequentialSlice::new_mut(&mut self.chunk_out, 1, room).map_err(|e| failed(&e))?;
        let partial = Indexing { input_offset: 0, output_offset: 0, active_channels_mask: None, partial_len: Some(input.len()) };
        let (_, made) = self.fft.process_into_buffer(&adapter, &mut output, Some(&partial)).map_err(|e| failed(&e))?;
        let drop = self.delay.min(made);
        self.delay -= drop;
        let keep = ((made - drop) as u64).min(most.saturating_sub(self.given)) as usize;
        out.extend_from_slice(&self.chunk_out[drop..drop + keep]);
        self.given += keep as u64;
        Ok(())
    }
}
