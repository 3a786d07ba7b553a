//! Media in, dub out: [`Dubber`] composes a recogniser, a translator and a voice; [`Run`] is one dub in progress.

mod benchmark;
mod dub;
mod guard;
mod listen;
mod replay;
mod run;
mod track;

use std::path::PathBuf;
use std::sync::Arc;

use crate::audio::Span;
use crate::cache::results::ResultCache;
use crate::error::{Error, ErrorKind, Result};
use crate::factory::{Factory, LoadOptions};
use crate::fit::FitOptions;
use crate::lang::Lang;
use crate::media::{Input, Limits, WavFormat};
use crate::mix::MixOptions;
use crate::runtime::Job;
use crate::source::{ModelRef, bundled};
use crate::stage::{StageInfo, Stt, SttOptions, TranslateOptions, Translator, Tts, TtsOptions, setters};

use guard::Guarded;

pub use benchmark::Benchmark;
pub use dub::{Dub, FailedLine, Line, Placement, StageTimes};
pub use run::Run;

/// Dubs media. Shared by any number of threads; each dub's state is its [`Run`]'s own.
pub trait Pipeline: Send + Sync {
    /// Begins a dub. Nothing is computed until the run is pulled; only a pipeline that remembers reads the media to find out
    /// whether it knows them. A clone of `job` cancels the run and tells how far it is.
    ///
    /// # Errors
    /// What can be known beforehand: options out of range, languages that the stages do not speak, media that cannot be
    /// read, an output that cannot be written.
    fn start(&self, request: DubRequest, job: Job) -> Result<Run>;
}

/// Where the dubbed track goes.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// There is none: the lines are all that is wanted.
    #[default]
    Discard,
    /// A WAV file. It is written as `NAME.part` and gets its name when the dub is complete.
    File(PathBuf),
    /// A WAV file in memory, in [`Dub::track`].
    Memory,
}

impl From<PathBuf> for Output {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

/// A line that is spoken as given, instead of what the recogniser hears: the way to dub again after editing.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptLine {
    /// When the original says it.
    pub span: Span,
    /// What the original says.
    pub source: String,
    /// Its translation; `None` leaves that to the translator.
    pub target: Option<String>,
}

impl ScriptLine {
    /// A line to be translated.
    pub fn new(span: Span, source: impl Into<String>) -> Self {
        Self { span, source: source.into(), target: None }
    }

    /// Sets the translation.
    #[must_use]
    pub fn target(mut self, text: impl Into<String>) -> Self {
        self.target = Some(text.into());
        self
    }
}

/// What to dub, and how.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct DubRequest {
    /// The media.
    pub input: Input,
    /// Its language; `None` lets the recogniser tell, where it can.
    pub from: Option<Lang>,
    /// The language to dub into.
    pub to: Lang,
    /// Where the track goes.
    pub output: Output,
    /// How the track's samples are stored.
    pub format: WavFormat,
    /// Lines to be spoken instead of what the recogniser hears, in order of time, not overlapping. Empty: listen.
    pub script: Vec<ScriptLine>,
    /// Limits on the media.
    pub limits: Limits,
    /// Options of the recogniser. Its language and spans are the pipeline's to set.
    pub stt: SttOptions,
    /// Options of the translator: beams.
    pub beams: usize,
    /// Options of the voice. Its rate is where fitting starts from.
    pub tts: TtsOptions,
    /// How speech is fitted into time.
    pub fit: FitOptions,
    /// How it is mixed with the original.
    pub mix: MixOptions,
}

impl DubRequest {
    /// Dubs `input` into `to`, everything else at its default.
    pub fn new(input: impl Into<Input>, to: Lang) -> Self {
        Self {
            input: input.into(),
            from: None,
            to,
            output: Output::default(),
            format: WavFormat::default(),
            script: Vec::new(),
            limits: Limits::default(),
            stt: SttOptions::default(),
            beams: 0,
            tts: TtsOptions::default(),
            fit: FitOptions::default(),
            mix: MixOptions::default(),
        }
    }

