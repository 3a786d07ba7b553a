//! The three stages, as traits, with what goes in and what comes out.
//!
//! An implementation must be usable from any number of threads at once: per-call state belongs to the call.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audio::{Audio, Span};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::lang::Lang;
use crate::runtime::Job;

/// Speech to text.
pub trait Stt: Send + Sync {
    /// Writes down what is said in `audio` (any rate, any length).
    ///
    /// # Errors
    /// `UnsupportedLanguage`, `InvalidArgument` for options out of range, `Cancelled`, `DeadlineExceeded`.
    fn transcribe(&self, audio: &Audio, opts: &SttOptions, job: &Job) -> Result<Transcript>;

    /// What this stage is.
    fn info(&self) -> StageInfo;
}

/// Text to text in another language.
pub trait Translator: Send + Sync {
    /// Translates each text by itself, in order; one that fails does not lose the others.
    fn translate(&self, texts: &[&str], opts: &TranslateOptions, job: &Job) -> Vec<Result<Translation>>;

    /// What this stage is.
    fn info(&self) -> StageInfo;
}

/// Text to speech.
pub trait Tts: Send + Sync {
    /// Speaks each text by itself, in order; one that fails does not lose the others.
    fn synthesize(&self, texts: &[&str], opts: &TtsOptions, job: &Job) -> Vec<Result<Speech>>;

    /// How long `text` would take to say with these options, if the voice can tell before speaking.
    ///
    /// # Errors
    /// As for [`Tts::synthesize`].
    fn duration(&self, text: &str, opts: &TtsOptions, job: &Job) -> Result<Option<Duration>>;

    /// What this stage is.
    fn info(&self) -> StageInfo;
}

/// What a stage is: which model, what it speaks, where it runs.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageInfo {
    /// The model's reference, as given (`micro/stt-en`).
    pub model: String,
    /// What identifies the model's exact content: a hub commit, or a hash of its files.
    pub revision: String,
    /// Languages it takes in; empty if any.
    pub from: Vec<Lang>,
    /// Languages it gives out; empty if the same as it takes in.
    pub to: Vec<Lang>,
    /// Where it runs.
    pub device: Device,
    /// The arithmetic it runs in: `f32`, `bf16` or `int8`, never `auto`. A host's own stage may say anything.
    pub compute_type: String,
    /// What computes it: an instruction set of the processor's kernels (`avx2`), or `candle`; empty for a host's own. Others
    /// round otherwise.
    pub kernels: String,
    /// Named speakers of a voice, or their number; empty for other stages.
    pub speakers: usize,
    /// Sample rate a voice produces, or a recogniser wants, in Hz; 0 for text.
    pub sample_rate: u32,
}

impl StageInfo {
    /// The description of a host's own stage.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            revision: String::new(),
            from: Vec::new(),
            to: Vec::new(),
            device: Device::Cpu,
            compute_type: "f32".into(),
            kernels: String::new(),
            speakers: 0,
            sample_rate: 0,
        }
    }

    /// Sets the languages taken in and given out.
    #[must_use]
    pub fn languages(mut self, from: impl Into<Vec<Lang>>, to: impl Into<Vec<Lang>>) -> Self {
        (self.from, self.to) = (from.into(), to.into());
        self
    }
}

/// How a result came about.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Wall-clock time spent.
    pub processing_time: Duration,
    /// Length of the sound that went in or came out; zero for text.
    pub audio_duration: Duration,
    /// `processing_time / audio_duration`; zero for text.
    pub real_time_factor: f64,
    /// The model's reference.
    pub model: String,
    /// Where it ran.
    pub device: Device,
    /// In which arithmetic: see [`StageInfo::compute_type`].
    pub compute_type: String,
    /// Whether the result came from a cache.
    pub cached: bool,
    /// What was fallen back from, if it was: see [`LoadOptions::fallback`](crate::LoadOptions::fallback).
    pub fallback: Option<FellBack>,
    /// The model's own confidence, 0 to 1, where it has one.
    pub quality: Option<f64>,
}

/// That another model did the work than the one that was asked for.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FellBack {
    /// The model that was asked for.
    pub from: String,
    /// The one that did the work.
    pub to: String,
    /// Why.
    pub why: String,
}

impl Metadata {
    /// The metadata of `model` having worked for `processing_time`, on or for `audio_duration` of sound.
    pub fn new(info: &StageInfo, processing_time: Duration, audio_duration: Duration) -> Self {
        let audio = audio_duration.as_secs_f64();
        Self {
            processing_time,
            audio_duration,
            real_time_factor: if audio > 0.0 { processing_time.as_secs_f64() / audio } else { 0.0 },
            model: info.model.clone(),
            device: info.device,
            compute_type: info.compute_type.clone(),
            ..Self::default()
        }
    }
}

