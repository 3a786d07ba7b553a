//! The one error type of the library.
//!
//! [`Error`] is opaque: match on [`Error::kind`], show the message to a person, follow
//! [`std::error::Error::source`] for the causes. It is cheap to clone, because one failed load has to be
//! reported to every caller that waited for it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The result of everything in this library that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// A shared cause. `Arc` is an error itself, and as such would hide from `downcast_ref` what it holds.
#[derive(Clone)]
struct Source(Arc<dyn std::error::Error + Send + Sync>);

impl Deref for Source {
    type Target = dyn std::error::Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

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

    /// What to do about it in general. What exactly was wrong, and often what to do about that, is in the message.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::InvalidArgument => "pass a value within the range that the message names",
            Self::UnsupportedLanguage => "check the code, or name models that speak the language",
            Self::UnsupportedMedia => "convert the media, to WAV or FLAC say, with another tool",
            Self::CorruptMedia => "get the file again from where it came from: it is damaged or incomplete",
            Self::LimitExceeded => "split the input, or raise the limit where it is yours to raise",
            Self::Io => "check the path, its permissions and the free space",
            Self::ModelNotFound => {
                "check the model's name; set HF_TOKEN for one that is not everyone's, or preload it where there is a network"
            }
            Self::ModelCorrupt => "delete the model's folder and fetch it again",
            Self::ModelIncompatible => "choose a model of an architecture that this build runs, with weights in safetensors",
            Self::OutOfMemory => "run fewer calls at once, unload models, choose a smaller one, or give the process more memory",
            Self::DeviceUnavailable => "choose another device, or let it be chosen",
            Self::Network => "try again: what was fetched is kept; see to the network or the proxy",
            Self::Busy => "try again later, or allow longer queues or more calls at once",
            Self::Cancelled => "nothing is wrong: somebody asked for it",
            Self::DeadlineExceeded => "allow more time, or give it less to do",
            Self::Internal => "report it with its message: it is a defect of the library, the model or a stage of the host's own",
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
        self.source = Some(Source(Arc::new(source)));
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
        let cause = std::error::Error::source(&e).and_then(|c| c.downcast_ref::<std::io::Error>());
        assert_eq!(cause.map(std::io::Error::kind), Some(std::io::ErrorKind::Other), "the cause is what it was");
    }
}
