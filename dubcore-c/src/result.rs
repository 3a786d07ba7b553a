//! `dub_result`: what became of a dub.

use std::ffi::{CString, c_char};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use engine::{Dub, Error, ErrorKind, Result, subtitle};

use crate::door::run;
use crate::error::{Failure, Status};
use crate::handle::{DubResult, Line, free, get};
use crate::line::Dubbed;
use crate::place::place;
use crate::stt::once;
use crate::text::{c_string, nth, required};

/// A dub, with its texts as C has them.
pub(crate) struct Finished {
    /// Saving adds to its files; the rest never changes.
    dub: Mutex<Dub>,
    from: CString,
    to: CString,
    /// The subtitles: of the original, of the dub.
    srt: [OnceLock<CString>; 2],
    vtt: [OnceLock<CString>; 2],
    report: OnceLock<CString>,
    /// Paths that were asked for, in the order of the dub's files.
    files: Mutex<Vec<CString>>,
}

/// How cues become a file of subtitles.
type Write = fn(&[(engine::Span, String)]) -> Result<String>;

impl Finished {
    pub(crate) fn of(dub: Dub) -> Self {
        let code = |lang: engine::Lang| c_string(lang.code());
        let (from, to) = (code(dub.from), code(dub.to));
        let (srt, vtt) = Default::default();
        Self { dub: Mutex::new(dub), from, to, srt, vtt, report: OnceLock::new(), files: Mutex::default() }
    }

    fn dub(&self) -> MutexGuard<'_, Dub> {
        // Nothing is left half done in it.
        self.dub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which subtitles are those of a language: 0 of the original, 1 of the dub.
    fn side(&self, language: &str) -> Result<usize> {
        let (dub, wanted) = (self.dub(), language.parse::<engine::Lang>()?);
        match wanted {
            lang if lang == dub.to => Ok(1),
            lang if lang == dub.from => Ok(0),
            lang => {
                let what = format!("language: this dub is from {} to {}, and has nothing in {lang}", dub.from, dub.to);
                Err(Error::new(ErrorKind::UnsupportedLanguage, what))
            }
        }
    }

    fn cues(&self, side: usize) -> Vec<(engine::Span, String)> {
        if side == 1 { self.dub().target_cues() } else { self.dub().source_cues() }
    }

    /// The cues in a language as `write` writes them, kept where `made` has room for both languages.
    fn subtitles(&self, language: &str, made: &[OnceLock<CString>; 2], write: Write) -> Result<*const c_char> {
        let side = self.side(language)?;
        once(&made[side], || write(&self.cues(side)))
    }
}

/// Whether the dub is complete: every line is there and the track is whole; and whether it was cut short: its job was
/// cancelled or the deadline passed, and there is no track.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_result_complete(
    result: DubResult,
    complete: *mut bool,
    cut_short: *mut bool,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (complete, cut_short) = (place(complete, "complete")?, place(cut_short, "cut_short")?);
            let finished = get(result, "result")?;
            let dub = finished.dub();
            complete.set(dub.complete);
            cut_short.set(dub.cut_short);
            Ok(())
        })
    }
}

/// The language of the original and that of the dub, as codes that live as long as the handle, and the length of the media in
/// seconds.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_result_languages(
    result: DubResult,
    from: *mut *const c_char,
    to: *mut *const c_char,
    duration: *mut f64,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (from, to, duration) = (place(from, "from")?, place(to, "to")?, place(duration, "duration")?);
            let finished = get(result, "result")?;
            from.set(finished.from.as_ptr());
            to.set(finished.to.as_ptr());
            duration.set(finished.dub().duration.as_secs_f64());
            Ok(())
        })
    }
}

/// How many lines were dubbed, how many failed, and how many files were written.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_result_counts(
    result: DubResult,
    lines: *mut usize,
    failed: *mut usize,
    files: *mut usize,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (lines, failed, files) = (place(lines, "lines")?, place(failed, "failed")?, place(files, "files")?);
            let finished = get(result, "result")?;
            let dub = finished.dub();
            lines.set(dub.lines.len());
            failed.set(dub.failed.len());
            files.set(dub.files.len());
            Ok(())
        })
    }
}

