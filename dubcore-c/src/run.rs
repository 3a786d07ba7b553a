//! `dub_run`: a dub in progress.

use std::sync::{Mutex, MutexGuard, PoisonError};

use engine::{Error, ErrorKind, Pipeline as _, Result};

use crate::door::{run, run_to};
use crate::error::{Failure, Status};
use crate::factory::busy;
use crate::handle::{DubResult, Job, Line, Pipeline, Request, Run, free, get};
use crate::job::job as work;
use crate::line::Dubbed;
use crate::place::place;
use crate::result::Finished;
use crate::text::wrong;

/// A run, unless a call has it. No lock is held while it computes, for stages may be the host's own code.
pub(crate) struct Running(Mutex<State>);

enum State {
    Idle(Box<engine::Run>),
    Taken,
    Finished,
}

/// What a call has taken. Dropped without being given back, by a panic or on purpose, it leaves the run finished.
struct Taken<'a> {
    of: &'a Running,
    run: Option<Box<engine::Run>>,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done in it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<Taken<'_>> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Idle(run) => Ok(Taken { of: self, run: Some(run) }),
            State::Taken => Err(busy("another call is working on this run: wait for it, or cancel the run's job")),
            State::Finished => {
                *state = State::Finished;
                Err(wrong("this run is finished: start another one"))
            }
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let next = self.run.take().map_or(State::Finished, State::Idle);
        *self.of.lock() = next;
    }
}

impl Taken<'_> {
    /// Does something with the run, which is gone if that panics.
    fn with<R>(&mut self, work: impl FnOnce(&mut engine::Run) -> R) -> Result<R> {
        let mut run = self.run.take().ok_or_else(|| Error::new(ErrorKind::Internal, "the run was taken twice"))?;
        let result = work(&mut run);
        self.run = Some(run);
        Ok(result)
    }
}

/// Begins a dub. Nothing is computed until the run is pulled. `job` may be none; it cancels the run, bounds it and tells how
/// far it is.
///
/// Errors: what can be known beforehand: DUB_STATUS_INVALID_ARGUMENT for options out of range,
/// DUB_STATUS_UNSUPPORTED_LANGUAGE for languages that the stages do not speak, DUB_STATUS_IO, DUB_STATUS_UNSUPPORTED_MEDIA,
/// DUB_STATUS_CORRUPT_MEDIA or DUB_STATUS_LIMIT_EXCEEDED for media that cannot be read or an output that cannot be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_run_start(
    pipeline: Pipeline,
    request: Request,
    job: Job,
    run: *mut Run,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        self::run(error, || {
            let run = place(run, "run")?;
            let (pipeline, request) = (get(pipeline, "pipeline")?, get(request, "request")?);
            let started = pipeline.start(request.copy(), work(job)?)?;
            run.put(Running(Mutex::new(State::Idle(Box::new(started)))))
        })
    }
}

/// Computes as much as it takes to finish one more line, and gives a handle to it, to be freed. A line that failed comes as a
/// line, too: dub_line_outcome tells why. So this goes on as long as the status is DUB_STATUS_OK:
///
///     while (dub_run_next(run, &line, error) == DUB_STATUS_OK) { ... dub_line_free(line); }
///
/// DUB_STATUS_END: there is no further line; `line` is none.
///
/// Errors: DUB_STATUS_CANCELLED or DUB_STATUS_DEADLINE_EXCEEDED, once, then DUB_STATUS_END; DUB_STATUS_BUSY while another call
/// works on the run; DUB_STATUS_INVALID_ARGUMENT, also for a run that was finished. What makes going on impossible (damaged
/// media, a full disk) comes as a last line that failed, and is returned by dub_run_finish.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_run_next(run: Run, line: *mut Line, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run_to(error, || {
            let line = place(line, "line")?;
            let running = get(run, "run")?;
            let next = running.take()?.with(Iterator::next)?;
            match next {
                None => Ok(Status::End),
                Some(Err(e)) if matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::DeadlineExceeded) => Err(e),
                Some(Err(e)) => line.put(Dubbed::lost(e)).map(|()| Status::Ok),
                Some(Ok(dubbed)) => line.put(Dubbed::of(dubbed)).map(|()| Status::Ok),
            }
        })
    }
}

/// Pulls the lines that are left, completes the output, and gives what became of the dub. The run is finished then, and its
/// handle still to be freed. A run that was cancelled, or whose deadline passed, gives the lines that were finished, and no
/// track: dub_result_complete tells.
///
/// Errors: what ended the run, other than its job; the first line's error if every line failed; DUB_STATUS_IO if the output
/// cannot be completed, and nothing is written then; DUB_STATUS_BUSY while another call works on the run;
/// DUB_STATUS_INVALID_ARGUMENT, also for a run that was finished.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_run_finish(run: Run, result: *mut DubResult, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        self::run(error, || {
            let result = place(result, "result")?;
            let running = get(run, "run")?;
            let mut taken = running.take()?;
            let Some(whole) = taken.run.take() else { return Err(wrong("this run is finished: start another one")) };
            result.put(Finished::of(whole.finish()?))
        })
    }
}

/// Frees the handle. A call that works on the run ends first, unharmed; a run that was not finished is abandoned, and its
/// unfinished track deleted.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a handle that was freed already.
#[unsafe(no_mangle)]
pub extern "C" fn dub_run_free(run: Run) -> Status {
    free(run)
}
