//! The factory: what is loaded, kept, dropped, and told of it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use dubcore::{ComputeType, Device, HubOptions, Job, LoadMode, LoadOptions, ModelRef, ResultCache, ResultCacheOptions};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyList, PyString};

use crate::call::{Call, Control};
use crate::error::{InvalidArgumentError, to_py};
use crate::own::{self, About};
use crate::stages::{Stt, Translator, Tts};

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Factory>()
}

/// Loads models, each once, and lends them out.
#[pyclass(frozen, module = "dubcore._dubcore")]
pub(crate) struct Factory(pub(crate) dubcore::Factory);

/// Settings of a factory; what is `None` comes from the environment, then from the defaults.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Settings {
    memory_budget: Option<u64>,
    max_models: Option<usize>,
    idle: Option<f64>,
    cpu_threads: Option<usize>,
    models_dir: Option<PathBuf>,
    downloads: Option<bool>,
    cache: Option<bool>,
    cache_size: Option<usize>,
    cache_dir: Option<PathBuf>,
}

/// How to load a model.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Load {
    device: Option<String>,
    compute_type: Option<String>,
    pool_size: usize,
    queue: usize,
    queue_timeout: Option<f64>,
    fallback: Vec<String>,
    mode: String,
}

impl Load {
    pub(crate) fn options(self, py: Python<'_>) -> PyResult<LoadOptions> {
        let raise = |e: dubcore::Error| to_py(py, &e);
        let device = self.device.map_or(Ok(Device::Auto), |d| d.parse()).map_err(raise)?;
        let compute_type = self.compute_type.map_or(Ok(ComputeType::Auto), |c| c.parse()).map_err(raise)?;
        let fallback = self.fallback.iter().map(|m| m.parse::<ModelRef>()).collect::<Result<_, _>>().map_err(raise)?;
        let mode = match self.mode.as_str() {
            "auto" => LoadMode::Auto,
            "memory" => LoadMode::Memory,
            "fallback" => LoadMode::Fallback,
            other => {
                return Err(InvalidArgumentError::new_err(format!("mode {other:?}: use \"auto\", \"memory\" or \"fallback\"")));
            }
        };
        let wait = self.queue_timeout.map(|s| seconds("queue_timeout", s)).transpose()?;
        let opts = LoadOptions::default().device(device).pool_size(self.pool_size).queue(self.queue).queue_timeout(wait);
        Ok(opts.compute_type(compute_type).fallback(fallback).mode(mode))
    }
}

pub(crate) fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| InvalidArgumentError::new_err(format!("{name}={value} is no number of seconds")))
}

fn models(py: Python<'_>, names: &[String]) -> PyResult<Vec<ModelRef>> {
    names.iter().map(|m| m.parse()).collect::<Result<_, _>>().map_err(|e| to_py(py, &e))
}

/// A value as Python objects, times as seconds.
pub(crate) fn to_object(py: Python<'_>, value: impl serde::Serialize) -> PyResult<Py<PyAny>> {
    let value = serde_json::to_value(value).map_err(|e| PyValueError::new_err(e.to_string()))?;
    from_json(py, &plain(value)).map(Bound::unbind)
}

/// JSON as Python objects, made here: no code of Python runs on a caller's thread (see `call.rs`).
pub(crate) fn from_json<'py>(py: Python<'py>, value: &serde_json::Value) -> PyResult<Bound<'py, PyAny>> {
    use serde_json::Value;
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(truth) => PyBool::new(py, *truth).to_owned().into_any(),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(whole), _) => whole.into_pyobject(py)?.into_any(),
            (None, Some(whole)) => whole.into_pyobject(py)?.into_any(),
            (None, None) => PyFloat::new(py, number.as_f64().unwrap_or(f64::NAN)).into_any(),
        },
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(values) => {
            let list = PyList::empty(py);
            values.iter().try_for_each(|value| list.append(from_json(py, value)?))?;
            list.into_any()
        }
        Value::Object(map) => {
            let dict = PyDict::new(py);
            map.iter().try_for_each(|(name, value)| dict.set_item(name, from_json(py, value)?))?;
            dict.into_any()
        }
    })
}

/// Times are seconds and nanoseconds in the engine's own files; people want one number.
fn plain(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => match (map.len(), map.get("secs"), map.get("nanos")) {
            (2, Some(secs), Some(nanos)) => (secs.as_f64().unwrap_or(0.0) + nanos.as_f64().unwrap_or(0.0) / 1e9).into(),
            _ => Value::Object(map.into_iter().map(|(name, value)| (name, plain(value))).collect()),
        },
        Value::Array(values) => Value::Array(values.into_iter().map(plain).collect()),
        value => value,
    }
}

