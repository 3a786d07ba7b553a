//! The [`Factory`]: loads each model once, lends it to calls, and evicts by a policy.

mod handle;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use serde::Serialize;

use crate::backend::{self, Loaded, Stage};
use crate::backends;
use crate::cache::policy::{Admission, CachePolicy, Decision, KeepAll, MemoryBudget, Resident, Snapshot};
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::key::ModelKey;
use crate::runtime::{self, Job};
use crate::source::{ModelFiles, ModelRef};
use crate::stage::{Stt, Translator, Tts};
use crate::sync::{AtomicBool, AtomicU64, Condvar, Mutex, Ordering, RwLock};

use handle::Handle;

/// How to load a model.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LoadOptions {
    /// Where it shall run.
    pub device: Device,
}

/// Loads models, each once, and lends them out.
///
/// Cheap to clone; clones share everything. Any thread may use it. What it returns are light handles: they take a
/// lease on the weights for each call, so that a handle kept for ever keeps nothing in memory, and load the model
/// again where it was evicted in between.
///
/// ```
/// # fn main() -> dubcore::Result<()> {
/// use dubcore::{Audio, Factory, Job, LoadOptions, SttOptions};
/// let factory = Factory::global()?;
/// let stt = factory.stt(&"micro/stt-en".parse()?, &LoadOptions::default(), &Job::new())?;
/// let silence = Audio::new(vec![0.0; 16_000], 16_000)?;
/// let transcript = stt.transcribe(&silence, &SttOptions::default(), &Job::new())?;
/// assert_eq!(transcript.language, dubcore::Lang::EN);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Factory(Arc<Shared>);

struct Shared {
    policy: Box<dyn CachePolicy>,
    residents: RwLock<HashMap<Id, Arc<Entry>>>,
    flights: Mutex<HashMap<Id, Arc<Flight>>>,
    /// How often `residents` has changed; written under their lock.
    changes: AtomicU64,
    loads: AtomicU64,
    evictions: AtomicU64,
}

/// A set of weights: what differs only in how it is used shares one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Id {
    model: ModelRef,
    device: Device,
}

/// A loaded model and who uses it.
struct Entry {
    id: Id,
    loaded: Loaded,
    since: Instant,
    /// When it was last used, in milliseconds after `since`.
    used: AtomicU64,
    in_use: AtomicU64,
    pinned: AtomicBool,
}

/// A load that callers wait for.
#[derive(Default)]
struct Flight {
    result: Mutex<Option<Result<Arc<Entry>>>>,
    landed: Condvar,
}

/// The use of a model by one call.
struct Lease(Arc<Entry>);

impl Lease {
    /// Must be taken while the entry is among the residents (under their lock) or has not been published yet, so
    /// that an eviction sees it.
    fn new(entry: Arc<Entry>) -> Self {
        entry.in_use.fetch_add(1, Ordering::AcqRel);
        entry.touch();
        Self(entry)
    }

