//! [`Media`]: symphonia behind our errors, limits and clock.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};

use once_cell::sync::Lazy;
use symphonia::core::audio::Channels;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::{
    AudioCodecId, AudioCodecParameters, AudioDecoder, AudioDecoderOptions, well_known as codec,
};
use symphonia::core::codecs::registry::CodecRegistry;
use symphonia::core::errors::Error as Symphonia;
use symphonia::core::formats::probe::{Hint, Probe, ProbeOptions};
use symphonia::core::formats::{FormatOptions, FormatReader, Track};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;
use symphonia::core::units::Timestamp;

use super::clock::{Chosen, Clock};
use super::container::{self, Container, Headers};
use super::message::{
    changed, codec_name, corrupt, exceeded, no_decoder, no_sound, not_media, opening_failed, unreadable, unreadable_or_corrupt,
    unsupported,
};
use super::opus::{self, OpusDecoder};
use super::rf64::AsWav;
use super::{Limits, mp4, tracks, vorbis};
use crate::audio::RATES;
use crate::error::Result;

/// Frames of silence handed out at once.
pub(super) const BLOCK: usize = 4096;
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

/// Symphonia's decoders, and ours.
static CODECS: Lazy<CodecRegistry> = Lazy::new(|| {
    let mut codecs = CodecRegistry::new();
    symphonia::default::register_enabled_codecs(&mut codecs);
    codecs.register_audio_decoder::<OpusDecoder>();
    codecs
});

/// The short name of a codec, if it is decoded.
pub(super) fn short_name(id: AudioCodecId) -> Option<&'static str> {
    CODECS.get_audio_decoder(id).map(|decoder| decoder.codec.info.short_name)
}

/// A demuxer, the decoder of one of its sound tracks, and the clock that puts the sound in its place.
pub(super) struct Media {
    pub(super) name: String,
    pub(super) codec: &'static str,
    pub(super) rate: u32,
    pub(super) layout: Channels,
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    clock: Clock,
    /// Frames the file declares, and how many may be missing.
    declared: Option<(u64, u64)>,
    /// The packet decoded at opening, for its rate and channels.
    first: Option<Vec<f32>>,
    scratch: Vec<f32>,
    /// Samples kept back, because they may be padding.
    held: VecDeque<f32>,
    packets: u64,
    /// The length of the file.
    bytes: u64,
    failures: u64,
    /// Frames that came out of the decoder, and how many of them at the last packet.
    decoded: u64,
    last_block: usize,
    ended: bool,
}

