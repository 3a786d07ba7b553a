//! `dub_job`: cancel, deadline, progress.

use std::ffi::c_void;

use engine::{Job as Work, Result};

use crate::door::run;
use crate::error::{Failure, Status};
use crate::handle::{Job, Text, free, get, optional};
use crate::place::place;
use crate::text::seconds;
use crate::user::{DestroyFn, User};

/// Told how far a job is, `fraction` being 0 to 1 and never falling, on the thread that does the work. No lock is held: it
/// may call any function. What it returns other than 0 cancels the job. `user` is what dub_job_new was given. It must not
/// throw or jump out.
pub type ProgressFn = Option<unsafe extern "C" fn(user: *mut c_void, fraction: f64) -> i32>;

/// The work behind an argument; what nothing bounds, where it is none.
pub(crate) fn job(handle: Job) -> Result<Work> {
    Ok(optional(handle, "job")?.map_or_else(Work::new, |job| Work::clone(&job)))
}

/// A job. `timeout` is in seconds from now, or 0 for none. `progress` may be NULL. `user` may be NULL; it is passed on to
/// `progress`. `destroy` may be NULL; where this call succeeds it is called once with `user`, on any thread, when the handle
/// is freed and the last call that has the job has ended.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_job_new(
    timeout: f64,
    progress: ProgressFn,
    user: *mut c_void,
    destroy: DestroyFn,
    job: *mut Job,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let job = place(job, "job")?;
            let mut work = Work::new();
            if timeout != 0.0 {
                work = work.timeout(seconds(timeout, "timeout")?);
            }
            let user = User::new(user, destroy);
            if let Some(progress) = progress {
                // The outer one, which the observer may end without being held by itself.
                let (stop, user) = (work.clone(), user.clone());
                work = work.observe(move |now| {
                    if progress(user.pointer(), now.fraction) != 0 {
                        stop.cancel();
                    }
                });
            } else if destroy.is_some() {
                // Nobody calls it, yet it lives as long as the job.
                let user = user.clone();
                work = work.observe(move |_| _ = user.pointer());
            }
            job.put(work)?;
            user.arm();
            Ok(())
        })
    }
}

/// Asks the calls that have the job to end: they return DUB_STATUS_CANCELLED at their next check, within a second, and what
/// is finished is kept. It may be called from any thread, and from a callback.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_job_cancel(job: Job, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            get(job, "job")?.cancel();
            Ok(())
        })
    }
}

/// Whether the job was cancelled.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_job_cancelled(job: Job, cancelled: *mut bool, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let cancelled = place(cancelled, "cancelled")?;
            cancelled.set(get(job, "job")?.is_cancelled());
            Ok(())
        })
    }
}

/// How far the job is, 0 to 1, never falling.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_job_progress(job: Job, fraction: *mut f64, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let fraction = place(fraction, "fraction")?;
            fraction.set(get(job, "job")?.progress().fraction);
            Ok(())
        })
    }
}

/// How far each part of the job is, as a JSON array in the order of their beginning: [["transcribe", 0.5], ...].
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_job_parts(job: Job, parts: *mut Text, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let parts = place(parts, "parts")?;
            parts.put_json(get(job, "job")?.progress().parts)
        })
    }
}

/// Frees the handle. Calls that have the job go on with it, and end as it says.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a handle that was freed already.
#[unsafe(no_mangle)]
pub extern "C" fn dub_job_free(job: Job) -> Status {
    free(job)
}
