//! What the integration tests share: the sample clips and what is said in them, copies of the embedded models, stages of
//! a host's own, and a watchdog.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard, mpsc};
use std::time::{Duration, Instant};

use dubcore::media::{Limits, Reader, decode};
use dubcore::{
    Audio, CachePolicy, Decision, Dub, DubModels, DubRequest, Dubber, Error, ErrorKind, Factory, Job, Lang, Line, LoadOptions,
    Metadata, ModelRef, Pipeline, Segment, Snapshot, Span, Speech, StageInfo, Stt, SttOptions, Transcript, TranslateOptions,
    Translation, Translator, Tts, TtsOptions,
};

/// More of everything that is repeated, for a run at leisure: `DUBCORE_TEST_LONG=1`.
pub(crate) fn rounds(short: usize, long: usize) -> usize {
    if std::env::var("DUBCORE_TEST_LONG").is_ok_and(|v| v == "1") { long } else { short }
}

static TURN: RwLock<()> = RwLock::new(());

/// For tests that others may run beside.
pub(crate) fn shared() -> RwLockReadGuard<'static, ()> {
    TURN.read().unwrap_or_else(|e| e.into_inner())
}

/// For tests that look at the clock.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    TURN.write().unwrap_or_else(|e| e.into_inner())
}

/// Fails where `work` hangs. Its panics are passed on. A turn is taken before: to wait for others is not to hang.
pub(crate) fn within<R: Send + 'static>(seconds: u64, work: impl FnOnce() -> R + Send + 'static) -> R {
    let (send, receive) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let result = work();
        let _ = send.send(());
        result
    });
    match receive.recv_timeout(Duration::from_secs(seconds)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("not done after {seconds} s: it hangs"),
        _ => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
    }
}

pub(crate) fn secs(s: f64) -> Duration {
    Duration::from_secs_f64(s)
}

pub(crate) fn span(from: f64, to: f64) -> Span {
    Span::new(secs(from), secs(to))
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn clip(name: &str) -> PathBuf {
    repository().join("examples/media").join(name)
}

pub(crate) fn clip_audio(name: &str) -> Audio {
    decode(&clip(name).into(), &Limits::default(), &Job::new()).unwrap()
}

/// What is said in a clip, and when.
pub(crate) fn truth(name: &str) -> Vec<(Span, String)> {
    let stem = name.split('.').next().unwrap();
    let text = std::fs::read_to_string(clip(&format!("{stem}.en.json"))).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let line = |s: &serde_json::Value| {
        let time = |key: &str| s[key].as_f64().unwrap();
        (span(time("start"), time("end")), s["text"].as_str().unwrap().to_owned())
    };
    json["segments"].as_array().unwrap().iter().map(line).collect()
}

/// All frames of a media file, interleaved, with rate and channels.
pub(crate) fn read_all(input: impl Into<dubcore::media::Input>) -> (Vec<f32>, u32, usize) {
    let mut reader = Reader::open(&input.into(), &Limits::default()).unwrap();
    let mut samples = Vec::new();
    while reader.read(&mut samples).unwrap() > 0 {}
    (samples, reader.rate(), reader.channels())
}

/// Word errors by the words that were said.
pub(crate) fn word_error_rate(said: &str, heard: &str) -> f64 {
    let words = |text: &str| -> Vec<String> {
        let plain = text.to_lowercase().replace(|c: char| !c.is_alphanumeric() && !c.is_whitespace(), "");
        plain.split_whitespace().map(str::to_owned).collect()
    };
    let (said, heard) = (words(said), words(heard));
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (i, s) in said.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, h) in heard.iter().enumerate() {
            let best = (diagonal + usize::from(s != h)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], best);
        }
    }
    row[heard.len()] as f64 / said.len() as f64
}

pub(crate) fn model(name: &str) -> ModelRef {
    name.parse().unwrap()
}

/// The dubber of the embedded models, on the process-wide factory.
pub(crate) fn dubber() -> Dubber {
    Dubber::from_factory(Factory::global().unwrap(), &DubModels::default(), None, Lang::ES, &Job::new()).unwrap()
}

