//! Strings, and arrays, from C and to C.

use std::ffi::{CStr, CString, c_char};

use engine::{Error, ErrorKind, Lang, ModelRef, Result};

pub(crate) fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// The text of an argument that may be NULL.
///
/// # Safety
/// `text` is NULL or ends in NUL, and stays as it is for `'a`.
pub(crate) unsafe fn optional<'a>(text: *const c_char, argument: &str) -> Result<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, so by the caller's promise a C string for 'a.
    let bytes = unsafe { CStr::from_ptr(text) };
    bytes.to_str().map(Some).map_err(|e| wrong(format!("{argument} is not UTF-8")).with_source(e))
}

/// The text of an argument that must be given, and may be empty.
///
/// # Safety
/// As for [`optional`].
pub(crate) unsafe fn given<'a>(text: *const c_char, argument: &str) -> Result<&'a str> {
    // SAFETY: passed on.
    unsafe { optional(text, argument)? }.ok_or_else(|| wrong(format!("{argument} is NULL: it must be given")))
}

/// The text of an argument that must be given and not be empty.
///
/// # Safety
/// As for [`optional`].
pub(crate) unsafe fn required<'a>(text: *const c_char, argument: &str) -> Result<&'a str> {
    // SAFETY: passed on.
    match unsafe { given(text, argument)? } {
        "" => Err(wrong(format!("{argument} is empty: it must be given"))),
        text => Ok(text),
    }
}

/// A language that may be NULL.
///
/// # Safety
/// As for [`optional`].
pub(crate) unsafe fn language(text: *const c_char, argument: &str) -> Result<Option<Lang>> {
    // SAFETY: passed on.
    unsafe { optional(text, argument)? }.map(str::parse).transpose()
}

/// A model's name.
///
/// # Safety
/// As for [`optional`].
pub(crate) unsafe fn model(text: *const c_char, argument: &str) -> Result<ModelRef> {
    // SAFETY: passed on.
    unsafe { required(text, argument)? }.parse()
}

/// `count` values, which may be NULL where there are none.
///
/// # Safety
/// `values` is NULL, or points to `count` values that stay as they are for `'a`.
pub(crate) unsafe fn array<'a, T>(values: *const T, count: usize, argument: &str) -> Result<&'a [T]> {
    if values.is_null() {
        return match count {
            0 => Ok(&[]),
            _ => Err(wrong(format!("{argument} is NULL: it must point to {count} values"))),
        };
    }
    if count.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(wrong(format!("{argument}: nobody has {count} values")));
    }
    if !values.is_aligned() {
        return Err(wrong(format!("{argument} is not aligned as its values must be")));
    }
    // SAFETY: not NULL, aligned, of possible size; the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(values, count) })
}

/// `count` texts, each given.
///
/// # Safety
/// As for [`array`] and, for each text, [`optional`].
pub(crate) unsafe fn texts<'a>(texts: *const *const c_char, count: usize, argument: &str) -> Result<Vec<&'a str>> {
    // SAFETY: passed on.
    let pointers: &[*const c_char] = unsafe { array(texts, count, argument)? };
    // SAFETY: passed on.
    pointers.iter().enumerate().map(|(i, text)| unsafe { given(*text, &format!("{argument}[{i}]")) }).collect()
}

/// Options: keys and values by turns, with NULL behind the last; NULL for none.
///
/// # Safety
/// `options` is NULL, or points to C strings, the last of which is NULL; they stay as they are for `'a`.
pub(crate) unsafe fn pairs<'a>(options: *const *const c_char, argument: &str) -> Result<Vec<(&'a str, &'a str)>> {
    let mut found = Vec::new();
    if options.is_null() {
        return Ok(found);
    }
    for at in (0..).step_by(2) {
        // SAFETY: no place behind a NULL is read.
        let Some(key) = (unsafe { optional(*options.add(at), argument)? }) else { break };
        // SAFETY: the place before is not NULL.
        let value = unsafe { optional(*options.add(at + 1), argument)? };
        let value = value.ok_or_else(|| wrong(format!("{argument}: the key {key:?} is without a value")))?;
        found.push((key, value));
    }
    Ok(found)
}

/// A time in seconds.
pub(crate) fn seconds(value: f64, argument: &str) -> Result<std::time::Duration> {
    std::time::Duration::try_from_secs_f64(value)
        .map_err(|e| wrong(format!("{argument} is {value}: it must be a number of seconds, 0 or more")).with_source(e))
}

/// One of several.
pub(crate) fn nth<'a, T>(of: &'a [T], index: usize, argument: &str) -> Result<&'a T> {
    of.get(index).ok_or_else(|| wrong(format!("{argument} is {index}, and there are {}: they count from 0", of.len())))
}

/// What is shown of a text in C: a NUL inside of it is U+FFFD.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}
