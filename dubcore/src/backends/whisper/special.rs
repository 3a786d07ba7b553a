//! The tokens that steer Whisper's decoder, and what their probabilities tell.

use std::collections::BTreeMap;

use super::text::TextDecoder;
use super::{Config, Generation};
use crate::error::{Error, Result};
use crate::lang::Lang;
use crate::source::ModelFiles;
use crate::stage::{SttOptions, Task};

/// The tokens that steer the decoder.
pub(super) struct Special {
    pub(super) start: u32,
    pub(super) end: u32,
    /// A model for English alone has no token for it: `u32::MAX` stands there.
    pub(super) languages: Vec<(Lang, u32)>,
    pub(super) tasks: BTreeMap<String, u32>,
    pub(super) no_timestamps: Option<u32>,
    pub(super) no_speech: Option<u32>,
    pub(super) suppress: Vec<u32>,
    pub(super) begin_suppress: Vec<u32>,
    pub(super) max_initial_timestamp: Option<u32>,
}

/// The smallest vocabulary of a published model for several languages. Those for English alone have one less, although their
/// tokenizers know the same languages.
const MULTILINGUAL: usize = 51_865;

/// Languages and tasks from the tokenizer, where generation_config.json is missing or older than its lists of them.
fn complete(generation: &mut Generation, vocab_size: usize, text: &TextDecoder) {
    let silent = generation.lang_to_id.is_empty() && generation.is_multilingual != Some(false);
    if !silent || vocab_size < MULTILINGUAL {
        return;
    }
    generation.lang_to_id = text.languages();
    if generation.task_to_id.is_empty() {
        let task = |name: &str| Some((name.to_owned(), text.id(&format!("<|{name}|>"))?));
        generation.task_to_id = ["transcribe", "translate"].into_iter().filter_map(task).collect();
    }
}

/// What the decoder makes of a window before any word.
#[derive(Clone, Debug)]
pub(super) struct Signs {
    /// The probability that nobody speaks, where the model has a token for it.
    pub(super) no_speech: Option<f64>,
    /// The probability of each of the model's languages, among themselves.
    pub(super) languages: Vec<f64>,
}

impl Special {
    pub(super) fn read(config: &Config, mut generation: Generation, text: &TextDecoder, files: &ModelFiles) -> Result<Self> {
        complete(&mut generation, config.vocab_size, text);
        let inside = |id: &u32| (*id as usize) < config.vocab_size;
        // Negative ids are how some configurations write "none".
        let ids = |list: Option<Vec<i64>>| list.unwrap_or_default().into_iter().filter_map(|t| u32::try_from(t).ok()).collect();
        let mut languages = Vec::new();
        for (token, id) in &generation.lang_to_id {
            let code = token.trim_start_matches("<|").trim_end_matches("|>");
            // Whisper counts a few languages that have no code of their own any more; they cannot be asked for.
            if let Ok(lang) = code.parse::<Lang>() {
                languages.push((lang, *id));
            }
        }
        if languages.is_empty() {
            languages.push((Lang::EN, u32::MAX));
        }
        let special = Self {
            start: config.decoder_start_token_id,
            end: config.eos_token_id,
            no_timestamps: generation.no_timestamps_token_id.or_else(|| text.id("<|notimestamps|>")),
            // The name in checkpoints before 2023.
            no_speech: text.id("<|nospeech|>").or_else(|| text.id("<|nocaptions|>")),
            tasks: generation.task_to_id,
            suppress: ids(generation.suppress_tokens),
            begin_suppress: ids(generation.begin_suppress_tokens),
            max_initial_timestamp: generation.max_initial_timestamp_index,
            languages,
        };
        let named = special.languages.iter().map(|l| l.1).filter(|id| *id != u32::MAX).chain(special.tasks.values().copied());
        if ![special.start, special.end].into_iter().chain(special.no_timestamps).chain(named).all(|id| inside(&id)) {
            return Err(files.corrupt("generation_config.json", "names tokens outside the vocabulary"));
        }
        Ok(special)
    }

    /// Whether language tokens exist: models for English alone have none.
    fn multilingual(&self) -> bool {
        self.languages.iter().any(|l| l.1 != u32::MAX)
    }

    pub(super) fn prompt(&self, language: u32, opts: &SttOptions) -> Result<Vec<u32>> {
        let mut prompt = vec![self.start];
        if self.multilingual() {
            prompt.push(language);
            let task = if opts.task == Task::Translate { "translate" } else { "transcribe" };
            match self.tasks.get(task) {
                Some(id) => prompt.push(*id),
                None if opts.task == Task::Translate => return Err(Error::argument("this model has no task \"translate\"")),
                None => {}
            }
        } else if opts.task == Task::Translate {
            return Err(Error::argument("this model hears English alone: it has no task \"translate\""));
        }
        match (opts.timestamps, self.no_timestamps) {
            (false, Some(id)) => prompt.push(id),
            (true, None) => return Err(Error::argument("this model has no timestamps")),
            _ => {}
        }
        Ok(prompt)
    }

    /// Reads the logits behind the start token.
    pub(super) fn signs(&self, logits: &[f32]) -> Signs {
        let weight = |id: u32| logits.get(id as usize).map_or(f64::NEG_INFINITY, |l| f64::from(*l));
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let all: f64 = logits.iter().map(|l| f64::from(l - max).exp()).sum();
        let languages: Vec<f64> = self.languages.iter().map(|l| weight(l.1)).collect();
        let most = languages.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = languages.iter().map(|l| (l - most).exp()).sum();
        Signs {
            no_speech: self.no_speech.map(|id| (weight(id) - f64::from(max)).exp() / all),
            // A model for English alone has none to compare.
            languages: languages.iter().map(|l| if most.is_finite() { (l - most).exp() / sum } else { 1.0 }).collect(),
        }
    }

    /// The language that is the most probable over all windows, each counting by the length of its sound, and its probability:
    /// 0 where there is no sound.
    pub(super) fn common_language(&self, signs: &[Signs], sounds: &[&[f32]]) -> Result<(u32, f64)> {
        let none = || Error::internal("the model has no language");
        let total: f64 = sounds.iter().map(|s| s.len() as f64).sum();
        // Shares of nothing are no numbers.
        if total == 0.0 {
            return self.usual().map(|l| (l.1, 0.0)).ok_or_else(none);
        }
        let shared =
            |i: usize| signs.iter().zip(sounds).map(|(s, sound)| s.languages[i] * sound.len() as f64).sum::<f64>() / total;
        let all = self.languages.iter().enumerate().map(|(i, l)| (l.1, shared(i)));
        all.max_by(|a, b| a.1.total_cmp(&b.1)).ok_or_else(none)
    }

    /// The language of a token; where nothing was heard, a language of the model.
    pub(super) fn language(&self, token: Option<u32>) -> Lang {
        let found = self.languages.iter().find(|l| Some(l.1) == token).or_else(|| self.usual());
        found.map_or(Lang::EN, |l| l.0)
    }

    /// The language to go by where no sound tells it: English, if the model has it.
    fn usual(&self) -> Option<&(Lang, u32)> {
        self.languages.iter().find(|l| l.0 == Lang::EN).or(self.languages.first())
    }
}