pub(crate) fn voice() -> Arc<dyn Tts> {
    Factory::global().unwrap().tts(&model("micro/tts-es"), &LoadOptions::default(), &Job::new()).unwrap()
}

pub(crate) fn translator() -> Arc<dyn Translator> {
    Factory::global().unwrap().translator(&model("micro/mt-en-es"), &LoadOptions::default(), &Job::new()).unwrap()
}

pub(crate) fn recogniser() -> Arc<dyn Stt> {
    Factory::global().unwrap().stt(&model("micro/stt-en"), &LoadOptions::default(), &Job::new()).unwrap()
}

/// A copy of an embedded model's directory, to be damaged.
pub(crate) struct ModelCopy {
    pub(crate) folder: tempfile::TempDir,
}

impl ModelCopy {
    pub(crate) fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(repository().join("models/micro").join(name)).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn model(&self) -> ModelRef {
        ModelRef::directory(self.folder.path())
    }

    pub(crate) fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(file)).unwrap()
    }

    pub(crate) fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.folder.path().join(file), bytes).unwrap();
    }

    pub(crate) fn remove(&self, file: &str) {
        std::fs::remove_file(self.folder.path().join(file)).unwrap();
    }

    pub(crate) fn json(&self, file: &str) -> serde_json::Value {
        serde_json::from_slice(&self.read(file)).unwrap()
    }
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Everything of a line that must be the same each time, to the bit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LineBits {
    source: String,
    span: Span,
    text: String,
    placement: String,
    sound: Vec<u32>,
}

impl From<&Line> for LineBits {
    fn from(line: &Line) -> Self {
        let bits = |a: &Audio| a.samples().iter().map(|s| s.to_bits()).collect();
        Self {
            source: line.source.text.clone(),
            span: line.source.span,
            text: line.text.clone(),
            placement: format!("{:?}", line.placement),
            sound: line.audio.as_ref().map(bits).unwrap_or_default(),
        }
    }
}

/// Dubs to the end; every line must succeed.
pub(crate) fn dub_all(dubber: &Dubber, request: DubRequest) -> (Vec<LineBits>, Dub) {
    let mut run = dubber.start(request, Job::new()).unwrap();
    let lines = run.by_ref().map(|l| LineBits::from(&l.unwrap())).collect();
    (lines, run.finish().unwrap())
}

/// A recogniser of a host's own: for each part it is asked for, what `say` gives for its number and place.
pub(crate) struct Hear<F>(pub(crate) F, AtomicUsize);

impl<F> Hear<F> {
    pub(crate) fn new(say: F) -> Arc<Self> {
        Arc::new(Self(say, AtomicUsize::new(0)))
    }
}

impl<F: Fn(usize, Span) -> Result<Vec<Segment>, Error> + Send + Sync> Stt for Hear<F> {
    fn transcribe(&self, _: &Audio, opts: &SttOptions, job: &Job) -> Result<Transcript, Error> {
        let mut segments = Vec::new();
        for span in &opts.spans {
            job.check()?;
            segments.extend((self.0)(self.1.fetch_add(1, Ordering::SeqCst), *span)?);
        }
        Ok(Transcript::new(Lang::EN, segments, Metadata::default()))
    }

    fn info(&self) -> StageInfo {
        StageInfo::new("host/ears").languages([Lang::EN], [])
    }
}

/// One sentence per part that is heard.
pub(crate) fn plain_ears() -> Arc<dyn Stt> {
    Hear::new(|i, span| Ok(vec![Segment::new(span, format!("This is line {i}."))]))
}

/// A translator of a host's own: `say` gives the translations of all texts.
pub(crate) struct Write<F>(pub(crate) F);

