//! Settings of a factory: the host's, then the environment's, then the defaults.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::metrics::Latency;
use super::names::{Names, OwnModel};
use super::places::{Places, THRESHOLD};
use super::{Factory, LoadOptions, Shared, global};
use crate::cache::policy::{CachePolicy, KeepAll, Lru, MemoryBudget, NoCache, Ttl};
use crate::cache::results::{ResultCache, ResultCacheOptions};
use crate::device::Place;
use crate::error::{Error, Result};
use crate::process::PerProcess;
use crate::runtime::{self, Job};
use crate::source::{HubOptions, ModelRef, Sources};
use crate::sync::AtomicU64;

/// Settings of a new [`Factory`]. What is not set comes from the environment, then from the defaults.
#[derive(Default)]
pub struct FactoryBuilder {
    policy: Option<Box<dyn CachePolicy>>,
    idle: Option<Duration>,
    max_models: Option<usize>,
    memory_budget: Option<u64>,
    cpu_threads: Option<usize>,
    results: Option<Option<ResultCache>>,
    names: Names,
    sources: Sources,
    gpus: Vec<Place>,
    gpu_memory_threshold: Option<f64>,
}

impl FactoryBuilder {
    /// Which models stay loaded, besides what [`idle`](Self::idle), [`max_models`](Self::max_models) and
    /// [`memory_budget`](Self::memory_budget) say. Default: all, or none ([`NoCache`]) if `DUBCORE_MODEL_CACHE_ENABLED` is
    /// `false` and nothing is said here.
    #[must_use]
    pub fn policy(mut self, policy: impl CachePolicy + 'static) -> Self {
        self.policy = Some(Box::new(policy));
        self
    }

    /// How long a model that is not used stays: a [`Ttl`]. Default: for ever.
    #[must_use]
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// Most models to keep, at least 1: an [`Lru`]. Default: any number.
    #[must_use]
    pub fn max_models(mut self, models: usize) -> Self {
        self.max_models = Some(models);
        self
    }