    fn stage(&self) -> &Stage {
        &self.0.loaded.stage
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.touch();
        self.0.in_use.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Entry {
    fn touch(&self) {
        self.used.fetch_max(self.since.elapsed().as_millis() as u64, Ordering::AcqRel);
    }

    fn resident(&self) -> Resident {
        let mut key = ModelKey::new(self.id.model.clone());
        key.model_type = self.loaded.stage.kind().into();
        key.device = self.id.device;
        Resident {
            key,
            bytes: self.loaded.bytes,
            in_use: self.in_use.load(Ordering::Acquire) as usize,
            pinned: self.pinned.load(Ordering::Acquire),
            loaded: self.since,
            used: self.since + Duration::from_millis(self.used.load(Ordering::Acquire)),
        }
    }

    fn is(&self, key: &ModelKey) -> bool {
        key.model == self.id.model && key.device == self.id.device
    }

    fn is_free(&self) -> bool {
        self.in_use.load(Ordering::Acquire) == 0 && !self.pinned.load(Ordering::Acquire)
    }
}

/// Settings of a new [`Factory`]. What is not set comes from the environment, then from the defaults.
#[derive(Default)]
pub struct FactoryBuilder {
    policy: Option<Box<dyn CachePolicy>>,
    cpu_threads: Option<usize>,
}

impl FactoryBuilder {
    /// Which models stay loaded. Default: [`MemoryBudget`] if `DUBCORE_MEMORY_BUDGET` (bytes) is set, else [`KeepAll`].
    #[must_use]
    pub fn policy(mut self, policy: impl CachePolicy + 'static) -> Self {
        self.policy = Some(Box::new(policy));
        self
    }

    /// Compute threads of the whole process, 0 for one per core. Effective before the first inference. Default:
    /// `DUBCORE_CPU_THREADS`, else 0.
    #[must_use]
    pub fn cpu_threads(mut self, n: usize) -> Self {
        self.cpu_threads = Some(n);
        self
    }

    /// A factory of its own.
    ///
    /// # Errors
    /// `InvalidArgument` for a wrong value in the environment, naming it.
    pub fn build(self) -> Result<Factory> {
        let threads = match self.cpu_threads {
            Some(n) => Some(n),
            None => env::<usize>("DUBCORE_CPU_THREADS", "a number of threads, 0 for all")?,
        };
        if let Some(n) = threads {
            runtime::set_threads(n);
        }
        env::<Device>("DUBCORE_DEVICE", "auto or cpu")?;
        let policy: Box<dyn CachePolicy> = match self.policy {
            Some(policy) => policy,
            None => match env("DUBCORE_MEMORY_BUDGET", "a number of bytes")? {
                Some(bytes) => Box::new(MemoryBudget::new(bytes)),
                None => Box::new(KeepAll),
            },
        };
        Ok(Factory(Arc::new(Shared {
            policy,
            residents: RwLock::default(),
            flights: Mutex::default(),
            changes: AtomicU64::new(0),
            loads: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        })))
    }

    /// Makes this the factory that [`Factory::global`] returns.
    ///
    /// # Errors
    /// `InvalidArgument` if there is one already, or as for [`FactoryBuilder::build`].
    pub fn install_global(self) -> Result<&'static Factory> {
        let mut fresh = Some(self);
        // The initialiser runs only where there is no factory yet; left over, it tells that there was one.
        let factory =
            GLOBAL.get_or_try_init(|| fresh.take().map_or_else(|| Err(Error::internal("initialised twice")), Self::build))?;
        match fresh {
            None => Ok(factory),
            Some(_) => Err(Error::argument("the global factory exists already: install it before its first use")),
        }
    }
}

fn env<T: std::str::FromStr>(name: &str, what: &str) -> Result<Option<T>> {
    match std::env::var(name) {
        Err(std::env::VarError::NotPresent) => Ok(None),
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => text.parse().map(Some).map_err(|_| Error::argument(format!("{name}={text:?} is wrong: it must be {what}"))),
        Err(e) => Err(Error::argument(format!("{name} is wrong: it must be {what}")).with_source(e)),
    }
}

/// Double-checked: readers see the finished factory without a lock, the first ones agree under a lock on who makes it.
static GLOBAL: OnceCell<Factory> = OnceCell::new();

/// What a factory holds.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
pub struct FactoryStatus {
    /// The loaded models, by key.
    pub residents: Vec<ResidentStatus>,
    /// Bytes of all their weights.
    pub bytes: u64,
    /// Loads since the beginning, failed ones included.
    pub loads: u64,
    /// Evictions since the beginning.
    pub evictions: u64,
}

/// A loaded model.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
pub struct ResidentStatus {
    /// Which.
    pub key: ModelKey,
    /// Bytes of its weights.
    pub bytes: u64,
    /// Calls that use it now.
    pub in_use: usize,
    /// Whether it is pinned.
    pub pinned: bool,
    /// How long it has not been used.
    pub idle: Duration,
}

impl Factory {
    /// The process-wide factory, made at the first call from the environment's settings.
    ///
    /// # Errors
    /// As for [`FactoryBuilder::build`]; the next call tries again.
    pub fn global() -> Result<&'static Self> {
        GLOBAL.get_or_try_init(|| FactoryBuilder::default().build())
    }

