//! The [`Factory`]: loads each model once, lends it to calls, and evicts by a policy.

mod batch;
mod builder;
mod chain;
mod handle;
mod health;
mod metrics;
mod names;
mod places;
mod preload;
mod shelf;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;
use serde::Serialize;

use crate::backend::{self, Loaded};
use crate::backends;
use crate::cache::policy::{Admission, CachePolicy, Decision, Resident, Snapshot};
use crate::cache::results::{ResultCache, ResultCacheStatus};
use crate::compute::ComputeType;
use crate::device::{Device, DeviceMemory, Place, ProcessMemory};
use crate::error::{Error, ErrorKind, Result};
use crate::gate::Gate;
use crate::key::ModelKey;
use crate::process::{PerProcess, give_back_memory};
use crate::runtime::Job;
use crate::source::{ModelFiles, ModelRef, Reading, Sources};
use crate::stage::{Stt, Translator, Tts, setters};
use crate::sync::{AtomicU64, Mutex, Ordering};

use batch::Batcher;
pub use batch::Batching;
pub use builder::FactoryBuilder;
use chain::{Chain, Id};
use handle::{Batchers, Handle};
pub use health::{DiskHealth, Health, HealthStatus, ModelHealth, Security};
pub use metrics::CallStatus;
use metrics::Latency;
use names::Names;
pub use names::OwnModel;
use places::Places;
pub use preload::Preload;
use shelf::{Item, Residents, Shelf, Slot};

/// How to load a model.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoadOptions {
    /// Where it shall run. What cannot run there, for want of memory say, runs on the processor, unless `mode` forbids it;
    /// a result tells where it was made.
    pub device: Device,
    /// In which numbers it shall compute: less precise ones are faster and take less memory. A model that cannot takes the
    /// nearest that it can, and tells: see [`StageInfo::compute_type`](crate::StageInfo::compute_type). The same model in two
    /// of them is loaded twice. Default: `DUBCORE_COMPUTE_TYPE`, else as [`ComputeType::Auto`] says.
    pub compute_type: ComputeType,
    /// How many calls may be in the model at once; 0 (default): any number. Calls share the weights, which never change, so
    /// that a slot costs no memory but that of the call; more replicas would serve nobody. The compute threads are those of
    /// the process in any case. A call that begins another one on the same model, from its job's observer say, needs two.
    pub pool_size: usize,
    /// How many calls may wait for their turn, first come first served; more get `Busy` at once. Default 64.
    pub queue: usize,
    /// How long a call waits for its turn before it gets `Busy`; `None` (default): as long as its job allows, and `Busy` if
    /// that ends by its deadline.
    pub queue_timeout: Option<Duration>,
    /// What to use where the model cannot be loaded, in this order. What a result came from is in its metadata. A model that
    /// could not be loaded is not tried again for half a minute. Default: nothing.
    pub fallback: Vec<ModelRef>,
    /// Whether the model itself is used, or what it falls back to.
    pub mode: LoadMode,
    /// Whether calls that come together, with the same options, are made as one: see [`Batching`]. Tokens are the same as
    /// alone; samples differ by less than 1e-5. Default: no.
    pub batch: Option<Batching>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            device: Device::default(),
            compute_type: ComputeType::default(),
            pool_size: 0,
            queue: 64,
            queue_timeout: None,
            fallback: Vec::new(),
            mode: LoadMode::Auto,
            batch: None,
        }
    }
}

/// Which of the models in [`LoadOptions`] may be used.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LoadMode {
    /// The model; where the device cannot have it, on the processor; where it cannot be loaded at all, what it falls back to.
    #[default]
    Auto,
    /// The model, on the device that was asked for, or an error.
    Memory,
    /// Only what it falls back to: to try that, or to spare the model.
    Fallback,
}

