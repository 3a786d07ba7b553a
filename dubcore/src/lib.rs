//! Speech in one language in, speech in another out.

mod audio;
mod device;
mod error;
mod fit;
mod lang;
mod mix;
mod runtime;
mod sentence;
pub mod stage;
mod stretch;
pub mod subtitle;
mod sync;
mod text;
mod vad;

pub use audio::{Audio, RATES, Span, resampled_len, samples_to_time, time_to_samples};
pub use device::Device;
pub use error::{Error, ErrorKind, Result};
pub use fit::{FitOptions, Fitted};
pub use lang::Lang;
pub use mix::MixOptions;
pub use runtime::{Job, Progress};
pub use stage::{
    Metadata, Segment, Speech, StageInfo, Stt, SttOptions, Task, Transcript, TranslateOptions, Translation, Translator, Tts,
    TtsOptions, Word,
};
