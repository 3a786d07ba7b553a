//! Models that are loaded in the background.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::{Factory, LoadOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Job;
use crate::source::ModelRef;
use crate::sync::{Condvar, Mutex};

type Results = Vec<(ModelRef, Result<()>)>;

/// Models that are being loaded in the background. Dropping it changes nothing; its job cancels it.
#[derive(Clone)]
pub struct Preload {
    job: Job,
    done: Arc<(Mutex<Option<Results>>, Condvar)>,
}

impl Preload {
    pub(super) fn start(factory: Factory, models: Vec<ModelRef>, opts: LoadOptions, job: Job) -> Result<Self> {
        let preload = Self { job, done: Arc::new((Mutex::new(None), Condvar::new())) };
        let own = preload.clone();
        let work = move || {
            // The job's observer is the host's code.
            let loaded = catch_unwind(AssertUnwindSafe(|| factory.preload(&models, &opts, &own.job)));
            let loaded = loaded.unwrap_or_else(|panic| {
                let e = Error::panicked("the observer of a preload", &*panic);
                models.iter().map(|_| Err(e.clone())).collect()
            });
            *own.done.0.lock() = Some(models.into_iter().zip(loaded).collect());
            own.done.1.notify_all();
        };
        std::thread::Builder::new()
            .name("dubcore-preload".into())
            .spawn(work)
            .map_err(|e| Error::new(ErrorKind::OutOfMemory, "no thread could be started to load models").with_source(e))?;
        Ok(preload)
    }

    /// Its job: progress by model, and cancel.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// What became of each model, as soon as all are done.
    ///
    /// # Errors
    /// What ends `job` first. The loads go on.
    pub fn wait(&self, job: &Job) -> Result<Vec<(ModelRef, Result<()>)>> {
        let mut done = self.done.0.lock();
        loop {
            if let Some(results) = &*done {
                return Ok(results.clone());
            }
            job.check()?;
            self.done.1.wait_for(&mut done, Duration::from_millis(20));
        }
    }

    /// Whether all are done, for better or worse.
    pub fn is_done(&self) -> bool {
        self.done.0.lock().is_some()
    }
}

impl std::fmt::Debug for Preload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Preload").field("job", &self.job).field("done", &self.is_done()).finish()
    }
}
