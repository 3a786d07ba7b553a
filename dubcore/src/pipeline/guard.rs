//! Between the pipeline and the stages that a host gave it, which may be the host's own code: a panic there is an error
//! here, and so is an answer of the wrong shape.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::audio::{Audio, Span};
use crate::error::{Error, Result};
use crate::runtime::Job;
use crate::stage::{Speech, StageInfo, Stt, SttOptions, Transcript, TranslateOptions, Translation, Translator, Tts, TtsOptions};

/// A stage that neither unwinds nor leaves results out.
pub(super) struct Guarded<S: ?Sized>(pub(super) Arc<S>);

/// What `call` returns; its panic as an error.
pub(super) fn caught<R>(who: &str, call: impl FnOnce() -> Result<R>) -> Result<R> {
    // Unwind safety: a stage is shared between threads already, so it has to bear a call that ends anywhere.
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(Error::panicked(who, &*panic)))
}

/// One result for each of `texts`, whatever the stage gave. Of fewer results nobody knows which are missing.
fn one_each<R>(who: &str, texts: &[&str], call: impl FnOnce() -> Vec<Result<R>>) -> Vec<Result<R>> {
    let found = caught(who, || {
        let found = call();
        match found.len() == texts.len() {
            true => Ok(found),
            false => Err(Error::internal(format!("{who} gave {} results for {} texts", found.len(), texts.len()))),
        }
    });
    found.unwrap_or_else(|e| texts.iter().map(|_| Err(e.clone())).collect())
}

fn info(call: impl FnOnce() -> StageInfo) -> StageInfo {
    caught("a stage's description", || Ok(call())).unwrap_or_else(|_| StageInfo::new("unknown"))
}

impl Stt for Guarded<dyn Stt> {
    fn transcribe(&self, audio: &Audio, opts: &SttOptions, job: &Job) -> Result<Transcript> {
        let mut transcript = caught("the recogniser", || self.0.transcribe(audio, opts, job))?;
        let end = audio.duration();
        let inside = |t: Duration| t.min(end);
        let inside = |s: Span| Span::new(inside(s.start), inside(s.end));
        for segment in &mut transcript.segments {
            segment.span = inside(segment.span);
            segment.words.iter_mut().for_each(|w| w.span = inside(w.span));
        }
        transcript.segments.sort_by_key(|s| s.span.start);
        Ok(transcript)
    }

    fn info(&self) -> StageInfo {
        info(|| self.0.info())
    }
}

impl Translator for Guarded<dyn Translator> {
    fn translate(&self, texts: &[&str], opts: &TranslateOptions, job: &Job) -> Vec<Result<Translation>> {
        one_each("the translator", texts, || self.0.translate(texts, opts, job))
    }

    fn info(&self) -> StageInfo {
        info(|| self.0.info())
    }
}

impl Tts for Guarded<dyn Tts> {
    fn synthesize(&self, texts: &[&str], opts: &TtsOptions, job: &Job) -> Vec<Result<Speech>> {
        one_each("the voice", texts, || self.0.synthesize(texts, opts, job))
    }

    fn duration(&self, text: &str, opts: &TtsOptions, job: &Job) -> Result<Option<Duration>> {
        caught("the voice", || self.0.duration(text, opts, job))
    }

    fn info(&self) -> StageInfo {
        info(|| self.0.info())
    }
}
