//! `dub_pipeline`: three stages put together.

use std::ffi::c_char;
use std::sync::Arc;

use engine::{DubModels, Dubber, LoadOptions, Result};

use crate::door::run;
use crate::error::{Failure, Status};
use crate::handle::{Audio, Factory, Job, Pipeline, Stt, Text, Translator, Tts, free, get, optional};
use crate::job::job as work;
use crate::options::{BENCHMARK, LOAD, MODELS, Set, apply};
use crate::place::place;
use crate::text::{language, pairs, required};

/// A pipeline of models that `factory` loads: those that `options` name, the rest chosen by language among the embedded
/// ones. `from` may be NULL; it is the language of the media, if that is known. `to` is the language to dub into. `options` may
/// be NULL: see Models and Loading. `job` may be none.
///
/// Errors: DUB_STATUS_UNSUPPORTED_LANGUAGE where no embedded model serves, listing what there is; else as dub_stt_load.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_pipeline_load(
    factory: Factory,
    from: *const c_char,
    to: *const c_char,
    options: *const *const c_char,
    job: Job,
    pipeline: *mut Pipeline,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let pipeline = place(pipeline, "pipeline")?;
            let factory = get(factory, "factory")?;
            let (from, to) = (language(from, "from")?, required(to, "to")?.parse()?);
            let models = models(&pairs(options, "options")?, &mut [])?;
            pipeline.put(Dubber::from_factory(&factory, &models, from, to, &work(job)?)?)
        })
    }
}

fn models(pairs: &[(&str, &str)], more: &mut [&mut dyn Set]) -> Result<DubModels> {
    let (mut models, mut opts) = (DubModels::default(), LoadOptions::default());
    let (mut named, mut loading) = (MODELS.of(&mut models), LOAD.of(&mut opts));
    let mut parts: Vec<&mut dyn Set> = vec![&mut named, &mut loading];
    parts.extend(more.iter_mut().map(|part| &mut **part as &mut dyn Set));
    apply(pairs, "options", &mut parts)?;
    Ok(models.load(opts))
}

/// A pipeline of stages that are there already. `translator` may be none, and `tts` may be none: without a voice it
/// translates, without a translator too it transcribes. The stages' own handles may be freed.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_pipeline_new(
    stt: Stt,
    translator: Translator,
    tts: Tts,
    pipeline: *mut Pipeline,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let pipeline = place(pipeline, "pipeline")?;
            let (stt, translator) = (get(stt, "stt")?, optional(translator, "translator")?);
            let tts = optional(tts, "tts")?;
            // The inner one: what the table holds is another's.
            let (translator, tts) = (translator.map(|t| Arc::clone(&*t)), tts.map(|t| Arc::clone(&*t)));
            pipeline.put(Dubber::new(Arc::clone(&*stt), translator, tts))
        })
    }
}

/// Frees the handle. Runs that were started on it go on.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a handle that was freed already.
#[unsafe(no_mangle)]
pub extern "C" fn dub_pipeline_free(pipeline: Pipeline) -> Status {
    free(pipeline)
}

/// Dubs `audio` into the language `to` several times, keeping nothing, and says how long that took: a JSON object. No result
/// comes from a cache or goes into one. `options` may be NULL: see Measuring, Models and Loading. `job` may be none.
///
/// Errors: as dub_pipeline_load and dub_run_finish; a dub in which a line fails is an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_benchmark(
    factory: Factory,
    audio: Audio,
    to: *const c_char,
    options: *const *const c_char,
    job: Job,
    report: *mut Text,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let report = place(report, "report")?;
            let (factory, audio) = (get(factory, "factory")?, get(audio, "audio")?);
            let (to, mut iterations) = (required(to, "to")?.parse()?, 3);
            let models = models(&pairs(options, "options")?, &mut [&mut BENCHMARK.of(&mut iterations)])?;
            report.put_json(Dubber::benchmark(&factory, &models, &audio, to, iterations, &work(job)?)?)
        })
    }
}
