//! What the factory gives out: a stage that takes a lease on its model for each call.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::{Factory, Id, Lease};
use crate::audio::Audio;
use crate::backend::Stage;
use crate::error::{Error, Result};
use crate::runtime::Job;
use crate::stage::{Speech, StageInfo, Stt, SttOptions, Transcript, TranslateOptions, Translation, Translator, Tts, TtsOptions};

pub(super) struct Handle {
    factory: Factory,
    id: Id,
    info: StageInfo,
}

impl Handle {
    pub(super) fn new(factory: Factory, id: Id, info: StageInfo) -> Self {
        Self { factory, id, info }
    }

    /// Runs a call under a lease. A panic ends here, as an error.
    fn call<R>(&self, job: &Job, call: impl FnOnce(&Stage) -> Result<R>) -> Result<R> {
        let lease: Lease = self.factory.lease(&self.id, job)?;
        catch_unwind(AssertUnwindSafe(|| call(&lease.item().loaded.stage)))
            .unwrap_or_else(|_| Err(Error::internal(format!("model {} panicked: please report it", self.id.model))))
    }

    /// The model's kind was checked when the handle was made, but its directory may have changed since.
    fn changed<R>(&self) -> Result<R> {
        Err(Error::new(
            crate::error::ErrorKind::ModelIncompatible,
            format!("model {} is now another kind of model than when it was asked for: ask for it again", self.id.model),
        ))
    }
}

impl Stt for Handle {
    fn transcribe(&self, audio: &Audio, opts: &SttOptions, job: &Job) -> Result<Transcript> {
        self.call(job, |stage| match stage {
            Stage::Stt(s) => s.transcribe(audio, opts, job),
            _ => self.changed(),
        })
    }

    fn info(&self) -> StageInfo {
        self.info.clone()
    }
}

impl Translator for Handle {
    fn translate(&self, texts: &[&str], opts: &TranslateOptions, job: &Job) -> Vec<Result<Translation>> {
        self.call(job, |stage| match stage {
            Stage::Translator(s) => Ok(s.translate(texts, opts, job)),
            _ => self.changed(),
        })
        .unwrap_or_else(|e| texts.iter().map(|_| Err(e.clone())).collect())
    }

    fn info(&self) -> StageInfo {
        self.info.clone()
    }
}

impl Tts for Handle {
    fn synthesize(&self, texts: &[&str], opts: &TtsOptions, job: &Job) -> Vec<Result<Speech>> {
        self.call(job, |stage| match stage {
            Stage::Tts(s) => Ok(s.synthesize(texts, opts, job)),
            _ => self.changed(),
        })
        .unwrap_or_else(|e| texts.iter().map(|_| Err(e.clone())).collect())
    }

    fn duration(&self, text: &str, opts: &TtsOptions, job: &Job) -> Result<Option<Duration>> {
        self.call(job, |stage| match stage {
            Stage::Tts(s) => s.duration(text, opts, job),
            _ => self.changed(),
        })
    }

    fn info(&self) -> StageInfo {
        self.info.clone()
    }
}
