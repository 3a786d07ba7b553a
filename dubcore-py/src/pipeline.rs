//! Whole dubs, line by line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use dubcore::{DubModels, DubRequest, Dubber, Error, ErrorKind, Job, ModelRef, Output, Pipeline as _, ScriptLine, Span};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::audio::{Audio, Given};
use crate::call::{Call, Control, Ticket, lock};
use crate::error::to_py;
use crate::factory::{Factory, Load, from_json, seconds, to_object};
use crate::input::input;
use crate::stages::{Hearing, Speaking, Stt, Translator, Tts, lang};

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Pipeline>()?;
    m.add_class::<Run>()?;
    m.add_class::<Dub>()
}

#[pyclass(frozen, module = "dubcore._dubcore")]
pub(crate) struct Pipeline(Dubber);

/// A request for a dub.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Request {
    to: String,
    from: Option<String>,
    track: Option<usize>,
    /// A file, or `None` for memory where `keep`, else for nowhere.
    output: Option<PathBuf>,
    keep: bool,
    script: Vec<(f64, f64, String, Option<String>)>,
    beams: usize,
    duck_db: Option<f64>,
    original: bool,
    hearing: Hearing,
    speaking: Speaking,
}

/// The models of a dub, by name.
fn models(
    py: Python<'_>,
    stt: Option<String>,
    translator: Option<String>,
    tts: Option<String>,
    load: Load,
) -> PyResult<DubModels> {
    let name = |model: Option<String>| model.map(|m| m.parse::<ModelRef>()).transpose().map_err(|e| to_py(py, &e));
    let models = DubModels::default().stt(name(stt)?).translator(name(translator)?).tts(name(tts)?);
    Ok(models.load(load.options(py)?))
}

#[pymethods]
impl Pipeline {
    /// Of stages that are there already.
    #[staticmethod]
    fn of(stt: &Bound<'_, Stt>, translator: Option<Py<Translator>>, tts: Option<Py<Tts>>) -> Self {
        let translator = translator.map(|t| t.get().0.clone());
        Self(Dubber::new(stt.get().0.clone(), translator, tts.map(|t| t.get().0.clone())))
    }

    /// Of models that a factory loads; those that are not named are chosen by language.
    #[staticmethod]
    #[expect(clippy::too_many_arguments, reason = "the Python half names them all")]
    fn load(
        py: Python<'_>,
        factory: &Bound<'_, Factory>,
        stt: Option<String>,
        translator: Option<String>,
        tts: Option<String>,
        source: Option<&str>,
        target: &str,
        load: Load,
        control: Control,
    ) -> PyResult<Call> {
        let models = models(py, stt, translator, tts, load)?;
        let (from, to) = (source.map(|code| lang(py, code)).transpose()?, lang(py, target)?);
        let factory = factory.get().0.clone();
        let work = move |job: &Job| Dubber::from_factory(&factory, &models, from, to, job);
        Call::start(py, control.ticket()?, work, |py, dubber| Ok(Py::new(py, Self(dubber))?.into_any()))
    }

    /// How long the engine itself takes for a dub.
    #[staticmethod]
    #[expect(clippy::too_many_arguments, reason = "the Python half names them all")]
    fn benchmark(
        audio: &Bound<'_, PyAny>,
        factory: &Bound<'_, Factory>,
        stt: Option<String>,
        translator: Option<String>,
        tts: Option<String>,
        target: &str,
        load: Load,
        iterations: usize,
        control: Control,
    ) -> PyResult<Call> {
        let py = audio.py();
        let (models, to) = (models(py, stt, translator, tts, load)?, lang(py, target)?);
        let (given, factory) = (Given::extract(audio)?, factory.get().0.clone());
        let work = move |job: &Job| Dubber::benchmark(&factory, &models, &given.decode(job)?, to, iterations, job);
        Call::start(py, control.ticket()?, work, |py, found| {
            let (median, factor) = (found.median().as_secs_f64(), found.real_time_factor());
            let value = to_object(py, found)?;
            value.bind(py).set_item("median", median)?;
            value.bind(py).set_item("real_time_factor", factor)?;
            Ok(value)
        })
    }

