//! Strings from C.

use std::ffi::{CStr, c_char};

use engine::{Error, ErrorKind, Result};

/// The text of an argument that may be NULL.
///
/// # Safety
/// `text` is NULL or ends in NUL, and stays as it is for `'a`.
pub(crate) unsafe fn optional<'a>(text: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, so by the caller's promise a C string for 'a.
    let bytes = unsafe { CStr::from_ptr(text) };
    let wrong = |e| Error::new(ErrorKind::InvalidArgument, format!("{name} is not UTF-8")).with_source(e);
    bytes.to_str().map(Some).map_err(wrong)
}

/// The text of an argument that must be given and not be empty.
///
/// # Safety
/// As for [`optional`].
pub(crate) unsafe fn required<'a>(text: *const c_char, name: &str) -> Result<&'a str> {
    // SAFETY: passed on.
    match unsafe { optional(text, name)? } {
        None => Err(Error::new(ErrorKind::InvalidArgument, format!("{name} is NULL: it must be given"))),
        Some("") => Err(Error::new(ErrorKind::InvalidArgument, format!("{name} is empty: it must be given"))),
        Some(text) => Ok(text),
    }
}
