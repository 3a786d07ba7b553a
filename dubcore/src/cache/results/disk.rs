//! The tier on disk. Any number of processes may share a folder, and any of them may be killed at any moment: a reader sees
//! an old entry, the whole new one, or none.
//!
//! An entry is a file named by its key: a header, the bytes, and a checksum of both. It is written beside its place and
//! renamed into it. When it was last used is its time of modification. What processes that were killed left unfinished is
//! removed by whoever tidies up.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::key::Key;
use crate::error::{Error, ErrorKind, Result};
use crate::part::Part;
use crate::sync::{AtomicU64, Ordering};

/// The first bytes of every entry; the last one is the version of what follows.
const MAGIC: &[u8; 8] = b"dubcore\x01";
/// Magic, key, when it was written in nanoseconds since 1970, length of the bytes.
const HEADER: usize = 8 + 32 + 8 + 8;
const CHECKSUM: usize = 32;
const ENDING: &str = "result";
/// The folder of unfinished files.
const UNFINISHED: &str = "unfinished";
/// An unfinished file is left alone for so long: its writer may be at work.
const ABANDONED: Duration = Duration::from_secs(600);
/// Tidying up goes down to this part of the bound, so that it need not be done again at once.
const LOW: f64 = 0.9;

pub(super) struct Disk {
    folder: PathBuf,
    most: u64,
    ttl: Duration,
    /// The bytes there were at the last look, and what this process has written since.
    used: AtomicU64,
}

impl Disk {
    /// Opens a folder, which is made if need be, for entries of at most `most` bytes together, none older than `ttl`.
    pub(super) fn open(folder: &Path, most: u64, ttl: Duration) -> Result<Self> {
        let failed = |e: io::Error| {
            let what = format!("the folder {} cannot hold cached results: name one that can be written to", folder.display());
            Error::new(ErrorKind::Io, what).with_source(e)
        };
        let unfinished = folder.join(UNFINISHED);
        make_private(&unfinished).map_err(failed)?;
        let disk = Self { folder: folder.to_path_buf(), most, ttl, used: AtomicU64::new(0) };
        // Fails now rather than at the first result.
        Part::create_in(&unfinished, &folder.join("probe")).map_err(failed)?;
        disk.tidy().map_err(failed)?;
        Ok(disk)
    }

    /// The bytes of an entry, and its age. One that is damaged or too old is removed.
    pub(super) fn get(&self, key: Key) -> Option<(Vec<u8>, Duration)> {
        let path = self.path(key);
        let mut file = File::open(&path).ok()?;
        let found = self.read(&mut file, key);
        match &found {
            Some(_) => {
                // Only the order of eviction hangs on it.
                let _ = file.set_modified(SystemTime::now());
            }
            None => {
                let _ = fs::remove_file(&path);
            }
        }
        found
    }

    fn read(&self, file: &mut File, key: Key) -> Option<(Vec<u8>, Duration)> {
        let len = file.metadata().ok()?.len();
        if len < (HEADER + CHECKSUM) as u64 || len > self.most {
            return None;
        }
        let mut entry = Vec::new();
        entry.try_reserve_exact(usize::try_from(len).ok()?).ok()?;
        file.take(len).read_to_end(&mut entry).ok()?;
        let (body, checksum) = entry.split_last_chunk::<CHECKSUM>()?;
        if blake3::hash(body) != *checksum || body.get(..8)? != MAGIC || body.get(8..40)? != key.bytes() {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
        let written = UNIX_EPOCH + Duration::from_nanos(number(40)?);
        // A clock that was set back makes an entry young, not an error.
        let age = written.elapsed().unwrap_or_default();
        if age > self.ttl || number(48)? != (body.len() - HEADER) as u64 {
            return None;
        }
        entry.truncate(entry.len() - CHECKSUM);
        entry.drain(..HEADER);
        Some((entry, age))
    }

    /// Writes an entry; says how many others had to go for it.
    ///
    /// # Errors
    /// What the system says, a full disk for instance. Whatever was there before is still there.
    pub(super) fn put(&self, key: Key, bytes: &[u8]) -> io::Result<u64> {
        let len = (HEADER + bytes.len() + CHECKSUM) as u64;
        if len > self.most {
            return Ok(0);
        }
        let (path, unfinished) = (self.path(key), self.folder.join(UNFINISHED));
        // Also where somebody has emptied the folder meanwhile.
        path.parent().map_or(Ok(()), make_private)?;
        make_private(&unfinished)?;
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&key.bytes());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        header.extend_from_slice(&u64::try_from(now).unwrap_or(u64::MAX).to_le_bytes());
        header.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        let checksum = blake3::Hasher::new().update(&header).update(bytes).finalize();
        let (mut file, part) = Part::create_in(&unfinished, &path)?;
        [&header, bytes, checksum.as_bytes()].into_iter().try_for_each(|some| file.write_all(some))?;
        part.place(&file)?;
        let full = self.used.fetch_add(len, Ordering::AcqRel) + len > self.most;
        if full { self.tidy() } else { Ok(0) }
    }

    /// Looks through the folder, which other processes may have written to: removes what is too old and what was abandoned,
    /// and, if there is more than there may be, what has not been used for longest. Says how many entries went.
    pub(super) fn tidy(&self) -> io::Result<u64> {
        let now = SystemTime::now();
        let age = |when: SystemTime| now.duration_since(when).unwrap_or_default();
        let mut entries = Vec::new();
        for folder in fs::read_dir(&self.folder)? {
            let folder = folder?.path();
            // Others tidy up, too: what is gone already is no error.
            let Ok(files) = fs::read_dir(&folder) else { continue };
            for file in files.flatten() {
                let (path, Ok(meta)) = (file.path(), file.metadata()) else { continue };
                let used = meta.modified().unwrap_or(now);
                match path.extension().is_some_and(|e| e == ENDING) {
                    true => entries.push((used, meta.len(), path)),
                    false if age(used) > ABANDONED => drop(fs::remove_file(path)),
                    false => {}
                }
            }
        }
        entries.sort();
        let mut bytes: u64 = entries.iter().map(|(_, len, _)| len).sum();
        let goal = if bytes > self.most { (self.most as f64 * LOW) as u64 } else { u64::MAX };
        let mut evicted = 0;
        for (used, len, path) in entries {
            // What was not used for longer than it may live was written even earlier.
            if (bytes > goal || age(used) > self.ttl) && fs::remove_file(&path).is_ok() {
                bytes -= len;
                evicted += 1;
            }
        }
        self.used.store(bytes, Ordering::Release);
        Ok(evicted)
    }

    /// Removes every entry.
    pub(super) fn clear(&self) -> io::Result<()> {
        for folder in fs::read_dir(&self.folder)?.flatten() {
            for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                if file.path().extension().is_some_and(|e| e == ENDING) {
                    let _ = fs::remove_file(file.path());
                }
            }
        }
        self.tidy().map(drop)
    }

    fn path(&self, key: Key) -> PathBuf {
        let name = key.hex();
        self.folder.join(&name[..2]).join(name).with_extension(ENDING)
    }
}

/// Makes a folder that only this user can read: what people said is nobody else's business.
fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
