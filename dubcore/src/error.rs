//! The one error type of the library.
//!
//! [`Error`] is opaque: match on [`Error::kind`], show the message to a person, follow
//! [`std::error::Error::source`] for the causes. It is cheap to clone, because one failed load has to be
//! reported to every caller that waited for it.

use std::fmt;
use std::sync::Arc;

/// The result of everything in this library that can fail.
pub type Result<T> = std::result::Result<T, Error>;

type Source = Arc<dyn std::error::Error + Send + Sync>;

/// What went wrong, for programs. New kinds may be added.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// An argument or option is outside its documented range.
    InvalidArgument,
    /// A language code is not known, or no model speaks it.
    UnsupportedLanguage,
    /// The media container or codec is not one this build decodes.
    UnsupportedMedia,
    /// The media claims a format that it does not follow, or ends too early.
    CorruptMedia,
    /// The input exceeds a configured limit (duration, channels, bytes, tokens).
    LimitExceeded,
    /// Reading or writing a file failed.
    Io,
    /// A model, or one of its files, is not there.
    ModelNotFound,
    /// A model file is damaged: it does not parse, or tensors are missing or misshapen.
    ModelCorrupt,
    /// A model is intact but of a kind, or with a setting, that this build does not run.
    ModelIncompatible,
    /// Memory ran out, or a model does not fit the configured budget.
    OutOfMemory,
    /// A device is not there, or failed for good.
    DeviceUnavailable,
    /// A model could not be fetched: no network, or a server that fails.
    Network,
    /// The resource stayed in use until the deadline of the wait. Trying again later may work.
    Busy,
    /// The job was cancelled.
    Cancelled,
    /// The job's deadline passed.
    DeadlineExceeded,
    /// A defect in the library or in a model's mathematics (a panic caught at a boundary, a non-finite number).
    Internal,
}

impl ErrorKind {
    /// The kind's permanent name, as the bindings show it: `invalid_argument`, `busy`, ...
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "invalid_argument",
            Self::UnsupportedLanguage => "unsupported_language",
            Self::UnsupportedMedia => "unsupported_media",
            Self::CorruptMedia => "corrupt_media",
            Self::LimitExceeded => "limit_exceeded",
            Self::Io => "io",
            Self::ModelNotFound => "model_not_found",
            Self::ModelCorrupt => "model_corrupt",
            Self::ModelIncompatible => "model_incompatible",
            Self::OutOfMemory => "out_of_memory",
            Self::DeviceUnavailable => "device_unavailable",
            Self::Network => "network",
            Self::Busy => "busy",
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Internal => "internal",
        }
    }

    /// Whether the same call may succeed later with nothing else changed.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Busy | Self::Network | Self::OutOfMemory | Self::Io | Self::DeadlineExceeded)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error: a kind for programs, a message that says what to do, and the cause.
#[derive(Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: Arc<str>,
    #[source]
    source: Option<Source>,
}

impl Error {
    /// An error without a cause. Hosts use it in their own stage implementations.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into().into(), source: None }
    }

    /// Attaches the cause, which [`std::error::Error::source`] returns.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// What went wrong, for programs.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message followed by every cause, one line: for logs.
    pub fn report(&self) -> String {
        let mut out = self.message.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            out.push_str(": ");
            out.push_str(&cause.to_string());
            next = cause.source();
        }
        out
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// `who` panicked; `panic` is what `catch_unwind` caught.
    pub(crate) fn panicked(who: &str, panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::internal(format!("{who} panicked: {}", text.unwrap_or("it did not say why")))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.report())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_follows_the_causes() {
        let io = std::io::Error::other("disk on fire");
        let e = Error::new(ErrorKind::Io, "cannot read a.wav").with_source(io);
        assert_eq!(e.report(), "cannot read a.wav: disk on fire");
        assert_eq!(e.clone().kind(), ErrorKind::Io);
        assert_eq!(format!("{e:?}"), "io: cannot read a.wav: disk on fire");
    }
}
