//! Spanish: numbers, units, money, dates and symbols in words.
//!
//! Where writing is ambiguous:
//! - A comma is the decimal sign (`1,234` is one and a fraction); a point before exactly three digits groups thousands
//!   (`1.234`), before others it is the decimal sign (`3.5`). Two signs decide each other: `1,234.50`, `1.234,50`.
//! - `10:30` is a time, `16:9` a ratio. `3-1` and `5–7` are "a" to "b"; `91-555-12-34` is read group by group.
//! - `$` is dólar. `°` is grado, `º` an ordinal.
//! - A number before a plural that ends in -as (but días, problemas ...) is feminine: doscientas personas.
//! - A leading zero, or more than 18 digits, makes a code: digit by digit.

mod numbers;
#[cfg(test)]
mod tests;
mod words;

use numbers::{Form, cardinal, digits, fraction, ordinal, part};
use words::{Currency, Unit, currency, letter_name, symbol, unit, vulgar};

/// Replaces what the voice does not know by words.
pub(super) fn read(text: &str, known: &dyn Fn(char) -> bool) -> String {
    let chars: Vec<char> = text.chars().collect();
    let numbers = !('0'..='9').all(known);
    let mut reader = Reader { chars: &chars, at: 0, out: String::new(), spoke: false };
    while let Some(c) = reader.peek(0) {
        if !(numbers && reader.number()) && (known(c) && !reader.is_address_point() || !reader.symbol()) {
            reader.copy();
        }
    }
    reader.out
}

/// In characters. What is longer is not looked through at each of its points.
const LONGEST_ADDRESS: usize = 500;

struct Reader<'a> {
    chars: &'a [char],
    at: usize,
    out: String,
    /// The last thing written was a word of ours: what follows must not cling to it.
    spoke: bool,
}

/// A number as it was written.
struct Literal {
    /// Runs of digits, and how they are to be read.
    value: Value,
    /// The index behind it.
    end: usize,
}

enum Value {
    Whole(u64),
    /// A code: digit by digit.
    Code(String),
    Decimal(u64, String),
    /// Neither: versions, addresses, lists. The runs, with what is said between them.
    Runs(Vec<String>, &'static str),
}

impl Value {
    fn of_run(run: &str) -> Self {
        match run.parse() {
            Ok(n) if run.len() <= 18 && (run.len() == 1 || !run.starts_with('0')) => Self::Whole(n),
            _ => Self::Code(run.to_owned()),
        }
    }

    fn say(&self, form: Form) -> String {
        match self {
            Self::Whole(n) => cardinal(*n, form),
            Self::Code(run) => digits(run),
            Self::Decimal(whole, rest) => format!("{} coma {}", cardinal(*whole, Form::Alone), fraction(rest)),
            Self::Runs(runs, between) => {
                runs.iter().map(|run| Self::of_run(run).say(Form::Alone)).collect::<Vec<_>>().join(between)
            }
        }
    }

    fn is_one(&self) -> bool {
        matches!(self, Self::Whole(1))
    }

    /// "un millón de euros", but "un millón mil euros".
    fn wants_de(&self) -> bool {
        matches!(self, Self::Whole(n) if *n > 0 && n.is_multiple_of(1_000_000))
    }
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn get(&self, i: usize) -> Option<char> {
        self.chars.get(i).copied()
    }

    fn before(&self) -> Option<char> {
        self.at.checked_sub(1).and_then(|i| self.get(i))
    }

    fn is_digit(&self, i: usize) -> bool {
        self.get(i).is_some_and(|c| c.is_ascii_digit())
    }

    fn is_alphanumeric(&self, i: usize) -> bool {
        self.get(i).is_some_and(char::is_alphanumeric)
    }

    fn copy(&mut self) {
        if let Some(c) = self.peek(0) {
            if std::mem::take(&mut self.spoke) && c.is_alphanumeric() {
                self.out.push(' ');
            }
            self.out.push(c);
            self.at += 1;
        }
    }

    /// Writes words of ours, apart from what is around them, and goes on at `next`.
    fn say(&mut self, words: &str, next: usize) {
        if self.spoke || self.out.ends_with(char::is_alphanumeric) || self.out.ends_with([',', '.', ';', ':', '%', ')', '!', '?'])
        {
            self.out.push(' ');
        }
        self.out.push_str(words);
        (self.spoke, self.at) = (true, next);
    }

