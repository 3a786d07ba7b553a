//! The native half of the Python package in `python/dubcore`: sound, models, pipelines, and calls that take long.

mod audio;
mod call;
mod error;
mod factory;
mod input;
mod pipeline;
mod stages;

use pyo3::prelude::*;

#[pymodule]
fn _dubcore(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    error::register(m)?;
    call::register(m)?;
    audio::register(m)?;
    factory::register(m)?;
    stages::register(m)?;
    pipeline::register(m)
}
