//! Wrong and hostile inputs: each is a typed error, nothing is written, nothing is changed, and nothing hangs.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::*;
use dubcore::media::{Input, Limits, WavFormat, write_wav};
use dubcore::{
    Audio, Device, DubModels, DubRequest, Dubber, Error, ErrorKind, Factory, Fallback, FitOptions, HubOptions, Job, Lang,
    LoadOptions, MixOptions, ModelKey, ModelRef, Pipeline, SttOptions, Task, TranslateOptions, TtsOptions, dub_file,
};
use serde_json::{Value, json};

fn fr() -> Lang {
    "fr".parse().unwrap()
}

/// A dub into an empty folder, which must fail and leave it empty.
fn refused(dubber: &Dubber, request: DubRequest) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let request = request.output(folder.path().join("track.wav"));
    let shown = format!("{request:?}");
    let result = dubber.start(request, Job::new()).and_then(|run| run.finish());
    let e = result.err().unwrap_or_else(|| panic!("it was dubbed: {shown:.300}"));
    assert_eq!(names(folder.path()), [""; 0], "{shown:.300}");
    assert!(!e.to_string().is_empty());
    e
}

fn is(e: &Error, kind: ErrorKind, words: &[&str]) {
    assert_eq!(e.kind(), kind, "{e:?}");
    for word in words {
        assert!(e.report().contains(word), "{word:?} is not in {:?}", e.report());
    }
}

#[test]
fn inputs_that_are_no_media() {
    let dubber = host_dubber();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let dub = |path: &Path| refused(&dubber, DubRequest::new(path, Lang::ES));
    is(&dub(&folder.path().join("none.wav")), ErrorKind::Io, &["none.wav"]);
    is(&dub(folder.path()), ErrorKind::Io, &[]);
    is(&dub(Path::new("")), ErrorKind::Io, &[]);
    is(&dub(Path::new("/dev/null")), ErrorKind::Io, &[]);
    let empty = dub(&file("empty.wav", b""));
    assert!(matches!(empty.kind(), ErrorKind::UnsupportedMedia | ErrorKind::CorruptMedia), "{empty:?}");
    is(&dub(&file("text.mp4", "This is not a film. ".repeat(500).as_bytes())), ErrorKind::UnsupportedMedia, &[]);
    is(&dub(&file("page.mp3", b"<html><body>404</body></html>")), ErrorKind::UnsupportedMedia, &[]);
    let bytes: Arc<[u8]> = Arc::from(&b""[..]);
    let e = refused(&dubber, DubRequest::new(Input::from(bytes), Lang::ES));
    assert!(matches!(e.kind(), ErrorKind::UnsupportedMedia | ErrorKind::CorruptMedia), "{e:?}");
    for limits in [Limits::default().max_bytes(1_000), Limits::default().max_duration(Duration::ZERO)] {
        is(&refused(&dubber, DubRequest::new(clip("kitchen.wav"), Lang::ES).limits(limits)), ErrorKind::LimitExceeded, &[]);
    }
}

#[test]
fn media_that_end_too_early() {
    within(120, || {
        let dubber = host_dubber();
        for name in ["kitchen.wav", "station.mp4"] {
            let whole = std::fs::read(clip(name)).unwrap();
            for part in [0.000_03, 0.001, 0.01, 0.2, 0.5, 0.9, 0.999] {
                let cut = whole[..(whole.len() as f64 * part) as usize].to_vec();
                let e = refused(&dubber, DubRequest::new(cut, Lang::ES));
                let ok = matches!(e.kind(), ErrorKind::CorruptMedia) || part < 0.01 && e.kind() == ErrorKind::UnsupportedMedia;
                assert!(ok, "{name} cut to {part}: {e:?}");
            }
        }
    });
}

