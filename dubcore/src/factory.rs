//! The [`Factory`]: loads each model once, lends it to calls, and evicts by a policy.

mod handle;
mod shelf;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use serde::Serialize;

use crate::backend::{self, Loaded};
use crate::backends;
use crate::cache::policy::{Admission, CachePolicy, Decision, KeepAll, MemoryBudget, Resident, Snapshot};
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::key::ModelKey;
use crate::runtime::{self, Job};
use crate::source::{ModelFiles, ModelRef};
use crate::stage::{Stt, Translator, Tts};
use crate::sync::{AtomicU64, Ordering};

use handle::Handle;
use shelf::{Item, Residents, Shelf, Slot};

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
    shelf: Shelf<Id, Entry, Error>,
    loads: AtomicU64,
    evictions: AtomicU64,
}

/// A set of weights: what differs only in how it is used shares one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Id {
    model: ModelRef,
    device: Device,
}

/// A loaded model.
struct Entry {
    id: Id,
    loaded: Loaded,
    since: Instant,
    /// When it was last used, in milliseconds after `since`.
    used: AtomicU64,
}

impl Item for Entry {
    fn touch(&self) {
        self.used.fetch_max(self.since.elapsed().as_millis() as u64, Ordering::AcqRel);
    }
}

/// The use of a model by one call.
type Lease = shelf::Lease<Entry>;

type Flight = shelf::Flight<Entry, Error>;

impl Entry {
    fn is(&self, key: &ModelKey) -> bool {
        key.model == self.id.model && key.device == self.id.device
    }
}

