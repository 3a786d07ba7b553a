//! Threads that help a request: one set of them per process, lent by the piece of work.
//!
//! A kernel cuts its work into parts and calls [`Team::each`]. The caller and whichever helpers it has take one part after
//! the other, so a thread that the system took away holds up one part at most, and a helper that is still asleep none. Which
//! thread does a part never changes the result.
//!
//! Helpers belong to one team at a time. A team asks for as many as are idle and as keep the whole process within its number
//! of threads; if there are none, the caller works alone.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::hint::spin_loop;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::thread::Thread;

use crate::process::PerProcess;
use crate::sync::Mutex;

use super::tile::Tile;

/// How long a helper looks for work before it gives way, and before it sleeps: kernels follow one another by microseconds,
/// decode steps by some hundred.
const SPINS: usize = 2_000;
const YIELDS: usize = 200;

static POOL: PerProcess<Pool> = PerProcess::new();

struct Pool {
    helpers: Vec<&'static Helper>,
    /// Gates that no team has. They are never freed: a helper may look at one after its team went.
    gates: Mutex<Vec<&'static Gate>>,
    /// Threads at work: callers with a team, and their helpers.
    busy: AtomicUsize,
    threads: usize,
}

/// A thread, as its team sees it.
#[derive(Default)]
struct Helper {
    taken: AtomicBool,
    asleep: AtomicBool,
    /// Where its team's work is found; null while it has no team.
    gate: AtomicPtr<Gate>,
    thread: OnceLock<Thread>,
}

/// Where helpers find the work of a team. Padded, as all of them look at it all the time.
#[derive(Default)]
#[repr(align(128))]
struct Gate {
    /// How many helpers are [`INSIDE`]; whether more may come in, [`OPEN`]; and the number of the round, above.
    state: AtomicUsize,
    next: AtomicUsize,
    work: UnsafeCell<Option<Work>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

const OPEN: usize = 1 << 15;
const ROUND: usize = 1 << 16;
const INSIDE: usize = OPEN - 1;

#[derive(Clone, Copy)]
struct Work {
    part: *const (dyn Fn(usize) + Sync),
    parts: usize,
}

// SAFETY: `work` is written only by the team that has the gate, while the gate is closed and nobody inside, and read only
// inside and by that team; everything else is atomic or locked. `part` may be called from any thread.
unsafe impl Sync for Gate {}
// SAFETY: as above.
unsafe impl Send for Gate {}

impl Pool {
    fn start(threads: usize) -> Self {
        let spawn = |i: usize| {
            let helper: &'static Helper = Box::leak(Box::default());
            let named = std::thread::Builder::new().name(format!("dubcore-helper-{i}"));
            // Where the system has no more threads, there is less help.
            let thread = named.spawn(move || helper.serve()).ok()?;
            let _ = helper.thread.set(thread.thread().clone());
            Some(helper)
        };
        let helpers = (1..threads).map_while(spawn).collect();
        Self { helpers, gates: Mutex::default(), busy: AtomicUsize::new(0), threads }
    }
}

impl Helper {
    /// A helper's life. It ends with the process.
    fn serve(&self) -> ! {
        let mut done = (std::ptr::null_mut(), 0);
        let mut idle = 0;
        loop {
            let at = self.gate.load(Ordering::SeqCst);
            // SAFETY: gates are never freed.
            let gate = unsafe { at.as_ref() };
            let fresh = |gate: &Gate, done| gate.open_round().filter(|round| (at, *round) != done);
            if let Some((gate, round)) = gate.and_then(|gate| Some((gate, fresh(gate, done)?))) {
                if gate.help(round) {
                    (done, idle) = ((at, round), 0);
                }
                continue;
            }
            idle += 1;
            if idle < SPINS {
                spin_loop();
            } else if idle < SPINS + YIELDS {
                std::thread::yield_now();
            } else {
                self.asleep.store(true, Ordering::SeqCst);
                let now = self.gate.load(Ordering::SeqCst);
                // SAFETY: as above.
                let work =
                    unsafe { now.as_ref() }.is_some_and(|gate| gate.open_round().is_some_and(|round| (now, round) != done));
                if !work {
                    std::thread::park();
                }
                self.asleep.store(false, Ordering::SeqCst);
                // Whoever woke it has work for it soon.
                idle = 0;
            }
        }
    }

