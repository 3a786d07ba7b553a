//! Stages that are C callbacks, and `dub_reply`, where they put their answers.

use std::ffi::{CString, c_char, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use engine::{
    Audio as Sound, Error, ErrorKind, Job as Work, Lang, Metadata, Result, Segment, Span, Speech, StageInfo, Stt, SttOptions,
    Transcript, TranslateOptions, Translation, Translator, Tts, TtsOptions,
};

use crate::door::run;
use crate::error::{Failure, Status, kind_of};
use crate::handle::{Reply, free, get, put};
use crate::place::place;
use crate::text::{array, c_string, given, seconds, wrong};
use crate::user::User;

/// Writes down what is said in `count` frames of one channel at `rate` Hz: calls dub_reply_segment for each piece, or
/// dub_reply_text for all of it; neither means that nothing is said. `language` is a code, or NULL where it is not known.
/// Returns DUB_STATUS_OK, or the status with which the call shall fail; dub_reply_fail adds a message. All pointers but `user`
/// are good during the call only. Several threads may call it at once; it may call any function, and must not throw or jump
/// out.
pub type TranscribeFn = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        reply: Reply,
        samples: *const f32,
        count: usize,
        rate: u32,
        language: *const c_char,
    ) -> i32,
>;

/// Translates `text` between two languages, given as codes: calls dub_reply_text. The rest is as for dub_transcribe_fn.
pub type TranslateFn = Option<
    unsafe extern "C" fn(user: *mut c_void, reply: Reply, text: *const c_char, from: *const c_char, to: *const c_char) -> i32,
>;

/// Speaks `text`: calls dub_reply_audio. `language` is a code, or NULL for the voice's own; `speaking_rate` is 1 for the
/// voice's own pace; `speaker` counts from 0. The rest is as for dub_transcribe_fn.
pub type SynthesizeFn = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        reply: Reply,
        text: *const c_char,
        language: *const c_char,
        speaking_rate: f64,
        speaker: usize,
    ) -> i32,
>;

/// The answer of one callback.
pub(crate) struct Answer {
    job: Work,
    kind: Kind,
    said: Mutex<Said>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Recogniser,
    Translator,
    Voice,
}

#[derive(Default)]
struct Said {
    text: Option<String>,
    pieces: Vec<(Duration, Duration, String)>,
    sound: Option<Sound>,
    message: Option<String>,
}

impl Answer {
    fn said(&self) -> MutexGuard<'_, Said> {
        // Nothing is left half done in it.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn for_a(&self, kinds: &[Kind]) -> Result<MutexGuard<'_, Said>> {
        match kinds.contains(&self.kind) {
            true => Ok(self.said()),
            false => Err(wrong("reply: this is no answer of a stage of its kind")),
        }
    }
}

/// A handle that ends with the callback, however that ends.
struct Live(Reply);

impl Drop for Live {
    fn drop(&mut self) {
        free(self.0);
    }
}

/// A stage of the host's own.
pub(crate) struct Own<F> {
    pub(crate) call: F,
    pub(crate) user: User,
    pub(crate) info: StageInfo,
}

impl<F> Own<F> {
    /// What a callback answers.
    fn ask(&self, job: &Work, kind: Kind, call: impl FnOnce(*mut c_void, Reply) -> i32) -> Result<Said> {
        job.check()?;
        let live = Live(put(Answer { job: job.clone(), kind, said: Mutex::default() })?);
        let answer = get(live.0, "reply")?;
        let status = call(self.user.pointer(), live.0);
        drop(live);
        let said = std::mem::take(&mut *answer.said());
        match status {
            0 => Ok(said),
            status => {
                let model = &self.info.model;
                let what =
                    said.message.map_or_else(|| format!("{model} failed with status {status}"), |m| format!("{model}: {m}"));
                Err(Error::new(kind_of(status), what))
            }
        }
    }

    fn nothing(&self, what: &str) -> Error {
        Error::new(ErrorKind::Internal, format!("{} answered without {what}", self.info.model))
    }

    fn metadata(&self, began: Instant, audio: Duration) -> Metadata {
        Metadata::new(&self.info, began.elapsed(), audio)
    }
}

/// A language as C has it.
fn code(lang: Option<Lang>) -> Option<CString> {
    lang.map(|lang| c_string(lang.code()))
}

fn pointer(text: &Option<CString>) -> *const c_char {
    text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr())
}

pub(crate) type Transcribe = unsafe extern "C" fn(*mut c_void, Reply, *const f32, usize, u32, *const c_char) -> i32;
pub(crate) type Translate = unsafe extern "C" fn(*mut c_void, Reply, *const c_char, *const c_char, *const c_char) -> i32;
pub(crate) type Synthesize = unsafe extern "C" fn(*mut c_void, Reply, *const c_char, *const c_char, f64, usize) -> i32;

