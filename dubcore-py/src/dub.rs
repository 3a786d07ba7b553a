//! `dubcore.dub` and what it returns.

use std::path::{Path, PathBuf};

use dubcore::{Job, Lang};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::door;
use crate::error::to_py;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Dub>()?;
    m.add_class::<Line>()?;
    m.add_function(wrap_pyfunction!(dub, m)?)
}

/// One line of a dub: what was said, what is said instead, and how it was fitted.
#[pyclass(frozen, get_all, module = "dubcore")]
struct Line {
    /// Where the original begins, in seconds.
    start: f64,
    /// Where the original ends, in seconds.
    end: f64,
    /// What was said.
    source: String,
    /// What is said instead.
    target: String,
    /// How much faster than its own pace the voice speaks to fit; `None` where nothing is spoken.
    speed: Option<f64>,
    /// Whether it did not fit within the natural bounds, so that it was hurried beyond them, or cut.
    overflow: bool,
}

#[pymethods]
impl Line {
    fn __repr__(&self) -> String {
        format!("Line({:.2}-{:.2} {:?} -> {:?})", self.start, self.end, self.source, self.target)
    }
}

/// A finished dub.
#[pyclass(frozen, get_all, module = "dubcore")]
struct Dub {
    /// Its lines, in order.
    lines: Vec<Py<Line>>,
    /// The files that were written: the track, the subtitles, the report.
    files: Vec<PathBuf>,
    /// What was done, as in the JSON file.
    report: Py<PyDict>,
    /// Whether every line was dubbed.
    complete: bool,
}

#[pymethods]
impl Dub {
    fn __repr__(&self) -> String {
        let files: Vec<_> = self.files.iter().map(|f| f.display().to_string()).collect();
        format!("Dub({} lines, complete={}, files=[{}])", self.lines.len(), self.complete, files.join(", "))
    }
}

/// Dubs the media file `path` into the language `to` with the embedded models.
///
/// `from_` is the language spoken in it, by default the models' own. Into the directory `out`, by default the input's
/// own, go NAME.LANG.wav, .srt, .vtt and .json, and the original's subtitles. Languages are BCP-47 or ISO 639 codes: "es", "es-MX", "spa".
#[pyfunction]
#[pyo3(signature = (path, *, to, from_ = None, out = None))]
fn dub(py: Python<'_>, path: PathBuf, to: &str, from_: Option<&str>, out: Option<PathBuf>) -> PyResult<Dub> {
    let lang = |code: &str| code.parse::<Lang>().map_err(|e| to_py(py, &e));
    let (to, from) = (lang(to)?, from_.map(lang).transpose()?);
    let beside = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let out = out.unwrap_or_else(|| beside.to_path_buf());
    let made = door::run(py, &Job::new(), move |job| dubcore::dub_file(&path, to, from, &out, job))?;
    finished(py, &made)
}

fn finished(py: Python<'_>, dub: &dubcore::Dub) -> PyResult<Dub> {
    // The report crosses as the text that the JSON file holds: one definition of its form for every language.
    let report = py.import("json")?.call_method1("loads", (dub.report().to_string(),))?;
    Ok(Dub {
        lines: dub.lines.iter().map(|l| Py::new(py, line(l))).collect::<PyResult<_>>()?,
        files: dub.files.clone(),
        report: report.cast_into::<PyDict>()?.unbind(),
        complete: dub.complete,
    })
}

fn line(line: &dubcore::Line) -> Line {
    Line {
        start: line.source.span.start.as_secs_f64(),
        end: line.source.span.end.as_secs_f64(),
        source: line.source.text.clone(),
        target: line.text.clone(),
        speed: line.placement.map(|p| p.speed),
        overflow: line.placement.is_some_and(|p| p.overflow),
    }
}
