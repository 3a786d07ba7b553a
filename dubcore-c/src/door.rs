//! The doors between C and Rust: no panic leaves, and what failed is told in one way.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use engine::{Error, ErrorKind, Result};

use crate::error::{Failure, Status};

/// Runs what can fail: the outcome is the status, the details go to `error`, a panic is `Internal`.
///
/// # Safety
/// `error` is NULL, or points to a live [`Failure`] that nothing else uses during the call.
pub(crate) unsafe fn run(error: *mut Failure, work: impl FnOnce() -> Result<()>) -> Status {
    // SAFETY: passed on.
    unsafe { run_to(error, || work().map(|()| Status::Ok)) }
}

/// As [`run`], for what can succeed in more than one way.
///
/// # Safety
/// As for [`run`].
pub(crate) unsafe fn run_to(error: *mut Failure, work: impl FnOnce() -> Result<Status>) -> Status {
    let outcome = guard_with(|panic| Err(Error::new(ErrorKind::Internal, format!("a defect in dubcore: {panic}"))), work);
    guard(Status::Internal, || {
        let failure = Failure::from(outcome);
        let status = failure.status();
        // SAFETY: the caller promises that it is NULL or ours alone.
        if let Some(place) = unsafe { error.as_mut() } {
            *place = failure;
        }
        status
    })
}

/// Runs what cannot fail but by a defect, which gives `otherwise`.
pub(crate) fn guard<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    guard_with(|_| otherwise, work)
}

/// A half-changed state that a panic leaves behind can only be the caller's error object, which is replaced whole, or
/// the engine's, whose locks and caches are built to outlive a panicking user: hence `AssertUnwindSafe`.
fn guard_with<T>(otherwise: impl FnOnce(&str) -> T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| otherwise(said(&*payload)))
}

fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}