impl<F: Fn(&[&str]) -> Vec<Result<String, Error>> + Send + Sync> Translator for Write<F> {
    fn translate(&self, texts: &[&str], _: &TranslateOptions, _: &Job) -> Vec<Result<Translation, Error>> {
        (self.0)(texts).into_iter().map(|t| t.map(|t| Translation::new(t, 0.0, Metadata::default()))).collect()
    }

    fn info(&self) -> StageInfo {
        StageInfo::new("host/pen").languages([Lang::EN], [Lang::ES])
    }
}

/// Translates by writing in capitals.
pub(crate) fn plain_pen() -> Arc<dyn Translator> {
    Arc::new(Write(|texts: &[&str]| texts.iter().map(|t| Ok(t.to_uppercase())).collect()))
}

/// A voice of a host's own: `say` may fail, or leave out; what it gives is the length in seconds of a tone.
pub(crate) struct Say<F>(pub(crate) F);

impl<F: Fn(&str, &Job) -> Option<Result<f64, Error>> + Send + Sync> Tts for Say<F> {
    fn synthesize(&self, texts: &[&str], _: &TtsOptions, job: &Job) -> Vec<Result<Speech, Error>> {
        texts.iter().filter_map(|t| (self.0)(t, job)).map(|length| length.map(tone)).collect()
    }

    fn duration(&self, _: &str, _: &TtsOptions, _: &Job) -> Result<Option<Duration>, Error> {
        Ok(None)
    }

    fn info(&self) -> StageInfo {
        StageInfo::new("host/mouth").languages([Lang::ES], [])
    }
}

pub(crate) fn tone(seconds: f64) -> Speech {
    let samples = (0..(seconds * 16_000.0) as usize).map(|i| (i as f32 * 0.1).sin() * 0.3).collect();
    Speech::new(Audio::new(samples, 16_000).unwrap(), Metadata::default())
}

/// Says everything in one second.
pub(crate) fn plain_mouth() -> Arc<dyn Tts> {
    Arc::new(Say(|_: &str, _: &Job| Some(Ok(1.0))))
}

/// A dubber of a host's own stages: it costs next to nothing.
pub(crate) fn host_dubber() -> Dubber {
    Dubber::new(plain_ears(), Some(plain_pen()), Some(plain_mouth()))
}

pub(crate) fn error(kind: ErrorKind) -> Error {
    Error::new(kind, format!("the host's own {kind}"))
}

/// A policy made of a closure.
pub(crate) struct Ask<F>(pub(crate) F);

impl<F: Fn(&Snapshot<'_>) -> Decision + Send + Sync> CachePolicy for Ask<F> {
    fn decide(&self, now: &Snapshot<'_>) -> Decision {
        (self.0)(now)
    }
}

pub(crate) fn factory(policy: impl CachePolicy + 'static) -> Factory {
    Factory::builder().policy(policy).build().unwrap()
}

pub(crate) fn tts(factory: &Factory, model: &ModelRef) -> Result<Arc<dyn Tts>, Error> {
    factory.tts(model, &LoadOptions::default(), &Job::new())
}

/// What is loaded, by model.
pub(crate) fn loaded(factory: &Factory) -> Vec<ModelRef> {
    factory.status().residents.into_iter().map(|r| r.key.model).collect()
}

pub(crate) fn say(voice: &Arc<dyn Tts>) -> Vec<u32> {
    let speech = voice.synthesize(&["agua"], &TtsOptions::default(), &Job::new()).remove(0).unwrap();
    speech.audio.samples().iter().map(|s| s.to_bits()).collect()
}

/// Closed until it is opened; nobody waits for ever.
#[derive(Default)]
pub(crate) struct Door(pub(crate) Mutex<bool>, pub(crate) Condvar);

impl Door {
    pub(crate) fn pass(&self) {
        let (open, late) = self.1.wait_timeout_while(self.0.lock().unwrap(), Duration::from_secs(60), |open| !*open).unwrap();
        assert!(*open && !late.timed_out(), "the door was not opened");
    }

    pub(crate) fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

pub(crate) fn eventually(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(10), "it did not come to that");
        std::thread::sleep(Duration::from_millis(5));
    }
}
