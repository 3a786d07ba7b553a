//! Whole dubs: of the sample clips by the embedded models, of scripts, cancelled, concurrent, and by a host's own stages.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use dubcore::media::Limits;
use dubcore::subtitle::parse_srt;
use dubcore::{
    Audio, Dub, DubRequest, Dubber, Error, ErrorKind, Factory, FitOptions, Job, Lang, Line, MixOptions, Output, Pipeline,
    Progress, ScriptLine, Segment, Speech, StageInfo, Stt, SttOptions, Transcript, TranslateOptions, Tts, TtsOptions,
};

fn request(name: &str) -> DubRequest {
    DubRequest::new(clip(name), Lang::ES)
}

/// Text without the line breaks that subtitles have.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn same_cues(srt: &str, cues: &[(dubcore::Span, String)]) {
    let parsed = parse_srt(srt).unwrap();
    assert_eq!(parsed.len(), cues.len());
    for ((got, text), (want, line)) in parsed.iter().zip(cues) {
        let near = |a: Duration, b: Duration| a.abs_diff(b) <= Duration::from_millis(1);
        assert!(near(got.start, want.start) && near(got.end, want.end), "{got:?} {want:?}");
        assert_eq!(flat(text), flat(line));
    }
}

fn in_place(lines: &[Line], dub: &Dub) {
    let mut end = Duration::ZERO;
    for (i, line) in lines.iter().enumerate() {
        let placed = line.placement.unwrap();
        assert_eq!(line.index, i);
        assert!(placed.span.start >= end, "line {i} begins at {:?}, the one before it ends at {end:?}", placed.span.start);
        assert!(placed.span.end <= dub.duration, "line {i} ends at {:?} of {:?}", placed.span.end, dub.duration);
        assert!(line.source.span.start <= placed.span.start);
        assert_eq!(line.audio.as_ref().unwrap().duration(), placed.span.duration());
        assert!(placed.span.duration() > Duration::from_millis(200), "line {i} is hardly heard: {placed:?}");
        end = placed.span.end;
    }
}

fn rises(seen: &[Progress]) {
    assert!(seen.len() > 4);
    for pair in seen.windows(2) {
        assert!(pair[1].fraction >= pair[0].fraction, "{pair:?}");
        for (before, after) in pair[0].parts.iter().zip(&pair[1].parts) {
            assert!(before.0 == after.0 && before.1 <= after.1, "{pair:?}");
        }
    }
    let last = seen.last().unwrap();
    assert_eq!(last.fraction, 1.0);
    assert_eq!(last.parts, ["transcribe", "translate", "speak", "mix"].map(|p| (p.to_owned(), 1.0)));
    assert!(seen.iter().any(|p| (0.2..0.8).contains(&p.fraction)), "it is not told on the way");
}

/// The original is heard as it is, except around lines, and lines are heard.
fn mixed(track: &[f32], original: &[f32], rate: u32, channels: usize, lines: &[Line]) {
    let at = |t: Duration| (t.as_secs_f64() * f64::from(rate)) as usize * channels;
    let touched: Vec<(usize, usize)> = lines
        .iter()
        .map(|l| {
            let (from, to) = (l.placement.unwrap().span, l.source.span);
            let ramp = Duration::from_millis(60);
            (at(from.start.min(to.start).saturating_sub(ramp)), at(from.end.max(to.end) + 4 * ramp))
        })
        .collect();
    let mut untouched = 0;
    for (i, (got, want)) in track.iter().zip(original).enumerate() {
        if !touched.iter().any(|(from, to)| (*from..*to).contains(&i)) {
            assert!((got - want).abs() <= 1.01 / 32_768.0, "sample {i}: {got} for {want}");
            untouched += 1;
        }
    }
    assert!(untouched > rate as usize / 4, "no silence between lines in these clips?");
    for line in lines {
        let span = line.placement.unwrap().span;
        let power: f32 = track[at(span.start)..at(span.end)].iter().map(|s| s * s).sum();
        assert!(power / (at(span.end) - at(span.start)) as f32 > 1e-5, "line {} is not heard", line.index);
    }
}

