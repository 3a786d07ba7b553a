//! [`ResultCache`]: what was computed once, by everything it depends on.

mod disk;
pub(crate) mod key;
mod stages;
mod value;

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::process::PerProcess;
use crate::stage::{Stt, Translator, Tts, setters};
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering};

use disk::Disk;
use key::Key;
pub(crate) use value::{Value, pack, samples_of_bytes, samples_to_bytes, segment_bytes, unpack};

/// Settings of a [`ResultCache`].
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct ResultCacheOptions {
    /// Most results in memory. Default 1,000: a minute of a dub has about fifty.
    pub entries: usize,
    /// Most bytes of them in memory. Default 256 MiB.
    pub bytes: u64,
    /// How long a result is good for, in memory and on disk. Default one hour.
    pub ttl: Duration,
    /// A folder that keeps results, too, so that they outlive the process. Processes may share it. Default: none.
    pub disk: Option<PathBuf>,
    /// Most bytes of results on disk. Default 4 GiB.
    pub disk_bytes: u64,
}

impl Default for ResultCacheOptions {
    fn default() -> Self {
        Self { entries: 1_000, bytes: 256 << 20, ttl: Duration::from_secs(3_600), disk: None, disk_bytes: 4 << 30 }
    }
}

setters! { ResultCacheOptions:
    /// Sets [`ResultCacheOptions::entries`].
    entries: usize,
    /// Sets [`ResultCacheOptions::bytes`].
    bytes: u64,
    /// Sets [`ResultCacheOptions::ttl`].
    ttl: Duration,
    /// Sets [`ResultCacheOptions::disk`].
    disk: impl Into<Option<PathBuf>>,
    /// Sets [`ResultCacheOptions::disk_bytes`].
    disk_bytes: u64,
}

/// Remembers what stages and dubs gave.
///
/// A result is addressed by a hash of everything it depends on: the sound's samples or the text, every option, the model's
/// content and arithmetic, the version of this library. So a model that changes, or an option, is another result, and what
/// is found is what would be computed. Results of a stage that does not tell its revision ([`StageInfo::revision`] is empty)
/// are not remembered, nor are failures.
///
/// With [`ResultCacheOptions::disk`] a dub that was killed goes on where it was when it is asked for again: of what stages
/// had finished, nothing is computed twice. The folder holds what people said; it is readable by its owner alone.
///
/// Cheap to clone; clones share everything. Any thread may use it. The disk never makes a call fail: what cannot be written
/// is counted, and logged.
///
/// ```
/// # fn main() -> dubcore::Result<()> {
/// use dubcore::{Factory, Job, Lang, LoadOptions, ResultCache, ResultCacheOptions, TranslateOptions};
/// let cache = ResultCache::new(ResultCacheOptions::default())?;
/// let translator = Factory::global()?.translator(&"micro/mt-en-es".parse()?, &LoadOptions::default(), &Job::new())?;
/// let translator = cache.translator(translator);
/// let opts = TranslateOptions::new(Lang::EN, Lang::ES);
/// let first = translator.translate(&["Good morning."], &opts, &Job::new()).remove(0)?;
/// let again = translator.translate(&["Good morning."], &opts, &Job::new()).remove(0)?;
/// assert_eq!(first.text, again.text);
/// assert!(!first.metadata.cached && again.metadata.cached);
/// assert_eq!(cache.status().hits, 1);
/// # Ok(())
/// # }
/// ```
///
/// [`StageInfo::revision`]: crate::StageInfo::revision
#[derive(Clone)]
pub struct ResultCache(Arc<Shared>);

struct Shared {
    opts: ResultCacheOptions,
    /// Each process has its own: a child begins with none.
    memory: PerProcess<Mutex<Memory>>,
    disk: Option<Disk>,
    hits: AtomicU64,
    disk_hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
    disk_failures: AtomicU64,
    /// Whether the last write to disk failed.
    disk_failing: AtomicBool,
}

struct Memory {
    entries: LruCache<Key, Entry>,
    bytes: u64,
}

struct Entry {
    value: Arc<dyn Any + Send + Sync>,
    bytes: u64,
    made: Instant,
}