/// What a policy is told of a model.
fn resident(slot: &Slot<Entry>) -> Resident {
    let entry = &slot.item;
    let mut key = ModelKey::new(entry.id.model.clone());
    key.model_type = entry.loaded.stage.kind().into();
    key.device = entry.id.device;
    Resident {
        key,
        bytes: entry.loaded.bytes,
        in_use: slot.in_use() as usize,
        pinned: slot.pinned(),
        loaded: entry.since,
        used: entry.since + Duration::from_millis(entry.used.load(Ordering::Acquire)),
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
        Ok(Factory(Arc::new(Shared { policy, shelf: Shelf::new(), loads: AtomicU64::new(0), evictions: AtomicU64::new(0) })))
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
        let found = lease.item().loaded.stage.kind();
        if found != kind {
            return Err(Error::new(
                ErrorKind::ModelIncompatible,
                format!("model {model} is a {found}, not a {kind}: name a model made for that stage"),
            ));
        }
        Ok(Handle::new(self.clone(), id, lease.item().loaded.stage.info()))
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
        let pin = |slot: &Slot<Entry>| {
            let named = slot.item.id.model == *model;
            if named {
                slot.pin(pinned);
            }
            named
        };
        self.0.shelf.look(pin).0.contains(&true)
    }

    /// Drops a model, pinned or not, unless a call is using it. Its memory is freed at once.
    ///
    /// # Errors
    /// `Busy` if a call is using it.
    pub fn unload(&self, model: &ModelRef) -> Result<()> {
        let mut residents = self.0.shelf.residents();
        let named = |slot: &Slot<Entry>| slot.item.id.model == *model;
        if residents.slots().any(|slot| named(slot) && slot.in_use() > 0) {
            return Err(Error::new(ErrorKind::Busy, format!("model {model} is in use: try again when its calls have ended")));
        }
        let gone = residents.take(named);
        // Freeing gigabytes takes time: not under the lock.
        drop(residents);
        self.0.evictions.fetch_add(gone.len() as u64, Ordering::AcqRel);
        Ok(())
    }

    /// Asks the policy again and evicts whom it names; returns how many went. For policies that judge by age.
    pub fn sweep(&self) -> usize {
        match self.decide(None, &self.0.shelf.look(resident).0) {
            Ok(decision) => {
                // Dropped after the lock: freeing gigabytes takes time.
                let gone = self.evict(&decision.evict, &mut self.0.shelf.residents());
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
            .0
            .shelf
            .look(resident)
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

    /// The model, loaded if need be, kept from eviction until the lease is dropped.
    fn lease(&self, id: &Id, job: &Job) -> Result<Lease> {
        self.0.shelf.lease(id, || job.check(), |flight| self.launch(id.clone(), flight))
    }

    /// Loads on a thread of its own, so that everyone who waits, the first one too, keeps their own deadline and cancel.
    fn launch(&self, id: Id, flight: Arc<Flight>) {
        let (factory, key, own) = (self.clone(), id.clone(), flight.clone());
        let spawned = std::thread::Builder::new().name("dubcore-load".into()).spawn(move || {
            // Whatever happens, those who wait are told.
            let result = catch_unwind(AssertUnwindSafe(|| factory.load(&key)))
                .unwrap_or_else(|panic| Err(Error::panicked("loading a model", &*panic)));
            factory.0.shelf.land(&key, &own, result);
        });
        if let Err(e) = spawned {
            let error = Error::new(ErrorKind::OutOfMemory, "no thread could be started to load the model").with_source(e);
            self.0.shelf.land(&id, &flight, Err(error));
        }
    }

    fn load(&self, id: &Id) -> Result<Lease> {
        self.0.loads.fetch_add(1, Ordering::AcqRel);
        let span = tracing::info_span!("load", model = %id.model);
        let _inside = span.enter();
        // Parsers of foreign formats run here: a panic in one of them is a damaged model, not the end of the host.
        let loaded = catch_unwind(AssertUnwindSafe(|| backend::load(&ModelFiles::locate(&id.model)?, backends::ALL)))
            .unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::ModelCorrupt, format!("loading model {} panicked: its files are damaged", id.model)))
            })?;
        let newcomer = Lease::new(Entry { id: id.clone(), loaded, since: Instant::now(), used: AtomicU64::new(0) });
        self.admit(&newcomer)?;
        Ok(newcomer)
    }

    /// Does with a newcomer, and with others for its sake, what the policy says. Where residents changed while it thought,
    /// it is asked again: two newcomers at once must not both take the last room.
    fn admit(&self, newcomer: &Lease) -> Result<()> {
        const TRIES: usize = 16;
        let id = &newcomer.item().id;
        // Declared before the lock: freeing gigabytes takes time.
        let mut gone = Vec::new();
        for tries in 1.. {
            let (seen, changes) = self.0.shelf.look(resident);
            // Nobody uses it yet: the lease only keeps it from being evicted before those who wait for it have theirs.
            let decision = self.decide(Some(&Resident { in_use: 0, ..resident(newcomer.slot()) }), &seen)?;
            let mut residents = self.0.shelf.residents();
            let taken = |r: &Resident| r.in_use == 0 && residents.slots().any(|slot| slot.item.is(&r.key) && !slot.is_free());
            let changed =
                residents.changes() != changes || seen.iter().any(|r| decision.evict.contains(&r.key) && !r.pinned && taken(r));
            if changed && tries < TRIES {
                continue;
            }
            gone.extend(self.evict(&decision.evict, &mut residents));
            match decision.newcomer {
                Admission::Keep => residents.insert(id.clone(), newcomer),
                Admission::UseOnce => {}
                Admission::Refuse(why) => {
                    let what = format!("model {} is not admitted: {why}", id.model);
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
    fn evict(&self, keys: &[ModelKey], residents: &mut Residents<'_, Id, Entry>) -> Vec<Arc<Slot<Entry>>> {
        let gone = residents.take(|slot| slot.is_free() && keys.iter().any(|key| slot.item.is(key)));
        self.0.evictions.fetch_add(gone.len() as u64, Ordering::AcqRel);
        gone
    }
}

impl std::fmt::Debug for Factory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.status().fmt(f)
    }
}
