//! What a [`ModelRef`] stands for in one factory: names with versions, and models that the host makes itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::backend::{Loaded, Stage};
use crate::error::{Error, ErrorKind, Result};
use crate::source::ModelRef;
use crate::stage::{Stt, Translator, Tts};

/// Names that every factory knows, unless its host gives them another meaning.
const KNOWN: [(&str, &str); 6] = [
    ("whisper:default", "openai/whisper-base"),
    ("whisper:v1", "openai/whisper-large"),
    ("whisper:v2", "openai/whisper-large-v2"),
    ("whisper:v3", "openai/whisper-large-v3"),
    ("translation:en-es", "Helsinki-NLP/opus-mt-en-es"),
    ("voice:es", "facebook/mms-tts-spa"),
];

/// A model that the host makes itself: see [`FactoryBuilder::own_model`](super::FactoryBuilder::own_model).
pub struct OwnModel {
    stage: Stage,
    bytes: u64,
}

impl OwnModel {
    /// A recogniser.
    pub fn stt(stage: Arc<dyn Stt>) -> Self {
        Self { stage: Stage::Stt(stage), bytes: 0 }
    }

    /// A translator.
    pub fn translator(stage: Arc<dyn Translator>) -> Self {
        Self { stage: Stage::Translator(stage), bytes: 0 }
    }

    /// A voice.
    pub fn tts(stage: Arc<dyn Tts>) -> Self {
        Self { stage: Stage::Tts(stage), bytes: 0 }
    }

    /// Says how many bytes it takes in memory, for policies. Default: 0.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }
}

pub(super) type Make = Arc<dyn Fn() -> Result<OwnModel> + Send + Sync>;

#[derive(Default)]
pub(super) struct Names {
    aliases: BTreeMap<String, ModelRef>,
    /// Read without a lock, for a child of `fork()` has them from its parent.
    own: ArcSwap<HashMap<ModelRef, Make>>,
}

impl Names {
    /// Gives `name` a meaning.
    pub(super) fn add(&mut self, name: &ModelRef, model: ModelRef) {
        self.aliases.insert(name.to_string(), model);
    }

    pub(super) fn own(&self, name: ModelRef, make: Make) {
        self.own.rcu(|own| {
            let mut own = HashMap::clone(own);
            own.insert(name.clone(), make.clone());
            own
        });
    }

    /// What `model` stands for; a name may stand for another one.
    pub(super) fn resolve(&self, model: &ModelRef) -> Result<ModelRef> {
        let mut model = model.clone();
        let mut steps = 0;
        while let Some(name) = model.alias().filter(|_| !self.own.load().contains_key(&model)).map(str::to_owned) {
            steps += 1;
            if steps > self.aliases.len() + KNOWN.len() {
                return Err(Error::argument(format!("the name {name} stands for itself: give it another meaning")));
            }
            model = match (self.aliases.get(&name), KNOWN.iter().find(|(known, _)| *known == name)) {
                (Some(model), _) => model.clone(),
                (None, Some((_, model))) => model.parse()?,
                (None, None) => return Err(self.unknown(&name)),
            };
        }
        Ok(model)
    }

    fn unknown(&self, name: &str) -> Error {
        let group = name.split(':').next().unwrap_or(name);
        let all = KNOWN.iter().map(|(known, _)| *known).chain(self.aliases.keys().map(String::as_str));
        let made = self.own.load();
        let own = made.keys().filter_map(ModelRef::alias);
        let mut known: Vec<&str> = all.chain(own).collect();
        known.sort_unstable();
        known.dedup();
        let near: Vec<&str> = known.iter().copied().filter(|k| k.split(':').next() == Some(group)).collect();
        let listed = if near.is_empty() { known } else { near };
        Error::new(ErrorKind::ModelNotFound, format!("no model goes by the name {name}: known are {}", listed.join(", ")))
    }

    /// The names that stand for `model`.
    pub(super) fn of(&self, model: &ModelRef) -> Vec<String> {
        let known = KNOWN.iter().map(|(name, _)| *name).chain(self.aliases.keys().map(String::as_str));
        let mut names: Vec<String> = known
            .filter(|name| name.parse().is_ok_and(|name| self.resolve(&name).is_ok_and(|m| m == *model)))
            .map(str::to_owned)
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The host's own way to make `model`, if it has one.
    pub(super) fn maker(&self, model: &ModelRef) -> Option<Make> {
        self.own.load().get(model).cloned()
    }
}

impl From<OwnModel> for Loaded {
    fn from(own: OwnModel) -> Self {
        Self::own(own.stage, own.bytes)
    }
}