#[test]
fn damaged_media_are_dubbed_or_refused_but_nothing_worse() {
    within(300, || {
        let dubber = host_dubber();
        let mut seed = 1u64;
        let mut random = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize
        };
        for name in ["kitchen.wav", "station.mp4"] {
            let whole = std::fs::read(clip(name)).unwrap();
            for round in 0..rounds(30, 1_000) {
                let mut bytes = whole.clone();
                // Headers at both ends, mostly.
                let ends = 4_096.min(bytes.len() / 2);
                for _ in 0..1 + round % 20 {
                    let at = match round % 3 {
                        0 => random() % ends.min(200),
                        1 => bytes.len() - 1 - random() % ends,
                        _ => random() % bytes.len(),
                    };
                    bytes[at] = random() as u8;
                }
                let folder = tempfile::tempdir().unwrap();
                let request = DubRequest::new(bytes, Lang::ES).output(folder.path().join("track.wav"));
                match dubber.start(request, Job::new().timeout(Duration::from_secs(60))).and_then(|run| run.finish()) {
                    Ok(dub) => assert!(!dub.cut_short && names(folder.path()) == ["track.wav"], "{name} {round}"),
                    Err(e) => {
                        use ErrorKind::{CorruptMedia, InvalidArgument, LimitExceeded, UnsupportedMedia};
                        let kinds = [CorruptMedia, UnsupportedMedia, LimitExceeded, InvalidArgument];
                        assert!(kinds.contains(&e.kind()), "{name} {round}: {e:?}");
                        assert_eq!(names(folder.path()), [""; 0]);
                    }
                }
            }
        }
    });
}

/// Inputs at which a fuzzer stopped, each with what was wrong.
#[test]
fn what_fuzzers_found() {
    within(20, || {
        let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hostile");
        // A fragment of half a billion samples in a file of a kilobyte: counting them took for ever.
        is(&refused(&host_dubber(), DubRequest::new(found.join("trun.mp4"), Lang::ES)), ErrorKind::CorruptMedia, &["samples"]);
    });
}

#[test]
fn outputs_that_cannot_be() {
    let dubber = host_dubber();
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("clip.wav");
    std::fs::copy(clip("kitchen.wav"), &input).unwrap();
    std::os::unix::fs::symlink(&input, folder.path().join("link.wav")).unwrap();
    std::fs::create_dir(folder.path().join("folder.wav")).unwrap();
    let before = names(folder.path());
    let at = |output: PathBuf| {
        let request = DubRequest::new(input.clone(), Lang::ES).output(output);
        dubber.start(request, Job::new()).expect_err("it is known before anything is computed")
    };
    is(&at(folder.path().join("none/track.wav")), ErrorKind::Io, &["none"]);
    is(&at(folder.path().join("clip.wav/track.wav")), ErrorKind::Io, &[]);
    is(&at(folder.path().join("folder.wav")), ErrorKind::Io, &["folder.wav"]);
    is(&at(folder.path().to_path_buf()), ErrorKind::Io, &[]);
    is(&at(PathBuf::new()), ErrorKind::Io, &[]);
    is(&at(folder.path().join("..")), ErrorKind::Io, &[]);
    is(&at(folder.path().join("n".repeat(300))), ErrorKind::Io, &[]);
    is(&at(input.clone()), ErrorKind::InvalidArgument, &["is the input"]);
    is(&at(folder.path().join("folder.wav/../clip.wav")), ErrorKind::InvalidArgument, &[]);
    is(&at(folder.path().join("link.wav")), ErrorKind::InvalidArgument, &[]);
    assert_eq!(names(folder.path()), before);
    assert_eq!(std::fs::read(&input).unwrap(), std::fs::read(clip("kitchen.wav")).unwrap());
    // A file that is called like the unfinished output is not touched.
    let part = folder.path().join("track.wav.part");
    std::fs::write(&part, "mine").unwrap();
    let request = DubRequest::new(input.clone(), Lang::ES).output(folder.path().join("track.wav"));
    assert!(dubber.start(request, Job::new()).unwrap().finish().unwrap().complete);
    assert_eq!(std::fs::read(&part).unwrap(), b"mine");
}

