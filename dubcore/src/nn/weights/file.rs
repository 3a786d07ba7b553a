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
        let size = self.size(tensor, info)?;
        let (from, to) = info.data_offsets;
        let mut values = Vec::new();
        let room = values.try_reserve_exact((to - from) / size);
        room.map_err(|e| {
            unreadable(&format!("tensor {tensor} of {}", self.name), io::Error::new(io::ErrorKind::OutOfMemory, e))
        })?;
        values.resize((to - from) / size, 0.0);
        self.part(tensor, info, 0, &mut values)?;
        Ok(values)
    }

    /// As many of the values of `tensor` as `to` has room for, from the given one on; all of them finite.
    pub(super) fn part(&self, tensor: &str, info: &TensorInfo, mut first: usize, to: &mut [f32]) -> Result<()> {
        let (file, size) = (&self.name, self.size(tensor, info)?);
        for to in to.chunks_mut(CHUNK) {
            let at = self.base + info.data_offsets.0 as u64 + (first * size) as u64;
            let data = self.blob.part(at, to.len() * size).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => {
                    corrupt(format!("tensor {tensor} of {file} was cut off while the model was loaded"))
                }
                _ => unreadable(&format!("tensor {tensor} of {file}"), e),
            })?;
            match info.dtype {
                Dtype::F32 => convert(&data, to, f32::from_le_bytes),
                Dtype::BF16 => convert(&data, to, |b| bf16::from_le_bytes(b).to_f32()),
                _ => convert(&data, to, |b| f16::from_le_bytes(b).to_f32()),
            }
            if !all_finite(to) {
                let bad = to.iter().find(|v| !v.is_finite()).unwrap_or(&f32::NAN);
                return Err(corrupt(format!("tensor {tensor} of {file} holds {bad}: fetch the model again")));
            }
            first += to.len();
        }
        Ok(())
    }

    /// Bytes of one of a tensor's numbers.
    fn size(&self, tensor: &str, info: &TensorInfo) -> Result<usize> {
        match info.dtype {
            Dtype::F32 => Ok(4),
            Dtype::F16 | Dtype::BF16 => Ok(2),
            other => {
                let what = format!("tensor {tensor} of {} is stored as {other:?}: only F32, F16 and BF16 are read", self.name);
                Err(Error::new(ErrorKind::ModelIncompatible, what))
            }
        }
    }
}

/// Numbers that are read at a time: little enough to stay in a cache until they are used.
const CHUNK: usize = 64 << 10;

fn convert<const N: usize>(data: &[u8], to: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    to.iter_mut().zip(data.as_chunks::<N>().0).for_each(|(to, bytes)| *to = value(*bytes));
}

fn all_finite(values: &[f32]) -> bool {
    // Nothing times a number is NaN where that is not finite. Sums side by side, as a vector has them.
    let (eights, rest) = values.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for eight in eights {
        sums.iter_mut().zip(eight).for_each(|(sum, v)| *sum += v * 0.0);
    }
    sums.iter().chain(rest).all(|v| v.is_finite())
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
