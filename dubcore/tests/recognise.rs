//! What the embedded recogniser hears in the sample clips, when it is asked for times.

mod common;

use common::*;
use dubcore::{Job, SttOptions};

/// How far a time may lie from the truth, in seconds.
const NEAR: f64 = 0.2;

fn check(name: &str, opts: &SttOptions) {
    let heard = recogniser().transcribe(&clip_audio(name), opts, &Job::new()).unwrap().segments;
    let truth = truth(name);
    // The recogniser writes numbers as people do.
    let said: Vec<String> = truth.iter().map(|(_, text)| text.replace("ten", "10")).collect();
    assert_eq!(heard.iter().map(|s| s.text.clone()).collect::<Vec<_>>(), said, "{name}");
    for (heard, (span, _)) in heard.iter().zip(truth) {
        let off =
            [(heard.span.start, span.start), (heard.span.end, span.end)].map(|(is, was)| is.as_secs_f64() - was.as_secs_f64());
        assert!(off.iter().all(|off| off.abs() <= NEAR), "{name}: {heard:?} is {off:?} s off");
    }
}

#[test]
fn times_are_those_of_the_speech() {
    for name in ["station.mp4", "kitchen.wav"] {
        check(name, &SttOptions::default().timestamps(true));
    }
}

#[test]
fn a_window_that_was_left_early_is_heard_again() {
    // A sentence and the beginning of the next: so many tokens a window holds twice or three times.
    let opts = SttOptions::default().timestamps(true).max_tokens(18);
    check("station.mp4", &opts);
}
