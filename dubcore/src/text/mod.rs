//! Text as a voice can say it. A voice knows the characters it was trained on; digits, symbols and foreign letters are
//! not among them, and a voice that meets them skips them or stumbles.

mod es;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::error::{Error, Result};
use crate::lang::Lang;

/// Rewrites `text` with the characters that are `known` to the voice, and spaces.
///
/// Numbers and symbols become words where there are rules for the language (Spanish). Capitals become small letters,
/// letters lose accents (`ç` is read as `c`), quotes and dashes become plain ones, or a comma, as far as the voice lacks
/// them. Emoji and other signs that nobody reads aloud are dropped.
///
/// # Errors
/// `InvalidArgument`, naming the character, for a digit or letter that cannot be expressed: dropping it would change what
/// is said.
pub(crate) fn spell_out(text: &str, lang: Lang, known: &dyn Fn(char) -> bool) -> Result<String> {
    let text = compose(text.trim());
    let text = if lang == Lang::ES { es::read(&text, known) } else { text };
    let mut out = Output { text: String::new(), known };
    for c in text.chars() {
        if !out.push(c) {
            return Err(Error::argument(format!(
                "the voice cannot say {c:?}, and there is no rule to read it in {}: write it as the voice's letters",
                lang.name()
            )));
        }
    }
    // A pause at the end is none.
    let said = out.text.strip_suffix(", ").unwrap_or(&out.text);
    Ok(said.trim().to_owned())
}

/// Composed letters and plain forms of compatibility characters, except of those that mean something by themselves: a
/// half would become 1, 2 and a stroke.
fn compose(text: &str) -> String {
    let mut out = String::new();
    for c in text.nfc() {
        match c {
            '½' | '¼' | '¾' | '⅐'..='⅞' | 'º' | 'ª' | '²' | '³' | '¹' | '⁰'..='⁹' | '\u{a0}' | '\u{2009}' | '\u{202f}' => {
                out.push(c)
            }
            '´' | '¨' | '¸' | '˜' => out.push('\''),
            _ => out.extend(std::iter::once(c).nfkc()),
        }
    }
    out
}

struct Output<'a> {
    text: String,
    known: &'a dyn Fn(char) -> bool,
}

impl Output<'_> {
    /// Says `c` in one of the ways there are. `false` if it has to be said and cannot.
    fn push(&mut self, c: char) -> bool {
        if c.is_whitespace() {
            self.space();
        } else if !self.plain(c) && !self.any_of(substitutes(c)) && !self.folded(c) {
            match c {
                '(' | ')' | '[' | ']' | '{' | '}' | '–' | '—' | '―' | '…' | ';' | ':' => self.pause(),
                // Joiners, marks and soft hyphens are part of what is around them.
                c if is_combining_mark(c) || is_invisible(c) => {}
                c if c.is_alphanumeric() => return false,
                c if is_quote(c) => {}
                _ => self.space(),
            }
        }
        true
    }

    fn space(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with(' ') {
            self.text.push(' ');
        }
    }

    /// A comma, if something was said before it and nothing else marks the place.
    fn pause(&mut self) {
        let said = self.text.trim_end().len();
        if (self.known)(',') && self.text[..said].ends_with(char::is_alphanumeric) {
            self.text.truncate(said);
            self.text.push(',');
        }
        self.space();
    }

    fn plain(&mut self, c: char) -> bool {
        if (self.known)(c) {
            self.mark(c);
            return true;
        }
        let small: String = c.to_lowercase().collect();
        self.any_of(&[&small])
    }

    fn mark(&mut self, c: char) {
        // A pause that a stop follows was none.
        if matches!(c, '.' | ',' | ';' | ':' | '?' | '!') && self.text.ends_with(", ") {
            self.text.truncate(self.text.len() - 2);
        }
        self.text.push(c);
    }

    /// Says the first alternative that the voice knows.
    fn any_of(&mut self, ways: &[&str]) -> bool {
        let way = ways.iter().find(|way| way.chars().all(|c| (self.known)(c)));
        way.inspect(|way| way.chars().for_each(|c| self.mark(c))).is_some()
    }

    /// The letter without its accents.
    fn folded(&mut self, c: char) -> bool {
        let base: String = c.to_lowercase().nfkd().filter(|c| !is_combining_mark(*c)).collect();
        base != c.to_string() && !base.is_empty() && (self.any_of(&[&base]) || substitutes_all(&base, self))
    }
}