#[test]
fn languages_that_nobody_speaks() {
    for code in ["", "xx", "klingon", "e", "en;rm -rf", "日本", "\0\0"] {
        is(&code.parse::<Lang>().unwrap_err(), ErrorKind::UnsupportedLanguage, &[]);
    }
    let factory = Factory::global().unwrap();
    let choose =
        |from: Option<Lang>, to| Dubber::from_factory(factory, &DubModels::default(), from, to, &Job::new()).err().unwrap();
    is(&choose(None, fr()), ErrorKind::UnsupportedLanguage, &["en->es", "French", "fr"]);
    is(&choose(Some(Lang::EN), fr()), ErrorKind::UnsupportedLanguage, &["en->es"]);
    is(&choose(Some(fr()), Lang::ES), ErrorKind::UnsupportedLanguage, &["en->es", "French"]);
    let request = || DubRequest::new(clip("kitchen.wav"), Lang::ES);
    for dubber in [dubber(), host_dubber()] {
        let mut to_french = request();
        to_french.to = fr();
        is(&refused(&dubber, to_french), ErrorKind::UnsupportedLanguage, &["es"]);
        is(&refused(&dubber, request().from(fr())), ErrorKind::UnsupportedLanguage, &["en"]);
    }
    is(&"tpu".parse::<Device>().unwrap_err(), ErrorKind::InvalidArgument, &["cpu"]);
}

#[test]
fn names_of_models_and_keys() {
    let mut nasty: Vec<String> =
        ["", "_", "____", "stt__cpu_1_on", "stt_a_cpu_-1_on", "stt_a_cpu_99999999999999999999_on", "%", "%2", "%zz_%5_%_%_%"]
            .map(String::from)
            .into();
    nasty.extend(
        ["a/b/c", "a//b", "micro/", "micro/../x", "a/b@", "a/b@../..", "-a/b", "a b/c", "日本/語", "/a\0b"].map(String::from),
    );
    nasty.push("x".repeat(1_000_000));
    let key = ModelKey::new("openai/whisper-base@refs/pr/1".parse().unwrap()).to_string();
    assert!(key.parse::<ModelKey>().is_ok());
    // Every prefix, and every character replaced by one that means something.
    for at in 0..key.len() {
        nasty.push(key[..at].into());
        nasty.extend(["_", "#", "+", "%", "@", "/", "\0", "é"].map(|c| format!("{}{c}{}", &key[..at], &key[at + 1..])));
    }
    for text in nasty {
        match text.parse::<ModelKey>() {
            Ok(key) => assert_eq!(key.to_string().parse::<ModelKey>().unwrap(), key),
            Err(e) => is(&e, ErrorKind::InvalidArgument, &[]),
        }
        match text.parse::<ModelRef>() {
            Ok(model) => assert_eq!(model.to_string().parse::<ModelRef>().unwrap(), model),
            Err(e) => is(&e, ErrorKind::InvalidArgument, &[]),
        }
    }
}

#[test]
fn whole_files_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short.wav");
    let audio = clip_audio("kitchen.wav").slice(span(0.3, 2.6));
    write_wav(&short, &audio, WavFormat::I16).unwrap();
    let out = folder.path().join("made/for/it");
    is(&dub_file(&folder.path().join("none.mp4"), Lang::ES, None, &out, &Job::new()).unwrap_err(), ErrorKind::Io, &["none.mp4"]);
    is(&dub_file(&short, fr(), None, &out, &Job::new()).unwrap_err(), ErrorKind::UnsupportedLanguage, &["en->es"]);
    let job = Job::new();
    job.cancel();
    is(&dub_file(&short, Lang::ES, None, &out, &job).unwrap_err(), ErrorKind::Cancelled, &[]);
    is(&dub_file(&short, Lang::ES, None, &short, &Job::new()).unwrap_err(), ErrorKind::Io, &["short.wav"]);
    assert_eq!(names(folder.path()), ["short.wav"]);
    // Cancelled on the way, it takes the folders that it made away again.
    let job = Job::new();
    let watched = job.clone();
    let e = dub_file(&short, Lang::ES, None, &out, &job.observe(move |_| watched.cancel())).unwrap_err();
    is(&e, ErrorKind::Cancelled, &[]);
    assert_eq!(names(folder.path()), ["short.wav"]);
    let dub = dub_file(&short, Lang::ES, Some(Lang::EN), &out, &Job::new()).unwrap();
    let files = ["short.en.srt", "short.en.vtt", "short.es.json", "short.es.srt", "short.es.vtt", "short.es.wav"];
    assert_eq!(names(&out), files);
    assert!(dub.complete && dub.files.len() == files.len() && dub.files.iter().all(|f| f.is_file()));
}

