//! Languages: one type, parsed from any of the usual codes.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind};

/// A language, without region or script.
///
/// Parsed from BCP-47 (`es`, `es-MX`), ISO 639-1 (`es`), ISO 639-3 (`spa`) or the codes of the models
/// (Whisper's `jw`). Displayed as ISO 639-1 where one exists, else ISO 639-3.
///
/// ```
/// use dubcore::Lang;
/// let lang: Lang = "es-MX".parse()?;
/// assert_eq!(lang.to_string(), "es");
/// assert_eq!(lang.iso639_3(), "spa");
/// assert_eq!(lang.name(), "Spanish");
/// # Ok::<(), dubcore::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lang(isolang::Language);

impl Lang {
    /// English.
    pub const EN: Self = Self(isolang::Language::Eng);
    /// Spanish.
    pub const ES: Self = Self(isolang::Language::Spa);

    /// The three-letter code (`spa`), as Meta's MMS models use it.
    pub fn iso639_3(self) -> &'static str {
        self.0.to_639_3()
    }

    /// The shortest code: two letters where ISO 639-1 has them, else three.
    pub fn code(self) -> &'static str {
        self.0.to_639_1().unwrap_or_else(|| self.0.to_639_3())
    }

    /// The English name.
    pub fn name(self) -> &'static str {
        self.0.to_name()
    }
}

impl FromStr for Lang {
    type Err = Error;

    fn from_str(code: &str) -> Result<Self, Error> {
        let primary = code.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
        let found = match primary.as_str() {
            // Whisper kept the withdrawn code of Javanese.
            "jw" => Some(isolang::Language::Jav),
            p if p.len() == 2 => isolang::Language::from_639_1(p),
            p if p.len() == 3 => isolang::Language::from_639_3(p),
            _ => None,
        };
        found.map(Self).ok_or_else(|| {
            Error::new(
                ErrorKind::UnsupportedLanguage,
                format!("unknown language code {code:?}: use a BCP-47 or ISO 639 code such as \"en\", \"es-MX\" or \"spa\""),
            )
        })
    }
}

impl fmt::Display for Lang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Lang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl serde::Serialize for Lang {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.code())
    }
}

impl<'de> serde::Deserialize<'de> for Lang {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        for (code, want) in [("en", "en"), ("EN-us", "en"), ("spa", "es"), ("jw", "jv"), ("yue", "yue"), ("pt_BR", "pt")] {
            assert_eq!(code.parse::<Lang>().unwrap().code(), want, "{code}");
        }
        for code in ["", "xx", "english", "e", "zz-Latn", "é"] {
            assert_eq!(code.parse::<Lang>().unwrap_err().kind(), ErrorKind::UnsupportedLanguage, "{code}");
        }
    }
}