setters! { LoadOptions:
    /// Sets [`LoadOptions::device`].
    device: Device,
    /// Sets [`LoadOptions::compute_type`].
    compute_type: ComputeType,
    /// Sets [`LoadOptions::pool_size`].
    pool_size: usize,
    /// Sets [`LoadOptions::queue`].
    queue: usize,
    /// Sets [`LoadOptions::queue_timeout`].
    queue_timeout: impl Into<Option<Duration>>,
    /// Sets [`LoadOptions::fallback`].
    fallback: Vec<ModelRef>,
    /// Sets [`LoadOptions::mode`].
    mode: LoadMode,
    /// Sets [`LoadOptions::batch`].
    batch: impl Into<Option<Batching>>,
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
pub struct Factory {
    shared: Arc<Shared>,
    results: Option<ResultCache>,
}

struct Shared {
    policy: Box<dyn CachePolicy>,
    names: Names,
    places: Places,
    /// What [`ComputeType::Auto`] stands for, if it was decided.
    compute_type: ComputeType,
    sources: Sources,
    live: PerProcess<Live>,
    /// In the order of [`KINDS`].
    latencies: [Latency; 3],
    loads: AtomicU64,
    evictions: AtomicU64,
}

/// The kinds of stages.
const KINDS: [&str; 3] = ["stt", "translator", "tts"];

/// What has locks, and so is each process's own. A child finds the models that its parent had, with the same memory.
struct Live {
    shelf: Shelf<Id, Entry, Error>,
    /// What was unloaded while it was in use, or is used only once: it goes when its last call ends, and is counted until
    /// then.
    leaving: Mutex<Vec<Weak<Slot<Entry>>>>,
    /// How far the loads are.
    reading: Mutex<HashMap<Id, Arc<Reading>>>,
    /// Those who wait for their turn, by model and slots.
    gates: Mutex<HashMap<(Id, usize), Arc<Gate>>>,
    batchers: Mutex<HashMap<(Chain, Batching), Arc<Batchers>>>,
    /// The models that could not be loaded when they were last asked for.
    failures: Mutex<HashMap<Id, (Error, Instant)>>,
}

/// A loaded model.
struct Entry {
    id: Id,
    loaded: Loaded,
    since: Instant,
    /// When it was last used, in nanoseconds after `since`.
    used: AtomicU64,
}

impl Item for Entry {
    fn touch(&self) {
        self.used.fetch_max(self.since.elapsed().as_nanos() as u64, Ordering::AcqRel);
    }
}

/// The use of a model by one call.
type Lease = shelf::Lease<Entry>;

type Flight = shelf::Flight<Entry, Error>;

impl Entry {
    fn is(&self, key: &ModelKey) -> bool {
        self.id.is(key)
    }
}

/// What a policy is told of a model.
fn resident(slot: &Slot<Entry>) -> Resident {
    let entry = &slot.item;
    let mut key = ModelKey::new(entry.id.model.clone());
    key.model_type = entry.loaded.stage.kind().into();
    key.device = entry.id.device;
    key.compute_type = entry.id.compute_type.to_string();
    Resident {
        key,
        bytes: entry.loaded.bytes,
        in_use: slot.in_use() as usize,
        pinned: slot.pinned(),
        loaded: entry.since,
        used: entry.since + Duration::from_nanos(entry.used.load(Ordering::Acquire)),
    }
}

/// Double-checked: readers see the finished factory without a lock, the first ones agree under a lock on who makes it.
/// Each process has its own cell, for a fork in the midst of this would leave a child's half done.
static GLOBAL: PerProcess<OnceCell<Factory>> = PerProcess::new();

fn global() -> &'static OnceCell<Factory> {
    let inherit = |parents: &OnceCell<Factory>| parents.get().map_or_else(OnceCell::new, |f| OnceCell::with_value(f.clone()));
    GLOBAL.get_with(|parents| parents.map_or_else(OnceCell::new, inherit))
}

