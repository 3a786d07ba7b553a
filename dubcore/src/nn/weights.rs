//! Tensors by name from a model's safetensors files, in any float storage, handed out as f32.
//!
//! A model has `model.safetensors`, or, where that is missing, several files that `model.safetensors.index.json` lists.
//! The headers are in memory; a tensor is read when a layer asks for it, a large one by rows ([`Matrix`]), so that loading
//! takes the memory of the layers and little more.

mod file;
mod index;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use safetensors::tensor::TensorInfo;

use crate::compute::ComputeType;
use crate::device::{Held, Place, Use};
use crate::error::{Error, ErrorKind, Result};
use crate::source::ModelFiles;
use crate::stage::StageInfo;
use crate::sync::Mutex;

use super::cpu::{Cpu, Format, Isa, Packed, Shape};
use super::engine::Engine;
use file::TensorFile;

const SINGLE: &str = "model.safetensors";

/// A model's tensors below one prefix. Cloning and [`Weights::at`] share the files, which are closed with the last of
/// them: after loading, only the layers' own copies remain.
#[derive(Clone)]
pub(crate) struct Weights {
    all: Arc<Tensors>,
    prefix: String,
}

struct Tensors {
    /// What a tensor that is nowhere is missing from, as error messages call it.
    name: String,
    files: Vec<TensorFile>,
    place: Place,
    engine: Engine,
    /// Empty once the layers have it.
    taken: Mutex<Taken>,
}

struct Taken {
    names: BTreeSet<String>,
    /// A tensor that was asked for twice counts twice: as f32, or what it takes when it is packed.
    held: Held,
}

impl Weights {
    /// The weights of a model, for a device and an arithmetic: `model.safetensors` if there is one, as in transformers, else
    /// the files of the index.
    ///
    /// # Errors
    /// `ModelNotFound` where a file is missing, `ModelCorrupt` where files are damaged or do not belong together, both
    /// naming the file and, where there is one, the tensor; as for [`Engine::of`].
    pub(crate) fn open(files: &ModelFiles, place: &Place, compute: ComputeType) -> Result<Self> {
        let on = (place, Engine::of(compute)?);
        let called = |file: &str| format!("{file} of model {}", files.name());
        if let Some(blob) = files.open(SINGLE)? {
            return Self::new(called(SINGLE), vec![TensorFile::open(called(SINGLE), blob)?], on);
        }
        let Some(shards) = index::read(files)? else { return Err(nowhere(files)) };
        let mut opened: Vec<TensorFile> = Vec::new();
        for (file, tensors) in &shards {
            let blob = files.open(file)?.ok_or_else(|| {
                let what = format!(
                    "model {} has no {file}, where {} places tensor {} and others: fetch it too",
                    files.name(),
                    index::FILE,
                    tensors[0]
                );
                Error::new(ErrorKind::ModelNotFound, what)
            })?;
            let shard = TensorFile::open(called(file), blob)?;
            if let Some(absent) = tensors.iter().find(|t| shard.info(t).is_none()) {
                let what = format!("places tensor {absent} in {file}, which does not have it: fetch both again");
                return Err(files.corrupt(index::FILE, &what));
            }
            for other in &opened {
                if let Some(twice) = shard.names().find(|t| other.info(t).is_some()) {
                    return Err(corrupt(format!(
                        "tensor {twice} is in {} and in {}: it can be in one",
                        other.name(),
                        shard.name()
                    )));
                }
            }
            opened.push(shard);
        }
        Self::new(called(index::FILE), opened, on)
    }

    /// The weights in one file; `name` is the file as error messages call it.
    pub(crate) fn parse(name: impl Into<String>, bytes: std::borrow::Cow<'static, [u8]>) -> Result<Self> {
        let name = name.into();
        let on = (crate::device::cpu(), Engine::of(ComputeType::F32)?);
        Self::new(name.clone(), vec![TensorFile::open(name, crate::source::Blob::bytes(bytes))?], on)
    }

