//! `dub_stt` and `dub_transcript`: speech to text.

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use engine::{Segment, SttOptions, Word};

use crate::document::json;
use crate::door::run;
use crate::error::{Failure, Status};
use crate::factory::asked;
use crate::handle::{Audio, Factory, Job, Stt, Text, Transcript, free, get};
use crate::job::job as work;
use crate::options::{HEARD, HEARING, apply};
use crate::place::{Place, Timed, place, timed};
use crate::text::{c_string, nth, pairs};

/// A transcript, with its texts as C has them.
pub(crate) struct Heard {
    transcript: engine::Transcript,
    language: CString,
    text: CString,
    segments: Vec<Piece>,
    json: OnceLock<CString>,
}

/// A segment's texts.
pub(crate) struct Piece {
    pub(crate) text: CString,
    pub(crate) words: Vec<CString>,
}

impl Piece {
    pub(crate) fn of(segment: &Segment) -> Self {
        Self { text: c_string(&segment.text), words: segment.words.iter().map(|w| c_string(&w.text)).collect() }
    }
}

/// Where a word goes.
pub(crate) struct WordPlaces {
    word: Timed,
    probability: Place<f64>,
}

impl WordPlaces {
    /// # Safety
    /// As for [`place`], of each.
    pub(crate) unsafe fn of(
        start: *mut f64,
        end: *mut f64,
        text: *mut *const c_char,
        probability: *mut f64,
    ) -> engine::Result<Self> {
        // SAFETY: passed on.
        unsafe { Ok(Self { word: timed(start, end, text)?, probability: place(probability, "probability")? }) }
    }

    pub(crate) fn set(&self, word: &Word, text: &CString) {
        self.word.set(word.span, text);
        self.probability.set(word.probability.unwrap_or(f64::NAN));
    }
}

/// A recogniser. The model is loaded now, unless it is already. `model` is micro/NAME for an embedded one, ./DIR or /DIR, or
/// OWNER/NAME[@REVISION] of the hub. `options` may be NULL: see Loading. `job` may be none.
///
/// Errors: DUB_STATUS_MODEL_NOT_FOUND, DUB_STATUS_NETWORK, DUB_STATUS_MODEL_CORRUPT, DUB_STATUS_MODEL_INCOMPATIBLE,
/// DUB_STATUS_OUT_OF_MEMORY, DUB_STATUS_INVALID_ARGUMENT, or what ended the job.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_stt_load(
    factory: Factory,
    model: *const c_char,
    options: *const *const c_char,
    job: Job,
    stt: *mut Stt,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let stt = place(stt, "stt")?;
            let (factory, model, opts, job) = asked(factory, model, options, job)?;
            stt.put(factory.stt(&model, &opts, &job)?)
        })
    }
}

/// What it is: a JSON object with "model", "revision", "from", "to", "device", "compute_type", "kernels", "speakers",
/// "sample_rate".
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_stt_info(stt: Stt, info: *mut Text, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let info = place(info, "info")?;
            info.put_json(get(stt, "stt")?.info())
        })
    }
}

/// Writes down what is said. `options` may be NULL: see Recognition. `job` may be none.
///
/// Errors: DUB_STATUS_UNSUPPORTED_LANGUAGE, DUB_STATUS_INVALID_ARGUMENT, DUB_STATUS_BUSY, or what ended the job; as
/// dub_stt_load where the model has to be loaded again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_stt_transcribe(
    stt: Stt,
    audio: Audio,
    options: *const *const c_char,
    job: Job,
    transcript: *mut Transcript,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let transcript = place(transcript, "transcript")?;
            let (stt, sound) = (get(stt, "stt")?, get(audio, "audio")?);
            let (mut opts, mut heard) = (SttOptions::default(), SttOptions::default());
            apply(&pairs(options, "options")?, "options", &mut [&mut HEARD.of(&mut heard), &mut HEARING.of(&mut opts)])?;
            let found = stt.transcribe(&sound, &opts.language(heard.language), &work(job)?)?;
            transcript.put(Heard {
                language: c_string(found.language.code()),
                text: c_string(&found.text()),
                segments: found.segments.iter().map(Piece::of).collect(),
                json: OnceLock::new(),
                transcript: found,
            })
        })
    }
}

/// Frees the handle.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a handle that was freed already.
#[unsafe(no_mangle)]
pub extern "C" fn dub_stt_free(stt: Stt) -> Status {
    free(stt)
}

/// The language spoken ("en"), and all text, segments joined by a space. Both live as long as the handle.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_transcript_text(
    transcript: Transcript,
    language: *mut *const c_char,
    text: *mut *const c_char,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (language, text) = (place(language, "language")?, place(text, "text")?);
            let heard = get(transcript, "transcript")?;
            language.set(heard.language.as_ptr());
            text.set(heard.text.as_ptr());
            Ok(())
        })
    }
}

/// How many segments it has.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_transcript_count(transcript: Transcript, count: *mut usize, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let count = place(count, "count")?;
            count.set(get(transcript, "transcript")?.segments.len());
            Ok(())
        })
    }
}

/// The segment at `index`, from 0: when it is said, in seconds, what is said, and how many words of it are known, which may
/// be none. The text lives as long as the handle.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_transcript_segment(
    transcript: Transcript,
    index: usize,
    start: *mut f64,
    end: *mut f64,
    text: *mut *const c_char,
    words: *mut usize,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (said, words) = (timed(start, end, text)?, place(words, "words")?);
            let heard = get(transcript, "transcript")?;
            let piece = nth(&heard.segments, index, "index")?;
            said.set(nth(&heard.transcript.segments, index, "index")?.span, &piece.text);
            words.set(piece.words.len());
            Ok(())
        })
    }
}

/// The word at `index`, from 0, of the segment at `segment`: when it is said, the word with the punctuation that clings to it,
/// and the model's confidence, 0 to 1, or NaN where it has none. The text lives as long as the handle.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_transcript_word(
    transcript: Transcript,
    segment: usize,
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
            let heard = get(transcript, "transcript")?;
            let said = nth(&nth(&heard.segments, segment, "segment")?.words, index, "index")?;
            places.set(nth(&nth(&heard.transcript.segments, segment, "segment")?.words, index, "index")?, said);
            Ok(())
        })
    }
}

/// All of it as a JSON object: language, segments with their words and probabilities, how it came about. It lives as long as
/// the handle.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_transcript_json(transcript: Transcript, json: *mut *const c_char, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let place = place(json, "json")?;
            let heard = get(transcript, "transcript")?;
            place.set(once(&heard.json, || self::json(&heard.transcript))?);
            Ok(())
        })
    }
}

/// A text that is made when it is first asked for.
pub(crate) fn once(cell: &OnceLock<CString>, make: impl FnOnce() -> engine::Result<String>) -> engine::Result<*const c_char> {
    if let Some(text) = cell.get() {
        return Ok(text.as_ptr());
    }
    let text = c_string(&make()?);
    // Of several that make it at once, one wins.
    Ok(cell.get_or_init(|| text).as_ptr())
}

/// Frees a transcript, and with it the texts that it gave.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a handle that was freed already.
#[unsafe(no_mangle)]
pub extern "C" fn dub_transcript_free(transcript: Transcript) -> Status {
    free(transcript)
}
