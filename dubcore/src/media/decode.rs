//! [`Reader`]: symphonia behind our errors, limits and clock.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};

use once_cell::sync::Lazy;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::{
    AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions, well_known as codec,
};
use symphonia::core::errors::Error as Symphonia;
use symphonia::core::formats::probe::{Hint, Probe, ProbeOptions};
use symphonia::core::formats::{FormatOptions, FormatReader, Track, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;

use super::container::{self, Container, Mp4Track};
use super::{Input, Limits, vorbis};
use crate::audio::{Audio, RATES, time_to_samples};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Job;

/// Frames handed out at once where no codec sets the size: silence, and sound that is decoded already.
const BLOCK: usize = 4096;
/// How far into a file that begins like one of ours the first frame is looked for.
const PROBE_DEPTH: u32 = 64 * 1024;
/// Up to so many undecodable packets are let pass however short the file is: the first packets of a cut MP3 refer to what
/// was cut off.
const FREE_FAILURES: u64 = 2;

/// Symphonia's default probe looks through a megabyte for anything like a frame; random data often has that.
static PROBE: Lazy<Probe> = Lazy::new(|| {
    let mut probe = Probe::new_with_options(&ProbeOptions { max_probe_depth: PROBE_DEPTH, ..ProbeOptions::default() });
    symphonia::default::register_enabled_formats(&mut probe);
    probe
});

/// Decodes the first sound track of some media, packet by packet, in bounded memory.
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
    /// [the module](super), which is named, or has no sound; `CorruptMedia` if it claims to be but is not, or ends before
    /// its declared end; `LimitExceeded`.
    pub fn open(input: &Input, limits: &Limits) -> Result<Self> {
        let (name, source, len): (_, Box<dyn MediaSource>, _) = match input {
            Input::Audio(audio) => return Self::of_audio(audio, limits),
            Input::Bytes(bytes) => ("the input".to_owned(), Box::new(Cursor::new(bytes.clone())), bytes.len() as u64),
            Input::Path(path) => {
                let name = path.display().to_string();
                let (file, len) = open_file(path).map_err(|e| unreadable(&name, e))?;
                (name, Box::new(file), len)
            }
        };
        if len > limits.max_bytes {
            return Err(exceeded(&name, "max_bytes", format!("{len} bytes"), format!("{} bytes", limits.max_bytes)));
        }
        let media = Media::open(name, source, len, limits)?;
        let hint = media.shown();
        Self::build(media.codec, media.rate, media.channels, hint, Source::Media(Box::new(media)), limits)
    }

    fn of_audio(audio: &Audio, limits: &Limits) -> Result<Self> {
        let source = Source::Audio { audio: audio.clone(), at: 0 };
        Self::build("audio", audio.rate(), 1, Some(audio.len() as u64), source, limits)
    }

    fn build(
        codec: &'static str,
        rate: u32,
        channels: usize,
        hint: Option<u64>,
        source: Source,
        limits: &Limits,
    ) -> Result<Self> {
        let max_frames = time_to_samples(limits.max_duration, rate);
        let reader = Self { source, codec, rate, channels, hint, frames: 0, max_frames, limits: limits.clone(), failed: None };
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

/// Decodes all of the media and mixes it down to mono: the mean of the channels, at the media's own rate.
///
/// Four hours at 48 kHz are 2.8 GB; [`MonoStream`](super::MonoStream) needs only a few hundred KB. Progress is reported to
/// `job` where the file tells its length.
///
/// # Errors
/// Those of [`Reader::open`] and [`Reader::read`]; `OutOfMemory`; `Cancelled` or `DeadlineExceeded` from the job, which is
/// checked at every packet.
pub fn decode(input: &Input, limits: &Limits, job: &Job) -> Result<Audio> {
    job.check()?;
    if let Input::Audio(audio) = input {
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
        mix_down(&block, reader.channels(), &mut mono);
        if let Some(total) = reader.frames_hint().filter(|&n| n > 0) {
            job.report(reader.frames() as f64 / total as f64);
        }
    }
    job.report(1.0);
    Audio::new(mono, reader.rate())
}

/// Appends the mean of each frame's channels.
pub(super) fn mix_down(interleaved: &[f32], channels: usize, out: &mut Vec<f32>) {
    if channels == 1 {
        return out.extend_from_slice(interleaved);
    }
    // In f64, because the sum of loud f32 channels can overflow where their mean does not.
    let mean = |frame: &[f32]| (frame.iter().copied().map(f64::from).sum::<f64>() / channels as f64) as f32;
    out.extend(interleaved.chunks_exact(channels).map(mean));
}

/// A demuxer, the decoder of its first sound track, and the clock that puts the sound in its place.
struct Media {
    name: String,
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    codec: &'static str,
    rate: u32,
    channels: usize,
    clock: Clock,
    /// Frames the file declares, and how many may be missing.
    declared: Option<(u64, u64)>,
    /// The packet decoded at opening, for its rate and channels.
    first: Option<Vec<f32>>,
    scratch: Vec<f32>,
    packets: u64,
    /// The length of the file.
    bytes: u64,
    failures: u64,
    /// Frames that came out of the decoder, and how many of them at the last packet.
    decoded: u64,
    last_block: usize,
    ended: bool,
}

/// Where the decoded sound belongs on the file's time line, in frames.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    /// Silence that goes before.
    lead: u64,
    /// Decoded frames to drop: the codec's run-up.
    skip: u64,
    /// Decoded frames after which the rest is the encoder's padding, counted before `skip`.
    end: Option<u64>,
}

impl Media {
    fn open(name: String, mut source: Box<dyn MediaSource>, len: u64, limits: &Limits) -> Result<Self> {
        let io = |e| unreadable(&name, e);
        let mut head = Vec::new();
        (&mut source).take(256).read_to_end(&mut head).map_err(io)?;
        let container = container::sniff(&head).ok_or_else(|| not_media(&name, &head))?;
        if let Some(cut) = container::cut(&mut *source, container, len).map_err(io)? {
            return Err(corrupt(format!("{name} is cut off: {} of at least {} bytes are there", cut.found, cut.declared)));
        }
        let boxes = match container {
            Container::Mp4 if !container::mp4_runs_fit(&mut *source, len).map_err(io)? => {
                return Err(corrupt(format!("{name} is damaged: a fragment has more samples than the file has bytes")));
            }
            Container::Mp4 => container::mp4_tracks(&mut *source, len).map_err(io)?,
            _ => Vec::new(),
        };
        source.seek(SeekFrom::Start(0)).map_err(io)?;

        let stream = MediaSourceStream::new(source, Default::default());
        let format = guard(&name, || {
            PROBE
                .probe(&Hint::new(), stream, FormatOptions::default(), MetadataOptions::default())
                .map_err(|e| opening_failed(&name, &head, e))
        })?;
        let track = sound_track(&name, format.as_ref(), &boxes)?;
        let Some(CodecParameters::Audio(params)) = &track.codec_params else { return Err(no_sound(&name)) };
        let (params, track) = (params.clone(), track.clone());
        let boxes = boxes.into_iter().find(|t| t.id == track.id);
        let decoder = make_decoder(&name, &params, &track, boxes.as_ref())?;
        let mut media = Self {
            codec: decoder.codec_info().short_name,
            rate: params.sample_rate.unwrap_or(0),
            channels: params.channels.as_ref().map_or(0, |c| c.count()),
            clock: Clock::default(),
            declared: None,
            first: None,
            scratch: Vec::new(),
            packets: 0,
            bytes: len,
            failures: 0,
            decoded: 0,
            last_block: 0,
            ended: false,
            track: track.id,
            name,
            format,
            decoder,
        };
        media.start(container, &track, boxes.as_ref(), limits)?;
        Ok(media)
    }

    /// Decodes the first packet that has sound, which fixes rate and channels, and sets the clock.
    fn start(&mut self, container: Container, track: &Track, boxes: Option<&Mp4Track>, limits: &Limits) -> Result<()> {
        // Before anything is decoded: a block of many channels is many times larger.
        self.check_channels(limits)?;
        self.declared = declared(container, self.codec, track, boxes);
        let first = self.next_block(None)?;
        self.check_channels(limits)?;
        if !RATES.contains(&self.rate) {
            let message = format!("{}: a rate of {} Hz is not one this build reads", self.name, self.rate);
            return Err(unsupported(message));
        }
        if self.channels == 0 {
            return Err(unsupported(format!("{} does not tell how many channels it has", self.name)));
        }
        let begins = first.and_then(|pts| Some(track.time_base?.calc_time(pts)?.as_nanos())).unwrap_or(0);
        self.clock = clock(container, self.rate, begins, track, boxes);
        Ok(())
    }

    fn check_channels(&self, limits: &Limits) -> Result<()> {
        if self.channels <= limits.max_channels {
            return Ok(());
        }
        Err(exceeded(&self.name, "max_channels", self.channels.to_string(), limits.max_channels.to_string()))
    }

    /// How many frames will be handed out, if the file tells.
    fn shown(&self) -> Option<u64> {
        let decoded = match (self.clock.end, self.declared) {
            (Some(end), Some((all, _))) => end.min(all),
            (end, all) => end.or(all.map(|(all, _)| all))?,
        };
        Some(decoded.saturating_sub(self.clock.skip).saturating_add(self.clock.lead))
    }

    fn read(&mut self, out: &mut Vec<f32>) -> Result<usize> {
        if self.clock.lead > 0 {
            let frames = self.clock.lead.min(BLOCK as u64);
            self.clock.lead -= frames;
            out.resize(out.len() + frames as usize * self.channels, 0.0);
            return Ok(frames as usize);
        }
        loop {
            let block = match self.first.take() {
                Some(block) => {
                    self.scratch = block;
                    true
                }
                None => self.next_block(Some((self.rate, self.channels)))?.is_some(),
            };
            if !block {
                return Ok(0);
            }
            let frames = self.scratch.len() / self.channels;
            let from = self.decoded - frames as u64;
            let clip = |at: u64| at.saturating_sub(from).min(frames as u64) as usize * self.channels;
            let shown = clip(self.clock.skip)..clip(self.clock.end.unwrap_or(u64::MAX));
            if shown.start < shown.end {
                out.extend_from_slice(&self.scratch[shown.clone()]);
                return Ok(shown.len() / self.channels);
            }
        }
    }

    /// Decodes into `scratch` (at opening also into `first`) until there is sound; the time stamp of the packet it came
    /// from, or `None` at the end.
    fn next_block(&mut self, spec: Option<(u32, usize)>) -> Result<Option<symphonia::core::units::Timestamp>> {
        while !self.ended {
            let Some(packet) = self.next_packet()? else {
                self.ended = true;
                self.check_end()?;
                break;
            };
            if packet.track_id != self.track {
                continue;
            }
            self.packets += 1;
            if self.packets > self.bytes {
                return Err(corrupt(format!("{} is damaged: it has more packets than bytes", self.name)));
            }
            if !self.decode_packet(&packet, spec)? || self.scratch.is_empty() {
                continue;
            }
            if let Some(at) = self.scratch.iter().position(|s| !s.is_finite()) {
                let frame = self.decoded + (at / self.channels) as u64;
                return Err(corrupt(format!("{}: the sample at frame {frame} is {}", self.name, self.scratch[at])));
            }
            self.last_block = self.scratch.len() / self.channels;
            self.decoded += self.last_block as u64;
            if spec.is_none() {
                self.first = Some(std::mem::take(&mut self.scratch));
            }
            return Ok(Some(packet.pts));
        }
        Ok(None)
    }

    fn next_packet(&mut self) -> Result<Option<Packet>> {
        let (name, format) = (&self.name, &mut self.format);
        guard(name, || match format.next_packet() {
            Ok(packet) => Ok(packet),
            // Whether the end is too early is for `check_end` to say.
            Err(Symphonia::IoError(e)) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(Symphonia::IoError(e)) => Err(unreadable_or_corrupt(name, e)),
            // An Ogg file with one stream after the other.
            Err(Symphonia::ResetRequired) => Err(changed(name, "begins a new stream")),
            Err(e) => Err(corrupt(format!("{name} is damaged: {e}"))),
        })
    }

    /// Decodes one packet into `scratch`. A packet that is damaged in itself is replaced by silence, so that what follows
    /// keeps its place; `false` if there is nothing to replace it with.
    fn decode_packet(&mut self, packet: &Packet, spec: Option<(u32, usize)>) -> Result<bool> {
        let (name, decoder, scratch) = (&self.name, &mut self.decoder, &mut self.scratch);
        let worked_before = self.decoded > 0;
        let found = guard(name, || match decoder.decode(packet) {
            Ok(buffer) => {
                buffer.copy_to_vec_interleaved(scratch);
                Ok(Some((buffer.spec().rate(), buffer.spec().channels().count())))
            }
            // The packet is in memory: what looks like an I/O error is a read past its end.
            Err(Symphonia::DecodeError(_) | Symphonia::IoError(_)) => Ok(None),
            // A feature that appears on the way is far likelier damage.
            Err(Symphonia::Unsupported(_)) if worked_before => Ok(None),
            Err(Symphonia::ResetRequired) => Err(changed(name, "changes its rate or channels")),
            Err(Symphonia::Unsupported(what)) => Err(unsupported(format!("{name} uses what this build does not decode: {what}"))),
            Err(e) => Err(corrupt(format!("{name} is damaged: {e}"))),
        })?;
        let Some((rate, channels)) = found else {
            self.failures += 1;
            self.scratch.clear();
            self.scratch.resize(self.last_block * self.channels, 0.0);
            return Ok(self.last_block > 0);
        };
        if self.scratch.is_empty() {
            return Ok(false);
        }
        match spec {
            None => (self.rate, self.channels) = (rate, channels),
            Some(before) if before != (rate, channels) => {
                return Err(changed(
                    name,
                    &format!("changes from {} Hz, {} channels to {rate} Hz, {channels} channels", before.0, before.1),
                ));
            }
            Some(_) => {}
        }
        Ok(true)
    }

    /// At the end: whether enough of it could be decoded.
    fn check_end(&self) -> Result<()> {
        let (name, failures, packets) = (&self.name, self.failures, self.packets);
        if failures > 0 && (self.decoded == 0 || failures > FREE_FAILURES && failures * 100 > packets) {
            return Err(corrupt(format!("{name} is damaged: {failures} of {packets} packets cannot be decoded")));
        }
        match self.declared {
            Some((all, missing)) if self.decoded.saturating_add(missing) < all => {
                Err(corrupt(format!("{name} ends early: {} of {all} declared frames are there", self.decoded)))
            }
            _ => Ok(()),
        }
    }
}

/// The first sound track. A container with a codec that symphonia has never heard of lists no sound at all, so the MP4's own
/// boxes are asked for its name.
fn sound_track<'a>(name: &str, format: &'a dyn FormatReader, boxes: &[Mp4Track]) -> Result<&'a Track> {
    let known = format.first_track(TrackType::Audio);
    match (known, boxes.first()) {
        (Some(track), Some(first)) if first.id != track.id => Err(no_decoder(name, &codec_name(None, Some(first)))),
        (Some(track), _) => Ok(track),
        (None, Some(first)) => Err(no_decoder(name, &codec_name(None, Some(first)))),
        (None, None) if format.tracks().iter().any(|t| t.codec_params.is_none()) => {
            Err(unsupported(format!("{name} has no sound track of a codec this build knows")))
        }
        (None, None) => Err(no_sound(name)),
    }
}