fn whole(name: &str, worst: f64) {
    let _turn = shared();
    let folder = tempfile::tempdir().unwrap();
    let track = folder.path().join("track.wav");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let job = Job::new().observe(move |p| sink.lock().unwrap().push(p.clone()));
    let mut run = dubber().start(request(name).output(track.clone()), job.clone()).unwrap();
    let mut lines = Vec::new();
    for line in &mut run {
        lines.push(line.unwrap());
        assert_eq!(names(folder.path()), ["track.wav.part"], "it gets its name when it is whole");
    }
    assert!(run.next().is_none(), "fused");
    let mut dub = run.finish().unwrap();
    assert!(dub.complete && !dub.cut_short && dub.failed.is_empty());
    assert_eq!(names(folder.path()), ["track.wav"]);
    assert_eq!(dub.files, std::slice::from_ref(&track));
    assert_eq!((dub.from, dub.to), (Lang::EN, Lang::ES));
    assert_eq!(dub.models, ["micro/stt-en", "micro/mt-en-es", "micro/tts-es"]);

    assert_eq!(dub.lines.len(), lines.len());
    for (kept, line) in dub.lines.iter().zip(&lines) {
        assert!(kept.audio.is_none());
        assert_eq!((&kept.text, &kept.source, kept.placement), (&line.text, &line.source, line.placement));
        assert!(!line.text.trim().is_empty() && line.text != line.source.text, "{}", line.text);
    }
    in_place(&lines, &dub);
    rises(&seen.lock().unwrap());
    assert_eq!(job.progress().fraction, 1.0);

    let (original, rate, channels) = read_all(clip(name));
    let (samples, track_rate, track_channels) = read_all(track.clone());
    assert_eq!((track_rate, track_channels), (rate, channels));
    let frames = |s: &[f32]| s.len() / channels;
    assert!(frames(&samples).abs_diff(frames(&original)) <= 1, "{} of {}", frames(&samples), frames(&original));
    assert!((dub.duration.as_secs_f64() - frames(&original) as f64 / f64::from(rate)).abs() < 0.001);
    mixed(&samples, &original, rate, channels, &lines);

    dub.save(folder.path(), "clip").unwrap();
    let files = ["clip.en.srt", "clip.en.vtt", "clip.es.json", "clip.es.srt", "clip.es.vtt", "track.wav"];
    assert_eq!(names(folder.path()), files);
    assert_eq!(dub.files.len(), files.len());
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    same_cues(&text("clip.es.srt"), &dub.target_cues());
    same_cues(&text("clip.en.srt"), &dub.source_cues());
    assert!(text("clip.es.vtt").starts_with("WEBVTT"));
    let report: serde_json::Value = serde_json::from_str(&text("clip.es.json")).unwrap();
    assert_eq!((&report["from"], &report["to"], &report["complete"]), (&"en".into(), &"es".into(), &true.into()));
    assert_eq!(report["lines"].as_array().unwrap().len(), lines.len());
    assert_eq!(report["failed"], serde_json::json!([]));
    for (json, line) in report["lines"].as_array().unwrap().iter().zip(&lines) {
        assert_eq!(json["text"], line.text.as_str());
        assert_eq!(json["source"]["text"], line.source.text.as_str());
        let start = line.placement.unwrap().span.start.as_secs_f64();
        assert!((json["placement"]["start"].as_f64().unwrap() - start).abs() < 1e-9);
        for field in ["end", "rate", "stretch", "speed"] {
            assert!(json["placement"][field].as_f64().unwrap() > 0.0, "{field}");
        }
    }
    for stage in ["listen", "transcribe", "translate", "speak", "mix"] {
        assert!(report["times"][stage].as_f64().unwrap() > 0.0, "{stage}");
    }
    assert!(report["real_time_factor"].as_f64().unwrap() > 0.0);
    assert!((report["duration"].as_f64().unwrap() - dub.duration.as_secs_f64()).abs() < 1e-9);
    assert_eq!(report["models"].as_array().unwrap().len(), 3);

    // In memory, and started from bytes that are in memory, it is the same to the byte.
    let bytes = std::fs::read(clip(name)).unwrap();
    let (again, kept) = dub_all(&dubber(), DubRequest::new(bytes, Lang::ES).output(Output::Memory));
    assert_eq!(again, lines.iter().map(LineBits::from).collect::<Vec<_>>());
    assert!(kept.files.is_empty());
    assert!(kept.track.unwrap() == std::fs::read(&track).unwrap(), "the track in memory is another one");

    let said = truth(name).into_iter().map(|t| t.1).collect::<Vec<_>>().join(" ");
    let heard = lines.iter().map(|l| l.source.text.as_str()).collect::<Vec<_>>().join(" ");
    let wer = word_error_rate(&said, &heard);
    println!("{name}: word error rate {wer:.3}, {} lines for {} said", lines.len(), truth(name).len());
    for line in &lines {
        println!("  {:?}: {} -> {}", line.source.span, line.source.text, line.text);
    }
    assert!(wer < worst, "word error rate {wer} of {heard:?}");
}

#[test]
fn kitchen_whole() {
    within(300, || whole("kitchen.wav", 0.2));
}

