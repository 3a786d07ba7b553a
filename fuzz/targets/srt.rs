//! Any text, as subtitles; what is read can be written, and read again with the same times and words.

#![no_main]

use dubcore::subtitle::{parse_srt, srt, vtt};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: dubcore_fuzz::init(), |data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    dubcore_fuzz::run(data.len(), 1 << 20, 256, || round_trip(&text));
});

fn round_trip(text: &str) {
    let Ok(cues) = parse_srt(text) else { return };
    let written = srt(&cues).expect("what was read is in order");
    assert!(vtt(&cues).expect("what was read is in order").starts_with("WEBVTT\n\n"));
    let again = parse_srt(&written).expect("what was written is SubRip");
    let said: Vec<_> = cues.iter().filter(|(_, text)| !letters(text).is_empty()).collect();
    assert_eq!(said.len(), again.len());
    for ((before, text), (after, back)) in said.into_iter().zip(&again) {
        assert_eq!(before, after);
        // Dropping a tag may leave another.
        if !text.contains(['<', '{']) {
            assert_eq!(letters(text), letters(back));
        }
    }
}

/// Lines are broken anew, also within long words and arrows; an arrow that stays whole is written as another sign.
fn letters(text: &str) -> String {
    let kept: String = text.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
    kept.replace('→', "-->")
}
