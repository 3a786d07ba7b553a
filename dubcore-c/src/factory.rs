//! `dub_factory`: what is loaded, kept, dropped, and told of it.

use std::ffi::{c_char, c_int};
use std::sync::Arc;

use engine::{Error, ErrorKind, Factory as Engine, LoadOptions, ModelRef, Result, ResultCache};

use crate::door::run;
use crate::error::{Failure, Status};
use crate::handle::{Factory, Job, Text, free, get};
use crate::job::job as work;
use crate::options::{FACTORY, LOAD, PRELOAD, Settings, apply};
use crate::place::place;
use crate::text::{model, optional, pairs, texts};

/// A factory of its own. `settings` may be NULL: see Settings. What they leave out comes from the environment, then from the
/// defaults.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT, also for a wrong value in the environment, which it names; DUB_STATUS_IO for a folder
/// of results that cannot be used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_factory_new(settings: *const *const c_char, factory: *mut Factory, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let factory = place(factory, "factory")?;
            let mut given = Settings::default();
            apply(&pairs(settings, "settings")?, "settings", &mut [&mut FACTORY.of(&mut given)])?;
            factory.put(build(given)?)
        })
    }
}

fn build(given: Settings) -> Result<Engine> {
    let builder = given.builder.into_iter().fold(Engine::builder(), |builder, step| step(builder)).hub(given.hub);
    match (given.no_results, given.results) {
        (true, _) => builder.results(None),
        (false, Some(results)) => builder.results(ResultCache::new(results)?),
        (false, None) => builder,
    }
    .build()
}

/// A handle to the process's own factory, made at the first call from the environment's settings. Freeing the handle leaves
/// the factory as it is.
///
/// Errors: as dub_factory_new; the next call tries again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_factory_default(factory: *mut Factory, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let factory = place(factory, "factory")?;
            factory.put(Engine::global()?.clone())
        })
    }
}

/// How `pairs` want a model to be loaded.
pub(crate) fn loading(pairs: &[(&str, &str)]) -> Result<LoadOptions> {
    let mut opts = LoadOptions::default();
    apply(pairs, "options", &mut [&mut LOAD.of(&mut opts)])?;
    Ok(opts)
}

/// What the loading of one model is asked for with.
///
/// # Safety
/// As for [`model`](crate::text::model) and [`pairs`].
pub(crate) unsafe fn asked(
    factory: Factory,
    model: *const c_char,
    options: *const *const c_char,
    job: Job,
) -> Result<(Arc<Engine>, ModelRef, LoadOptions, engine::Job)> {
    // SAFETY: passed on.
    unsafe {
        let (factory, model) = (get(factory, "factory")?, crate::text::model(model, "model")?);
        Ok((factory, model, loading(&pairs(options, "options")?)?, work(job)?))
    }
}

pub(crate) fn names(models: &[&str]) -> Result<Vec<ModelRef>> {
    models.iter().map(|name| name.parse()).collect()
}

/// Loads `count` models, one after the other, so that later calls find them. A failure does not keep the others from loading;
/// the first one is returned. `models` may be NULL where `count` is 0. `options` may be NULL: see Preloading and Loading.
/// `job` may be none.
///
/// Errors: as dub_stt_load.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_factory_preload(
    factory: Factory,
    models: *const *const c_char,
    count: usize,
    options: *const *const c_char,
    job: Job,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (factory, models) = (get(factory, "factory")?, names(&texts(models, count, "models")?)?);
            let (mut warm, mut opts) = (false, LoadOptions::default());
            apply(&pairs(options, "options")?, "options", &mut [&mut PRELOAD.of(&mut warm), &mut LOAD.of(&mut opts)])?;
            let job = work(job)?;
            match warm {
                true => factory.warm_up(&models, &opts, &job).into_iter().try_for_each(|one| one.map(drop)),
                false => factory.preload(&models, &opts, &job).into_iter().collect(),
            }
        })
    }
}

/// Drops a model, or all of them where `model` is NULL, pinned or not, and waits until its memory is free. Calls that use it
/// end first, unharmed; calls that begin from now on load it again. `model` may be NULL. `job` may be none; a stage of the
/// host's own that unloads itself from its callback must give one with a deadline, for it waits for itself.
///
/// Errors: DUB_STATUS_BUSY if calls still use it at the job's deadline: it then goes when they end. DUB_STATUS_CANCELLED
/// likewise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_factory_unload(factory: Factory, model: *const c_char, job: Job, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (factory, model, job) = (get(factory, "factory")?, optional(model, "model")?, work(job)?);
            match model {
                Some(model) => factory.unload(&model.parse()?, &job),
                None => factory.clear(&job),
            }
        })
    }
}

/// Keeps a loaded model from being evicted, or, where `pinned` is 0, allows it again. Says whether it is loaded.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_factory_pin(
    factory: Factory,
    model: *const c_char,
    pinned: c_int,
    loaded: *mut bool,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let loaded = place(loaded, "loaded")?;
            loaded.set(get(factory, "factory")?.pin(&self::model(model, "model")?, pinned != 0));
            Ok(())
        })
    }
}

/// Lets go what is too old: models, by the setting "idle", and results. Says how many models went.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_factory_sweep(factory: Factory, gone: *mut usize, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let gone = place(gone, "gone")?;
            gone.set(get(factory, "factory")?.sweep());
            Ok(())
        })
    }
}

/// Forgets all results.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_factory_clear_results(factory: Factory, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            if let Some(results) = get(factory, "factory")?.results() {
                results.clear();
            }
            Ok(())
        })
    }
}

/// What is loaded, how much memory there is, how calls went: a JSON object; times are in seconds.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_factory_status(factory: Factory, status: *mut Text, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let status = place(status, "status")?;
            status.put_json(get(factory, "factory")?.status())
        })
    }
}

/// Whether it can do its work: a JSON object, whose "status" is "healthy", "degraded" or "unhealthy".
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_factory_health(factory: Factory, health: *mut Text, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let health = place(health, "health")?;
            health.put_json(get(factory, "factory")?.health())
        })
    }
}

/// The figures of dub_factory_status as Prometheus reads them.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_factory_metrics(factory: Factory, metrics: *mut Text, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let metrics = place(metrics, "metrics")?;
            metrics.put_text(&get(factory, "factory")?.status().prometheus())
        })
    }
}

/// Frees the handle. Its models go with the last stage, pipeline and call that have the factory.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a handle that was freed already.
#[unsafe(no_mangle)]
pub extern "C" fn dub_factory_free(factory: Factory) -> Status {
    free(factory)
}

/// The names of the models that are embedded in the library: a JSON array of texts.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_embedded_models(models: *mut Text, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let models = place(models, "models")?;
            let mut names: Vec<_> = ModelRef::embedded().iter().map(ToString::to_string).collect();
            names.sort();
            models.put_json(names)
        })
    }
}

/// That something is not ready yet.
pub(crate) fn busy(what: &str) -> Error {
    Error::new(ErrorKind::Busy, what)
}