macro_rules! setters {
    ($type:ident: $($(#[$doc:meta])* $name:ident: $value:ty),* $(,)?) => {
        impl $type {
            $($(#[$doc])* #[allow(clippy::useless_conversion, reason = "one macro for plain and converted values")]
            #[must_use] pub fn $name(mut self, value: $value) -> Self { self.$name = value.into(); self })*
        }
    };
}
pub(crate) use setters;

/// What a recogniser is asked to do with the speech.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum Task {
    /// Write it in its own language.
    #[default]
    Transcribe,
    /// Write it in English.
    Translate,
}

/// Options of [`Stt::transcribe`].
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SttOptions {
    /// The language spoken; `None` lets the model tell, where it can: one language for all of the audio, by its first windows.
    pub language: Option<Lang>,
    /// Transcribe, or translate to English.
    pub task: Task,
    /// Let the model write timestamps, which cut a window's text into timed segments. Several utterances then share a window,
    /// which is faster; without, each is a segment timed by where its sound begins and ends.
    pub timestamps: bool,
    /// The parts of the audio to write down, each by itself, one segment or more each; parts longer than the model's window
    /// are cut at silences. Empty: all speech there is, cut at silences.
    pub spans: Vec<Span>,
    /// Beam width, 1 to 16; 1 is greedy, and 0 (default) means what the model was made for: `num_beams` of its
    /// `generation_config.json`, or 1. Published Whisper models say nothing, the embedded one 5.
    pub beams: usize,
    /// Most tokens a window may have; 0 (default) means as many as the model allows.
    pub max_tokens: usize,
    /// When a window is tried again, and when it is taken for silence.
    pub fallback: Fallback,
}

setters! { SttOptions:
    /// Sets [`SttOptions::language`].
    language: impl Into<Option<Lang>>,
    /// Sets [`SttOptions::task`].
    task: Task,
    /// Sets [`SttOptions::timestamps`].
    timestamps: bool,
    /// Sets [`SttOptions::spans`].
    spans: Vec<Span>,
    /// Sets [`SttOptions::beams`].
    beams: usize,
    /// Sets [`SttOptions::max_tokens`].
    max_tokens: usize,
    /// Sets [`SttOptions::fallback`].
    fallback: Fallback,
}

/// When a recogniser tries a piece of speech again, less greedily, and when it takes it for silence. The rules and the
/// defaults are Whisper's (Radford et al. 2022, section 4.5); a recogniser without such rules ignores them.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Fallback {
    /// The temperatures to try in turn, each 0 to 2; at least one. Default: 0 (the likeliest words) to 1 in steps of 0.2.
    pub temperatures: Vec<f64>,
    /// A text is too repetitive, and tried again, if zlib makes it shorter than by this factor; if that is all that is wrong
    /// with it, at first in halves, where speech pauses. Default 2.4; `None`: never.
    pub compression_ratio: Option<f64>,
    /// A text is too improbable, and tried again, if its mean log-probability per token is lower. Default -1; `None`: never.
    pub avg_logprob: Option<f64>,
    /// A text that is too improbable is dropped as silence if the model's probability of no speech is higher, 0 to 1.
    /// Default 0.6; `None`: never.
    pub no_speech: Option<f64>,
    /// How many texts are drawn at a temperature above 0, 1 to 16, of which the most probable counts. Default 5.
    pub best_of: usize,
    /// The seed of the draws: the same seed and sound give the same text.
    pub seed: u64,
}

impl Default for Fallback {
    fn default() -> Self {
        Self {
            temperatures: vec![0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
            compression_ratio: Some(2.4),
            avg_logprob: Some(-1.0),
            no_speech: Some(0.6),
            best_of: 5,
            seed: 0,
        }
    }
}

impl Fallback {
    /// One try, whose outcome is taken as it is.
    pub fn none() -> Self {
        Self { temperatures: vec![0.0], compression_ratio: None, avg_logprob: None, no_speech: None, ..Self::default() }
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::argument(what));
        if self.temperatures.is_empty() {
            return wrong("fallback without a temperature: use at least 0".into());
        }
        if let Some(t) = self.temperatures.iter().find(|t| !(0.0..=2.0).contains(*t)) {
            return wrong(format!("temperature {t} is outside 0 to 2"));
        }
        if let Some(p) = self.no_speech.filter(|p| !(0.0..=1.0).contains(p)) {
            return wrong(format!("no_speech {p} is outside 0 to 1: use None for never"));
        }
        let thresholds = [self.compression_ratio, self.avg_logprob];
        if let Some(t) = thresholds.into_iter().flatten().find(|t| t.is_nan()) {
            return wrong(format!("a threshold of the fallback is {t}: use a number, or None"));
        }
        if !(1..=MAX_BEAMS).contains(&self.best_of) {
            return wrong(format!("best_of {} is outside 1 to {MAX_BEAMS}", self.best_of));
        }
        Ok(())
    }
}

setters! { Fallback:
    /// Sets [`Fallback::temperatures`].
    temperatures: Vec<f64>,
    /// Sets [`Fallback::compression_ratio`].
    compression_ratio: impl Into<Option<f64>>,
    /// Sets [`Fallback::avg_logprob`].
    avg_logprob: impl Into<Option<f64>>,
    /// Sets [`Fallback::no_speech`].
    no_speech: impl Into<Option<f64>>,
    /// Sets [`Fallback::best_of`].
    best_of: usize,
    /// Sets [`Fallback::seed`].
    seed: u64,
}

/// No search is wider.
const MAX_BEAMS: usize = 16;

fn check_beams(beams: usize) -> Result<()> {
    match beams <= MAX_BEAMS {
        true => Ok(()),
        false => Err(Error::argument(format!("{beams} beams: use 1 to {MAX_BEAMS}, or 0 for the default"))),
    }
}

/// How wide a search is: as was asked, or for 0 as the model's own `num_beams` says, or 1.
pub(crate) fn beam_width(asked: usize, own: Option<usize>) -> usize {
    match asked {
        0 => own.unwrap_or(1).clamp(1, MAX_BEAMS),
        asked => asked,
    }
}

impl SttOptions {
    /// Whether the options are in range, as far as it can be told without a model.
    pub(crate) fn check(&self) -> Result<()> {
        check_beams(self.beams)?;
        self.fallback.check()
    }
}

/// A word and when it is said.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Word {
    /// The word, with the punctuation that clings to it.
    pub text: String,
    /// When it is said.
    #[serde(flatten)]
    pub span: Span,
    /// The model's confidence, 0 to 1, where it has one.
    pub probability: Option<f64>,
}

impl Word {
    /// A word without a probability.
    pub fn new(text: impl Into<String>, span: Span) -> Self {
        Self { text: text.into(), span, probability: None }
    }
}

/// A piece of speech and what was said.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// When it is said, from the beginning of the audio.
    #[serde(flatten)]
    pub span: Span,
    /// What is said.
    pub text: String,
    /// The words, if asked for and known; else empty.
    pub words: Vec<Word>,
    /// The mean log-probability of its tokens, where known. This and the following are those of the window it is from.
    pub avg_logprob: Option<f64>,
    /// The model's probability that there is no speech, 0 to 1, where known.
    pub no_speech_prob: Option<f64>,
    /// The length of the text by its length when compressed, where known: see [`Fallback::compression_ratio`].
    pub compression_ratio: Option<f64>,
    /// The temperature at which the text was found, where known: see [`Fallback::temperatures`].
    pub temperature: Option<f64>,
}

