//! Which of the sound tracks of a file is read.

use std::fmt;

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::AudioCodecId;
use symphonia::core::formats::{FormatReader, Track, TrackFlags};

use super::container::Headers;
use super::message::{codec_name, no_decoder, no_sound, no_track, unsupported};
use crate::error::Result;

/// A sound track, as the container lists it: also one whose codec nobody here has heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SoundTrack {
    pub(super) id: u32,
    pub(super) codec: Option<AudioCodecId>,
    /// What the container itself calls the codec, if it does.
    pub(super) tag: String,
    /// A code of two or three letters, or a BCP-47 tag, as it stands in the file.
    pub(super) language: Option<String>,
    /// Whether the container marks it as the one to play.
    pub(super) default: bool,
}

impl fmt::Display for SoundTrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", codec_name(self.codec, &self.tag))?;
        match &self.language {
            Some(language) => write!(f, ", {}", language.escape_default()),
            None => Ok(()),
        }
    }
}

/// The sound tracks in the file's order. MP4 and Matroska are asked themselves, because symphonia lists nothing for a codec
/// it does not know; the others have a single track, or are Ogg.
pub(super) fn list(format: &dyn FormatReader, headers: &Headers) -> Vec<SoundTrack> {
    let codec = |id: u32| {
        let track = format.tracks().iter().find(|t| t.id == id)?;
        match &track.codec_params {
            Some(CodecParameters::Audio(params)) => Some(params.codec),
            _ => None,
        }
    };
    match headers {
        Headers::Mp4(tracks) if !tracks.is_empty() => tracks
            .iter()
            .map(|t| SoundTrack {
                id: t.id,
                codec: codec(t.id),
                tag: String::from_utf8_lossy(&t.codec).into_owned(),
                language: t.language.clone(),
                default: t.enabled,
            })
            .collect(),
        Headers::Matroska(tracks) if !tracks.is_empty() => tracks
            .iter()
            .map(|t| SoundTrack {
                id: t.number,
                codec: codec(t.number),
                tag: t.codec.clone(),
                language: t.language.clone(),
                default: t.default,
            })
            .collect(),
        _ => format.tracks().iter().filter_map(of_symphonia).collect(),
    }
}

fn of_symphonia(track: &Track) -> Option<SoundTrack> {
    let Some(CodecParameters::Audio(params)) = &track.codec_params else { return None };
    Some(SoundTrack {
        id: track.id,
        codec: Some(params.codec),
        tag: String::new(),
        language: track.language.clone(),
        default: track.flags.contains(TrackFlags::DEFAULT),
    })
}

/// The track that is wanted: that of the index, or else the first that is marked as default, or else the first.
pub(super) fn choose<'a>(
    name: &str,
    format: &'a dyn FormatReader,
    tracks: &[SoundTrack],
    wanted: Option<usize>,
) -> Result<&'a Track> {
    if tracks.is_empty() {
        // A track of no known kind may well be sound.
        return Err(match format.tracks().iter().any(|t| t.codec_params.is_none()) {
            true => unsupported(format!("{name} has no sound track of a codec this build knows")),
            false => no_sound(name),
        });
    }
    let chosen = match wanted {
        Some(index) => tracks.get(index).ok_or_else(|| no_track(name, index, tracks))?,
        None => tracks.iter().find(|t| t.default).unwrap_or(&tracks[0]),
    };
    let known = format.tracks().iter().find(|t| t.id == chosen.id);
    known
        .filter(|t| matches!(t.codec_params, Some(CodecParameters::Audio(_))))
        .ok_or_else(|| no_decoder(name, &codec_name(chosen.codec, &chosen.tag)))
}