/// What a factory holds.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
pub struct FactoryStatus {
    /// The loaded models, by key.
    pub residents: Vec<ResidentStatus>,
    /// Bytes of all their weights.
    pub bytes: u64,
    /// The process's memory, measured.
    pub memory: ProcessMemory,
    /// The memory of each device.
    pub devices: Vec<DeviceMemory>,
    /// The models that are being loaded.
    pub loading: Vec<LoadingStatus>,
    /// Loads since the beginning, failed ones included.
    pub loads: u64,
    /// Evictions since the beginning.
    pub evictions: u64,
    /// How the calls went, by kind of stage.
    pub calls: Vec<CallStatus>,
    /// The cache of results, if there is one.
    pub results: Option<ResultCacheStatus>,
}

/// A model that is being loaded.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadingStatus {
    /// Which.
    pub model: ModelRef,
    /// Calls that wait for it.
    pub waiting: usize,
    /// Bytes of its weights that were read.
    pub bytes: u64,
    /// Bytes of its weights; 0 as long as it is not known.
    pub all_bytes: u64,
    /// Bytes that were fetched from the hub.
    pub downloaded: u64,
    /// Bytes that have to be; 0 where the model is on this machine.
    pub to_download: u64,
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
    /// Calls that wait for their turn: see [`LoadOptions::pool_size`].
    pub waiting: usize,
    /// Whether it is pinned.
    pub pinned: bool,
    /// Whether it goes when the calls that use it end: it was unloaded, or is used only once.
    pub leaving: bool,
    /// How long it has not been used.
    pub idle: Duration,
}

impl Live {
    fn new(inherited: Option<&Self>) -> Self {
        let shelf = inherited.map_or_else(Shelf::new, |parents| parents.shelf.inherit());
        Self {
            shelf,
            leaving: Mutex::default(),
            reading: Mutex::default(),
            gates: Mutex::default(),
            batchers: Mutex::default(),
            failures: Mutex::default(),
        }
    }
}

impl Factory {
    fn live(&self) -> &Live {
        self.shared.live.get_with(Live::new)
    }

