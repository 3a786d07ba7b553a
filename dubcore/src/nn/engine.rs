//! What computes a model, and in which numbers.

use super::cpu::{Format, Isa};
use crate::compute::ComputeType;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::process::PerProcess;

/// The variable that chooses, and its value for the reference.
const VARIABLE: &str = "DUBCORE_CPU_ISA";
const REFERENCE: &str = "candle";

/// What `asked` means where a model runs: what it says. [`ComputeType::Auto`] is what is faster without being measurably
/// worse: that is [`ComputeType::Bf16`] where the processor is faster in it, else [`ComputeType::F32`].
pub(crate) fn settle(asked: ComputeType, device: Device) -> ComputeType {
    match asked {
        ComputeType::Auto if device == Device::Cpu && is_faster_in_bf16() => ComputeType::Bf16,
        ComputeType::Auto => ComputeType::F32,
        asked => asked,
    }
}

/// Found out once: it is asked whenever somebody wants a model.
fn is_faster_in_bf16() -> bool {
    static FASTER: PerProcess<bool> = PerProcess::new();
    // What is wrong with the choice of kernels is said when a model is loaded.
    *FASTER.get_with(|_| !is_reference() && Isa::chosen().is_ok_and(Isa::is_faster_in_bf16))
}

fn is_reference() -> bool {
    std::env::var(VARIABLE).is_ok_and(|name| name == REFERENCE)
}

/// What computes, and in which numbers: a model's weights carry it from when they are opened.
#[derive(Clone, Copy, Debug)]
pub(in crate::nn) enum Engine {
    Candle,
    Cpu(Isa, Format),
}

impl Engine {
    /// # Errors
    /// `InvalidArgument` for an instruction set that is none, or that the processor lacks; and where the reference is to
    /// compute in anything but f32: it would be the wrong reference, and quietly f32 the wrong answer to who asked for less.
    pub(in crate::nn) fn of(compute: ComputeType) -> Result<Self> {
        let format = match settle(compute, Device::Cpu) {
            ComputeType::Auto | ComputeType::F32 => Format::F32,
            ComputeType::Bf16 => Format::Bf16,
            ComputeType::Int8 => Format::Int8,
        };
        if is_reference() {
            return match format {
                Format::F32 => Ok(Self::Candle),
                _ => Err(Error::argument(format!(
                    "{VARIABLE}={REFERENCE} computes in f32 alone, and {compute} is asked for: leave out one of the two"
                ))),
            };
        }
        Ok(Self::Cpu(Isa::chosen()?, format))
    }

    /// The arithmetic's name, as in [`ComputeType`].
    pub(in crate::nn) fn compute_type(self) -> ComputeType {
        match self {
            Self::Candle | Self::Cpu(_, Format::F32) => ComputeType::F32,
            Self::Cpu(_, Format::Bf16) => ComputeType::Bf16,
            Self::Cpu(_, Format::Int8) => ComputeType::Int8,
        }
    }

    /// The name of what computes: an instruction set, or the reference.
    pub(in crate::nn) fn kernels(self) -> &'static str {
        match self {
            Self::Candle => REFERENCE,
            Self::Cpu(isa, _) => isa.name(),
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
