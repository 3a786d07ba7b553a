//! The C face of dubcore.
//!
//! Every exported function goes through one of the doors in [`door`]; objects are known to C by [`handle`]s. The doc comments
//! of the exported items are the manual that cbindgen copies into `include/dubcore.h`.

#![allow(clippy::missing_safety_doc, reason = "the header's conventions are the safety contract of every function")]
#![allow(clippy::too_many_arguments, reason = "C has no tuples: what a call gives takes a place each")]

pub mod audio;
pub mod document;
mod door;
pub mod error;
pub mod factory;
pub mod handle;
pub mod job;
pub mod library;
pub mod line;
pub mod log;
#[allow(dead_code, reason = "the manual that it holds is for the header alone")]
mod options;
pub mod own;
pub mod pipeline;
mod place;
pub mod preload;
pub mod register;
pub mod request;
pub mod result;
pub mod run;
pub mod stt;
mod sync;
mod table;
#[cfg(test)]
mod tests;
mod text;
pub mod translator;
pub mod tts;
pub mod user;
