//! Rounds of work that threads share: whoever comes in while a round is open does parts until none is left.
//!
//! `loom/` runs this file through every order in which a caller and its helpers may meet.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::sync::{AtomicUsize, Mutex, Ordering, UnsafeCell, pause};

/// The rounds of one caller. Padded, as its helpers look at it all the time.
#[repr(align(128))]
pub(crate) struct Rounds {
    /// How many helpers are [`INSIDE`]; whether more may come in, [`OPEN`]; and the number of the round, above.
    state: AtomicUsize,
    next: AtomicUsize,
    work: UnsafeCell<Option<Work>>,
    panic: Mutex<Option<Panic>>,
}

/// What a part panicked with.
pub(crate) type Panic = Box<dyn Any + Send>;

const OPEN: usize = 1 << 15;
const ROUND: usize = 1 << 16;
const INSIDE: usize = OPEN - 1;

#[derive(Clone, Copy)]
struct Work {
    part: *const (dyn Fn(usize) + Sync),
    parts: usize,
}

// SAFETY: `work` is written only by the caller, while the round is closed and nobody inside, and read only inside and by the
// caller; everything else is atomic or locked. `part` may be called from any thread.
unsafe impl Sync for Rounds {}
// SAFETY: as above.
unsafe impl Send for Rounds {}

impl Default for Rounds {
    fn default() -> Self {
        let (state, next) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { state, next, work: UnsafeCell::new(None), panic: Mutex::new(None) }
    }
}

impl Rounds {
    /// The number of the round that is open, if one is.
    pub(crate) fn open(&self) -> Option<usize> {
        let state = self.state.load(Ordering::SeqCst);
        (state & OPEN != 0).then_some(state / ROUND)
    }

    /// Helps with a round until nothing is left of it; whether it came in.
    pub(crate) fn help(&self, round: usize) -> bool {
        let enter = |state: usize| (state & OPEN != 0 && state / ROUND == round).then_some(state + 1);
        if self.state.fetch_update(Ordering::AcqRel, Ordering::Relaxed, enter).is_err() {
            return false;
        }
        self.work();
        self.state.fetch_sub(1, Ordering::Release);
        true
    }

    /// Does parts until none is left. Whoever calls it is inside, or is the caller of the round.
    fn work(&self) {
        // SAFETY: inside, nobody writes it.
        let Some(Work { part, parts }) = self.work.with(|work| unsafe { *work }) else { return };
        let all = || {
            loop {
                let i = self.next.fetch_add(1, Ordering::Relaxed);
                if i >= parts {
                    break;
                }
                // SAFETY: the closure lives until its caller closed the round and everybody is out.
                unsafe { (*part)(i) };
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(all)) {
            // Nobody begins another part.
            self.next.store(parts, Ordering::Relaxed);
            self.panic.lock().get_or_insert(panic);
        }
    }

    /// Calls `part` with each of `0..parts`, with whoever comes in after `wake`. All of it is done, and everybody out, when it
    /// returns. After a panic in a part the rest is left undone.
    ///
    /// # Safety
    /// One thread at a time may call it.
    pub(crate) unsafe fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync), wake: impl FnOnce()) -> Result<(), Panic> {
        // SAFETY: only the lifetime changes. The pointer is followed only inside, and everybody is out before this returns.
        let part = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(part) };
        // SAFETY: the round is closed and nobody inside.
        self.work.with_mut(|work| unsafe { *work = Some(Work { part, parts }) });
        self.next.store(0, Ordering::Relaxed);
        let round = self.state.load(Ordering::Relaxed) / ROUND;
        self.state.store(round.wrapping_add(1).wrapping_mul(ROUND) | OPEN, Ordering::SeqCst);
        wake();
        self.work();
        self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looked = 0;
        while self.state.load(Ordering::Acquire) & INSIDE != 0 {
            looked += 1;
            pause(looked);
        }
        // SAFETY: closed and empty again.
        self.work.with_mut(|work| unsafe { *work = None });
        self.panic.lock().take().map_or(Ok(()), Err)
    }
}
