//! [`Job`]: cancellation, deadline and progress of one piece of work; and the pool that all compute goes through.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Gate, Refused};
use crate::process::PerProcess;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};

/// One piece of work as its caller sees it: it can be cancelled, has a deadline, and tells how far it got.
///
/// Clones are the same job, so one thread can work while another watches or cancels. [`Job::child`] makes a part of
/// a job: cancelling the parent cancels the child, and the child's progress counts towards the parent's.
///
/// ```
/// use dubcore::Job;
/// use std::time::Duration;
/// let job = Job::new().timeout(Duration::from_secs(60));
/// let watcher = job.clone();
/// watcher.cancel();
/// assert!(job.check().is_err());
/// ```
#[derive(Clone)]
pub struct Job(Arc<Inner>);

/// A part points to what it belongs to; the progress tree points the other way. Two structures, so that neither keeps the
/// other alive in a circle.
struct Inner {
    cancelled: AtomicBool,
    deadline: Option<Instant>,
    parent: Option<Job>,
    observer: Option<Observer>,
    node: Arc<Node>,
    /// Where it works for several: it ends when all of them have.
    members: Vec<Job>,
}

struct Node {
    name: Cow<'static, str>,
    /// Share of the parent's work.
    weight: f64,
    /// The part done of this node's own work, as the bits of an f64.
    done: AtomicU64,
    parts: Mutex<Vec<Arc<Node>>>,
}

type Observer = Box<dyn Fn(&Progress) + Send + Sync>;

/// How far a job is.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Part done, 0 to 1, never falling.
    pub fraction: f64,
    /// The same for each named part that has begun, in the order of their beginning.
    pub parts: Vec<(String, f64)>,
}

impl Default for Job {
    fn default() -> Self {
        Self::new()
    }
}

impl Job {
    /// A job without deadline.
    pub fn new() -> Self {
        Self::build(None, None, None, Node::new("".into(), 1.0))
    }

    fn build(parent: Option<Job>, deadline: Option<Instant>, observer: Option<Observer>, node: Arc<Node>) -> Self {
        let (cancelled, members) = (AtomicBool::new(false), Vec::new());
        Self(Arc::new(Inner { cancelled, deadline, parent, observer, node, members }))
    }

    /// A job that works for several others, and ends when each of them has.
    pub(crate) fn together(members: Vec<Job>) -> Self {
        let (cancelled, node) = (AtomicBool::new(false), Node::new("".into(), 0.0));
        Self(Arc::new(Inner { cancelled, deadline: None, parent: None, observer: None, node, members }))
    }

    /// This job, ending also when `limit` from now has passed. Cancelling the returned one leaves this one as it is.
    #[must_use]
    pub fn timeout(self, limit: Duration) -> Self {
        let node = self.0.node.clone();
        Self::build(Some(self), Instant::now().checked_add(limit), None, node)
    }

    /// This job, with `observer` called after each change of progress, on the thread that did the work.
    ///
    /// No lock is held meanwhile: the observer may call any method of the job.
    #[must_use]
    pub fn observe(self, observer: impl Fn(&Progress) + Send + Sync + 'static) -> Self {
        let node = self.0.node.clone();
        Self::build(Some(self), None, Some(Box::new(observer)), node)
    }

    /// A named part that is `weight` (0 to 1) of this job's work. The weights of all parts should sum to 1.
    #[must_use]
    pub fn child(&self, name: impl Into<Cow<'static, str>>, weight: f64) -> Self {
        let node = Node::new(name.into(), weight.clamp(0.0, 1.0));
        self.0.node.parts.lock().push(node.clone());
        Self::build(Some(self.clone()), None, None, node)
    }

    /// A job that ends with this one but reports nothing to it: for work whose size is not known beforehand.
    #[must_use]
    pub fn quiet(&self) -> Self {
        Self::build(Some(self.clone()), None, None, Node::new("".into(), 0.0))
    }

