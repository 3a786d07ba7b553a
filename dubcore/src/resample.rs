//! [`Resampler`]: one rate out of another, chunk by chunk.

use audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Indexing, Resampler as _};

use crate::error::{Error, Result};

/// Band-limited (FFT resampler of rubato), its delay dropped.
pub(crate) struct Resampler {
    fft: Fft<f32>,
    chunk_out: Vec<f32>,
    /// Samples of the resampler's delay still to drop.
    delay: usize,
    given: u64,
}

impl Resampler {
    /// Samples taken at once.
    pub(crate) const CHUNK: usize = 1024;

    /// # Errors
    /// `Internal` if rubato refuses the rates.
    pub(crate) fn new(from: u32, to: u32) -> Result<Self> {
        let fft = Fft::new(from as usize, to as usize, Self::CHUNK, 1, FixedSync::Input)
            .map_err(|e| Error::internal(format!("resampling {from} Hz to {to} Hz failed: {e}")))?;
        let (delay, room) = (fft.output_delay(), fft.output_frames_max());
        Ok(Self { fft, chunk_out: vec![0.0; room], delay, given: 0 })
    }

    /// Takes whole chunks from the front of `input`, but leaves the last one: it may be the end.
    pub(crate) fn take(&mut self, input: &mut Vec<f32>, out: &mut Vec<f32>) -> Result<()> {
        let mut used = 0;
        while input.len() - used > Self::CHUNK {
            self.push(&input[used..used + Self::CHUNK], u64::MAX, out)?;
            used += Self::CHUNK;
        }
        input.drain(..used);
        Ok(())
    }

    /// Takes one chunk, shorter only as the last one, giving out no more than `most` in all.
    pub(crate) fn push(&mut self, input: &[f32], most: u64, out: &mut Vec<f32>) -> Result<()> {
        let failed = |e: &dyn std::error::Error| Error::internal(format!("resampling failed: {e}"));
        // The adapter needs a whole chunk to look at; what is past the end is taken as silence.
        let mut chunk = [0.0; Self::CHUNK];
        chunk[..input.len()].copy_from_slice(input);
        let adapter = SequentialSlice::new(&chunk, 1, Self::CHUNK).map_err(|e| failed(&e))?;
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

    /// After the last chunk: silence, until all of the `want` samples have come out.
    pub(crate) fn finish(&mut self, want: u64, out: &mut Vec<f32>) -> Result<()> {
        while self.given < want {
            self.push(&[], want, out)?;
        }
        Ok(())
    }
}