fn make_decoder(
    name: &str,
    params: &AudioCodecParameters,
    track: &Track,
    boxes: Option<&Mp4Track>,
) -> Result<Box<dyn AudioDecoder>> {
    // Without a LAME tag symphonia guesses an MP3's length from its bit rate and would cut the end off by that guess.
    let gapless = params.codec != codec::CODEC_ID_MP3 || track.delay.is_some();
    let options = AudioDecoderOptions::default().gapless(gapless);
    if params.codec == codec::CODEC_ID_VORBIS && params.extra_data.as_deref().is_some_and(vorbis::is_bomb) {
        return Err(corrupt(format!("{name} is damaged: it asks for more memory than any sound needs")));
    }
    guard(name, || {
        symphonia::default::get_codecs().make_audio_decoder(params, &options).map_err(|e| match e {
            Symphonia::Unsupported(_) => no_decoder(name, &codec_name(Some(params.codec), boxes)),
            e => corrupt(format!("{name} is damaged: {e}")),
        })
    })
}

/// Where the sound belongs. `begins` is the time stamp of the first sound, in nanoseconds.
fn clock(container: Container, rate: u32, begins: i128, track: &Track, boxes: Option<&Mp4Track>) -> Clock {
    match (container, boxes) {
        // Matroska has no edits: blocks stand where their time stamps say.
        (Container::Matroska, _) => {
            let nanos = u64::try_from(begins).unwrap_or(0);
            Clock { lead: time_to_samples(std::time::Duration::from_nanos(nanos), rate), ..Clock::default() }
        }
        (Container::Mp4, Some(mp4)) => mp4_clock(rate, track, mp4),
        // The others start at zero, and symphonia cuts their run-up.
        _ => Clock::default(),
    }
}

