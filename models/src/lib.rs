//! The micro pack: small models, trained by the project, embedded in the binary so that it works wherever it is moved.

/// A model in Hugging Face layout.
#[derive(Debug)]
pub struct Model {
    /// Its name behind `micro/`.
    pub name: &'static str,
    /// What it does.
    pub stage: Stage,
    /// File names and contents.
    pub files: &'static [(&'static str, &'static [u8])],
}

/// What a model does, with its languages as ISO 639-1 codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Writes speech down.
    Stt {
        /// The language spoken.
        from: &'static str,
    },
    /// Translates.
    Translator {
        /// From this language
        from: &'static str,
        /// to that one.
        to: &'static str,
    },
    /// Speaks.
    Tts {
        /// The language it speaks.
        to: &'static str,
    },
}

macro_rules! model {
    ($name:literal, $stage:expr, $($file:literal),* $(,)?) => {
        Model {
            name: $name,
            stage: $stage,
            files: &[$(($file, include_bytes!(concat!("../micro/", $name, "/", $file)))),*],
        }
    };
}

/// Every model of the pack.
pub const ALL: &[Model] = &[
    model!(
        "stt-en",
        Stage::Stt { from: "en" },
        "config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "model.safetensors",
    ),
    model!(
        "mt-en-es",
        Stage::Translator { from: "en", to: "es" },
        "config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "source.spm",
        "target.spm",
        "vocab.json",
        "model.safetensors",
    ),
    model!("tts-es", Stage::Tts { to: "es" }, "config.json", "tokenizer_config.json", "vocab.json", "model.safetensors"),
];

/// The model of that name.
pub fn find(name: &str) -> Option<&'static Model> {
    ALL.iter().find(|m| m.name == name)
}
