use super::numbers::{Form, cardinal, ordinal};
use crate::lang::Lang;
use crate::text::spell_out;

/// The alphabet of the Spanish micro voice.
const VOICE: &str = "abcdefghijklmnopqrstuvwxyzáéíóúüñ.,;:?!¿¡'-";

fn read(text: &str) -> String {
    spell_out(text, Lang::ES, &|c| VOICE.contains(c)).unwrap()
}

fn all(table: &[(&str, &str)]) {
    let wrong: Vec<_> = table
        .iter()
        .filter(|(text, want)| read(text) != *want)
        .map(|(t, w)| format!("{t:?}: {:?}, want {w:?}", read(t)))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), table.len(), wrong.join("\n"));
}

#[test]
fn cardinals() {
    for (n, want) in [
        (0, "cero"),
        (1, "uno"),
        (7, "siete"),
        (15, "quince"),
        (16, "dieciséis"),
        (20, "veinte"),
        (21, "veintiuno"),
        (22, "veintidós"),
        (26, "veintiséis"),
        (30, "treinta"),
        (31, "treinta y uno"),
        (45, "cuarenta y cinco"),
        (99, "noventa y nueve"),
        (100, "cien"),
        (101, "ciento uno"),
        (116, "ciento dieciséis"),
        (200, "doscientos"),
        (500, "quinientos"),
        (555, "quinientos cincuenta y cinco"),
        (700, "setecientos"),
        (900, "novecientos"),
        (999, "novecientos noventa y nueve"),
        (1_000, "mil"),
        (1_001, "mil uno"),
        (1_100, "mil cien"),
        (1_999, "mil novecientos noventa y nueve"),
        (2_000, "dos mil"),
        (2_026, "dos mil veintiséis"),
        (21_000, "veintiún mil"),
        (31_001, "treinta y un mil uno"),
        (100_000, "cien mil"),
        (101_000, "ciento un mil"),
        (200_100, "doscientos mil cien"),
        (999_999, "novecientos noventa y nueve mil novecientos noventa y nueve"),
        (1_000_000, "un millón"),
        (1_000_001, "un millón uno"),
        (2_000_000, "dos millones"),
        (21_000_000, "veintiún millones"),
        (101_000_000, "ciento un millones"),
        (1_000_000_000, "mil millones"),
        (1_001_000_000, "mil un millones"),
        (1_000_000_000_000, "un billón"),
        (2_000_000_000_001, "dos billones uno"),
        (1_000_000_000_000_000, "mil billones"),
        (1_000_000_000_000_000_000, "un trillón"),
        (
            123_456_789_012_345_678,
            "ciento veintitrés mil cuatrocientos cincuenta y seis billones setecientos ochenta y nueve mil doce millones \
             trescientos cuarenta y cinco mil seiscientos setenta y ocho",
        ),
    ] {
        assert_eq!(cardinal(n, Form::Alone), want, "{n}");
    }
    for (n, masculine, feminine) in [
        (1, "un", "una"),
        (21, "veintiún", "veintiuna"),
        (31, "treinta y un", "treinta y una"),
        (101, "ciento un", "ciento una"),
        (200, "doscientos", "doscientas"),
        (551, "quinientos cincuenta y un", "quinientas cincuenta y una"),
        (1_001, "mil un", "mil una"),
        (21_000, "veintiún mil", "veintiún mil"),
        (31_000, "treinta y un mil", "treinta y un mil"),
        (101_000, "ciento un mil", "ciento un mil"),
        (221_011, "doscientos veintiún mil once", "doscientas veintiún mil once"),
        (200_000, "doscientos mil", "doscientas mil"),
        (1_000_500, "un millón quinientos", "un millón quinientas"),
    ] {
        assert_eq!((cardinal(n, Form::Masculine), cardinal(n, Form::Feminine)), (masculine.into(), feminine.into()), "{n}");
    }
}

#[test]
fn every_number_reads_apart() {
    let mut seen = std::collections::HashSet::new();
    for n in (0..20_000).chain((1..1_000).map(|k| k * 1_000_000_007)) {
        assert!(seen.insert(cardinal(n, Form::Alone)), "{n} reads like another");
    }
    assert!(!cardinal(u64::MAX, Form::Feminine).is_empty());
}

