//! The cache of results: what is found, what is not, what is computed again, and that neither a full disk nor a process
//! that is killed harms what is there.

mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use dubcore::{
    Audio, Dub, DubRequest, Dubber, Error, ErrorKind, FitOptions, Job, Lang, Metadata, Output, Pipeline, ResultCache,
    ResultCacheOptions, ScriptLine, Segment, Speech, StageInfo, Stt, SttOptions, Transcript, TranslateOptions, Translation,
    Translator, Tts, TtsOptions,
};

type Result<T> = dubcore::Result<T>;

/// A stage that is fast, makes what it makes of what it is given, and tells of every call.
#[derive(Clone)]
struct Told {
    revision: &'static str,
    tell: Arc<dyn Fn(String) + Send + Sync>,
}

impl Told {
    fn info(&self, name: &str) -> StageInfo {
        let mut info = StageInfo::new(format!("host/{name}")).languages([Lang::EN], [Lang::ES]);
        info.revision = self.revision.into();
        info
    }
}

impl Stt for Told {
    fn transcribe(&self, audio: &Audio, opts: &SttOptions, job: &Job) -> Result<Transcript> {
        job.check()?;
        (self.tell)(format!("hear {}", audio.len()));
        let say = |s: &dubcore::Span| {
            let loud = audio.slice(*s).samples().iter().filter(|x| x.abs() > 0.01).count();
            Segment::new(*s, format!("There were {loud} loud samples."))
        };
        let metadata = Metadata::new(&Stt::info(self), Duration::from_millis(5), audio.duration());
        Ok(Transcript::new(Lang::EN, opts.spans.iter().map(say).collect(), metadata))
    }

    fn info(&self) -> StageInfo {
        self.info("ears")
    }
}

impl Translator for Told {
    fn translate(&self, texts: &[&str], _: &TranslateOptions, _: &Job) -> Vec<Result<Translation>> {
        (self.tell)(format!("translate {}", texts.join(" / ")));
        let one = |t: &&str| match t.contains("impossible") {
            true => Err(Error::new(ErrorKind::Internal, "impossible")),
            false => Ok(Translation::new(t.to_uppercase(), -0.1, Metadata::default())),
        };
        texts.iter().map(one).collect()
    }

    fn info(&self) -> StageInfo {
        self.info("pen")
    }
}

impl Tts for Told {
    fn synthesize(&self, texts: &[&str], opts: &TtsOptions, _: &Job) -> Vec<Result<Speech>> {
        (self.tell)(format!("speak {} at {:.3}", texts.join(" / "), opts.speaking_rate));
        texts.iter().map(|t| Ok(tone(t.len() as f64 * 0.06 / opts.speaking_rate))).collect()
    }

    fn duration(&self, text: &str, opts: &TtsOptions, _: &Job) -> Result<Option<Duration>> {
        (self.tell)(format!("predict {text}"));
        Ok(Some(secs(text.len() as f64 * 0.06 / opts.speaking_rate)))
    }

    fn info(&self) -> StageInfo {
        self.info("mouth")
    }
}

type Calls = Arc<Mutex<Vec<String>>>;

fn told(revision: &'static str) -> (Told, Calls) {
    let calls = Calls::default();
    let sink = calls.clone();
    (Told { revision, tell: Arc::new(move |call| sink.lock().unwrap().push(call)) }, calls)
}

fn told_dubber(stage: &Told) -> Dubber {
    Dubber::new(Arc::new(stage.clone()), Some(Arc::new(stage.clone())), Some(Arc::new(stage.clone())))
}

fn taken(calls: &Calls) -> Vec<String> {
    std::mem::take(&mut calls.lock().unwrap())
}

fn cache(opts: ResultCacheOptions) -> ResultCache {
    ResultCache::new(opts).unwrap()
}

fn on_disk(folder: &Path) -> ResultCache {
    cache(ResultCacheOptions::default().disk(folder.to_path_buf()))
}

