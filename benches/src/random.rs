//! Models in Hugging Face layout with the shapes of published checkpoints and random weights: as slow and as large as
//! the real ones, with nothing to download. What they write and say is nonsense, of a length that is known.
//!
//! Weights are scaled so that activations stay finite; a seed makes them the same everywhere. Words come from the
//! embedded models' tokenizers, filled up to the size of the vocabulary.

mod marian;
mod tensors;
mod vits;
mod whisper;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

pub(crate) use tensors::Random;
use tensors::Tensors;

/// A published checkpoint whose shape is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// `openai/whisper-base`.
    WhisperBase,
    /// `Helsinki-NLP/opus-mt-en-es`.
    OpusMt,
    /// `facebook/mms-tts-spa`.
    MmsTts,
}

impl Shape {
    /// Recogniser, translator and voice.
    pub const ALL: [Self; 3] = [Self::WhisperBase, Self::OpusMt, Self::MmsTts];

    /// The name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::WhisperBase => "whisper-base",
            Self::OpusMt => "opus-mt-en-es",
            Self::MmsTts => "mms-tts-spa",
        }
    }

    fn make(self) -> Result<Made> {
        match self {
            Self::WhisperBase => whisper::make(),
            Self::OpusMt => marian::make(),
            Self::MmsTts => vits::make(),
        }
    }
}

/// How weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Storage {
    /// As the published checkpoints are.
    #[default]
    F32,
    /// Half of that.
    F16,
}

/// What a model consists of.
struct Made {
    tensors: Tensors,
    files: Vec<(&'static str, Vec<u8>)>,
}

/// Writes a model into `dir`, which is made if need be.
pub fn write(shape: Shape, dir: &Path, storage: Storage, seed: u64) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let Made { tensors, files } = shape.make()?;
    for (name, bytes) in files {
        std::fs::write(dir.join(name), bytes).with_context(|| format!("cannot write {name} into {}", dir.display()))?;
    }
    tensors.write(&dir.join("model.safetensors"), storage, seed)
}

/// The folder of a model in the build's target directory, made once.
pub fn cached(shape: Shape) -> Result<PathBuf> {
    // Behind a change of the generator the old ones are of no use.
    const VERSION: u32 = 5;
    let all = crate::target_dir()?.join("random-models");
    let dir = all.join(format!("{}-{VERSION}", shape.name()));
    if !dir.is_dir() {
        // Whole or not at all, should two make it at once.
        let part = all.join(format!("{}.{}.part", shape.name(), std::process::id()));
        write(shape, &part, Storage::F32, 1)?;
        if std::fs::rename(&part, &dir).is_err() {
            std::fs::remove_dir_all(&part)?;
        }
    }
    Ok(dir)
}

/// A file of an embedded model.
fn embedded(model: &str, file: &str) -> Result<&'static [u8]> {
    let found = dubcore_models::find(model).and_then(|m| m.files.iter().find(|f| f.0 == file));
    Ok(found.with_context(|| format!("no {file} of micro/{model}"))?.1)
}

fn embedded_json(model: &str, file: &str) -> Result<Value> {
    Ok(serde_json::from_slice(embedded(model, file)?)?)
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}
