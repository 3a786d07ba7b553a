//! RF64 and BW64, the WAV of more than 4 GiB: shown to symphonia as a WAV from a pipe, which ends where the sound does.

use std::io::{self, Read, Seek, SeekFrom};

use symphonia::core::io::MediaSource;

use super::container::Rf64Data;

/// The file up to the end of its sound, with the first four bytes replaced.
pub(super) struct AsWav {
    inner: Box<dyn MediaSource>,
    at: u64,
    data: Rf64Data,
}

impl AsWav {
    pub(super) fn new(mut inner: Box<dyn MediaSource>, data: Rf64Data) -> io::Result<Self> {
        inner.seek(SeekFrom::Start(0))?;
        Ok(Self { inner, at: 0, data })
    }
}

impl Read for AsWav {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let room = self.data.to.saturating_sub(self.at).min(out.len() as u64) as usize;
        let got = self.inner.read(&mut out[..room])?;
        // The name, and the length of the sound, which all ones leave to the end of the file.
        let patches = [(0, *b"RIFF"), (4, [0xff; 4]), (self.data.from - 4, [0xff; 4])];
        for (place, bytes) in patches {
            for (at, byte) in (place..).zip(bytes) {
                if let Some(out) = at.checked_sub(self.at).and_then(|i| out[..got].get_mut(i as usize)) {
                    *out = byte;
                }
            }
        }
        self.at += got as u64;
        Ok(got)
    }
}

impl Seek for AsWav {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            // The end is that of the sound.
            SeekFrom::End(offset) => SeekFrom::Start(self.data.to.checked_add_signed(offset).ok_or(io::ErrorKind::InvalidInput)?),
            to => to,
        };
        self.at = self.inner.seek(to)?;
        Ok(self.at)
    }
}

impl MediaSource for AsWav {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.data.to)
    }
}
