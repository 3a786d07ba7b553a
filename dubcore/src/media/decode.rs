//! [`Reader`]: the sound of any [`Input`], block by block.

use std::fs::File;
use std::io::{self, Cursor};

use symphonia::core::io::MediaSource;

use super::demux::{BLOCK, Media};
use super::downmix::Downmix;
use super::message::{exceeded, unreadable};
use super::{Input, Limits};
use crate::audio::{Audio, time_to_samples};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Job;

/// Decodes one sound track of some media, packet by packet, in bounded memory.
///
/// Which one: see [`Input::track`].
///
/// After an error every further read gives the same error.
pub struct Reader {
    source: Source,
    codec: &'static str,
    rate: u32,
    channels: usize,
    hint: Option<u64>,
    /// Frames handed out.
    frames: u64,
    max_frames: u64,
    downmix: Downmix,
    limits: Limits,
    failed: Option<Error>,
}

enum Source {
    Audio { audio: Audio, at: usize },
    Media(Box<Media>),
}

impl Reader {
    /// Opens the media and decodes its first packet.
    ///
    /// # Errors
    /// `Io` (with the path) if the file cannot be read; `UnsupportedMedia` if it is not of a kind listed in
    /// [the module](super), which is named, or has no sound; `InvalidArgument` if it has no such track, with a list of
    /// those it has; `CorruptMedia` if it claims to be but is not, or ends before
    /// its declared end; `LimitExceeded`.
    pub fn open(input: &Input, limits: &Limits) -> Result<Self> {
        let (input, track) = input.parts();
        let (name, source, len): (_, Box<dyn MediaSource>, _) = match input {
            Input::Audio(audio) => return Self::of_audio(audio, track, limits),
            Input::Bytes(bytes) => ("the input".to_owned(), Box::new(Cursor::new(bytes.clone())), bytes.len() as u64),
            Input::Path(path) => {
                let name = path.display().to_string();
                let (file, len) = open_file(path).map_err(|e| unreadable(&name, e))?;
                (name, Box::new(file), len)
            }
            Input::Track { .. } => return Err(Error::internal("a track within a track")),
        };
        if len > limits.max_bytes {
            return Err(exceeded(&name, "max_bytes", format!("{len} bytes"), format!("{} bytes", limits.max_bytes)));
        }
        let media = Media::open(name, source, len, track, limits)?;
        let (codec, rate, hint, downmix) = (media.codec, media.rate, media.shown(), Downmix::of(&media.layout));
        Self::build(codec, rate, media.channels(), hint, Source::Media(Box::new(media)), downmix, limits)
    }

    fn of_audio(audio: &Audio, track: Option<usize>, limits: &Limits) -> Result<Self> {
        if let Some(index @ 1..) = track {
            return Err(Error::argument(format!("the input is one channel of sound: it has no sound track {index}")));
        }
        let source = Source::Audio { audio: audio.clone(), at: 0 };
        Self::build("audio", audio.rate(), 1, Some(audio.len() as u64), source, Downmix::mean(1), limits)
    }

    fn build(
        codec: &'static str,
        rate: u32,
        channels: usize,
        hint: Option<u64>,
        source: Source,
        downmix: Downmix,
        limits: &Limits,
    ) -> Result<Self> {
        let max_frames = time_to_samples(limits.max_duration, rate);
        let limits = limits.clone();
        let reader = Self { source, codec, rate, channels, hint, frames: 0, max_frames, downmix, limits, failed: None };
        reader.check_duration(hint.unwrap_or(0))?;
        Ok(reader)
    }

