//! Tensors by name from a safetensors file, in any float storage, handed out as f32.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, ErrorKind, Result};
use crate::sync::{AtomicU64, Ordering};

/// A file's tensors below one prefix. Cloning and [`Weights::at`] share the bytes, which are dropped with the last of
/// them: after loading, only the layers' own copies remain.
#[derive(Clone)]
pub(crate) struct Weights {
    file: Arc<File>,
    prefix: String,
}

struct File {
    name: String,
    bytes: Cow<'static, [u8]>,
    /// Where the tensors' data begins.
    base: usize,
    meta: Metadata,
    /// Bytes handed out, as f32.
    read: AtomicU64,
}

impl Weights {
    /// Parses the header; `name` is the file as error messages call it.
    pub(crate) fn parse(name: impl Into<String>, bytes: Cow<'static, [u8]>) -> Result<Self> {
        let name = name.into();
        let (header, meta) = SafeTensors::read_metadata(&bytes)
            .map_err(|e| corrupt(format!("{name} is not a complete safetensors file: fetch it again")).with_source(e))?;
        // 8 bytes of header length come first.
        let base = header + 8;
        if bytes.len() - base != meta.data_len() {
            let (have, want) = (bytes.len() - base, meta.data_len());
            return Err(corrupt(format!("{name} holds {have} bytes of tensors where its header says {want}: fetch it again")));
        }
        Ok(Self { file: Arc::new(File { name, bytes, base, meta, read: AtomicU64::new(0) }), prefix: String::new() })
    }

    /// Bytes that all tensors take once they are f32.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.file.meta.tensors().values().map(|t| t.shape.iter().product::<usize>() as u64 * 4).sum()
    }

    /// The tensors whose names begin with this prefix, `name` and a dot.
    pub(crate) fn at(&self, name: impl std::fmt::Display) -> Self {
        Self { file: self.file.clone(), prefix: format!("{}{name}.", self.prefix) }
    }

    /// Whether a tensor of that name is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.info(name).is_some()
    }

    /// The values of a tensor that must have exactly this shape.
    pub(crate) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let info = self.info(name).ok_or_else(|| self.missing(name))?;
        let File { name: file, bytes, base, .. } = &*self.file;
        if info.shape != shape {
            let found = &info.shape;
            return Err(corrupt(format!(
                "tensor {}{name} of {file} has shape {found:?} where config.json asks for {shape:?}: the files do not belong together",
                self.prefix
            )));
        }
        let data = &bytes[base + info.data_offsets.0..base + info.data_offsets.1];
        let values: Vec<f32> = match info.dtype {
            Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => data.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => data.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            other => {
                return Err(Error::new(
                    ErrorKind::ModelIncompatible,
                    format!("tensor {}{name} of {file} is stored as {other:?}: only F32, F16 and BF16 are read", self.prefix),
                ));
            }
        };
        if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
            return Err(corrupt(format!("tensor {}{name} of {file} holds {bad}: fetch the model again", self.prefix)));
        }
        self.file.read.fetch_add(4 * values.len() as u64, Ordering::Relaxed);
        Ok(values)
    }

    /// How many bytes of values were handed out, which is what the layers made of them take in memory.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.file.read.load(Ordering::Relaxed)
    }

    /// The names and shapes of all tensors.
    #[cfg(fuzzing)]
    pub(crate) fn list(&self) -> Vec<(String, Vec<usize>)> {
        self.file.meta.tensors().into_iter().map(|(name, info)| (name, info.shape.clone())).collect()
    }

    pub(in crate::nn) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.values(name, shape)?, shape, &Device::Cpu)?)
    }

    fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.file.meta.info(&format!("{}{name}", self.prefix))
    }

    fn missing(&self, name: &str) -> Error {
        corrupt(format!("{} has no tensor {}{name}: it does not belong to this config.json", self.file.name, self.prefix))
    }
}

fn corrupt(message: String) -> Error {
    Error::new(ErrorKind::ModelCorrupt, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    fn file(dtype: Dtype, data: &[u8]) -> Vec<u8> {
        let view = TensorView::new(dtype, vec![2], data).unwrap();
        safetensors::serialize([("a.w", view)], None).unwrap()
    }

    #[test]
    fn every_float_storage_is_read() {
        for (dtype, bytes) in [
            (Dtype::F32, [1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()),
            (Dtype::F16, [1.5f32, -2.0].iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()),
            (Dtype::BF16, [1.5f32, -2.0].iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()),
        ] {
            let w = Weights::parse("m.safetensors", file(dtype, &bytes).into()).unwrap();
            assert_eq!(w.at("a").values("w", &[2]).unwrap(), [1.5, -2.0]);
        }
    }

    #[test]
    fn errors_name_the_tensor_and_the_file() {
        let bytes: Vec<u8> = [f32::NAN, 0.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let whole = file(Dtype::F32, &bytes);
        let w = Weights::parse("m.safetensors", whole.clone().into()).unwrap().at("a");
        for (error, part) in [
            (w.values("w", &[3]).unwrap_err(), "shape [2]"),
            (w.values("x", &[3]).unwrap_err(), "a.x"),
            (w.values("w", &[2]).unwrap_err(), "NaN"),
        ] {
            assert_eq!(error.kind(), ErrorKind::ModelCorrupt);
            assert!(error.to_string().contains(part) && error.to_string().contains("m.safetensors"), "{error}");
        }
        for cut in 0..whole.len() {
            assert_eq!(Weights::parse("m", whole[..cut].to_vec().into()).err().unwrap().kind(), ErrorKind::ModelCorrupt, "{cut}");
        }
        let ints = file(Dtype::I32, &[0; 8]);
        let w = Weights::parse("m", ints.into()).unwrap();
        assert_eq!(w.values("a.w", &[2]).unwrap_err().kind(), ErrorKind::ModelIncompatible);
    }
}
