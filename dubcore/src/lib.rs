//! Speech in one language in, speech in another out.

mod audio;
mod backend;
mod backends;
mod cache;
mod device;
mod error;
mod factory;
mod fit;
mod key;
mod lang;
pub mod media;
mod mix;
mod nn;
mod pipeline;
mod runtime;
mod sentence;
mod source;
pub mod stage;
mod stretch;
pub mod subtitle;
mod sync;
mod text;
mod vad;

pub use audio::{Audio, RATES, Span, resampled_len, samples_to_time, time_to_samples};
pub use cache::policy::{Admission, CachePolicy, Decision, KeepAll, Lru, MemoryBudget, Resident, Snapshot};
pub use device::Device;
pub use error::{Error, ErrorKind, Result};
pub use factory::{Factory, FactoryBuilder, FactoryStatus, LoadOptions, ResidentStatus};
pub use fit::{FitOptions, Fitted};
pub use key::ModelKey;
pub use lang::Lang;
pub use mix::MixOptions;
pub use pipeline::{
    Dub, DubModels, DubRequest, Dubber, FailedLine, Line, Output, Pipeline, Placement, Run, ScriptLine, StageTimes, dub_file,
};
pub use runtime::{Job, Progress};
pub use source::ModelRef;
pub use stage::{
    Metadata, Segment, Speech, StageInfo, Stt, SttOptions, Task, Transcript, TranslateOptions, Translation, Translator, Tts,
    TtsOptions, Word,
};