#[test]
fn ordinals() {
    for (n, want) in [
        (1, "primero"),
        (3, "tercero"),
        (7, "séptimo"),
        (10, "décimo"),
        (11, "undécimo"),
        (12, "duodécimo"),
        (13, "decimotercero"),
        (19, "decimonoveno"),
        (20, "vigésimo"),
        (21, "vigésimo primero"),
        (35, "trigésimo quinto"),
        (100, "centésimo"),
        (101, "centésimo primero"),
        (999, "noningentésimo nonagésimo noveno"),
        (1_000, "milésimo"),
    ] {
        assert_eq!(ordinal(n).as_deref(), Some(want));
    }
    assert_eq!((ordinal(0), ordinal(1_001)), (None, None));
}

#[test]
fn numbers_in_sentences() {
    all(&[
        ("Tengo 3.", "tengo tres."),
        ("Llegaron 21 barcos.", "llegaron veintiún barcos."),
        ("Vimos 21 casas viejas", "vimos veintiuna casas viejas"),
        ("Quedan 31 días", "quedan treinta y un días"),
        ("Hay 200 personas y 200 perros", "hay doscientas personas y doscientos perros"),
        ("1 gato, 1 puerta", "un gato, una puerta"),
        ("Elige el 1 o el 21.", "elige el uno o el veintiuno."),
        ("En 2021 es otra cosa", "en dos mil veintiuno es otra cosa"),
        ("Nació en 1987.", "nació en mil novecientos ochenta y siete."),
        ("El 1 ganó", "el uno ganó"),
        ("501 ciudades", "quinientas una ciudades"),
        ("300 canciones", "trescientas canciones"),
        ("101 problemas", "ciento un problemas"),
        ("41 veces", "cuarenta y una veces"),
        ("21 millones de años", "veintiún millones de años"),
        ("31 mil pesos", "treinta y un mil pesos"),
        ("1.234 libros", "mil doscientos treinta y cuatro libros"),
        ("1.234.567", "un millón doscientos treinta y cuatro mil quinientos sesenta y siete"),
        ("1,234,567", "un millón doscientos treinta y cuatro mil quinientos sesenta y siete"),
        ("12\u{202f}345 votos", "doce mil trescientos cuarenta y cinco votos"),
        ("12\u{a0}345\u{a0}678", "doce millones trescientos cuarenta y cinco mil seiscientos setenta y ocho"),
        ("1,234", "uno coma doscientos treinta y cuatro"),
        ("3,5", "tres coma cinco"),
        ("3.5", "tres coma cinco"),
        ("3,14", "tres coma catorce"),
        ("3,05", "tres coma cero cinco"),
        ("2,00", "dos coma cero cero"),
        ("0,5", "cero coma cinco"),
        ("0.500", "cero coma quinientos"),
        ("3,14159", "tres coma uno cuatro uno cinco nueve"),
        ("1.234,5", "mil doscientos treinta y cuatro coma cinco"),
        ("1,234.50", "mil doscientos treinta y cuatro coma cincuenta"),
        ("1.2.3", "uno punto dos punto tres"),
        ("192.168.1.10", "ciento noventa y dos punto ciento sesenta y ocho punto uno punto diez"),
        ("1,2,3", "uno, dos, tres"),
        ("Son 1, 2, 3.", "son uno, dos, tres."),
        ("-5", "menos cinco"),
        ("a −12,5 grados", "a menos doce coma cinco grados"),
        ("(-3)", "menos tres"),
        ("007", "cero cero siete"),
        ("0", "cero"),
        ("00", "cero cero"),
        ("llama al 0034612", "llama al cero cero tres cuatro seis uno dos"),
        (
            "1234567890123456789",
            "uno dos tres cuatro cinco seis siete ocho nueve cero uno dos tres cuatro cinco seis siete ocho nueve",
        ),
        ("A4", "a cuatro"),
        ("MP3", "mp tres"),
        ("4x4", "cuatro x cuatro"),
        ("H2O y CO2", "h dos o y co dos"),
        ("B-52", "b-cincuenta y dos"),
        ("sala 3B", "sala tres b"),
        ("5", "cinco"),
        ("¿5?", "¿cinco?"),
        ("¡100!", "¡cien!"),
        ("fin.3", "fin. tres"),
        ("５ ②", "cinco dos"),
    ]);
}

