//! In which numbers a model computes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// In which numbers a model's products are computed. Sums are always f32, or exact.
///
/// Written `auto`, `f32`, `bf16` or `int8`. Norms and softmax are f32 in any case, and so is what a voice makes of letters
/// before it makes sound, so that a text has one rhythm. What models lost by it is in docs/quality.md.
///
/// ```
/// use dubcore::ComputeType;
/// assert_eq!("int8".parse::<ComputeType>()?, ComputeType::Int8);
/// assert_eq!(ComputeType::Bf16.to_string(), "bf16");
/// # Ok::<(), dubcore::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum ComputeType {
    /// What `DUBCORE_COMPUTE_TYPE` says, else what the processor is fastest in of those that cost no measurable quality (a tenth
    /// of a point of the error rate): [`ComputeType::Bf16`] with AMX, and with AVX-512 BF16 on AMD's processors, else
    /// [`ComputeType::F32`]. Whoever wants a model's numbers to be the same on every machine asks for [`ComputeType::F32`].
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// Weights, and what they are multiplied by, rounded to 8 bits of precision: half the memory; several times as fast where
    /// the processor has AMX, slower on those that have nothing for it.
    Bf16,
    /// Whole numbers of -127 to 127, with a scale for each output of the weights and for each row of what they are multiplied
    /// by: a quarter of the memory. Attention and convolutions are [`ComputeType::Bf16`]. The fastest of all with VNNI or AMX.
    Int8,
}

impl FromStr for ComputeType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            _ => {
                let what = format!("unknown compute type {name:?}: there are \"auto\", \"f32\", \"bf16\" and \"int8\"");
                Err(Error::argument(what))
            }
        }
    }
}

impl fmt::Display for ComputeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

impl From<ComputeType> for String {
    fn from(compute_type: ComputeType) -> Self {
        compute_type.to_string()
    }
}

impl TryFrom<String> for ComputeType {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for compute in [ComputeType::Auto, ComputeType::F32, ComputeType::Bf16, ComputeType::Int8] {
            assert_eq!(compute.to_string().parse::<ComputeType>().unwrap(), compute);
            assert_eq!(serde_json::from_str::<ComputeType>(&serde_json::to_string(&compute).unwrap()).unwrap(), compute);
        }
        for wrong in ["", "float32", "F32", "fp16", "int8_float32"] {
            assert!(wrong.parse::<ComputeType>().unwrap_err().to_string().contains("\"int8\""), "{wrong}");
        }
    }
}