impl Stt for Own<Transcribe> {
    fn transcribe(&self, audio: &Sound, opts: &SttOptions, job: &Work) -> Result<Transcript> {
        let began = Instant::now();
        let whole = Span::new(Duration::ZERO, audio.duration());
        let parts = if opts.spans.is_empty() { vec![whole] } else { opts.spans.clone() };
        let language = code(opts.language);
        let mut segments = Vec::new();
        for part in parts {
            let sound = audio.slice(part);
            let (samples, end) = (sound.samples(), sound.duration());
            let said = self.ask(job, Kind::Recogniser, |user, reply| {
                // SAFETY: the function is C's; what it is given lives until it returns.
                unsafe { (self.call)(user, reply, samples.as_ptr(), samples.len(), sound.rate(), pointer(&language)) }
            })?;
            let all = said.text.map(|text| (Duration::ZERO, end, text));
            for (from, to, text) in said.pieces.into_iter().chain(all) {
                let (from, to) = (from.min(end), to.min(end));
                if !text.trim().is_empty() && from < to {
                    segments.push(Segment::new(Span::new(part.start + from, part.start + to), text));
                }
            }
        }
        segments.sort_by_key(|s| s.span.start);
        let language = opts.language.or(self.info.from.first().copied()).unwrap_or(Lang::EN);
        Ok(Transcript::new(language, segments, self.metadata(began, audio.duration())))
    }

    fn info(&self) -> StageInfo {
        self.info.clone()
    }
}

impl Translator for Own<Translate> {
    fn translate(&self, texts: &[&str], opts: &TranslateOptions, job: &Work) -> Vec<Result<Translation>> {
        let (from, to) = (c_string(opts.from.code()), c_string(opts.to.code()));
        let one = |text: &&str| {
            let (began, text) = (Instant::now(), c_string(text));
            let said = self.ask(job, Kind::Translator, |user, reply| {
                // SAFETY: as above.
                unsafe { (self.call)(user, reply, text.as_ptr(), from.as_ptr(), to.as_ptr()) }
            })?;
            let text = said.text.ok_or_else(|| self.nothing("a text"))?;
            Ok(Translation::new(text, 0.0, self.metadata(began, Duration::ZERO)))
        };
        texts.iter().map(one).collect()
    }

    fn info(&self) -> StageInfo {
        self.info.clone()
    }
}

impl Tts for Own<Synthesize> {
    fn synthesize(&self, texts: &[&str], opts: &TtsOptions, job: &Work) -> Vec<Result<Speech>> {
        let language = code(opts.language);
        let one = |text: &&str| {
            let (began, text) = (Instant::now(), c_string(text));
            let said = self.ask(job, Kind::Voice, |user, reply| {
                // SAFETY: as above.
                unsafe { (self.call)(user, reply, text.as_ptr(), pointer(&language), opts.speaking_rate, opts.speaker) }
            })?;
            let sound = said.sound.ok_or_else(|| self.nothing("a sound"))?;
            let metadata = self.metadata(began, sound.duration());
            Ok(Speech::new(sound, metadata))
        };
        texts.iter().map(one).collect()
    }

    fn duration(&self, _: &str, _: &TtsOptions, _: &Work) -> Result<Option<Duration>> {
        // Asking would be speaking.
        Ok(None)
    }

    fn info(&self) -> StageInfo {
        self.info.clone()
    }
}

/// The answer of a translator, or all that a recogniser hears. The last one counts.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT, also for the reply of a voice.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_reply_text(reply: Reply, text: *const c_char, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (answer, text) = (get(reply, "reply")?, given(text, "text")?);
            answer.for_a(&[Kind::Recogniser, Kind::Translator])?.text = Some(text.into());
            Ok(())
        })
    }
}

/// A piece of what a recogniser hears: when it is said, in seconds from the beginning of the sound, and what.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT, also for the reply of another stage.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_reply_segment(
    reply: Reply,
    start: f64,
    end: f64,
    text: *const c_char,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (answer, text) = (get(reply, "reply")?, given(text, "text")?);
            let piece = (seconds(start, "start")?, seconds(end, "end")?, text.to_owned());
            answer.for_a(&[Kind::Recogniser])?.pieces.push(piece);
            Ok(())
        })
    }
}

/// The answer of a voice: `count` frames of one channel at `rate` Hz, which are copied. `samples` may be NULL where `count`
/// is 0. The last one counts.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT, also for the reply of another stage, a rate outside 1,000 to 384,000 Hz, or a sample
/// that is not finite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_reply_audio(
    reply: Reply,
    samples: *const f32,
    count: usize,
    rate: u32,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let answer = get(reply, "reply")?;
            let sound = Sound::new(array(samples, count, "samples")?.to_vec(), rate)?;
            answer.for_a(&[Kind::Voice])?.sound = Some(sound);
            Ok(())
        })
    }
}

/// Says why the callback will fail: `message` is what the failed call tells.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_reply_fail(reply: Reply, message: *const c_char, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (answer, message) = (get(reply, "reply")?, given(message, "message")?);
            answer.said().message = Some(message.into());
            Ok(())
        })
    }
}

/// Whether whoever waits for the answer has given up: the job was cancelled, or its deadline passed. A callback that takes
/// long asks now and then.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_reply_cancelled(reply: Reply, cancelled: *mut bool, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let cancelled = place(cancelled, "cancelled")?;
            cancelled.set(get(reply, "reply")?.job.check().is_err());
            Ok(())
        })
    }
}
