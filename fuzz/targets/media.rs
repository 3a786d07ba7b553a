//! Any bytes, as a media file.

#![no_main]

use std::time::Duration;

use dubcore::media::{Input, Limits, Reader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: dubcore_fuzz::init(), |data: &[u8]| {
    dubcore_fuzz::run(data.len(), 32 << 20, 64, || media(data));
});

fn media(data: &[u8]) {
    let limits = Limits::default().max_duration(Duration::from_secs(2)).max_bytes(1 << 20);
    let Ok(mut reader) = Reader::open(&Input::from(data.to_vec()), &limits) else { return };
    assert!(dubcore::RATES.contains(&reader.rate()));
    assert!((1..=limits.max_channels).contains(&reader.channels()));
    let mut block = Vec::new();
    let mut frames = 0;
    loop {
        block.clear();
        match reader.read(&mut block) {
            Ok(0) => break,
            Ok(n) => {
                assert_eq!(block.len(), n * reader.channels());
                assert!(block.iter().all(|s| s.is_finite()));
                frames += n as u64;
            }
            Err(e) => {
                assert!(block.is_empty());
                assert_eq!(reader.read(&mut block).unwrap_err().to_string(), e.to_string());
                break;
            }
        }
    }
    assert!(frames <= 2 * u64::from(reader.rate()));
}