    fn wake(&self) {
        if self.asleep.load(Ordering::SeqCst)
            && self.asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

impl Gate {
    /// The number of the round, if there is one.
    fn open_round(&self) -> Option<usize> {
        let state = self.state.load(Ordering::SeqCst);
        (state & OPEN != 0).then_some(state / ROUND)
    }

    /// Helps with a round until nothing is left of it; whether it came in.
    fn help(&self, round: usize) -> bool {
        let enter = |state: usize| (state & OPEN != 0 && state / ROUND == round).then_some(state + 1);
        if self.state.fetch_update(Ordering::AcqRel, Ordering::Relaxed, enter).is_err() {
            return false;
        }
        self.work();
        self.state.fetch_sub(1, Ordering::Release);
        true
    }

    /// Does parts until none is left. The caller is inside, or has the gate.
    fn work(&self) {
        // SAFETY: inside, nobody writes it.
        let Some(Work { part, parts }) = (unsafe { *self.work.get() }) else { return };
        let all = || {
            loop {
                let i = self.next.fetch_add(1, Ordering::Relaxed);
                if i >= parts {
                    break;
                }
                // SAFETY: the closure lives until its team closed the gate and everybody is out.
                unsafe { (*part)(i) };
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(all)) {
            // Nobody begins another part.
            self.next.store(parts, Ordering::Relaxed);
            self.panic.lock().get_or_insert(panic);
        }
    }

    /// Does `work` with whoever comes in; all of it is done, and everybody out, when it returns.
    fn round(&self, work: Work, helpers: &[&'static Helper]) {
        // SAFETY: the gate is closed and nobody inside.
        unsafe { *self.work.get() = Some(work) };
        self.next.store(0, Ordering::Relaxed);
        let round = self.state.load(Ordering::Relaxed) / ROUND;
        self.state.store(round.wrapping_add(1).wrapping_mul(ROUND) | OPEN, Ordering::SeqCst);
        helpers.iter().for_each(|h| h.wake());
        self.work();
        self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0;
        while self.state.load(Ordering::Acquire) & INSIDE != 0 {
            spins += 1;
            if spins < SPINS { spin_loop() } else { std::thread::yield_now() }
        }
        // SAFETY: closed and empty again.
        unsafe { *self.work.get() = None };
    }
}

/// The caller's thread and its helpers, as long as it lives. It belongs to one caller.
pub(crate) struct Team {
    helpers: Vec<&'static Helper>,
    lent: Option<(&'static Pool, &'static Gate)>,
    wish: usize,
    /// Rounds are begun by one thread at a time.
    alone: PhantomData<Cell<()>>,
}

impl Team {
    /// At most `threads` in all, 0 for as many as the process may have: fewer where others are at work.
    pub(crate) fn new(threads: usize) -> Self {
        let pool = POOL.get_with(|_| Pool::start(crate::runtime::threads()));
        pool.busy.fetch_add(1, Ordering::AcqRel);
        let gate = pool.gates.lock().pop().unwrap_or_else(|| Box::leak(Box::default()));
        let wish = if threads == 0 { pool.threads } else { threads };
        let mut team = Self { helpers: Vec::with_capacity(wish), lent: Some((pool, gate)), wish, alone: PhantomData };
        team.refresh();
        team
    }

    /// The caller alone.
    pub(crate) fn alone() -> Self {
        Self { helpers: Vec::new(), lent: None, wish: 1, alone: PhantomData }
    }

    /// Takes helpers that became idle, and gives back those that others need. To be called between pieces of work of some
    /// milliseconds.
    pub(crate) fn refresh(&mut self) {
        let Some((pool, gate)) = self.lent else { return };
        while !self.helpers.is_empty() && pool.busy.load(Ordering::Acquire) > pool.threads {
            self.dismiss();
        }
        for helper in &pool.helpers {
            if self.threads() >= self.wish {
                break;
            }
            let room = |busy: usize| (busy < pool.threads).then_some(busy + 1);
            if pool.busy.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).is_err() {
                break;
            }
            if helper.taken.swap(true, Ordering::AcqRel) {
                pool.busy.fetch_sub(1, Ordering::AcqRel);
                continue;
            }
            helper.gate.store(std::ptr::from_ref(gate).cast_mut(), Ordering::SeqCst);
            helper.wake();
            self.helpers.push(helper);
        }
    }

    /// The caller and its helpers.
    pub(crate) fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `part` once for each of `0..parts`, on all threads of the team, and returns when all are done. A panic in one
    /// goes on in the caller, and the rest is left undone.
    pub(crate) fn each(&self, parts: usize, part: impl Fn(usize) + Sync) {
        let Some((_, gate)) = self.lent.filter(|_| !self.helpers.is_empty() && parts > 1) else {
            return (0..parts).for_each(part);
        };
        let part: &(dyn Fn(usize) + Sync) = &part;
        // SAFETY: only the lifetime changes. The pointer is followed only inside the gate, and `round` returns when everybody
        // is out, before the closure goes.
        let part = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(part) };
        gate.round(Work { part, parts }, &self.helpers);
        if let Some(panic) = gate.panic.lock().take() {
            resume_unwind(panic);
        }
    }

    /// Cuts `out` into pieces of `rows` rows, and calls `part` with each and its number.
    pub(in crate::nn) fn each_rows(&self, out: Tile<'_>, rows: usize, part: impl Fn(usize, Tile<'_>) + Sync) {
        let rows = rows.max(1);
        let all = out.shared();
        // SAFETY: a piece has rows of its own, and each is made once.
        self.each(all.rows().div_ceil(rows), |i| part(i, unsafe { all.piece(i * rows, rows, 0, usize::MAX) }));
    }

    /// Cuts `out` into pieces of `columns` columns, and calls `part` with each and its number.
    pub(super) fn each_columns(&self, out: Tile<'_>, columns: usize, part: impl Fn(usize, Tile<'_>) + Sync) {
        let columns = columns.max(1);
        let all = out.shared();
        // SAFETY: a piece has columns of its own, and each is made once.
        self.each(all.columns().div_ceil(columns), |i| part(i, unsafe { all.piece(0, usize::MAX, i * columns, columns) }));
    }