    fn start(&self, media: &Bound<'_, PyAny>, request: Request, control: Control) -> PyResult<Call> {
        let py = media.py();
        let dubber = self.0.clone();
        let mut script = Vec::new();
        for (start, end, source, target) in request.script {
            let span = Span::new(seconds("start", start)?, seconds("end", end)?);
            let mut line = ScriptLine::new(span, source);
            line.target = target;
            script.push(line);
        }
        let output = match (request.output, request.keep) {
            (Some(path), _) => Output::from(path),
            (None, true) => Output::Memory,
            (None, false) => Output::Discard,
        };
        let mut wanted = DubRequest::new(input(media, request.track)?, lang(py, &request.to)?);
        wanted.mix.duck_db = request.duck_db;
        wanted.mix.original = request.original;
        let from = request.from.map(|code| lang(py, &code)).transpose()?;
        let wanted = wanted.from(from).output(output).script(script).beams(request.beams);
        let wanted = wanted.stt(request.hearing.options(py)?).tts(request.speaking.options());
        let ticket = control.ticket()?;
        let own = ticket.clone();
        let work = move |job: &Job| dubber.start(wanted, job.clone());
        Call::start(py, ticket, work, |py, run| {
            Ok(Py::new(py, Run { ticket: own, run: Arc::new(Mutex::new(Some(run))) })?.into_any())
        })
    }
}

/// A dub in progress.
#[pyclass(frozen, module = "dubcore._dubcore")]
struct Run {
    ticket: Ticket,
    run: Arc<Mutex<Option<dubcore::Run>>>,
}

fn over() -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        "this dub is finished, or being worked on by another call: wait for that, or start anew",
    )
}

#[pymethods]
impl Run {
    /// The next line: an object, an exception for one that failed, or `None` at the end.
    fn next(&self, py: Python<'_>) -> PyResult<Call> {
        let run = self.run.clone();
        let work = move |_: &Job| {
            let mut run = run.try_lock().map_err(|_| over())?;
            Ok(run.as_mut().ok_or_else(over)?.next())
        };
        let convert = |py: Python<'_>, line: Option<dubcore::Result<dubcore::Line>>| match line {
            None => Ok(py.None()),
            Some(Err(e)) => Ok(to_py(py, &e).into_value(py).into_any()),
            Some(Ok(line)) => {
                let value = to_object(py, &line)?;
                let audio = line.audio.map(|sound| Py::new(py, Audio(sound))).transpose()?;
                value.bind(py).set_item("audio", audio)?;
                Ok(value)
            }
        };
        Call::start(py, self.ticket.clone(), work, convert)
    }

    /// What is left, and the output; with `whole`, what was cut short is an error.
    fn finish(&self, py: Python<'_>, whole: bool) -> PyResult<Call> {
        let run = self.run.clone();
        let work = move |job: &Job| {
            let run = run.try_lock().map_err(|_| over())?.take();
            let dub = run.ok_or_else(over)?.finish()?;
            if whole && dub.cut_short {
                job.check()?;
            }
            Ok(dub)
        };
        Call::start(py, self.ticket.clone(), work, |py, dub| Ok(Py::new(py, Dub(Mutex::new(dub)))?.into_any()))
    }

    fn cancel(&self) {
        self.ticket.job.cancel();
    }

    /// How far it is: the whole, and each part by name.
    fn progress(&self) -> (f64, Vec<(String, f64)>) {
        let progress = self.ticket.job.progress();
        (progress.fraction, progress.parts)
    }
}

fn names(dub: &dubcore::Dub) -> Vec<OsString> {
    dub.files.iter().map(OsString::from).collect()
}

/// A finished dub.
#[pyclass(frozen, module = "dubcore._dubcore")]
struct Dub(Mutex<dubcore::Dub>);

#[pymethods]
impl Dub {
    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // As it stands in the JSON file. Unlocked before Python makes anything: that may let another thread in.
        let report = lock(&self.0).report();
        from_json(py, &report)
    }

    fn files(&self) -> Vec<OsString> {
        names(&lock(&self.0))
    }

    /// The track as a WAV file, if it was kept in memory.
    fn track<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        lock(&self.0).track.as_deref().map(|wav| PyBytes::new(py, wav))
    }

    fn cut_short(&self) -> bool {
        lock(&self.0).cut_short
    }

    /// Writes the track, if it was kept in memory, the subtitles and the report; returns all files.
    fn save(&self, py: Python<'_>, folder: PathBuf, stem: &str) -> PyResult<Vec<OsString>> {
        let written = py.detach(|| {
            let mut dub = lock(&self.0);
            dub.save(&folder, stem).map(|()| names(&dub))
        });
        written.map_err(|e| to_py(py, &e))
    }
}