#[test]
fn station_whole() {
    within(300, || whole("station.mp4", 0.35));
}

/// A voice that notes what it is asked to say.
struct Noted(Arc<dyn Tts>, Mutex<Vec<String>>);

impl Tts for Noted {
    fn synthesize(&self, texts: &[&str], opts: &TtsOptions, job: &Job) -> Vec<Result<Speech, Error>> {
        self.1.lock().unwrap().extend(texts.iter().map(|t| t.to_string()));
        self.0.synthesize(texts, opts, job)
    }

    fn duration(&self, text: &str, opts: &TtsOptions, job: &Job) -> Result<Option<Duration>, Error> {
        self.0.duration(text, opts, job)
    }

    fn info(&self) -> StageInfo {
        self.0.info()
    }
}

#[test]
fn scripts_are_spoken_as_written() {
    let _turn = shared();
    let noted = Arc::new(Noted(voice(), Mutex::default()));
    let deaf = Hear::new(|_, _| panic!("nobody listens to a scripted dub"));
    let dubber = Dubber::new(deaf, Some(translator()), Some(noted.clone()));
    let edited = ["Necesito ayuda en la cocina.", "", "Pon el agua al fuego.", "Espera diez minutos."];
    let script: Vec<ScriptLine> = truth("kitchen.wav")
        .into_iter()
        .zip(edited)
        .map(|((span, text), edit)| {
            let line = ScriptLine::new(span, text);
            if edit.is_empty() { line } else { line.target(edit) }
        })
        .collect();
    let mut run = dubber.start(request("kitchen.wav").script(script.clone()).output(Output::Memory), Job::new()).unwrap();
    let lines: Vec<Line> = run.by_ref().map(Result::unwrap).collect();
    let dub = run.finish().unwrap();
    assert!(dub.complete && dub.track.is_some());
    assert_eq!(lines.len(), script.len());
    in_place(&lines, &dub);
    for (line, wanted) in lines.iter().zip(&script) {
        assert_eq!(line.source.span, wanted.span);
        assert_eq!(line.source.text, wanted.source);
        assert_eq!(line.placement.unwrap().span.start, wanted.span.start);
        match &wanted.target {
            Some(text) => assert_eq!(&line.text, text),
            None => {
                let alone = translator().translate(&[&wanted.source], &TranslateOptions::new(Lang::EN, Lang::ES), &Job::new());
                assert_eq!(line.text, alone[0].as_ref().unwrap().text);
            }
        }
    }
    let spoken = lines.iter().map(|l| l.text.clone()).collect::<Vec<_>>();
    assert_eq!(*noted.1.lock().unwrap(), spoken);
    // A dub's own lines, as a script, give the same sound: nothing hangs on having been heard.
    let script = lines.iter().map(|l| ScriptLine::new(l.source.span, l.source.text.clone()).target(l.text.clone())).collect();
    let (again, _) = dub_all(&dubber, request("kitchen.wav").script(script));
    assert_eq!(again, lines.iter().map(LineBits::from).collect::<Vec<_>>());
}

#[test]
fn wrong_scripts_are_typed_errors() {
    let _turn = shared();
    let dubber = host_dubber();
    let line = |from, to| ScriptLine::new(span(from, to), "text").target("texto");
    let huge = |start: Duration, end: Duration| ScriptLine::new(dubcore::Span { start, end }, "text").target("texto");
    // This many seconds are 2^64 samples at 16 kHz, and a bit.
    let wraps = Duration::from_secs((1 << 60) / 1_000);
    for wrong in [
        vec![line(1.0, 2.0), line(1.5, 3.0)],
        vec![line(5.0, 6.0), line(1.0, 2.0)],
        vec![line(1.0, 1.0)],
        vec![huge(secs(2.0), secs(1.0))],
        vec![huge(secs(1.0), Duration::MAX)],
        vec![huge(secs(1.0), wraps + secs(0.5))],
        vec![huge(Duration::from_nanos(u64::MAX), Duration::MAX)],
    ] {
        let shown = format!("{wrong:?}");
        let e = dubber.start(request("kitchen.wav").script(wrong), Job::new()).err().unwrap_or_else(|| panic!("{shown}"));
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{shown}: {e:?}");
    }
    // How long the media are is known only later: that line fails, the others do not.
    let script = vec![line(1.0, 2.0), line(9.5, 30.0), line(40.0, 41.0)];
    let mut run = dubber.start(request("kitchen.wav").script(script).output(Output::Memory), Job::new()).unwrap();
    let results: Vec<_> = run.by_ref().collect();
    assert!(results[0].is_ok());
    let last = results[1].as_ref().unwrap().placement.unwrap();
    assert_eq!(results[2].as_ref().unwrap_err().kind(), ErrorKind::InvalidArgument);
    let dub = run.finish().unwrap();
    assert!(last.span.end <= dub.duration && !dub.complete);
    assert_eq!((dub.lines.len(), dub.failed.len(), dub.failed[0].index), (2, 1, 2));
    let (samples, ..) = read_all(dub.track.unwrap());
    assert_eq!(samples.len(), read_all(clip("kitchen.wav")).0.len());
    // What the voice cannot say fails in its line, too.
    let real = Dubber::new(plain_ears(), Some(translator()), Some(voice()));
    let script = vec![line(1.0, 2.0), ScriptLine::new(span(3.0, 4.0), "text").target(" … ")];
    let dub = real.start(request("kitchen.wav").script(script), Job::new()).unwrap().finish().unwrap();
    assert_eq!((dub.lines.len(), dub.failed[0].error.kind()), (1, ErrorKind::InvalidArgument));
}

