//! Where decoded sound belongs in the file's time: the codec's run-up and its padding are not heard, and a track that
//! begins late is preceded by silence.

use std::time::Duration;

use symphonia::core::codecs::audio::AudioCodecParameters;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::formats::Track;
use symphonia::core::units::Timestamp;

use super::container::Container;
use super::matroska::MkvTrack;
use super::mp4::Mp4Track;
use super::opus;
use crate::audio::time_to_samples;

/// Where the decoded sound belongs on the file's time line, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    /// Silence that goes before.
    pub(super) lead: u64,
    /// Decoded frames to drop: the codec's run-up.
    pub(super) skip: u64,
    /// Decoded frames after which the rest is the encoder's padding, counted before `skip`.
    pub(super) end: Option<u64>,
    /// Frames to drop at the very end, where only that is known.
    pub(super) tail: usize,
}

/// The chosen track: what symphonia and the container's own headers say about it.
pub(super) struct Chosen<'a> {
    pub(super) container: Container,
    pub(super) track: &'a Track,
    pub(super) params: &'a AudioCodecParameters,
    pub(super) mp4: Option<&'a Mp4Track>,
    pub(super) mkv: Option<&'a MkvTrack>,
}

impl Chosen<'_> {
    /// Where the sound belongs. `first` is the time stamp of the first packet that gave sound.
    pub(super) fn clock(&self, rate: u32, first: Option<Timestamp>) -> Clock {
        match (self.container, self.mp4, self.mkv) {
            (Container::Mp4, Some(mp4), _) => self.mp4_clock(rate, mp4),
            (Container::Matroska, _, mkv) => self.mkv_clock(rate, mkv, first),
            (Container::Ogg, ..) => Clock { skip: self.pre_skip(), ..Clock::default() },
            // CAF tells both in its packet table.
            (Container::Caf, ..) => {
                let skip = u64::from(self.track.delay.unwrap_or(0));
                let end = self.track.num_frames.filter(|_| self.track.padding.is_some());
                Clock { skip, end: end.map(|frames| skip.saturating_add(frames)), ..Clock::default() }
            }
            // The others start at zero, and symphonia cuts their run-up.
            _ => Clock::default(),
        }
    }

    /// How many frames the file promises, and how many of them may be missing before it counts as cut off.
    pub(super) fn declared(&self, codec: &str) -> Option<(u64, u64)> {
        let all = self.track.num_frames?;
        match self.container {
            Container::Wav | Container::Rf64 | Container::Aiff | Container::Flac => Some((all, 0)),
            // Some encoders count the packet that holds the tag, or the run-up: one packet of grace.
            Container::Frames if codec == "mp3" && self.track.delay.is_some() => Some((all, 2 * 1152)),
            Container::Mp4 if self.mp4.is_some_and(|b| !b.fragmented) => Some((all, 4096)),
            // Vorbis blocks have up to 8192 samples, Opus packets up to 5760.
            Container::Ogg => Some((all, 8192)),
            Container::Caf => Some((all, 8192)),
            // Guessed from the bit rate, or not known.
            Container::Frames | Container::Mp4 | Container::Matroska => None,
        }
    }

    /// Opus' own note of its run-up, for where the container has none.
    fn pre_skip(&self) -> u64 {
        match self.params.codec {
            CODEC_ID_OPUS => self.params.extra_data.as_deref().and_then(opus::pre_skip).unwrap_or(0),
            _ => 0,
        }
    }

    fn mp4_clock(&self, rate: u32, mp4: &Mp4Track) -> Clock {
        let frames = |ticks: u64, timescale: u32| {
            let (ticks, timescale) = (u128::from(ticks), u128::from(timescale.max(1)));
            u64::try_from((ticks * u128::from(rate) + timescale / 2) / timescale).unwrap_or(u64::MAX)
        };
        let lead = frames(mp4.empty, mp4.movie_timescale).saturating_add(time_to_samples(Duration::from_nanos(mp4.behind), rate));
        // A fragmented stream that was joined late has its run-up behind it.
        let base = mp4.base.unwrap_or(0);
        let gapless = mp4.gapless.filter(|_| mp4.start.unwrap_or(0) == 0 && base == 0);
        let skip = match (mp4.start, gapless) {
            (_, Some(gapless)) => gapless.delay,
            (Some(start), None) => frames(start.saturating_sub(base), mp4.timescale),
            (None, None) if base == 0 => self.pre_skip(),
            (None, None) => 0,
        };
        // The sample table counts the last packet only as far as it is sound. Exact, where ticks are frames.
        let listed = self.track.num_frames.filter(|_| mp4.timescale == rate && !mp4.fragmented);
        // The edit's length is in coarse ticks, usually milliseconds: trusted only where it cuts more than its own coarseness.
        let coarse = frames(2, mp4.movie_timescale);
        let edited = (mp4.length > 0 && !mp4.fragmented).then(|| skip.saturating_add(frames(mp4.length, mp4.movie_timescale)));
        let end = match (gapless, listed, edited) {
            (Some(gapless), ..) => Some(skip.saturating_add(gapless.frames)),
            (None, Some(listed), Some(edited)) if edited.saturating_add(coarse) < listed => Some(edited),
            (None, listed, _) => listed,
        };
        Clock { lead, skip, end, tail: 0 }
    }

    /// Matroska has no edits: blocks stand where their time stamps say, less the codec's run-up.
    fn mkv_clock(&self, rate: u32, mkv: Option<&MkvTrack>, first: Option<Timestamp>) -> Clock {
        let noted = mkv.map_or(0, |t| t.delay);
        // Symphonia takes the run-up off the time stamps, in whole ticks (milliseconds, mostly). Put back and taken off
        // again to the nanosecond, or else the sound would be up to a millisecond off.
        let tick =
            self.track.time_base.map_or(1, |t| 1_000_000_000 * i128::from(t.numer.get()) / i128::from(t.denom.get())).max(1);
        let block = first.map_or(0, |t| (i128::from(t.get()) + i128::from(noted) / tick) * tick);
        let delay = match noted {
            0 => self.pre_skip() * 1_000_000_000 / u64::from(rate),
            noted => noted,
        };
        let begins = block - i128::from(delay);
        let frames = |nanos: i128| {
            let nanos = u64::try_from(nanos).unwrap_or(0);
            time_to_samples(Duration::from_nanos(nanos), rate)
        };
        // Padding is part of a packet; a second is more than any has.
        let tail = frames(i128::from(mkv.map_or(0, |t| t.padding))).min(u64::from(rate)) as usize;
        Clock { lead: frames(begins), skip: frames(-begins), end: None, tail }
    }
}