fn requests_out_of_range() -> Vec<(&'static str, DubRequest)> {
    let base = || DubRequest::new(clip("kitchen.wav"), Lang::ES);
    let tts = TtsOptions::default;
    let (fit, mix) = (FitOptions::default, MixOptions::default);
    let mut all = vec![
        ("beams", base().beams(99)),
        ("beams", base().stt(SttOptions::default().beams(17))),
        ("speaker", base().tts(tts().speaker(7))),
        ("speaker", base().tts(tts().speaker(usize::MAX))),
    ];
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e300, 0.0] {
        all.extend([
            ("speaking_rate", base().tts(tts().speaking_rate(bad))),
            ("rate", base().fit(fit().rate((bad, 1.2)))),
            ("rate", base().fit(fit().rate((0.9, bad)))),
            ("stretch", base().fit(fit().stretch((bad, 1.2)))),
            ("stretch", base().fit(fit().stretch((0.9, bad)))),
            ("max_stretch", base().fit(fit().max_stretch(bad))),
        ]);
        if bad != 0.0 {
            all.push(("noise_scale", base().tts(tts().noise_scale(bad))));
            all.push(("noise_scale_duration", base().tts(tts().noise_scale_duration(bad))));
            all.push(("no_speech", base().stt(SttOptions::default().fallback(Fallback::default().no_speech(bad)))));
        }
        if bad != 0.0 && bad != -1.0 {
            all.push(("duck_db", base().mix(mix().duck_db(bad))));
            all.push(("ceiling_db", base().mix(mix().ceiling_db(bad))));
        }
    }
    for long in [Duration::MAX, Duration::from_secs(11)] {
        all.extend([
            ("guard", base().fit(fit().guard(long))),
            ("fade", base().fit(fit().fade(long))),
            ("attack", base().mix(mix().attack(long))),
            ("release", base().mix(mix().release(long))),
        ]);
    }
    all
}

#[test]
fn options_out_of_range_are_known_before_anything_is_computed() {
    let dubber = dubber();
    for (name, request) in requests_out_of_range() {
        let shown = format!("{request:?}");
        let folder = tempfile::tempdir().unwrap();
        let run = dubber.start(request.output(folder.path().join("track.wav")), Job::new());
        let e = run.err().unwrap_or_else(|| panic!("{name} was taken: {shown}"));
        is(&e, ErrorKind::InvalidArgument, &[name]);
        assert_eq!(names(folder.path()), [""; 0]);
    }
}

