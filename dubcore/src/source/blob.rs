//! [`Blob`]: a file that is read part by part.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// A file of a model, read part by part: weights are larger than what is made of them at a time. It is never mapped, so
/// that a file which shrinks meanwhile is an error and not a signal.
pub(crate) struct Blob(Content);

enum Content {
    Bytes(Cow<'static, [u8]>),
    File(Mutex<File>, u64, Arc<Reading>),
}

/// How much of a model's files was read.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    done: AtomicU64,
    all: AtomicU64,
}

impl Reading {
    /// Says that so many bytes more will be read.
    pub(super) fn expect(&self, bytes: u64) {
        self.all.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Bytes read, and all that there are, which is 0 as long as it is not known. Everything is read twice: once to know
    /// what it is, once to use it.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let all = self.all.load(Ordering::Acquire);
        ((self.done.load(Ordering::Acquire) / 2).min(all), all)
    }

    fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::AcqRel);
    }
}

impl Blob {
    /// A file that is in memory already.
    pub(crate) fn bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        Self(Content::Bytes(bytes.into()))
    }

    pub(super) fn file(file: File, len: u64, reading: Arc<Reading>) -> Self {
        Self(Content::File(Mutex::new(file), len, reading))
    }

    pub(crate) fn len(&self) -> u64 {
        match &self.0 {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File(_, len, _) => *len,
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
            Content::File(file, _, reading) => {
                let mut part = Vec::new();
                part.try_reserve_exact(len)?;
                part.resize(len, 0);
                let mut file = file.lock();
                file.seek(SeekFrom::Start(at))?;
                file.read_exact(&mut part)?;
                reading.add(len as u64);
                Ok(Cow::Owned(part))
            }
        }
    }

    pub(super) fn into_bytes(self) -> io::Result<Cow<'static, [u8]>> {
        match self.0 {
            Content::Bytes(bytes) => Ok(bytes),
            Content::File(_, len, _) => {
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
            Content::File(file, len, reading) => {
                let mut file = file.lock();
                file.rewind()?;
                hash.update_reader((&mut *file).take(*len))?;
                reading.add(*len);
            }
        }
        Ok(())
    }
}
