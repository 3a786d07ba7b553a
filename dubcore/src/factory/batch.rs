//! Calls of several requests, made as one: a model works on eight sentences in little more than the time of one.
//!
//! The first request with its options opens a batch; those that come within a moment join it. A thread of the batch makes
//! the call, so that each request keeps its own deadline and cancel, and whoever leaves takes nothing from the others.

use std::collections::HashMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::results::key::Key;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Job;
use crate::sync::{Condvar, Mutex};

/// How requests are made one call. See [`LoadOptions::batch`](super::LoadOptions::batch).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Batching {
    /// Most texts, or pieces of sound, in a call that is made of several. Default 8.
    pub most: usize,
    /// How long the first one waits for others. Default 5 ms.
    pub wait: Duration,
}

impl Default for Batching {
    fn default() -> Self {
        Self { most: 8, wait: Duration::from_millis(5) }
    }
}

crate::stage::setters! { Batching:
    /// Sets [`Batching::most`].
    most: usize,
    /// Sets [`Batching::wait`].
    wait: Duration,
}

/// How often somebody who waits looks whether they still want to.
const LOOK: Duration = Duration::from_millis(20);

/// Gathers items `I`, for each of which a call gives an `O`.
pub(super) struct Batcher<I, O> {
    opts: Batching,
    open: Mutex<HashMap<Key, Arc<Batch<I, O>>>>,
}

struct Batch<I, O> {
    state: Mutex<State<I, O>>,
    changed: Condvar,
}

/// A batch, and which of its items are the caller's.
type Place<I, O> = (Arc<Batch<I, O>>, Range<usize>);

enum State<I, O> {
    /// The items so far, and whose they are.
    Open(Vec<I>, Vec<Job>),
    Running,
    Done(Vec<Option<Result<O>>>),
}

impl<I: Send + 'static, O: Send + 'static> Batcher<I, O> {
    pub(super) fn new(opts: Batching) -> Arc<Self> {
        Arc::new(Self { opts, open: Mutex::default() })
    }

    /// The results of `items`, in order, from a call of `call` that may have been made for others, too. All with the same
    /// `key` must mean the same call.
    pub(super) fn submit(
        self: &Arc<Self>,
        key: Key,
        items: Vec<I>,
        job: &Job,
        call: impl FnOnce(Vec<I>, &Job) -> Vec<Result<O>> + Send + 'static,
    ) -> Vec<Result<O>> {
        let count = items.len();
        let all = |e: Error| (0..count).map(|_| Err(e.clone())).collect();
        if let Err(e) = job.check() {
            return all(e);
        }
        let (batch, mine) = self.join(key, items, job, call);
        batch.wait(mine, job).unwrap_or_else(all)
    }

    fn join(
        self: &Arc<Self>,
        key: Key,
        items: Vec<I>,
        job: &Job,
        call: impl FnOnce(Vec<I>, &Job) -> Vec<Result<O>> + Send + 'static,
    ) -> Place<I, O> {
        let mut open = self.open.lock();
        if let Some(batch) = open.get(&key).cloned() {
            let mut state = batch.state.lock();
            if let State::Open(there, jobs) = &mut *state
                && there.len() + items.len() <= self.opts.most
            {
                let mine = there.len()..there.len() + items.len();
                there.extend(items);
                jobs.push(job.clone());
                batch.changed.notify_all();
                drop(state);
                return (batch, mine);
            }
        }
        let mine = 0..items.len();
        let state = Mutex::new(State::Open(items, vec![job.clone()]));
        let batch = Arc::new(Batch { state, changed: Condvar::new() });
        // Takes the place of one that is full.
        open.insert(key, batch.clone());
        drop(open);
        let (own, this) = (self.clone(), batch.clone());
        if let Err(e) = std::thread::Builder::new().name("dubcore-batch".into()).spawn(move || own.run(key, &this, call)) {
            self.close(key, &batch);
            let e = Error::new(ErrorKind::OutOfMemory, "no thread could be started to gather requests").with_source(e);
            batch.end(|count| (0..count).map(|_| Err(e.clone())).collect());
        }
        (batch, mine)
    }

    /// The batch's own thread.
    fn run(&self, key: Key, batch: &Arc<Batch<I, O>>, call: impl FnOnce(Vec<I>, &Job) -> Vec<Result<O>>) {
        let end = Instant::now() + self.opts.wait;
        let mut state = batch.state.lock();
        while let State::Open(items, _) = &*state {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || items.len() >= self.opts.most {
                break;
            }
            batch.changed.wait_for(&mut state, left);
        }
        drop(state);
        // From here on nobody finds it; who has found it already joins before, or sees that it is closed.
        self.close(key, batch);
        let State::Open(items, jobs) = std::mem::replace(&mut *batch.state.lock(), State::Running) else { return };
        let count = items.len();
        let found = catch_unwind(AssertUnwindSafe(|| call(items, &Job::together(jobs)))).unwrap_or_else(|panic| {
            let e = Error::panicked("a call for several requests", &*panic);
            (0..count).map(|_| Err(e.clone())).collect()
        });
        batch.end(|_| found);
    }

    fn close(&self, key: Key, batch: &Arc<Batch<I, O>>) {
        let mut open = self.open.lock();
        if open.get(&key).is_some_and(|b| Arc::ptr_eq(b, batch)) {
            open.remove(&key);
        }
    }
}

impl<I, O> Batch<I, O> {
    /// Gives everybody their results, as many as there are items.
    fn end(&self, results: impl FnOnce(usize) -> Vec<Result<O>>) {
        let mut state = self.state.lock();
        let count = match &*state {
            State::Open(items, _) => items.len(),
            _ => 0,
        };
        *state = State::Done(results(count).into_iter().map(Some).collect());
        drop(state);
        self.changed.notify_all();
    }

    fn wait(&self, mine: Range<usize>, job: &Job) -> Result<Vec<Result<O>>> {
        let mut state = self.state.lock();
        loop {
            if let State::Done(all) = &mut *state {
                let left_out = || Err(Error::internal("a call for several requests left a result out"));
                return Ok(mine.map(|i| all.get_mut(i).and_then(Option::take).unwrap_or_else(left_out)).collect());
            }
            job.check()?;
            self.changed.wait_for(&mut state, LOOK);
        }
    }
}
