//! candle-transformers' Whisper on the weights of `micro/stt-en`: the same shape and arithmetic (f32) as ours, so that the
//! two can be timed in one run.

use std::path::Path;

use candle_core::{DType, Device, IndexOp, Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::whisper::{Config, model::Whisper};

/// The model, and a window of features to run it on.
pub(crate) struct Peer {
    model: Whisper,
    mel: Tensor,
}

impl Peer {
    /// Loads the weights in `dir`, the folder of `micro/stt-en`.
    pub(crate) fn load(dir: &Path) -> Result<Self> {
        let read = |file| std::fs::read(dir.join(file)).map_err(candle_core::Error::wrap);
        let config: Config = serde_json::from_slice(&read("config.json")?).map_err(candle_core::Error::wrap)?;
        let vars = VarBuilder::from_buffered_safetensors(read("model.safetensors")?, DType::F32, &Device::Cpu)?;
        let (mels, frames) = (config.num_mel_bins, 2 * config.max_source_positions);
        // What the features say does not change how long it takes.
        let values: Vec<f32> = (0..mels * frames).map(|i| (i as f32 * 0.37).sin()).collect();
        let mel = Tensor::from_vec(values, (1, mels, frames), &Device::Cpu)?;
        Ok(Self { model: Whisper::load(&vars, config)?, mel })
    }

    /// The encoder alone.
    pub(crate) fn encode(&mut self) -> Result<Tensor> {
        self.model.reset_kv_cache();
        self.model.encoder.forward(&self.mel, true)
    }

    /// The encoder, then `steps` tokens behind `prompt`, each the likeliest: the loop of candle's own example.
    pub(crate) fn window(&mut self, prompt: &[u32], steps: usize) -> Result<Vec<u32>> {
        let encoded = self.encode()?;
        let mut tokens = prompt.to_vec();
        for step in 0..steps {
            let fed = Tensor::new(tokens.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
            let states = self.model.decoder.forward(&fed, &encoded, step == 0)?;
            let last = states.i((..1, tokens.len() - 1..))?;
            let logits = self.model.decoder.final_linear(&last)?.i(0)?.i(0)?;
            tokens.push(logits.argmax(0)?.to_scalar()?);
        }
        Ok(tokens)
    }
}