    /// Asks the work to stop. It returns `Cancelled` at its next check; what is finished is kept.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
    }

    /// Whether this job or one it is part of was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.chain().any(|j| j.0.cancelled.load(Ordering::Acquire))
    }

    /// `Ok` while the work may go on.
    ///
    /// # Errors
    /// `Cancelled` or `DeadlineExceeded`.
    pub fn check(&self) -> Result<()> {
        for job in self.chain() {
            if job.0.cancelled.load(Ordering::Acquire) {
                return Err(Error::new(ErrorKind::Cancelled, "the job was cancelled"));
            }
            if job.0.deadline.is_some_and(|d| Instant::now() >= d) {
                return Err(Error::new(
                    ErrorKind::DeadlineExceeded,
                    "the job's deadline passed: allow more time or give it less work",
                ));
            }
            let ended = job.0.members.iter().map(Job::check);
            if let Some(Err(e)) = ended.reduce(|a, b| if a.is_err() { b } else { a }) {
                return Err(e);
            }
        }
        Ok(())
    }

    /// The time left until the nearest deadline, if there is one.
    pub fn time_left(&self) -> Option<Duration> {
        self.chain().filter_map(|j| j.0.deadline).min().map(|d| d.saturating_duration_since(Instant::now()))
    }

    /// Reports the part of this job's own work that is done, 0 to 1. It never falls.
    pub fn report(&self, fraction: f64) {
        let fraction = fraction.clamp(0.0, 1.0);
        let raise = |bits: u64| (f64::from_bits(bits) < fraction).then(|| fraction.to_bits());
        if self.0.node.done.fetch_update(Ordering::AcqRel, Ordering::Acquire, raise).is_ok() {
            for job in self.chain() {
                if let Some(observer) = &job.0.observer {
                    observer(&job.progress());
                }
            }
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let mut parts = Vec::new();
        let fraction = self.0.node.gather(&mut parts);
        Progress { fraction, parts }
    }

    fn chain(&self) -> impl Iterator<Item = &Job> {
        std::iter::successors(Some(self), |j| j.0.parent.as_ref())
    }
}

impl Node {
    fn new(name: Cow<'static, str>, weight: f64) -> Arc<Self> {
        Arc::new(Self { name, weight, done: AtomicU64::new(0f64.to_bits()), parts: Mutex::new(Vec::new()) })
    }

    fn gather(&self, named: &mut Vec<(String, f64)>) -> f64 {
        let own = f64::from_bits(self.done.load(Ordering::Acquire));
        let parts = self.parts.lock().clone();
        let mut sum = 0.0;
        for part in parts {
            let slot = named.len();
            if !part.name.is_empty() {
                named.push((part.name.to_string(), 0.0));
            }
            let fraction = part.gather(named);
            if !part.name.is_empty() {
                named[slot].1 = fraction;
            }
            sum += fraction * part.weight;
        }
        own.max(sum).min(1.0)
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("progress", &self.progress()).field("cancelled", &self.is_cancelled()).finish()
    }
}

/// rayon's threads do not survive `fork()`, and neither can they be joined in the child.
static POOL: PerProcess<Pool> = PerProcess::new();

struct Pool {
    threads: rayon::ThreadPool,
    /// Who waits in rayon's own line neither notices a deadline nor can leave, so there is one before it.
    line: Arc<Gate>,
}

static THREADS: AtomicU64 = AtomicU64::new(0);

/// Sets the number of compute threads of this process; 0 means one per core. Effective if no work was done yet.
pub(crate) fn set_threads(n: usize) {
    THREADS.store(n as u64, Ordering::Release);
}

/// The number of compute threads of this process.
pub(crate) fn threads() -> usize {
    match THREADS.load(Ordering::Acquire) {
        0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
        n => n as usize,
    }
}

/// Runs `work` on the compute pool as soon as one of its threads is free, and returns its result; until then `job` may end it.
/// Parallel loops inside use the pool's threads alone.
pub(crate) fn compute<R: Send>(job: &Job, work: impl FnOnce() -> R + Send) -> Result<R> {
    let pool = pool()?;
    // A callback of other work, which has its thread.
    if pool.threads.current_thread_index().is_some() {
        return Ok(work());
    }
    let _pass = Gate::enter(&pool.line, usize::MAX, || job.check()).map_err(|refused| match refused {
        Refused::Left(e) => e,
        Refused::Full(waiting) => Error::internal(format!("{waiting} wait for a thread")),
    })?;
    Ok(pool.threads.install(work))
}

