//! The words in which media are refused.

use std::io;

use symphonia::core::codecs::audio::{AudioCodecId, well_known as codec};
use symphonia::core::errors::Error as Symphonia;

use super::container;
use super::tracks::SoundTrack;
use crate::error::{Error, ErrorKind};

pub(super) fn corrupt(message: String) -> Error {
    Error::new(ErrorKind::CorruptMedia, message)
}

pub(super) fn unsupported(message: String) -> Error {
    Error::new(ErrorKind::UnsupportedMedia, message)
}

pub(super) fn unreadable(name: &str, e: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot read {name}")).with_source(e)
}

/// Symphonia uses I/O errors of its own for damaged data; the operating system's have a number.
pub(super) fn unreadable_or_corrupt(name: &str, e: io::Error) -> Error {
    match e.raw_os_error() {
        Some(_) => unreadable(name, e),
        None => corrupt(format!("{name} is damaged: {e}")),
    }
}

pub(super) fn changed(name: &str, how: &str) -> Error {
    unsupported(format!("{name} {how} on the way: cut it into one file per part first"))
}

pub(super) fn no_sound(name: &str) -> Error {
    unsupported(format!("{name} has no sound track"))
}

pub(super) fn no_decoder(name: &str, codec: &str) -> Error {
    unsupported(format!("the sound of {name} is {codec}, which this build does not decode: convert it to AAC, MP3, FLAC or WAV"))
}

/// The caller asked for a sound track that is not there.
pub(super) fn no_track(name: &str, asked: usize, tracks: &[SoundTrack]) -> Error {
    let list: Vec<String> = tracks.iter().enumerate().map(|(i, t)| format!("{i} ({t})")).collect();
    Error::argument(format!("{name} has no sound track {asked}, counted from zero; there are: {}", list.join(", ")))
}

pub(super) fn not_media(name: &str, head: &[u8]) -> Error {
    let found = match container::foreign(head) {
        Some(what) => format!(": it looks like {what}"),
        None if head.is_empty() => ": it is empty".into(),
        None => String::new(),
    };
    unsupported(format!(
        "{name} is not a media file this build reads (wav, mp3, flac, ogg, m4a, mp4, mov, mkv, webm, aac, aiff, caf){found}"
    ))
}

pub(super) fn opening_failed(name: &str, head: &[u8], e: Symphonia) -> Error {
    // Symphonia passes over a stream that it does not know, and finds no other before the end.
    if let Some(codec) = container::ogg_codec(head) {
        return no_decoder(name, &codec);
    }
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

pub(super) fn exceeded(name: &str, limit: &str, found: String, most: String) -> Error {
    Error::new(ErrorKind::LimitExceeded, format!("{name} has {found}, more than {limit} allows ({most})"))
}

/// The name of a codec, for a person: by symphonia's number, or else by the tag in the container.
pub(super) fn codec_name(id: Option<AudioCodecId>, tag: &str) -> String {
    let known = match id {
        Some(codec::CODEC_ID_AAC) => "AAC",
        Some(codec::CODEC_ID_MP3) => "MP3",
        Some(codec::CODEC_ID_FLAC) => "FLAC",
        Some(codec::CODEC_ID_VORBIS) => "Vorbis",
        Some(codec::CODEC_ID_OPUS) => "Opus",
        Some(codec::CODEC_ID_AC3) => "AC-3",
        Some(codec::CODEC_ID_EAC3) => "E-AC-3",
        Some(codec::CODEC_ID_AC4) => "AC-4",
        Some(codec::CODEC_ID_DCA) => "DTS",
        Some(codec::CODEC_ID_TRUEHD) => "TrueHD",
        Some(codec::CODEC_ID_ALAC) => "ALAC",
        Some(codec::CODEC_ID_WMA) => "Windows Media Audio",
        Some(codec::CODEC_ID_SPEEX) => "Speex",
        Some(codec::CODEC_ID_MUSEPACK) => "Musepack",
        Some(codec::CODEC_ID_WAVPACK) => "WavPack",
        Some(codec::CODEC_ID_MONKEYS_AUDIO) => "Monkey's Audio",
        Some(codec::CODEC_ID_TTA) => "True Audio",
        Some(codec::CODEC_ID_MP1) => "MPEG Layer I",
        Some(codec::CODEC_ID_MP2) => "MPEG Layer II",
        // What has no better name, as PCM, goes by that of `Reader::codec`.
        Some(id) => super::demux::short_name(id).unwrap_or_default(),
        None => "",
    };
    match (known, tag) {
        ("", "Opus" | "A_OPUS") => "Opus".into(),
        ("", "ac-3") => "AC-3".into(),
        ("", "ec-3") => "E-AC-3".into(),
        ("", "ac-4") => "AC-4".into(),
        ("", "alac") => "ALAC".into(),
        ("", "mlpa") => "TrueHD".into(),
        ("", "dtsc" | "dtsh" | "dtsl" | "dtse") => "DTS".into(),
        ("", "samr" | "sawb") => "AMR".into(),
        ("", "mha1" | "mhm1") => "MPEG-H".into(),
        ("", "QDM2" | "QDMC") => "QDesign Music".into(),
        // DTS Express and lossless; RealAudio; what an AVI file would hold.
        ("", tag) if tag.starts_with("A_DTS") => "DTS".into(),
        ("", tag) if tag.starts_with("A_REAL") => "RealAudio".into(),
        ("", "A_MS/ACM") => "a Windows codec (A_MS/ACM)".into(),
        ("", "") => id.map_or("an unknown codec".into(), |id| format!("an unknown codec ({id})")),
        ("", tag) => format!("an unknown codec ({})", tag.escape_default()),
        (known, _) => known.into(),
    }
}
