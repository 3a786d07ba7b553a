//! Options as C gives them: keys and values, all text. One table says of each key what it means and how it is read; the
//! header's text is made of the same table.

// By its path, because a test takes this file by its own.
#[path = "options/tables.rs"]
mod tables;

use std::fmt::Write;
use std::str::FromStr;
use std::time::Duration;

use engine::{Error, ErrorKind, Result};

#[allow(unused_imports, reason = "as above")]
pub(crate) use tables::{
    AUDIO_FILE, BENCHMARK, Chosen, Described, FACTORY, HEARD, HEARING, LOAD, MEDIA, MODELS, OWN, PRELOAD, REQUEST, SPEAKING,
    SPOKEN, Settings, TRANSLATION,
};

/// A key: what it means to people, and to `T`.
pub(crate) struct Row<T> {
    key: &'static str,
    /// What may be given, and what it is without being given.
    range: &'static str,
    about: &'static str,
    set: fn(&mut T, &str) -> std::result::Result<(), Wrong>,
}

/// The keys of something.
pub(crate) struct Keys<T: 'static>(&'static [Row<T>]);

/// Why a value is not taken: it is not of the range, or the engine says so.
pub(crate) enum Wrong {
    Range,
    Engine(Error),
}

impl From<Error> for Wrong {
    fn from(e: Error) -> Self {
        Self::Engine(e)
    }
}

type Read<T> = std::result::Result<T, Wrong>;

/// Keys, what they set, and what stands before each key.
pub(crate) struct Part<'a, T: 'static> {
    prefix: &'static str,
    keys: &'static Keys<T>,
    target: &'a mut T,
}

impl<T> Keys<T> {
    pub(crate) fn of<'a>(&'static self, target: &'a mut T) -> Part<'a, T> {
        self.behind("", target)
    }

    pub(crate) fn behind<'a>(&'static self, prefix: &'static str, target: &'a mut T) -> Part<'a, T> {
        Part { prefix, keys: self, target }
    }
}

/// A part, whatever it sets.
pub(crate) trait Set {
    /// Sets a key, if it is one of these; an error has what may be given.
    fn set(&mut self, key: &str, value: &str) -> Option<std::result::Result<(), (Wrong, &'static str)>>;
    fn names(&self) -> Vec<String>;
}

impl<T> Set for Part<'_, T> {
    fn set(&mut self, key: &str, value: &str) -> Option<std::result::Result<(), (Wrong, &'static str)>> {
        let key = key.strip_prefix(self.prefix)?;
        let row = self.keys.0.iter().find(|row| row.key == key)?;
        Some((row.set)(self.target, value).map_err(|e| (e, row.range)))
    }

    fn names(&self) -> Vec<String> {
        self.keys.0.iter().map(|row| format!("{}{}", self.prefix, row.key)).collect()
    }
}

/// Sets what `pairs` say; what they leave out stays as it is.
pub(crate) fn apply(pairs: &[(&str, &str)], argument: &str, parts: &mut [&mut dyn Set]) -> Result<()> {
    let wrong = |what: String| Error::new(ErrorKind::InvalidArgument, what);
    for (key, value) in pairs {
        match parts.iter_mut().find_map(|part| part.set(key, value)) {
            Some(Ok(())) => {}
            Some(Err((Wrong::Range, range))) => {
                return Err(wrong(format!("{argument}: {key} is {value:?}: it must be {range}")));
            }
            Some(Err((Wrong::Engine(e), _))) => {
                return Err(Error::new(e.kind(), format!("{argument}: {key} is {value:?}")).with_source(e));
            }
            None => {
                let known: Vec<_> = parts.iter().flat_map(|part| part.names()).collect();
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                return Err(wrong(format!("{argument}: there is no key {key:?}; there are: {known}")));
            }
        }
    }
    Ok(())
}

fn number<T: FromStr>(value: &str) -> Read<T> {
    value.trim().parse().map_err(|_| Wrong::Range)
}

fn flag(value: &str) -> Read<bool> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Wrong::Range),
    }
}

fn time(value: &str) -> Read<Duration> {
    Duration::try_from_secs_f64(number(value)?).map_err(|_| Wrong::Range)
}

/// A value, or "none".
fn maybe<T>(value: &str, read: impl Fn(&str) -> Read<T>) -> Read<Option<T>> {
    match value {
        "none" => Ok(None),
        value => read(value).map(Some),
    }
}

fn parsed<T: FromStr<Err = Error>>(value: &str) -> Read<T> {
    Ok(value.parse()?)
}

/// Values with commas between them; none in an empty text.
fn list<T>(value: &str, read: impl Fn(&str) -> Read<T>) -> Read<Vec<T>> {
    value.split(',').map(str::trim).filter(|part| !part.is_empty()).map(read).collect()
}

/// The manual of all keys, as it stands in the header.
pub(crate) fn manual() -> String {
    let mut out = String::from("/*\n * Options, by the functions that take them.\n");
    let mut part = |title: &str, rows: &[(&'static str, &'static str, &'static str)], prefix: &str| {
        let _ = write!(out, " *\n * {title}\n *\n");
        for (key, range, about) in rows {
            for (i, line) in wrapped(&format!("{about} Takes {range}."), 78).iter().enumerate() {
                let name = if i == 0 { format!("{prefix}{key}") } else { String::new() };
                let _ = writeln!(out, " *   {name:<28} {line}");
            }
        }
    };
    tables::manual(&mut part);
    out + " */\n"
}

impl<T> Keys<T> {
    fn rows(&self) -> Vec<(&'static str, &'static str, &'static str)> {
        self.0.iter().map(|row| (row.key, row.range, row.about)).collect()
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.len() - 1;
        if !lines[line].is_empty() && lines[line].chars().count() + 1 + word.chars().count() > width {
            lines.push(word.into());
        } else {
            let gap = if lines[line].is_empty() { "" } else { " " };
            lines[line] = format!("{}{gap}{word}", lines[line]);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::{DubRequest, Fallback, Lang, Output, SttOptions};

    #[test]
    fn a_key_that_is_given_twice_counts_as_given_the_last_time() {
        let settings = |pairs: &[(&str, &str)]| {
            let mut given = Settings::default();
            apply(pairs, "settings", &mut [&mut FACTORY.of(&mut given)]).unwrap();
            (given.no_results, given.results.map(|r| r.entries))
        };
        assert_eq!(settings(&[("results", "false"), ("results_entries", "1"), ("results_entries", "2")]), (true, Some(2)));
        assert!(!settings(&[("results", "false"), ("results", "true")]).0);
        let hearing = |pairs: &[(&str, &str)]| {
            let mut opts = SttOptions::default();
            apply(pairs, "options", &mut [&mut HEARING.of(&mut opts)]).unwrap();
            opts.fallback
        };
        assert_eq!(hearing(&[("retry", "true"), ("retry", "false")]), Fallback::none());
        assert_eq!(hearing(&[("retry", "false"), ("retry", "true")]), Fallback::default());
        assert_eq!(hearing(&[("temperatures", "0,1"), ("retry", "true")]).temperatures, [0.0, 1.0]);
        let output = |pairs: &[(&str, &str)]| {
            let mut request = DubRequest::new("a.wav", Lang::ES);
            apply(pairs, "options", &mut [&mut REQUEST.of(&mut request)]).unwrap();
            request.output
        };
        assert!(matches!(output(&[("keep", "true"), ("keep", "false")]), Output::Discard));
        assert!(matches!(output(&[("output", "b.wav"), ("keep", "false")]), Output::File(_)));
        assert!(matches!(output(&[("keep", "false"), ("keep", "true")]), Output::Memory));
    }
}
