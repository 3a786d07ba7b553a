//! What computes a model, and in which numbers.

use super::cpu::{Format, Isa};
use crate::error::Result;

/// What computes, and in which numbers: a model's weights carry it from when they are opened.
#[derive(Clone, Copy, Debug)]
pub(in crate::nn) enum Engine {
    Candle,
    Cpu(Isa, Format),
}

impl Engine {
    pub(in crate::nn) fn chosen() -> Result<Self> {
        match std::env::var("DUBCORE_CPU_ISA") {
            Ok(name) if name == "candle" => Ok(Self::Candle),
            _ => Ok(Self::Cpu(Isa::chosen()?, Format::F32)),
        }
    }

    /// What the processor's kernels compute with. They do for the reference what it has no part in.
    pub(in crate::nn) fn on_processor(self) -> (Isa, Format) {
        match self {
            Self::Candle => (Isa::best(), Format::F32),
            Self::Cpu(isa, format) => (isa, format),
        }
    }
}
