//! Status numbers and the caller's error object.

use std::ffi::{CStr, CString, c_char};

use engine::{ErrorKind, Result};

use crate::door::guard;
use crate::text::c_string;

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
    /// There is no further line. This is not a failure.
    End = 17,
}

/// The one table of statuses that are failures.
const FAILURES: [(Status, ErrorKind); 16] = [
    (Status::InvalidArgument, ErrorKind::InvalidArgument),
    (Status::UnsupportedLanguage, ErrorKind::UnsupportedLanguage),
    (Status::UnsupportedMedia, ErrorKind::UnsupportedMedia),
    (Status::CorruptMedia, ErrorKind::CorruptMedia),
    (Status::LimitExceeded, ErrorKind::LimitExceeded),
    (Status::Io, ErrorKind::Io),
    (Status::ModelNotFound, ErrorKind::ModelNotFound),
    (Status::ModelCorrupt, ErrorKind::ModelCorrupt),
    (Status::ModelIncompatible, ErrorKind::ModelIncompatible),
    (Status::OutOfMemory, ErrorKind::OutOfMemory),
    (Status::Busy, ErrorKind::Busy),
    (Status::Cancelled, ErrorKind::Cancelled),
    (Status::DeadlineExceeded, ErrorKind::DeadlineExceeded),
    (Status::Internal, ErrorKind::Internal),
    (Status::DeviceUnavailable, ErrorKind::DeviceUnavailable),
    (Status::Network, ErrorKind::Network),
];

/// The kind behind a number that C gave, which may be any.
pub(crate) fn kind_of(status: i32) -> ErrorKind {
    let found = FAILURES.iter().find(|(known, _)| *known as i32 == status);
    found.map_or(ErrorKind::Internal, |(_, kind)| *kind)
}

impl From<ErrorKind> for Status {
    fn from(kind: ErrorKind) -> Self {
        // The enum may grow without this file: the kind's own name still tells it apart.
        FAILURES.iter().find(|(_, known)| *known == kind).map_or(Self::Internal, |(status, _)| *status)
    }
}

/// The details of a failure. It belongs to the caller, who may pass it to any number of calls, one at a time.
pub struct Failure {
    status: Status,
    kind: CString,
    message: CString,
    hint: CString,
    retryable: bool,
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

    fn hint(&self) -> &CStr {
        &self.hint
    }
}

impl Default for Failure {
    fn default() -> Self {
        Self { status: Status::Ok, kind: c"ok".into(), message: c"".into(), hint: c"".into(), retryable: false }
    }
}

impl From<Result<Status>> for Failure {
    fn from(outcome: Result<Status>) -> Self {
        match outcome {
            Ok(Status::End) => Self { status: Status::End, kind: c"end".into(), ..Self::default() },
            Ok(_) => Self::default(),
            Err(e) => Self {
                status: e.kind().into(),
                kind: c_string(e.kind().as_str()),
                message: c_string(&e.report()),
                hint: c_string(e.kind().hint()),
                retryable: e.kind().is_retryable(),
            },
        }
    }
}

/// A place for the details of a failure, to be passed to other functions and freed with dub_error_free.
/// NULL only after a defect inside the library.
#[unsafe(no_mangle)]
pub extern "C" fn dub_error_new() -> *mut Failure {
    guard(std::ptr::null_mut(), || Box::into_raw(Box::new(Failure::default())))
}

/// Frees `error`, and with it the texts that it gave out. `error` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_error_free(error: *mut Failure) {
    if !error.is_null() {
        // SAFETY: not NULL, so by the caller's promise it is a live Box of dub_error_new's.
        guard((), || drop(unsafe { Box::from_raw(error) }));
    }
}

/// The status of the call that last used `error`; DUB_STATUS_OK if none did.
/// DUB_STATUS_INVALID_ARGUMENT when `error` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_error_status(error: *const Failure) -> Status {
    // SAFETY: NULL or live, by the caller's promise.
    unsafe { error.as_ref() }.map_or(Status::InvalidArgument, Failure::status)
}

/// The name of the status: "ok", "invalid_argument", "busy" and so on. It is never NULL, and belongs to `error` until
/// that is freed or passed to another call. For a NULL `error` it is "invalid_argument".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_error_kind(error: *const Failure) -> *const c_char {
    // SAFETY: NULL or live, by the caller's promise.
    unsafe { error.as_ref() }.map_or(c"invalid_argument", Failure::kind).as_ptr()
}

/// What went wrong and what to do about it, with its causes, in one line for a person or a log; empty after a success.
/// It is never NULL, and belongs to `error` until that is freed or passed to another call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_error_message(error: *const Failure) -> *const c_char {
    // SAFETY: NULL or live, by the caller's promise.
    unsafe { error.as_ref() }.map_or(c"the error is NULL", Failure::message).as_ptr()
}

/// What to do about failures of that kind in general; empty after a success. It is never NULL, and belongs to `error` until
/// that is freed or passed to another call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_error_hint(error: *const Failure) -> *const c_char {
    // SAFETY: NULL or live, by the caller's promise.
    unsafe { error.as_ref() }.map_or(c"pass an error of dub_error_new's", Failure::hint).as_ptr()
}

/// Whether the same call may succeed later with nothing else changed. False for a NULL `error`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_error_retryable(error: *const Failure) -> bool {
    // SAFETY: NULL or live, by the caller's promise.
    unsafe { error.as_ref() }.is_some_and(|failure| failure.retryable)
}