#[test]
fn odd_options_do_no_harm() {
    let _turn = shared();
    // A line much too long for its place, with every option at its limit.
    let mouth = Arc::new(Say(|_: &str, _: &Job| Some(Ok(9.0))));
    let dubber = Dubber::new(plain_ears(), Some(plain_pen()), Some(mouth));
    let long = Duration::from_secs(10);
    for fit in [FitOptions::default().fade(long), FitOptions::default().guard(long), FitOptions::default().rate((4.0, 4.0))] {
        for mix in [MixOptions::default().duck_db(None).attack(long).release(long), MixOptions::default().original(false)] {
            let request = request("kitchen.wav").fit(fit.clone()).mix(mix).output(Output::Memory);
            let mut run = dubber.start(request, Job::new()).unwrap();
            let lines: Vec<Line> = run.by_ref().map(Result::unwrap).collect();
            let dub = run.finish().unwrap();
            assert!(lines.windows(2).all(|l| l[0].placement.unwrap().span.end <= l[1].placement.unwrap().span.start));
            assert!(dub.complete && lines.iter().all(|l| l.placement.unwrap().span.end <= dub.duration.max(l.source.span.start)));
        }
    }
}

/// The sample clips' sentences, one by one and in pairs: twenty clips.
fn sentences() -> Vec<Audio> {
    let mut clips = Vec::new();
    for name in ["kitchen.wav", "station.mp4"] {
        let (audio, lines) = (clip_audio(name), truth(name));
        let margin = Duration::from_millis(300);
        let cut = |from: Duration, to: Duration| audio.slice(dubcore::Span::new(from.saturating_sub(margin), to + margin));
        clips.extend(lines.iter().map(|(s, _)| cut(s.start, s.end)));
        clips.extend(lines.windows(2).step_by(2).take(20).map(|l| cut(l[0].0.start, l[1].0.end)));
    }
    clips.truncate(20);
    assert_eq!(clips.len(), 20);
    clips
}

