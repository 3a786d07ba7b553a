//! `dub_translator` and `dub_translations`: text to text.

use std::ffi::{CString, c_char};
use std::sync::OnceLock;

use engine::{Result, TranslateOptions, Translation};

use crate::document::json;
use crate::door::run;
use crate::error::{Failure, Status};
use crate::factory::asked;
use crate::handle::{Factory, Job, Text, Translations, Translator, free, get};
use crate::job::job as work;
use crate::options::{TRANSLATION, apply};
use crate::place::place;
use crate::stt::once;
use crate::text::{c_string, nth, pairs, required, texts};

/// Outcomes, with their texts as C has them.
pub(crate) struct Translated(Vec<Result<One>>);

struct One {
    translation: Translation,
    text: CString,
    json: OnceLock<CString>,
}

impl Translated {
    fn one(&self, index: usize) -> Result<&One> {
        nth(&self.0, index, "index")?.as_ref().map_err(Clone::clone)
    }
}

/// A translator, as dub_stt_load. `options` may be NULL: see Loading. `job` may be none.
///
/// Errors: as dub_stt_load.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_translator_load(
    factory: Factory,
    model: *const c_char,
    options: *const *const c_char,
    job: Job,
    translator: *mut Translator,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let translator = place(translator, "translator")?;
            let (factory, model, opts, job) = asked(factory, model, options, job)?;
            translator.put(factory.translator(&model, &opts, &job)?)
        })
    }
}

/// What it is, as dub_stt_info.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_translator_info(translator: Translator, info: *mut Text, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let info = place(info, "info")?;
            info.put_json(get(translator, "translator")?.info())
        })
    }
}

/// Translates `count` texts from one language to another, each by itself: one that fails does not lose the others, and tells
/// why in dub_translations_text. `texts` may be NULL where `count` is 0. `options` may be NULL: see Translation. `job` may be
/// none.
///
/// Errors: DUB_STATUS_UNSUPPORTED_LANGUAGE, DUB_STATUS_INVALID_ARGUMENT, or what ended the job.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_translator_translate(
    translator: Translator,
    texts: *const *const c_char,
    count: usize,
    from: *const c_char,
    to: *const c_char,
    options: *const *const c_char,
    job: Job,
    translations: *mut Translations,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let translations = place(translations, "translations")?;
            let (translator, texts) = (get(translator, "translator")?, self::texts(texts, count, "texts")?);
            let mut opts = TranslateOptions::new(required(from, "from")?.parse()?, required(to, "to")?.parse()?);
            apply(&pairs(options, "options")?, "options", &mut [&mut TRANSLATION.of(&mut opts)])?;
            let job = work(job)?;
            let found = translator.translate(&texts, &opts, &job);
            job.check()?;
            let one = |translation: Translation| One { text: c_string(&translation.text), json: OnceLock::new(), translation };
            translations.put(Translated(found.into_iter().map(|found| found.map(one)).collect()))
        })
    }
}

/// Frees the handle.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a handle that was freed already.
#[unsafe(no_mangle)]
pub extern "C" fn dub_translator_free(translator: Translator) -> Status {
    free(translator)
}

/// How many there are: as many as there were texts.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_translations_count(translations: Translations, count: *mut usize, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let count = place(count, "count")?;
            count.set(get(translations, "translations")?.0.len());
            Ok(())
        })
    }
}

/// The translation at `index`, from 0, and its score: log-probability per token. The text lives as long as the handle.
///
/// Errors: why this text could not be translated; DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_translations_text(
    translations: Translations,
    index: usize,
    text: *mut *const c_char,
    score: *mut f64,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (text, score) = (place(text, "text")?, place(score, "score")?);
            let translated = get(translations, "translations")?;
            let one = translated.one(index)?;
            text.set(one.text.as_ptr());
            score.set(one.translation.score);
            Ok(())
        })
    }
}

/// All of the translation at `index` as a JSON object: text, score, alternatives, how it came about. It lives as long as the
/// handle.
///
/// Errors: as dub_translations_text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_translations_json(
    translations: Translations,
    index: usize,
    json: *mut *const c_char,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let place = place(json, "json")?;
            let translated = get(translations, "translations")?;
            let one = translated.one(index)?;
            place.set(once(&one.json, || self::json(&one.translation))?);
            Ok(())
        })
    }
}

/// Frees the translations, and with them the texts that they gave.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a handle that was freed already.
#[unsafe(no_mangle)]
pub extern "C" fn dub_translations_free(translations: Translations) -> Status {
    free(translations)
}
