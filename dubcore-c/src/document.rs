//! `dub_text`: texts that are made for the caller.

use std::ffi::{CString, c_char};

use engine::{Error, ErrorKind, Result};

use crate::door::run;
use crate::error::{Failure, Status};
use crate::handle::{Text, free, get};
use crate::place::{Place, place};
use crate::text::c_string;

/// A text.
pub(crate) struct Document(pub(crate) CString);

impl Place<Text> {
    pub(crate) fn put_text(&self, text: &str) -> Result<()> {
        self.put(Document(c_string(text)))
    }

    /// Times are single numbers of seconds, as everywhere in C.
    pub(crate) fn put_json(&self, value: impl serde::Serialize) -> Result<()> {
        self.put_text(&json(value)?)
    }
}

/// A value as JSON, times as seconds.
pub(crate) fn json(value: impl serde::Serialize) -> Result<String> {
    let failed = |e| Error::new(ErrorKind::Internal, "a value cannot be written as JSON").with_source(e);
    serde_json::to_value(value).map(|value| plain(value).to_string()).map_err(failed)
}

/// The engine's own files have times as seconds and nanoseconds.
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

/// The text, which ends in NUL, and its length in bytes without that. It lives as long as the handle.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_text_data(text: Text, data: *mut *const c_char, length: *mut usize, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (data, length) = (place(data, "data")?, place(length, "length")?);
            let text = get(text, "text")?;
            data.set(text.0.as_ptr());
            length.set(text.0.as_bytes().len());
            Ok(())
        })
    }
}

/// Frees a text, and with it what dub_text_data gave.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a handle that was freed already.
#[unsafe(no_mangle)]
pub extern "C" fn dub_text_free(text: Text) -> Status {
    free(text)
}
