//! Calls that take long: each on a thread of its own, while Python goes on.
//!
//! Python ends a daemon thread that asks for the interpreter while that is taken apart, by unwinding its stack, which no frame
//! of Rust survives. So nothing here runs Python's code on a thread of Python's: what has to be asked of objects, the Python
//! half asks; only the `__fspath__` of a path for `Audio.save`, and a `__float__` among numbers for `Audio`, are asked here.
//! Threads of our own come in by a door, which is closed before.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use dubcore::{Error, ErrorKind, Job, Progress, Result};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::{InvalidArgumentError, to_py};

/// How long a Ctrl-C may wait to be seen.
const POLL: Duration = Duration::from_millis(50);

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Call>()?;
    m.add_class::<CancelToken>()?;
    m.add_function(wrap_pyfunction!(_close, m)?)?;
    // Before the interpreter is taken apart, nobody may be inside it any more.
    m.py().import("atexit")?.call_method1("register", (m.getattr("_close")?,))?;
    Ok(())
}

/// Stops whatever it is given to, from any thread; more than one call may have it.
#[pyclass(frozen, module = "dubcore")]
pub(crate) struct CancelToken(Job);

#[pymethods]
impl CancelToken {
    #[new]
    fn new() -> Self {
        Self(Job::new())
    }

    /// Asks the calls that have it to stop: they raise CancelledError.
    fn cancel(&self) {
        self.0.cancel();
    }

    /// Whether it was cancelled.
    #[getter]
    fn cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    fn __repr__(&self) -> String {
        format!("CancelToken(cancelled={})", if self.cancelled() { "True" } else { "False" })
    }
}

/// What a caller may do with a call: see it, stop it, bound it.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Control {
    timeout: Option<f64>,
    cancel: Option<Py<CancelToken>>,
    progress: Option<Py<PyAny>>,
}