    /// Frames per second.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Number of channels, at least 1.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The codec's short name: `aac`, `flac`, `mp3`, `vorbis`, `pcm_s16le`, ...; `audio` for [`Input::Audio`].
    pub fn codec(&self) -> &'static str {
        self.codec
    }

    /// How many frames there will be, if the file tells. A promise for WAV and FLAC, near the truth for the rest.
    pub fn frames_hint(&self) -> Option<u64> {
        self.hint
    }

    /// Appends the mix to mono of frames that [`read`](Reader::read) gave.
    pub(super) fn mix_down(&self, interleaved: &[f32], out: &mut Vec<f32>) {
        self.downmix.mix(interleaved, out);
    }

    /// Frames read so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Appends the next frames, channels interleaved, and tells how many there were; 0 at the end.
    ///
    /// All samples are finite; full scale is -1..=1, which lossy codecs and floating-point files may exceed.
    ///
    /// # Errors
    /// `Io`; `CorruptMedia` if too much cannot be decoded, if the file ends early, or for samples that are not finite;
    /// `UnsupportedMedia` if rate or channels change on the way; `LimitExceeded`.
    pub fn read(&mut self, out: &mut Vec<f32>) -> Result<usize> {
        if let Some(e) = &self.failed {
            return Err(e.clone());
        }
        let before = out.len();
        let result = self.advance(out);
        if let Err(e) = &result {
            out.truncate(before);
            self.failed = Some(e.clone());
        }
        result
    }

    fn advance(&mut self, out: &mut Vec<f32>) -> Result<usize> {
        let frames = match &mut self.source {
            Source::Media(media) => media.read(out)?,
            Source::Audio { audio, at } => {
                let rest = &audio.samples()[*at..];
                let block = &rest[..rest.len().min(BLOCK)];
                out.extend_from_slice(block);
                *at += block.len();
                block.len()
            }
        };
        self.frames += frames as u64;
        self.check_duration(self.frames)?;
        Ok(frames)
    }

    fn check_duration(&self, frames: u64) -> Result<()> {
        if frames <= self.max_frames {
            return Ok(());
        }
        let name = match &self.source {
            Source::Media(media) => &media.name,
            Source::Audio { .. } => "the input",
        };
        let seconds = format!("at least {:.1} s", frames as f64 / f64::from(self.rate));
        Err(exceeded(name, "max_duration", seconds, format!("{:.1} s", self.limits.max_duration.as_secs_f64())))
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader({}, {} Hz, {} channels, {} frames read)", self.codec, self.rate, self.channels, self.frames)
    }
}

/// Decodes all of the media and mixes it down to mono (see [the module](super)), at the media's own rate.
///
/// Four hours at 48 kHz are 2.8 GB; [`MonoStream`](super::MonoStream) needs only a few hundred KB. Progress is reported to
/// `job` where the file tells its length.
///
/// # Errors
/// Those of [`Reader::open`] and [`Reader::read`]; `OutOfMemory`; `Cancelled` or `DeadlineExceeded` from the job, which is
/// checked at every packet.
pub fn decode(input: &Input, limits: &Limits, job: &Job) -> Result<Audio> {
    job.check()?;
    if let (Input::Audio(audio), _) = input.parts() {
        Reader::open(input, limits)?;
        return Ok(audio.clone());
    }
    let mut reader = Reader::open(input, limits)?;
    let (mut block, mut mono) = (Vec::new(), Vec::new());
    loop {
        job.check()?;
        block.clear();
        let frames = reader.read(&mut block)?;
        if frames == 0 {
            break;
        }
        if mono.try_reserve(frames).is_err() {
            let message = format!("no memory for {} samples of sound: use MonoStream, or lower max_duration", mono.len());
            return Err(Error::new(ErrorKind::OutOfMemory, message));
        }
        reader.mix_down(&block, &mut mono);
        if let Some(total) = reader.frames_hint().filter(|&n| n > 0) {
            job.report(reader.frames() as f64 / total as f64);
        }
    }
    job.report(1.0);
    Audio::new(mono, reader.rate())
}

fn open_file(path: &std::path::Path) -> io::Result<(File, u64)> {
    // Asked before opening, because opening a pipe waits for its other end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let file = File::open(path)?;
    let len = file.metadata()?.len();
    Ok((file, len))
}