    /// The names and shapes of all tensors.
    #[cfg(fuzzing)]
    pub(crate) fn list(&self) -> Vec<(String, Vec<usize>)> {
        let of = |file: &TensorFile| -> Vec<_> {
            let shape = |name: &str| file.info(name).map_or(Vec::new(), |info| info.shape.clone());
            file.names().map(|name| (name.to_string(), shape(name))).collect()
        };
        self.all.files.iter().flat_map(of).collect()
    }

    fn new(name: String, files: Vec<TensorFile>, (place, engine): (&Place, Engine)) -> Result<Self> {
        let place = place.clone();
        let taken = Mutex::new(Taken { names: BTreeSet::new(), held: Held::new(&place, Use::Weights) });
        Ok(Self { all: Arc::new(Tensors { name, files, place, engine, taken }), prefix: String::new() })
    }

    /// The same tensors for another engine.
    #[cfg(test)]
    pub(in crate::nn) fn on(self, engine: Engine) -> Self {
        let mut all = Arc::into_inner(self.all).expect("nobody else has them");
        all.engine = engine;
        Self { all: Arc::new(all), prefix: self.prefix }
    }

    /// What is to compute with them.
    pub(in crate::nn) fn engine(&self) -> Engine {
        self.all.engine
    }

    /// The tensors whose names begin with this prefix, `name` and a dot.
    pub(crate) fn at(&self, name: impl std::fmt::Display) -> Self {
        Self { all: self.all.clone(), prefix: format!("{}{name}.", self.prefix) }
    }

    /// Whether a tensor of that name is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.find(&format!("{}{name}", self.prefix)).is_some()
    }

    /// The values of a tensor that must have exactly this shape.
    pub(crate) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (file, info, name) = self.take(name, shape)?;
        let count = shape.iter().try_fold(4u64, |n, size| n.checked_mul(*size as u64));
        self.hold(count.unwrap_or(u64::MAX))?;
        file.floats(&name, info)
    }

    /// A tensor `[rows, columns]` whose rows are read when they are needed.
    pub(in crate::nn) fn matrix(&self, name: &str, (rows, columns): (usize, usize)) -> Result<Matrix<'_>> {
        let (file, info, name) = self.take(name, &[rows, columns])?;
        Ok(Matrix { file, info, name, rows, columns, scale: 1.0 })
    }

    /// Linear layers of one input as one, with their biases; `on` is what the weights are packed for.
    pub(in crate::nn) fn pack(&self, on: (Isa, Format), parts: &[Matrix<'_>], bias: Option<&[f32]>) -> Result<Packed> {
        let outputs = parts.iter().map(|part| part.rows).sum();
        let shape = Shape { outputs, channels: parts.first().map_or(0, |part| part.columns), taps: 1 };
        self.hold(Packed::bytes_of(on.0, on.1, shape) as u64)?;
        Packed::read(&Cpu::new(0), on.0, on.1, shape, bias, |first, mut to| {
            let (mut first, columns) = (first, shape.channels);
            for part in parts {
                let here = part.rows.saturating_sub(first).min(to.len() / columns.max(1));
                let (now, behind) = to.split_at_mut(here * columns);
                part.read(first, now)?;
                (to, first) = (behind, first.saturating_sub(part.rows));
            }
            Ok(())
        })
    }

    /// The tensor of that name and shape, which belongs to the model.
    fn take(&self, name: &str, shape: &[usize]) -> Result<(&TensorFile, &TensorInfo, String)> {
        let name = format!("{}{name}", self.prefix);
        let (file, info) = self
            .find(&name)
            .ok_or_else(|| corrupt(format!("{} has no tensor {name}: it does not belong to this config.json", self.all.name)))?;
        if info.shape != shape {
            let (found, file) = (&info.shape, file.name());
            return Err(corrupt(format!(
                "tensor {name} of {file} has shape {found:?} where config.json asks for {shape:?}: the files do not belong together"
            )));
        }
        self.all.taken.lock().names.insert(name.clone());
        Ok((file, info, name))
    }

    fn hold(&self, bytes: u64) -> Result<()> {
        self.all.taken.lock().held.grow(bytes)
    }

    /// So many of the values that were read at once are kept in this form alone: it counts for them.
    pub(in crate::nn) fn packed(&self, packed: &Packed, values: usize) -> Result<()> {
        self.all.taken.lock().held.exchange(4 * values as u64, packed.bytes() as u64)
    }

    /// Says where the model runs, in what, and by what.
    pub(crate) fn tell(&self, info: &mut StageInfo) {
        info.device = self.all.place.device();
        info.compute_type = self.all.engine.compute_type().to_string();
        info.kernels = self.all.engine.kernels().into();
    }

    /// As [`Weights::tell`], for a model of convolutions, which have neither a reference nor an int8.
    pub(crate) fn tell_of_convolutions(&self, info: &mut StageInfo) {
        self.tell(info);
        let (isa, format) = self.all.engine.on_processor();
        info.compute_type = if format == Format::F32 { ComputeType::F32 } else { ComputeType::Bf16 }.to_string();
        info.kernels = isa.name().into();
    }

    pub(in crate::nn) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.values(name, shape)?, shape, &Device::Cpu)?)
    }

    fn find(&self, name: &str) -> Option<(&TensorFile, &TensorInfo)> {
        self.all.files.iter().find_map(|file| Some((file, file.info(name)?)))
    }

    /// To be called when the layers are made: the memory that they take, to be kept as long as they are.
    ///
    /// Tensors that no layer asked for are no error, as in transformers, but a warning tells of them: they may mean that
    /// config.json describes another model. `idle` are the beginnings of those names that every checkpoint of the
    /// architecture may have for training, or as copies.
    pub(crate) fn finish(&self, idle: &[&str]) -> Held {
        let left = self.left_over(idle);
        if !left.is_empty() {
            let (count, some) = (left.len(), left.iter().take(5).copied().collect::<Vec<_>>().join(", "));
            tracing::warn!("{count} tensors of {} have no place in the model and are ignored: {some}", self.all.name);
            tracing::debug!("ignored of {}: {}", self.all.name, left.join(", "));
        }
        std::mem::replace(&mut self.all.taken.lock().held, Held::new(&self.all.place, Use::Weights))
    }

    /// The tensors that nobody asked for, but for those whose names begin like one of `idle`.
    fn left_over(&self, idle: &[&str]) -> Vec<&str> {
        let taken = self.all.taken.lock();
        let all = self.all.files.iter().flat_map(TensorFile::names);
        let mut left: Vec<&str> = all.filter(|n| !taken.names.contains(*n) && !idle.iter().any(|i| n.starts_with(i))).collect();
        left.sort_unstable();
        left
    }
}