#[test]
fn under_load_every_bit_is_the_same() {
    let _turn = shared();
    within(600, || {
        let clips = Arc::new(sentences());
        let one = |audio: &Audio| {
            let (lines, dub) = dub_all(&dubber(), DubRequest::new(audio.clone(), Lang::ES).output(Output::Memory));
            (lines, dub.track.unwrap())
        };
        let began = Instant::now();
        let serial: Arc<Vec<_>> = Arc::new(clips.iter().map(one).collect());
        println!(
            "20 clips, {} lines one after the other: {:?}",
            serial.iter().map(|d| d.0.len()).sum::<usize>(),
            began.elapsed()
        );
        assert!(serial.iter().filter(|d| !d.0.is_empty()).count() >= 18, "hardly anything was heard");
        let began = Instant::now();
        let todo = Arc::new(AtomicUsize::new(0));
        let total = clips.len() * rounds(1, 10);
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (clips, serial, todo) = (clips.clone(), serial.clone(), todo.clone());
                std::thread::spawn(move || {
                    loop {
                        let i = todo.fetch_add(1, Ordering::SeqCst);
                        if i >= total {
                            return;
                        }
                        // Another order than before, so that other clips meet.
                        let i = i * 7 % clips.len();
                        let got = one(&clips[i]);
                        assert_eq!(got.0.len(), serial[i].0.len(), "clip {i}");
                        for (got, want) in got.0.iter().zip(&serial[i].0) {
                            assert!(got == want, "clip {i} differs: {:.300?} for {:.300?}", got, want);
                        }
                        assert!(got.1 == serial[i].1, "clip {i}: another track");
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        println!("{total} clips by 8 threads: {:?}", began.elapsed());
    });
}

/// The contract is one second; the rest is for a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn cancelling_keeps_what_is_finished() {
    let _turn = alone();
    within(600, || {
        let folder = tempfile::tempdir().unwrap();
        let request = || request("station.mp4").output(folder.path().join("track.wav"));
        let dubber = dubber();
        let (want, _) = dub_all(&dubber, request());
        std::fs::remove_file(folder.path().join("track.wav")).unwrap();
        let mut latest = Duration::ZERO;
        for round in 0..rounds(4, 40) {
            let job = Job::new();
            let mut run = dubber.start(request(), job.clone()).unwrap();
            // Before the first line, behind the first ones, and when the recogniser is asked again.
            let before = [1, 0, 3, 6][round % 4];
            let mut got: Vec<LineBits> = run.by_ref().take(before).map(|l| LineBits::from(&l.unwrap())).collect();
            let canceller = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(7 * round as u64));
                let at = Instant::now();
                job.cancel();
                at
            });
            let e = loop {
                match run.next().expect("the end was reached, though cancelled") {
                    Ok(line) => got.push(LineBits::from(&line)),
                    Err(e) => break e,
                }
            };
            let returned = Instant::now();
            let late = returned.saturating_duration_since(canceller.join().unwrap());
            latest = latest.max(late);
            assert_eq!(e.kind(), ErrorKind::Cancelled);
            assert!(late < SOON, "returned {late:?} after it was cancelled");
            assert!(run.next().is_none() && run.next().is_none());
            assert_eq!(names(folder.path()), [""; 0], "the part goes at once");
            let dub = run.finish().unwrap();
            assert!(dub.cut_short && !dub.complete && dub.track.is_none() && dub.files.is_empty());
            assert_eq!(dub.lines.len(), got.len());
            assert_eq!(got, want[..got.len()]);
            assert!(dub.lines.iter().zip(&want).all(|(l, _)| l.placement.is_some()));
            assert_eq!(names(folder.path()), [""; 0]);
        }
        println!("cancelled: returned at most {latest:?} later");
        let (again, dub) = dub_all(&dubber, request());
        assert!(dub.complete && again == want, "another result after cancelling");
        assert_eq!(names(folder.path()), ["track.wav"]);
    });
}

#[test]
fn deadlines_end_a_run() {
    let _turn = alone();
    within(600, || {
        let folder = tempfile::tempdir().unwrap();
        let request = || request("kitchen.wav").output(folder.path().join("track.wav"));
        let dubber = dubber();
        let began = Instant::now();
        let (want, _) = dub_all(&dubber, request());
        let whole = began.elapsed();
        std::fs::remove_file(folder.path().join("track.wav")).unwrap();
        let mut ended = 0;
        for part in [0.8, 0.4, 0.1, 0.02] {
            let allowed = whole.mul_f64(part);
            let began = Instant::now();
            let mut run = dubber.start(request(), Job::new().timeout(allowed)).unwrap();
            let mut got = Vec::new();
            let mut end = None;
            for line in &mut run {
                match line {
                    Ok(line) => got.push(LineBits::from(&line)),
                    Err(e) => assert!(end.replace(e).is_none(), "one error ends it"),
                }
            }
            assert_eq!(got, want[..got.len()]);
            let dub = run.finish().unwrap();
            let Some(e) = end else {
                // The machine had become faster.
                assert!(dub.complete);
                std::fs::remove_file(folder.path().join("track.wav")).unwrap();
                continue;
            };
            ended += 1;
            assert_eq!(e.kind(), ErrorKind::DeadlineExceeded);
            assert!(began.elapsed() < allowed + SOON);
            assert!(dub.cut_short && !dub.complete && dub.track.is_none() && dub.lines.len() == got.len());
            assert_eq!(names(folder.path()), [""; 0]);
        }
        assert!(ended > 0);
        let e = dubber.start(request(), Job::new().timeout(Duration::ZERO)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::DeadlineExceeded);
        assert!(dub_all(&dubber, request()).0 == want);
    });
}

#[test]
fn dropping_a_run_leaves_nothing() {
    let _turn = shared();
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("track.wav");
    std::fs::write(&target, "what was there before").unwrap();
    let mut run = host_dubber().start(request("kitchen.wav").output(target.clone()), Job::new()).unwrap();
    run.next().unwrap().unwrap();
    assert_eq!(names(folder.path()), ["track.wav", "track.wav.part"]);
    drop(run);
    assert_eq!(names(folder.path()), ["track.wav"]);
    drop(host_dubber().start(request("kitchen.wav").output(target.clone()), Job::new()).unwrap());
    assert_eq!(names(folder.path()), ["track.wav"]);
    assert_eq!(std::fs::read(&target).unwrap(), b"what was there before");
    // It can be driven and finished by other threads than the one that began it.
    let run = host_dubber().start(request("kitchen.wav").output(target.clone()), Job::new()).unwrap();
    assert!(std::thread::spawn(move || run.finish()).join().unwrap().unwrap().complete);
    assert!(read_all(target).0.len() > 100_000);
}

