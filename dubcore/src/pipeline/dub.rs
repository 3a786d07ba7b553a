//! What a dub gives: its lines, and the files made of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audio::{Audio, Span};
use crate::error::{Error, ErrorKind, Result};
use crate::fit::Fitted;
use crate::lang::Lang;
use crate::part::Part;
use crate::stage::Segment;
use crate::subtitle;

/// How a line's speech was placed.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// When it is heard.
    #[serde(flatten)]
    pub span: Span,
    /// The rate the voice spoke at.
    pub rate: f64,
    /// The stretch of what it spoke.
    pub stretch: f64,
    /// Both together: how much faster than the voice's own pace.
    pub speed: f64,
    /// It did not fit within the natural bounds: it was stretched beyond them, or cut.
    pub overflow: bool,
    /// Its end was cut off.
    pub cut: bool,
    /// How far it runs into the gap behind the original line.
    pub borrowed: Duration,
}

impl From<&Fitted> for Placement {
    fn from(f: &Fitted) -> Self {
        Self {
            span: Span::new(f.start, f.start + f.audio.duration()),
            rate: f.rate,
            stretch: f.stretch,
            speed: f.speed,
            overflow: f.overflow,
            cut: f.cut,
            borrowed: f.borrowed,
        }
    }
}

/// A line of a dub.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Its place among the lines, from 0. A line that failed leaves a gap.
    pub index: usize,
    /// What the original says, and when.
    pub source: Segment,
    /// What the dub says; the same where nothing is translated.
    pub text: String,
    /// Where its speech lies; `None` where nothing is spoken.
    pub placement: Option<Placement>,
    /// Its speech, at the voice's rate, as it was placed. Present in the lines that a run yields, not in [`Dub::lines`]:
    /// hours of speech are not kept.
    #[serde(skip)]
    pub audio: Option<Audio>,
}

/// A line that could not be dubbed. The original is heard in its place.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct FailedLine {
    /// Its place among the lines.
    pub index: usize,
    /// What the original says, and when.
    pub source: Segment,
    /// Why it failed.
    pub error: Error,
}

/// Wall-clock time spent by stage.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StageTimes {
    /// Decoding, and finding speech.
    pub listen: Duration,
    /// Recognition.
    pub transcribe: Duration,
    /// Translation.
    pub translate: Duration,
    /// Speaking and fitting.
    pub speak: Duration,
    /// Mixing and writing.
    pub mix: Duration,
}

impl StageTimes {
    /// All together.
    pub fn total(&self) -> Duration {
        self.listen + self.transcribe + self.translate + self.speak + self.mix
    }
}

/// A finished dub, or what there is of one that was cut short.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Dub {
    /// The lines, in order of time, without their sound.
    pub lines: Vec<Line>,
    /// The lines that failed.
    pub failed: Vec<FailedLine>,
    /// Whether every line is there and the track is whole.
    pub complete: bool,
    /// Whether the job was cancelled or its deadline passed. There is no track then.
    pub cut_short: bool,
    /// The language of the original.
    pub from: Lang,
    /// The language of the dub.
    pub to: Lang,
    /// Length of the media.
    pub duration: Duration,
    /// The track as a WAV file, if it was to be kept in memory.
    pub track: Option<Vec<u8>>,
    /// The files written so far.
    pub files: Vec<PathBuf>,
    /// Time spent.
    pub times: StageTimes,
    /// The models used: recogniser, translator, voice.
    pub models: Vec<String>,
    /// Whether all of it came from a [`ResultCache`](crate::ResultCache). `times` is then what that took.
    pub cached: bool,
}

impl Dub {
    /// Computing time by length of the media.
    pub fn real_time_factor(&self) -> f64 {
        let media = self.duration.as_secs_f64();
        if media > 0.0 { self.times.total().as_secs_f64() / media } else { 0.0 }
    }

    /// When each line of the original is said, for subtitles.
    pub fn source_cues(&self) -> Vec<(Span, String)> {
        self.lines.iter().map(|l| (l.source.span, l.source.text.clone())).collect()
    }

    /// When each line of the dub is heard (or, unspoken, when the original says it), for subtitles.
    pub fn target_cues(&self) -> Vec<(Span, String)> {
        self.lines.iter().map(|l| (l.placement.map_or(l.source.span, |p| p.span), l.text.clone())).collect()
    }

    /// Everything but the sound, as JSON: lines, times, models.
    pub fn report(&self) -> serde_json::Value {
        let seconds = Duration::as_secs_f64;
        let failed: Vec<_> = self
            .failed
            .iter()
            .map(|f| serde_json::json!({"index": f.index, "source": f.source, "kind": f.error.kind().as_str(), "error": f.error.report()}))
            .collect();
        serde_json::json!({
            "from": self.from, "to": self.to, "complete": self.complete, "duration": seconds(&self.duration),
            "models": self.models, "cached": self.cached, "lines": self.lines, "failed": failed, "real_time_factor": self.real_time_factor(),
            "times": {
                "listen": seconds(&self.times.listen), "transcribe": seconds(&self.times.transcribe),
                "translate": seconds(&self.times.translate), "speak": seconds(&self.times.speak), "mix": seconds(&self.times.mix),
            },
        })
    }

    /// Writes `STEM.TO.srt`, `.vtt` and `.json`, and `STEM.FROM.srt` and `.vtt`, into `dir`, and, where the track was kept in
    /// memory, `STEM.TO.wav`; and adds them to [`Dub::files`]. Each appears whole or not at all.
    ///
    /// # Errors
    /// `Io`, with the path; `InvalidArgument` for a `stem` that is not the beginning of a file's name.
    pub fn save(&mut self, dir: &Path, stem: &str) -> Result<()> {
        self.save_report(dir, stem, &self.report())
    }

    /// As [`Dub::save`], with `report` in the JSON file: for hosts that add to it.
    ///
    /// # Errors
    /// As for [`Dub::save`].
    pub fn save_report(&mut self, dir: &Path, stem: &str, report: &serde_json::Value) -> Result<()> {
        if stem.contains(['/', '\\', '\0']) {
            return Err(Error::argument(format!("{stem:?} cannot begin a file's name: leave out '/', '\\' and NUL")));
        }
        let (source, target) = (self.source_cues(), self.target_cues());
        let json = serde_json::to_string_pretty(report)
            .map_err(|e| Error::internal("the report cannot be written as JSON").with_source(e))?;
        let mut files = vec![
            (self.to, "srt", subtitle::srt(&target)?),
            (self.to, "vtt", subtitle::vtt(&target)?),
            (self.to, "json", json + "\n"),
        ];
        if self.from != self.to {
            files.extend([(self.from, "srt", subtitle::srt(&source)?), (self.from, "vtt", subtitle::vtt(&source)?)]);
        }
        let texts = files.iter().map(|(lang, ending, text)| (*lang, *ending, text.as_bytes()));
        let track = self.track.iter().map(|track| (self.to, "wav", track.as_slice()));
        for (lang, ending, bytes) in texts.chain(track) {
            let path = dir.join(format!("{stem}.{lang}.{ending}"));
            write(&path, bytes)?;
            // It may be saved more than once.
            if !self.files.contains(&path) {
                self.files.push(path);
            }
        }
        Ok(())
    }
}

/// Writes a whole file.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e| Error::new(ErrorKind::Io, format!("cannot write {}", path.display())).with_source(e);
    Part::write(path, bytes).map_err(failed)
}