    /// Dubs the sound track `index` of the input, counted from zero: see [`Input::track`].
    #[must_use]
    pub fn track(mut self, index: usize) -> Self {
        self.input = self.input.track(index);
        self
    }
}

setters! { DubRequest:
    /// Sets [`DubRequest::from`].
    from: impl Into<Option<Lang>>,
    /// Sets [`DubRequest::output`].
    output: impl Into<Output>,
    /// Sets [`DubRequest::format`].
    format: WavFormat,
    /// Sets [`DubRequest::script`].
    script: Vec<ScriptLine>,
    /// Sets [`DubRequest::limits`].
    limits: Limits,
    /// Sets [`DubRequest::stt`].
    stt: SttOptions,
    /// Sets [`DubRequest::beams`].
    beams: usize,
    /// Sets [`DubRequest::tts`].
    tts: TtsOptions,
    /// Sets [`DubRequest::fit`].
    fit: FitOptions,
    /// Sets [`DubRequest::mix`].
    mix: MixOptions,
}

/// Which models a [`Dubber`] is made of. What is `None` is chosen among the embedded models by language.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DubModels {
    /// The recogniser.
    pub stt: Option<ModelRef>,
    /// The translator.
    pub translator: Option<ModelRef>,
    /// The voice.
    pub tts: Option<ModelRef>,
    /// How they are loaded.
    pub load: LoadOptions,
}

setters! { DubModels:
    /// Sets [`DubModels::stt`].
    stt: impl Into<Option<ModelRef>>,
    /// Sets [`DubModels::translator`].
    translator: impl Into<Option<ModelRef>>,
    /// Sets [`DubModels::tts`].
    tts: impl Into<Option<ModelRef>>,
    /// Sets [`DubModels::load`].
    load: LoadOptions,
}

/// The pipeline of this library. It takes stages and does not ask where they come from.
///
/// Without a voice it translates, without a translator too it transcribes.
///
/// ```
/// # fn main() -> dubcore::Result<()> {
/// use dubcore::{DubModels, DubRequest, Dubber, Factory, Job, Lang, Pipeline};
/// let dubber = Dubber::from_factory(Factory::global()?, &DubModels::default(), None, Lang::ES, &Job::new())?;
/// # let clip = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/media/kitchen.wav");
/// let mut run = dubber.start(DubRequest::new(clip, Lang::ES), Job::new())?;
/// for line in &mut run {
///     let line = line?;
///     println!("{} -> {}", line.source.text, line.text);
/// }
/// assert!(run.finish()?.complete);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Dubber {
    stt: Arc<dyn Stt>,
    translator: Option<Arc<dyn Translator>>,
    tts: Option<Arc<dyn Tts>>,
    results: Option<ResultCache>,
}

impl Dubber {
    /// A pipeline of the given stages. What they do wrong (a panic, a result too few) is an `Internal` error of the lines
    /// concerned.
    pub fn new(stt: Arc<dyn Stt>, translator: Option<Arc<dyn Translator>>, tts: Option<Arc<dyn Tts>>) -> Self {
        Self {
            stt: Arc::new(Guarded(stt)),
            translator: translator.map(|t| Arc::new(Guarded(t)) as Arc<dyn Translator>),
            tts: tts.map(|t| Arc::new(Guarded(t)) as Arc<dyn Tts>),
            results: None,
        }
    }

    /// The same pipeline, which remembers what its stages gave, and whole dubs that are complete. A dub that was given up or
    /// killed then goes on where it was, if the cache was kept (on disk), and one that was done already is there at once.
    ///
    /// A whole dub is found by the content of its media and everything in the request but the place of the output.
    #[must_use]
    pub fn remembering(self, results: &ResultCache) -> Self {
        Self {
            stt: results.stt(self.stt),
            translator: self.translator.map(|t| results.translator(t)),
            tts: self.tts.map(|t| results.tts(t)),
            results: Some(results.clone()),
        }
    }