    /// The process-wide factory, made at the first call from the environment's settings.
    ///
    /// # Errors
    /// As for [`FactoryBuilder::build`]; the next call tries again.
    pub fn global() -> Result<&'static Self> {
        global().get_or_try_init(|| FactoryBuilder::default().build())
    }

    /// Settings for a factory.
    pub fn builder() -> FactoryBuilder {
        FactoryBuilder::default()
    }

    /// A recogniser. The model is loaded now, unless it is already.
    ///
    /// # Errors
    /// `ModelNotFound`, `Network`, `ModelCorrupt`, `ModelIncompatible`, `OutOfMemory`, or what ended `job`. A failed load is
    /// reported to everyone who waited for it; the next call tries again.
    pub fn stt(&self, model: &ModelRef, opts: &LoadOptions, job: &Job) -> Result<Arc<dyn Stt>> {
        let stt: Arc<dyn Stt> = Arc::new(self.handle(model, opts, "stt", job)?);
        Ok(self.results().map_or(stt.clone(), |r| r.stt(stt)))
    }

    /// A translator, as [`Factory::stt`].
    ///
    /// # Errors
    /// As for [`Factory::stt`].
    pub fn translator(&self, model: &ModelRef, opts: &LoadOptions, job: &Job) -> Result<Arc<dyn Translator>> {
        let translator: Arc<dyn Translator> = Arc::new(self.handle(model, opts, "translator", job)?);
        Ok(self.results().map_or(translator.clone(), |r| r.translator(translator)))
    }

    /// A voice, as [`Factory::stt`].
    ///
    /// # Errors
    /// As for [`Factory::stt`].
    pub fn tts(&self, model: &ModelRef, opts: &LoadOptions, job: &Job) -> Result<Arc<dyn Tts>> {
        let tts: Arc<dyn Tts> = Arc::new(self.handle(model, opts, "tts", job)?);
        Ok(self.results().map_or(tts.clone(), |r| r.tts(tts)))
    }

    fn handle(&self, model: &ModelRef, opts: &LoadOptions, kind: &'static str, job: &Job) -> Result<Handle> {
        let chain = self.chain(model, opts)?;
        let (lease, _, _) = self.lease_first(&chain, Some(kind), |id| self.lease(id, job))?;
        Ok(Handle::new(self.clone(), chain, kind, lease.item().loaded.stage.info(), opts.clone()))
    }

    /// As [`Factory::preload`], on a thread of its own. The models that `DUBCORE_PRELOAD_MODELS` lists, with commas between
    /// them, are loaded so as soon as a factory is built.
    ///
    /// # Errors
    /// `OutOfMemory` where no thread can be started.
    pub fn preload_in_background(&self, models: &[ModelRef], opts: &LoadOptions, job: Job) -> Result<Preload> {
        Preload::start(self.clone(), models.to_vec(), opts.clone(), job)
    }

    /// Loads models and runs each once on next to nothing, so that the first real call finds all that is made on first use.
    /// Says how long each of these runs took; a failure does not keep the others from warming up.
    pub fn warm_up(&self, models: &[ModelRef], opts: &LoadOptions, job: &Job) -> Vec<Result<Duration>> {
        let share = 1.0 / models.len().max(1) as f64;
        let one = |model: &ModelRef| {
            let part = job.child(model.to_string(), share);
            let ids = self.ids(model, opts)?;
            let (lease, at, _) = self.lease_first(&ids, None, |id| self.lease_watched(id, &part))?;
            let stage = lease.item().loaded.stage.clone();
            let handle = Handle::new(self.clone(), ids[at..].into(), stage.kind(), stage.info(), opts.clone());
            let began = Instant::now();
            handle.warm_up(&stage, &part.quiet())?;
            part.report(1.0);
            Ok(began.elapsed())
        };
        models.iter().map(one).collect()
    }

    /// Loads models, one after the other, so that later calls find them. One result per model: a failure does not
    /// keep the others from loading.
    pub fn preload(&self, models: &[ModelRef], opts: &LoadOptions, job: &Job) -> Vec<Result<()>> {
        let share = 1.0 / models.len().max(1) as f64;
        models
            .iter()
            .map(|model| {
                let part = job.child(model.to_string(), share);
                let ids = self.ids(model, opts);
                let result = ids.and_then(|ids| self.lease_first(&ids, None, |id| self.lease_watched(id, &part))).map(drop);
                part.report(1.0);
                result
            })
            .collect()
    }

    /// Keeps a loaded model from being evicted, or allows it again. Says whether the model is loaded.
    pub fn pin(&self, model: &ModelRef, pinned: bool) -> bool {
        let Ok(model) = &self.shared.names.resolve(model) else { return false };
        let pin = |slot: &Slot<Entry>| {
            let named = slot.item.id.model == *model;
            if named {
                slot.pin(pinned);
            }
            named
        };
        self.live().shelf.look(pin).0.contains(&true)
    }

    /// Drops a model, pinned or not, and waits until its memory is free. Calls that use it end first, unharmed; calls that
    /// begin from now on load it again.
    ///
    /// # Errors
    /// `Busy` if calls still use it at the deadline of `job`: it goes by itself when they end. `Cancelled` likewise.
    pub fn unload(&self, model: &ModelRef, job: &Job) -> Result<()> {
        let model = self.shared.names.resolve(model)?;
        self.unload_all(|slot| slot.item.id.model == model, job)
    }

    /// Drops every model, pinned or not, as [`Factory::unload`] does, for a host whose configuration changed. Handles stay
    /// good: their next call loads what it needs.
    ///
    /// # Errors
    /// As for [`Factory::unload`].
    pub fn clear(&self, job: &Job) -> Result<()> {
        self.unload_all(|_| true, job)
    }

    fn unload_all(&self, which: impl Fn(&Slot<Entry>) -> bool, job: &Job) -> Result<()> {
        let taken = self.take_off(&mut self.live().shelf.residents(), which);
        let weak: Vec<_> = taken.iter().map(Arc::downgrade).collect();
        let names: Vec<_> = taken.iter().map(|slot| slot.item.id.model.to_string()).collect();
        self.live().leaving.lock().extend(weak.iter().cloned());
        // What nobody uses is freed here, the rest by the calls that use it.
        drop(taken);
        while weak.iter().any(|slot| slot.strong_count() > 0) {
            job.check().map_err(|e| match e.kind() {
                ErrorKind::DeadlineExceeded => {
                    let what = format!("{} still in use: the memory is freed when the calls end", names.join(", "));
                    Error::new(ErrorKind::Busy, what)
                }
                _ => e,
            })?;
            std::thread::sleep(Duration::from_millis(2));
        }
        if !weak.is_empty() {
            give_back_memory();
        }
        Ok(())
    }

    /// What was unloaded and is still in use.
    fn leaving(&self) -> Vec<Resident> {
        let mut leaving = self.live().leaving.lock();
        leaving.retain(|slot| slot.strong_count() > 0);
        let slots: Vec<_> = leaving.iter().filter_map(Weak::upgrade).collect();
        drop(leaving);
        // In use, whatever the count says: it must not be taken for one that can be evicted.
        slots.iter().map(|slot| Resident { in_use: (slot.in_use() as usize).max(1), ..resident(slot) }).collect()
    }

    /// Asks the policy again and evicts whom it names; returns how many went. For policies that judge by age. Results that
    /// are too old go, too.
    pub fn sweep(&self) -> usize {
        if let Some(results) = &self.results {
            results.sweep();
        }
        match self.decide(None, &self.live().shelf.look(resident).0) {
            Ok(decision) => {
                // Dropped after the lock: freeing gigabytes takes time.
                let gone = self.evict(&decision.evict, &mut self.live().shelf.residents());
                Self::free(gone)
            }
            Err(e) => {
                tracing::error!("nothing is evicted: {}", e.report());
                0
            }
        }
    }

    /// Where its stages remember their results.
    pub fn results(&self) -> Option<&ResultCache> {
        self.results.as_ref()
    }

    /// As [`FactoryBuilder::own_model`], for a factory that is there already, as the global one may be. What goes by that name
    /// and is loaded stays until it is unloaded.
    pub fn add_own_model(&self, name: ModelRef, make: impl Fn() -> Result<OwnModel> + Send + Sync + 'static) {
        self.shared.names.own(name, Arc::new(make));
    }

    /// The same factory, for stages that remember nothing.
    #[must_use]
    pub fn without_results(&self) -> Self {
        Self { shared: self.shared.clone(), results: None }
    }

    /// What is loaded.
    pub fn status(&self) -> FactoryStatus {
        let now = Instant::now();
        let residents = self.live().shelf.look(resident).0.into_iter().map(|r| (r, false));
        let mut residents: Vec<ResidentStatus> = residents
            .chain(self.leaving().into_iter().map(|r| (r, true)))
            .map(|(r, leaving)| ResidentStatus {
                leaving,
                waiting: self.waiting_for(&r.key),
                key: r.key,
                bytes: r.bytes,
                in_use: r.in_use,
                pinned: r.pinned,
                idle: if r.in_use > 0 { Duration::ZERO } else { now.saturating_duration_since(r.used) },
            })
            .collect();
        residents.sort_by_key(|r| r.key.to_string());
        let loading = self.live().shelf.loading().into_iter().map(|(id, waiting)| {
            let reading = self.reading(&id);
            let (bytes, all_bytes) = reading.bytes();
            let (downloaded, to_download) = reading.download();
            LoadingStatus { model: id.model, waiting, bytes, all_bytes, downloaded, to_download }
        });
        let mut loading: Vec<_> = loading.collect();
        loading.sort_by_key(|l| l.model.to_string());
        FactoryStatus {
            bytes: residents.iter().map(|r| r.bytes).sum(),
            residents,
            memory: ProcessMemory::now(),
            devices: self.shared.places.memory(),
            loading,
            loads: self.shared.loads.load(Ordering::Acquire),
            evictions: self.shared.evictions.load(Ordering::Acquire),
            calls: KINDS.iter().zip(&self.shared.latencies).map(|(kind, latency)| latency.status(kind)).collect(),
            results: self.results().map(ResultCache::status),
        }
    }

    /// Counts a call to a stage of that kind.
    fn count_call(&self, kind: &str, time: Duration, failed: bool) {
        if let Some(latency) = KINDS.iter().position(|k| *k == kind).and_then(|i| self.shared.latencies.get(i)) {
            latency.add(time, failed);
        }
    }

    fn waiting_for(&self, key: &ModelKey) -> usize {
        let gates = self.live().gates.lock();
        let of = gates.iter().filter(|((id, _), _)| id.is(key));
        of.map(|(_, gate)| gate.waiting()).sum()
    }

    fn gate(&self, id: &Id, slots: usize) -> Arc<Gate> {
        self.live().gates.lock().entry((id.clone(), slots)).or_insert_with(|| Gate::new(slots)).clone()
    }

    fn batchers(&self, chain: &Chain, opts: Batching) -> Arc<Batchers> {
        let fresh = || {
            let (stt, translator, tts) = (Batcher::new(opts), Batcher::new(opts), Batcher::new(opts));
            Arc::new(Batchers { stt, translator, tts })
        };
        self.live().batchers.lock().entry((chain.clone(), opts)).or_insert_with(fresh).clone()
    }

    /// As [`Factory::lease`], and `job` hears how far the load is.
    fn lease_watched(&self, id: &Id, job: &Job) -> Result<Lease> {
        self.lease_while(id, || {
            job.report(self.reading(id).fraction());
            job.check()
        })
    }

    /// How far a load is.
    fn reading(&self, id: &Id) -> Arc<Reading> {
        self.live().reading.lock().get(id).cloned().unwrap_or_default()
    }

    /// The model, loaded if need be, kept from eviction until the lease is dropped.
    fn lease(&self, id: &Id, job: &Job) -> Result<Lease> {
        self.lease_while(id, || job.check())
    }

    fn lease_while(&self, id: &Id, check: impl FnMut() -> Result<()>) -> Result<Lease> {
        self.shared.places.check(id.device)?;
        self.live().shelf.lease(id, check, |flight| self.launch(id.clone(), flight))
    }

    /// Loads on a thread of its own, so that everyone who waits, the first one too, keeps their own deadline and cancel.
    fn launch(&self, id: Id, flight: Arc<Flight>) {
        let (factory, key, own) = (self.clone(), id.clone(), flight.clone());
        let spawned = std::thread::Builder::new().name("dubcore-load".into()).spawn(move || {
            // Whatever happens, those who wait are told.
            let result = catch_unwind(AssertUnwindSafe(|| factory.load(&key)))
                .unwrap_or_else(|panic| Err(Error::panicked("loading a model", &*panic)));
            factory.live().reading.lock().remove(&key);
            factory.live().note_load(&key, result.as_ref().err());
            factory.live().shelf.land(&key, &own, result);
        });
        if let Err(e) = spawned {
            let error = Error::new(ErrorKind::OutOfMemory, "no thread could be started to load the model").with_source(e);
            self.live().shelf.land(&id, &flight, Err(error));
        }
    }

    fn load(&self, id: &Id) -> Result<Lease> {
        self.shared.loads.fetch_add(1, Ordering::AcqRel);
        let span = tracing::info_span!("load", model = %id.model);
        let _inside = span.enter();
        let loaded = match self.shared.names.maker(&id.model) {
            Some(make) => catch_unwind(AssertUnwindSafe(|| make().map(Loaded::from)))
                .unwrap_or_else(|panic| Err(Error::panicked("the maker of a model", &*panic))),
            None => self.load_on(id, |place| self.read(id, place)),
        }?;
        let newcomer = Lease::new(Entry { id: id.clone(), loaded, since: Instant::now(), used: AtomicU64::new(0) });
        self.admit(&newcomer)?;
        Ok(newcomer)
    }

    /// Loads a model from its files.
    fn read(&self, id: &Id, place: &Place) -> Result<Loaded> {
        let reading = Arc::<Reading>::default();
        self.live().reading.lock().insert(id.clone(), reading.clone());
        let files = ModelFiles::locate_in(&id.model, &self.shared.sources, reading)?;
        backend::load(&files, place, id.compute_type, backends::ALL)
    }

    /// Does with a newcomer, and with others for its sake, what the policy says. Where residents changed while it thought,
    /// it is asked again: two newcomers at once must not both take the last room.
    fn admit(&self, newcomer: &Lease) -> Result<()> {
        const TRIES: usize = 16;
        let id = &newcomer.item().id;
        // Declared before the lock: freeing gigabytes takes time.
        let mut gone = Vec::new();
        for tries in 1.. {
            let (seen, changes) = self.live().shelf.look(resident);
            // Nobody uses it yet: the lease only keeps it from being evicted before those who wait for it have theirs.
            let decision = self.decide(Some(&Resident { in_use: 0, ..resident(newcomer.slot()) }), &seen)?;
            let mut residents = self.live().shelf.residents();
            let taken = |r: &Resident| r.in_use == 0 && residents.slots().any(|slot| slot.item.is(&r.key) && !slot.is_free());
            let changed =
                residents.changes() != changes || seen.iter().any(|r| decision.evict.contains(&r.key) && !r.pinned && taken(r));
            if changed && tries < TRIES {
                continue;
            }
            gone.extend(self.evict(&decision.evict, &mut residents));
            match decision.newcomer {
                Admission::Keep => residents.insert(id.clone(), newcomer),
                Admission::UseOnce => self.live().leaving.lock().push(newcomer.weak()),
                Admission::Refuse(why) => {
                    let what = format!("model {} is not admitted: {why}", id.model);
                    return Err(Error::new(ErrorKind::OutOfMemory, what));
                }
            }
            break;
        }
        Self::free(gone);
        Ok(())
    }

    /// Frees what was taken off; returns how much it was.
    fn free(gone: Vec<Arc<Slot<Entry>>>) -> usize {
        let count = gone.len();
        drop(gone);
        if count > 0 {
            give_back_memory();
        }
        count
    }

    /// The policy is the host's code: no lock is held while it thinks, its panic is an error, and its answer is checked
    /// when carried out.
    fn decide(&self, newcomer: Option<&Resident>, residents: &[Resident]) -> Result<Decision> {
        // What was unloaded takes its place as long as it is in use.
        let residents = &[residents, &self.leaving()].concat();
        let snapshot = Snapshot { residents, newcomer, now: Instant::now() };
        catch_unwind(AssertUnwindSafe(|| self.shared.policy.decide(&snapshot)))
            .map_err(|panic| Error::panicked("the cache policy", &*panic))
    }

    /// Takes out those of `keys` that nobody holds, to be dropped when the lock is released.
    fn evict(&self, keys: &[ModelKey], residents: &mut Residents<'_, Id, Entry>) -> Vec<Arc<Slot<Entry>>> {
        self.take_off(residents, |slot| slot.is_free() && keys.iter().any(|key| slot.item.is(key)))
    }

    /// Takes residents out, and counts them.
    fn take_off(&self, residents: &mut Residents<'_, Id, Entry>, which: impl Fn(&Slot<Entry>) -> bool) -> Vec<Arc<Slot<Entry>>> {
        let gone = residents.take(which);
        self.shared.evictions.fetch_add(gone.len() as u64, Ordering::AcqRel);
        gone
    }
}

impl std::fmt::Debug for Factory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.status().fmt(f)
    }
}