fn mp4_clock(rate: u32, track: &Track, mp4: &Mp4Track) -> Clock {
    let frames = |ticks: u64, timescale: u32| {
        let (ticks, timescale) = (u128::from(ticks), u128::from(timescale.max(1)));
        u64::try_from((ticks * u128::from(rate) + timescale / 2) / timescale).unwrap_or(u64::MAX)
    };
    let lead = frames(mp4.empty, mp4.movie_timescale);
    let skip = frames(mp4.start, mp4.timescale);
    // The sample table counts the last packet only as far as it is sound. Exact, where ticks are frames.
    let listed = track.num_frames.filter(|_| mp4.timescale == rate && !mp4.fragmented);
    // The edit's length is in coarse ticks, usually milliseconds: trusted only where it cuts more than its own coarseness.
    let coarse = frames(2, mp4.movie_timescale);
    let edited = (mp4.length > 0 && !mp4.fragmented).then(|| skip.saturating_add(frames(mp4.length, mp4.movie_timescale)));
    let end = match (listed, edited) {
        (Some(listed), Some(edited)) if edited.saturating_add(coarse) < listed => Some(edited),
        (listed, _) => listed,
    };
    Clock { lead, skip, end }
}

/// How many frames the file promises, and how many of them may be missing before it counts as cut off.
fn declared(container: Container, codec: &str, track: &Track, boxes: Option<&Mp4Track>) -> Option<(u64, u64)> {
    let all = track.num_frames?;
    match container {
        Container::Wav | Container::Flac => Some((all, 0)),
        // Some encoders count the packet that holds the tag, or the run-up: one packet of grace.
        Container::Frames if codec == "mp3" && track.delay.is_some() => Some((all, 2 * 1152)),
        Container::Mp4 if boxes.is_some_and(|b| !b.fragmented) => Some((all, 4096)),
        // Vorbis blocks have up to 8192 samples.
        Container::Ogg => Some((all, 8192)),
        // Guessed from the bit rate, or not known.
        Container::Frames | Container::Mp4 | Container::Matroska => None,
    }
}

