//! Settings of a factory: the host's, then the environment's, then the defaults.

use std::sync::Arc;
use std::time::Duration;

use super::metrics::Latency;
use super::names::{Names, OwnModel};
use super::{Factory, LoadOptions, Shared, global};
use crate::cache::policy::{CachePolicy, KeepAll, MemoryBudget};
use crate::cache::results::{ResultCache, ResultCacheOptions};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::process::PerProcess;
use crate::runtime::{self, Job};
use crate::source::ModelRef;
use crate::sync::AtomicU64;

/// Settings of a new [`Factory`]. What is not set comes from the environment, then from the defaults.
#[derive(Default)]
pub struct FactoryBuilder {
    policy: Option<Box<dyn CachePolicy>>,
    cpu_threads: Option<usize>,
    results: Option<ResultCache>,
    names: Names,
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
    pub fn own_model(mut self, name: ModelRef, make: impl Fn() -> Result<OwnModel> + Send + Sync + 'static) -> Self {
        self.names.own(name, Arc::new(make));
        self
    }

    /// Where its stages, and pipelines made of them, remember their results. Default: nowhere, unless `DUBCORE_RESULT_CACHE`
    /// is `true`; then in memory, up to `DUBCORE_RESULT_CACHE_SIZE` results for `DUBCORE_RESULT_CACHE_TTL_SECONDS`, and in
    /// the folder `DUBCORE_RESULT_CACHE_DISK` if that is set.
    #[must_use]
    pub fn results(mut self, results: ResultCache) -> Self {
        self.results = Some(results);
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
        env::<Device>("DUBCORE_DEVICE", "auto or cpu")?;
        let policy: Box<dyn CachePolicy> = match self.policy {
            Some(policy) => policy,
            None => match env("DUBCORE_MEMORY_BUDGET", "a number of bytes")? {
                Some(bytes) => Box::new(MemoryBudget::new(bytes)),
                None => Box::new(KeepAll),
            },
        };
        let results = match self.results {
            Some(results) => Some(results),
            None => results_from_env()?,
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
        let factory = Factory(Arc::new(Shared { policy, results, names, live: PerProcess::new(), latencies, loads, evictions }));
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

fn results_from_env() -> Result<Option<ResultCache>> {
    if env::<bool>("DUBCORE_RESULT_CACHE", "true or false")? != Some(true) {
        return Ok(None);
    }
    let mut opts = ResultCacheOptions::default();
    if let Some(entries) = env("DUBCORE_RESULT_CACHE_SIZE", "a number of results")? {
        opts.entries = entries;
    }
    if let Some(seconds) = env("DUBCORE_RESULT_CACHE_TTL_SECONDS", "a number of seconds")? {
        opts.ttl = Duration::from_secs(seconds);
    }
    opts.disk = env("DUBCORE_RESULT_CACHE_DISK", "a folder")?;
    ResultCache::new(opts).map(Some)
}

fn env<T: std::str::FromStr>(name: &str, what: &str) -> Result<Option<T>> {
    match std::env::var(name) {
        Err(std::env::VarError::NotPresent) => Ok(None),
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => text.parse().map(Some).map_err(|_| Error::argument(format!("{name}={text:?} is wrong: it must be {what}"))),
        Err(e) => Err(Error::argument(format!("{name} is wrong: it must be {what}")).with_source(e)),
    }
}
