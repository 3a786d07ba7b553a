//! Threads that help a request: one set of them per process, lent by the piece of work.
//!
//! Whoever can cut its work, a kernel or a load, cuts it into parts and calls [`Team::each`]. The caller and whichever helpers it has take one part after
//! the other, so a thread that the system took away holds up one part at most, and a helper that is still asleep none. Which
//! thread does a part never changes the result.
//!
//! Helpers belong to one team at a time. A team asks for as many as are idle and as keep the whole process within its number
//! of threads; if there are none, the caller works alone.

mod rounds;

use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::thread::Thread;

use crate::process::PerProcess;
use crate::sync::{Mutex, SPINS, pause};

use rounds::Rounds;

/// How often a helper gives way while it looks for work, before it sleeps: kernels follow one another by microseconds, decode
/// steps by some hundred.
const YIELDS: usize = 200;

/// Behind a lock of the process's own: else each of several threads that begin at once would start helpers, which never end.
static POOL: PerProcess<OnceLock<Pool>> = PerProcess::new();

struct Pool {
    helpers: Vec<&'static Helper>,
    /// Those that no team has. They are never freed: a helper may look at them after its team went.
    free: Mutex<Vec<&'static Rounds>>,
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
    team: AtomicPtr<Rounds>,
    thread: OnceLock<Thread>,
}

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
        Self { helpers, free: Mutex::default(), busy: AtomicUsize::new(0), threads }
    }
}

impl Helper {
    /// A helper's life. It ends with the process.
    fn serve(&self) -> ! {
        let mut done = (std::ptr::null_mut(), 0);
        let mut idle = 0;
        loop {
            if let Some((rounds, round)) = self.look(done) {
                if rounds.help(round) {
                    (done, idle) = ((std::ptr::from_ref(rounds).cast_mut(), round), 0);
                }
                continue;
            }
            idle += 1;
            if idle < SPINS + YIELDS {
                pause(idle);
            } else {
                self.asleep.store(true, Ordering::SeqCst);
                if self.look(done).is_none() {
                    std::thread::park();
                }
                self.asleep.store(false, Ordering::SeqCst);
                // Whoever woke it has work for it soon.
                idle = 0;
            }
        }
    }

    /// A round to help with, other than the one that it has done.
    fn look(&self, done: (*mut Rounds, usize)) -> Option<(&'static Rounds, usize)> {
        let at = self.team.load(Ordering::SeqCst);
        // SAFETY: they are never freed.
        let rounds: &'static Rounds = unsafe { at.as_ref() }?;
        let round = rounds.open()?;
        ((at, round) != done).then_some((rounds, round))
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

/// The caller's thread and its helpers, as long as it lives. It belongs to one caller.
pub(crate) struct Team {
    helpers: Vec<&'static Helper>,
    lent: Option<(&'static Pool, &'static Rounds)>,
    wish: usize,
    /// Rounds are begun by one thread at a time.
    alone: PhantomData<Cell<()>>,
}

impl Team {
    /// At most `threads` in all, 0 for as many as the process may have: fewer where others are at work.
    pub(crate) fn new(threads: usize) -> Self {
        let pool = POOL.get_with(|_| OnceLock::new()).get_or_init(|| Pool::start(crate::runtime::threads()));
        pool.busy.fetch_add(1, Ordering::AcqRel);
        let rounds = pool.free.lock().pop().unwrap_or_else(|| Box::leak(Box::default()));
        let wish = if threads == 0 { pool.threads } else { threads };
        let mut team = Self { helpers: Vec::with_capacity(wish), lent: Some((pool, rounds)), wish, alone: PhantomData };
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
        let Some((pool, rounds)) = self.lent else { return };
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
            helper.team.store(std::ptr::from_ref(rounds).cast_mut(), Ordering::SeqCst);
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
        let Some((_, rounds)) = self.lent.filter(|_| !self.helpers.is_empty() && parts > 1) else {
            return (0..parts).for_each(part);
        };
        let wake = || self.helpers.iter().for_each(|h| h.wake());
        // SAFETY: they are this team's, and a team is at one thread at a time.
        if let Err(panic) = unsafe { rounds.run(parts, &part, wake) } {
            resume_unwind(panic);
        }
    }

    /// What `part` makes of each of `0..parts`, in their order; otherwise as [`Team::each`].
    pub(crate) fn map<R: Send + Sync>(&self, parts: usize, part: impl Fn(usize) -> R + Sync) -> Vec<R> {
        let found: Vec<OnceLock<R>> = (0..parts).map(|_| OnceLock::new()).collect();
        self.each(parts, |i| {
            // Each is done once.
            let _ = found[i].set(part(i));
        });
        found.into_iter().filter_map(OnceLock::into_inner).collect()
    }

    fn dismiss(&mut self) {
        if let (Some(helper), Some((pool, _))) = (self.helpers.pop(), self.lent) {
            helper.team.store(std::ptr::null_mut(), Ordering::SeqCst);
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
        if let Some((pool, rounds)) = self.lent {
            pool.free.lock().push(rounds);
            pool.busy.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

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
    #[cfg(target_os = "linux")]
    fn teams_that_begin_at_once_have_one_set_of_helpers() {
        let all = std::sync::Barrier::new(16);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    all.wait();
                    drop(Team::new(0));
                });
            }
        });
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        let helpers = names.filter(|name| name.starts_with("dubcore-helper")).count();
        let known = Team::new(0).lent.map_or(0, |(pool, _)| pool.helpers.len());
        assert!(helpers <= known, "{helpers} threads for {known} helpers");
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
}