/// Dubs the kitchen clip by these stages; the lines that failed, or what ended the run.
fn with(stt: Arc<dyn Stt>, pen: Arc<dyn dubcore::Translator>, mouth: Arc<dyn Tts>) -> Result<Dub, Error> {
    let folder = tempfile::tempdir().unwrap();
    let run = Dubber::new(stt, Some(pen), Some(mouth))
        .start(request("kitchen.wav").output(folder.path().join("track.wav")), Job::new())
        .unwrap();
    let result = run.finish();
    let written = names(folder.path());
    match &result {
        Ok(_) => {
            assert_eq!(written, ["track.wav"], "a track for all that");
            assert_eq!(read_all(folder.path().join("track.wav")).0.len(), read_all(clip("kitchen.wav")).0.len());
        }
        Err(_) => assert_eq!(written, [""; 0]),
    }
    result
}

fn failed(dub: &Dub) -> Vec<(usize, ErrorKind)> {
    dub.failed.iter().map(|f| (f.index, f.error.kind())).collect()
}

#[test]
fn a_line_that_fails_does_not_lose_the_others() {
    let _turn = shared();
    let total = with(plain_ears(), plain_pen(), plain_mouth()).unwrap();
    let count = total.lines.len();
    assert!(total.complete && count >= 3, "{count}");

    for kind in [ErrorKind::LimitExceeded, ErrorKind::Io, ErrorKind::Busy] {
        let pen = Arc::new(Write(move |texts: &[&str]| {
            texts.iter().map(|t| if t.contains("line 1") { Err(error(kind)) } else { Ok(t.to_string()) }).collect()
        }));
        let dub = with(plain_ears(), pen, plain_mouth()).unwrap();
        assert_eq!((failed(&dub), dub.lines.len(), dub.complete, dub.cut_short), (vec![(1, kind)], count - 1, false, false));
        assert_eq!(dub.failed[0].source.text, "This is line 1.");
        assert_eq!(dub.report()["failed"][0]["kind"], kind.as_str());
        assert!(dub.lines.iter().all(|l| l.index != 1));
    }
    // A voice's own trouble with its network or its time limit is not the end of the run.
    for kind in [ErrorKind::Internal, ErrorKind::Io, ErrorKind::DeadlineExceeded, ErrorKind::Cancelled] {
        let mouth = Arc::new(Say(move |t: &str, _: &Job| Some(if t.contains("LINE 0") { Err(error(kind)) } else { Ok(1.0) })));
        let dub = with(plain_ears(), plain_pen(), mouth).unwrap();
        assert_eq!((failed(&dub), dub.lines.len(), dub.complete, dub.cut_short), (vec![(0, kind)], count - 1, false, false));
    }
}

#[test]
fn where_every_line_fails_there_is_no_dub() {
    let _turn = shared();
    let pen = Arc::new(Write(|texts: &[&str]| texts.iter().map(|_| Err(error(ErrorKind::Busy))).collect()));
    let e = with(plain_ears(), pen, plain_mouth()).unwrap_err();
    assert_eq!((e.kind(), e.to_string().as_str()), (ErrorKind::Busy, "the host's own busy"));
    let mouth = Arc::new(Say(|_: &str, _: &Job| Some(Err(error(ErrorKind::LimitExceeded)))));
    assert_eq!(with(plain_ears(), plain_pen(), mouth).unwrap_err().kind(), ErrorKind::LimitExceeded);
    let deaf = Hear::new(|_, _| Err(error(ErrorKind::UnsupportedLanguage)));
    assert_eq!(with(deaf, plain_pen(), plain_mouth()).unwrap_err().kind(), ErrorKind::UnsupportedLanguage);
    // Nothing said is not a failure: the track is the original.
    let dub = with(Hear::new(|_, _| Ok(Vec::new())), plain_pen(), plain_mouth()).unwrap();
    assert!(dub.complete && dub.lines.is_empty());
}

