//! What C wants back in its callbacks, and how that ends.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends what `user` points to, once, on any thread, when or soon after the last that could use it has gone: a thread that
/// loaded a model may be the last. It may call any function, and must not throw or jump out.
pub type DestroyFn = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// A pointer of C's own, for its callbacks. The last clone that goes ends what it points to, if it was armed.
#[derive(Clone)]
pub(crate) struct User(Arc<Owned>);

struct Owned {
    pointer: *mut c_void,
    destroy: DestroyFn,
    /// Whether the library owns it: it does as soon as the call that handed it over is sure to succeed.
    armed: AtomicBool,
}

// SAFETY: it is handed to callbacks alone, which by the header's conventions may be called on any thread.
unsafe impl Send for Owned {}
// SAFETY: as above; several may be called at once.
unsafe impl Sync for Owned {}

impl User {
    pub(crate) fn new(pointer: *mut c_void, destroy: DestroyFn) -> Self {
        Self(Arc::new(Owned { pointer, destroy, armed: AtomicBool::new(false) }))
    }

    /// From now on the library owns it.
    pub(crate) fn arm(&self) {
        self.0.armed.store(true, Ordering::Release);
    }

    pub(crate) fn pointer(&self) -> *mut c_void {
        self.0.pointer
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let (true, Some(destroy)) = (*self.armed.get_mut(), self.destroy) {
            // SAFETY: the function is C's, to be called once with its pointer, which this is the last to have.
            unsafe { destroy(self.pointer) };
        }
    }
}
