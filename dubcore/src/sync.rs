//! The locks and atomics that the concurrency code uses, in one place, so that a model checker can stand in for them: built
//! with `--cfg loom`, as only `loom/` does, they are loom's, which runs threads in every order that matters.
//!
//! They are the standard library's, without poisoning, and not parking_lot's: its locks share one table in the process, and a
//! child that is forked while another thread is at that table could wait for ever. Where nobody ever waits for a lock,
//! parking_lot's do.

use std::ops::{Deref, DerefMut};
#[cfg(not(loom))]
use std::sync::PoisonError;
use std::time::Duration;

#[cfg(loom)]
use loom::sync as from;
#[cfg(not(loom))]
use std::sync as from;

pub(crate) use from::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
pub(crate) use from::{Arc, RwLockReadGuard, RwLockWriteGuard};

/// How often [`pause`] spins before it lets other threads run.
pub(crate) const SPINS: usize = 2_000;

/// To be called each time that a thread has looked in vain for what another is about to do.
#[cfg(not(loom))]
pub(crate) fn pause(looked: usize) {
    if looked < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
}

#[cfg(loom)]
pub(crate) fn pause(_: usize) {
    loom::thread::yield_now();
}

#[cfg(loom)]
pub(crate) use loom::cell::UnsafeCell;

/// The standard library's, used as loom's is, which sees who looks at it and when.
#[cfg(not(loom))]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with<R>(&self, look: impl FnOnce(*const T) -> R) -> R {
        look(self.0.get())
    }

    pub(crate) fn with_mut<R>(&self, change: impl FnOnce(*mut T) -> R) -> R {
        change(self.0.get())
    }
}

/// A panic while a lock is held leaves what it protects whole: all critical sections are written so.
#[cfg(not(loom))]
fn whole<G>(result: Result<G, PoisonError<G>>) -> G {
    result.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(loom)]
fn whole<G, E: std::fmt::Debug>(result: Result<G, E>) -> G {
    result.expect("a panic ends the model")
}

#[derive(Default)]
pub(crate) struct Mutex<T>(from::Mutex<T>);

/// Empty only while its owner waits.
pub(crate) struct MutexGuard<'a, T>(Option<from::MutexGuard<'a, T>>);

const OWNED: &str = "its owner does not wait";

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(from::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(whole(self.0.lock())))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().expect(OWNED)
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_deref_mut().expect(OWNED)
    }
}

pub(crate) struct Condvar(from::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(from::Condvar::new())
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    #[cfg(not(loom))]
    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, time: Duration) {
        guard.0 = guard.0.take().map(|g| whole(self.0.wait_timeout(g, time)).0);
    }

    /// Waits without end: in a model no time passes, and a wake-up that is lost becomes a deadlock, which loom reports.
    #[cfg(loom)]
    pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _: Duration) {
        guard.0 = guard.0.take().map(|g| whole(self.0.wait(g)));
    }
}

pub(crate) struct RwLock<T>(from::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(from::RwLock::new(value))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        whole(self.0.read())
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
        whole(self.0.write())
    }
}
