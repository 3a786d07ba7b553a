//! `dub_request`: what to dub, and how.

use std::ffi::c_char;
use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::media::Input;
use engine::{DubRequest, Result, ScriptLine, Span, SttOptions, TtsOptions};

use crate::audio::{file, memory};
use crate::door::run;
use crate::error::{Failure, Status};
use crate::handle::{Audio, Request, free, get};
use crate::options::{Chosen, HEARING, MEDIA, REQUEST, SPEAKING, apply};
use crate::place::place;
use crate::text::{given, optional, pairs, required, seconds};

/// A request that lines may still be added to.
pub(crate) struct Wanted(Mutex<DubRequest>);

impl Wanted {
    fn lock(&self) -> MutexGuard<'_, DubRequest> {
        // Nothing is left half done in it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn copy(&self) -> DubRequest {
        self.lock().clone()
    }
}

fn wanted(input: Input, to: &str, options: &[(&str, &str)]) -> Result<Wanted> {
    let mut request = DubRequest::new(input, to.parse()?);
    let (mut chosen, mut hearing, mut speaking) = (Chosen::default(), SttOptions::default(), TtsOptions::default());
    let parts: &mut [&mut dyn crate::options::Set] = &mut [
        &mut REQUEST.of(&mut request),
        &mut MEDIA.of(&mut chosen),
        &mut HEARING.behind("stt.", &mut hearing),
        &mut SPEAKING.behind("tts.", &mut speaking),
    ];
    apply(options, "options", parts)?;
    request.input = chosen.of(request.input);
    Ok(Wanted(Mutex::new(request.limits(chosen.limits).stt(hearing).tts(speaking))))
}

/// Asks for the media file `path` to be dubbed into the language `to`. The file is read while it is dubbed. `options` may be
/// NULL: see Requests, Media, Recognition and Speech.
///
/// Errors: DUB_STATUS_UNSUPPORTED_LANGUAGE, DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_request_file(
    path: *const c_char,
    to: *const c_char,
    options: *const *const c_char,
    request: *mut Request,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let request = place(request, "request")?;
            request.put(wanted(file(path)?, required(to, "to")?, &pairs(options, "options")?)?)
        })
    }
}

/// As dub_request_file, of a media file of `length` bytes in memory, which are copied. `options` may be NULL.
///
/// Errors: as dub_request_file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_request_bytes(
    bytes: *const u8,
    length: usize,
    to: *const c_char,
    options: *const *const c_char,
    request: *mut Request,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let request = place(request, "request")?;
            request.put(wanted(memory(bytes, length)?, required(to, "to")?, &pairs(options, "options")?)?)
        })
    }
}

/// As dub_request_file, of sound. `options` may be NULL.
///
/// Errors: as dub_request_file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_request_audio(
    audio: Audio,
    to: *const c_char,
    options: *const *const c_char,
    request: *mut Request,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let request = place(request, "request")?;
            let input = Input::from(engine::Audio::clone(&*get(audio, "audio")?));
            request.put(wanted(input, required(to, "to")?, &pairs(options, "options")?)?)
        })
    }
}

/// Adds a line that is spoken instead of what the recogniser hears: the way to dub again after editing. Lines are added in
/// order of time and do not overlap; a request without any listens. `start` and `end` say when the original says `source`, in
/// seconds. `target` may be NULL, which leaves the translation to the translator.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT; what is wrong with the lines' times is found out when a run is started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_request_add_line(
    request: Request,
    start: f64,
    end: f64,
    source: *const c_char,
    target: *const c_char,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (request, source) = (get(request, "request")?, given(source, "source")?);
            let line = ScriptLine::new(Span::new(seconds(start, "start")?, seconds(end, "end")?), source);
            let line = match optional(target, "target")? {
                Some(text) => line.target(text),
                None => line,
            };
            request.lock().script.push(line);
            Ok(())
        })
    }
}

/// Frees the handle. Runs that were started by it go on.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a handle that was freed already.
#[unsafe(no_mangle)]
pub extern "C" fn dub_request_free(request: Request) -> Status {
    free(request)
}