#[test]
fn stages_refuse_options_and_inputs_that_make_no_sense() {
    let job = Job::new();
    let (ears, pen, mouth) = (recogniser(), translator(), voice());
    let second = Audio::new(vec![0.01; 16_000], 16_000).unwrap();
    let huge = dubcore::Span { start: Duration::from_millis(1), end: Duration::MAX };
    for opts in [
        SttOptions::default().beams(99),
        SttOptions::default().task(Task::Translate),
        SttOptions::default().spans(vec![span(0.0, 2.0)]),
        SttOptions::default().spans(vec![span(0.5, 0.5)]),
        SttOptions::default().spans(vec![span(0.5, 0.8), span(0.1, 0.3)]),
        SttOptions::default().spans(vec![huge]),
    ] {
        match ears.transcribe(&second, &opts, &job) {
            Err(e) => is(&e, ErrorKind::InvalidArgument, &[]),
            // A model of several languages may have the task of translating.
            Ok(_) => assert_eq!(opts.task, Task::Translate, "{opts:?}"),
        }
    }
    is(
        &ears.transcribe(&second, &SttOptions::default().language(fr()), &job).unwrap_err(),
        ErrorKind::UnsupportedLanguage,
        &["en"],
    );

    let to = TranslateOptions::new(Lang::EN, Lang::ES);
    for opts in [to.clone().beams(99), to.clone().beams(2).alternatives(2), to.clone().alternatives(usize::MAX)] {
        is(pen.translate(&["Hello."], &opts, &job)[0].as_ref().unwrap_err(), ErrorKind::InvalidArgument, &[]);
    }
    for opts in [TranslateOptions::new(Lang::EN, fr()), TranslateOptions::new(fr(), Lang::ES)] {
        is(pen.translate(&["Hello."], &opts, &job)[0].as_ref().unwrap_err(), ErrorKind::UnsupportedLanguage, &["es"]);
    }
    assert!(pen.translate(&[], &to, &job).is_empty());

    let tts = TtsOptions::default;
    let mut wrong = vec![tts().speaker(7), tts().speaking_rate(0.0)];
    for bad in [f64::NAN, f64::INFINITY, -1.0, 1e300] {
        wrong.extend([tts().speaking_rate(bad), tts().noise_scale(bad), tts().noise_scale_duration(bad)]);
    }
    for opts in wrong {
        is(mouth.synthesize(&["agua"], &opts, &job)[0].as_ref().unwrap_err(), ErrorKind::InvalidArgument, &[]);
        is(&mouth.duration("agua", &opts, &job).unwrap_err(), ErrorKind::InvalidArgument, &[]);
    }
    is(mouth.synthesize(&["agua"], &tts().language(fr()), &job)[0].as_ref().unwrap_err(), ErrorKind::UnsupportedLanguage, &[]);
    assert!(mouth.synthesize(&[], &tts(), &job).is_empty());

    for samples in [vec![f32::NAN], vec![0.0, f32::INFINITY]] {
        is(&Audio::new(samples, 16_000).unwrap_err(), ErrorKind::InvalidArgument, &[]);
    }
    for rate in [0, 1, 999, 384_001, u32::MAX] {
        is(&Audio::new(vec![0.0], rate).unwrap_err(), ErrorKind::InvalidArgument, &[]);
    }
}

#[test]
fn texts_of_any_kind_are_taken_or_refused() {
    within(300, || {
        let job = Job::new().timeout(Duration::from_secs(200));
        let (pen, mouth) = (translator(), voice());
        let to = TranslateOptions::new(Lang::EN, Lang::ES).max_tokens(8).beams(1);
        let long = "word ".repeat(50_000);
        let texts = [
            "",
            " ",
            "\n\t",
            "\0",
            "a\0b",
            "\u{feff}",
            "🙂🙃",
            "日本語のテキスト",
            "שלום עולם",
            "e\u{301}\u{301}\u{301}",
            "'\"\\<>&;--",
            ">>fra<< Hello",
            "</s><unk><pad>",
            "▁▁▁",
            "1234567890",
            "¡¿!?",
            "AAAA",
            "\u{202e}abc",
            "\u{10ffff}",
            long.as_str(),
        ];
        let fine = |e: &Error| matches!(e.kind(), ErrorKind::InvalidArgument | ErrorKind::LimitExceeded);
        let mut refused = 0;
        for text in texts {
            match &pen.translate(&[text], &to, &job)[0] {
                Ok(t) => assert!(t.score.is_finite(), "{text:.40?}"),
                Err(e) => assert!(fine(e), "{text:.40?}: {e:?}"),
            }
            match &mouth.synthesize(&[text], &TtsOptions::default(), &job)[0] {
                Ok(s) => assert!(s.audio.duration() < Duration::from_secs(60), "{text:.40?}"),
                Err(e) => {
                    refused += 1;
                    assert!(fine(e), "{text:.40?}: {e:?}");
                }
            }
        }
        assert!(refused >= 4, "nothing in most of these can be said");
        is(pen.translate(&[&long], &to, &job)[0].as_ref().unwrap_err(), ErrorKind::LimitExceeded, &[]);
        is(mouth.synthesize(&[&long], &TtsOptions::default(), &job)[0].as_ref().unwrap_err(), ErrorKind::LimitExceeded, &[]);
        // One that fails does not lose its neighbours.
        let mixed = pen.translate(&["It is cold.", &long, "It is cold."], &to, &job);
        assert!(mixed[0].is_ok() && mixed[1].is_err() && mixed[2].is_ok());
        assert_eq!(mixed[0].as_ref().unwrap().text, mixed[2].as_ref().unwrap().text);
    });
}

