//! Characters to tokens, as transformers' VitsTokenizer does it.

use std::collections::HashMap;

use serde::Deserialize;

use crate::error::Result;
use crate::source::ModelFiles;

/// tokenizer_config.json, with the reference's defaults.
#[derive(Deserialize)]
struct Settings {
    #[serde(default = "yes")]
    add_blank: bool,
    #[serde(default = "yes")]
    normalize: bool,
    #[serde(default = "yes")]
    phonemize: bool,
    #[serde(default)]
    is_uroman: bool,
    language: Option<String>,
    #[serde(default)]
    unk_token: Option<serde_json::Value>,
}

fn yes() -> bool {
    true
}

/// A voice's characters.
pub(super) struct Tokenizer {
    tokens: HashMap<char, u32>,
    /// Stands for characters that the voice lacks, where it does not leave them out.
    unknown: Option<u32>,
    settings: Settings,
}

/// A text as tokens.
pub(super) struct Tokens {
    pub(super) ids: Vec<u32>,
    /// Which character of the text a token stands for, by its index; `None` for a blank.
    pub(super) source: Vec<Option<usize>>,
}

/// The blank between characters: whatever token has number 0.
const BLANK: u32 = 0;

impl Tokenizer {
    /// Reads vocab.json and tokenizer_config.json; token numbers must be below `vocab_size`.
    pub(super) fn load(files: &ModelFiles, vocab_size: usize) -> Result<Self> {
        let settings: Settings = files.json("tokenizer_config.json")?;
        if settings.is_uroman {
            return Err(files.incompatible("needs romanised text (is_uroman), which this build does not make: choose a voice whose language is written in Latin letters"));
        }
        if settings.phonemize {
            return Err(files.incompatible(
                "needs phonemes (phonemize), which this build does not make: choose a voice that reads characters",
            ));
        }
        let vocab: HashMap<String, u32> = files.json("vocab.json")?;
        let unknown = settings.unk_token.as_ref().and_then(|t| t.as_str().or_else(|| t.get("content")?.as_str()));
        let unknown = vocab.get(unknown.unwrap_or("<unk>")).copied().filter(|id| (*id as usize) < vocab_size);
        let mut tokens = HashMap::new();
        // Longer entries are special tokens, which no text means literally.
        for (entry, id) in vocab {
            let mut chars = entry.chars();
            if let (Some(c), None) = (chars.next(), chars.next()) {
                if id as usize >= vocab_size {
                    let what = format!("gives {c:?} the number {id} where config.json says vocab_size {vocab_size}");
                    return Err(files.corrupt("vocab.json", &what));
                }
                tokens.insert(c, id);
            }
        }
        if tokens.is_empty() {
            return Err(files.corrupt("vocab.json", "has no characters"));
        }
        Ok(Self { tokens, unknown, settings })
    }

    /// The language that the voice's files name.
    pub(super) fn language(&self) -> Option<&str> {
        self.settings.language.as_deref()
    }

    /// Whether the voice can say `c`, be it as a small letter.
    pub(super) fn knows(&self, c: char) -> bool {
        let lower = || self.settings.normalize && c.to_lowercase().all(|c| self.tokens.contains_key(&c));
        self.tokens.contains_key(&c) || lower()
    }

    /// The tokens of `text`, with a blank before, between and after. A voice with normalisation gets small letters where it
    /// lacks a character as it is, nothing for characters that it lacks, and no space at the ends; another gets
    /// its unknown token for what it lacks.
    pub(super) fn encode(&self, text: &str) -> Tokens {
        let normalize = self.settings.normalize;
        let mut kept: Vec<(usize, char, u32)> = Vec::new();
        for (i, c) in text.chars().enumerate() {
            let lower = normalize && !self.tokens.contains_key(&c);
            let forms: Vec<char> = if lower { c.to_lowercase().collect() } else { vec![c] };
            for mut c in forms {
                if c == 'ț' && self.settings.language.as_deref() == Some("ron") {
                    // The Romanian voice was made of texts with the older letter.
                    c = 'ţ';
                }
                let unknown = self.unknown.filter(|_| !normalize);
                kept.extend(self.tokens.get(&c).copied().or(unknown).map(|id| (i, c, id)));
            }
        }
        let inner = |k: &(usize, char, u32)| !normalize || !k.1.is_whitespace();
        let range = match (kept.iter().position(inner), kept.iter().rposition(inner)) {
            (Some(from), Some(to)) => from..to + 1,
            _ => 0..0,
        };
        let mut out = Tokens { ids: Vec::new(), source: Vec::new() };
        let mut push = |id, source| {
            out.ids.push(id);
            out.source.push(source);
        };
        // A character that is itself the blank is set as it is; the reference cuts the text there, and each part gets
        // blanks at both of its ends.
        let mut open = false;
        for (i, _, id) in &kept[range] {
            if self.settings.add_blank && *id != BLANK && !open {
                push(BLANK, None);
            }
            push(*id, Some(*i));
            open = self.settings.add_blank && *id != BLANK;
            if open {
                push(BLANK, None);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokenizer(chars: &str, settings: &str) -> Tokenizer {
        let tokens = chars.chars().zip(0..).collect();
        Tokenizer { tokens, unknown: None, settings: serde_json::from_str(settings).unwrap() }
    }

    /// Against transformers 5.23 with the characters of facebook/mms-tts-eng, whose blank is "k".
    #[test]
    fn blanks_lie_where_the_reference_puts_them() {
        let chars = "k'zyuxwtsrqponmljihgfedcba- ";
        let t = tokenizer(chars, r#"{"phonemize": false}"#);
        let read = |text| t.encode(text).ids.iter().map(|id| chars.chars().nth(*id as usize).unwrap()).collect::<String>();
        for (text, want) in [
            ("like", "klkikkkek"),
            ("kick bookkeeper", "kkikckkk kbkokokkkkekekpkekrk"),
            ("Hello - my dog!", "khkeklklkok k-k kmkyk kdkokgk"),
            ("  a b  ", "kak kbk"),
            ("k", "k"),
            ("!!!", ""),
            ("É a", "kak"),
        ] {
            assert_eq!(read(text), want, "{text}");
        }
        let tokens = t.encode(" A b");
        assert_eq!(tokens.source, [None, Some(1), None, Some(2), None, Some(3), None]);
    }

    #[test]
    fn settings_are_followed() {
        let t = tokenizer("_ aăâ", r#"{"add_blank": false, "normalize": false}"#);
        assert_eq!(t.encode("A a\nâ ").ids, [1, 2, 4, 1]);
        let t = tokenizer("_ţ", r#"{"add_blank": false, "language": "ron"}"#);
        assert_eq!(t.encode("Ț").ids, [1]);
        assert!(t.knows('Ţ') && !t.knows('x'));
    }
}