    /// Settings for a factory.
    pub fn builder() -> FactoryBuilder {
        FactoryBuilder::default()
    }

    /// A recogniser. The model is loaded now, unless it is already.
    ///
    /// # Errors
    /// `ModelNotFound`, `ModelCorrupt`, `ModelIncompatible`, `OutOfMemory`, or what ended `job`. A failed load is
    /// reported to everyone who waited for it; the next call tries again.
    pub fn stt(&self, model: &ModelRef, opts: &LoadOptions, job: &Job) -> Result<Arc<dyn Stt>> {
        Ok(Arc::new(self.handle(model, opts, "stt", job)?))
    }

    /// A translator, as [`Factory::stt`].
    ///
    /// # Errors
    /// As for [`Factory::stt`].
    pub fn translator(&self, model: &ModelRef, opts: &LoadOptions, job: &Job) -> Result<Arc<dyn Translator>> {
        Ok(Arc::new(self.handle(model, opts, "translator", job)?))
    }

    /// A voice, as [`Factory::stt`].
    ///
    /// # Errors
    /// As for [`Factory::stt`].
    pub fn tts(&self, model: &ModelRef, opts: &LoadOptions, job: &Job) -> Result<Arc<dyn Tts>> {
        Ok(Arc::new(self.handle(model, opts, "tts", job)?))
    }

    fn handle(&self, model: &ModelRef, opts: &LoadOptions, kind: &'static str, job: &Job) -> Result<Handle> {
        let id = Id { model: model.clone(), device: opts.device };
        let lease = self.lease(&id, job)?;
        let found = lease.stage().kind();
        if found != kind {
            return Err(Error::new(
                ErrorKind::ModelIncompatible,
                format!("model {model} is a {found}, not a {kind}: name a model made for that stage"),
            ));
        }
        Ok(Handle::new(self.clone(), id, lease.stage().info()))
    }

    /// Loads models, one after the other, so that later calls find them. One result per model: a failure does not
    /// keep the others from loading.
    pub fn preload(&self, models: &[ModelRef], opts: &LoadOptions, job: &Job) -> Vec<Result<()>> {
        let share = 1.0 / models.len().max(1) as f64;
        models
            .iter()
            .map(|model| {
                let part = job.child(model.to_string(), share);
                let id = Id { model: model.clone(), device: opts.device };
                let result = self.lease(&id, &part).map(|_| ());
                part.report(1.0);
                result
            })
            .collect()
    }

    /// Keeps a loaded model from being evicted, or allows it again. Says whether the model is loaded.
    pub fn pin(&self, model: &ModelRef, pinned: bool) -> bool {
        let residents = self.0.residents.read();
        let found = residents.values().filter(|e| e.id.model == *model);
        found.map(|e| e.pinned.store(pinned, Ordering::Release)).count() > 0
    }

    /// Drops a model, pinned or not, unless a call is using it. Its memory is freed at once.
    ///
    /// # Errors
    /// `Busy` if a call is using it.
    pub fn unload(&self, model: &ModelRef) -> Result<()> {
        let mut gone = Vec::new();
        {
            let mut residents = self.0.residents.write();
            let ids: Vec<Id> = residents.keys().filter(|id| id.model == *model).cloned().collect();
            for id in ids {
                if residents.get(&id).is_some_and(|e| e.in_use.load(Ordering::Acquire) > 0) {
                    return Err(Error::new(
                        ErrorKind::Busy,
                        format!("model {model} is in use: try again when its calls have ended"),
                    ));
                }
                gone.extend(residents.remove(&id));
            }
            self.0.changes.fetch_add(1, Ordering::AcqRel);
        }
        self.0.evictions.fetch_add(gone.len() as u64, Ordering::AcqRel);
        Ok(())
    }

