//! The one door between Python and the engine.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::Builder;
use std::time::Duration;

use dubcore::{Error, ErrorKind, Job, Result};
use pyo3::prelude::*;

use crate::error::to_py;

/// How long a Ctrl-C may wait to be seen.
const POLL: Duration = Duration::from_millis(50);

/// Runs `work` while other Python threads run, and gives its result or raises its error. A panic raises `InternalError`;
/// a signal whose Python handler raises cancels the job and raises that.
///
/// Python runs signal handlers only on its main thread, and only when asked. So the work goes to a thread of its own,
/// and the caller's waits and asks. After a signal the caller does not wait for the work to notice the cancellation:
/// it takes up to a second on a CPU, and what it finishes meanwhile is dropped.
pub(crate) fn run<T: Send + 'static>(
    py: Python<'_>,
    job: &Job,
    work: impl FnOnce(&Job) -> Result<T> + Send + 'static,
) -> PyResult<T> {
    let (done, mut result) = channel();
    let theirs = job.clone();
    let body = move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| work(&theirs))).unwrap_or_else(|payload| Err(defect(&*payload)));
        // The caller may have left with a KeyboardInterrupt: then nobody wants it.
        let _ = done.send(outcome);
    };
    if let Err(e) = Builder::new().name("dubcore-call".into()).spawn(body) {
        let message = "no thread could be started for the call: the system's limit is reached";
        return Err(to_py(py, &Error::new(ErrorKind::Busy, message).with_source(e)));
    }
    loop {
        // Exclusive, because a Receiver may be lent to the detached code but not shared with it.
        let receiver = &mut result;
        match py.detach(move || receiver.recv_timeout(POLL)) {
            Ok(outcome) => return outcome.map_err(|e| to_py(py, &e)),
            Err(RecvTimeoutError::Timeout) => py.check_signals().inspect_err(|_| job.cancel())?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(to_py(py, &Error::new(ErrorKind::Internal, "the call's thread ended without a result")));
            }
        }
    }
}

fn defect(payload: &(dyn Any + Send)) -> Error {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    Error::new(ErrorKind::Internal, format!("a defect in dubcore: {}", text.unwrap_or("a panic without a message")))
}
