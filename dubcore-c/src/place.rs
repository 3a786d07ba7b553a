//! Where results go: pointers that C gave.

use std::ffi::{CString, c_char};

use engine::{Error, ErrorKind, Result, Span};

use crate::handle::{Handle, put};

/// What is written where a call fails: nothing, zero, false, NULL, the handle that is none.
pub(crate) trait Blank: Copy {
    const BLANK: Self;
}

macro_rules! blank {
    ($($type:ty = $value:expr),*) => { $(impl Blank for $type { const BLANK: Self = $value; })* };
}

blank! { bool = false, usize = 0, u32 = 0, f64 = 0.0 }

impl<T> Blank for *const T {
    const BLANK: Self = std::ptr::null();
}

/// A place for a result. Writing is by pointer and never by reference: C may give one place twice.
pub(crate) struct Place<T>(*mut T);

/// The place that an argument points to, with nothing in it yet.
///
/// # Safety
/// `to` is NULL, or may be written to as long as the place exists.
pub(crate) unsafe fn place<T: Blank>(to: *mut T, argument: &str) -> Result<Place<T>> {
    if to.is_null() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("{argument} is NULL: it must point to where the result goes"),
        ));
    }
    // SAFETY: not NULL, so writable by the caller's promise.
    unsafe { to.write(T::BLANK) };
    Ok(Place(to))
}

impl<T: Blank> Place<T> {
    pub(crate) fn set(&self, value: T) {
        // SAFETY: writable as long as `self` exists, which `place` was promised.
        unsafe { self.0.write(value) };
    }
}

/// Where a text goes, and when it is said, in seconds.
pub(crate) struct Timed {
    start: Place<f64>,
    end: Place<f64>,
    text: Place<*const c_char>,
}

/// # Safety
/// As for [`place`], of each.
pub(crate) unsafe fn timed(start: *mut f64, end: *mut f64, text: *mut *const c_char) -> Result<Timed> {
    // SAFETY: passed on.
    unsafe { Ok(Timed { start: place(start, "start")?, end: place(end, "end")?, text: place(text, "text")? }) }
}

impl Timed {
    pub(crate) fn set(&self, span: Span, text: &CString) {
        self.start.set(span.start.as_secs_f64());
        self.end.set(span.end.as_secs_f64());
        self.text.set(text.as_ptr());
    }
}

impl<H: Handle + Blank> Place<H> {
    /// Writes a handle to `object`.
    pub(crate) fn put(&self, object: H::Object) -> Result<()> {
        put(object).map(|handle: H| self.set(handle))
    }
}