    /// A pipeline of models that `factory` loads: those named in `models`, the rest chosen by language among the
    /// embedded ones. `from` is the language of the media, if known.
    ///
    /// # Errors
    /// `UnsupportedLanguage` where no embedded model serves, listing what there is; else as for [`Factory::stt`].
    pub fn from_factory(factory: &Factory, models: &DubModels, from: Option<Lang>, to: Lang, job: &Job) -> Result<Self> {
        let chosen = choose(models, from, to)?;
        let opts = &models.load;
        Ok(Self {
            stt: factory.stt(&chosen.0, opts, job)?,
            translator: Some(factory.translator(&chosen.1, opts, job)?),
            tts: Some(factory.tts(&chosen.2, opts, job)?),
            results: factory.results().cloned(),
        })
    }
}

/// The recogniser, translator and voice that together dub `from` into `to`.
fn choose(models: &DubModels, from: Option<Lang>, to: Lang) -> Result<(ModelRef, ModelRef, ModelRef)> {
    let pairs = bundled::pairs();
    let fits = |p: &&bundled::Pair| p.to == to && from.is_none_or(|f| f == p.from);
    let pair = pairs.iter().find(fits);
    let missing = || {
        let known: Vec<_> = pairs.iter().map(|p| format!("{}->{}", p.from, p.to)).collect();
        let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
        let from = from.map_or("the given language".to_string(), |f| format!("{} ({f})", f.name()));
        Error::new(
            ErrorKind::UnsupportedLanguage,
            format!(
                "no embedded models dub {from} into {} ({to}); there are: {known}. Name models for other languages",
                to.name()
            ),
        )
    };
    let pick = |named: &Option<ModelRef>, own: fn(&bundled::Pair) -> &ModelRef| {
        named.clone().or_else(|| pair.map(|p| own(p).clone())).ok_or_else(missing)
    };
    Ok((pick(&models.stt, |p| &p.stt)?, pick(&models.translator, |p| &p.translator)?, pick(&models.tts, |p| &p.tts)?))
}

impl Dubber {
    /// What its stages are: recogniser, translator, voice.
    fn infos(&self) -> impl Iterator<Item = StageInfo> {
        let translator = self.translator.as_ref().map(|t| t.info());
        [Some(self.stt.info()), translator, self.tts.as_ref().map(|t| t.info())].into_iter().flatten()
    }

    /// Whether the stages speak the languages asked for.
    fn check_languages(&self, from: Option<Lang>, to: Lang) -> Result<()> {
        let no = |what: String, known: &[Lang]| {
            let known: Vec<_> = known.iter().map(|l| l.code()).collect();
            Err(Error::new(ErrorKind::UnsupportedLanguage, format!("{what}; it knows: {}", known.join(", "))))
        };
        let has = |known: &[Lang], lang| known.is_empty() || known.contains(&lang);
        if let Some(from) = from {
            let heard = self.stt.info();
            if !has(&heard.from, from) {
                return no(format!("recogniser {} does not hear {from}", heard.model), &heard.from);
            }
        }
        if let Some(translator) = &self.translator {
            let info = translator.info();
            if let Some(from) = from.filter(|f| !has(&info.from, *f)) {
                return no(format!("translator {} does not read {from}", info.model), &info.from);
            }
            if !has(&info.to, to) {
                return no(format!("translator {} does not write {to}", info.model), &info.to);
            }
        }
        if let Some(tts) = &self.tts {
            let info = tts.info();
            if !has(&info.to, to) {
                return no(format!("voice {} does not speak {to}", info.model), &info.to);
            }
        }
        Ok(())
    }

    fn translate_options(request: &DubRequest, from: Lang) -> TranslateOptions {
        TranslateOptions::new(from, request.to).beams(request.beams)
    }
}

