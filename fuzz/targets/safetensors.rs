//! Any bytes, as a weights file: its header, then every tensor that it names.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: dubcore_fuzz::init(), |data: &[u8]| {
    dubcore_fuzz::run(data.len(), 1 << 20, 64, || drop(dubcore::fuzzing::weights(data)));
});
