//! What the embedded recogniser hears in the sample clips, when it is asked for times.

mod common;

use common::*;
use dubcore::media::{self, Limits};
use dubcore::{Audio, Factory, Job, LoadOptions, Segment, SttOptions};

/// How far a time may lie from the truth, in seconds.
const NEAR: f64 = 0.2;

fn hear(audio: &Audio, opts: &SttOptions) -> Vec<Segment> {
    let stt = Factory::global().unwrap().stt(&"micro/stt-en".parse().unwrap(), &LoadOptions::default(), &Job::new()).unwrap();
    stt.transcribe(audio, opts, &Job::new()).unwrap().segments
}

/// Start, end and text of what is spoken in a clip.
fn truth(name: &str) -> Vec<(f64, f64, String)> {
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(clip(name)).unwrap()).unwrap();
    let part = |s: &serde_json::Value| {
        (s["start"].as_f64().unwrap(), s["end"].as_f64().unwrap(), s["text"].as_str().unwrap().replace("ten", "10"))
    };
    json["segments"].as_array().unwrap().iter().map(part).collect()
}

fn check(name: &str, spoken: &str, opts: &SttOptions) {
    let audio = media::decode(&clip(name).into(), &Limits::default(), &Job::new()).unwrap();
    let (heard, truth) = (hear(&audio, opts), truth(spoken));
    let texts = |h: &[Segment]| h.iter().map(|s| s.text.clone()).collect::<Vec<_>>();
    assert_eq!(texts(&heard), truth.iter().map(|t| t.2.clone()).collect::<Vec<_>>(), "{name}");
    for (heard, (start, end, _)) in heard.iter().zip(truth) {
        let off = [heard.span.start.as_secs_f64() - start, heard.span.end.as_secs_f64() - end];
        assert!(off.iter().all(|off| off.abs() <= NEAR), "{name}: {heard:?} is {off:?} s off");
    }
}

#[test]
fn times_are_those_of_the_speech() {
    for (name, spoken) in [("station.mp4", "station.en.json"), ("kitchen.wav", "kitchen.en.json")] {
        check(name, spoken, &SttOptions::default().timestamps(true));
    }
}

#[test]
fn a_window_that_was_left_early_is_heard_again() {
    // A sentence and the beginning of the next: so many tokens a window holds twice or three times.
    let opts = SttOptions::default().timestamps(true).max_tokens(18);
    check("station.mp4", "station.en.json", &opts);
}
