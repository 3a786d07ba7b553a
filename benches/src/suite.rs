//! The benchmarks, by what they measure. Each is a program of its own, so that its memory is its own.

mod dub;
mod sound;
mod stages;

pub use dub::dub;
pub use sound::sound;
pub use stages::stages;
