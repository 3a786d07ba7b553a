//! Stages that are Python objects: a cloud voice, say, or another engine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dubcore::{
    Error, ErrorKind, Job, Lang, Metadata, OwnModel, Result, Segment, Span, Speech, StageInfo, Stt, SttOptions, Transcript,
    TranslateOptions, Translation, Translator, Tts, TtsOptions,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::audio::Audio;
use crate::call::inside;
use crate::error::from_py;
use crate::stages::lang;

/// A stage of the host's own. Any thread may call it; Python sees to it that one at a time is inside.
#[derive(Clone)]
struct Own {
    object: Arc<Py<PyAny>>,
    info: StageInfo,
}

/// What an object says of itself.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct About {
    languages_in: Vec<String>,
    languages_out: Vec<String>,
    sample_rate: u32,
}

/// What makes a model of a Python object, which has the method of its kind.
pub(crate) fn maker(
    py: Python<'_>,
    name: &str,
    kind: &str,
    object: Py<PyAny>,
    about: About,
) -> PyResult<impl Fn() -> Result<OwnModel> + Send + Sync + 'static> {
    let languages = |codes: &[String]| codes.iter().map(|code| lang(py, code)).collect::<PyResult<Vec<_>>>();
    let mut info = StageInfo::new(name).languages(languages(&about.languages_in)?, languages(&about.languages_out)?);
    info.sample_rate = about.sample_rate;
    let own = Own { object: Arc::new(object), info };
    let kind = kind.to_owned();
    Ok(move || {
        let own = own.clone();
        Ok(match kind.as_str() {
            "stt" => OwnModel::stt(Arc::new(own)),
            "translator" => OwnModel::translator(Arc::new(own)),
            _ => OwnModel::tts(Arc::new(own)),
        })
    })
}

impl Own {
    /// Calls a method, awaiting what it gives if need be, and makes something of it.
    fn call<T>(
        &self,
        job: &Job,
        method: &str,
        arguments: impl FnOnce(Python<'_>) -> PyResult<(Py<PyAny>, Py<PyDict>)>,
        take: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<T>,
    ) -> Result<T> {
        job.check()?;
        let called = inside(|py| {
            let (argument, options) = arguments(py)?;
            let found = self.object.bind(py).call_method(method, (argument,), Some(options.bind(py)))?;
            let found = match py.import("inspect")?.call_method1("isawaitable", (&found,))?.is_truthy()? {
                true => py.import("dubcore._calls")?.call_method1("waited", (found,))?,
                false => found,
            };
            take(&found)
        });
        let closing = || Error::new(ErrorKind::Internal, format!("{} cannot be asked: Python is ending", self.info.model));
        called.ok_or_else(closing)?.map_err(|e| inside(|py| from_py(py, &self.info.model, &e)).unwrap_or_else(closing))
    }

    fn metadata(&self, began: Instant, audio: Duration) -> Metadata {
        Metadata::new(&self.info, began.elapsed(), audio)
    }
}

fn options<'py>(py: Python<'py>, of: &[(&str, Bound<'py, PyAny>)]) -> PyResult<Py<PyDict>> {
    let options = PyDict::new(py);
    of.iter().try_for_each(|(name, value)| options.set_item(name, value))?;
    Ok(options.unbind())
}

/// A language as Python has it.
fn code<'py>(py: Python<'py>, lang: Option<Lang>) -> PyResult<Bound<'py, PyAny>> {
    Ok(lang.map(|l| l.code().to_string()).into_pyobject(py)?.into_any())
}

impl Stt for Own {
    fn transcribe(&self, audio: &dubcore::Audio, opts: &SttOptions, job: &Job) -> Result<Transcript> {
        let began = Instant::now();
        let whole = Span::new(Duration::ZERO, audio.duration());
        let parts = if opts.spans.is_empty() { vec![whole] } else { opts.spans.clone() };
        let mut segments = Vec::new();
        for part in parts {
            let sound = audio.slice(part);
            let end = sound.duration();
            let arguments = |py: Python<'_>| {
                let given = Py::new(py, Audio(sound))?.into_any();
                Ok((given, options(py, &[("language", code(py, opts.language)?)])?))
            };
            let found: Vec<(f64, f64, String)> = self.call(job, "transcribe", arguments, |found| {
                // A text is all that is said.
                match found.cast::<PyString>() {
                    Ok(text) => Ok(vec![(0.0, end.as_secs_f64(), text.to_string())]),
                    Err(_) => found.extract(),
                }
            })?;
            for (from, to, text) in found {
                let time = |s: f64| Duration::try_from_secs_f64(s.max(0.0)).unwrap_or(end).min(end);
                let (from, to) = (time(from), time(to));
                if !text.trim().is_empty() && from < to {
                    segments.push(Segment::new(Span::new(part.start + from, part.start + to), text));
                }
            }
        }
        let language = opts.language.or(self.info.from.first().copied()).unwrap_or(Lang::EN);
        Ok(Transcript::new(language, segments, self.metadata(began, audio.duration())))
    }

    fn info(&self) -> StageInfo {
        self.info.clone()
    }
}

impl Translator for Own {
    fn translate(&self, texts: &[&str], opts: &TranslateOptions, job: &Job) -> Vec<Result<Translation>> {
        let one = |text: &&str| {
            let began = Instant::now();
            let arguments = |py: Python<'_>| {
                let languages = [("from_", code(py, Some(opts.from))?), ("to", code(py, Some(opts.to))?)];
                Ok((PyString::new(py, text).into_any().unbind(), options(py, &languages)?))
            };
            let found: String = self.call(job, "translate", arguments, |found| found.extract())?;
            Ok(Translation::new(found, 0.0, self.metadata(began, Duration::ZERO)))
        };
        texts.iter().map(one).collect()
    }

    fn info(&self) -> StageInfo {
        self.info.clone()
    }
}

impl Tts for Own {
    fn synthesize(&self, texts: &[&str], opts: &TtsOptions, job: &Job) -> Vec<Result<Speech>> {
        let one = |text: &&str| {
            let began = Instant::now();
            let arguments = |py: Python<'_>| {
                let rate = opts.speaking_rate.into_pyobject(py)?.into_any();
                let given = [("language", code(py, opts.language)?), ("speaking_rate", rate)];
                Ok((PyString::new(py, text).into_any().unbind(), options(py, &given)?))
            };
            let sound = self.call(job, "synthesize", arguments, |found| match found.cast::<Audio>() {
                Ok(audio) => Ok(audio.get().0.clone()),
                Err(_) => {
                    let (samples, rate): (Bound<'_, PyAny>, u32) = found.extract()?;
                    let made = found.py().get_type::<Audio>().call1((samples, rate))?;
                    Ok(made.cast::<Audio>()?.get().0.clone())
                }
            })?;
            let metadata = self.metadata(began, sound.duration());
            Ok(Speech::new(sound, metadata))
        };
        texts.iter().map(one).collect()
    }

    fn duration(&self, _: &str, _: &TtsOptions, _: &Job) -> Result<Option<Duration>> {
        // Asking would be speaking.
        Ok(None)
    }

    fn info(&self) -> StageInfo {
        self.info.clone()
    }
}