    fn symbol(&mut self) -> bool {
        let Some(c) = self.peek(0) else { return false };
        let exponent: String = self.chars[self.at..].iter().map_while(|c| words::superscript(*c)).collect();
        let between_letters = self.before().is_some_and(char::is_alphabetic) && self.is_alphanumeric(self.at + 1);
        let words = match c {
            _ if self.is_address_point() => "punto",
            '²' if exponent.len() == 1 => "al cuadrado",
            '³' if exponent.len() == 1 => "al cubo",
            _ if !exponent.is_empty() => {
                let words = format!("elevado a {}", Value::of_run(&exponent).say(Form::Alone));
                self.say(&words, self.at + exponent.len());
                return true;
            }
            'º' | 'ª' => return self.abbreviated_ordinal(c),
            '/' if between_letters && (self.before() == Some('y') || self.peek(1) == Some('o')) => "",
            '#' if self.is_digit(self.at + 1) => "número",
            _ => match symbol(c).or_else(|| letter_name(c)) {
                Some(words) => words,
                None => return false,
            },
        };
        if words.is_empty() {
            self.out.push(' ');
            self.at += 1;
        } else {
            self.say(words, self.at + 1);
        }
        true
    }

    /// The º of n.º, or one without a number.
    fn abbreviated_ordinal(&mut self, c: char) -> bool {
        let stem = ["n.", "N.", "n", "N"].into_iter().find(|stem| self.out.ends_with(stem));
        let apart = |stem: &str| !self.out[..self.out.len() - stem.len()].ends_with(char::is_alphanumeric);
        match stem {
            Some(stem) if c == 'º' && apart(stem) => {
                self.out.truncate(self.out.len() - stem.len());
                self.say("número", self.at + 1);
            }
            _ => {
                self.out.push(if c == 'º' { 'o' } else { 'a' });
                self.at += 1;
            }
        }
        true
    }

    /// Whether this is a point inside a mail or web address.
    fn is_address_point(&self) -> bool {
        let between = self.before().is_some_and(char::is_alphanumeric) && self.is_alphanumeric(self.at + 1);
        self.peek(0) == Some('.') && between && {
            let near = self.at.saturating_sub(LONGEST_ADDRESS);
            let from = self.chars[near..self.at].iter().rposition(|c| c.is_whitespace()).map_or(near, |space| near + space + 1);
            let word: String = self.chars[from..].iter().take(LONGEST_ADDRESS).take_while(|c| !c.is_whitespace()).collect();
            word.contains('@') || word.starts_with("www.") || word.starts_with("http")
        }
    }

    /// Reads a number and what belongs to it, if one begins here.
    fn number(&mut self) -> bool {
        let mut i = self.at;
        let apart = self.before().is_none_or(|c| !c.is_alphanumeric());
        let negative = apart && matches!(self.get(i), Some('-' | '−')) && self.before() != Some('-');
        i += usize::from(negative);
        let money = self.get(i).and_then(currency);
        if money.is_some() {
            i += 1;
            i += usize::from(self.get(i).is_some_and(char::is_whitespace) && self.is_digit(i + 1));
        }
        if let Some(words) = self.vulgar(i).filter(|_| money.is_none()) {
            self.say(&if negative { format!("menos {words}") } else { words.to_owned() }, i + 1);
            return true;
        }
        let Some(literal) = self.literal(i) else { return false };
        if negative {
            self.say("menos", i);
        }
        match money {
            Some(money) => self.money(&literal, money, literal.end),
            None => self.plain_number(i, literal),
        }
        true
    }

