//! The native half of the Python package in `python/dubcore`: sound, models, pipelines, and calls that take long.

mod audio;
mod call;
mod error;
mod factory;
mod input;
mod own;
mod pipeline;
mod stages;

use pyo3::prelude::*;

#[pymodule]
fn _dubcore(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_function(wrap_pyfunction!(embedded_models, m)?)?;
    m.add_function(wrap_pyfunction!(cpu_features, m)?)?;
    error::register(m)?;
    call::register(m)?;
    audio::register(m)?;
    factory::register(m)?;
    stages::register(m)?;
    pipeline::register(m)
}

/// The names of the embedded models.
#[pyfunction]
fn embedded_models() -> Vec<String> {
    let mut names: Vec<String> = dubcore::ModelRef::embedded().iter().map(ToString::to_string).collect();
    names.sort();
    names
}

/// What the processor has of the wide arithmetic that models run on.
#[pyfunction]
fn cpu_features() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
    ];
    #[cfg(target_arch = "aarch64")]
    let found = [("neon", std::arch::is_aarch64_feature_detected!("neon"))];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found: [(&str, bool); 0] = [];
    found.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}
