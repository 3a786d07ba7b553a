//! Tokenizers of every kind, damaged, and what they make of text and tokens; and any text, for those that are intact.

#![no_main]

use dubcore::fuzzing;
use libfuzzer_sys::fuzz_target;

const SPM: &[u8] = include_bytes!("../../dubcore/tests/fixtures/marian/shared-relu/source.spm");
const TARGET_SPM: &[u8] = include_bytes!("../../dubcore/tests/fixtures/marian/shared-relu/target.spm");
const PIECES: &[u8] = include_bytes!("../../dubcore/tests/fixtures/marian/shared-relu/vocab.json");
const CHARACTERS: &[u8] = include_bytes!("../../dubcore/tests/fixtures/vits/deterministic/vocab.json");
const SETTINGS: &[u8] = include_bytes!("../../dubcore/tests/fixtures/vits/deterministic/tokenizer_config.json");

const TEXTS: [&str; 4] = ["", "Hello, world! ", "¿Qué 字\0 \u{2581}<s>\u{fb01} \u{1f600}?", "aaaaaaaaaaaaaaaa 1.234,5 %"];
const TOKENS: [u32; 12] = [0, 1, 2, 3, 5, 8, 13, 21, 255, 256, 65_536, u32::MAX];

fuzz_target!(init: dubcore_fuzz::init(), |data: &[u8]| {
    let [kind, rest @ ..] = data else { return };
    // The fixtures are copied, too.
    dubcore_fuzz::run(data.len(), 4 << 20, 1024, || match kind % 6 {
        0 => drop(fuzzing::whisper_tokens(rest, &TOKENS)),
        1 => drop(fuzzing::sentence_pieces(rest, &TEXTS)),
        2 => drop(fuzzing::marian_tokens((SPM, TARGET_SPM), rest, TEXTS[1], &TOKENS)),
        3 => drop(fuzzing::vits_tokens(rest, SETTINGS, TEXTS[2])),
        4 => drop(fuzzing::vits_tokens(CHARACTERS, rest, TEXTS[2])),
        _ => {
            let text = String::from_utf8_lossy(rest);
            drop(fuzzing::marian_tokens((SPM, TARGET_SPM), PIECES, &text, &TOKENS));
            drop(fuzzing::vits_tokens(CHARACTERS, SETTINGS, &text));
            fuzzing::spoken_text(&text);
        }
    });
});
