//! Handles: what C holds of an object. The object lies in one table of the process; a call takes a reference of its own.

#![allow(missing_docs, reason = "the fields of a handle are told of once, in the header's conventions")]

use std::any::Any;
use std::cell::RefCell;
use std::sync::{Arc, LazyLock};

use engine::{Error, ErrorKind, Result};

use crate::door::guard;
use crate::error::Status;
use crate::sync::MutexGuard;
use crate::table::{Key, Slots, Table};

/// What lies in the table.
#[derive(Clone)]
pub(crate) struct Entry {
    kind: u32,
    object: Arc<dyn Any + Send + Sync>,
}

static TABLE: LazyLock<Table<Entry>> = LazyLock::new(|| {
    survive_forks();
    Table::new()
});

/// A struct that C passes by value, and the object behind it.
pub(crate) trait Handle: Copy {
    /// What it stands for.
    type Object: Any + Send + Sync;
    /// The number in its `kind`: permanent, as a status is.
    const KIND: u32;
    /// Its name in C, for messages.
    const NAME: &'static str;
    fn new(key: Key, kind: u32) -> Self;
    fn key(self) -> Key;
    fn kind(self) -> u32;
}

/// The one table of handles: the struct, its number, what it stands for, its name in C.
macro_rules! handles {
    ($($handle:ident = $kind:literal: $object:ty, $name:literal;)*) => {
        $(impl Handle for $handle {
            type Object = $object;
            const KIND: u32 = $kind;
            const NAME: &'static str = $name;

            fn new(key: Key, kind: u32) -> Self {
                Self { slot: key.slot, generation: key.generation, kind }
            }

            fn key(self) -> Key {
                Key { slot: self.slot, generation: self.generation }
            }

            fn kind(self) -> u32 {
                self.kind
            }
        }
        impl crate::place::Blank for $handle {
            const BLANK: Self = Self { slot: 0, generation: 0, kind: 0 };
        })*

        fn name_of(kind: u32) -> &'static str {
            match kind {
                $($kind => $name,)*
                _ => "something else",
            }
        }
    };
}

handles! {
    Text = 1: crate::document::Document, "dub_text";
    Job = 2: engine::Job, "dub_job";
    Audio = 3: engine::Audio, "dub_audio";
    Factory = 4: engine::Factory, "dub_factory";
    Preload = 5: crate::preload::Loading, "dub_preload";
    Stt = 6: Arc<dyn engine::Stt>, "dub_stt";
    Translator = 7: Arc<dyn engine::Translator>, "dub_translator";
    Tts = 8: Arc<dyn engine::Tts>, "dub_tts";
    Transcript = 9: crate::stt::Heard, "dub_transcript";
    Translations = 10: crate::translator::Translated, "dub_translations";
    Speeches = 11: crate::tts::Spoken, "dub_speeches";
    Pipeline = 12: engine::Dubber, "dub_pipeline";
    Request = 13: crate::request::Wanted, "dub_request";
    Run = 14: crate::run::Running, "dub_run";
    Line = 15: crate::line::Dubbed, "dub_line";
    DubResult = 16: crate::result::Finished, "dub_result";
    Reply = 17: crate::own::Answer, "dub_reply";
}

