//! `dub_audio`: sound in, sound out.

use std::ffi::c_char;
use std::path::Path;
use std::sync::Arc;

use engine::media::{self, Input, WavFormat};
use engine::{Audio as Sound, Result, Span};

use crate::door::run;
use crate::error::{Failure, Status};
use crate::handle::{Audio, Job, free, get};
use crate::job::job as work;
use crate::options::{AUDIO_FILE, Chosen, MEDIA, apply};
use crate::place::place;
use crate::text::{array, pairs, required, seconds, wrong};

/// Sound of `count` frames at `rate` Hz, which are copied. `samples` may be NULL where `count` is 0.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a rate outside 1,000 to 384,000 Hz, or a sample that is not finite.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_audio_new(
    samples: *const f32,
    count: usize,
    rate: u32,
    audio: *mut Audio,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let audio = place(audio, "audio")?;
            audio.put(Sound::new(array(samples, count, "samples")?.to_vec(), rate)?)
        })
    }
}

impl Chosen {
    pub(crate) fn of(&self, input: Input) -> Input {
        match self.track {
            Some(index) => input.track(index),
            None => input,
        }
    }
}

/// Decodes the sound of the media file `path` to one channel at its own rate. `options` may be NULL: see Media. `job` may be
/// none.
///
/// Errors: DUB_STATUS_IO, DUB_STATUS_UNSUPPORTED_MEDIA, DUB_STATUS_CORRUPT_MEDIA, DUB_STATUS_LIMIT_EXCEEDED,
/// DUB_STATUS_INVALID_ARGUMENT, or what ended the job.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_audio_load(
    path: *const c_char,
    options: *const *const c_char,
    job: Job,
    audio: *mut Audio,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let audio = place(audio, "audio")?;
            audio.put(decoded(file(path)?, options, job)?)
        })
    }
}

/// As dub_audio_load, of a media file of `length` bytes in memory, which are copied. `options` may be NULL. `job` may be none.
///
/// Errors: as dub_audio_load.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_audio_decode(
    bytes: *const u8,
    length: usize,
    options: *const *const c_char,
    job: Job,
    audio: *mut Audio,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let audio = place(audio, "audio")?;
            audio.put(decoded(memory(bytes, length)?, options, job)?)
        })
    }
}

/// A media file by its path.
///
/// # Safety
/// As for [`required`].
pub(crate) unsafe fn file(path: *const c_char) -> Result<Input> {
    // SAFETY: passed on.
    Ok(Input::from(Path::new(unsafe { required(path, "path")? })))
}

/// A media file in memory, which is copied and never is nothing.
///
/// # Safety
/// As for [`array`].
pub(crate) unsafe fn memory(bytes: *const u8, length: usize) -> Result<Input> {
    if bytes.is_null() {
        return Err(wrong("bytes is NULL: it must be given"));
    }
    // SAFETY: passed on.
    Ok(Input::from(Arc::<[u8]>::from(unsafe { array(bytes, length, "bytes")? })))
}

/// # Safety
/// As for [`pairs`].
unsafe fn decoded(input: Input, options: *const *const c_char, job: Job) -> Result<Sound> {
    let mut chosen = Chosen::default();
    // SAFETY: passed on.
    apply(&unsafe { pairs(options, "options")? }, "options", &mut [&mut MEDIA.of(&mut chosen)])?;
    media::decode(&chosen.of(input), &chosen.limits, &work(job)?)
}

/// Its frames, how many they are, and their rate in Hz. They live as long as the handle, and never change.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_audio_samples(
    audio: Audio,
    samples: *mut *const f32,
    count: *mut usize,
    rate: *mut u32,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (samples, count, rate) = (place(samples, "samples")?, place(count, "count")?, place(rate, "rate")?);
            let sound = get(audio, "audio")?;
            samples.set(sound.samples().as_ptr());
            count.set(sound.len());
            rate.set(sound.rate());
            Ok(())
        })
    }
}

/// The part from `start` to `end`, in seconds, as far as there is sound. It shares the frames.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_audio_slice(audio: Audio, start: f64, end: f64, part: *mut Audio, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let part = place(part, "part")?;
            let span = Span::new(seconds(start, "start")?, seconds(end, "end")?);
            part.put(get(audio, "audio")?.slice(span))
        })
    }
}

/// The same sound at `rate` Hz.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a rate outside 1,000 to 384,000 Hz.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_audio_resample(audio: Audio, rate: u32, resampled: *mut Audio, error: *mut Failure) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let resampled = place(resampled, "resampled")?;
            resampled.put(get(audio, "audio")?.resample(rate)?)
        })
    }
}

/// Writes a WAV file. It appears whole or not at all. `options` may be NULL: see Files.
///
/// Errors: DUB_STATUS_IO, DUB_STATUS_LIMIT_EXCEEDED beyond 4 GiB, DUB_STATUS_INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dub_audio_save(
    audio: Audio,
    path: *const c_char,
    options: *const *const c_char,
    error: *mut Failure,
) -> Status {
    // SAFETY: the header's conventions.
    unsafe {
        run(error, || {
            let (sound, path) = (get(audio, "audio")?, required(path, "path")?);
            let mut format = WavFormat::default();
            apply(&pairs(options, "options")?, "options", &mut [&mut AUDIO_FILE.of(&mut format)])?;
            media::write_wav(path, &sound, format)
        })
    }
}

/// Frees the handle, and with it what dub_audio_samples gave.
///
/// Errors: DUB_STATUS_INVALID_ARGUMENT for a handle that was freed already.
#[unsafe(no_mangle)]
pub extern "C" fn dub_audio_free(audio: Audio) -> Status {
    free(audio)
}
