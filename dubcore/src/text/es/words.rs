//! Spanish names of units, currencies and symbols, and what nouns do to numbers.

use super::numbers::Form;

pub(super) struct Unit {
    pub(super) one: &'static str,
    pub(super) many: &'static str,
    pub(super) feminine: bool,
}

pub(super) struct Currency {
    pub(super) one: &'static str,
    pub(super) many: &'static str,
    pub(super) feminine: bool,
    pub(super) cent: &'static str,
    pub(super) cents: &'static str,
}

const fn masculine(one: &'static str, many: &'static str) -> Unit {
    Unit { one, many, feminine: false }
}

const fn feminine(one: &'static str, many: &'static str) -> Unit {
    Unit { one, many, feminine: true }
}

const UNITS: &[(&str, Unit)] = &[
    ("km/h", masculine("kilómetro por hora", "kilómetros por hora")),
    ("m/s", masculine("metro por segundo", "metros por segundo")),
    ("km²", masculine("kilómetro cuadrado", "kilómetros cuadrados")),
    ("m²", masculine("metro cuadrado", "metros cuadrados")),
    ("cm²", masculine("centímetro cuadrado", "centímetros cuadrados")),
    ("m³", masculine("metro cúbico", "metros cúbicos")),
    ("cm³", masculine("centímetro cúbico", "centímetros cúbicos")),
    ("°C", masculine("grado Celsius", "grados Celsius")),
    ("ºC", masculine("grado Celsius", "grados Celsius")),
    ("°F", masculine("grado Fahrenheit", "grados Fahrenheit")),
    ("ºF", masculine("grado Fahrenheit", "grados Fahrenheit")),
    ("°", masculine("grado", "grados")),
    ("kWh", masculine("kilovatio hora", "kilovatios hora")),
    ("km", masculine("kilómetro", "kilómetros")),
    ("dm", masculine("decímetro", "decímetros")),
    ("cm", masculine("centímetro", "centímetros")),
    ("mm", masculine("milímetro", "milímetros")),
    ("m", masculine("metro", "metros")),
    ("kg", masculine("kilogramo", "kilogramos")),
    ("Kg", masculine("kilogramo", "kilogramos")),
    ("mg", masculine("miligramo", "miligramos")),
    ("g", masculine("gramo", "gramos")),
    ("ml", masculine("mililitro", "mililitros")),
    ("cl", masculine("centilitro", "centilitros")),
    ("l", masculine("litro", "litros")),
    ("L", masculine("litro", "litros")),
    ("ha", feminine("hectárea", "hectáreas")),
    ("hrs", feminine("hora", "horas")),
    ("hs", feminine("hora", "horas")),
    ("h", feminine("hora", "horas")),
    ("min", masculine("minuto", "minutos")),
    ("ms", masculine("milisegundo", "milisegundos")),
    ("s", masculine("segundo", "segundos")),
    ("Hz", masculine("hercio", "hercios")),
    ("kHz", masculine("kilohercio", "kilohercios")),
    ("MHz", masculine("megahercio", "megahercios")),
    ("GHz", masculine("gigahercio", "gigahercios")),
    ("KB", masculine("kilobyte", "kilobytes")),
    ("MB", masculine("megabyte", "megabytes")),
    ("GB", masculine("gigabyte", "gigabytes")),
    ("TB", masculine("terabyte", "terabytes")),
    ("kW", masculine("kilovatio", "kilovatios")),
    ("W", masculine("vatio", "vatios")),
    ("V", masculine("voltio", "voltios")),
    ("dB", masculine("decibelio", "decibelios")),
    ("EUR", masculine("euro", "euros")),
    ("USD", masculine("dólar", "dólares")),
];

/// The longest unit that `chars` begin with, as a word of its own, and its length.
pub(super) fn unit(chars: &[char]) -> Option<(&'static Unit, usize)> {
    let fits = |name: &str| {
        let length = name.chars().count();
        let next = chars.get(length);
        // A word or an exponent that goes on is another one; so is an apostrophe's or an ampersand's first half.
        let ends = next.is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '²' | '³' | '\'' | '’' | '&' | '@' | '/'));
        (ends && name.chars().zip(chars).all(|(a, b)| a == *b) && chars.len() >= length).then_some(length)
    };
    UNITS.iter().filter_map(|(name, unit)| Some((unit, fits(name)?))).max_by_key(|(_, length)| *length)
}

const fn money(one: &'static str, many: &'static str, cent: &'static str, cents: &'static str) -> Currency {
    Currency { one, many, feminine: false, cent, cents }
}

pub(super) fn currency(sign: char) -> Option<&'static Currency> {
    const EURO: Currency = money("euro", "euros", "céntimo", "céntimos");
    const DOLLAR: Currency = money("dólar", "dólares", "centavo", "centavos");
    const POUND: Currency = Currency { feminine: true, ..money("libra", "libras", "penique", "peniques") };
    const YEN: Currency = money("yen", "yenes", "sen", "sen");
    match sign {
        '€' => Some(&EURO),
        '$' => Some(&DOLLAR),
        '£' => Some(&POUND),
        '¥' => Some(&YEN),
        _ => None,
    }
}

