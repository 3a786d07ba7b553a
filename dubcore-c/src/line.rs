//! `dub_line`: a line of a dub.

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use engine::{Error, FailedLine, Result, Segment};

use crate::document::json;
use crate::door::run;
use crate::error::{Failure, Status};
use crate::handle::{Audio, Line, free, get};
use crate::place::{place, timed};
use crate::stt::{Piece, WordPlaces, once};
use crate::text::{c_string, nth};

/// A line, or why there is none, with its texts as C has them.
pub(crate) struct Dubbed {
    /// What the original says, where that is known.
    source: Option<(usize, Segment, Piece)>,
    line: Result<engine::Line>,
    text: CString,
    json: OnceLock<CString>,
}

impl Dubbed {
    pub(crate) fn of(line: engine::Line) -> Self {
        let source = Some((line.index, line.source.clone(), Piece::of(&line.source)));
        Self { source, text: c_string(&line.text), line: Ok(line), json: OnceLock::new() }
    }

    /// A line of which nothing is known but its error.
    pub(crate) fn lost(e: Error) -> Self {
        Self { source: None, text: CString::default(), line: Err(e), json: OnceLock::new() }
    }

    pub(crate) fn failed(line: &FailedLine) -> Self {
        let source = (line.index, line.source.clone(), Piece::of(&line.source));
        Self { source: Some(source), ..Self::lost(line.error.clone()) }
    }

    fn line(&self) -> Result<&engine::Line> {
        self.line.as_ref().map_err(Clone::clone)
    }

    fn source(&self) -> Result<&(usize, Segment, Piece)> {
        match &self.source {
            Some(source) => Ok(source),
            None => Err(self.line().map_or_else(|e| e, |_| crate::text::wrong("this line has no source"))),
        }
    }
}

/// Whether the line was dubbed: DUB_STATUS_OK, or why it failed. The original is heard in the place of one that failed.
///
/// Errors: why the line failed; DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_line_outcome(line: Line, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe { run(error, || get(line, "line")?.line().map(drop)) }
}

/// What the original says: the line's place among the lines, from 0, when it is said, in seconds, what is said, and how many
/// words of it are known, which may be none. The text lives as long as the handle.
///
/// Errors: why the line failed, where a run gave it; DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_line_source(
    line: Line,
    index: *mut usize,
    start: *mut f64,
    end: *mut f64,
    text: *mut *const c_char,
    words: *mut usize,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (index, said) = (place(index, "index")?, timed(start, end, text)?);
            let words = place(words, "words")?;
            let dubbed = get(line, "line")?;
            let (at, segment, piece) = dubbed.source()?;
            index.set(*at);
            said.set(segment.span, &piece.text);
            words.set(piece.words.len());
            Ok(())
        })
    }
}

/// The word of the original at `index`, from 0: when it is said, the word with the punctuation that clings to it, and the
/// model's confidence, 0 to 1, or NaN where it has none. The text lives as long as the handle.
///
/// Errors: as dub_line_source.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_line_word(
    line: Line,
    index: usize,
    start: *mut f64,
    end: *mut f64,
    text: *mut *const c_char,
    probability: *mut f64,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let places = WordPlaces::of(start, end, text, probability)?;
            let dubbed = get(line, "line")?;
            let (_, segment, piece) = dubbed.source()?;
            places.set(nth(&segment.words, index, "index")?, nth(&piece.words, index, "index")?);
            Ok(())
        })
    }
}

/// What the dub says, and when it is heard, in seconds; where nothing is spoken, when the original says it. The text lives as
/// long as the handle.
///
/// Errors: why the line failed; DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_line_target(
    line: Line,
    start: *mut f64,
    end: *mut f64,
    text: *mut *const c_char,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let said = timed(start, end, text)?;
            let dubbed = get(line, "line")?;
            let line = dubbed.line()?;
            let span = line.placement.map_or(line.source.span, |placement| placement.span);
            said.set(span, &dubbed.text);
            Ok(())
        })
    }
}

/// Its speech, at the voice's rate, as it was placed: a handle of its own; none where nothing is spoken, and in lines of a
/// dub_result, for hours of speech are not kept.
///
/// Errors: why the line failed; DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_line_audio(line: Line, audio: *mut Audio, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let audio = place(audio, "audio")?;
            match &get(line, "line")?.line()?.audio {
                Some(sound) => audio.put(sound.clone()),
                None => Ok(()),
            }
        })
    }
}

/// All of it but the sound as a JSON object, with how its speech was fitted. It lives as long as the handle.
///
/// Errors: why the line failed; DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_line_json(line: Line, json: *mut *const c_char, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let place = place(json, "json")?;
            let dubbed = get(line, "line")?;
            let line = dubbed.line()?;
            place.set(once(&dubbed.json, || self::json(line))?);
            Ok(())
        })
    }
}

/// Frees the line, and with it the texts that it gave; its sound stays, if it was asked for.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a handle that was freed already.
#[unsafe(no_mangle)]
pub extern "C" fn dub_line_free(line: Line) -> Status {
    free(line)
}