fn substitutes_all(base: &str, out: &mut Output<'_>) -> bool {
    let mut letters = base.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) => out.any_of(substitutes(letter)),
        _ => false,
    }
}

/// Other ways to write a character, the best first.
fn substitutes(c: char) -> &'static [&'static str] {
    match c {
        '‘' | '’' | '‚' | '‛' | '`' | 'ʼ' | 'ʻ' | '′' => &["'"],
        '“' | '”' | '„' | '«' | '»' | '‹' | '›' | '″' => &["\""],
        '‐' | '‑' | '‒' | '−' => &["-"],
        '؟' => &["?"],
        '،' | '、' => &[","],
        '。' => &["."],
        'ß' | 'ẞ' => &["ss"],
        'æ' | 'Æ' => &["ae", "e"],
        'œ' | 'Œ' => &["oe", "e"],
        'ø' | 'Ø' => &["o"],
        'ł' | 'Ł' => &["l"],
        'đ' | 'Đ' | 'ð' | 'Ð' => &["d"],
        'þ' | 'Þ' => &["th"],
        'ħ' | 'Ħ' => &["h"],
        'ŋ' | 'Ŋ' => &["ng"],
        'ı' => &["i"],
        'ə' | 'Ə' => &["e"],
        _ => &[],
    }
}

fn is_quote(c: char) -> bool {
    matches!(c, '\'' | '"' | '`' | '‘'..='‟' | '«' | '»' | '‹' | '›' | '′' | '″' | 'ʼ' | 'ʻ')
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    const LATIN: &str = "abcdefghijklmnopqrstuvwxyz.,?!'-";

    fn plain(text: &str) -> String {
        spell_out(text, "en".parse().unwrap(), &|c| LATIN.contains(c)).unwrap()
    }

    #[test]
    fn letters_and_marks_are_folded() {
        for (text, want) in [
            ("Hello, World!", "hello, world!"),
            ("  two \n\t lines ", "two lines"),
            ("façade naïve Zoë", "facade naive zoe"),
            ("e\u{301}te\u{301}", "ete"),
            ("Straße Łódź Ærø smørrebrød", "strasse lodz aero smorrebrod"),
            ("ﬁne ｗｉｄｅ ǅ", "fine wide dz"),
            ("it’s “fine” ‘so’", "it's fine 'so'"),
            ("“Go.” «Now»", "go. now"),
            ("one — two – three", "one, two, three"),
            ("— Hello", "hello"),
            ("well (or so) it is.", "well, or so, it is."),
            ("the end (almost).", "the end, almost."),
            ("wait… what", "wait... what"),
            ("first: second; third", "first, second, third"),
            ("co\u{ad}operate zero\u{200b}width", "cooperate zerowidth"),
            ("hi😀there 👩‍👩‍👧 ok", "hi there ok"),
            ("non‑breaking −x", "non-breaking -x"),
            ("a\u{a0}b\u{202f}c", "a b c"),
            ("™ Ⅷ", "tm viii"),
            ("", ""),
            ("😀", ""),
        ] {
            assert_eq!(plain(text), want, "{text:?}");
        }
    }

    #[test]
    fn what_is_known_stays() {
        let all = "Ça coûte 5 € (environ) – «tout» ½!";
        assert_eq!(spell_out(all, Lang::EN, &|_| true).unwrap(), all);
        assert_eq!(spell_out("Año 2026: 5 %", Lang::ES, &|_| true).unwrap(), "Año 2026: 5 %");
    }

    #[test]
    fn what_must_be_said_and_cannot_is_an_error() {
        for (text, lang, name) in [("room 5", "en", "'5'"), ("½ cup", "de", "'½'"), ("Привет", "en", "'П'"), ("字", "es", "'字'")]
        {
            let e = spell_out(text, lang.parse().unwrap(), &|c| LATIN.contains(c)).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument);
            assert!(e.to_string().contains(name), "{e}");
        }
    }
}