/// What a [`ResultCache`] holds and did.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
pub struct ResultCacheStatus {
    /// Results in memory.
    pub entries: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Results found, in memory or on disk.
    pub hits: u64,
    /// Those of them that were on disk only.
    pub disk_hits: u64,
    /// Results that had to be computed.
    pub misses: u64,
    /// `hits / (hits + misses)`, 0 before the first.
    pub hit_rate: f64,
    /// Results that went because of a bound or their age, in memory and on disk.
    pub evictions: u64,
    /// Writes to disk that failed.
    pub disk_failures: u64,
}

impl ResultCache {
    /// A cache with nothing in memory, and on disk what is there already.
    ///
    /// # Errors
    /// `InvalidArgument` for a bound of 0, `Io` for a folder that cannot be made or written to.
    pub fn new(opts: ResultCacheOptions) -> Result<Self> {
        if opts.entries == 0 || opts.bytes == 0 || opts.ttl.is_zero() || opts.disk.is_some() && opts.disk_bytes == 0 {
            return Err(Error::argument("a result cache with a bound of 0 holds nothing: leave it out instead"));
        }
        let disk = opts.disk.as_deref().map(|folder| Disk::open(folder, opts.disk_bytes, opts.ttl)).transpose()?;
        Ok(Self(Arc::new(Shared {
            opts,
            memory: PerProcess::new(),
            disk,
            hits: AtomicU64::new(0),
            disk_hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            disk_failures: AtomicU64::new(0),
            disk_failing: AtomicBool::new(false),
        })))
    }

    /// `stt`, remembering.
    pub fn stt(&self, stt: Arc<dyn Stt>) -> Arc<dyn Stt> {
        Arc::new(stages::Remembering { stage: stt, cache: self.clone() })
    }

    /// `translator`, remembering each text by itself.
    pub fn translator(&self, translator: Arc<dyn Translator>) -> Arc<dyn Translator> {
        Arc::new(stages::Remembering { stage: translator, cache: self.clone() })
    }

    /// `tts`, remembering each text by itself.
    pub fn tts(&self, tts: Arc<dyn Tts>) -> Arc<dyn Tts> {
        Arc::new(stages::Remembering { stage: tts, cache: self.clone() })
    }

    /// What it holds and did.
    pub fn status(&self) -> ResultCacheStatus {
        let count = |n: &AtomicU64| n.load(Ordering::Acquire);
        let memory = self.memory();
        let (hits, misses) = (count(&self.0.hits), count(&self.0.misses));
        ResultCacheStatus {
            entries: memory.entries.len(),
            bytes: memory.bytes,
            hits,
            disk_hits: count(&self.0.disk_hits),
            misses,
            hit_rate: if hits + misses > 0 { hits as f64 / (hits + misses) as f64 } else { 0.0 },
            evictions: count(&self.0.evictions),
            disk_failures: count(&self.0.disk_failures),
        }
    }

    /// The folder of the results on disk, if there is one.
    pub fn folder(&self) -> Option<&Path> {
        self.0.opts.disk.as_deref()
    }

    /// Whether the last write to disk failed.
    pub(crate) fn disk_is_failing(&self) -> bool {
        self.0.disk_failing.load(Ordering::Acquire)
    }

    /// The largest result that is worth keeping: it must not push out most of the others.
    pub(crate) fn largest(&self) -> u64 {
        self.0.opts.bytes / 4
    }

    /// Forgets what is too old, in memory and on disk, and what processes that were killed left unfinished on disk. What is
    /// too old is never returned; this frees its place.
    pub fn sweep(&self) {
        let mut memory = self.memory();
        let keys: Vec<Key> = memory.entries.iter().filter(|(_, e)| self.is_old(e)).map(|(key, _)| *key).collect();
        let old: Vec<Entry> = keys.iter().filter_map(|key| memory.entries.pop(key)).collect();
        memory.bytes -= old.iter().map(|e| e.bytes).sum::<u64>();
        drop(memory);
        self.0.evictions.fetch_add(old.len() as u64, Ordering::AcqRel);
        if let Some(disk) = &self.0.disk {
            match disk.tidy() {
                Ok(evicted) => drop(self.0.evictions.fetch_add(evicted, Ordering::AcqRel)),
                Err(e) => self.disk_failed(&e),
            }
        }
    }