#[pymethods]
impl Factory {
    #[new]
    fn new(py: Python<'_>, settings: Settings) -> PyResult<Self> {
        let raise = |e: dubcore::Error| to_py(py, &e);
        let mut builder = dubcore::Factory::builder();
        if let Some(idle) = settings.idle {
            builder = builder.idle(seconds("idle", idle)?);
        }
        if let Some(models) = settings.max_models {
            builder = builder.max_models(models);
        }
        if let Some(bytes) = settings.memory_budget {
            builder = builder.memory_budget(bytes);
        }
        if let Some(threads) = settings.cpu_threads {
            builder = builder.cpu_threads(threads);
        }
        if let Some(folder) = settings.models_dir {
            builder = builder.models_dir(folder);
        }
        if let Some(downloads) = settings.downloads {
            builder = builder.hub(HubOptions::default().downloads(downloads));
        }
        let described = settings.cache_dir.is_some() || settings.cache_size.is_some();
        match settings.cache.or(described.then_some(true)) {
            Some(true) => {
                let mut opts = ResultCacheOptions::from_env().map_err(raise)?;
                opts.disk = settings.cache_dir.or(opts.disk);
                opts.entries = settings.cache_size.unwrap_or(opts.entries);
                builder = builder.results(ResultCache::new(opts).map_err(raise)?);
            }
            Some(false) => builder = builder.results(None),
            None => {}
        }
        builder.build().map(Self).map_err(raise)
    }

    /// The process's own.
    #[staticmethod]
    fn default(py: Python<'_>) -> PyResult<Self> {
        dubcore::Factory::global().cloned().map(Self).map_err(|e| to_py(py, &e))
    }

    /// Makes a Python object the model of that name; `about` says what its kind does not.
    fn register(&self, py: Python<'_>, name: &str, kind: &str, object: Py<PyAny>, about: About) -> PyResult<()> {
        let reference: ModelRef = name.parse().map_err(|e| to_py(py, &e))?;
        let make = own::maker(py, name, kind, object, about)?;
        self.0.add_own_model(reference, make);
        Ok(())
    }

    fn stt(&self, py: Python<'_>, model: String, load: Load, control: Control) -> PyResult<Call> {
        let (factory, opts) = (self.0.clone(), load.options(py)?);
        let work = move |job: &Job| factory.stt(&model.parse()?, &opts, job);
        Call::start(py, control.ticket()?, work, |py, stage| Ok(Py::new(py, Stt(stage))?.into_any()))
    }

    fn translator(&self, py: Python<'_>, model: String, load: Load, control: Control) -> PyResult<Call> {
        let (factory, opts) = (self.0.clone(), load.options(py)?);
        let work = move |job: &Job| factory.translator(&model.parse()?, &opts, job);
        Call::start(py, control.ticket()?, work, |py, stage| Ok(Py::new(py, Translator(stage))?.into_any()))
    }

    fn tts(&self, py: Python<'_>, model: String, load: Load, control: Control) -> PyResult<Call> {
        let (factory, opts) = (self.0.clone(), load.options(py)?);
        let work = move |job: &Job| factory.tts(&model.parse()?, &opts, job);
        Call::start(py, control.ticket()?, work, |py, stage| Ok(Py::new(py, Tts(stage))?.into_any()))
    }

    /// Loads models, and says of each whether it worked: `None`, or its exception.
    fn preload(&self, py: Python<'_>, names: Vec<String>, warm: bool, load: Load, control: Control) -> PyResult<Call> {
        let (factory, opts, wanted) = (self.0.clone(), load.options(py)?, models(py, &names)?);
        let work = move |job: &Job| {
            let found: Vec<dubcore::Result<()>> = match warm {
                true => factory.warm_up(&wanted, &opts, job).into_iter().map(|r| r.map(drop)).collect(),
                false => factory.preload(&wanted, &opts, job),
            };
            job.check().map(|()| found)
        };
        let convert = move |py: Python<'_>, found: Vec<dubcore::Result<()>>| {
            let each = found.into_iter().map(|r| r.err().map(|e| to_py(py, &e)));
            let named = names.into_iter().zip(each.map(|e| e.map(|e| e.into_value(py))));
            Ok(pyo3::types::IntoPyDict::into_py_dict(named, py)?.into_any().unbind())
        };
        Call::start(py, control.ticket()?, work, convert)
    }

    fn unload(&self, py: Python<'_>, model: Option<String>, control: Control) -> PyResult<Call> {
        let factory = self.0.clone();
        let work = move |job: &Job| match model {
            Some(model) => factory.unload(&model.parse()?, job),
            None => factory.clear(job),
        };
        Call::start(py, control.ticket()?, work, |py, ()| Ok(py.None()))
    }

    fn sweep(&self, py: Python<'_>) -> usize {
        py.detach(|| self.0.sweep())
    }

    fn pin(&self, py: Python<'_>, model: &str, pinned: bool) -> PyResult<bool> {
        Ok(self.0.pin(&model.parse().map_err(|e| to_py(py, &e))?, pinned))
    }

    fn clear_cache(&self, py: Python<'_>) {
        py.detach(|| {
            if let Some(results) = self.0.results() {
                results.clear();
            }
        });
    }

    fn status(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let status = py.detach(|| self.0.status());
        to_object(py, status)
    }

    /// The models that are on this machine.
    fn installed(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let found = py.detach(|| self.0.installed());
        to_object(py, found)
    }

    /// The folder of the hub's models, if there can be one, and the address that they come from.
    fn hub(&self) -> (Option<OsString>, String) {
        let hub = self.0.hub();
        (hub.folder().ok().map(PathBuf::into_os_string), hub.address())
    }

    fn health(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let health = py.detach(|| self.0.health());
        to_object(py, health)
    }

    fn metrics(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.status().prometheus())
    }
}
