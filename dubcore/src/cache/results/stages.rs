//! Stages that remember.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ResultCache;
use super::key::Key;
use super::value::Value;
use crate::audio::Audio;
use crate::error::{Error, Result};
use crate::runtime::Job;
use crate::stage::{
    Metadata, Speech, StageInfo, Stt, SttOptions, Transcript, TranslateOptions, Translation, Translator, Tts, TtsOptions,
};

/// A stage in front of which a cache stands.
pub(super) struct Remembering<S: ?Sized> {
    pub(super) stage: Arc<S>,
    pub(super) cache: ResultCache,
}

/// Results that tell how they came about.
trait Told: Value {
    fn metadata(&mut self) -> &mut Metadata;
}

impl Told for Transcript {
    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

impl Told for Translation {
    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

impl Told for Speech {
    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// What was found, telling so.
fn found<V: Told>(cache: &ResultCache, key: Key) -> Option<V> {
    let began = Instant::now();
    let mut value: V = cache.get(key)?;
    let metadata = value.metadata();
    metadata.cached = true;
    metadata.processing_time = began.elapsed();
    if !metadata.audio_duration.is_zero() {
        metadata.real_time_factor = metadata.processing_time.as_secs_f64() / metadata.audio_duration.as_secs_f64();
    }
    Some(value)
}

/// What a stage is known by, unless it does not tell which it is exactly. Where a model was loaded anew during a call, it may
/// be another one than it was before; such a result is not remembered.
fn known(info: StageInfo) -> Option<StageInfo> {
    Some(info).filter(|i| !i.revision.is_empty())
}

impl Stt for Remembering<dyn Stt> {
    fn transcribe(&self, audio: &Audio, opts: &SttOptions, job: &Job) -> Result<Transcript> {
        let Some(info) = known(self.stage.info()) else { return self.stage.transcribe(audio, opts, job) };
        job.check()?;
        let key = Key::of("transcript", &(&info, opts, audio));
        if let Some(transcript) = found(&self.cache, key) {
            return Ok(transcript);
        }
        let transcript = self.stage.transcribe(audio, opts, job)?;
        if self.stage.info() == info {
            self.cache.put(key, transcript.clone());
        }
        Ok(transcript)
    }

    fn info(&self) -> StageInfo {
        self.stage.info()
    }
}

/// What is remembered of each of `texts`, and what `compute` makes of those that are not, all at once.
fn each<V: Told>(
    cache: &ResultCache,
    texts: &[&str],
    job: &Job,
    key: impl Fn(&str) -> Key,
    settled: impl FnOnce() -> bool,
    compute: impl FnOnce(&[&str]) -> Vec<Result<V>>,
) -> Vec<Result<V>> {
    if let Err(e) = job.check() {
        return texts.iter().map(|_| Err(e.clone())).collect();
    }
    let known: Vec<Option<V>> = texts.iter().map(|text| found(cache, key(text))).collect();
    let missing: Vec<&str> = texts.iter().zip(&known).filter(|(_, v)| v.is_none()).map(|(text, _)| *text).collect();
    let mut computed = if missing.is_empty() { Vec::new() } else { compute(&missing) }.into_iter();
    let settled = settled();
    known
        .into_iter()
        .zip(texts)
        .map(|(value, text)| match value {
            Some(value) => Ok(value),
            None => {
                let value = computed.next().unwrap_or_else(|| Err(Error::internal("a stage left a result out")))?;
                if settled {
                    cache.put(key(text), value.clone());
                }
                Ok(value)
            }
        })
        .collect()
}

impl Translator for Remembering<dyn Translator> {
    fn translate(&self, texts: &[&str], opts: &TranslateOptions, job: &Job) -> Vec<Result<Translation>> {
        let Some(info) = known(self.stage.info()) else { return self.stage.translate(texts, opts, job) };
        let key = |text: &str| Key::of("translation", &(&info, opts, text));
        let settled = || self.stage.info() == info;
        each(&self.cache, texts, job, key, settled, |missing| self.stage.translate(missing, opts, job))
    }

    fn info(&self) -> StageInfo {
        self.stage.info()
    }
}

impl Tts for Remembering<dyn Tts> {
    fn synthesize(&self, texts: &[&str], opts: &TtsOptions, job: &Job) -> Vec<Result<Speech>> {
        let Some(info) = known(self.stage.info()) else { return self.stage.synthesize(texts, opts, job) };
        let key = |text: &str| Key::of("speech", &(&info, opts, text));
        let settled = || self.stage.info() == info;
        each(&self.cache, texts, job, key, settled, |missing| self.stage.synthesize(missing, opts, job))
    }

    fn duration(&self, text: &str, opts: &TtsOptions, job: &Job) -> Result<Option<Duration>> {
        let Some(info) = known(self.stage.info()) else { return self.stage.duration(text, opts, job) };
        job.check()?;
        let key = Key::of("duration", &(&info, opts, text));
        if let Some(known) = self.cache.get(key) {
            return Ok(known);
        }
        let predicted = self.stage.duration(text, opts, job)?;
        if self.stage.info() == info {
            self.cache.put(key, predicted);
        }
        Ok(predicted)
    }

    fn info(&self) -> StageInfo {
        self.stage.info()
    }
}