    /// Forgets everything, on disk too.
    pub fn clear(&self) {
        let mut memory = self.memory();
        let all = std::mem::replace(&mut memory.entries, LruCache::unbounded());
        memory.bytes = 0;
        drop(memory);
        drop(all);
        if let Some(Err(e)) = self.0.disk.as_ref().map(Disk::clear) {
            self.disk_failed(&e);
        }
    }

    /// What is remembered under `key`, which says what type it is of.
    pub(crate) fn get<V: Value>(&self, key: Key) -> Option<V> {
        let found = self.in_memory(key).or_else(|| {
            let (bytes, age) = self.0.disk.as_ref()?.get(key)?;
            let value = V::decode(&bytes)?;
            self.0.disk_hits.fetch_add(1, Ordering::AcqRel);
            self.keep(key, value.clone(), age);
            Some(value)
        });
        let count = if found.is_some() { &self.0.hits } else { &self.0.misses };
        count.fetch_add(1, Ordering::AcqRel);
        found
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.memory.get_with(|_| Mutex::new(Memory { entries: LruCache::unbounded(), bytes: 0 })).lock()
    }

    fn in_memory<V: Value>(&self, key: Key) -> Option<V> {
        let mut memory = self.memory();
        let entry = memory.entries.get(&key)?;
        if self.is_old(entry) {
            let bytes = entry.bytes;
            let old = memory.entries.pop(&key);
            memory.bytes -= bytes;
            drop(memory);
            drop(old);
            self.0.evictions.fetch_add(1, Ordering::AcqRel);
            return None;
        }
        let value = entry.value.clone();
        drop(memory);
        value.downcast_ref::<V>().cloned()
    }

    /// Remembers a result.
    pub(crate) fn put<V: Value>(&self, key: Key, value: V) {
        if let Some(disk) = &self.0.disk {
            let written = match value.encode() {
                Some(bytes) => disk.put(key, &bytes),
                None => Ok(0),
            };
            match written {
                Ok(evicted) => {
                    self.0.disk_failing.store(false, Ordering::Release);
                    self.0.evictions.fetch_add(evicted, Ordering::AcqRel);
                }
                Err(e) => self.disk_failed(&e),
            }
        }
        self.keep(key, value, Duration::ZERO);
    }

    /// Remembers a result of that age in memory.
    fn keep<V: Value>(&self, key: Key, value: V, age: Duration) {
        let now = Instant::now();
        let entry = Entry { bytes: value.bytes() as u64, value: Arc::new(value), made: now.checked_sub(age).unwrap_or(now) };
        if entry.bytes > self.0.opts.bytes {
            return;
        }
        let mut gone = Vec::new();
        let mut memory = self.memory();
        memory.bytes += entry.bytes;
        if let Some((_, old)) = memory.entries.push(key, entry) {
            memory.bytes -= old.bytes;
        }
        while memory.bytes > self.0.opts.bytes || memory.entries.len() > self.0.opts.entries {
            let Some((_, oldest)) = memory.entries.pop_lru() else { break };
            memory.bytes -= oldest.bytes;
            gone.push(oldest);
        }
        drop(memory);
        self.0.evictions.fetch_add(gone.len() as u64, Ordering::AcqRel);
    }

    fn is_old(&self, entry: &Entry) -> bool {
        entry.made.elapsed() > self.0.opts.ttl
    }

    fn disk_failed(&self, e: &std::io::Error) {
        self.0.disk_failures.fetch_add(1, Ordering::AcqRel);
        self.0.disk_failing.store(true, Ordering::Release);
        let folder = self.folder().unwrap_or(Path::new("")).display();
        tracing::warn!("a result is not kept in {folder}: {e}");
    }
}

impl std::fmt::Debug for ResultCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResultCache").field("opts", &self.0.opts).field("status", &self.status()).finish()
    }
}
