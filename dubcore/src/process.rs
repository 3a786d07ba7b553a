//! [`PerProcess`]: what does not survive `fork()`.
//!
//! A child has one thread, and all the memory as it was at that moment: locks that other threads held stay locked for ever,
//! threads of pools are gone. So whatever has locks or threads is made anew in a child, and takes over only what can be read
//! without a lock.

use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

/// A value of which each process has its own, made at its first use there. An atomic pointer, because a mutex may be held by
/// another thread at the moment of the fork.
pub(crate) struct PerProcess<T>(AtomicPtr<Own<T>>);

struct Own<T> {
    pid: u32,
    value: T,
}

impl<T> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// This process's value. `make` makes it, in a child from what the parent had, of which it must touch no lock. Of several
    /// that make one at once, one wins.
    pub(crate) fn get<E>(&self, make: impl FnOnce(Option<&T>) -> Result<T, E>) -> Result<&T, E> {
        let pid = std::process::id();
        let seen = self.0.load(Ordering::Acquire);
        // SAFETY: a pointer once stored stays valid as long as `self` is borrowed: only `drop` frees it.
        let inherited = unsafe { seen.as_ref() };
        if let Some(own) = inherited.filter(|own| own.pid == pid) {
            return Ok(&own.value);
        }
        let fresh = Box::into_raw(Box::new(Own { pid, value: make(inherited.map(|own| &own.value))? }));
        match self.0.compare_exchange(seen, fresh, Ordering::AcqRel, Ordering::Acquire) {
            // What was inherited is left where it is: parts of it may be locked.
            // SAFETY: `fresh` came from `Box::into_raw` and belongs to `self` now, which frees it only in `drop`.
            Ok(_) => Ok(unsafe { &(*fresh).value }),
            Err(winner) => {
                // SAFETY: `fresh` was not published, so this is its only owner.
                drop(unsafe { Box::from_raw(fresh) });
                // SAFETY: as for `seen`; the winner was stored by another thread of this process.
                Ok(unsafe { &(*winner).value })
            }
        }
    }

    /// As [`PerProcess::get`], where nothing can fail.
    pub(crate) fn get_with(&self, make: impl FnOnce(Option<&T>) -> T) -> &T {
        let Ok(value) = self.get(|inherited| Ok::<_, std::convert::Infallible>(make(inherited)));
        value
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let own = *self.0.get_mut();
        // SAFETY: as in `get`; nobody else has `self` any more.
        let is_ours = unsafe { own.as_ref() }.is_some_and(|own| own.pid == std::process::id());
        // What was inherited and never used here may be locked, so it is left.
        if is_ours {
            // SAFETY: it came from `Box::into_raw`, and no reference into it outlives `self`.
            drop(unsafe { Box::from_raw(own) });
        }
    }
}

// SAFETY: it owns a `T` as a `Box` would, and hands out `&T` from any thread.
unsafe impl<T: Send + Sync> Sync for PerProcess<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for PerProcess<T> {}

/// Gives memory that was freed back to the system, after something large went. glibc keeps what threads freed in as many
/// heaps as there were threads, and would hold on to the weights of models that are gone.
pub(crate) fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes any number, from any thread, and touches only memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn what_is_in_use_is_not_given_back() {
        let mut kept: Vec<Vec<u8>> = (0..200).map(|i| vec![i as u8; 100_000]).collect();
        kept.retain(|bytes| bytes[0] % 2 == 0);
        give_back_memory();
        assert!(kept.iter().enumerate().all(|(i, bytes)| bytes.iter().all(|b| usize::from(*b) == 2 * i)));
    }

    #[test]
    fn one_value_serves_all_threads_and_is_dropped_once() {
        let dropped = Arc::new(AtomicUsize::new(0));
        struct Counted(Arc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let made = AtomicUsize::new(0);
        let value = PerProcess::new();
        let make = |inherited: Option<&Counted>| {
            assert!(inherited.is_none());
            made.fetch_add(1, Ordering::SeqCst);
            Counted(dropped.clone())
        };
        let at: Vec<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| std::ptr::from_ref(value.get_with(make)) as usize)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(at.windows(2).all(|w| w[0] == w[1]));
        assert_eq!(dropped.load(Ordering::SeqCst), made.load(Ordering::SeqCst) - 1, "those that lost are gone");
        assert_eq!(value.get(|_| Err("never asked")).map(|_| ()), Ok(()));
        drop(value);
        assert_eq!(dropped.load(Ordering::SeqCst), made.load(Ordering::SeqCst));
        assert_eq!(PerProcess::<u8>::new().get(|_| Err("no")), Err("no"));
    }
}