/// The dubbed line at `index`, from 0, in order of time, without its sound: a handle of its own.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_result_line(result: DubResult, index: usize, line: *mut Line, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let line = place(line, "line")?;
            let found = nth(&get(result, "result")?.dub().lines, index, "index")?.clone();
            line.put(Dubbed::of(found))
        })
    }
}

/// The line at `index` among those that failed, from 0: a handle of its own, with what the original says; dub_line_outcome
/// tells why it failed.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_result_failed(result: DubResult, index: usize, line: *mut Line, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let line = place(line, "line")?;
            let found = Dubbed::failed(nth(&get(result, "result")?.dub().failed, index, "index")?);
            line.put(found)
        })
    }
}

/// The path at `index`, from 0, of the files that were written. It lives as long as the handle.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_result_file(
    result: DubResult,
    index: usize,
    path: *mut *const c_char,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let path = place(path, "path")?;
            let finished = get(result, "result")?;
            let written: Vec<PathBuf> = finished.dub().files.clone();
            let mut texts = finished.files.lock().unwrap_or_else(PoisonError::into_inner);
            // A text's bytes stay where they are when the list grows.
            let known = texts.len();
            texts.extend(written.iter().skip(known).map(|file| c_string(&file.to_string_lossy())));
            path.set(nth(&texts, index, "index")?.as_ptr());
            Ok(())
        })
    }
}

/// The track as a WAV file in memory, if the request's "keep" asked for it and the dub was not cut short; else `bytes` is NULL
/// and `length` 0. It lives as long as the handle.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_result_track(
    result: DubResult,
    bytes: *mut *const u8,
    length: *mut usize,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (bytes, length) = (place(bytes, "bytes")?, place(length, "length")?);
            if let Some(track) = &get(result, "result")?.dub().track {
                bytes.set(track.as_ptr());
                length.set(track.len());
            }
            Ok(())
        })
    }
}

/// The subtitles in `language`, which is that of the original or that of the dub, as SubRip. They live as long as the handle.
///
/// Errors: DUB_STATUS_UNSUPPORTED_LANGUAGE for any other language; DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_result_srt(
    result: DubResult,
    language: *const c_char,
    text: *mut *const c_char,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (text, finished) = (place(text, "text")?, get(result, "result")?);
            text.set(finished.subtitles(required(language, "language")?, &finished.srt, subtitle::srt)?);
            Ok(())
        })
    }
}

/// As dub_result_srt, as WebVTT.
///
/// Errors: as dub_result_srt.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_result_vtt(
    result: DubResult,
    language: *const c_char,
    text: *mut *const c_char,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (text, finished) = (place(text, "text")?, get(result, "result")?);
            text.set(finished.subtitles(required(language, "language")?, &finished.vtt, subtitle::vtt)?);
            Ok(())
        })
    }
}

/// Everything but the sound as a JSON object: lines, failures, times, models. It lives as long as the handle.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_result_report(result: DubResult, json: *mut *const c_char, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let json = place(json, "json")?;
            let finished = get(result, "result")?;
            json.set(once(&finished.report, || Ok(finished.dub().report().to_string()))?);
            Ok(())
        })
    }
}

/// Writes STEM.TO.srt, .vtt and .json, and STEM.FROM.srt and .vtt, into the directory `folder`, which must be there, and, where
/// the track was kept in memory, STEM.TO.wav. Each appears whole or not at all.
///
/// Errors: DUB_STATUS_IO; DUB_STATUS_INVALID_ARGUMENT, also for a `stem` that is not the beginning of a file's name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_result_save(
    result: DubResult,
    folder: *const c_char,
    stem: *const c_char,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (finished, folder) = (get(result, "result")?, Path::new(required(folder, "folder")?));
            let stem = required(stem, "stem")?;
            finished.dub().save(folder, stem)
        })
    }
}

/// Frees the result, and with it all that it gave but lines.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a handle that was freed already.
#[unsafe(no_mangle)]
pub extern "C" fn dub_result_free(result: DubResult) -> Status {
    free(result)
}