fn pool() -> Result<&'static Pool> {
    POOL.get(|_| {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(THREADS.load(Ordering::Acquire) as usize)
            .thread_name(|i| format!("dubcore-{i}"))
            .build()
            .map_err(|e| Error::new(ErrorKind::OutOfMemory, "the compute threads could not be started").with_source(e))?;
        let line = Gate::new(threads.current_num_threads());
        Ok(Pool { threads, line })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_cancel_children_but_not_the_other_way() {
        let job = Job::new();
        let (a, b) = (job.child("a", 0.5), job.child("b", 0.5));
        a.cancel();
        assert!(a.check().is_err() && b.check().is_ok() && job.check().is_ok());
        job.cancel();
        assert_eq!(b.check().unwrap_err().kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn work_for_several_ends_with_the_last() {
        let (a, b) = (Job::new(), Job::new().timeout(Duration::from_secs(60)));
        let both = Job::together(vec![a.clone(), b.clone()]);
        let part = both.child("a", 1.0);
        a.cancel();
        assert!(both.check().is_ok() && part.check().is_ok());
        b.cancel();
        assert_eq!(part.check().unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(Job::together(Vec::new()).check().is_ok());
    }

    #[test]
    fn deadlines_reach_children() {
        let job = Job::new().timeout(Duration::ZERO);
        assert_eq!(job.child("a", 1.0).check().unwrap_err().kind(), ErrorKind::DeadlineExceeded);
        assert_eq!(Job::new().time_left(), None);
    }

    #[test]
    fn progress_adds_up_never_falls_and_observers_may_call_back() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let root = Job::new();
        let watched = root.clone();
        let job = root.clone().observe(move |p| {
            assert!((watched.progress().fraction - p.fraction).abs() < 1e-9);
            sink.lock().push(p.fraction);
        });
        let (a, b) = (job.child("a", 0.25), job.child("b", 0.75));
        a.report(1.0);
        b.report(0.5);
        b.report(0.2);
        assert_eq!(*seen.lock(), [0.25, 0.625]);
        assert_eq!(root.progress().parts, [("a".to_string(), 1.0), ("b".to_string(), 0.5)]);
    }

    #[test]
    fn one_pool_serves_the_process() {
        let id = || compute(&Job::new(), || std::ptr::from_ref(pool().unwrap()) as usize).unwrap();
        let ids: Vec<_> = (0..4).map(|_| id()).collect();
        assert!(ids.windows(2).all(|w| w[0] == w[1]));
    }

    #[test]
    fn who_waits_for_a_thread_may_leave() {
        let door = Mutex::new(());
        let closed = door.lock();
        let (inside, entered) = std::sync::mpsc::channel();
        std::thread::scope(|s| {
            let threads = pool().unwrap().threads.current_num_threads();
            for _ in 0..threads {
                let (inside, door) = (inside.clone(), &door);
                s.spawn(move || {
                    let busy = || {
                        inside.send(()).unwrap();
                        drop(door.lock());
                        // A callback's own work has the thread already.
                        compute(&Job::new(), || 7).unwrap()
                    };
                    assert_eq!(compute(&Job::new(), busy).unwrap(), 7);
                });
            }
            (0..threads).for_each(|_| entered.recv().unwrap());
            let began = Instant::now();
            let late = compute(&Job::new().timeout(Duration::from_millis(50)), || ()).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::DeadlineExceeded);
            let job = Job::new();
            let watcher = job.clone();
            s.spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                watcher.cancel();
            });
            assert_eq!(compute(&job, || ()).unwrap_err().kind(), ErrorKind::Cancelled);
            assert!(began.elapsed() < Duration::from_secs(10));
            drop(closed);
        });
    }
}
