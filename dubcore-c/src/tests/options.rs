//! Options are read by one table, and what is wrong with them is told.

use std::time::Duration;

use engine::media::WavFormat;
use engine::{ComputeType, DubRequest, ErrorKind, Lang, LoadOptions, Output, SttOptions};

use crate::options::{HEARING, LOAD, REQUEST, apply};

fn request(pairs: &[(&str, &str)]) -> engine::Result<(DubRequest, SttOptions)> {
    let (mut request, mut hearing) = (DubRequest::new("a.wav", Lang::ES), SttOptions::default());
    apply(pairs, "options", &mut [&mut REQUEST.of(&mut request), &mut HEARING.behind("stt.", &mut hearing)])?;
    Ok((request, hearing))
}

#[test]
fn keys_set_what_they_say() {
    let (made, heard) = request(&[
        ("from", "en"),
        ("output", "a.es.wav"),
        ("format", "f32"),
        ("mix.duck_db", "none"),
        ("fit.guard", "0.25"),
        ("beams", "2"),
        ("beams", "4"),
        ("stt.beams", "5"),
        ("stt.temperatures", "0, 0.5"),
    ])
    .unwrap();
    assert_eq!((made.from, made.beams, made.format, made.mix.duck_db), (Some(Lang::EN), 4, WavFormat::F32, None));
    assert_eq!((made.output, made.fit.guard), (Output::File("a.es.wav".into()), Duration::from_millis(250)));
    assert_eq!((heard.beams, heard.fallback.temperatures), (5, vec![0.0, 0.5]));
}

#[test]
fn what_is_left_out_is_as_in_rust() {
    let (made, heard) = request(&[]).unwrap();
    assert_eq!(format!("{made:?}"), format!("{:?}", DubRequest::new("a.wav", Lang::ES)));
    assert_eq!(heard, SttOptions::default());
}

#[test]
fn what_is_wrong_is_told() {
    let refused = |pairs: &[(&str, &str)]| request(pairs).map(drop).unwrap_err();
    let e = refused(&[("keep", "yes")]);
    assert_eq!(e.to_string(), "options: keep is \"yes\": it must be true or false; default: false");
    for (key, value) in [("fit.guard", "-1"), ("fit.guard", "NaN"), ("beams", "many"), ("stt.seed", "-1"), ("output", "")] {
        let e = refused(&[(key, value)]);
        assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains(key), "{e}");
    }
    let e = refused(&[("beam", "1")]).to_string();
    assert!(e.contains("no key \"beam\"") && e.contains("beams, ") && e.contains("stt.best_of"), "{e}");
    assert_eq!(refused(&[("from", "klingonese")]).kind(), ErrorKind::UnsupportedLanguage);
    let mut load = LoadOptions::default();
    let e = apply(&[("device", "gpu")], "options", &mut [&mut LOAD.of(&mut load)]).unwrap_err();
    assert!(e.report().contains("device is \"gpu\"") && e.report().contains("cuda:N"), "{}", e.report());
    let e = apply(&[("compute_type", "fp8")], "options", &mut [&mut LOAD.of(&mut load)]).unwrap_err();
    assert!(e.report().contains("compute_type is \"fp8\"") && e.report().contains("\"bf16\" and \"int8\""), "{}", e.report());
    apply(&[("compute_type", "int8")], "options", &mut [&mut LOAD.of(&mut load)]).unwrap();
    assert_eq!(load.compute_type, ComputeType::Int8);
}
