//! `dub_preload`: models that are loaded in the background.

use std::ffi::c_char;
use std::time::Duration;

use engine::Job as Work;

use crate::door::run;
use crate::error::{Failure, Status};
use crate::factory::{busy, loading, names};
use crate::handle::{Factory, Job, Preload, free, get};
use crate::job::job as work;
use crate::place::place;
use crate::text::{nth, pairs, texts};

/// Models that are being loaded.
pub(crate) struct Loading(engine::Preload);

/// Begins to load `count` models on a thread of their own, one after the other. `models` may be NULL where `count` is 0.
/// `options` may be NULL: see Loading. `job` may be none; it tells how far they are, and cancels what is left.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT; DUB_STATUS_OUT_OF_MEMORY where no thread can be started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_preload_start(
    factory: Factory,
    models: *const *const c_char,
    count: usize,
    options: *const *const c_char,
    job: Job,
    preload: *mut Preload,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let preload = place(preload, "preload")?;
            let (factory, models) = (get(factory, "factory")?, names(&texts(models, count, "models")?)?);
            let opts = loading(&pairs(options, "options")?)?;
            preload.put(Loading(factory.preload_in_background(&models, &opts, work(job)?)?))
        })
    }
}

/// Waits until all of them are done, for better or worse, or `job` ends; the loads go on then. `job` may be none.
///
/// Errors: what ended the job.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_preload_wait(preload: Preload, job: Job, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (preload, job) = (get(preload, "preload")?, work(job)?);
            preload.0.wait(&job).map(drop)
        })
    }
}

/// What became of the model at `index`, in the order in which they were given, from 0.
///
/// Errors: as dub_stt_load; DUB_STATUS_BUSY while not all of them are done.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_preload_outcome(preload: Preload, index: usize, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let preload = get(preload, "preload")?;
            if !preload.0.is_done() {
                return Err(busy("the models are not loaded yet: wait for them"));
            }
            let done = preload.0.wait(&Work::new().timeout(Duration::from_secs(1)))?;
            nth(&done, index, "index")?.1.clone()
        })
    }
}

/// Frees the handle. The loads go on.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a handle that was freed already.
#[unsafe(no_mangle)]
pub extern "C" fn dub_preload_free(preload: Preload) -> Status {
    free(preload)
}