/// Runs foreign code on untrusted data: a panic in it is the data's fault and becomes `CorruptMedia`. What it had in hand
/// may be in disorder afterwards (`AssertUnwindSafe`), but is never used again: the error ends the reader for good.
fn guard<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(corrupt(format!("{name} is damaged: it makes the decoder fail ({})", what.unwrap_or("panic"))))
    })
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

/// The name of a codec, for a person.
fn codec_name(id: Option<AudioCodecId>, boxes: Option<&Mp4Track>) -> String {
    let known = match id {
        Some(codec::CODEC_ID_OPUS) => "Opus",
        Some(codec::CODEC_ID_AC3) => "AC-3",
        Some(codec::CODEC_ID_EAC3) => "E-AC-3",
        Some(codec::CODEC_ID_AC4) => "AC-4",
        Some(codec::CODEC_ID_DCA) => "DTS",
        Some(codec::CODEC_ID_TRUEHD) => "TrueHD",
        Some(codec::CODEC_ID_ALAC) => "ALAC",
        Some(codec::CODEC_ID_WMA) => "Windows Media Audio",
        Some(codec::CODEC_ID_SPEEX) => "Speex",
        Some(codec::CODEC_ID_WAVPACK) => "WavPack",
        Some(codec::CODEC_ID_TTA) => "True Audio",
        Some(codec::CODEC_ID_MP1) => "MPEG Layer I",
        Some(codec::CODEC_ID_MP2) => "MPEG Layer II",
        Some(codec::CODEC_ID_AAC) => "AAC in a profile other than LC",
        Some(codec::CODEC_ID_ADPCM_MS) => "Microsoft ADPCM",
        Some(codec::CODEC_ID_ADPCM_IMA_WAV | codec::CODEC_ID_ADPCM_IMA_QT) => "IMA ADPCM",
        _ => "",
    };
    match (known, boxes) {
        ("", Some(track)) => match &track.codec {
            b"Opus" => "Opus".into(),
            b"ac-3" => "AC-3".into(),
            b"ec-3" => "E-AC-3".into(),
            b"alac" => "ALAC".into(),
            other => String::from_utf8_lossy(other).escape_default().to_string(),
        },
        ("", None) => id.map_or("an unknown codec".into(), |id| format!("an unknown codec ({id})")),
        (known, _) => known.into(),
    }
}

