//! The locks and atomics that the concurrency code uses, in one place, so that a model checker can stand in for them.

pub(crate) use parking_lot::{Condvar, Mutex, RwLock};
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
