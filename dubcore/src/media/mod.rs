//! Reading sound out of media files, and writing WAV.
//!
//! | container | codecs |
//! |---|---|
//! | WAV, RF64, BW64 | PCM of every width, 32- and 64-bit float, A-law, mu-law, Microsoft and IMA ADPCM |
//! | AIFF, CAF | PCM, float, A-law, mu-law; ALAC in CAF |
//! | MP3, MP2, FLAC | MPEG Layer II and III; FLAC |
//! | Ogg | Vorbis, Opus, FLAC |
//! | MP4, M4A, MOV, fragmented MP4 | AAC-LC, MP3, Opus, FLAC, ALAC, PCM |
//! | Matroska, WebM | AAC-LC, MPEG Layer II and III, Opus, Vorbis, FLAC, ALAC, PCM |
//! | ADTS | AAC-LC |
//!
//! What a file is, is told by its content, never by its name. AAC and Vorbis have one or two channels, Opus up to eight
//! (channel mapping families 0 and 1). Of a container with several sound tracks the one that it marks as default is read,
//! or else the first; [`Input::track`] chooses. Anything else is refused with `UnsupportedMedia` and the name of what was
//! found.
//!
//! Time zero is where the *file* begins: sound that starts later than the picture is preceded by silence, and the codec's
//! own run-up is cut off where the file tells its length (MP3 with a LAME tag, Ogg, MP4 with an edit list or iTunes' note,
//! Matroska with a codec delay), and so is the padding at the end. Raw ADTS does not tell it, so such a file is late by the
//! encoder's run-up, usually 1024 or 2112 samples; nor do MP4 and Matroska whose writer left the note out.
//!
//! To mono, one or two channels are mixed to their mean. More are weighted by their places as in ITU-R BS.775, the centre,
//! which carries the dialogue, most and low-frequency effects not at all, and the weights scaled to a sum of 1; where the
//! file does not tell the places (PCM in Matroska) it is their mean, too.
//!
//! A panic that damaged data cause in the decoding library becomes `CorruptMedia`. The process's panic hook still runs
//! (Rust's own prints to standard error), and a host built with `panic = "abort"` is not protected.
//!
//! Sound of any length is read in bounded memory with [`Reader`] (all channels) or [`MonoStream`] (mixed to mono, at a rate
//! of choice); [`decode`] holds all of it. Each of these belongs to one thread at a time and may move between threads.
//!
//! ```
//! use dubcore::media::{self, Limits, MonoStream, WavFormat};
//! use dubcore::{Audio, Job};
//!
//! let tone = (0..44_100).map(|i| (i as f32 * 0.06).sin() * 0.5).collect();
//! let dir = std::env::temp_dir().join(format!("dubcore-media-{}", std::process::id()));
//! std::fs::create_dir_all(&dir).unwrap();
//! let path = dir.join("tone.wav");
//! media::write_wav(&path, &Audio::new(tone, 44_100)?, WavFormat::I16)?;
//!
//! // All at once ...
//! let audio = media::decode(&path.as_path().into(), &Limits::default(), &Job::new())?;
//! assert_eq!((audio.len(), audio.rate()), (44_100, 44_100));
//!
//! // ... or bit by bit, at the rate a model wants.
//! let mut stream = MonoStream::open(&path.as_path().into(), &Limits::default(), 16_000)?;
//! let mut samples = Vec::new();
//! while stream.read(&mut samples)? > 0 {}
//! assert_eq!(samples.len(), 16_000);
//! # std::fs::remove_dir_all(&dir).unwrap();
//! # Ok::<(), dubcore::Error>(())
//! ```

mod clock;
mod container;
mod decode;
mod demux;
mod downmix;
mod matroska;
mod message;
mod mp4;
mod opus;
mod rf64;
mod stream;
mod tracks;
mod vorbis;
mod wav;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::audio::Audio;
use crate::stage::setters;

pub use decode::{Reader, decode};
pub use stream::MonoStream;
pub use wav::{WavFile, WavFormat, WavWriter, write_wav};

/// Where media come from. Cloning is cheap.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Input {
    /// A file. It is read while the [`Reader`] lives, and must not change meanwhile.
    Path(PathBuf),
    /// A whole media file in memory.
    Bytes(Arc<[u8]>),
    /// Sound that is decoded already: one channel.
    Audio(Audio),
    /// One sound track of a file that has several. See [`Input::track`].
    Track {
        /// The file.
        of: Box<Input>,
        /// Which of its sound tracks, counted from zero in the file's order.
        index: usize,
    },
}

impl Input {
    /// The same media, but their sound track `index`, counted from zero in the file's order, pictures and subtitles left
    /// out. Without this it is the first one that the container marks as default, or else the first.
    ///
    /// Whether there is such a track is found out when it is opened: `InvalidArgument` then lists those there are.
    #[must_use]
    pub fn track(self, index: usize) -> Self {
        match self {
            Self::Track { of, .. } => Self::Track { of, index },
            of => Self::Track { of: Box::new(of), index },
        }
    }

    /// The file, if it is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self.parts() {
            (Self::Path(path), _) => Some(path),
            _ => None,
        }
    }

    /// The media, and which track of theirs is wanted. Where tracks are nested by hand, the outermost counts.
    fn parts(&self) -> (&Self, Option<usize>) {
        match self {
            Self::Track { of, index } => (of.parts().0, Some(*index)),
            media => (media, None),
        }
    }
}

impl From<PathBuf> for Input {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&Path> for Input {
    fn from(path: &Path) -> Self {
        Self::Path(path.into())
    }
}

impl From<&str> for Input {
    fn from(path: &str) -> Self {
        Self::Path(path.into())
    }
}

impl From<Arc<[u8]>> for Input {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for Input {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Audio> for Input {
    fn from(audio: Audio) -> Self {
        Self::Audio(audio)
    }
}

/// How much is accepted. More is refused with `LimitExceeded`, which names the limit and the value: at once where the file
/// tells beforehand, else when it is reached.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest sound. Default: 4 hours.
    pub max_duration: Duration,
    /// Most channels. Default: 8.
    pub max_channels: usize,
    /// Largest file, in bytes. Default: 8 GiB.
    pub max_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_duration: Duration::from_secs(4 * 3600), max_channels: 8, max_bytes: 8 << 30 }
    }
}

setters! { Limits:
    /// Sets [`Limits::max_duration`].
    max_duration: Duration,
    /// Sets [`Limits::max_channels`].
    max_channels: usize,
    /// Sets [`Limits::max_bytes`].
    max_bytes: u64,
}
