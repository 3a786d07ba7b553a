//! The log callback: the one subscriber that a process can have, and what stands behind it at the moment.

use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::fmt::{Debug, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::door::{guard, run};
use crate::error::{Failure, Status};
use crate::factory::busy;
use crate::text::{c_string, optional, wrong};
use crate::user::{DestroyFn, User};

/// Told of something that happened: `level` is "error", "warn", "info", "debug" or "trace", `target` the part of the library,
/// `message` what happened, in one line. The texts are good during the call only. Several threads may call it at once; it may
/// call any function, of which what is logged meanwhile is dropped, and must not throw or jump out.
pub type LogFn =
    Option<unsafe extern "C" fn(user: *mut c_void, level: *const c_char, target: *const c_char, message: *const c_char)>;

/// Where the log goes.
struct Sink {
    level: Level,
    call: unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char, *const c_char),
    user: User,
}

static SINK: ArcSwapOption<Sink> = ArcSwapOption::const_empty();

thread_local! {
    /// Whether this thread is inside of the callback.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Passes on the library's own events. Spans only have numbers: events say what they are about.
struct Forward(AtomicU64);

impl Subscriber for Forward {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // The level may change.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("dubcore") && SINK.load().as_ref().is_some_and(|sink| *metadata.level() <= sink.level)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.0.fetch_add(1, Ordering::Relaxed).max(1))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let Some(sink) = SINK.load_full() else { return };
        if INSIDE.replace(true) {
            return;
        }
        guard((), || {
            let mut line = Line::default();
            event.record(&mut line);
            let level = match *event.metadata().level() {
                Level::ERROR => c"error",
                Level::WARN => c"warn",
                Level::INFO => c"info",
                Level::DEBUG => c"debug",
                _ => c"trace",
            };
            let (target, message) = (c_string(event.metadata().target()), c_string(&line.message));
            // SAFETY: the function is C's; what it is given lives until it returns.
            unsafe { (sink.call)(sink.user.pointer(), level.as_ptr(), target.as_ptr(), message.as_ptr()) };
        });
        // Ends what the callback may have replaced itself by, while it still counts as inside.
        drop(sink);
        INSIDE.set(false);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event's message, and its other fields behind it.
#[derive(Default)]
struct Line {
    message: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a String does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.message, " {name}={value:?}"),
        };
    }
}

/// Sends what the library logs to `callback`, from `level` ("error", "warn", "info", "debug" or "trace"; NULL is "warn") up,
/// instead of where it went before. Without a call to this, nothing is logged. `callback` may be NULL, which ends it. `level`
/// may be NULL. `user` may be NULL; it is passed on to `callback`. `destroy` may be NULL; where this call succeeds it is called
/// once with `user`, on any thread, when another call has taken its place and no thread is in the callback any more. A call
/// with NULL for `callback` ends `user` at once.
///
/// This is the process's, not a factory's.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for an unknown level; DUB_STATUS_BUSY if the host has set a subscriber of Rust's
/// `tracing` for this copy of the library already: it gets the log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_log(
    level: *const c_char,
    callback: LogFn,
    user: *mut c_void,
    destroy: DestroyFn,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let level = match optional(level, "level")? {
                None | Some("warn") => Level::WARN,
                Some("error") => Level::ERROR,
                Some("info") => Level::INFO,
                Some("debug") => Level::DEBUG,
                Some("trace") => Level::TRACE,
                Some(other) => return Err(wrong(format!("level is {other:?}: use error, warn, info, debug or trace"))),
            };
            let user = User::new(user, destroy);
            if callback.is_some() {
                install()?;
            }
            user.arm();
            let sink = callback.map(|call| Arc::new(Sink { level, call, user }));
            // What was there goes here, with no lock held, or with the last thread that is in it.
            drop(SINK.swap(sink));
            Ok(())
        })
    }
}

/// Makes ours the process's subscriber, once.
fn install() -> engine::Result<()> {
    use std::sync::OnceLock;
    static OURS: OnceLock<bool> = OnceLock::new();
    let ours = OURS.get_or_init(|| tracing::subscriber::set_global_default(Forward(AtomicU64::new(1))).is_ok());
    match ours {
        true => Ok(()),
        false => Err(busy("this process has another subscriber for the library's log: ask that one")),
    }
}
