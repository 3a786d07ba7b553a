//! How a factory comes to know stages of the host's own.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use engine::{OwnModel, Result, StageInfo};

use crate::door::run;
use crate::error::{Failure, Status};
use crate::handle::{Factory, get};
use crate::options::{Described, OWN, apply};
use crate::own::{Own, Synthesize, SynthesizeFn, Transcribe, TranscribeFn, Translate, TranslateFn};
use crate::text::{model, pairs, wrong};
use crate::user::{DestroyFn, User};

/// Makes C callbacks the model of that name.
///
/// # Safety
/// As for the functions that call it.
unsafe fn add<F: Copy + Send + Sync + 'static>(
    factory: Factory,
    name: *const c_char,
    options: *const *const c_char,
    call: Option<F>,
    user: (*mut c_void, DestroyFn),
    stage: fn(Arc<Own<F>>) -> OwnModel,
) -> Result<()> {
    // SAFETY: passed on.
    let (factory, name, pairs) = unsafe { (get(factory, "factory")?, model(name, "name")?, pairs(options, "options")?) };
    let call = call.ok_or_else(|| wrong("callback is NULL: it must be given"))?;
    let mut about = Described::default();
    apply(&pairs, "options", &mut [&mut OWN.of(&mut about)])?;
    let mut info = StageInfo::new(name.to_string()).languages(about.from, about.to);
    (info.sample_rate, info.revision) = (about.sample_rate, about.revision);
    let user = User::new(user.0, user.1);
    user.arm();
    let (own, bytes) = (Arc::new(Own { call, user, info }), about.bytes);
    factory.add_own_model(name, move || Ok(stage(own.clone()).bytes(bytes)));
    Ok(())
}

/// Makes `callback` the recogniser of that name in `factory`: it is loaded, shared, counted and dropped like any other model.
/// A name that is in use changes its meaning when what goes by it is loaded next. `options` may be NULL: see Stages of the
/// host's own. `user` may be NULL; it is passed on to `callback`. `destroy` may be NULL; where this call succeeds it is called
/// once with `user`, on any thread, when the name has got another meaning or the factory is gone, and no stage has the model
/// any more. Where it fails, `user` stays the caller's.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT, DUB_STATUS_UNSUPPORTED_LANGUAGE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_factory_add_stt(
    factory: Factory,
    name: *const c_char,
    options: *const *const c_char,
    callback: TranscribeFn,
    user: *mut c_void,
    destroy: DestroyFn,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe { run(error, || add::<Transcribe>(factory, name, options, callback, (user, destroy), |own| OwnModel::stt(own))) }
}

/// As dub_factory_add_stt, a translator. `options` may be NULL. `user` may be NULL. `destroy` may be NULL.
///
/// Errors: as dub_factory_add_stt.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_factory_add_translator(
    factory: Factory,
    name: *const c_char,
    options: *const *const c_char,
    callback: TranslateFn,
    user: *mut c_void,
    destroy: DestroyFn,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe { run(error, || add::<Translate>(factory, name, options, callback, (user, destroy), |own| OwnModel::translator(own))) }
}

/// As dub_factory_add_stt, a voice. `options` may be NULL. `user` may be NULL. `destroy` may be NULL.
///
/// Errors: as dub_factory_add_stt.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_factory_add_tts(
    factory: Factory,
    name: *const c_char,
    options: *const *const c_char,
    callback: SynthesizeFn,
    user: *mut c_void,
    destroy: DestroyFn,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe { run(error, || add::<Synthesize>(factory, name, options, callback, (user, destroy), |own| OwnModel::tts(own))) }
}
