//! `dub_tts` and `dub_speeches`: text to speech.

use std::ffi::{CString, c_char};

use engine::{Result, Speech, TtsOptions};

use crate::door::run;
use crate::error::{Failure, Status};
use crate::factory::asked;
use crate::handle::{Audio, Factory, Job, Speeches, Text, Tts, free, get};
use crate::job::job as work;
use crate::options::{SPEAKING, SPOKEN, apply};
use crate::place::place;
use crate::stt::WordPlaces;
use crate::text::{c_string, given, nth, pairs, texts};

/// Outcomes, with their texts as C has them.
pub(crate) struct Spoken(Vec<Result<One>>);

struct One {
    speech: Speech,
    words: Vec<CString>,
}

impl Spoken {
    fn one(&self, index: usize) -> Result<&One> {
        nth(&self.0, index, "index")?.as_ref().map_err(Clone::clone)
    }
}

fn speaking(pairs: &[(&str, &str)]) -> Result<TtsOptions> {
    let (mut opts, mut spoken) = (TtsOptions::default(), TtsOptions::default());
    apply(pairs, "options", &mut [&mut SPOKEN.of(&mut spoken), &mut SPEAKING.of(&mut opts)])?;
    Ok(opts.language(spoken.language))
}

/// A voice, as dub_stt_load. `options` may be NULL: see Loading. `job` may be none.
///
/// Errors: as dub_stt_load.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_tts_load(
    factory: Factory,
    model: *const c_char,
    options: *const *const c_char,
    job: Job,
    tts: *mut Tts,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let tts = place(tts, "tts")?;
            let (factory, model, opts, job) = asked(factory, model, options, job)?;
            tts.put(factory.tts(&model, &opts, &job)?)
        })
    }
}

/// What it is, as dub_stt_info.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_tts_info(tts: Tts, info: *mut Text, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let info = place(info, "info")?;
            info.put_json(get(tts, "tts")?.info())
        })
    }
}

/// Speaks `count` texts, each by itself: one that fails does not lose the others, and tells why in dub_speeches_audio. `texts`
/// may be NULL where `count` is 0. `options` may be NULL: see Speech. `job` may be none.
///
/// Errors: DUB_STATUS_UNSUPPORTED_LANGUAGE, DUB_STATUS_INVALID_ARGUMENT, or what ended the job.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_tts_synthesize(
    tts: Tts,
    texts: *const *const c_char,
    count: usize,
    options: *const *const c_char,
    job: Job,
    speeches: *mut Speeches,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let speeches = place(speeches, "speeches")?;
            let (tts, texts) = (get(tts, "tts")?, self::texts(texts, count, "texts")?);
            let (opts, job) = (speaking(&pairs(options, "options")?)?, work(job)?);
            let found = tts.synthesize(&texts, &opts, &job);
            job.check()?;
            let one = |speech: Speech| One { words: speech.words.iter().map(|w| c_string(&w.text)).collect(), speech };
            speeches.put(Spoken(found.into_iter().map(|found| found.map(one)).collect()))
        })
    }
}

/// How long `text` would take to say, in seconds; negative where the voice cannot tell before speaking. `options` may be
/// NULL: see Speech. `job` may be none.
///
/// Errors: as dub_tts_synthesize.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_tts_duration(
    tts: Tts,
    text: *const c_char,
    options: *const *const c_char,
    job: Job,
    duration: *mut f64,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let duration = place(duration, "duration")?;
            let (tts, text) = (get(tts, "tts")?, given(text, "text")?);
            let predicted = tts.duration(text, &speaking(&pairs(options, "options")?)?, &work(job)?)?;
            duration.set(predicted.map_or(-1.0, |d| d.as_secs_f64()));
            Ok(())
        })
    }
}

/// Frees the handle.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a handle that was freed already.
#[unsafe(no_mangle)]
pub extern "C" fn dub_tts_free(tts: Tts) -> Status {
    free(tts)
}

/// How many there are: as many as there were texts.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_speeches_count(speeches: Speeches, count: *mut usize, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let count = place(count, "count")?;
            count.set(get(speeches, "speeches")?.0.len());
            Ok(())
        })
    }
}

/// The sound of the text at `index`, from 0, as a handle of its own, and how many words of it are known, which may be none.
///
/// Errors: why this text could not be spoken; DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_speeches_audio(
    speeches: Speeches,
    index: usize,
    audio: *mut Audio,
    words: *mut usize,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (audio, words) = (place(audio, "audio")?, place(words, "words")?);
            let spoken = get(speeches, "speeches")?;
            let one = spoken.one(index)?;
            audio.put(one.speech.audio.clone())?;
            words.set(one.words.len());
            Ok(())
        })
    }
}

/// The word at `index`, from 0, of the speech at `speech`: when it is said, in seconds, the word with the punctuation that
/// clings to it, and NaN. The text lives as long as the handle.
///
/// Errors: as dub_speeches_audio.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_speeches_word(
    speeches: Speeches,
    speech: usize,
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
            let spoken = get(speeches, "speeches")?;
            let one = nth(&spoken.0, speech, "speech")?.as_ref().map_err(Clone::clone)?;
            places.set(nth(&one.speech.words, index, "index")?, nth(&one.words, index, "index")?);
            Ok(())
        })
    }
}

/// Frees the speeches, and with them the texts that they gave; sounds that were asked for stay.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a handle that was freed already.
#[unsafe(no_mangle)]
pub extern "C" fn dub_speeches_free(speeches: Speeches) -> Status {
    free(speeches)
}