#[test]
fn ordinals_in_sentences() {
    all(&[
        ("el 1.º de la fila", "el primero de la fila"),
        ("la 1ª vez", "la primera vez"),
        ("el 1er piso", "el primer piso"),
        ("el 3.er día", "el tercer día"),
        ("2do y 3ro", "segundo y tercero"),
        ("la 4ta y la 5.ª", "la cuarta y la quinta"),
        ("7mo, 8vo, 9no, 10mo", "séptimo, octavo, noveno, décimo"),
        ("el 21.º", "el vigésimo primero"),
        ("la 21ª", "la vigésima primera"),
        ("los 1.os", "los primeros"),
        ("las 2.as", "las segundas"),
        ("el 13er", "el decimotercer"),
        ("calle n.º 5", "calle número cinco"),
        ("Nº 8", "número ocho"),
        ("el 5to. día", "el quinto. día"),
        ("5 as", "cinco as"),
        ("1a", "uno a"),
    ]);
}

#[test]
fn money_and_percent() {
    all(&[
        ("20 €", "veinte euros"),
        ("1 €", "un euro"),
        ("21€", "veintiún euros"),
        ("€ 3", "tres euros"),
        ("$5,50", "cinco dólares con cincuenta centavos"),
        ("$5.5", "cinco dólares con cincuenta centavos"),
        ("1,01 €", "un euro con un céntimo"),
        ("2,00 €", "dos euros"),
        ("-$3", "menos tres dólares"),
        ("£1", "una libra"),
        ("£201", "doscientas una libras"),
        ("100 ¥", "cien yenes"),
        ("1.000.000 €", "un millón de euros"),
        ("2.500.000 €", "dos millones quinientos mil euros"),
        ("$5 millones", "cinco millones de dólares"),
        ("3 millones de €", "tres millones de euros"),
        ("$20 mil", "veinte mil dólares"),
        ("40 USD", "cuarenta dólares"),
        ("1.234,56 €", "mil doscientos treinta y cuatro euros con cincuenta y seis céntimos"),
        ("Cuesta 3 €.", "cuesta tres euros."),
        ("5%", "cinco por ciento"),
        ("el 100 % de", "el cien por ciento de"),
        ("3,5%", "tres coma cinco por ciento"),
        ("2‰", "dos por mil"),
        ("un % alto", "un por ciento alto"),
    ]);
}

#[test]
fn times_dates_and_fractions() {
    all(&[
        ("a las 10:30", "a las diez y treinta"),
        ("a la 1:05", "a la una y cinco"),
        ("a las 21:00", "a las veintiuna"),
        ("a las 21:21 h", "a las veintiuna y veintiuno horas"),
        ("08:15", "ocho y quince"),
        ("7:05:20", "siete y cinco y veinte segundos"),
        ("De 9:00 a 14:00.", "de nueve a catorce."),
        ("16:9", "dieciséis a nueve"),
        ("Son las 3: vamos", "son las tres: vamos"),
        ("21/11/2026", "veintiuno de noviembre de dos mil veintiséis"),
        ("el 1/5/99", "el uno de mayo de noventa y nueve"),
        ("2026-11-21", "veintiuno de noviembre de dos mil veintiséis"),
        ("3/4", "tres cuartos"),
        ("1/2", "un medio"),
        ("1/3 de", "un tercio de"),
        ("2/5", "dos quintos"),
        ("24/7", "veinticuatro barra siete"),
        ("½ litro", "medio litro"),
        ("½ hora", "media hora"),
        ("2½", "dos y medio"),
        ("1¾", "uno y tres cuartos"),
        ("-½", "menos medio"),
        ("⅓", "un tercio"),
        ("10-12 km", "diez a doce kilómetros"),
        ("páginas 5–7", "páginas cinco a siete"),
        ("ganó 3-1", "ganó tres a uno"),
        ("91-555-12-34", "noventa y uno, quinientos cincuenta y cinco, doce, treinta y cuatro"),
    ]);
}

