//! Names a loaded model, for keys, logs and status.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::device::Device;
use crate::error::{Error, Result};
use crate::source::ModelRef;

/// What a loaded model is known by.
///
/// Prints as `{type}_{name}_{device}_{cpu_threads}_{vad}`, with `+compute` and `#version` behind where they are not the
/// defaults, and parses back. Inside a part `_`, `+`, `#` and `%` are written `%5F` and so on; a revision is part of
/// the name (`owner/name@revision`).
///
/// ```
/// use dubcore::ModelKey;
/// let key = ModelKey::new("openai/whisper-base@main".parse()?);
/// assert_eq!(key.to_string(), "any_openai/whisper-base@main_cpu_0_off");
/// assert_eq!(key.to_string().parse::<ModelKey>()?, key);
/// # Ok::<(), dubcore::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelKey {
    /// `stt`, `translator`, `tts`, or `any` while that is not known.
    pub model_type: String,
    /// Which model.
    pub model: ModelRef,
    /// Where it runs.
    pub device: Device,
    /// Most threads a call uses, 0 for all of the pool's.
    pub cpu_threads: usize,
    /// Whether silence is cut before recognition.
    pub vad: bool,
    /// The arithmetic it runs in.
    pub compute_type: String,
    /// A named version of the host's own, or empty.
    pub version: String,
}

const F32: &str = "f32";

impl ModelKey {
    /// The key of a model with everything else at its default.
    pub fn new(model: ModelRef) -> Self {
        Self {
            model_type: "any".into(),
            model,
            device: Device::Cpu,
            cpu_threads: 0,
            vad: false,
            compute_type: F32.into(),
            version: String::new(),
        }
    }
}

fn escape(part: &str) -> String {
    let mut out = String::with_capacity(part.len());
    for c in part.chars() {
        match c {
            '_' | '+' | '#' | '%' => out.push_str(&format!("%{:02X}", c as u32)),
            _ => out.push(c),
        }
    }
    out
}

fn unescape(part: &str) -> String {
    part.replace("%5F", "_").replace("%2B", "+").replace("%23", "#").replace("%25", "%")
}

impl fmt::Display for ModelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vad = if self.vad { "on" } else { "off" };
        let (kind, name) = (escape(&self.model_type), escape(&self.model.to_string()));
        write!(f, "{kind}_{name}_{}_{}_{vad}", self.device, self.cpu_threads)?;
        if self.compute_type != F32 {
            write!(f, "+{}", escape(&self.compute_type))?;
        }
        if !self.version.is_empty() {
            write!(f, "#{}", escape(&self.version))?;
        }
        Ok(())
    }
}

impl FromStr for ModelKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            || Error::argument(format!("{text:?} is not a model key: TYPE_NAME_DEVICE_THREADS_on|off[+COMPUTE][#VERSION]"));
        let (rest, version) = text.split_once('#').unwrap_or((text, ""));
        let (rest, compute) = rest.split_once('+').unwrap_or((rest, F32));
        let parts: Vec<&str> = rest.split('_').collect();
        let [kind, name, device, threads, vad] = parts[..] else { return Err(wrong()) };
        Ok(Self {
            model_type: unescape(kind),
            model: unescape(name).parse()?,
            device: device.parse()?,
            cpu_threads: threads.parse().map_err(|_| wrong())?,
            vad: match vad {
                "on" => true,
                "off" => false,
                _ => return Err(wrong()),
            },
            compute_type: unescape(compute),
            version: unescape(version),
        })
    }
}

impl Serialize for ModelKey {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_round_trip() {
        for model in ["micro/stt-en", "a/b_c@refs/pr/1", "./with_under+plus#hash%5F", "/srv/ü"] {
            for (vad, compute, version) in [(false, "f32", ""), (true, "int8_f16", "v2"), (true, "f32", "a#b_c+d%")] {
                let mut key = ModelKey::new(model.parse().unwrap());
                (key.vad, key.compute_type, key.version) = (vad, compute.into(), version.into());
                (key.cpu_threads, key.model_type) = (3, "stt".into());
                assert_eq!(key.to_string().parse::<ModelKey>().unwrap(), key, "{key}");
            }
        }
        for text in ["", "a_b", "stt_a_cpu_x_on", "stt_a_cpu_1_maybe", "stt_a_tpu_1_on", "stt_a b_cpu_1_on"] {
            assert!(text.parse::<ModelKey>().is_err(), "{text}");
        }
    }
}
