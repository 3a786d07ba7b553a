//! The vocoder by itself, for benchmarks that time it beside others'.

use std::path::Path;

use super::config::Config;
use super::{Act, HifiGan, Job, ModelFiles, Result, StageInfo, Weights, nn};
use crate::compute::ComputeType;
use crate::device::cpu;
use crate::source::ModelRef;

/// The HiFi-GAN of a voice.
pub struct Vocoder {
    decoder: HifiGan,
    channels: usize,
    info: StageInfo,
}

impl Vocoder {
    /// Reads it from a voice's directory, to compute in such numbers.
    ///
    /// # Errors
    /// Those of loading a model.
    pub fn load(dir: &Path, compute: ComputeType) -> Result<Self> {
        let files = ModelFiles::locate(&ModelRef::directory(dir))?;
        let config = Config::read(&files)?;
        let weights = Weights::open(&files, cpu(), compute)?;
        let mut info = StageInfo::new(files.name());
        weights.tell_of_convolutions(&mut info);
        Ok(Self { decoder: HifiGan::load(&weights.at("decoder"), &config.decoder())?, channels: config.flow_size, info })
    }

    /// What it is.
    pub fn info(&self) -> StageInfo {
        self.info.clone()
    }

    /// The waveform of `latents`, `[frames, channels]`.
    ///
    /// # Errors
    /// `Internal` for latents that are no whole number of frames; else those of computing.
    pub fn forward(&self, latents: &[f32]) -> Result<Vec<f32>> {
        let act = Act::new(latents.to_vec(), (1, latents.len() / self.channels, self.channels))?;
        nn::run(&Job::new(), cpu(), |ctx| self.decoder.forward(ctx, &act, None))
    }
}
