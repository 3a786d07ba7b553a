//! One safetensors file: the header in memory, the tensors read one by one.

use std::collections::BTreeMap;
use std::io;

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::corrupt;
use crate::error::{Error, ErrorKind, Result};
use crate::source::Blob;

/// The longest header, as in the reference implementation.
const MAX_HEADER: u64 = 100_000_000;

pub(super) struct TensorFile {
    name: String,
    blob: Blob,
    /// Where the tensors' data begins.
    base: u64,
    tensors: BTreeMap<String, TensorInfo>,
}

impl TensorFile {
    /// Reads the header; `name` is the file as error messages call it.
    pub(super) fn open(name: String, blob: Blob) -> Result<Self> {
        let (base, meta) = header(&blob).map_err(|e| match e.kind() {
            io::ErrorKind::OutOfMemory => unreadable(&name, e),
            _ => corrupt(format!("{name} is not a complete safetensors file: fetch it again")).with_source(e),
        })?;
        let (have, want) = (blob.len() - base, meta.data_len() as u64);
        if have != want {
            return Err(corrupt(format!("{name} holds {have} bytes of tensors where its header says {want}: fetch it again")));
        }
        let tensors = meta.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
        Ok(Self { name, blob, base, tensors })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn info(&self, tensor: &str) -> Option<&TensorInfo> {
        self.tensors.get(tensor)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The values of `tensor`, whose description in this file is `info`; all of them finite.
    pub(super) fn floats(&self, tensor: &str, info: &TensorInfo) -> Result<Vec<f32>> {
        let file = &self.name;
        let (from, to) = info.data_offsets;
        let data = self.blob.part(self.base + from as u64, to - from).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => corrupt(format!("tensor {tensor} of {file} was cut off while the model was loaded")),
            _ => unreadable(&format!("tensor {tensor} of {file}"), e),
        })?;
        let values: Vec<f32> = match info.dtype {
            Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => data.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => data.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            other => {
                let what = format!("tensor {tensor} of {file} is stored as {other:?}: only F32, F16 and BF16 are read");
                return Err(Error::new(ErrorKind::ModelIncompatible, what));
            }
        };
        match values.iter().find(|v| !v.is_finite()) {
            Some(bad) => Err(corrupt(format!("tensor {tensor} of {file} holds {bad}: fetch the model again"))),
            None => Ok(values),
        }
    }
}

/// The header, and where it ends. The reference implementation checks that tensors lie end to end and have the size of
/// their shapes; that the last one ends where the file does is left to the caller.
fn header(blob: &Blob) -> io::Result<(u64, Metadata)> {
    let mut length = [0; 8];
    length.copy_from_slice(&blob.part(0, 8)?);
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER.min(blob.len() - 8) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the header would be {length} bytes long")));
    }
    let header = blob.part(8, length as usize)?;
    Ok((8 + length, serde_json::from_slice(&header)?))
}

fn unreadable(what: &str, e: io::Error) -> Error {
    let kind = if e.kind() == io::ErrorKind::OutOfMemory { ErrorKind::OutOfMemory } else { ErrorKind::Io };
    Error::new(kind, format!("cannot read {what}")).with_source(e)
}