/// A text that was made for the caller: a report, a status.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Text {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// A piece of work as its caller sees it: it can be cancelled from any thread, may have a deadline, and tells how far it is.
/// One job may be given to several calls, which then end together. Where a function takes a job, DUB_NONE(dub_job) means
/// that the call is bounded by nothing.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Job {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// Sound: frames of one channel, 32-bit floats, nominally -1 to 1, at 1,000 to 384,000 Hz. It never changes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Audio {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// Loads models, each once however many ask, lends them to calls, and drops them by its settings. Freeing the handle ends
/// the factory when the last stage and pipeline made by it is freed too.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Factory {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// Models that are being loaded in the background. Freeing the handle changes nothing about that; its job cancels it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Preload {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// A recogniser: speech to text. It takes the model's weights for each call, and keeps nothing in memory between calls; any
/// number of threads may use it at once.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Stt {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// A translator: text to text in another language. As dub_stt otherwise.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Translator {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// A voice: text to speech. As dub_stt otherwise.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tts {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// What was said in a sound: segments in order of time, not overlapping. It never changes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Transcript {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// The translations of several texts, in their order, each with its own outcome. They never change.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Translations {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// What a voice made of several texts, in their order, each with its own outcome. They never change.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Speeches {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// A recogniser, a translator and a voice put together. Any number of threads may start runs on it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pipeline {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// What to dub, and how. It may be started any number of times; starting takes a copy.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Request {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// A dub in progress. As many lines as are pulled are computed. One thread pulls at a time; another one that tries
/// meanwhile gets DUB_STATUS_BUSY. Freeing it before its end abandons the dub, and deletes its unfinished track.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Run {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// A line of a dub, or one that failed. It never changes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Line {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// A finished dub, or what there is of one that was cut short. Saving adds to its files; nothing else changes it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DubResult {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// Where a stage of the host's own puts its answer. It is good during the callback that it was given to, and a stale handle
/// afterwards; it is not freed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Reply {
    pub slot: u32,
    pub generation: u32,
    pub kind: u32,
}

/// Makes a handle to `object`.
pub(crate) fn put<H: Handle>(object: H::Object) -> Result<H> {
    let full = || Error::new(ErrorKind::LimitExceeded, "there are too many handles: free those that are no longer used");
    TABLE.insert(Entry { kind: H::KIND, object: Arc::new(object) }).map(|key| H::new(key, H::KIND)).ok_or_else(full)
}

/// The object of an argument, kept alive as long as the caller likes.
pub(crate) fn get<H: Handle>(handle: H, argument: &str) -> Result<Arc<H::Object>> {
    let found = TABLE.get(handle.key()).filter(|entry| entry.kind == handle.kind());
    let wrong = |what: String| Error::new(ErrorKind::InvalidArgument, what);
    let Some(entry) = found else {
        return Err(wrong(format!("{argument} is no live {}: it was freed already, or nothing made it", H::NAME)));
    };
    // The second cannot fail, for kind and type stand in one table.
    match (entry.kind == H::KIND, entry.object.downcast::<H::Object>()) {
        (true, Ok(object)) => Ok(object),
        _ => Err(wrong(format!("{argument} is a {}: it must be a {}", name_of(entry.kind), H::NAME))),
    }
}

/// Whether it is the handle that stands for none.
fn is_none<H: Handle>(handle: H) -> bool {
    handle.kind() == 0 && handle.key() == Key { slot: 0, generation: 0 }
}

/// The object of an argument that may be none.
pub(crate) fn optional<H: Handle>(handle: H, argument: &str) -> Result<Option<Arc<H::Object>>> {
    if is_none(handle) { Ok(None) } else { get(handle, argument).map(Some) }
}

/// Ends a handle. Its object goes with the last call that has it; what that calls in turn, calls with no lock held.
pub(crate) fn free<H: Handle>(handle: H) -> Status {
    let work = || {
        if is_none(handle) {
            return Status::Ok;
        }
        if let Err(e) = get(handle, "the handle") {
            return e.kind().into();
        }
        match TABLE.remove(handle.key()) {
            Some(_) => Status::Ok,
            // Another thread was faster.
            None => Status::InvalidArgument,
        }
    };
    guard(Status::Internal, work)
}

/// How many handles there are.
pub(crate) fn count() -> usize {
    TABLE.len()
}

thread_local! {
    /// The table's lock, while this thread forks.
    static HELD: RefCell<Option<MutexGuard<'static, Slots<Entry>>>> = const { RefCell::new(None) };
}

extern "C" fn before_fork() {
    HELD.with(|held| *held.borrow_mut() = Some(TABLE.hold()));
}

extern "C" fn after_fork() {
    HELD.with(|held| *held.borrow_mut() = None);
}

/// A child has the table as it was at the fork: no other thread may be changing it, or making it, at that moment.
fn survive_forks() {
    #[cfg(unix)]
    // SAFETY: the functions are as they must be, and take and release one lock, which nobody holds while forking.
    unsafe {
        libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork));
    }
}