impl Pipeline for Dubber {
    fn start(&self, request: DubRequest, job: Job) -> Result<Run> {
        self.check_languages(request.from, request.to)?;
        if self.tts.is_none() && request.output != Output::Discard {
            return Err(Error::argument("there is no voice, so there is no track to write: leave the output out"));
        }
        request.fit.check()?;
        request.mix.check()?;
        request.stt.check()?;
        Self::translate_options(&request, Lang::EN).check()?;
        request.tts.check()?;
        if let Some(voice) = self.tts.as_ref().map(|t| t.info()).filter(|v| v.speakers > 0 && request.tts.speaker >= v.speakers) {
            let what =
                format!("speaker {} of {}, which has {}: they count from 0", request.tts.speaker, voice.model, voice.speakers);
            return Err(Error::argument(what));
        }
        let mut last = std::time::Duration::ZERO;
        for (i, line) in request.script.iter().enumerate() {
            if line.span.start < last || line.span.start >= line.span.end {
                return Err(Error::argument(format!("script line {} is empty, or begins before the one before it ends", i + 1)));
            }
            last = line.span.end;
        }
        if last > request.limits.max_duration {
            let what = format!("the script's last line ends at {last:?}, beyond max_duration {:?}", request.limits.max_duration);
            return Err(Error::argument(what));
        }
        Run::new(self.clone(), request, job)
    }
}

/// The windows of speech that a dub of `input` feeds to its recogniser.
#[cfg(test)]
pub(crate) fn windows(input: &Input) -> Vec<(Span, crate::audio::Audio)> {
    let mut listener = listen::Listener::open(input, &Limits::default()).unwrap();
    let mut spans = Vec::new();
    while !listener.finished() {
        spans.extend(listener.next_spans(usize::MAX, &Job::new()).unwrap());
    }
    spans.into_iter().map(|s| (s, listener.audio(s).unwrap())).collect()
}

/// Dubs one file with the embedded models: reads `input`, writes `STEM.LANG.wav`, `.srt`, `.vtt` and `.json` and the
/// subtitles of the original into `out_dir`, which is made if need be.
///
/// # Errors
/// As for [`Dubber::from_factory`], [`Pipeline::start`] and [`Run::finish`]; `Cancelled` and `DeadlineExceeded` too, as
/// half a dub is of no use here. Nothing is left behind that looks finished.
pub fn dub_file(input: &std::path::Path, to: Lang, from: Option<Lang>, out_dir: &std::path::Path, job: &Job) -> Result<Dub> {
    let dubber = Dubber::from_factory(Factory::global()?, &DubModels::default(), from, to, job)?;
    let stem = input.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    // Whether the input can be read at all is found out before a folder is made for the output.
    crate::media::Reader::open(&input.into(), &Limits::default())?;
    let made: Vec<_> = out_dir.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
    std::fs::create_dir_all(out_dir)
        .map_err(|e| Error::new(ErrorKind::Io, format!("cannot make the folder {}", out_dir.display())).with_source(e))?;
    let result = dub_into(&dubber, input, to, from, out_dir, &stem, job);
    if result.is_err() {
        for folder in made {
            // Goes only if it is empty; a failure here is nothing beside the one that is reported.
            let _ = std::fs::remove_dir(folder);
        }
    }
    result
}

fn dub_into(
    dubber: &Dubber,
    input: &std::path::Path,
    to: Lang,
    from: Option<Lang>,
    out_dir: &std::path::Path,
    stem: &str,
    job: &Job,
) -> Result<Dub> {
    let track = out_dir.join(format!("{stem}.{to}.wav"));
    let run = dubber.start(DubRequest::new(input, to).from(from).output(track), job.clone())?;
    let mut dub = run.finish()?;
    if dub.cut_short {
        job.check()?;
    }
    dub.save(out_dir, stem)?;
    Ok(dub)
}
