//! How many may be in something at once, calls in a model, say: the others wait in line, first come, first served.
//!
//! It knows nothing of models, so that a model checker (`loom/`) can run it through every order in which threads may meet.

use std::collections::VecDeque;
use std::time::Duration;

use crate::sync::{Arc, Condvar, Mutex};

/// How often somebody who waits looks whether they still want to.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    free: usize,
    /// Those who wait, by number.
    line: VecDeque<u64>,
    next: u64,
}

/// Why somebody did not get in.
#[derive(Debug, PartialEq)]
pub(crate) enum Refused<E> {
    /// So many wait already.
    Full(usize),
    /// They gave up.
    Left(E),
}

/// The right to be inside, given back when it is dropped.
pub(crate) struct Pass(Arc<Gate>);

impl Gate {
    /// For so many at once.
    pub(crate) fn new(slots: usize) -> Arc<Self> {
        let state = State { free: slots, line: VecDeque::new(), next: 0 };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() })
    }

    /// Goes in, or waits in line, where at most `most` may wait. Whoever waits is asked by `check` now and then whether to
    /// go on.
    pub(crate) fn enter<E>(gate: &Arc<Self>, most: usize, mut check: impl FnMut() -> Result<(), E>) -> Result<Pass, Refused<E>> {
        let mut state = gate.state.lock();
        if state.free > 0 && state.line.is_empty() {
            state.free -= 1;
            return Ok(Pass(gate.clone()));
        }
        if state.line.len() >= most {
            return Err(Refused::Full(state.line.len()));
        }
        let number = state.next;
        state.next += 1;
        state.line.push_back(number);
        loop {
            if state.free > 0 && state.line.front() == Some(&number) {
                state.line.pop_front();
                state.free -= 1;
                // There may be room for the next one, too.
                gate.changed.notify_all();
                return Ok(Pass(gate.clone()));
            }
            if let Err(e) = check() {
                state.line.retain(|n| *n != number);
                gate.changed.notify_all();
                return Err(Refused::Left(e));
            }
            gate.changed.wait_for(&mut state, LOOK);
        }
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state.lock().line.len()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.state.lock().free += 1;
        self.0.changed.notify_all();
    }
}
