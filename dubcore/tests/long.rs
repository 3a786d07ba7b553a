//! Long sound in bounded memory, whether somebody speaks or nobody does. Each programme is dubbed in a process of its own, which is this
//! program again, so that the most memory it had is its own.

mod common;

use std::path::Path;
use std::process::Command;

use common::*;
use dubcore::media::{Limits, Reader, WavFormat, WavWriter};
use dubcore::{DubRequest, Job, Lang, Pipeline, ScriptLine};

/// Minutes and kind of the programme to be dubbed, for the process that does it.
const PROGRAMME: &str = "DUBCORE_TEST_LONG_PROGRAMME";

/// What is dubbed.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A clip over and over.
    Talk,
    /// A clip at the beginning and at the end.
    Quiet,
    /// The same, with a script of lines at the beginning and one near the end.
    Script,
}

const KINDS: [(&str, Kind); 3] = [("talk", Kind::Talk), ("quiet", Kind::Quiet), ("script", Kind::Script)];

/// Writes the programme and returns its rate and frames. Talk is in stereo at 44.1 kHz, as the mixer likes it least.
fn programme(minutes: u32, kind: Kind, path: &Path) -> (u32, u64) {
    let (rate, channels) = if kind == Kind::Talk { (44_100, 2) } else { (16_000, 1) };
    let clip = clip_audio("kitchen.wav").resample(rate).unwrap();
    let clip: Vec<f32> = clip.samples().iter().flat_map(|s| std::iter::repeat_n(*s, channels)).collect();
    let second = vec![0.0; rate as usize * channels];
    let mut writer = WavWriter::create(path, channels, rate, WavFormat::I16).unwrap();
    writer.write(&clip).unwrap();
    while writer.frames() < u64::from(minutes * 60 * rate) {
        writer.write(&second).unwrap();
        if kind == Kind::Talk {
            writer.write(&clip).unwrap();
        }
    }
    writer.write(&clip).unwrap();
    let frames = writer.frames();
    writer.finish().unwrap();
    (rate, frames)
}

/// What the process in between does: stages that cost nothing, so that what is left is the pipeline's own.
#[test]
fn in_a_process_of_its_own() {
    let Ok(asked) = std::env::var(PROGRAMME) else { return };
    let (minutes, name) = asked.split_once(' ').unwrap();
    let (minutes, kind): (u32, _) = (minutes.parse().unwrap(), KINDS.iter().find(|k| k.0 == name).unwrap().1);
    let folder = tempfile::tempdir().unwrap();
    let (source, track) = (folder.path().join("source.wav"), folder.path().join("track.wav"));
    let (rate, frames) = programme(minutes, kind, &source);
    let mut request = DubRequest::new(source, Lang::ES).output(track.clone());
    let end = frames as f64 / f64::from(rate);
    if kind == Kind::Script {
        let line = |from: f64| ScriptLine::new(span(from, from + 1.5), "a line");
        request = request.script(vec![line(1.0), line(20.0), line(end - 70.0)]);
    }
    let dub = host_dubber().start(request, Job::new()).unwrap().finish().unwrap();
    let starts: Vec<f64> = dub.lines.iter().map(|l| l.source.span.start.as_secs_f64()).collect();
    assert!(dub.complete && (dub.duration.as_secs_f64() - end).abs() < 0.001);
    let clip = clip_audio("kitchen.wav").duration().as_secs_f64();
    match kind {
        Kind::Script => assert_eq!(starts.len(), 3),
        Kind::Quiet => {
            // Both ends, the last one as far from its clip's beginning as the first one.
            assert!(starts.len() >= 6 && starts.iter().all(|s| *s < clip || *s > end - clip), "{starts:?}");
            let last = starts.iter().find(|s| **s > clip).unwrap() - (end - clip);
            assert!((last - starts[0]).abs() < 0.05, "{last} at the end, {} at the beginning", starts[0]);
        }
        Kind::Talk => {
            assert!(starts.len() >= 15 * minutes as usize, "{} lines", starts.len());
            // In the last repetition a line lies as the first one does.
            let off = |start: &f64| ((start - (end - clip)) - starts[0]).abs();
            let nearest = starts.iter().map(off).fold(f64::INFINITY, f64::min);
            assert!(nearest < 0.05, "{nearest} s off");
        }
    }
    let written = Reader::open(&track.into(), &Limits::default()).unwrap();
    assert_eq!(written.frames_hint(), Some(frames));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    println!("peak {}", peak.trim().trim_end_matches(" kB"));
}

fn peak(minutes: u32, kind: &str) -> u64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "in_a_process_of_its_own", "--nocapture"]).env(PROGRAMME, format!("{minutes} {kind}"));
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    let peak = text.lines().find_map(|l| l.split("peak ").nth(1)).expect("it prints its peak");
    peak.trim().parse::<u64>().unwrap() * 1024
}

/// `minutes` of a kind take no more memory than two.
#[cfg(target_os = "linux")]
fn bounded(minutes: u32, kind: &'static str) {
    within(400, move || {
        let (short, long) = (peak(2, kind), peak(minutes, kind));
        println!("{kind}: 2 min {} MB, {minutes} min {} MB", short / 1_000_000, long / 1_000_000);
        assert!(long < short + 15_000_000, "{kind}: {short} bytes for two minutes, {long} for {minutes}");
    });
}

/// Eight minutes more are 31 MB as the recogniser hears them, and 170 MB as the mixer does.
#[cfg(target_os = "linux")]
#[test]
fn ten_minutes_of_talk() {
    bounded(10, "talk");
}

/// Thirteen minutes more are 50 MB.
#[cfg(target_os = "linux")]
#[test]
fn a_quarter_of_an_hour_without_a_word() {
    bounded(15, "quiet");
}

#[cfg(target_os = "linux")]
#[test]
fn a_script_with_a_quarter_of_an_hour_between_its_lines() {
    bounded(15, "script");
}