impl Segment {
    /// A segment without words.
    pub fn new(span: Span, text: impl Into<String>) -> Self {
        Self {
            span,
            text: text.into(),
            words: Vec::new(),
            avg_logprob: None,
            no_speech_prob: None,
            compression_ratio: None,
            temperature: None,
        }
    }
}

/// What was said in an audio.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    /// The language spoken.
    pub language: Lang,
    /// How sure the model is of the language, 0 to 1, where it was asked to tell it.
    pub language_probability: Option<f64>,
    /// The pieces, in order of time, not overlapping.
    pub segments: Vec<Segment>,
    /// How it came about.
    pub metadata: Metadata,
}

impl Transcript {
    /// A transcript.
    pub fn new(language: Lang, segments: Vec<Segment>, metadata: Metadata) -> Self {
        Self { language, language_probability: None, segments, metadata }
    }

    /// All text, segments joined by a space.
    pub fn text(&self) -> String {
        self.segments.iter().map(|s| s.text.trim()).filter(|t| !t.is_empty()).collect::<Vec<_>>().join(" ")
    }
}

/// Options of [`Translator::translate`].
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct TranslateOptions {
    /// The language of the texts.
    pub from: Lang,
    /// The language to translate to.
    pub to: Lang,
    /// Beam width, 1 to 16; 0 (default) means what the model was made for.
    pub beams: usize,
    /// Most tokens a translation may have; 0 (default) means as many as the model allows.
    pub max_tokens: usize,
    /// How many alternatives to return, best first, less than the beam width.
    pub alternatives: usize,
}

