//! The exceptions: `Error`, and below it one class per kind.

use dubcore::ErrorKind;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(dubcore, Error, PyException, "What every failure of dubcore is. `kind` names it, for programs.");

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
            match raised.value(py).setattr("kind", error.kind().as_str()) {
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
            dubcore::Error::new(kind, format!("{who} raised {name}: {}", raised.value(py)))
        }

        /// Adds the classes to the module, each with its kind.
        pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
            let py = m.py();
            let base = py.get_type::<Error>();
            base.setattr("kind", ErrorKind::Internal.as_str())?;
            m.add("Error", base)?;
            $(
                let class = py.get_type::<$class>();
                class.setattr("kind", ErrorKind::$kind.as_str())?;
                m.add(stringify!($class), class)?;
            )*
            Ok(())
        }
    };
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
