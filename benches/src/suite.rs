//! The benchmarks, by what they measure. Each is a program of its own, so that its memory is its own.

mod dub;
mod kernels;
mod server;
mod sound;
mod stages;

pub use dub::dub;
pub use kernels::kernels;
pub use server::server;
pub use sound::sound;
pub use stages::stages;
