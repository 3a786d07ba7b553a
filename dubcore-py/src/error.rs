//! The exceptions: `Error`, and below it one class per kind.

use std::error::Error as StdError;

use dubcore::ErrorKind;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyOSError, PyRuntimeError};
use pyo3::prelude::*;

create_exception!(
    dubcore,
    Error,
    PyException,
    "What every failure of dubcore is. `kind` names it, for programs; `hint` says what to do about that kind, and `retryable`
whether the same call may succeed later with nothing else changed. The cause, where there is one, is `__cause__`."
);

/// The one table of kinds and classes.
macro_rules! kinds {
    ($($kind:ident => $class:ident, $doc:literal;)*) => {
        $(create_exception!(dubcore, $class, Error, $doc);)*

        /// The exception that tells of `error`.
        pub(crate) fn to_py(py: Python<'_>, error: &dubcore::Error) -> PyErr {
            let raised = match error.kind() {
                $(ErrorKind::$kind => $class::new_err(error.report()),)*
                // A kind newer than this table: the base class, with the kind's own name.
                _ => Error::new_err(error.report()),
            };
            raised.set_cause(py, error.source().map(|found| cause(py, found)));
            match describe(raised.value(py), error.kind()) {
                Ok(()) => raised,
                Err(e) => e,
            }
        }

        /// What a Python object did wrong, as an error of the engine: its kind where it is one of these, else `Internal`.
        pub(crate) fn from_py(py: Python<'_>, who: &str, raised: &PyErr) -> dubcore::Error {
            let kind = match () {
                $(() if raised.is_instance_of::<$class>(py) => ErrorKind::$kind,)*
                () => ErrorKind::Internal,
            };
            let name = raised.get_type(py).name().map_or_else(|_| "an exception".into(), |n| n.to_string());
            let error = dubcore::Error::new(kind, format!("{who} raised {name}"));
            error.with_source(Raised(raised.clone_ref(py), raised.value(py).to_string()))
        }

        /// Adds the classes to the module, each with its kind.
        pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
            let py = m.py();
            let base = py.get_type::<Error>();
            describe(&base, ErrorKind::Internal)?;
            m.add("Error", base)?;
            $(
                let class = py.get_type::<$class>();
                describe(&class, ErrorKind::$kind)?;
                m.add(stringify!($class), class)?;
            )*
            Ok(())
        }
    };
}

/// What a kind means, on a class or an exception.
fn describe(on: &Bound<'_, PyAny>, kind: ErrorKind) -> PyResult<()> {
    on.setattr("kind", kind.as_str())?;
    on.setattr("hint", kind.hint())?;
    on.setattr("retryable", kind.is_retryable())
}

/// An exception of a Python object's, as a cause.
#[derive(Debug, thiserror::Error)]
#[error("{1}")]
struct Raised(PyErr, String);

/// The exception that stands for a cause: itself if it was one, else the nearest of Python's.
fn cause(py: Python<'_>, found: &(dyn StdError + 'static)) -> PyErr {
    if let Some(Raised(raised, _)) = found.downcast_ref() {
        return raised.clone_ref(py);
    }
    if let Some(error) = found.downcast_ref::<dubcore::Error>() {
        return to_py(py, error);
    }
    let raised = match found.downcast_ref::<std::io::Error>() {
        Some(io) => match io.raw_os_error() {
            // With the number Python finds the fitting class: FileNotFoundError, PermissionError, ...
            Some(number) => PyOSError::new_err((number, io.to_string())),
            None => PyOSError::new_err(io.to_string()),
        },
        None => PyRuntimeError::new_err(found.to_string()),
    };
    raised.set_cause(py, found.source().map(|next| cause(py, next)));
    raised
}

kinds! {
    InvalidArgument => InvalidArgumentError, "An argument is outside its documented range.";
    UnsupportedLanguage => UnsupportedLanguageError, "A language code is not known, or no model speaks it.";
    UnsupportedMedia => UnsupportedMediaError, "The media container or codec is not one this build decodes.";
    CorruptMedia => CorruptMediaError, "The media claims a format that it does not follow, or ends too early.";
    LimitExceeded => LimitExceededError, "The input exceeds a configured limit.";
    Io => IoError, "Reading or writing a file failed.";
    ModelNotFound => ModelNotFoundError, "A model, or one of its files, is not there.";
    ModelCorrupt => ModelCorruptError, "A model file is damaged.";
    ModelIncompatible => ModelIncompatibleError, "A model is intact but not of a kind that this build runs.";
    OutOfMemory => OutOfMemoryError, "Memory ran out, or a model does not fit the configured budget.";
    DeviceUnavailable => DeviceUnavailableError, "A device is not there, or failed for good.";
    Network => NetworkError, "A model could not be fetched: no network, or a server that fails.";
    Busy => BusyError, "The resource stayed in use until the deadline of the wait. Trying again later may work.";
    Cancelled => CancelledError, "The job was cancelled.";
    DeadlineExceeded => DeadlineExceededError, "The job's deadline passed.";
    Internal => InternalError, "A defect in dubcore or in a model's mathematics.";
}