#[test]
fn units() {
    all(&[
        ("5 km", "cinco kilómetros"),
        ("1 km", "un kilómetro"),
        ("21 kg", "veintiún kilogramos"),
        ("3,5kg", "tres coma cinco kilogramos"),
        ("25 °C", "veinticinco grados celsius"),
        ("-3°C", "menos tres grados celsius"),
        ("1 °F", "un grado fahrenheit"),
        ("90°", "noventa grados"),
        ("120 km/h", "ciento veinte kilómetros por hora"),
        ("200 h", "doscientas horas"),
        ("1 h", "una hora"),
        ("1 min y 30 s", "un minuto y treinta segundos"),
        ("80 m²", "ochenta metros cuadrados"),
        ("2 m de alto", "dos metros de alto"),
        ("16 GB", "dieciséis gigabytes"),
        ("50 Hz", "cincuenta hercios"),
        ("1.000.000 km", "un millón de kilómetros"),
        ("5 manzanas", "cinco manzanas"),
        ("5 l.", "cinco litros."),
        ("2 sillas", "dos sillas"),
        ("5²", "cinco al cuadrado"),
        ("2³", "dos al cubo"),
        ("10⁶ y x²", "diez elevado a seis y x al cuadrado"),
        ("2¹⁰", "dos elevado a diez"),
    ]);
}

#[test]
fn symbols_and_letters() {
    all(&[
        ("Ruiz & Hijos", "ruiz y hijos"),
        ("2+2=4", "dos más dos igual a cuatro"),
        ("2 × 3 ÷ 4", "dos por tres entre cuatro"),
        ("5 > 3 < 4", "cinco mayor que tres menor que cuatro"),
        ("ana@correo.es", "ana arroba correo punto es"),
        ("www.lago.com", "www punto lago punto com"),
        ("#1 de la lista", "número uno de la lista"),
        ("#lluvia", "almohadilla lluvia"),
        ("y/o", "y o"),
        ("sí/no", "sí barra no"),
        ("mi_nota", "mi guion bajo nota"),
        ("ángulo α y π", "ángulo alfa y pi"),
        ("façade", "facade"),
        ("Él dijo: «¡Vámonos!»", "él dijo: ¡vámonos!"),
        ("—Hola —dijo Eva—.", "hola, dijo eva."),
        ("Madrid (España) gana", "madrid, españa, gana"),
        ("Pingüino ÑANDÚ", "pingüino ñandú"),
        ("ahora 😀 no", "ahora no"),
        ("la 2.ª, 😀 3", "la segunda, tres"),
        ("1.ᵃ", "primera"),
        ("Todo.Bien", "todo.bien"),
        ("", ""),
    ]);
}

#[test]
fn any_text_is_read_without_a_digit_left() {
    let alphabet: Vec<char> = "0123456789012345 .,:;/-–%€$£°ºª½²⁵@#&+=()hkmgCxyaserún\u{a0}\u{202f}millones'_~".chars().collect();
    let mut state = 11u64;
    let mut random = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    for _ in 0..20_000 {
        let text: String = (0..random(24)).map(|_| alphabet[random(alphabet.len())]).collect();
        let got = read(&text);
        assert!(got.chars().all(|c| c == ' ' || VOICE.contains(c)), "{text:?} became {got:?}");
        assert!(!got.contains("  "), "{text:?} became {got:?}");
    }
}

#[test]
fn strange_text_is_read_or_refused() {
    let mut state = 13u64;
    let mut random = |n: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % n
    };
    for _ in 0..20_000 {
        let mut letter = || char::from_u32([random(0x80), random(0x2300), random(0x1_f700)][random(3) as usize]).unwrap_or('5');
        let text: String = (0..8).map(|_| letter()).collect();
        for lang in [Lang::ES, Lang::EN] {
            if let Ok(got) = spell_out(&text, lang, &|c| VOICE.contains(c)) {
                assert!(got.chars().all(|c| c == ' ' || VOICE.contains(c)), "{text:?} became {got:?}");
            }
        }
    }
}

/// Texts of which a reader that looks on from each place to the end would take seconds.
#[test]
fn what_goes_on_and_on_is_read() {
    let slashes = read(&"1/".repeat(10_000));
    assert_eq!(slashes.matches("uno").count(), 10_000);
    assert!(slashes.starts_with("uno barra uno barra uno "));
    assert_eq!(read(&"1-".repeat(5_000)).matches("uno").count(), 5_000);
    assert_eq!(read(&"a.".repeat(10_000)).matches('a').count(), 10_000);
}