    /// Bytes of weights, 0 for no bound: a [`MemoryBudget`]. Default: `DUBCORE_MEMORY_BUDGET`, unless there is a
    /// [`policy`](Self::policy), which then has its own; else no bound.
    #[must_use]
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = Some(bytes);
        self
    }

    /// Compute threads of the whole process, 0 for one per core. Effective before the first inference. Default:
    /// `DUBCORE_CPU_THREADS`, else 0.
    #[must_use]
    pub fn cpu_threads(mut self, n: usize) -> Self {
        self.cpu_threads = Some(n);
        self
    }

    /// The part of a GPU's memory, 0 to 1, above which nothing more is loaded on it, but on the processor. Default:
    /// `DUBCORE_GPU_MEMORY_THRESHOLD`, else 0.9.
    #[must_use]
    pub fn gpu_memory_threshold(mut self, part: f64) -> Self {
        self.gpu_memory_threshold = Some(part);
        self
    }

    /// A folder where models of the hub lie as `OWNER/NAME`, looked into before the hub's cache. Default:
    /// `DUBCORE_MODELS_DIR`, else none.
    #[must_use]
    pub fn models_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.sources.models_dir = Some(folder.into());
        self
    }

    /// How models of the Hugging Face hub are found, and whether those that are not on this machine are fetched.
    #[must_use]
    pub fn hub(mut self, opts: HubOptions) -> Self {
        self.sources.hub = opts;
        self
    }

    /// A GPU that only tests have.
    #[cfg(test)]
    pub(super) fn gpu(mut self, gpu: Place) -> Self {
        self.gpus.push(gpu);
        self
    }

    /// Lets `name` (`whisper:v2`, `translation:en-es@v2`) stand for `model`, which may be a name itself. Known without this:
    /// `whisper:default`, `whisper:v1`, `:v2` and `:v3`, `translation:en-es`, `voice:es`, for the models that they usually
    /// mean. Two names for one model share its weights; two versions of one live side by side.
    #[must_use]
    pub fn alias(mut self, name: &ModelRef, model: ModelRef) -> Self {
        self.names.add(name, model);
        self
    }

    /// Makes a model of the host's own, a cloud voice say or another engine, known as `name`: it is made by `make` when it
    /// is first asked for, on a thread of its own, once however many ask, and kept, counted and dropped like any other.
    #[must_use]
    pub fn own_model(self, name: ModelRef, make: impl Fn() -> Result<OwnModel> + Send + Sync + 'static) -> Self {
        self.names.own(name, Arc::new(make));
        self
    }

    /// Where its stages, and pipelines made of them, remember their results; `None` for nowhere. Default: nowhere, unless
    /// `DUBCORE_RESULT_CACHE` is `true`; then as [`ResultCacheOptions::from_env`] says.
    #[must_use]
    pub fn results(mut self, results: impl Into<Option<ResultCache>>) -> Self {
        self.results = Some(results.into());
        self
    }

    /// A factory of its own.
    ///
    /// # Errors
    /// `InvalidArgument` for a wrong value in the environment, naming it; `Io` for a folder of results that cannot be used.
    pub fn build(self) -> Result<Factory> {
        let threads = match self.cpu_threads {
            Some(n) => Some(n),
            None => env::<usize>("DUBCORE_CPU_THREADS", "a number of threads, 0 for all")?,
        };
        if let Some(n) = threads {
            runtime::set_threads(n);
        }
        let preferred = env("DUBCORE_DEVICE", "auto, cpu or cuda:N")?;
        let compute_type = env("DUBCORE_COMPUTE_TYPE", "auto, f32, bf16 or int8")?.unwrap_or_default();
        let threshold = match self.gpu_memory_threshold {
            Some(part) => part,
            None => env("DUBCORE_GPU_MEMORY_THRESHOLD", "a part of a GPU's memory, 0 to 1")?.unwrap_or(THRESHOLD),
        };
        if !(0.0..=1.0).contains(&threshold) {
            let what =
                format!("a GPU memory threshold (DUBCORE_GPU_MEMORY_THRESHOLD) of {threshold} is wrong: it must be 0 to 1");
            return Err(Error::argument(what));
        }
        let mut sources = self.sources;
        if sources.models_dir.is_none() {
            sources.models_dir = env("DUBCORE_MODELS_DIR", "a folder")?;
        }
        let places = Places { gpus: self.gpus, preferred, threshold };
        let silent = self.policy.is_none() && (self.idle, self.max_models, self.memory_budget) == (None, None, None);
        let budget = match self.memory_budget {
            None if self.policy.is_none() => env("DUBCORE_MEMORY_BUDGET", "a number of bytes, 0 for no bound")?,
            given => given,
        };
        let mut policy: Box<dyn CachePolicy> = match self.policy {
            Some(policy) => policy,
            None if silent && env("DUBCORE_MODEL_CACHE_ENABLED", "true or false")? == Some(false) => Box::new(NoCache),
            None => Box::new(KeepAll),
        };
        if let Some(idle) = self.idle {
            policy = Box::new(policy.and(Ttl::new(idle)));
        }
        if let Some(models) = self.max_models {
            policy = Box::new(policy.and(Lru { models }));
        }
        if let Some(bytes) = budget.filter(|bytes| *bytes > 0) {
            policy = Box::new(policy.and(MemoryBudget::new(bytes)));
        }
        let results = match self.results {
            Some(results) => results,
            None if env("DUBCORE_RESULT_CACHE", "true or false")? == Some(true) => {
                Some(ResultCache::new(ResultCacheOptions::from_env()?)?)
            }
            None => None,
        };
        let names = self.names;
        let preload = match env::<String>("DUBCORE_PRELOAD_MODELS", "names of models with commas between them")? {
            None => Vec::new(),
            Some(list) => list.split(',').map(|name| name.trim().parse()).collect::<Result<Vec<ModelRef>>>().map_err(|e| {
                Error::argument(format!(
                    "DUBCORE_PRELOAD_MODELS={list:?} is wrong: it must be names of models with commas between them"
                ))
                .with_source(e)
            })?,
        };
        let (loads, evictions) = (AtomicU64::new(0), AtomicU64::new(0));
        let latencies = std::array::from_fn(|_| Latency::new());
        let live = PerProcess::new();
        let shared = Arc::new(Shared { policy, names, places, compute_type, sources, live, latencies, loads, evictions });
        let factory = Factory { shared, results };
        if !preload.is_empty() {
            // Nobody waits for it: who needs one of the models joins its load or begins it.
            drop(factory.preload_in_background(&preload, &LoadOptions::default(), Job::new())?);
        }
        Ok(factory)
    }

    /// Makes this the factory that [`Factory::global`] returns.
    ///
    /// # Errors
    /// `InvalidArgument` if there is one already, or as for [`FactoryBuilder::build`].
    pub fn install_global(self) -> Result<&'static Factory> {
        let mut fresh = Some(self);
        // The initialiser runs only where there is no factory yet; left over, it tells that there was one.
        let factory =
            global().get_or_try_init(|| fresh.take().map_or_else(|| Err(Error::internal("initialised twice")), Self::build))?;
        match fresh {
            None => Ok(factory),
            Some(_) => Err(Error::argument("the global factory exists already: install it before its first use")),
        }
    }
}

impl ResultCacheOptions {
    /// The defaults, but for what the environment says: `DUBCORE_RESULT_CACHE_SIZE` results, for
    /// `DUBCORE_RESULT_CACHE_TTL_SECONDS`, and in the folder `DUBCORE_RESULT_CACHE_DISK`, too.
    ///
    /// # Errors
    /// `InvalidArgument` for a wrong value, naming it.
    pub fn from_env() -> Result<Self> {
        let mut opts = Self::default();
        if let Some(entries) = env("DUBCORE_RESULT_CACHE_SIZE", "a number of results")? {
            opts.entries = entries;
        }
        if let Some(seconds) = env("DUBCORE_RESULT_CACHE_TTL_SECONDS", "a number of seconds")? {
            opts.ttl = Duration::from_secs(seconds);
        }
        opts.disk = env("DUBCORE_RESULT_CACHE_DISK", "a folder")?;
        Ok(opts)
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
