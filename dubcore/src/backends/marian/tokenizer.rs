//! Marian's tokens: SentencePiece pieces numbered by vocab.json.

use std::collections::HashMap;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::lang::Lang;
use crate::nn::sentencepiece::SentencePiece;
use crate::source::ModelFiles;

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    source_lang: Option<String>,
    target_lang: Option<String>,
    #[serde(default)]
    separate_vocabs: bool,
}

/// The token that asks for each target language. Of several for one (`>>pt<<`, `>>pt_br<<`) it is the one with the shortest
/// name, then the first by the alphabet: a map's own order is another with each load.
fn prefixes(ids: &HashMap<String, u32>) -> HashMap<Lang, u32> {
    let code = |text: &str| text.strip_prefix(">>")?.strip_suffix("<<")?.parse::<Lang>().ok();
    let mut found: Vec<(&String, Lang, u32)> = ids.iter().filter_map(|(piece, id)| Some((piece, code(piece)?, *id))).collect();
    // What comes last into a map stays in it.
    found.sort_unstable_by(|a, b| (b.0.len(), b.0).cmp(&(a.0.len(), a.0)));
    found.into_iter().map(|(_, lang, id)| (lang, id)).collect()
}

/// The language that a configuration names; none where that is any. "mul" is a code of ISO 639, but no language: several.
fn named(lang: Option<String>) -> Vec<Lang> {
    lang.filter(|l| l != "mul").and_then(|l| l.parse().ok()).into_iter().collect()
}

pub(super) struct MarianTokenizer {
    source: SentencePiece,
    target: SentencePiece,
    ids: HashMap<String, u32>,
    pieces: HashMap<u32, String>,
    unknown: u32,
    end: u32,
    pub(super) from: Vec<Lang>,
    pub(super) to: Vec<Lang>,
    /// For models of several target languages: the token (`>>spa<<`) that asks for one.
    prefixes: HashMap<Lang, u32>,
}

impl MarianTokenizer {
    /// `source_vocab` and `target_vocab` are the sizes of the model's tables.
    pub(super) fn load(files: &ModelFiles, source_vocab: usize, target_vocab: usize) -> Result<Self> {
        let config: TokenizerConfig = files.find_json("tokenizer_config.json")?.unwrap_or_default();
        let ids: HashMap<String, u32> = files.json("vocab.json")?;
        let target: HashMap<String, u32> = if config.separate_vocabs { files.json("target_vocab.json")? } else { ids.clone() };
        let fits = |map: &HashMap<String, u32>, size| map.values().all(|id| (*id as usize) < size);
        if !fits(&ids, source_vocab) || !fits(&target, target_vocab) {
            return Err(files.corrupt("vocab.json", "numbers pieces beyond the model's vocabulary"));
        }
        let special = |name: &str| ids.get(name).copied().ok_or_else(|| files.corrupt("vocab.json", &format!("has no {name}")));
        let (unknown, end) = (special("<unk>")?, special("</s>")?);
        // Specials are no text. A map, because a list would be as long as config.json claims.
        let is_text = |piece: &str| !matches!(piece, "<unk>" | "</s>" | "<pad>" | "<s>");
        let pieces = target.into_iter().filter(|(piece, _)| is_text(piece)).map(|(piece, id)| (id, piece)).collect();
        let prefixes = prefixes(&ids);
        let mut to = named(config.target_lang);
        if !prefixes.is_empty() {
            to = prefixes.keys().copied().collect();
            to.sort_by_key(|l| l.code());
        }
        Ok(Self {
            source: SentencePiece::load(files, "source.spm")?,
            target: SentencePiece::load(files, "target.spm")?,
            ids,
            pieces,
            unknown,
            end,
            from: named(config.source_lang),
            to,
            prefixes,
        })
    }

    /// The tokens of a text, end token last.
    pub(super) fn encode(&self, text: &str, to: Lang) -> Result<Vec<u32>> {
        let pieces = self.source.encode(text)?;
        let prefix = self.prefixes.get(&to).copied();
        let ids = pieces.iter().map(|p| self.ids.get(p).copied().unwrap_or(self.unknown));
        Ok(prefix.into_iter().chain(ids).chain([self.end]).collect())
    }

    /// The text of tokens; specials are left out.
    pub(super) fn decode(&self, tokens: &[u32]) -> Result<String> {
        let piece = |t: &u32| self.pieces.get(t).map(String::as_str);
        let pieces: Vec<&str> = tokens.iter().filter_map(piece).filter(|p| !p.is_empty()).collect();
        Ok(self.target.decode(&pieces)?.replace('\u{2581}', " ").trim().to_string())
    }

    /// An error where a language is asked for that the model does not have.
    pub(super) fn check(&self, from: Lang, to: Lang, model: &str) -> Result<()> {
        let has = |known: &[Lang], lang| known.is_empty() || known.contains(&lang);
        if has(&self.from, from) && has(&self.to, to) {
            return Ok(());
        }
        let list = |langs: &[Lang]| langs.iter().map(|l| l.code()).collect::<Vec<_>>().join("|");
        Err(Error::new(
            crate::error::ErrorKind::UnsupportedLanguage,
            format!("model {model} does not translate {from} to {to}: it translates {} to {}", list(&self.from), list(&self.to)),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_tokens_for_a_language_it_is_always_the_same() {
        let names = [">>pt_br<<", ">>pt<<", ">>srp_Latn<<", ">>srp_Cyrl<<", ">>spa<<", ">>x<<", "word"];
        for _ in 0..20 {
            // Each map has an order of its own.
            let ids: HashMap<String, u32> = (0..).zip(names).map(|(id, name)| (name.to_owned(), id)).collect();
            let found = prefixes(&ids);
            let token = |code: &str| found[&code.parse::<Lang>().unwrap()];
            assert_eq!((found.len(), token("pt"), token("sr"), token("es")), (3, 1, 3, 4));
        }
    }

    #[test]
    fn several_languages_are_any() {
        let named = |code: &str| named(Some(code.to_owned()));
        assert_eq!(named("spa"), [Lang::ES]);
        assert!(named("mul").is_empty() && named("zle-x").is_empty());
    }
}
