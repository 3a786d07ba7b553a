//! What a model architecture has to provide, and the choice among them by config.json's `model_type`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::Deserialize;

use crate::compute::ComputeType;
use crate::device::{Held, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::source::ModelFiles;
use crate::stage::{StageInfo, Stt, Translator, Tts};

/// A loaded model as the stage it serves.
#[derive(Clone)]
pub(crate) enum Stage {
    Stt(Arc<dyn Stt>),
    Translator(Arc<dyn Translator>),
    Tts(Arc<dyn Tts>),
}

impl Stage {
    pub(crate) fn info(&self) -> StageInfo {
        match self {
            Self::Stt(s) => s.info(),
            Self::Translator(s) => s.info(),
            Self::Tts(s) => s.info(),
        }
    }

    /// The stage's name in keys and messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Stt(_) => "stt",
            Self::Translator(_) => "translator",
            Self::Tts(_) => "tts",
        }
    }
}

/// A model, and the bytes that its weights take in memory.
pub(crate) struct Loaded {
    pub(crate) stage: Stage,
    pub(crate) bytes: u64,
    /// The memory itself, to be given back with the model; none where the host made it.
    _held: Option<Held>,
}

impl Loaded {
    pub(crate) fn new(stage: Stage, held: Held) -> Self {
        Self { stage, bytes: held.bytes(), _held: Some(held) }
    }

    /// Of the host's own, which takes so many bytes.
    pub(crate) fn own(stage: Stage, bytes: u64) -> Self {
        Self { stage, bytes, _held: None }
    }
}

/// One architecture.
pub(crate) struct Backend {
    /// The `model_type`s it runs.
    pub(crate) model_types: &'static [&'static str],
    /// Builds the model from its files, on a device, to compute in such numbers.
    pub(crate) load: fn(&ModelFiles, &Place, ComputeType) -> Result<Loaded>,
}

#[derive(Deserialize)]
struct Config {
    model_type: Option<String>,
}

/// Loads a model with the one of `backends` that runs its `model_type`.
///
/// # Errors
/// `ModelIncompatible` for a type that none runs, listing those that there are; else what the backend finds.
pub(crate) fn load(files: &ModelFiles, place: &Place, compute: ComputeType, backends: &[Backend]) -> Result<Loaded> {
    let config: Config = files.json("config.json")?;
    let found = config.model_type.ok_or_else(|| files.corrupt("config.json", "has no model_type"))?;
    match backends.iter().find(|b| b.model_types.contains(&found.as_str())) {
        // Parsers of foreign formats run here: a panic in one of them is a damaged model, not the end of the host.
        Some(backend) => catch_unwind(AssertUnwindSafe(|| (backend.load)(files, place, compute))).unwrap_or_else(|panic| {
            let e = Error::panicked("a parser", &*panic);
            let what = format!("loading model {} panicked: its files are damaged, fetch it again", files.name());
            Err(Error::new(ErrorKind::ModelCorrupt, what).with_source(e))
        }),
        None => {
            let known: Vec<_> = backends.iter().flat_map(|b| b.model_types).copied().collect();
            Err(Error::new(
                ErrorKind::ModelIncompatible,
                format!(
                    "model {} is of type {found:?}, which this build does not run: it runs {}",
                    files.name(),
                    known.join(", ")
                ),
            ))
        }
    }
}
