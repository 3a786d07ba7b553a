//! Where a model runs, and the memory that is there. No type of the tensor library is public.

mod hardware;
mod measure;
#[cfg(test)]
pub(crate) mod simulated;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

#[cfg(test)]
pub(crate) use hardware::Hardware;
pub(crate) use hardware::{Held, Place, Use, cpu};
pub use measure::{DeviceMemory, ProcessMemory};

/// Where a model runs.
///
/// Written `auto`, `cpu` or `cuda:N`. This build drives the processor: what is asked of a GPU falls back to it, and says so,
/// unless [`LoadMode::Memory`](crate::LoadMode::Memory) forbids it.
///
/// ```
/// use dubcore::Device;
/// assert_eq!("cuda:1".parse::<Device>()?, Device::Cuda(1));
/// assert_eq!(Device::Cuda(1).to_string(), "cuda:1");
/// # Ok::<(), dubcore::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Device {
    /// What `DUBCORE_DEVICE` says, else the first GPU, else the processor. No result has this as its device.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The CUDA GPU of that number.
    Cuda(u8),
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = match name {
            "auto" => Some(Self::Auto),
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            _ => name.strip_prefix("cuda:").and_then(|n| n.parse().ok()).map(Self::Cuda),
        };
        known.ok_or_else(|| Error::argument(format!("unknown device {name:?}: there are \"auto\", \"cpu\" and \"cuda:N\"")))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl TryFrom<String> for Device {
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
        for device in [Device::Auto, Device::Cpu, Device::Cuda(0), Device::Cuda(17)] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
            assert_eq!(serde_json::from_str::<Device>(&serde_json::to_string(&device).unwrap()).unwrap(), device);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:256", "CPU"] {
            assert!(wrong.parse::<Device>().unwrap_err().to_string().contains("cuda:N"), "{wrong}");
        }
    }
}
