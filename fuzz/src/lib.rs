//! What the fuzzers share: which panics count, and how much memory an input may make us ask for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

/// Counts what is asked of the system's allocator.
struct Meter;

#[global_allocator]
static METER: Meter = Meter;

/// Bytes held now.
static HELD: AtomicIsize = AtomicIsize::new(0);
/// The most bytes held since the last [`run`] began.
static PEAK: AtomicIsize = AtomicIsize::new(0);
/// What `HELD` must not exceed.
static CAP: AtomicIsize = AtomicIsize::new(isize::MAX);

fn take(bytes: usize) {
    let held = HELD.fetch_add(bytes as isize, Relaxed).saturating_add(bytes as isize);
    PEAK.fetch_max(held, Relaxed);
    if held > CAP.load(Relaxed) {
        // What is printed here is allocated too.
        CAP.store(isize::MAX, Relaxed);
        eprintln!("over the cap on memory: {bytes} bytes were asked for, with {held} held");
        std::process::abort();
    }
}

fn give(bytes: usize) {
    HELD.fetch_sub(bytes as isize, Relaxed);
}

// SAFETY: every call is passed on unchanged to the system's allocator; the counters do not touch the memory.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        give(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both exist for a moment.
        take(size);
        give(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

thread_local! {
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// To be called once, before the first [`run`]. libFuzzer's own hook aborts at every panic; ours keeps quiet about those
/// that the library catches, as a host would see it, and [`run`] aborts at the rest.
pub fn init() {
    std::panic::set_hook(Box::new(|panic| LAST.set(panic.to_string())));
}

/// Runs `work` on an input of `len` bytes, which may hold `base` bytes of memory and `factor` more per byte of input.
/// A panic that leaves it, or more memory, ends the process, which is what libFuzzer calls a crash.
pub fn run(len: usize, base: usize, factor: usize, work: impl FnOnce()) {
    let before = HELD.load(Relaxed);
    let cap = base + factor * len;
    PEAK.store(before, Relaxed);
    CAP.store(before.saturating_add_unsigned(cap), Relaxed);
    let result = catch_unwind(AssertUnwindSafe(work));
    CAP.store(isize::MAX, Relaxed);
    if result.is_err() {
        eprintln!("{}", LAST.take());
        std::process::abort();
    }
    report(len, PEAK.load(Relaxed).saturating_sub(before), cap);
}

/// Says when an input has come closer to its cap than any before.
fn report(len: usize, used: isize, cap: usize) {
    static CLOSEST: AtomicIsize = AtomicIsize::new(0);
    let percent = used.saturating_mul(100) / cap.max(1) as isize;
    if percent > CLOSEST.fetch_max(percent, Relaxed) {
        eprintln!("memory: {used} bytes for an input of {len}, {percent} % of the cap");
    }
}