    /// Asks the policy again and evicts whom it names; returns how many went. For policies that judge by age.
    pub fn sweep(&self) -> usize {
        match self.decide(None, &self.residents().0) {
            Ok(decision) => {
                // Dropped after the lock: freeing gigabytes takes time.
                let gone = self.evict(&decision.evict, &mut self.0.residents.write());
                gone.len()
            }
            Err(e) => {
                tracing::error!("nothing is evicted: {}", e.report());
                0
            }
        }
    }

    /// What is loaded.
    pub fn status(&self) -> FactoryStatus {
        let now = Instant::now();
        let mut residents: Vec<ResidentStatus> = self
            .residents()
            .0
            .into_iter()
            .map(|r| ResidentStatus {
                key: r.key,
                bytes: r.bytes,
                in_use: r.in_use,
                pinned: r.pinned,
                idle: if r.in_use > 0 { Duration::ZERO } else { now.saturating_duration_since(r.used) },
            })
            .collect();
        residents.sort_by_key(|r| r.key.to_string());
        FactoryStatus {
            bytes: residents.iter().map(|r| r.bytes).sum(),
            residents,
            loads: self.0.loads.load(Ordering::Acquire),
            evictions: self.0.evictions.load(Ordering::Acquire),
        }
    }

    /// The loaded models, and the count of changes that they are at.
    fn residents(&self) -> (Vec<Resident>, u64) {
        let residents = self.0.residents.read();
        (residents.values().map(|e| e.resident()).collect(), self.0.changes.load(Ordering::Acquire))
    }

    /// The model, loaded if need be, kept from eviction until the lease is dropped.
    fn lease(&self, id: &Id, job: &Job) -> Result<Lease> {
        loop {
            job.check()?;
            if let Some(lease) = self.resident_lease(id) {
                return Ok(lease);
            }
            let (flight, first) = {
                let mut flights = self.0.flights.lock();
                // A flight that landed in between has left the map and put its model among the residents.
                if let Some(lease) = self.resident_lease(id) {
                    return Ok(lease);
                }
                match flights.get(id) {
                    Some(flight) => (flight.clone(), false),
                    None => {
                        let flight = Arc::new(Flight::default());
                        flights.insert(id.clone(), flight.clone());
                        (flight, true)
                    }
                }
            };
            if first {
                self.launch(id.clone(), flight.clone());
            }
            if let Some(lease) = flight.wait(job)? {
                return Ok(lease);
            }
        }
    }

    fn resident_lease(&self, id: &Id) -> Option<Lease> {
        self.0.residents.read().get(id).map(|e| Lease::new(e.clone()))
    }

    /// Loads on a thread of its own, so that everyone who waits, the first one too, keeps their own deadline and cancel.
    fn launch(&self, id: Id, flight: Arc<Flight>) {
        let (factory, key, own) = (self.clone(), id.clone(), flight.clone());
        let spawned = std::thread::Builder::new().name("dubcore-load".into()).spawn(move || {
            let result = factory.load(&key);
            factory.land(&key, &own, result);
        });
        if let Err(e) = spawned {
            let error = Error::new(ErrorKind::OutOfMemory, "no thread could be started to load the model").with_source(e);
            self.land(&id, &flight, Err(error));
        }
    }

    fn land(&self, id: &Id, flight: &Flight, result: Result<Arc<Entry>>) {
        self.0.flights.lock().remove(id);
        *flight.result.lock() = Some(result);
        flight.landed.notify_all();
    }