#[test]
fn panics_of_a_hosts_stage_are_errors() {
    let _turn = shared();
    let count = with(plain_ears(), plain_pen(), plain_mouth()).unwrap().lines.len();
    let mouth = Arc::new(Say(|t: &str, _: &Job| if t.contains("LINE 1") { panic!("no voice for {t}") } else { Some(Ok(1.0)) }));
    let dub = with(plain_ears(), plain_pen(), mouth).unwrap();
    assert_eq!((failed(&dub), dub.lines.len()), (vec![(1, ErrorKind::Internal)], count - 1));
    assert!(dub.failed[0].error.to_string().contains("no voice for"), "{}", dub.failed[0].error);
    let mouth = Arc::new(Say(|_: &str, _: &Job| -> Option<Result<f64, Error>> { panic!("mute") }));
    assert_eq!(with(plain_ears(), plain_pen(), mouth).unwrap_err().kind(), ErrorKind::Internal);
    let pen = Arc::new(Write(|_: &[&str]| -> Vec<Result<String, Error>> { panic!("no ink") }));
    assert_eq!(with(plain_ears(), pen, plain_mouth()).unwrap_err().kind(), ErrorKind::Internal);
    let deaf = Hear::new(|_, _| panic!("deaf"));
    let e = with(deaf, plain_pen(), plain_mouth()).unwrap_err();
    assert!(e.kind() == ErrorKind::Internal && e.to_string().contains("deaf"), "{e}");

    // An observer's panic, too, ends the run, and not the host.
    let job = Job::new().observe(|p| assert!(p.fraction < 0.5, "half is enough"));
    let folder = tempfile::tempdir().unwrap();
    let mut run = host_dubber().start(request("kitchen.wav").output(folder.path().join("t.wav")), job).unwrap();
    let last = run.by_ref().last().unwrap();
    assert_eq!(last.unwrap_err().kind(), ErrorKind::Internal);
    assert!(run.next().is_none());
    assert_eq!(run.finish().unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn too_few_results_are_told() {
    let _turn = shared();
    let count = with(plain_ears(), plain_pen(), plain_mouth()).unwrap().lines.len();
    // Which of the texts was left out nobody can say, so none is believed.
    for keep in [0usize, 1, 2] {
        let pen = Arc::new(Write(move |texts: &[&str]| texts.iter().take(keep).map(|t| Ok(t.to_string())).collect()));
        assert_eq!(with(plain_ears(), pen, plain_mouth()).unwrap_err().kind(), ErrorKind::Internal);
    }
    let mouth = Arc::new(Say(|t: &str, _: &Job| if t.contains("LINE 2") { None } else { Some(Ok(1.0)) }));
    let dub = with(plain_ears(), plain_pen(), mouth).unwrap();
    assert_eq!((failed(&dub), dub.lines.len()), (vec![(2, ErrorKind::Internal)], count - 1));
    // A recogniser may hear nothing in some parts.
    let ears = Hear::new(|i, span| Ok(if i == 1 { Vec::new() } else { vec![Segment::new(span, format!("This is line {i}."))] }));
    let dub = with(ears, plain_pen(), plain_mouth()).unwrap();
    assert_eq!((dub.complete, dub.lines.len()), (true, count - 1));
}

#[test]
fn nonsense_of_a_recogniser_is_put_in_order() {
    let _turn = shared();
    let ears = Hear::new(|i, s| {
        let mut nan = Segment::new(s, format!("Number {i}. And more of it. And more."));
        nan.avg_logprob = Some(f64::NAN);
        let word = dubcore::Word::new("Far.", dubcore::Span { start: Duration::MAX, end: Duration::ZERO });
        let mut far = Segment::new(dubcore::Span { start: secs(1e9), end: Duration::MAX }, "Far.");
        far.words = vec![word];
        Ok(vec![
            far,
            Segment::new(dubcore::Span { start: s.end, end: s.start }, "Backwards."),
            Segment::new(span(0.0, 0.0), "Nothing."),
            nan,
            Segment::new(s, "   "),
            Segment::new(span(0.0, 1e6), "All of it, \u{0} and more: …"),
        ])
    });
    let folder = tempfile::tempdir().unwrap();
    let mut run = Dubber::new(ears, Some(plain_pen()), Some(plain_mouth()))
        .start(request("kitchen.wav").output(folder.path().join("t.wav")), Job::new())
        .unwrap();
    let mut end = Duration::ZERO;
    for line in run.by_ref() {
        let Ok(line) = line else { continue };
        let placed = line.placement.unwrap();
        assert!(placed.span.duration().is_zero() || placed.span.start >= end, "{placed:?} overlaps what ends at {end:?}");
        end = end.max(placed.span.end);
    }
    let dub = run.finish().unwrap();
    assert!(end <= dub.duration);
    assert_eq!(read_all(folder.path().join("t.wav")).0.len(), read_all(clip("kitchen.wav")).0.len());
}

/// Ears that are asked about their job while they work.
struct Patient(Arc<AtomicBool>);

impl Stt for Patient {
    fn transcribe(&self, _: &Audio, _: &SttOptions, job: &Job) -> Result<Transcript, Error> {
        self.0.store(true, Ordering::SeqCst);
        loop {
            job.check()?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn info(&self) -> StageInfo {
        StageInfo::new("host/patient")
    }
}

#[test]
fn a_hosts_stage_hears_of_the_cancel() {
    let _turn = shared();
    within(60, || {
        let listening = Arc::new(AtomicBool::new(false));
        let dubber = Dubber::new(Arc::new(Patient(listening.clone())), Some(plain_pen()), Some(plain_mouth()));
        let job = Job::new();
        let run = dubber.start(request("kitchen.wav"), job.clone()).unwrap();
        let worker = std::thread::spawn(move || run.finish());
        while !listening.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        job.cancel();
        let dub = worker.join().unwrap().unwrap();
        assert!(dub.cut_short && dub.lines.is_empty());
    });
}

#[test]
fn observers_may_call_anything() {
    let _turn = shared();
    within(300, || {
        let calls = Arc::new(AtomicUsize::new(0));
        let root = Job::new();
        let (counted, watched) = (calls.clone(), root.clone());
        let job = root.observe(move |progress| {
            assert!(watched.progress().fraction >= progress.fraction);
            assert!(watched.check().is_ok());
            let factory = Factory::global().unwrap();
            assert!(!factory.status().residents.is_empty());
            if counted.fetch_add(1, Ordering::SeqCst).is_multiple_of(4) {
                // The models at work just now, and a whole dub inside the dub.
                let text = translator().translate(&["It is cold."], &TranslateOptions::new(Lang::EN, Lang::ES), &Job::new());
                assert!(text[0].is_ok());
                let inner = Dubber::new(plain_ears(), Some(translator()), Some(plain_mouth()));
                assert!(inner.start(request("kitchen.wav"), Job::new()).unwrap().next().unwrap().is_ok());
            }
        });
        let dub = dubber().start(request("kitchen.wav"), job.clone()).unwrap().finish().unwrap();
        assert!(dub.complete && calls.load(Ordering::SeqCst) > 4);
        // Stages report from the compute threads, where calls may be made too.
        let reported = Arc::new(AtomicUsize::new(0));
        let count = reported.clone();
        let job = Job::new().observe(move |_| {
            if count.fetch_add(1, Ordering::SeqCst) == 1 {
                let speech = voice().synthesize(&["agua"], &TtsOptions::default(), &Job::new());
                assert!(speech[0].is_ok());
            }
        });
        let sound = clip_audio("kitchen.wav");
        assert!(!recogniser().transcribe(&sound, &SttOptions::default(), &job).unwrap().segments.is_empty());
        assert!(reported.load(Ordering::SeqCst) > 1);
    });
}

#[test]
fn without_a_voice_it_translates_and_without_a_pen_it_writes_down() {
    let _turn = shared();
    let dub =
        Dubber::new(plain_ears(), Some(plain_pen()), None).start(request("kitchen.wav"), Job::new()).unwrap().finish().unwrap();
    assert!(dub.complete && dub.lines.iter().all(|l| l.placement.is_none() && l.text.starts_with("THIS IS")));
    assert_eq!((dub.to, dub.track.is_none(), dub.models.len()), (Lang::ES, true, 2));
    let voiceless =
        Dubber::new(plain_ears(), Some(plain_pen()), None).start(request("kitchen.wav").output(Output::Memory), Job::new());
    assert_eq!(voiceless.unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(dub.target_cues()[0].0, dub.lines[0].source.span);
    let dub = Dubber::new(plain_ears(), None, None).start(request("kitchen.wav"), Job::new()).unwrap().finish().unwrap();
    assert!(dub.complete && dub.lines.iter().all(|l| l.text == l.source.text));
    assert_eq!(dub.to, Lang::EN);
}

#[test]
fn silence_and_very_short_sound_are_dubbed_to_themselves() {
    let _turn = shared();
    for samples in [0, 1, 100, 16_000, 160_000] {
        let audio = Audio::new(vec![0.0; samples], 16_000).unwrap();
        let (lines, dub) = dub_all(&dubber(), DubRequest::new(audio, Lang::ES).output(Output::Memory));
        assert!(lines.is_empty() && dub.complete);
        assert_eq!(read_all(dub.track.unwrap()).0, vec![0.0; samples]);
    }
    let limits = Limits::default().max_duration(Duration::from_secs(1));
    let e = dubber().start(request("kitchen.wav").limits(limits), Job::new()).map(|r| r.finish()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::LimitExceeded);
}
