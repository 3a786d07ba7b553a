//! The Python face of dubcore: the native half of the package in `python/dubcore`.

mod door;
mod dub;
mod error;

use pyo3::prelude::*;

#[pymodule]
fn _dubcore(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    error::register(m)?;
    dub::register(m)
}