    /// As both: pieces of `rows` by `columns`, row by row.
    pub(super) fn each_piece(
        &self,
        out: Tile<'_>,
        (rows, columns): (usize, usize),
        part: impl Fn(usize, usize, Tile<'_>) + Sync,
    ) {
        let across = out.columns().div_ceil(columns.max(1)).max(1);
        let all = out.shared();
        let parts = all.rows().div_ceil(rows.max(1)) * across;
        self.each(parts, |i| {
            let (r, c) = (i / across, i % across);
            // SAFETY: a piece has rows and columns of its own, and each is made once.
            part(r, c, unsafe { all.piece(r * rows, rows, c * columns, columns) });
        });
    }

    fn dismiss(&mut self) {
        if let (Some(helper), Some((pool, _))) = (self.helpers.pop(), self.lent) {
            helper.gate.store(std::ptr::null_mut(), Ordering::SeqCst);
            helper.taken.store(false, Ordering::Release);
            pool.busy.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        while !self.helpers.is_empty() {
            self.dismiss();
        }
        if let Some((pool, gate)) = self.lent {
            pool.gates.lock().push(gate);
            pool.busy.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_done_once_whoever_helps() {
        for threads in [0, 1, 2, 5] {
            let team = Team::new(threads);
            for parts in [0, 1, 2, 3, 64, 1000] {
                let counts: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
                team.each(parts, |i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{threads} {parts}");
            }
        }
    }

    #[test]
    fn teams_at_once_keep_to_their_work() {
        std::thread::scope(|scope| {
            for t in 0..6usize {
                scope.spawn(move || {
                    for round in 0..200 {
                        let mut team = Team::new(0);
                        let sum = AtomicUsize::new(0);
                        for _ in 0..5 {
                            team.each(7, |i| {
                                sum.fetch_add(t * 1000 + i, Ordering::Relaxed);
                            });
                            team.refresh();
                        }
                        assert_eq!(sum.into_inner(), 5 * (7 * t * 1000 + 21), "{t} {round}");
                    }
                });
            }
        });
    }

    #[test]
    fn a_panic_goes_on_in_the_caller_and_the_team_lives() {
        let team = Team::new(0);
        for at in [0, 1, 99] {
            let hit = catch_unwind(AssertUnwindSafe(|| team.each(100, |i| assert!(i != at, "part {i}"))));
            assert!(hit.is_err());
        }
        let done = AtomicUsize::new(0);
        team.each(100, |_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 100);
    }

    #[test]
    fn pieces_cover_a_matrix() {
        let team = Team::new(0);
        let (rows, columns, stride) = (7, 10, 13);
        let mut values = vec![0.0; rows * stride];
        let add = |mut piece: Tile<'_>| (0..piece.rows()).for_each(|r| piece.row(r).iter_mut().for_each(|v| *v += 1.0));
        team.each_rows(Tile::new(&mut values, rows, columns, stride), 3, |_, piece| add(piece));
        team.each_columns(Tile::new(&mut values, rows, columns, stride), 4, |_, piece| add(piece));
        team.each_piece(Tile::new(&mut values, rows, columns, stride), (2, 3), |_, _, piece| add(piece));
        for (i, v) in values.iter().enumerate() {
            assert_eq!(*v, if i % stride < columns { 3.0 } else { 0.0 }, "{i}");
        }
    }
}