fn request() -> DubRequest {
    DubRequest::new(clip("kitchen.wav"), Lang::ES).output(Output::Memory)
}

/// The files of the results in a folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for inside in std::fs::read_dir(folder).unwrap() {
        let files = std::fs::read_dir(inside.unwrap().path()).unwrap().map(|f| f.unwrap().path());
        found.extend(files.filter(|f| f.extension().is_some_and(|e| e == "result")));
    }
    found.sort();
    found
}

#[test]
fn stages_remember_what_they_gave() {
    let (stage, calls) = told("r1");
    let cache = cache(ResultCacheOptions::default());
    let job = Job::new();
    let translator = cache.translator(Arc::new(stage.clone()));
    let opts = TranslateOptions::new(Lang::EN, Lang::ES);
    let ask = |texts: &[&str], opts: &TranslateOptions| translator.translate(texts, opts, &job);
    let first = ask(&["one", "impossible", "two"], &opts);
    assert!(!first[0].as_ref().unwrap().metadata.cached && first[1].is_err());
    // Only what is missing is asked for; failures are asked for again.
    let second = ask(&["two", "three", "impossible", "one"], &opts);
    assert_eq!(taken(&calls), ["translate one / impossible / two", "translate three / impossible"]);
    let texts = |r: &[Result<Translation>]| r.iter().map(|t| t.as_ref().ok().map(|t| t.text.clone())).collect::<Vec<_>>();
    assert_eq!(texts(&second), [Some("TWO".into()), Some("THREE".into()), None, Some("ONE".into())]);
    let cached: Vec<_> = second.iter().map(|t| t.as_ref().is_ok_and(|t| t.metadata.cached)).collect();
    assert_eq!(cached, [true, false, false, true]);
    // Another option is another result.
    assert!(!ask(&["one"], &opts.clone().beams(2))[0].as_ref().unwrap().metadata.cached);
    assert_eq!(taken(&calls).len(), 1);
    let status = cache.status();
    assert_eq!((status.hits, status.misses, status.entries), (2, 6, 4));
    assert!((status.hit_rate - 0.25).abs() < 1e-9 && status.bytes > 0 && status.evictions == 0);

    let (stt, tts) = (cache.stt(Arc::new(stage.clone())), cache.tts(Arc::new(stage.clone())));
    let audio = clip_audio("kitchen.wav");
    let hear = |audio: &Audio| stt.transcribe(audio, &SttOptions::default().spans(vec![span(0.0, 1.0)]), &job).unwrap();
    let (one, two) = (hear(&audio), hear(&Audio::new(audio.samples().to_vec(), audio.rate()).unwrap()));
    assert_eq!(one.segments, two.segments);
    assert!(!one.metadata.cached && two.metadata.cached && two.metadata.audio_duration == audio.duration());
    assert!(!hear(&audio.slice(span(0.0, 2.0))).metadata.cached);
    let say = |opts: &TtsOptions| tts.synthesize(&["hola"], opts, &job).remove(0).unwrap();
    let (one, two) = (say(&TtsOptions::default()), say(&TtsOptions::default()));
    assert_eq!(one.audio.samples(), two.audio.samples());
    assert!(two.metadata.cached && !say(&TtsOptions::default().seed(1)).metadata.cached);
    taken(&calls);
    let predict = || tts.duration("hola", &TtsOptions::default(), &job).unwrap();
    assert_eq!(predict(), predict());
    assert_eq!(taken(&calls), ["predict hola"]);

    // Somebody who was cancelled gets nothing, not even what is there.
    job.cancel();
    assert_eq!(ask(&["one"], &opts)[0].as_ref().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(stt.transcribe(&audio, &SttOptions::default(), &job).unwrap_err().kind(), ErrorKind::Cancelled);
    cache.clear();
    assert_eq!((cache.status().entries, cache.status().bytes), (0, 0));
}

#[test]
fn another_revision_is_another_model_and_none_is_not_remembered() {
    let cache = cache(ResultCacheOptions::default());
    let opts = TranslateOptions::new(Lang::EN, Lang::ES);
    let mut computed = Vec::new();
    for revision in ["r1", "r2", "r1", "", ""] {
        let (stage, calls) = told(revision);
        let translator = cache.translator(Arc::new(stage));
        translator.translate(&["one"], &opts, &Job::new()).remove(0).unwrap();
        computed.push(taken(&calls).len());
    }
    assert_eq!(computed, [1, 1, 0, 1, 1]);
    let (stage, calls) = told("");
    let dubber = told_dubber(&stage).remembering(&cache);
    dub_all(&dubber, request());
    let once = taken(&calls).len();
    assert!(!dub_all(&dubber, request()).1.cached);
    assert_eq!(taken(&calls).len(), once);
}

#[test]
fn bounds_hold_and_age_ends_a_result() {
    let opts = TranslateOptions::new(Lang::EN, Lang::ES);
    let (stage, calls) = told("r1");
    let small = cache(ResultCacheOptions::default().entries(3));
    let translator = small.translator(Arc::new(stage.clone()));
    let ask = |text: &str| translator.translate(&[text], &opts, &Job::new()).remove(0).unwrap().metadata.cached;
    assert_eq!(["a", "b", "c", "a", "d", "a", "b"].map(ask), [false, false, false, true, false, true, false]);
    assert_eq!((small.status().entries, small.status().evictions), (3, 2));

    // Large ones push out others, one that is too large is not kept, and the sum never exceeds the bound.
    let tight = cache(ResultCacheOptions::default().bytes(1 << 20));
    let voice = tight.tts(Arc::new(stage.clone()));
    let say = |len: usize| {
        voice.synthesize(&[&"x".repeat(len)], &TtsOptions::default(), &Job::new()).remove(0).unwrap();
        let status = tight.status();
        assert!(status.bytes <= 1 << 20, "{status:?}");
        (status.entries, status.evictions)
    };
    // A letter is 0.06 s, which is 3,840 bytes.
    assert_eq!([100, 101, 102, 103, 400].map(say), [(1, 0), (2, 0), (2, 1), (2, 2), (2, 2)]);

    let brief = cache(ResultCacheOptions::default().ttl(Duration::from_millis(100)));
    let translator = brief.translator(Arc::new(stage));
    let ask = || translator.translate(&["a"], &opts, &Job::new()).remove(0).unwrap().metadata.cached;
    taken(&calls);
    ask();
    std::thread::sleep(Duration::from_millis(150));
    assert!(!ask());
    std::thread::sleep(Duration::from_millis(150));
    brief.sweep();
    assert_eq!((brief.status().entries, brief.status().bytes, brief.status().evictions), (0, 0, 2));

    for wrong in [
        ResultCacheOptions::default().entries(0),
        ResultCacheOptions::default().bytes(0),
        ResultCacheOptions::default().ttl(Duration::ZERO),
        ResultCacheOptions::default().disk(std::env::temp_dir()).disk_bytes(0),
    ] {
        assert_eq!(ResultCache::new(wrong).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let wrong = ResultCacheOptions::default().disk(file.path().join("results"));
    assert_eq!(ResultCache::new(wrong).unwrap_err().kind(), ErrorKind::Io);
}

fn same(a: &(Vec<LineBits>, Dub), b: &(Vec<LineBits>, Dub)) {
    assert_eq!(a.0, b.0);
    assert!(a.1.track == b.1.track, "the tracks differ");
    assert_eq!((a.1.from, a.1.to, a.1.duration, &a.1.models), (b.1.from, b.1.to, b.1.duration, &b.1.models));
}

#[test]
fn a_whole_dub_is_given_again() {
    let _turn = shared();
    let (stage, calls) = told("r1");
    let dubber = told_dubber(&stage).remembering(&cache(ResultCacheOptions::default()));
    let first = dub_all(&dubber, request());
    assert!(!first.1.cached && first.1.complete && !taken(&calls).is_empty());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = seen.clone();
    let job = Job::new().observe(move |p| sink.lock().unwrap().push(p.clone()));
    let mut run = dubber.start(request(), job).unwrap();
    let lines = run.by_ref().map(|l| LineBits::from(&l.unwrap())).collect();
    let second = (lines, run.finish().unwrap());
    assert!(second.1.cached && second.1.complete && taken(&calls).is_empty());
    same(&first, &second);
    assert_eq!(second.1.report()["cached"], true);
    let last = seen.lock().unwrap().last().unwrap().clone();
    assert!(last.fraction == 1.0 && last.parts.len() == 4);

    // The same media from elsewhere, and to elsewhere.
    let folder = tempfile::tempdir().unwrap();
    let (copy, track) = (folder.path().join("copy.bin"), folder.path().join("track.wav"));
    std::fs::copy(clip("kitchen.wav"), &copy).unwrap();
    let third = dub_all(&dubber, DubRequest::new(copy.clone(), Lang::ES).output(track.clone()));
    assert!(third.1.cached && taken(&calls).is_empty());
    assert_eq!(third.1.files, std::slice::from_ref(&track));
    assert!(Some(std::fs::read(&track).unwrap()) == first.1.track);
    assert_eq!(names(folder.path()), ["copy.bin", "track.wav"]);

    // What is computed to a file is found again, too.
    let quiet = |r: DubRequest| r.fit(FitOptions::default().guard(Duration::from_millis(60)));
    let to_file = dub_all(&dubber, quiet(request()).output(track.clone()));
    assert!(!to_file.1.cached);
    let to_memory = dub_all(&dubber, quiet(request()));
    assert!(to_memory.1.cached && to_memory.1.track == Some(std::fs::read(&track).unwrap()));

    // Every option counts; other media do, too.
    let mut bytes = std::fs::read(&copy).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    for other in [
        request().from(Lang::EN),
        request().output(Output::Discard),
        request().format(dubcore::media::WavFormat::F32),
        request().beams(3),
        request().tts(TtsOptions::default().seed(9)),
        request().mix(dubcore::MixOptions::default().duck_db(None)),
        request().script(vec![ScriptLine::new(span(0.5, 2.0), "Hello.")]),
        request().track(0),
        DubRequest::new(bytes, Lang::ES).output(Output::Memory),
    ] {
        assert!(!dub_all(&dubber, other.clone()).1.cached, "{other:?}");
        assert!(dub_all(&dubber, other.clone()).1.cached, "{other:?}");
    }

    // A run that is cancelled gives what was pulled, and no track.
    let job = Job::new();
    let mut run = dubber.start(request(), job.clone()).unwrap();
    run.next().unwrap().unwrap();
    job.cancel();
    assert_eq!(run.next().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(run.next().is_none());
    let cut = run.finish().unwrap();
    assert!(cut.cut_short && !cut.complete && cut.lines.len() == 1 && cut.track.is_none());
}

#[test]
fn an_edited_line_costs_what_depends_on_it() {
    let (stage, calls) = told("r1");
    let dubber = told_dubber(&stage).remembering(&cache(ResultCacheOptions::default()));
    let line = |i: u32, text: &str| ScriptLine::new(span(f64::from(i) * 1.5, f64::from(i) * 1.5 + 1.2), text);
    let script = |texts: [&str; 3]| request().script((0..).zip(texts).map(|(i, t)| line(i, t)).collect());
    dub_all(&dubber, script(["One.", "Two.", "Three."]));
    taken(&calls);
    // The text of the original: translated and spoken anew, the others are not.
    dub_all(&dubber, script(["One.", "Second.", "Three."]));
    let again = taken(&calls);
    assert!(again.iter().all(|c| c.to_lowercase().contains("second.")), "{again:?}");
    assert_eq!(again.len(), 3, "{again:?}");
    // The translation of one line: it is spoken, nothing is translated.
    let mut edited = script(["One.", "Second.", "Three."]);
    edited.script[2] = line(2, "Three.").target("Trece.");
    dub_all(&dubber, edited);
    let again = taken(&calls);
    assert!(again.iter().all(|c| c.contains("Trece.") && !c.starts_with("translate")), "{again:?}");
    // The time of one line: at most the voice, for another rate.
    let mut moved = script(["One.", "Two.", "Three."]);
    moved.script[2].span = span(3.1, 3.3);
    dub_all(&dubber, moved);
    let again = taken(&calls);
    assert!(again.len() == 1 && again[0].starts_with("speak THREE."), "{again:?}");
}

#[test]
fn results_outlive_the_process_and_damage_is_a_miss() {
    let folder = tempfile::tempdir().unwrap();
    let opts = TranslateOptions::new(Lang::EN, Lang::ES);
    let (stage, calls) = told("r1");
    // Each time as a new process would see it.
    let ask = |text: &str| {
        let translator = on_disk(folder.path()).translator(Arc::new(stage.clone()));
        let found = translator.translate(&[text], &opts, &Job::new()).remove(0).unwrap();
        assert_eq!(found.text, text.to_uppercase());
        found.metadata.cached
    };
    assert!(!ask("one") && ask("one"));
    let [entry] = &entries(folder.path())[..] else { panic!("one entry") };
    let whole = std::fs::read(entry).unwrap();
    for len in 0..whole.len() {
        std::fs::write(entry, &whole[..len]).unwrap();
        assert!(!ask("one"), "cut to {len}");
    }
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        std::fs::write(entry, flipped).unwrap();
        assert!(!ask("one"), "flipped at {at}");
    }
    // A good entry in another's place.
    assert!(!ask("two"));
    for file in entries(folder.path()) {
        std::fs::write(file, &whole).unwrap();
    }
    assert!(!ask("two") && ask("one"));
    // Longer than it says.
    std::fs::write(entry, [&whole[..], b"more"].concat()).unwrap();
    assert!(!ask("one"));
    taken(&calls);

    // Nobody else may read what people said.
    #[cfg(unix)]
    for inside in std::fs::read_dir(folder.path()).unwrap().flatten() {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(inside.metadata().unwrap().permissions().mode() & 0o77, 0);
    }
    // The folder may be emptied under it.
    let cache = on_disk(folder.path());
    for inside in std::fs::read_dir(folder.path()).unwrap().flatten() {
        std::fs::remove_dir_all(inside.path()).unwrap();
    }
    let translator = cache.translator(Arc::new(stage));
    translator.translate(&["three"], &opts, &Job::new()).remove(0).unwrap();
    assert_eq!((entries(folder.path()).len(), cache.status().disk_failures), (1, 0));
    cache.clear();
    assert!(entries(folder.path()).is_empty());
}

#[test]
fn the_disk_is_bounded_and_tidied() {
    let folder = tempfile::tempdir().unwrap();
    let (stage, _) = told("r1");
    let open = |bytes, ttl| {
        cache(ResultCacheOptions::default().disk(folder.path().to_path_buf()).disk_bytes(bytes).ttl(Duration::from_millis(ttl)))
    };
    let say = |cache: &ResultCache, len: usize| {
        let voice = cache.tts(Arc::new(stage.clone()));
        voice.synthesize(&[&"x".repeat(len)], &TtsOptions::default(), &Job::new()).remove(0).unwrap().metadata.cached
    };
    let size = || entries(folder.path()).iter().map(|e| e.metadata().unwrap().len()).sum::<u64>();
    let bound = 1 << 20;
    let one = open(bound, 60_000);
    // Two processes write in turns; neither sees the other's count, both see the folder.
    let other = open(bound, 60_000);
    for len in 10..60 {
        say(&one, len);
        say(&other, len + 100);
        assert!(size() <= 2 * bound, "{}", size());
    }
    assert!(one.status().evictions > 0 && other.status().evictions > 0);
    assert!(one.status().disk_failures == 0 && other.status().disk_failures == 0);
    one.sweep();
    assert!(size() <= bound);
    // What was used last is still there.
    assert!(say(&open(bound, 60_000), 159));
    // More than fits at all is not written, nor is anything removed for it.
    let before = entries(folder.path()).len();
    say(&one, 400);
    assert_eq!(entries(folder.path()).len(), before);

    // What a killed process left goes when it is old, and so do results.
    let part = folder.path().join("unfinished/left.1.2.part");
    std::fs::write(&part, "half").unwrap();
    one.sweep();
    assert!(part.exists(), "its writer may be at work");
    let old = std::time::SystemTime::now() - Duration::from_secs(3_600);
    std::fs::File::options().write(true).open(&part).unwrap().set_modified(old).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    open(bound, 10).sweep();
    assert!(!part.exists() && entries(folder.path()).is_empty());
}

/// Runs the test `test` again in a process of its own, where [`folder_of_child`] tells it that it is the child.
fn child(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env("DUBCORE_TEST_FOLDER", folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn folder_of_child() -> Option<PathBuf> {
    std::env::var_os("DUBCORE_TEST_FOLDER").map(PathBuf::from)
}

/// Sentences that nobody computed before.
fn texts(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|i| format!("Sentence number {i}, {}", "word ".repeat(i % 50))).collect()
}

/// Writes until it is killed.
fn writer(folder: &Path) -> ! {
    let cache = on_disk(folder);
    let translator = cache.translator(Arc::new(told("r1").0));
    let opts = TranslateOptions::new(Lang::EN, Lang::ES);
    loop {
        for text in texts(0, 500) {
            translator.translate(&[&text], &opts, &Job::new()).remove(0).unwrap();
        }
        cache.clear();
    }
}

#[test]
fn killed_writers_do_no_harm() {
    if let Some(folder) = folder_of_child() {
        writer(&folder);
    }
    let _turn = shared();
    let folder = tempfile::tempdir().unwrap();
    let opts = TranslateOptions::new(Lang::EN, Lang::ES);
    let mut written = 0;
    for kill in 0..200u64 {
        let mut writers: Vec<_> = (0..2).map(|_| child("killed_writers_do_no_harm", folder.path()).spawn().unwrap()).collect();
        std::thread::sleep(Duration::from_millis(5 + kill * 7919 % 40));
        for writer in &mut writers {
            assert!(writer.try_wait().unwrap().is_none(), "it was to be killed");
            writer.kill().unwrap();
            writer.wait().unwrap();
        }
        if kill % 20 == 0 || kill == 199 {
            // Everything that has its name is whole, and right.
            let cache = on_disk(folder.path());
            let before = entries(folder.path()).len();
            let (stage, calls) = told("r1");
            let translator = cache.translator(Arc::new(stage));
            let all = texts(0, 500);
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            for (text, found) in all.iter().zip(translator.translate(&all, &opts, &Job::new())) {
                assert_eq!(found.unwrap().text, text.to_uppercase());
            }
            let status = cache.status();
            assert_eq!(status.hits as usize, before, "what was there was found");
            assert_eq!(status.disk_failures, 0);
            written = written.max(before);
            assert_eq!(calls.lock().unwrap().len(), usize::from(before < 500));
            cache.clear();
        }
    }
    assert!(written > 20, "the writers were killed before they wrote: {written}");
}

/// Stages that write down each call before they begin it and behind it, so that a process that is killed has told.
fn logged(log: &Path) -> Dubber {
    let log = log.to_path_buf();
    let tell = move |call: String| {
        let mut file = std::fs::File::options().append(true).create(true).open(&log).unwrap();
        file.write_all(format!("{call}\n").as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    };
    told_dubber(&Told { revision: "r1", tell: Arc::new(tell) })
}

fn log_of(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// What was done in calls, each thing once. Of a batch whose results were being kept, those that were not are asked for again.
fn work_of(calls: &[String]) -> std::collections::BTreeSet<String> {
    let each = |call: &String| match call.strip_prefix("translate ") {
        Some(texts) => texts.split(" / ").map(|t| format!("translate {t}")).collect(),
        None => vec![call.clone()],
    };
    calls.iter().flat_map(each).collect()
}

#[test]
fn a_killed_dub_goes_on_where_it_was() {
    const LOG: &str = "calls.log";
    const TRACK: &str = "track.wav";
    if let Some(folder) = folder_of_child() {
        let dubber = logged(&folder.join(LOG)).remembering(&on_disk(&folder.join("results")));
        let request = DubRequest::new(clip("station.mp4"), Lang::ES).output(folder.join(TRACK));
        assert!(dubber.start(request, Job::new()).unwrap().finish().unwrap().complete);
        return;
    }
    let _turn = shared();
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let folder = place.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    };
    let run = |folder: &Path| child("a_killed_dub_goes_on_where_it_was", folder).spawn().unwrap();
    // Undisturbed: how long it takes, what it calls, what it gives.
    let began = Instant::now();
    assert!(run(&at("whole")).wait().unwrap().success());
    let (time, want) = (began.elapsed(), log_of(&at("whole").join(LOG)));
    assert!(want.len() > 5, "{want:?}");
    let track = std::fs::read(at("whole").join(TRACK)).unwrap();

    let (mut kills, mut dubs) = (0, 0);
    while kills < 200 {
        dubs += 1;
        let folder = at(&dubs.to_string());
        let out = folder.join(TRACK);
        let mut killed = 0;
        loop {
            let mut process = run(&folder);
            // Ever later, so that each dub is killed several times and ends.
            std::thread::sleep(time.mul_f64(0.1 + 0.13 * f64::from(killed) + 0.01 * f64::from(dubs % 10)));
            let ended = process.try_wait().unwrap();
            if ended.is_none() {
                process.kill().unwrap();
            }
            if process.wait().unwrap().success() {
                break;
            }
            killed += 1;
            // It may have been killed behind its last act, but half a track has no name.
            assert!(!out.exists() || std::fs::read(&out).unwrap() == track, "half a track");
            assert!(killed < 100, "it does not get on");
        }
        kills += killed;
        let calls = log_of(&folder.join(LOG));
        assert_eq!(work_of(&calls), work_of(&want), "the same work");
        assert!(calls.len() <= want.len() + killed as usize, "{} calls for {} with {killed} kills", calls.len(), want.len());
        assert!(std::fs::read(&out).unwrap() == track, "the same track to the byte");
    }
    assert!(dubs >= 10, "{kills} kills in {dubs} dubs");
}

/// With files that cannot grow, which is how a full disk looks.
fn full(folder: &Path) {
    let cache = on_disk(folder);
    // SAFETY: both calls only set this process's own limits; the signal would end it before the error is seen.
    let limited = unsafe {
        let limit = libc::rlimit { rlim_cur: 1 << 15, rlim_max: 1 << 15 };
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::setrlimit(libc::RLIMIT_FSIZE, &limit)
    };
    assert_eq!(limited, 0);
    let (stage, calls) = told("r1");
    let voice = cache.tts(Arc::new(stage));
    let say = |len: usize| voice.synthesize(&[&"x".repeat(len)], &TtsOptions::default(), &Job::new()).remove(0).unwrap();
    // Files end at 32 KiB here: nine letters do not fit, five do.
    for len in [5, 9, 20, 6, 9] {
        assert!(!say(len).audio.is_empty());
    }
    let status = cache.status();
    assert_eq!(status.disk_failures, 2, "{status:?}");
    assert_eq!(calls.lock().unwrap().len(), 4, "what is in memory is found");
    assert_eq!(entries(folder).len(), 2);
    assert!(names(&folder.join("unfinished")).is_empty(), "nothing unfinished is left");
}

#[test]
fn a_full_disk_fails_no_call() {
    if let Some(folder) = folder_of_child() {
        return full(&folder);
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = child("a_full_disk_fails_no_call", folder.path());
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