fn corrupt(message: String) -> Error {
    Error::new(ErrorKind::CorruptMedia, message)
}

fn unsupported(message: String) -> Error {
    Error::new(ErrorKind::UnsupportedMedia, message)
}

fn unreadable(name: &str, e: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot read {name}")).with_source(e)
}

/// Symphonia uses I/O errors of its own for damaged data; the operating system's have a number.
fn unreadable_or_corrupt(name: &str, e: io::Error) -> Error {
    match e.raw_os_error() {
        Some(_) => unreadable(name, e),
        None => corrupt(format!("{name} is damaged: {e}")),
    }
}

fn changed(name: &str, how: &str) -> Error {
    unsupported(format!("{name} {how} on the way: cut it into one file per part first"))
}

fn no_sound(name: &str) -> Error {
    unsupported(format!("{name} has no sound track"))
}

fn no_decoder(name: &str, codec: &str) -> Error {
    unsupported(format!("the sound of {name} is {codec}, which this build does not decode: convert it to AAC, MP3, FLAC or WAV"))
}

fn not_media(name: &str, head: &[u8]) -> Error {
    let found = match container::foreign(head) {
        Some(what) => format!(": it looks like {what}"),
        None if head.is_empty() => ": it is empty".into(),
        None => String::new(),
    };
    unsupported(format!(
        "{name} is not a media file this build reads (wav, mp3, flac, ogg, m4a, mp4, mov, mkv, webm, aac){found}"
    ))
}

fn opening_failed(name: &str, head: &[u8], e: Symphonia) -> Error {
    match e {
        Symphonia::IoError(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            corrupt(format!("{name} is cut off within its header"))
        }
        Symphonia::IoError(e) => unreadable_or_corrupt(name, e),
        Symphonia::Unsupported(what) if what.starts_with("core (probe)") => not_media(name, head),
        Symphonia::Unsupported(what) => unsupported(format!("{name} uses what this build does not read: {what}")),
        e => corrupt(format!("{name} is damaged: {e}")),
    }
}

fn exceeded(name: &str, limit: &str, found: String, most: String) -> Error {
    Error::new(ErrorKind::LimitExceeded, format!("{name} has {found}, more than {limit} allows ({most})"))
}