impl Media {
    pub(super) fn open(
        name: String,
        mut source: Box<dyn MediaSource>,
        len: u64,
        wanted: Option<usize>,
        limits: &Limits,
    ) -> Result<Self> {
        let io = |e| unreadable(&name, e);
        let mut head = Vec::new();
        (&mut source).take(256).read_to_end(&mut head).map_err(io)?;
        let container = container::sniff(&head).ok_or_else(|| not_media(&name, &head))?;
        if let Some(cut) = container::cut(&mut source, container, len).map_err(io)? {
            return Err(corrupt(format!("{name} is cut off: {} of at least {} bytes are there", cut.found, cut.declared)));
        }
        if container == Container::Mp4 && !mp4::runs_fit(&mut source, len).map_err(io)? {
            return Err(corrupt(format!("{name} is damaged: a fragment has more samples than the file has bytes")));
        }
        let headers = container::headers(&mut source, container, len).map_err(io)?;
        if container == Container::Rf64 {
            let data = container::rf64_data(&mut source, len).map_err(io)?;
            let data = data.ok_or_else(|| corrupt(format!("{name} is damaged: an RF64 file without sizes or sound")))?;
            source = Box::new(AsWav::new(source, data).map_err(io)?);
        }
        source.seek(SeekFrom::Start(0)).map_err(io)?;

        let stream = MediaSourceStream::new(source, Default::default());
        let format = guard(&name, || {
            PROBE
                .probe(&Hint::new(), stream, FormatOptions::default(), MetadataOptions::default())
                .map_err(|e| opening_failed(&name, &head, e))
        })?;
        let tracks = tracks::list(format.as_ref(), &headers);
        let track = tracks::choose(&name, format.as_ref(), &tracks, wanted)?.clone();
        let Some(CodecParameters::Audio(params)) = &track.codec_params else { return Err(no_sound(&name)) };
        let (mp4, mkv) = match &headers {
            Headers::Mp4(tracks) => (tracks.iter().find(|t| t.id == track.id), None),
            Headers::Matroska(tracks) => (None, tracks.iter().find(|t| t.number == track.id)),
            Headers::Other => (None, None),
        };
        let chosen = Chosen { container, track: &track, params, mp4, mkv };
        // Before a decoder is made: its buffers are as large as the channels are many.
        let layout = params.channels.clone().unwrap_or_default();
        check_channels(&name, &layout, limits)?;
        let decoder = make_decoder(&name, params, &track)?;
        let mut media = Self {
            codec: decoder.codec_info().short_name,
            rate: params.sample_rate.unwrap_or(0),
            layout,
            clock: Clock::default(),
            declared: None,
            first: None,
            scratch: Vec::new(),
            held: VecDeque::new(),
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
        media.start(&chosen, limits)?;
        Ok(media)
    }

    /// Decodes the first packet that has sound, which fixes rate and channels, and sets the clock.
    fn start(&mut self, chosen: &Chosen<'_>, limits: &Limits) -> Result<()> {
        self.declared = chosen.declared(self.codec);
        let first = self.next_block(None)?;
        check_channels(&self.name, &self.layout, limits)?;
        if !RATES.contains(&self.rate) {
            let message = format!("{}: a rate of {} Hz is not one this build reads", self.name, self.rate);
            return Err(unsupported(message));
        }
        if self.channels() == 0 {
            return Err(unsupported(format!("{} does not tell how many channels it has", self.name)));
        }
        self.clock = chosen.clock(self.rate, first);
        Ok(())
    }

    pub(super) fn channels(&self) -> usize {
        self.layout.count()
    }

    /// How many frames will be handed out, if the file tells.
    pub(super) fn shown(&self) -> Option<u64> {
        let decoded = match (self.clock.end, self.declared) {
            (Some(end), Some((all, _))) => end.min(all),
            (end, all) => end.or(all.map(|(all, _)| all))?,
        };
        Some(decoded.saturating_sub(self.clock.skip).saturating_add(self.clock.lead))
    }

    pub(super) fn read(&mut self, out: &mut Vec<f32>) -> Result<usize> {
        let channels = self.channels();
        if self.clock.lead > 0 {
            let frames = self.clock.lead.min(BLOCK as u64);
            self.clock.lead -= frames;
            out.resize(out.len() + frames as usize * channels, 0.0);
            return Ok(frames as usize);
        }
        loop {
            let block = match self.first.take() {
                Some(block) => {
                    self.scratch = block;
                    true
                }
                None => self.next_block(Some((self.rate, channels)))?.is_some(),
            };
            if !block {
                return Ok(0);
            }
            let frames = self.scratch.len() / channels;
            let from = self.decoded - frames as u64;
            let clip = |at: u64| at.saturating_sub(from).min(frames as u64) as usize * channels;
            let shown = clip(self.clock.skip)..clip(self.clock.end.unwrap_or(u64::MAX));
            if shown.start >= shown.end {
                continue;
            }
            if self.clock.tail == 0 {
                out.extend_from_slice(&self.scratch[shown.clone()]);
                return Ok(shown.len() / channels);
            }
            self.held.extend(&self.scratch[shown]);
            let free = self.held.len().saturating_sub(self.clock.tail * channels);
            if free > 0 {
                out.extend(self.held.drain(..free));
                return Ok(free / channels);
            }
        }
    }

    /// Decodes into `scratch` (at opening also into `first`) until there is sound; the time stamp of the packet it came
    /// from, or `None` at the end.
    fn next_block(&mut self, spec: Option<(u32, usize)>) -> Result<Option<Timestamp>> {
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
                let frame = self.decoded + (at / self.channels()) as u64;
                return Err(corrupt(format!("{}: the sample at frame {frame} is {}", self.name, self.scratch[at])));
            }
            self.last_block = self.scratch.len() / self.channels();
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
                Ok(Some((buffer.spec().rate(), buffer.spec().channels().clone())))
            }
            // The packet is in memory: what looks like an I/O error is a read past its end.
            Err(Symphonia::DecodeError(_) | Symphonia::IoError(_)) => Ok(None),
            // A feature that appears on the way is far likelier damage.
            Err(Symphonia::Unsupported(_)) if worked_before => Ok(None),
            Err(Symphonia::ResetRequired) => Err(changed(name, "changes its rate or channels")),
            Err(Symphonia::Unsupported(what)) => Err(unsupported(format!("{name} uses what this build does not decode: {what}"))),
            Err(e) => Err(corrupt(format!("{name} is damaged: {e}"))),
        })?;
        let Some((rate, layout)) = found else {
            self.failures += 1;
            let silence = self.last_block * self.channels();
            self.scratch.clear();
            self.scratch.resize(silence, 0.0);
            return Ok(self.last_block > 0);
        };
        if self.scratch.is_empty() {
            return Ok(false);
        }
        let channels = layout.count();
        match spec {
            None => (self.rate, self.layout) = (rate, layout),
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

fn check_channels(name: &str, layout: &Channels, limits: &Limits) -> Result<()> {
    match layout.count() {
        channels if channels <= limits.max_channels => Ok(()),
        channels => Err(exceeded(name, "max_channels", channels.to_string(), limits.max_channels.to_string())),
    }
}

fn make_decoder(name: &str, params: &AudioCodecParameters, track: &Track) -> Result<Box<dyn AudioDecoder>> {
    let codec = codec_name(Some(params.codec), "");
    if CODECS.get_audio_decoder(params.codec).is_none() {
        return Err(no_decoder(name, &codec));
    }
    // Symphonia undoes the coupling of channels from the first step to the last, the specification from the last to the
    // first. With one pair that is the same; with more, channels come out mixed into each other.
    let channels = params.channels.as_ref().map_or(0, Channels::count);
    if params.codec == codec::CODEC_ID_VORBIS && channels > 2 {
        return Err(no_decoder(name, &format!("Vorbis with {channels} channels")));
    }
    if params.codec == codec::CODEC_ID_VORBIS && params.extra_data.as_deref().is_some_and(vorbis::is_bomb) {
        return Err(corrupt(format!("{name} is damaged: it asks for more memory than any sound needs")));
    }
    // Without a LAME tag symphonia guesses an MP3's length from its bit rate and would cut the end off by that guess.
    let gapless = params.codec != codec::CODEC_ID_MP3 || track.delay.is_some();
    let options = AudioDecoderOptions::default().gapless(gapless);
    guard(name, || {
        CODECS.make_audio_decoder(params, &options).map_err(|e| match e {
            Symphonia::Unsupported(_) => no_decoder(name, &kind_of(&codec, params)),
            e => corrupt(format!("{name} is damaged: {e}")),
        })
    })
}

/// What it is about a codec of ours that its decoder does not take.
fn kind_of(name: &str, params: &AudioCodecParameters) -> String {
    let channels = params.channels.as_ref().map_or(0, Channels::count);
    let family = params.extra_data.as_deref().and_then(opus::mapping_family);
    match (params.codec, family) {
        (codec::CODEC_ID_OPUS, Some(family)) => format!("Opus with channel mapping family {family}"),
        (codec::CODEC_ID_AAC, _) if channels > 2 => format!("AAC with {channels} channels"),
        (codec::CODEC_ID_AAC, _) => "AAC in a profile other than LC, such as HE-AAC".into(),
        _ => format!("{name} of an uncommon kind"),
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
