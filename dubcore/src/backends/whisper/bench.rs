//! Encoder and decoder by themselves, for benchmarks that time them beside others'.

use std::path::Path;

use super::{Act, Job, ModelFiles, Result, Stt, SttOptions, Whisper, Window, load_whisper, nn};
use crate::audio::Audio;
use crate::compute::ComputeType;
use crate::device::cpu;
use crate::lang::Lang;
use crate::source::ModelRef;
use crate::stage::{Fallback, StageInfo};

/// A recogniser in parts.
pub struct Recogniser(Whisper);

/// The log-mel spectrogram of a window.
pub struct Features(Act);

/// What the encoder made of a window.
pub struct Encoded(Act);

impl Recogniser {
    /// Reads a model's directory, to compute in such numbers.
    ///
    /// # Errors
    /// Those of loading a model.
    pub fn load(dir: &Path, compute: ComputeType) -> Result<Self> {
        Ok(Self(load_whisper(&ModelFiles::locate(&ModelRef::directory(dir))?, cpu(), compute)?.0))
    }

    /// What it is.
    pub fn info(&self) -> StageInfo {
        self.0.info()
    }

    /// Of a window of sound at the model's rate.
    ///
    /// # Errors
    /// `Internal`, which it does not have in practice.
    pub fn features(&self, audio: &Audio) -> Result<Features> {
        Ok(Features(self.0.mel.forward(&[audio.samples()])?))
    }

    /// The encoder alone.
    ///
    /// # Errors
    /// Those of computing.
    pub fn encode(&self, features: &Features) -> Result<Encoded> {
        nn::run(&Job::new(), cpu(), |ctx| Ok(Encoded(self.0.encode(ctx, &features.0)?)))
    }

    /// The decoder alone: at most so many tokens of English, each the likeliest, without timestamps.
    ///
    /// # Errors
    /// Those of computing.
    pub fn decode(&self, encoded: &Encoded, tokens: usize) -> Result<Vec<u32>> {
        let opts = SttOptions::default().language(Lang::EN).max_tokens(tokens).fallback(Fallback::none());
        let model = &self.0;
        let language = model.language(&opts)?.unwrap_or_default();
        let prompt = model.special.prompt(language, &opts)?;
        nn::run(&Job::new(), cpu(), |ctx| {
            let mut session = model.decoder.start(ctx, &encoded.0, None)?;
            let windows = [Window { sound: &[], no_speech: None, halves: false }];
            let found = model.attempt(ctx, &mut session, &prompt, (&[0], &windows), 0, &opts, &mut |_, _| ())?;
            Ok(found.into_iter().next().map(|h| h.tokens).unwrap_or_default())
        })
    }
}

impl Features {
    /// `[frames, mels]`.
    ///
    /// # Errors
    /// `Internal`, which it does not have in practice.
    pub fn values(&self) -> Result<Vec<f32>> {
        self.0.values()
    }
}

impl Encoded {
    /// The states, `[frames, width]`.
    ///
    /// # Errors
    /// `Internal`, which it does not have in practice.
    pub fn values(&self) -> Result<Vec<f32>> {
        self.0.values()
    }
}