pub(super) fn symbol(c: char) -> Option<&'static str> {
    Some(match c {
        '&' => "y",
        '+' => "más",
        '±' => "más menos",
        '=' => "igual a",
        '≈' | '~' => "aproximadamente",
        '<' => "menor que",
        '>' => "mayor que",
        '×' => "por",
        '÷' => "entre",
        '@' => "arroba",
        '#' => "almohadilla",
        '/' => "barra",
        '\\' => "barra invertida",
        '_' => "guion bajo",
        '%' => "por ciento",
        '‰' => "por mil",
        '°' => "grados",
        '§' => "sección",
        '€' => "euros",
        '$' => "dólares",
        '£' => "libras",
        '¥' => "yenes",
        _ => return None,
    })
}

/// Greek letters are read by their names, as in formulas.
pub(super) fn letter_name(c: char) -> Option<&'static str> {
    const NAMES: [&str; 25] = [
        "alfa", "beta", "gamma", "delta", "épsilon", "dseta", "eta", "zeta", "iota", "kappa", "lambda", "mi", "ni", "xi",
        "ómicron", "pi", "ro", "sigma", "sigma", "tau", "ípsilon", "fi", "ji", "psi", "omega",
    ];
    let small = c.to_lowercase().next().unwrap_or(c);
    (small as usize).checked_sub('α' as usize).and_then(|i| NAMES.get(i)).copied()
}

/// A fraction in one character. A half is an adjective: see `Reader::vulgar`.
pub(super) fn vulgar(c: char) -> Option<&'static str> {
    Some(match c {
        '½' => "medio",
        '⅓' => "un tercio",
        '⅔' => "dos tercios",
        '¼' => "un cuarto",
        '¾' => "tres cuartos",
        '⅕' => "un quinto",
        '⅖' => "dos quintos",
        '⅗' => "tres quintos",
        '⅘' => "cuatro quintos",
        '⅙' => "un sexto",
        '⅚' => "cinco sextos",
        '⅐' => "un séptimo",
        '⅑' => "un noveno",
        '⅒' => "un décimo",
        '⅛' => "un octavo",
        '⅜' => "tres octavos",
        '⅝' => "cinco octavos",
        '⅞' => "siete octavos",
        _ => return None,
    })
}

pub(super) fn superscript(c: char) -> Option<char> {
    "⁰¹²³⁴⁵⁶⁷⁸⁹".chars().zip('0'..='9').find(|(s, _)| *s == c).map(|(_, digit)| digit)
}

pub(super) const MONTHS: [&str; 12] =
    ["enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre", "diciembre"];

/// Words that may follow a number and are not what it counts.
const NOT_COUNTED: &[&str] = &[
    "a", "al", "ante", "antes", "aún", "como", "con", "contra", "de", "del", "desde", "después", "donde", "e", "el", "ella",
    "ellas", "ellos", "en", "entonces", "entre", "era", "eran", "es", "ese", "eso", "está", "están", "este", "esto", "fue",
    "fueron", "ha", "había", "hacia", "han", "hasta", "hay", "la", "las", "le", "les", "lo", "los", "menos", "mientras", "más",
    "ni", "no", "nos", "o", "para", "pero", "por", "porque", "pues", "que", "se", "según", "ser", "serán", "será", "si", "sin",
    "sobre", "son", "su", "sus", "tenía", "tiene", "tras", "u", "un", "una", "veces", "y", "ya", "yo",
];
/// Masculine although they end like feminine ones.
const MASCULINE: &[&str] = &[
    "clima", "cometa", "día", "dilema", "diploma", "drama", "esquema", "fantasma", "gramo", "idioma", "kilo", "mapa", "planeta",
    "poema", "problema", "programa", "síntoma", "sistema", "tema", "tranvía",
];

/// The form of `n` before the word `next`. Only plurals are taken for what is counted, after one a singular.
pub(super) fn form_before(n: u64, next: &str) -> Form {
    if next == "veces" {
        return Form::Feminine;
    }
    if matches!(next, "mil" | "millón" | "millones" | "billón" | "billones") {
        return Form::Masculine;
    }
    let stem = next.strip_suffix('s').unwrap_or(next);
    let counted = if n == 1 { stem == next } else { stem != next };
    if !counted || next.chars().count() < 3 || NOT_COUNTED.contains(&next) || !next.chars().all(char::is_lowercase) {
        return Form::Alone;
    }
    // A past or future tense after one is not counted: "el 1 ganó".
    if n == 1 && next.ends_with(['á', 'é', 'í', 'ó']) {
        return Form::Alone;
    }
    let feminine = stem.ends_with('a')
        || ["ción", "cione", "sión", "sione", "dad", "dade", "tud", "noche", "mujere", "mujer"]
            .iter()
            .any(|end| stem.ends_with(end));
    if feminine && !MASCULINE.contains(&stem) { Form::Feminine } else { Form::Masculine }
}