    fn load(&self, id: &Id) -> Result<Arc<Entry>> {
        self.0.loads.fetch_add(1, Ordering::AcqRel);
        let span = tracing::info_span!("load", model = %id.model);
        let _inside = span.enter();
        // Parsers of foreign formats run here: a panic in one of them is a damaged model, not the end of the host.
        let loaded = catch_unwind(AssertUnwindSafe(|| backend::load(&ModelFiles::locate(&id.model)?, backends::ALL)))
            .unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::ModelCorrupt, format!("loading model {} panicked: its files are damaged", id.model)))
            })?;
        let entry = Arc::new(Entry {
            id: id.clone(),
            loaded,
            since: Instant::now(),
            used: AtomicU64::new(0),
            in_use: AtomicU64::new(0),
            pinned: AtomicBool::new(false),
        });
        self.admit(&entry)?;
        Ok(entry)
    }

    /// Does with a newcomer, and with others for its sake, what the policy says. Where residents changed while it thought,
    /// it is asked again: two newcomers at once must not both take the last room.
    fn admit(&self, entry: &Arc<Entry>) -> Result<()> {
        const TRIES: usize = 16;
        // Declared before the lock: freeing gigabytes takes time.
        let mut gone = Vec::new();
        for tries in 1.. {
            let (seen, changes) = self.residents();
            let decision = self.decide(Some(&entry.resident()), &seen)?;
            let mut residents = self.0.residents.write();
            let taken = |r: &Resident| r.in_use == 0 && residents.values().any(|e| e.is(&r.key) && !e.is_free());
            let changed = self.0.changes.load(Ordering::Acquire) != changes
                || seen.iter().any(|r| decision.evict.contains(&r.key) && !r.pinned && taken(r));
            if changed && tries < TRIES {
                continue;
            }
            gone.extend(self.evict(&decision.evict, &mut residents));
            match decision.newcomer {
                Admission::Keep => {
                    residents.insert(entry.id.clone(), entry.clone());
                    self.0.changes.fetch_add(1, Ordering::AcqRel);
                }
                Admission::UseOnce => {}
                Admission::Refuse(why) => {
                    let what = format!("model {} is not admitted: {why}", entry.id.model);
                    return Err(Error::new(ErrorKind::OutOfMemory, what));
                }
            }
            break;
        }
        Ok(())
    }

    /// The policy is the host's code: no lock is held while it thinks, its panic is an error, and its answer is checked
    /// when carried out.
    fn decide(&self, newcomer: Option<&Resident>, residents: &[Resident]) -> Result<Decision> {
        catch_unwind(AssertUnwindSafe(|| self.0.policy.decide(&Snapshot { residents, newcomer, now: Instant::now() })))
            .map_err(|panic| Error::panicked("the cache policy", &*panic))
    }

    /// Takes out those of `keys` that nobody holds, to be dropped when the lock is released.
    fn evict(&self, keys: &[ModelKey], residents: &mut HashMap<Id, Arc<Entry>>) -> Vec<Arc<Entry>> {
        let named = |e: &&Arc<Entry>| e.is_free() && keys.iter().any(|key| e.is(key));
        let ids: Vec<Id> = residents.values().filter(named).map(|e| e.id.clone()).collect();
        let gone: Vec<_> = ids.iter().filter_map(|id| residents.remove(id)).collect();
        self.0.changes.fetch_add(gone.len() as u64, Ordering::AcqRel);
        self.0.evictions.fetch_add(gone.len() as u64, Ordering::AcqRel);
        gone
    }
}

impl Flight {
    /// Waits for the load as long as `job` allows.
    fn wait(&self, job: &Job) -> Result<Option<Lease>> {
        const LOOK: Duration = Duration::from_millis(20);
        let mut result = self.result.lock();
        loop {
            match &*result {
                Some(Ok(entry)) => return Ok(Some(Lease::new(entry.clone()))),
                Some(Err(e)) => return Err(e.clone()),
                None => {}
            }
            job.check()?;
            self.landed.wait_for(&mut result, LOOK);
        }
    }
}

impl std::fmt::Debug for Factory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.status().fmt(f)
    }
}
