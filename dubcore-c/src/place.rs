//! Where results go: pointers that C gave.

use engine::{Error, ErrorKind, Result};

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

impl<H: Handle + Blank> Place<H> {
    /// Writes a handle to `object`.
    pub(crate) fn put(&self, object: H::Object) -> Result<()> {
        put(object).map(|handle: H| self.set(handle))
    }
}
