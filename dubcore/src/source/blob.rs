//! [`Blob`]: a file that is read part by part.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::team::Team;

/// A file of a model, read part by part: weights are larger than what is made of them at a time. It is never mapped, so
/// that a file which shrinks meanwhile is an error and not a signal.
pub(crate) struct Blob(Content);

enum Content {
    Bytes(Cow<'static, [u8]>),
    File(Positioned, u64, Arc<Reading>),
}

/// How much of a model's files was read.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    done: AtomicU64,
    all: AtomicU64,
    fetched: AtomicU64,
    to_fetch: AtomicU64,
    /// Reads so far, and which one fails, counted from one.
    #[cfg(test)]
    reads: AtomicU64,
    #[cfg(test)]
    fails: AtomicU64,
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

    /// Lets the read of that number fail; returns how many there were.
    #[cfg(test)]
    pub(crate) fn fail_at(&self, read: u64) -> u64 {
        self.fails.store(read, Ordering::Release);
        self.reads.load(Ordering::Acquire)
    }

    /// To be asked before each read.
    fn begin(&self) -> io::Result<()> {
        #[cfg(test)]
        if self.reads.fetch_add(1, Ordering::AcqRel) + 1 == self.fails.load(Ordering::Acquire) {
            return Err(io::Error::other("a test let it fail"));
        }
        Ok(())
    }

    /// Says how much will be fetched.
    #[cfg(feature = "hub")]
    pub(super) fn expect_fetched(&self, bytes: u64) {
        self.to_fetch.store(bytes, Ordering::Release);
    }

    #[cfg(feature = "hub")]
    pub(super) fn fetched(&self, bytes: u64) {
        self.fetched.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Bytes fetched from the network, and all that will be; both 0 for a model that was on this machine.
    pub(crate) fn download(&self) -> (u64, u64) {
        let all = self.to_fetch.load(Ordering::Acquire);
        (self.fetched.load(Ordering::Acquire).min(all), all)
    }

    /// The part done, 0 to 1.
    pub(crate) fn fraction(&self) -> f64 {
        let part = |(done, all): (u64, u64)| done as f64 / all.max(1) as f64;
        match self.download() {
            (_, 0) => part(self.bytes()),
            // Fetching takes nearly all of the time.
            fetched => 0.9 * part(fetched) + 0.1 * part(self.bytes()),
        }
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
        Self(Content::File(Positioned::new(file), len, reading))
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
                reading.begin()?;
                file.read_at(at, &mut part)?;
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

    /// Identifies the content: the hash of the hashes of its pieces, of which several are made at a time.
    pub(super) fn hash(&self) -> io::Result<blake3::Hash> {
        let pieces = usize::try_from(self.len().div_ceil(PIECE)).map_err(io::Error::other)?;
        let failed = AtomicBool::new(false);
        if let Content::File(_, _, reading) = &self.0 {
            reading.begin()?;
        }
        // Behind a piece that cannot be read none is.
        let found = Team::new(0).map(pieces, |i| {
            let hash = (!failed.load(Ordering::Relaxed)).then(|| self.hash_piece(i as u64 * PIECE));
            failed.fetch_or(matches!(hash, Some(Err(_))), Ordering::Relaxed);
            hash
        });
        let mut all = blake3::Hasher::new();
        for hash in found.into_iter().flatten() {
            all.update(hash?.as_bytes());
        }
        Ok(all.finalize())
    }

    /// The hash of the piece that begins at `at`.
    fn hash_piece(&self, at: u64) -> io::Result<blake3::Hash> {
        let len = PIECE.min(self.len() - at) as usize;
        match &self.0 {
            Content::Bytes(bytes) => Ok(blake3::hash(&bytes[at as usize..][..len])),
            Content::File(file, _, reading) => {
                let (mut room, mut hasher) = (vec![0; ROOM.min(len)], blake3::Hasher::new());
                for from in (0..len).step_by(ROOM) {
                    let part = &mut room[..ROOM.min(len - from)];
                    file.read_at(at + from as u64, part)?;
                    reading.add(part.len() as u64);
                    hasher.update(part);
                }
                Ok(hasher.finalize())
            }
        }
    }
}

/// Bytes of a piece: some time's work for a thread.
const PIECE: u64 = 512 << 10;
/// Bytes of it that are read at a time: they fit a core's cache.
const ROOM: usize = 64 << 10;

/// A file that is read at any place; where the system can, by several threads at once.
struct Positioned {
    #[cfg(unix)]
    file: File,
    #[cfg(not(unix))]
    file: parking_lot::Mutex<File>,
}

impl Positioned {
    #[cfg(unix)]
    fn new(file: File) -> Self {
        Self { file }
    }

    #[cfg(not(unix))]
    fn new(file: File) -> Self {
        Self { file: parking_lot::Mutex::new(file) }
    }

    /// Fills `part` from `at` on.
    #[cfg(unix)]
    fn read_at(&self, at: u64, part: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, part, at)
    }

    #[cfg(not(unix))]
    fn read_at(&self, at: u64, part: &mut [u8]) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = self.file.lock();
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(part)
    }
}
