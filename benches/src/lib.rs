//! What the benchmarks and the tests that take long stand on: models of real size with random weights, a programme of
//! hours, and a meter for time and memory. `cargo xtask bench` runs the benchmarks.

pub mod cancel;
pub mod meter;
mod peak;
mod peer;
pub mod programme;
pub mod random;
pub mod serve;
pub mod suite;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use dubcore::{DubModels, Dubber, Factory, Job, Lang, ModelRef};

/// The build's target directory, by where this program lies in it.
pub fn target_dir() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let profile = program.ancestors().find(|dir| dir.ends_with("release") || dir.ends_with("debug"));
    let target = profile.and_then(Path::parent);
    Ok(target.with_context(|| format!("{} lies in no target directory", program.display()))?.to_path_buf())
}

/// A sample clip.
pub fn clip(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/media").join(name)
}

/// Three models that dub together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// The embedded ones.
    Micro,
    /// Those of real size.
    Real,
}

impl Set {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Micro => "micro",
            Self::Real => "real size",
        }
    }

    /// Recogniser, translator and voice. Those of real size are made if need be.
    pub fn models(self) -> Result<[ModelRef; 3]> {
        Ok(match self {
            Self::Micro => ["micro/stt-en".parse()?, "micro/mt-en-es".parse()?, "micro/tts-es".parse()?],
            Self::Real => {
                let [stt, translator, tts] = random::Shape::ALL.map(random::cached);
                [ModelRef::directory(stt?), ModelRef::directory(translator?), ModelRef::directory(tts?)]
            }
        })
    }

    /// A pipeline of them.
    pub fn dubber(self, factory: &Factory, job: &Job) -> Result<Dubber> {
        let [stt, translator, tts] = self.models()?;
        let models = DubModels::default().stt(stt).translator(translator).tts(tts);
        Ok(Dubber::from_factory(factory, &models, Some(Lang::EN), Lang::ES, job)?)
    }

    /// A request whose lines take as long as those of a trained model: random weights never end by themselves.
    pub fn request(self, input: impl Into<dubcore::media::Input>) -> dubcore::DubRequest {
        let request = dubcore::DubRequest::new(input, Lang::ES).from(Lang::EN);
        match self {
            Self::Micro => request,
            // What random weights write is never probable: tried again, it would be no better.
            Self::Real => request.stt(dubcore::SttOptions::default().max_tokens(REAL_TOKENS).fallback(dubcore::Fallback::none())),
        }
    }
}

/// Tokens that the recogniser of real size writes for a piece of speech.
const REAL_TOKENS: usize = 10;