impl TranslateOptions {
    /// From one language to another, otherwise as the model was made for.
    pub fn new(from: Lang, to: Lang) -> Self {
        Self { from, to, beams: 0, max_tokens: 0, alternatives: 0 }
    }
}

setters! { TranslateOptions:
    /// Sets [`TranslateOptions::beams`].
    beams: usize,
    /// Sets [`TranslateOptions::max_tokens`].
    max_tokens: usize,
    /// Sets [`TranslateOptions::alternatives`].
    alternatives: usize,
}

impl TranslateOptions {
    /// Whether the options are in range, as far as it can be told without a model.
    pub(crate) fn check(&self) -> Result<()> {
        check_beams(self.beams)
    }
}

/// A translated text.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Translation {
    /// The translation.
    pub text: String,
    /// Its score: log-probability per token, as the model's beam search ranks it.
    pub score: f64,
    /// Other translations, best first, if asked for.
    pub alternatives: Vec<(String, f64)>,
    /// How it came about.
    pub metadata: Metadata,
}

impl Translation {
    /// A translation without alternatives.
    pub fn new(text: impl Into<String>, score: f64, metadata: Metadata) -> Self {
        Self { text: text.into(), score, alternatives: Vec::new(), metadata }
    }
}

/// Options of [`Tts::synthesize`].
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct TtsOptions {
    /// The language of the texts; `None` means the voice's own.
    pub language: Option<Lang>,
    /// Which of the voice's speakers, from 0.
    pub speaker: usize,
    /// How fast to speak, 0.25 to 4; 1 is the voice's own pace.
    pub speaking_rate: f64,
    /// Variation of the sound, 0 to 2; `None` means what the voice was made for. 0 is without chance.
    pub noise_scale: Option<f64>,
    /// Variation of the rhythm, 0 to 2; `None` means what the voice was made for.
    pub noise_scale_duration: Option<f64>,
    /// The seed of the noise: the same seed and text give the same sound.
    pub seed: u64,
}

impl Default for TtsOptions {
    fn default() -> Self {
        Self { language: None, speaker: 0, speaking_rate: 1.0, noise_scale: None, noise_scale_duration: None, seed: 0 }
    }
}

setters! { TtsOptions:
    /// Sets [`TtsOptions::language`].
    language: impl Into<Option<Lang>>,
    /// Sets [`TtsOptions::speaker`].
    speaker: usize,
    /// Sets [`TtsOptions::speaking_rate`].
    speaking_rate: f64,
    /// Sets [`TtsOptions::noise_scale`].
    noise_scale: impl Into<Option<f64>>,
    /// Sets [`TtsOptions::noise_scale_duration`].
    noise_scale_duration: impl Into<Option<f64>>,
    /// Sets [`TtsOptions::seed`].
    seed: u64,
}

impl TtsOptions {
    /// Whether the options are in range, as far as it can be told without a model.
    pub(crate) fn check(&self) -> Result<()> {
        let within = |name: &str, value: f64, (least, most): (f64, f64)| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(Error::argument(format!("{name} {value} is outside {least} to {most}"))),
        };
        within("speaking_rate", self.speaking_rate, (0.25, 4.0))?;
        within("noise_scale", self.noise_scale.unwrap_or(0.0), (0.0, 2.0))?;
        within("noise_scale_duration", self.noise_scale_duration.unwrap_or(0.0), (0.0, 2.0))
    }
}

/// Spoken text.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Speech {
    /// The sound.
    pub audio: Audio,
    /// The words as they are said, where the voice can tell; else empty.
    pub words: Vec<Word>,
    /// How it came about.
    pub metadata: Metadata,
}

impl Speech {
    /// Speech without word times.
    pub fn new(audio: Audio, metadata: Metadata) -> Self {
        Self { audio, words: Vec::new(), metadata }
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        BTreeMap::from([("start", self.start.as_secs_f64()), ("end", self.end.as_secs_f64())]).serialize(s)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Seconds {
            start: f64,
            end: f64,
        }
        let Seconds { start, end } = Seconds::deserialize(d)?;
        let time = |seconds| Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom);
        Ok(Self::new(time(start)?, time(end)?))
    }
}
