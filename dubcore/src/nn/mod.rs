//! What the backends share: weights, layers, attention over a KV cache, the decode loop, log-mel.
//!
//! Backends speak to this module in whole layers and never see a tensor: [`Act`] is opaque. Behind it are the kernels of [`cpu`]
//! and candle, the reference; no backend notices which.

pub(crate) mod conv;
#[allow(dead_code, reason = "some of it waits for the backends, which still compute with candle")]
pub(crate) mod cpu;
pub(crate) mod decode;
pub(crate) mod duration;
mod elementwise;
mod engine;
pub(crate) mod flow;
pub(crate) mod hifigan;
pub(crate) mod layers;
pub(crate) mod mel;
pub(crate) mod relative;
pub(crate) mod sentencepiece;
pub(crate) mod silero;
mod spline;
pub(crate) mod transformer;
mod wavenet;
mod weight_norm;
pub(crate) mod weights;

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{Device, Storage, Tensor};

pub(crate) use engine::settle;

use crate::device::{Held, Place, Use};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::{Job, compute};

/// What a layer needs to know of the request that it works for.
pub(crate) struct Ctx<'a> {
    job: &'a Job,
    place: &'a Place,
}

impl Ctx<'_> {
    /// To be asked between layers and decode steps, so that no unchecked stretch is long.
    pub(crate) fn check(&self) -> Result<()> {
        self.job.check()
    }

    /// Memory for so many floats on the request's device, until it is dropped. To be asked for before they are made.
    fn take(&self, what: Use, floats: usize) -> Result<Held> {
        let mut held = Held::new(self.place, what);
        held.grow(4 * floats as u64)?;
        Ok(held)
    }
}

/// Runs model code for `job`, with its tensors at `place`, on the compute pool. A panic inside becomes an `Internal` error.
pub(crate) fn run<R: Send>(job: &Job, place: &Place, work: impl FnOnce(&Ctx<'_>) -> Result<R> + Send) -> Result<R> {
    job.check()?;
    // Unwind safety: model weights are never mutated, and everything else the closure touches is dropped with it.
    compute(job, || catch_unwind(AssertUnwindSafe(|| work(&Ctx { job, place }))))?
        .unwrap_or_else(|panic| Err(Error::panicked("model code", &*panic)))
}

/// Activations of a sequence: f32, `[batch, time, channels]`.
#[derive(Clone)]
pub(crate) struct Act(pub(in crate::nn) Tensor);

impl Act {
    /// From values in `[batch, time, channels]` order.
    pub(crate) fn new(values: Vec<f32>, shape: (usize, usize, usize)) -> Result<Self> {
        Ok(Self(Tensor::from_vec(values, shape, &Device::Cpu)?))
    }

    /// One batch of several.
    pub(crate) fn concat(parts: Vec<Self>) -> Result<Self> {
        let parts: Vec<Tensor> = parts.into_iter().map(|part| part.0).collect();
        Ok(Self(Tensor::cat(&parts, 0)?))
    }

    /// `(batch, time, channels)`.
    pub(crate) fn shape(&self) -> Result<(usize, usize, usize)> {
        Ok(self.0.dims3()?)
    }

    /// The values in `[batch, time, channels]` order.
    pub(crate) fn values(&self) -> Result<Vec<f32>> {
        Ok(self.0.flatten_all()?.to_vec1()?)
    }
}

/// Lends the values of a tensor, copied only if they are not in order.
pub(in crate::nn) fn with_values<R>(x: &Tensor, work: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    let Storage::Cpu(values) = &*storage else {
        return Err(Error::internal("values are not in main memory"));
    };
    let (from, to) = layout.contiguous_offsets().ok_or_else(|| Error::internal("values are not in order"))?;
    Ok(work(&values.as_slice::<f32>()?[from..to]))
}

impl From<candle_core::Error> for Error {
    fn from(e: candle_core::Error) -> Self {
        // candle appends a backtrace to its text when RUST_BACKTRACE is set; the first line says what failed.
        let text = e.to_string();
        Error::new(ErrorKind::Internal, format!("tensor computation failed: {}", text.lines().next().unwrap_or_default()))
    }
}