    /// Digits with their points and commas.
    fn literal(&self, mut i: usize) -> Option<Literal> {
        let (mut runs, mut signs, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        while self.is_digit(i) {
            let run: String = self.chars[i..].iter().take_while(|c| c.is_ascii_digit()).collect();
            i += run.len();
            runs.push(run);
            ends.push(i);
            match self.get(i) {
                Some(c @ ('.' | ',')) if self.is_digit(i + 1) => signs.push(c),
                Some('\u{a0}' | '\u{2009}' | '\u{202f}') if (1..4).all(|n| self.is_digit(i + n)) && !self.is_digit(i + 4) => {
                    signs.push(' ');
                }
                _ => break,
            }
            i += 1;
        }
        let end = *ends.last()?;
        let grouped = |runs: &[String]| {
            runs.len() > 1
                && (1..=3).contains(&runs[0].len())
                && !runs[0].starts_with('0')
                && runs[1..].iter().all(|r| r.len() == 3)
        };
        let same = |signs: &[char]| signs.windows(2).all(|w| w[0] == w[1]);
        let (last, front) = (signs.last().copied(), signs.len().saturating_sub(1));
        let decimal = |whole: &[String], rest: &String| match Value::of_run(&whole.concat()) {
            Value::Whole(n) => Value::Decimal(n, rest.clone()),
            other => Value::Runs(vec![other.say(Form::Alone), rest.clone()], " coma "),
        };
        let value = match last {
            None => Value::of_run(&runs[0]),
            Some('.' | ' ') if same(&signs) && grouped(&runs) => Value::of_run(&runs.concat()),
            Some(',') if same(&signs) && grouped(&runs) && runs.len() > 2 => Value::of_run(&runs.concat()),
            Some('.' | ',') if runs.len() == 2 && (runs[0].len() == 1 || !runs[0].starts_with('0')) => {
                decimal(&runs[..1], &runs[1])
            }
            Some(sign @ ('.' | ',')) if front > 0 && same(&signs[..front]) && signs[0] != sign && grouped(&runs[..=front]) => {
                decimal(&runs[..=front], &runs[front + 1])
            }
            Some('.') if same(&signs) => Value::Runs(runs, " punto "),
            Some(_) => Value::Runs(runs, ", "),
        };
        Some(Literal { value, end })
    }

    fn plain_number(&mut self, from: usize, literal: Literal) {
        let single = self.chars[from..literal.end].iter().all(char::is_ascii_digit);
        let special = single && (self.date(from) || self.time(&literal) || self.groups(from) || self.slash(&literal));
        if special || self.ordinal(&literal) {
            return;
        }
        if let Value::Whole(n) = literal.value
            && let Some(words) = self.vulgar(literal.end)
        {
            return self.say(&format!("{} y {words}", cardinal(n, Form::Alone)), literal.end + 1);
        }
        // A range: the second number brings what is counted.
        if matches!(self.get(literal.end), Some('-' | '–')) && self.is_digit(literal.end + 1) {
            self.say(&literal.value.say(Form::Alone), literal.end + 1);
            return self.say("a", self.at);
        }
        let space = usize::from(self.get(literal.end).is_some_and(char::is_whitespace));
        let behind = literal.end + space;
        if let Some('%' | '‰') = self.get(behind) {
            let of = if self.get(behind) == Some('%') { "por ciento" } else { "por mil" };
            return self.say(&format!("{} {of}", literal.value.say(Form::Alone)), behind + 1);
        }
        if let Some(money) = self.get(behind).and_then(currency).filter(|_| !self.is_digit(behind + 1)) {
            return self.money(&literal, money, behind + 1);
        }
        match unit(&self.chars[behind.min(self.chars.len())..]) {
            Some((unit, length)) => self.measure(&literal, unit, behind + length),
            None => {
                let form = self.form_for_noun(&literal);
                self.say(&literal.value.say(form), literal.end);
            }
        }
    }

    fn measure(&mut self, literal: &Literal, unit: &Unit, end: usize) {
        let form = if unit.feminine { Form::Feminine } else { Form::Masculine };
        let de = if literal.value.wants_de() { "de " } else { "" };
        let name = if literal.value.is_one() { unit.one } else { unit.many };
        self.say(&format!("{} {de}{name}", literal.value.say(form)), end);
    }

    fn money(&mut self, literal: &Literal, money: &Currency, end: usize) {
        let form = if money.feminine { Form::Feminine } else { Form::Masculine };
        if let Some(words) = self.big_money(literal, money, end) {
            return self.say(&words.0, words.1);
        }
        let words = match &literal.value {
            Value::Decimal(whole, rest) if rest.len() <= 2 => {
                let cents = rest.parse::<u64>().unwrap_or(0) * if rest.len() == 1 { 10 } else { 1 };
                let name = if *whole == 1 { money.one } else { money.many };
                let cent = if cents == 1 { money.cent } else { money.cents };
                match cents {
                    0 => format!("{} {name}", cardinal(*whole, form)),
                    _ => format!("{} {name} con {} {cent}", cardinal(*whole, form), cardinal(cents, Form::Masculine)),
                }
            }
            value => {
                let de = if value.wants_de() { "de " } else { "" };
                format!("{} {de}{}", value.say(form), if value.is_one() { money.one } else { money.many })
            }
        };
        self.say(&words, end);
    }

    /// "$5 millones": the currency goes behind the millions.
    fn big_money(&self, literal: &Literal, money: &Currency, end: usize) -> Option<(String, usize)> {
        let rest: String = self.chars.get(end..)?.iter().take(12).collect();
        let word = rest.trim_start().split(|c: char| !c.is_alphabetic()).next()?;
        let de = match word {
            "millón" | "millones" | "billón" | "billones" => "de ",
            "mil" => "",
            _ => return None,
        };
        let space = rest.chars().take_while(|c| c.is_whitespace()).count();
        let words = format!("{} {word} {de}{}", literal.value.say(Form::Masculine), money.many);
        Some((words, end + space + word.chars().count()))
    }

    /// `10:30`, `7:05:20`; `16:9` is a ratio.
    fn time(&mut self, literal: &Literal) -> bool {
        let two = |i: usize| -> Option<u64> {
            let digits = self.is_digit(i) && self.is_digit(i + 1) && !self.is_digit(i + 2);
            if digits { self.chars[i..i + 2].iter().collect::<String>().parse().ok().filter(|n| *n < 60) } else { None }
        };
        if self.get(literal.end) != Some(':') || !self.is_digit(literal.end + 1) {
            return false;
        }
        let hour = match &literal.value {
            Value::Whole(n) => Some(*n),
            Value::Code(run) if run.len() == 2 => run.parse().ok(),
            _ => None,
        };
        let Some((hour, minute)) = hour.filter(|h| *h <= 24).zip(two(literal.end + 1)) else {
            self.say(&literal.value.say(Form::Alone), literal.end + 1);
            self.say("a", self.at);
            return true;
        };
        let mut words = cardinal(hour, Form::Feminine);
        let mut end = literal.end + 3;
        if minute > 0 {
            words += &format!(" y {}", cardinal(minute, Form::Alone));
        }
        if let Some(second) = two(end + 1).filter(|_| self.get(end) == Some(':')) {
            words += &format!(" y {} {}", cardinal(second, Form::Masculine), if second == 1 { "segundo" } else { "segundos" });
            end += 3;
        }
        let space = usize::from(self.get(end).is_some_and(char::is_whitespace));
        if let Some((unit, length)) = unit(&self.chars[(end + space).min(self.chars.len())..])
            && unit.one == "hora"
        {
            words += " horas";
            end += space + length;
        }
        self.say(&words, end);
        true
    }

    /// The runs of digits from `from` on, joined by `sign`, and the index behind them. `most` are looked at: a text that goes on
    /// like that is looked at anew from each of its numbers.
    fn runs(&self, from: usize, sign: char, most: usize) -> (Vec<String>, usize) {
        let (mut runs, mut i) = (Vec::new(), from);
        loop {
            let run: String = self.chars[i..].iter().take_while(|c| c.is_ascii_digit()).collect();
            i += run.len();
            runs.push(run);
            if runs.len() == most || self.get(i) != Some(sign) || !self.is_digit(i + 1) {
                return (runs, i);
            }
            i += 1;
        }
    }

    /// `21/11/2026`, `2026-11-21`.
    fn date(&mut self, from: usize) -> bool {
        for sign in ['/', '-'] {
            let (runs, end) = self.runs(from, sign, 4);
            let [a, b, c] = &runs[..] else { continue };
            let (day, year) = if a.len() == 4 { (c, a) } else { (a, c) };
            let number = |run: &String| run.parse::<u64>().unwrap_or(0);
            let month = number(b).checked_sub(1).and_then(|m| words::MONTHS.get(m as usize));
            let right = day.len() <= 2
                && b.len() <= 2
                && (1..=31).contains(&number(day))
                && (year.len() == 4 || sign == '/' && year.len() == 2);
            if let Some(month) = month.filter(|_| right) {
                let year = Value::Whole(number(year)).say(Form::Alone);
                self.say(&format!("{} de {month} de {year}", cardinal(number(day), Form::Alone)), end);
                return true;
            }
        }
        false
    }

    /// Three and more numbers joined by hyphens: a telephone number, or the like.
    fn groups(&mut self, from: usize) -> bool {
        let (runs, end) = self.runs(from, '-', usize::MAX);
        if runs.len() > 2 {
            self.say(&Value::Runs(runs, ", ").say(Form::Alone), end);
            return true;
        }
        false
    }

    /// `3/4` is three quarters, `24/7` has no parts.
    fn slash(&mut self, literal: &Literal) -> bool {
        let Value::Whole(n) = literal.value else { return false };
        if self.get(literal.end) != Some('/') || !self.is_digit(literal.end + 1) {
            return false;
        }
        let (runs, end) = self.runs(literal.end + 1, '/', 2);
        let denominator = runs[0].parse::<u64>().unwrap_or(0);
        if let Some(name) = part(denominator).filter(|_| runs.len() == 1 && n < denominator && n > 0) {
            let plural = if n == 1 { "" } else { "s" };
            self.say(&format!("{} {name}{plural}", cardinal(n, Form::Masculine)), end);
        } else {
            self.say(&cardinal(n, Form::Alone), literal.end + 1);
            self.say("barra", self.at);
        }
        true
    }

    /// `1.º`, `2ª`, `3er`, `4to`, `5.as`.
    fn ordinal(&mut self, literal: &Literal) -> bool {
        let Value::Whole(n) = literal.value else { return false };
        let point = usize::from(self.get(literal.end) == Some('.'));
        let rest = &self.chars[literal.end + point..];
        let length = rest.iter().take_while(|c| c.is_alphanumeric()).count();
        let suffix: String = rest[..length].iter().collect();
        let Some(words) = ordinal(n).filter(|_| length > 0) else { return false };
        // Only the sign itself, or letters that end this very ordinal: "5 as" and "1a" in a name are not.
        let ending = match suffix.as_str() {
            "º" | "o" if suffix == "º" || point == 1 => "o",
            "ª" | "a" if suffix == "ª" || point == 1 => "a",
            "os" | "ºs" if suffix == "ºs" || point == 1 => "os",
            "as" | "ªs" if suffix == "ªs" || point == 1 => "as",
            "er" if words.ends_with("primero") || words.ends_with("tercero") => "",
            _ if suffix.len() == 2 && words.ends_with(&suffix) => "o",
            _ if suffix.len() == 2 && suffix.ends_with('a') && words.ends_with(&suffix.replace('a', "o")) => "a",
            _ => return false,
        };
        let inflected = words.split(' ').map(|w| format!("{}{ending}", w.strip_suffix('o').unwrap_or(w))).collect::<Vec<_>>();
        let words = if ending.is_empty() { words.strip_suffix('o').unwrap_or(&words).to_owned() } else { inflected.join(" ") };
        self.say(&words, literal.end + point + length);
        true
    }

    /// The words of `½` and its like at index `i`; a half agrees with what is halved: media hora.
    fn vulgar(&self, i: usize) -> Option<&'static str> {
        let words = self.get(i).and_then(vulgar)?;
        let noun: String = self.chars[i + 1..].iter().skip(1).take_while(|c| c.is_alphabetic()).collect();
        let feminine = [1, 2].iter().any(|n| words::form_before(*n, &noun) == Form::Feminine);
        Some(if words == "medio" && self.get(i + 1) == Some(' ') && feminine { "media" } else { words })
    }

    /// What the next word makes of the number before it.
    fn form_for_noun(&self, literal: &Literal) -> Form {
        let Value::Whole(n) = literal.value else { return Form::Alone };
        if self.get(literal.end) != Some(' ') {
            return Form::Alone;
        }
        let noun: String = self.chars[literal.end + 1..].iter().take_while(|c| c.is_alphabetic()).collect();
        words::form_before(n, &noun)
    }
}
