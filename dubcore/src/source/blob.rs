//! [`Blob`]: a file that is read part by part.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use parking_lot::Mutex;

/// A file of a model, read part by part: weights are larger than what is made of them at a time. It is never mapped, so
/// that a file which shrinks meanwhile is an error and not a signal.
pub(crate) struct Blob(Content);

enum Content {
    Bytes(Cow<'static, [u8]>),
    File(Mutex<File>, u64),
}

impl Blob {
    /// A file that is in memory already.
    pub(crate) fn bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        Self(Content::Bytes(bytes.into()))
    }

    pub(super) fn file(file: File, len: u64) -> Self {
        Self(Content::File(Mutex::new(file), len))
    }

    pub(crate) fn len(&self) -> u64 {
        match &self.0 {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_, len) => *len,
        }
    }

    /// `len` bytes from `at` on.
    ///
    /// # Errors
    /// `UnexpectedEof` where the file has no such bytes, `OutOfMemory`, or what the system reports.
    pub(crate) fn part(&self, at: u64, len: usize) -> io::Result<Cow<'_, [u8]>> {
        match &self.0 {
            Content::Bytes(bytes) => {
                let from = usize::try_from(at).ok();
                let part = from.and_then(|from| bytes.get(from..from.checked_add(len)?));
                part.map(Cow::Borrowed).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
            Content::File(file, _) => {
                let mut part = Vec::new();
                part.try_reserve_exact(len)?;
                part.resize(len, 0);
                let mut file = file.lock();
                file.seek(SeekFrom::Start(at))?;
                file.read_exact(&mut part)?;
                Ok(Cow::Owned(part))
            }
        }
    }

    pub(super) fn into_bytes(self) -> io::Result<Cow<'static, [u8]>> {
        match self.0 {
            Content::Bytes(bytes) => Ok(bytes),
            Content::File(_, len) => {
                let whole = self.part(0, usize::try_from(len).map_err(io::Error::other)?)?;
                Ok(Cow::Owned(whole.into_owned()))
            }
        }
    }

    pub(super) fn hash_into(&self, hash: &mut blake3::Hasher) -> io::Result<()> {
        match &self.0 {
            Content::Bytes(bytes) => {
                hash.update(bytes);
            }
            Content::File(file, len) => {
                let mut file = file.lock();
                file.rewind()?;
                hash.update_reader((&mut *file).take(*len))?;
            }
        }
        Ok(())
    }
}
