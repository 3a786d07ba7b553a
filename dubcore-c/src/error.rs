//! Status numbers and the caller's error object.

use std::ffi::{CStr, CString};

use engine::{ErrorKind, Result};

/// How a call went. A number, once given, keeps its meaning for ever; new ones are added at the end.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It succeeded.
    Ok = 0,
    /// An argument is NULL, not UTF-8, or outside its documented range.
    InvalidArgument = 1,
    /// A language code is not known, or no model speaks it.
    UnsupportedLanguage = 2,
    /// The media container or codec is not one this build decodes.
    UnsupportedMedia = 3,
    /// The media claims a format that it does not follow, or ends too early.
    CorruptMedia = 4,
    /// The input exceeds a configured limit.
    LimitExceeded = 5,
    /// Reading or writing a file failed.
    Io = 6,
    /// A model, or one of its files, is not there.
    ModelNotFound = 7,
    /// A model file is damaged.
    ModelCorrupt = 8,
    /// A model is intact but not of a kind that this build runs.
    ModelIncompatible = 9,
    /// Memory ran out, or a model does not fit the configured budget.
    OutOfMemory = 10,
    /// The resource stayed in use until the deadline of the wait. Trying again later may work.
    Busy = 11,
    /// The job was cancelled.
    Cancelled = 12,
    /// The job's deadline passed.
    DeadlineExceeded = 13,
    /// A defect in the library, or a failure newer than this list: dub_error_kind names it.
    Internal = 14,
    /// A device is not there, or failed for good.
    DeviceUnavailable = 15,
    /// A model could not be fetched: no network, or a server that fails.
    Network = 16,
}

impl From<ErrorKind> for Status {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidArgument => Self::InvalidArgument,
            ErrorKind::UnsupportedLanguage => Self::UnsupportedLanguage,
            ErrorKind::UnsupportedMedia => Self::UnsupportedMedia,
            ErrorKind::CorruptMedia => Self::CorruptMedia,
            ErrorKind::LimitExceeded => Self::LimitExceeded,
            ErrorKind::Io => Self::Io,
            ErrorKind::ModelNotFound => Self::ModelNotFound,
            ErrorKind::ModelCorrupt => Self::ModelCorrupt,
            ErrorKind::ModelIncompatible => Self::ModelIncompatible,
            ErrorKind::OutOfMemory => Self::OutOfMemory,
            ErrorKind::DeviceUnavailable => Self::DeviceUnavailable,
            ErrorKind::Network => Self::Network,
            ErrorKind::Busy => Self::Busy,
            ErrorKind::Cancelled => Self::Cancelled,
            ErrorKind::DeadlineExceeded => Self::DeadlineExceeded,
            // The enum may grow without this file: the kind's own name still tells it apart.
            _ => Self::Internal,
        }
    }
}

/// The details of a failure. It belongs to the caller, who may pass it to any number of calls, one at a time.
pub struct Failure {
    status: Status,
    kind: CString,
    message: CString,
}

impl Failure {
    pub(crate) fn status(&self) -> Status {
        self.status
    }

    pub(crate) fn kind(&self) -> &CStr {
        &self.kind
    }

    pub(crate) fn message(&self) -> &CStr {
        &self.message
    }
}

impl Default for Failure {
    fn default() -> Self {
        Self { status: Status::Ok, kind: c"ok".into(), message: c"".into() }
    }
}

impl From<Result<()>> for Failure {
    fn from(outcome: Result<()>) -> Self {
        match outcome {
            Ok(()) => Self::default(),
            Err(e) => Self { status: e.kind().into(), kind: c_string(e.kind().as_str()), message: c_string(&e.report()) },
        }
    }
}

/// A message may quote what it complains about, NUL included: that is shown as U+FFFD.
fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}