/// Loads a model as what it is, and makes it work a little.
fn load_and_use(stage: &str, model: &ModelRef) -> Result<(), Error> {
    let factory = Factory::builder().hub(HubOptions::default().downloads(false)).build().unwrap();
    let job = Job::new().timeout(Duration::from_secs(30));
    let opts = LoadOptions::default();
    match stage {
        "stt-en" => {
            let sound = Audio::new((0..8_000).map(|i| (i as f32 * 0.05).sin() * 0.1).collect(), 16_000)?;
            factory.stt(model, &opts, &job)?.transcribe(&sound, &SttOptions::default().max_tokens(3), &job)?;
        }
        "mt-en-es" => {
            let to = TranslateOptions::new(Lang::EN, Lang::ES).max_tokens(3);
            factory.translator(model, &opts, &job)?.translate(&["It is cold."], &to, &job).remove(0)?;
        }
        _ => {
            factory.tts(model, &opts, &job)?.synthesize(&["no"], &TtsOptions::default(), &job).remove(0)?;
        }
    }
    Ok(())
}

const MODELS: [&str; 3] = ["stt-en", "mt-en-es", "tts-es"];

#[test]
fn models_that_are_not_there_or_not_whole() {
    within(300, || {
        let folder = tempfile::tempdir().unwrap();
        let gone = ModelRef::directory(folder.path().join("none"));
        for stage in MODELS {
            is(&load_and_use(stage, &gone).unwrap_err(), ErrorKind::ModelNotFound, &["none"]);
            is(
                &load_and_use(stage, &ModelRef::directory(folder.path())).unwrap_err(),
                ErrorKind::ModelNotFound,
                &["config.json"],
            );
            is(&load_and_use(stage, &model("nobody/nothing-at-all")).unwrap_err(), ErrorKind::ModelNotFound, &["nobody/nothing"]);
            is(&load_and_use(stage, &model("micro/none")).unwrap_err(), ErrorKind::ModelNotFound, &["micro/stt-en"]);

            let copy = ModelCopy::new(stage);
            load_and_use(stage, &copy.model()).unwrap();
            let whole = copy.read("model.safetensors");
            for keep in [0, 1, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
                copy.write("model.safetensors", &whole[..keep]);
                is(&load_and_use(stage, &copy.model()).unwrap_err(), ErrorKind::ModelCorrupt, &["model.safetensors"]);
            }
            let mut longer = whole.clone();
            longer.push(0);
            copy.write("model.safetensors", &longer);
            is(&load_and_use(stage, &copy.model()).unwrap_err(), ErrorKind::ModelCorrupt, &[]);
            // A header that claims to be as long as anything.
            for length in [u64::MAX, 1 << 62, 1 << 33, whole.len() as u64] {
                let mut claim = whole.clone();
                claim[..8].copy_from_slice(&length.to_le_bytes());
                copy.write("model.safetensors", &claim);
                is(&load_and_use(stage, &copy.model()).unwrap_err(), ErrorKind::ModelCorrupt, &[]);
            }
            // Weights that are not numbers.
            let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
            let mut nan = whole.clone();
            nan[header..].fill(0xff);
            copy.write("model.safetensors", &nan);
            is(&load_and_use(stage, &copy.model()).unwrap_err(), ErrorKind::ModelCorrupt, &["NaN"]);
            // Weights that are, but make no sense together: no crash, whatever comes out.
            let mut large = whole.clone();
            for pair in large[header..].as_chunks_mut::<2>().0 {
                *pair = [0xff, 0x7b];
            }
            copy.write("model.safetensors", &large);
            if let Err(e) = load_and_use(stage, &copy.model()) {
                assert!(!e.to_string().contains("panicked"), "{e:?}");
                assert!(!matches!(e.kind(), ErrorKind::DeadlineExceeded | ErrorKind::InvalidArgument), "{e:?}");
            }
            for other in MODELS.iter().filter(|m| **m != stage) {
                copy.write("model.safetensors", ModelCopy::new(other).read("model.safetensors"));
                is(&load_and_use(stage, &copy.model()).unwrap_err(), ErrorKind::ModelCorrupt, &["model.safetensors"]);
            }
            copy.remove("model.safetensors");
            is(&load_and_use(stage, &copy.model()).unwrap_err(), ErrorKind::ModelNotFound, &["model.safetensors"]);
            copy.write("model.safetensors", &whole);
            load_and_use(stage, &copy.model()).unwrap();
        }
        let opts = LoadOptions::default();
        let e = Factory::global().unwrap().stt(&model("micro/tts-es"), &opts, &Job::new()).err().unwrap();
        is(&e, ErrorKind::ModelIncompatible, &["tts", "stt"]);
        for text in ["", " ", "../x", "a/b/c", "micro/", "micro/../stt-en", "a b", "x@", "~/x"] {
            let parsed = text.parse::<ModelRef>();
            let e = parsed.map(|m| load_and_use("stt-en", &m).unwrap_err()).unwrap_or_else(|e| e);
            assert!(matches!(e.kind(), ErrorKind::InvalidArgument | ErrorKind::ModelNotFound), "{text}: {e:?}");
        }
    });
}

