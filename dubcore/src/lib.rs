//! Speech in one language in, speech in another out: recognition, translation, synthesis, and dubbing as their sum.
//!
//! Three stages, each a trait: [`Stt`] turns sound into timed [`Segment`]s, a [`Translator`] turns their text into another
//! language, a [`Tts`] speaks it. [`Dubber`] puts the three together: it listens to media, fits each line of speech into
//! the time the original took, and mixes it over the ducked original.
//!
//! ```
//! use dubcore::{DubModels, DubRequest, Dubber, Factory, Job, Lang, Output, Pipeline};
//!
//! # fn main() -> dubcore::Result<()> {
//! # let clip = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/media/kitchen.wav");
//! let job = Job::new();
//! let dubber = Dubber::from_factory(Factory::global()?, &DubModels::default(), Some(Lang::EN), Lang::ES, &job)?;
//! let mut run = dubber.start(DubRequest::new(clip, Lang::ES).output(Output::Memory), job.clone())?;
//! for line in &mut run {
//!     // As many lines as are pulled are computed; `job.cancel()` from any thread ends the run.
//!     let line = line?;
//!     println!("{:?} {} -> {}", line.source.span.start, line.source.text, line.text);
//! }
//! let dub = run.finish()?;
//! assert!(dub.complete);
//! assert!(dub.track.is_some_and(|wav| wav.starts_with(b"RIFF")));
//! # Ok(())
//! # }
//! ```
//!
//! [`dub_file`] does the same from a file to files. What else to know:
//!
//! - *Models* are named by [`ModelRef`]: embedded (`micro/stt-en`, with the feature `bundled`), a directory in Hugging Face
//!   layout, or a repository in the local Hugging Face cache; with the feature `hub` one that is not there is fetched, unless
//!   [`HubOptions`] or `HF_HUB_OFFLINE=1` say no. A [`Factory`] loads each once, and its [`CachePolicy`] says which stay in
//!   memory. Architectures: Whisper, Marian, VITS.
//! - *Threads*: everything is `Send + Sync`, and calls share weights without a lock. A call blocks until it is done; in
//!   async code run it on a thread for blocking work. Compute runs on one pool of the process (`DUBCORE_CPU_THREADS`).
//! - *Long work* takes a [`Job`]: cancel, deadline, progress.
//! - *Errors* are one type, [`Error`]: a [`kind`](ErrorKind) for programs, a message that says what to do, the cause.
//! - A host's own stage, a cloud voice say, is an implementation of one of the traits, handed to [`Dubber::new`].
//! - [`media`] lists the containers and codecs that are read; [`subtitle`] writes SRT and VTT.

// The examples of the README are tested with those of the reference.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct ReadmeDoctests;

#[cfg(doctest)]
#[doc = include_str!("../../docs/server.md")]
struct ServerDoctests;

mod audio;
mod backend;
mod backends;
#[doc(hidden)]
pub mod bench;
mod cache;
mod compute;
mod device;
mod error;
mod factory;
mod fit;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod key;
mod lang;
pub mod media;
mod mix;
mod nn;
mod part;
mod pipeline;
mod process;
mod resample;
mod runtime;
mod sentence;
mod source;
pub mod stage;
mod stretch;
pub mod subtitle;
mod sync;
mod team;
mod text;
mod vad;

pub use audio::{Audio, RATES, Span, resampled_len, samples_to_time, time_to_samples};
pub use cache::policy::{
    Admission, Both, CachePolicy, Decision, KeepAll, Lru, MemoryBudget, NoCache, PerStage, Resident, Snapshot, Ttl,
};
pub use cache::results::{ResultCache, ResultCacheOptions, ResultCacheStatus};
pub use compute::ComputeType;
pub use device::{Device, DeviceMemory, ProcessMemory};
pub use error::{Error, ErrorKind, Result};
pub use factory::{
    Batching, CallStatus, DiskHealth, Factory, FactoryBuilder, FactoryStatus, Health, HealthStatus, LoadMode, LoadOptions,
    LoadingStatus, ModelHealth, OwnModel, Preload, ResidentStatus, Security,
};
pub use fit::{FitOptions, Fitted};
pub use key::ModelKey;
pub use lang::Lang;
pub use mix::MixOptions;
pub use pipeline::{
    Benchmark, Dub, DubModels, DubRequest, Dubber, FailedLine, Line, Output, Pipeline, Placement, Run, ScriptLine, StageTimes,
    dub_file,
};
pub use runtime::{Job, Progress};
pub use source::{HubOptions, Installed, ModelRef};
pub use stage::{
    Fallback, FellBack, Metadata, Segment, Speech, StageInfo, Stt, SttOptions, Task, Transcript, TranslateOptions, Translation,
    Translator, Tts, TtsOptions, Word,
};