/// A tensor of two dimensions that is read by rows.
pub(in crate::nn) struct Matrix<'a> {
    file: &'a TensorFile,
    info: &'a TensorInfo,
    name: String,
    rows: usize,
    columns: usize,
    scale: f32,
}

impl Matrix<'_> {
    /// The same with all numbers multiplied.
    pub(in crate::nn) fn times(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    pub(in crate::nn) fn rows(&self) -> usize {
        self.rows
    }

    /// As many rows as `to` has room for, from `first` on.
    fn read(&self, first: usize, to: &mut [f32]) -> Result<()> {
        self.file.part(&self.name, self.info, first * self.columns, to)?;
        if self.scale != 1.0 {
            to.iter_mut().for_each(|v| *v *= self.scale);
        }
        Ok(())
    }
}

/// Why there are no weights.
fn nowhere(files: &ModelFiles) -> Error {
    let old = ["pytorch_model.bin", "pytorch_model.bin.index.json"].into_iter().find(|f| files.has(f));
    let hint = match old {
        Some(old) => format!("{old} is not read, save the model as safetensors"),
        None => "it needs the whole Hugging Face directory".to_string(),
    };
    let what = format!("model {} has no {SINGLE} and no {}: {hint}", files.name(), index::FILE);
    Error::new(ErrorKind::ModelNotFound, what)
}

fn corrupt(message: String) -> Error {
    Error::new(ErrorKind::ModelCorrupt, message)
}