#[test]
fn model_files_that_are_something_else() {
    within(300, || {
        for stage in MODELS {
            let copy = ModelCopy::new(stage);
            let whole = copy.read("config.json");
            let deep = "[".repeat(100_000);
            for text in ["", "{", "null", "[]", "\"whisper\"", "{\"model_type\": 3}", "{}", "\u{0}", deep.as_str()] {
                copy.write("config.json", text);
                is(&load_and_use(stage, &copy.model()).unwrap_err(), ErrorKind::ModelCorrupt, &["config.json"]);
            }
            for unknown in ["wav2vec2", "", "Whisper"] {
                let mut config: Value = serde_json::from_slice(&whole).unwrap();
                config["model_type"] = unknown.into();
                copy.write("config.json", config.to_string());
                is(
                    &load_and_use(stage, &copy.model()).unwrap_err(),
                    ErrorKind::ModelIncompatible,
                    &["whisper", "marian", "vits"],
                );
            }
            for other in ["whisper", "marian", "vits"] {
                let mut config: Value = serde_json::from_slice(&whole).unwrap();
                if config["model_type"] == other {
                    continue;
                }
                config["model_type"] = other.into();
                copy.write("config.json", config.to_string());
                let e = load_and_use(stage, &copy.model()).unwrap_err();
                assert!(
                    matches!(e.kind(), ErrorKind::ModelCorrupt | ErrorKind::ModelNotFound | ErrorKind::ModelIncompatible),
                    "{e:?}"
                );
            }
            copy.write("config.json", &whole);
            // Every other file empty, cut, of zeros, or of another kind; some of them are not needed.
            for file in names(copy.folder.path()).iter().filter(|f| !f.starts_with("model.") && !f.starts_with("config.")) {
                let whole = copy.read(file);
                let half = whole[..whole.len() / 2].to_vec();
                let contents =
                    [Vec::new(), half, vec![0; whole.len()], b"{}".to_vec(), b"[[[]]]".to_vec(), b"{\"a\": -1}".to_vec()];
                for content in contents {
                    copy.write(file, &content);
                    if let Err(e) = load_and_use(stage, &copy.model()) {
                        let kinds = [ErrorKind::ModelCorrupt, ErrorKind::ModelIncompatible, ErrorKind::ModelNotFound];
                        assert!(kinds.contains(&e.kind()), "{file} of {stage} as {content:.20?}: {e:?}");
                    }
                }
                copy.remove(file);
                if let Err(e) = load_and_use(stage, &copy.model()) {
                    is(&e, ErrorKind::ModelNotFound, &[file]);
                }
                copy.write(file, &whole);
            }
            load_and_use(stage, &copy.model()).unwrap();
        }
    });
}