/// The interpreter's door for threads that Python did not start: how many are inside, and whether it is closed.
static DOOR: (Mutex<(usize, bool)>, Condvar) = (Mutex::new((0, false)), Condvar::new());

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing here is left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work` in the interpreter, unless that is being taken apart.
pub(crate) fn inside<R>(work: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    struct Guest;
    impl Drop for Guest {
        fn drop(&mut self) {
            lock(&DOOR.0).0 -= 1;
            DOOR.1.notify_all();
        }
    }
    let guest = {
        let mut door = lock(&DOOR.0);
        if door.1 {
            return None;
        }
        door.0 += 1;
        Guest
    };
    let result = Python::try_attach(work);
    drop(guest);
    result
}

/// Lets no thread of a call into the interpreter from now on, and waits until those inside have left.
#[pyfunction]
fn _close(py: Python<'_>) {
    py.detach(|| {
        let mut door = lock(&DOOR.0);
        door.1 = true;
        while door.0 > 0 {
            door = DOOR.1.wait(door).unwrap_or_else(PoisonError::into_inner);
        }
    });
}

/// Makes a Python object of a result.
type Value = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

enum State {
    /// What is to be called when it ends.
    Running(Vec<Py<PyAny>>),
    /// `None` when it was fetched.
    Ended(Option<Result<Value>>),
}

struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

/// A job, and what the caller's own callback raised while it was worked on. Several calls may go on with one.
#[derive(Clone)]
pub(crate) struct Ticket {
    pub(crate) job: Job,
    raised: Arc<Mutex<Option<PyErr>>>,
}

/// A call in progress.
#[pyclass(frozen, module = "dubcore._dubcore")]
pub(crate) struct Call {
    ticket: Ticket,
    shared: Arc<Shared>,
}

impl Call {
    /// Begins `work` on a thread of its own; `convert` makes a Python object of what it gives.
    pub(crate) fn start<T: Send + 'static>(
        py: Python<'_>,
        ticket: Ticket,
        work: impl FnOnce(&Job) -> Result<T> + Send + 'static,
        convert: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> PyResult<Self> {
        let shared = Arc::new(Shared { state: Mutex::new(State::Running(Vec::new())), ended: Condvar::new() });
        let job = ticket.job.clone();
        let call = Self { ticket, shared: shared.clone() };
        let body = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| work(&job))).unwrap_or_else(|payload| Err(defect(&*payload)));
            let value = outcome.map(|found| Box::new(move |py: Python<'_>| convert(py, found)) as Value);
            let waiting = std::mem::replace(&mut *lock(&shared.state), State::Ended(Some(value)));
            shared.ended.notify_all();
            if let State::Running(callbacks) = waiting
                && !callbacks.is_empty()
            {
                inside(|py| {
                    for callback in &callbacks {
                        if let Err(e) = callback.call0(py) {
                            e.write_unraisable(py, None);
                        }
                    }
                });
            }
        };
        Builder::new().name("dubcore-call".into()).spawn(body).map_err(|e| {
            let message = "no thread could be started for the call: the system's limit is reached";
            to_py(py, &Error::new(ErrorKind::Busy, message).with_source(e))
        })?;
        Ok(call)
    }
}

#[pymethods]
impl Call {
    /// Waits for the result, while other threads run. A signal whose handler raises, as Ctrl-C's does, cancels the call and
    /// raises that at once: what the call finishes meanwhile is dropped.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        loop {
            let outcome = py.detach(|| {
                let running = |state: &mut State| matches!(state, State::Running(_));
                let state = lock(&self.shared.state);
                let waited = self.shared.ended.wait_timeout_while(state, POLL, running);
                match &mut *waited.unwrap_or_else(PoisonError::into_inner).0 {
                    State::Running(_) => None,
                    State::Ended(outcome) => Some(outcome.take()),
                }
            });
            match outcome {
                // Python runs signal handlers only on its main thread, and only when asked.
                None => py.check_signals().inspect_err(|_| self.ticket.job.cancel())?,
                Some(None) => return Err(PyValueError::new_err("the result of this call was taken already")),
                Some(Some(outcome)) => {
                    if let Some(raised) = lock(&self.ticket.raised).take() {
                        return Err(raised);
                    }
                    return outcome.map_err(|e| to_py(py, &e))?(py);
                }
            }
        }
    }

    /// Asks it to stop.
    fn cancel(&self) {
        self.ticket.job.cancel();
    }

    /// Will call `callback` when it has ended, on its thread; if it has, says so by false, and calls nothing.
    fn on_end(&self, callback: Py<PyAny>) -> bool {
        match &mut *lock(&self.shared.state) {
            State::Running(callbacks) => {
                callbacks.push(callback);
                true
            }
            State::Ended(_) => false,
        }
    }
}

impl Control {
    pub(crate) fn ticket(self) -> PyResult<Ticket> {
        let raised = Arc::new(Mutex::new(None));
        let mut job = self.cancel.map_or_else(Job::new, |token| token.get().0.quiet());
        if let Some(seconds) = self.timeout {
            let limit = Duration::try_from_secs_f64(seconds)
                .map_err(|_| InvalidArgumentError::new_err(format!("timeout={seconds} is no number of seconds from now on")))?;
            job = job.timeout(limit);
        }
        if let Some(callback) = self.progress {
            let (stop, first) = (job.clone(), raised.clone());
            job = job.observe(move |progress| {
                if let Some(Err(e)) = inside(|py| tell(py, &callback, progress)) {
                    lock(&first).get_or_insert(e);
                    stop.cancel();
                }
            });
        }
        Ok(Ticket { job, raised })
    }
}

/// Tells a Python callback how far a call is.
fn tell(py: Python<'_>, callback: &Py<PyAny>, progress: &Progress) -> PyResult<()> {
    let parts = PyDict::new(py);
    for (name, fraction) in &progress.parts {
        parts.set_item(name, fraction)?;
    }
    callback.call1(py, (progress.fraction, parts)).map(drop)
}

fn defect(payload: &(dyn Any + Send)) -> Error {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    Error::new(ErrorKind::Internal, format!("a defect in dubcore: {}", text.unwrap_or("a panic without a message")))
}
