//! What the embedded recogniser hears in the sample clips, when it is asked for times.

mod common;

use common::*;
use dubcore::{Audio, Fallback, Job, SttOptions};

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

#[test]
fn what_a_speaker_repeats_is_heard_in_halves() {
    let (said, text) = truth("kitchen.wav").remove(2);
    let clip = clip_audio("kitchen.wav");
    let rate = clip.rate();
    let pause = vec![0.0; rate as usize * 6 / 10];
    let mut samples = pause.clone();
    while samples.len() + clip.slice(said).len() < 9 * rate as usize {
        samples.extend_from_slice(clip.slice(said).samples());
        samples.extend_from_slice(&pause);
    }
    let audio = Audio::new(samples, rate).unwrap();
    let hear = |fallback| {
        let opts = SttOptions::default().timestamps(true).fallback(fallback);
        recogniser().transcribe(&audio, &opts, &Job::new()).unwrap().segments
    };
    let whole = hear(Fallback::none());
    assert!(whole.iter().all(|s| s.compression_ratio.unwrap() > 2.4), "{whole:?}");
    let halves = hear(Fallback::default());
    for heard in [&whole, &halves] {
        assert!(heard.len() >= 3 && heard.iter().all(|s| s.text == text), "{heard:?}");
    }
    assert_eq!(whole.len(), halves.len());
    assert!(halves.iter().all(|s| s.temperature == Some(0.0) && s.compression_ratio.unwrap() < 2.4), "{halves:?}");
}
