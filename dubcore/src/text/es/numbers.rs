//! Spanish numbers as words.

/// How a number stands in its sentence; what matters is a final one, and the hundreds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// By itself: uno, doscientos.
    Alone,
    /// Before a masculine noun: un, doscientos.
    Masculine,
    /// Before or for a feminine noun: una, doscientas.
    Feminine,
}

const SMALL: [&str; 30] = [
    "cero",
    "uno",
    "dos",
    "tres",
    "cuatro",
    "cinco",
    "seis",
    "siete",
    "ocho",
    "nueve",
    "diez",
    "once",
    "doce",
    "trece",
    "catorce",
    "quince",
    "dieciséis",
    "diecisiete",
    "dieciocho",
    "diecinueve",
    "veinte",
    "veintiuno",
    "veintidós",
    "veintitrés",
    "veinticuatro",
    "veinticinco",
    "veintiséis",
    "veintisiete",
    "veintiocho",
    "veintinueve",
];
const TENS: [&str; 7] = ["treinta", "cuarenta", "cincuenta", "sesenta", "setenta", "ochenta", "noventa"];
/// Without their ending, -os or -as.
const HUNDREDS: [&str; 8] =
    ["doscient", "trescient", "cuatrocient", "quinient", "seiscient", "setecient", "ochocient", "novecient"];
/// Each a million times the one before.
const MILLIONS: [(&str, &str); 3] = [("millón", "millones"), ("billón", "billones"), ("trillón", "trillones")];

const ORDINALS: [&str; 20] = [
    "",
    "primero",
    "segundo",
    "tercero",
    "cuarto",
    "quinto",
    "sexto",
    "séptimo",
    "octavo",
    "noveno",
    "décimo",
    "undécimo",
    "duodécimo",
    "decimotercero",
    "decimocuarto",
    "decimoquinto",
    "decimosexto",
    "decimoséptimo",
    "decimoctavo",
    "decimonoveno",
];
const ORDINAL_TENS: [&str; 8] =
    ["vigésimo", "trigésimo", "cuadragésimo", "quincuagésimo", "sexagésimo", "septuagésimo", "octogésimo", "nonagésimo"];
const ORDINAL_HUNDREDS: [&str; 9] = [
    "centésimo",
    "ducentésimo",
    "tricentésimo",
    "cuadringentésimo",
    "quingentésimo",
    "sexcentésimo",
    "septingentésimo",
    "octingentésimo",
    "noningentésimo",
];

/// Any number, in words.
pub(super) fn cardinal(n: u64, form: Form) -> String {
    if n == 0 {
        return SMALL[0].to_owned();
    }
    let (mut words, mut rest, mut groups) = (Vec::new(), n / 1_000_000, MILLIONS.iter());
    while rest > 0
        && let Some((one, many)) = groups.next()
    {
        match rest % 1_000_000 {
            0 => {}
            1 => words.push(format!("un {one}")),
            group => words.push(format!("{} {many}", below_million(group, Form::Masculine))),
        }
        rest /= 1_000_000;
    }
    words.reverse();
    if !n.is_multiple_of(1_000_000) {
        words.push(below_million(n % 1_000_000, form));
    }
    words.join(" ")
}

fn below_million(n: u64, form: Form) -> String {
    let thousands = match n / 1_000 {
        0 => return below_thousand(n, form, form),
        1 => "mil".to_owned(),
        // Hundreds agree with what is counted, ones with mil: veintiún mil, doscientas mil.
        many => format!("{} mil", below_thousand(many, form, Form::Masculine)),
    };
    match n % 1_000 {
        0 => thousands,
        rest => format!("{thousands} {}", below_thousand(rest, form, form)),
    }
}

fn below_thousand(n: u64, form: Form, ones: Form) -> String {
    let hundreds = match (n / 100, form) {
        (0, _) => return below_hundred(n, ones),
        (1, _) if n == 100 => return "cien".to_owned(),
        (1, _) => "ciento".to_owned(),
        (many, Form::Feminine) => format!("{}as", HUNDREDS[many as usize - 2]),
        (many, _) => format!("{}os", HUNDREDS[many as usize - 2]),
    };
    match n % 100 {
        0 => hundreds,
        rest => format!("{hundreds} {}", below_hundred(rest, ones)),
    }
}

fn below_hundred(n: u64, form: Form) -> String {
    match (n, form) {
        (1, Form::Masculine) => "un".to_owned(),
        (1, Form::Feminine) => "una".to_owned(),
        (21, Form::Masculine) => "veintiún".to_owned(),
        (21, Form::Feminine) => "veintiuna".to_owned(),
        (0..30, _) => SMALL[n as usize].to_owned(),
        (_, _) if n.is_multiple_of(10) => TENS[n as usize / 10 - 3].to_owned(),
        _ => format!("{} y {}", TENS[n as usize / 10 - 3], below_hundred(n % 10, form)),
    }
}

/// Each digit by itself.
pub(super) fn digits(run: &str) -> String {
    run.chars().filter_map(|c| c.to_digit(10)).map(|d| SMALL[d as usize]).collect::<Vec<_>>().join(" ")
}

/// What stands behind the decimal comma: zeros in front are said, up to three digits are one number.
pub(super) fn fraction(run: &str) -> String {
    let zeros = run.len() - run.trim_start_matches('0').len();
    match run[zeros..].parse::<u64>() {
        Ok(n) if run.len() <= 3 => [digits(&run[..zeros]), cardinal(n, Form::Alone)].join(" ").trim().to_owned(),
        _ => digits(run),
    }
}

/// First to thousandth, masculine singular; `None` beyond, where people use cardinals.
pub(super) fn ordinal(n: u64) -> Option<String> {
    let words = match n {
        1_000 => vec!["milésimo"],
        1..1_000 => {
            let (hundreds, rest) = (n as usize / 100, n as usize % 100);
            let mut words = Vec::new();
            if hundreds > 0 {
                words.push(ORDINAL_HUNDREDS[hundreds - 1]);
            }
            if rest >= 20 {
                words.push(ORDINAL_TENS[rest / 10 - 2]);
            }
            words.push(ORDINALS[if rest < 20 { rest } else { rest % 10 }]);
            words
        }
        _ => return None,
    };
    Some(words.join(" ").trim().to_owned())
}

/// The parts of a whole: medio, tercio, cuarto ... décimo.
pub(super) fn part(denominator: u64) -> Option<&'static str> {
    match denominator {
        2 => Some("medio"),
        3 => Some("tercio"),
        4..=10 => Some(ORDINALS[denominator as usize]),
        _ => None,
    }
}