/// Where numbers stand in a JSON value: all of an object's, and the first of each array.
fn numbers(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Number(_) => out.push(path.to_owned()),
        Value::Object(map) => map.iter().for_each(|(key, v)| numbers(v, &format!("{path}/{key}"), out)),
        Value::Array(items) => {
            if let Some(first) = items.first() {
                out.push(path.to_owned());
                numbers(first, &format!("{path}/0"), out);
            }
        }
        _ => {}
    }
}

/// Fields of training, which loading does not look at.
const UNREAD: &[&str] = &[
    "dropout",
    "layerdrop",
    "init",
    "mask_",
    "label",
    "classifier",
    "posterior",
    "spectrogram",
    "median",
    "pad_token",
    "bos_token",
    "prev_sot",
    "alignment_heads",
    "forced_decoder_ids",
    "dither",
    "padding",
    "chunk_size",
    "feature_size",
    "nb_max_frames",
];

fn absurd(path: &str) -> Vec<Value> {
    if UNREAD.iter().any(|u| path.contains(u)) && rounds(0, 1) == 0 {
        return vec![json!("x")];
    }
    vec![
        json!(0),
        json!(1),
        json!(2_147_483_648u64),
        json!(u64::MAX),
        json!(-1),
        json!(1.5e300),
        json!(-0.5),
        Value::Null,
        json!("x"),
        json!([]),
        json!([u64::MAX]),
    ]
}

/// Most memory this process ever had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn absurd_numbers(stage: &'static str) {
    within(600, move || {
        let copy = ModelCopy::new(stage);
        load_and_use(stage, &copy.model()).unwrap();
        let (mut tried, mut worked, mut wrong) = (0, 0, Vec::new());
        for file in ["config.json", "generation_config.json", "preprocessor_config.json", "tokenizer_config.json"] {
            if !copy.folder.path().join(file).is_file() {
                continue;
            }
            let whole = copy.read(file);
            let json = copy.json(file);
            let mut paths = Vec::new();
            numbers(&json, "", &mut paths);
            for path in paths {
                for value in absurd(&path) {
                    let mut changed = json.clone();
                    *changed.pointer_mut(&path).unwrap() = value.clone();
                    copy.write(file, changed.to_string());
                    tried += 1;
                    match load_and_use(stage, &copy.model()) {
                        Ok(()) => worked += 1,
                        Err(e) if matches!(e.kind(), ErrorKind::ModelCorrupt | ErrorKind::ModelIncompatible) => {
                            if e.to_string().contains("panicked") {
                                wrong.push(format!("{file}{path} = {value}: {e:?}"));
                            }
                        }
                        Err(e) => wrong.push(format!("{file}{path} = {value}: {e:?}")),
                    }
                }
            }
            copy.write(file, &whole);
        }
        println!("{stage}: {tried} changes, {worked} of them worked; peak memory {} MB", peak() >> 20);
        assert!(tried > 100 && worked > 10 && worked < tried);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(peak() < 3 << 30, "{} MB of memory", peak() >> 20);
        load_and_use(stage, &copy.model()).unwrap();
    });
}

#[test]
fn absurd_numbers_in_whisper() {
    absurd_numbers("stt-en");
}

#[test]
fn absurd_numbers_in_marian() {
    absurd_numbers("mt-en-es");
}

#[test]
fn absurd_numbers_in_vits() {
    absurd_numbers("tts-es");
}
