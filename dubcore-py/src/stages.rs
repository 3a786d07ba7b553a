//! The three stages by themselves.

use std::sync::Arc;

use dubcore::{Fallback, Job, Lang, SttOptions, Task, TranslateOptions, TtsOptions};
use pyo3::prelude::*;
use pyo3::types::PyList;
use serde_json::json;

use crate::audio::{Audio, Given};
use crate::call::{Call, Control};
use crate::error::{InvalidArgumentError, to_py};
use crate::factory::to_object;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Stt>()?;
    m.add_class::<Translator>()?;
    m.add_class::<Tts>()
}

#[pyclass(frozen, module = "dubcore._dubcore")]
pub(crate) struct Stt(pub(crate) Arc<dyn dubcore::Stt>);

#[pyclass(frozen, module = "dubcore._dubcore")]
pub(crate) struct Translator(pub(crate) Arc<dyn dubcore::Translator>);

#[pyclass(frozen, module = "dubcore._dubcore")]
pub(crate) struct Tts(pub(crate) Arc<dyn dubcore::Tts>);

/// Options of a recogniser.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Hearing {
    language: Option<String>,
    task: String,
    timestamps: bool,
    beams: usize,
    max_tokens: usize,
    temperatures: Option<Vec<f64>>,
    seed: u64,
}

/// Options of a voice.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Speaking {
    speaker: usize,
    speaking_rate: f64,
    noise_scale: Option<f64>,
    noise_scale_duration: Option<f64>,
    seed: u64,
}

pub(crate) fn lang(py: Python<'_>, code: &str) -> PyResult<Lang> {
    code.parse().map_err(|e| to_py(py, &e))
}

impl Hearing {
    pub(crate) fn options(self, py: Python<'_>) -> PyResult<SttOptions> {
        let task = match self.task.as_str() {
            "transcribe" => Task::Transcribe,
            "translate" => Task::Translate,
            other => return Err(InvalidArgumentError::new_err(format!("task {other:?}: use \"transcribe\" or \"translate\""))),
        };
        let mut fallback = Fallback::default().seed(self.seed);
        if let Some(temperatures) = self.temperatures {
            fallback = fallback.temperatures(temperatures);
        }
        let language = self.language.map(|code| lang(py, &code)).transpose()?;
        let opts = SttOptions::default().language(language).task(task).timestamps(self.timestamps);
        Ok(opts.beams(self.beams).max_tokens(self.max_tokens).fallback(fallback))
    }
}

impl Speaking {
    pub(crate) fn options(self) -> TtsOptions {
        let opts = TtsOptions::default().speaker(self.speaker).speaking_rate(self.speaking_rate).seed(self.seed);
        opts.noise_scale(self.noise_scale).noise_scale_duration(self.noise_scale_duration)
    }
}

/// What a stage is.
fn describe(py: Python<'_>, info: &dubcore::StageInfo) -> PyResult<Py<PyAny>> {
    let codes = |langs: &[Lang]| langs.iter().map(|l| l.code().to_string()).collect::<Vec<_>>();
    let described = json!({
        "model": info.model, "revision": info.revision, "from": codes(&info.from), "to": codes(&info.to),
        "device": info.device, "compute_type": info.compute_type, "kernels": info.kernels,
        "speakers": info.speakers, "sample_rate": info.sample_rate,
    });
    to_object(py, described)
}

/// Results of several texts: objects, and exceptions for those that failed.
fn each<T>(py: Python<'_>, found: Vec<dubcore::Result<T>>, convert: impl Fn(T) -> PyResult<Py<PyAny>>) -> PyResult<Py<PyAny>> {
    let list = PyList::empty(py);
    for result in found {
        match result {
            Ok(value) => list.append(convert(value)?)?,
            Err(e) => list.append(to_py(py, &e).into_value(py))?,
        }
    }
    Ok(list.into_any().unbind())
}

#[pymethods]
impl Stt {
    fn info(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        describe(py, &self.0.info())
    }

    fn transcribe(&self, audio: &Bound<'_, PyAny>, options: Hearing, control: Control) -> PyResult<Call> {
        let py = audio.py();
        let (stage, given, opts) = (self.0.clone(), Given::extract(audio)?, options.options(py)?);
        let work = move |job: &Job| stage.transcribe(&given.decode(job)?, &opts, job);
        let convert = |py: Python<'_>, found: dubcore::Transcript| {
            let value = json!({
                "text": found.text(), "language": found.language, "language_probability": found.language_probability,
                "segments": found.segments, "metadata": found.metadata,
            });
            to_object(py, value)
        };
        Call::start(py, control.ticket()?, work, convert)
    }
}

#[pymethods]
impl Translator {
    fn info(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        describe(py, &self.0.info())
    }

    #[expect(clippy::too_many_arguments, reason = "the Python half names them all")]
    fn translate(
        &self,
        py: Python<'_>,
        texts: Vec<String>,
        source: &str,
        target: &str,
        beams: usize,
        max_tokens: usize,
        alternatives: usize,
        control: Control,
    ) -> PyResult<Call> {
        let opts = TranslateOptions::new(lang(py, source)?, lang(py, target)?);
        let opts = opts.beams(beams).max_tokens(max_tokens).alternatives(alternatives);
        let stage = self.0.clone();
        let work = move |job: &Job| {
            let found = stage.translate(&texts.iter().map(String::as_str).collect::<Vec<_>>(), &opts, job);
            job.check().map(|()| found)
        };
        let convert = |py: Python<'_>, found| {
            each(py, found, |t: dubcore::Translation| {
                let others: Vec<_> = t.alternatives.iter().map(|(text, score)| json!([text, score])).collect();
                to_object(py, json!({"text": t.text, "score": t.score, "alternatives": others, "metadata": t.metadata}))
            })
        };
        Call::start(py, control.ticket()?, work, convert)
    }
}

#[pymethods]
impl Tts {
    fn info(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        describe(py, &self.0.info())
    }

    fn synthesize(&self, py: Python<'_>, texts: Vec<String>, options: Speaking, control: Control) -> PyResult<Call> {
        let (stage, opts) = (self.0.clone(), options.options());
        let work = move |job: &Job| {
            let found = stage.synthesize(&texts.iter().map(String::as_str).collect::<Vec<_>>(), &opts, job);
            job.check().map(|()| found)
        };
        let convert = |py: Python<'_>, found| {
            each(py, found, |s: dubcore::Speech| {
                let value = to_object(py, json!({"words": s.words, "metadata": s.metadata}))?;
                value.bind(py).set_item("audio", Py::new(py, Audio(s.audio))?)?;
                Ok(value)
            })
        };
        Call::start(py, control.ticket()?, work, convert)
    }
}
