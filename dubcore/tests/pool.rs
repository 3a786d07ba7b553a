//! Many requests at one model: how many are in it at once, who is next, and several made one.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use common::*;
use dubcore::{
    Audio, Batching, ErrorKind, Factory, Fallback, Job, KeepAll, Lang, LoadOptions, ModelRef, OwnModel, Result, Speech,
    StageInfo, Stt, SttOptions, TranslateOptions, Translation, Translator, Tts, TtsOptions,
};

const TO_ES: fn() -> TranslateOptions = || TranslateOptions::new(Lang::EN, Lang::ES);

/// Counts who is inside, tells what it was asked, and takes its time.
#[derive(Default)]
struct Slow {
    inside: AtomicUsize,
    most: AtomicUsize,
    calls: Mutex<Vec<Vec<String>>>,
    time: Duration,
}

impl Translator for Slow {
    fn translate(&self, texts: &[&str], _: &TranslateOptions, job: &Job) -> Vec<Result<Translation>> {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        self.calls.lock().unwrap().push(texts.iter().map(|t| (*t).to_owned()).collect());
        let began = Instant::now();
        let mut ended = Ok(());
        while began.elapsed() < self.time && ended.is_ok() {
            std::thread::sleep(Duration::from_millis(1));
            ended = job.check();
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
        let one = |t: &&str| match (ended.clone(), t.contains("bad")) {
            (Err(e), _) => Err(e),
            (_, true) => Err(error(ErrorKind::InvalidArgument)),
            _ => Ok(Translation::new(t.to_uppercase(), 0.0, Default::default())),
        };
        texts.iter().map(one).collect()
    }

    fn info(&self) -> StageInfo {
        StageInfo::new("own/slow")
    }
}

fn own() -> ModelRef {
    model("own/slow")
}

fn slow(ms: u64) -> (Factory, Arc<Slow>) {
    let stage = Arc::new(Slow { time: Duration::from_millis(ms), ..Slow::default() });
    let made = stage.clone();
    let factory = Factory::builder().policy(KeepAll).own_model(own(), move || Ok(OwnModel::translator(made.clone())));
    (factory.build().unwrap(), stage)
}

fn pen(factory: &Factory, opts: LoadOptions) -> Arc<dyn Translator> {
    factory.translator(&own(), &opts, &Job::new()).unwrap()
}

fn ask(pen: &Arc<dyn Translator>, text: &str, job: &Job) -> Result<String> {
    pen.translate(&[text], &TO_ES(), job).remove(0).map(|t| t.text)
}

#[test]
fn no_more_calls_at_once_than_slots() {
    within(120, || {
        for (slots, expected) in [(0, 12), (1, 1), (3, 3)] {
            let (factory, stage) = slow(60);
            let start = Arc::new(Barrier::new(12));
            let callers: Vec<_> = (0..12)
                .map(|i| {
                    // Each caller with a handle of its own: they share the slots.
                    let (pen, start) = (pen(&factory, LoadOptions::default().pool_size(slots)), start.clone());
                    std::thread::spawn(move || {
                        start.wait();
                        assert_eq!(ask(&pen, &format!("text {i}"), &Job::new()).unwrap(), format!("TEXT {i}"));
                    })
                })
                .collect();
            callers.into_iter().for_each(|c| c.join().unwrap());
            assert_eq!(stage.most.load(Ordering::SeqCst), expected, "{slots} slots");
            assert_eq!(stage.calls.lock().unwrap().len(), 12);
            assert_eq!(factory.status().residents[0].waiting, 0);
        }
    });
}

#[test]
fn the_line_is_fair_bounded_and_has_an_end() {
    within(120, || {
        let (factory, stage) = slow(150);
        let opts = LoadOptions::default().pool_size(1).queue(3);
        let pen = pen(&factory, opts.clone());
        let waiting = || factory.status().residents[0].waiting;
        let mut callers = Vec::new();
        for i in 0..4 {
            let pen = pen.clone();
            callers.push(std::thread::spawn(move || ask(&pen, &format!("{i}"), &Job::new())));
            // One after the other: the first is inside, the others wait in this order.
            eventually(|| stage.calls.lock().unwrap().len() + waiting() > i);
        }
        let began = Instant::now();
        let e = ask(&pen, "too many", &Job::new()).unwrap_err();
        assert!(e.kind() == ErrorKind::Busy && e.kind().is_retryable() && e.to_string().contains("own/slow"), "{e}");
        assert!(began.elapsed() < Duration::from_millis(100), "at once");
        callers.into_iter().for_each(|c| drop(c.join().unwrap().unwrap()));
        let order: Vec<_> = stage.calls.lock().unwrap().iter().map(|c| c[0].clone()).collect();
        assert_eq!(order, ["0", "1", "2", "3"]);

        // Those who give up are told why, and hold up nobody.
        let busy = {
            let pen = pen.clone();
            std::thread::spawn(move || ask(&pen, "long", &Job::new()))
        };
        eventually(|| stage.inside.load(Ordering::SeqCst) == 1);
        let brief = Job::new().timeout(Duration::from_millis(20));
        assert_eq!(ask(&pen, "a", &brief).unwrap_err().kind(), ErrorKind::Busy);
        let impatient = self::pen(&factory, opts.queue_timeout(Duration::from_millis(20)));
        assert_eq!(ask(&impatient, "b", &Job::new()).unwrap_err().kind(), ErrorKind::Busy);
        let job = Job::new();
        job.cancel();
        assert_eq!(ask(&pen, "c", &job).unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(ask(&pen, "d", &Job::new()).unwrap(), "D");
        assert!(busy.join().unwrap().is_ok() && waiting() == 0);
    });
}

#[test]
fn requests_that_come_together_are_one_call() {
    within(120, || {
        let (factory, stage) = slow(20);
        let batch = |most, ms| LoadOptions::default().batch(Batching::default().most(most).wait(Duration::from_millis(ms)));
        let pen = pen(&factory, batch(4, 300));
        let callers: Vec<_> = ["a", "bad", "c", "d"]
            .map(|text| {
                let pen = pen.clone();
                std::thread::spawn(move || (text, ask(&pen, text, &Job::new())))
            })
            .into();
        let began = Instant::now();
        for caller in callers {
            // One that fails fails alone.
            match caller.join().unwrap() {
                ("bad", result) => assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidArgument),
                (text, result) => assert_eq!(result.unwrap(), text.to_uppercase()),
            }
        }
        assert!(began.elapsed() < Duration::from_millis(280), "full, it does not wait");
        let calls = std::mem::take(&mut *stage.calls.lock().unwrap());
        assert!(calls.len() == 1 && calls[0].len() == 4, "{calls:?}");

        // Other options are another call; alone, one waits no longer than it must.
        let began = Instant::now();
        let alone = self::pen(&factory, batch(4, 30));
        let other = {
            let pen = alone.clone();
            std::thread::spawn(move || pen.translate(&["x"], &TO_ES().beams(2), &Job::new()).remove(0).map(|t| t.text))
        };
        assert_eq!(ask(&alone, "y", &Job::new()).unwrap(), "Y");
        assert_eq!(other.join().unwrap().unwrap(), "X");
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(std::mem::take(&mut *stage.calls.lock().unwrap()).len(), 2);
        // More at once than a call is to have are a call of their own.
        let many: Vec<String> = (0..9).map(|i| i.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let found = alone.translate(&many, &TO_ES(), &Job::new());
        assert!(found.iter().zip(&many).all(|(f, t)| f.as_ref().unwrap().text == *t));
    });
}

#[test]
fn who_leaves_a_batch_takes_nothing_with_them() {
    within(120, || {
        let (factory, stage) = slow(400);
        let pen = pen(&factory, LoadOptions::default().batch(Batching::default().most(2).wait(Duration::from_secs(5))));
        let job = Job::new();
        let leaving = {
            let (pen, job) = (pen.clone(), job.clone());
            std::thread::spawn(move || ask(&pen, "leaving", &job))
        };
        let staying = {
            let pen = pen.clone();
            std::thread::spawn(move || ask(&pen, "staying", &Job::new()))
        };
        eventually(|| stage.inside.load(Ordering::SeqCst) == 1);
        let began = Instant::now();
        job.cancel();
        assert_eq!(leaving.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(began.elapsed() < Duration::from_millis(300), "it does not wait for the call");
        assert_eq!(staying.join().unwrap().unwrap(), "STAYING");

        // When all have left, the call ends.
        let jobs = [Job::new(), Job::new()];
        let leaving: Vec<_> = jobs
            .clone()
            .map(|job| {
                let pen = pen.clone();
                std::thread::spawn(move || ask(&pen, "both", &job))
            })
            .into();
        eventually(|| stage.inside.load(Ordering::SeqCst) == 1);
        let began = Instant::now();
        jobs.iter().for_each(Job::cancel);
        leaving.into_iter().for_each(|l| assert_eq!(l.join().unwrap().unwrap_err().kind(), ErrorKind::Cancelled));
        eventually(|| stage.inside.load(Ordering::SeqCst) == 0);
        assert!(began.elapsed() < Duration::from_millis(300), "nobody is left to work for");
    });
}

/// As many threads as there are `inputs`, at once; what each gave.
fn at_once<I: Send + 'static, R: Send + 'static>(inputs: Vec<I>, work: impl Fn(I) -> R + Send + Sync + 'static) -> Vec<R> {
    let (start, work) = (Arc::new(Barrier::new(inputs.len())), Arc::new(work));
    let threads: Vec<_> = inputs
        .into_iter()
        .map(|input| {
            let (start, work) = (start.clone(), work.clone());
            std::thread::spawn(move || {
                start.wait();
                work(input)
            })
        })
        .collect();
    threads.into_iter().map(|t| t.join().unwrap()).collect()
}

#[test]
fn the_embedded_models_give_the_same_in_batches() {
    let _turn = shared();
    within(300, || {
        let factory = Factory::builder().policy(KeepAll).build().unwrap();
        let (alone, batched) = (LoadOptions::default(), LoadOptions::default().batch(Batching::default().wait(secs(2.0))));
        let job = Job::new;
        let texts = [
            "Good morning.",
            "We left the keys on the kitchen table.",
            "Where is the station?",
            "I am hungry.",
            "It rained all night, but the street is dry.",
            "Tom bought 3 apples at 10:30.",
            "Thank you!",
            "She told me a secret.",
        ];

        let load = |opts: &LoadOptions| factory.translator(&model("micro/mt-en-es"), opts, &job()).unwrap();
        let (one, many) = (load(&alone), load(&batched));
        let want: Vec<_> = texts.iter().map(|t| one.translate(&[t], &TO_ES(), &job()).remove(0).unwrap()).collect();
        let found = at_once(texts.to_vec(), move |t| many.translate(&[t], &TO_ES(), &Job::new()).remove(0).unwrap());
        for (found, want) in found.iter().zip(&want) {
            assert_eq!(found.text, want.text);
            assert!((found.score - want.score).abs() < 1e-5);
        }

        let load = |opts: &LoadOptions| factory.tts(&model("micro/tts-es"), opts, &job()).unwrap();
        let (one, many) = (load(&alone), load(&batched));
        let spanish: Vec<String> = want.iter().map(|t| t.text.clone()).collect();
        let opts = TtsOptions::default;
        let say =
            |voice: &Arc<dyn Tts>, text: &str| -> Speech { voice.synthesize(&[text], &opts(), &Job::new()).remove(0).unwrap() };
        let want: Vec<_> = spanish.iter().map(|t| say(&one, t)).collect();
        let found = at_once(spanish, move |t| many.synthesize(&[&t], &TtsOptions::default(), &Job::new()).remove(0).unwrap());
        for (found, want) in found.iter().zip(&want) {
            assert_eq!(found.audio.len(), want.audio.len());
            let worst = found.audio.samples().iter().zip(want.audio.samples()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 1e-5, "{worst}");
        }

        let load = |opts: &LoadOptions| factory.stt(&model("micro/stt-en"), opts, &job()).unwrap();
        let (one, many) = (load(&alone), load(&batched));
        let clip = clip_audio("kitchen.wav").resample(16_000).unwrap();
        let pieces: Vec<(Audio, SttOptions)> = truth("kitchen.wav")
            .into_iter()
            .map(|(s, _)| {
                // Beginnings that are no whole samples, and draws, which have their seeds.
                let from = s.start.saturating_sub(Duration::from_nanos(123_456_789));
                let audio = clip.slice(dubcore::Span::new(from, s.end + secs(0.2)));
                let spans = vec![dubcore::Span::new(Duration::from_nanos(31_251), audio.duration())];
                let opts = SttOptions::default().language(Lang::EN).spans(spans);
                (audio, opts.fallback(Fallback::default().temperatures(vec![0.6])))
            })
            .collect();
        assert!(pieces.len() > 2);
        let want: Vec<_> = pieces.iter().map(|(a, o)| one.transcribe(a, o, &job()).unwrap()).collect();
        let found = at_once(pieces, move |(a, o)| many.transcribe(&a, &o, &Job::new()).unwrap());
        for (found, want) in found.iter().zip(&want) {
            let told =
                |t: &dubcore::Transcript| t.segments.iter().map(|s| (s.span, s.text.clone(), s.temperature)).collect::<Vec<_>>();
            assert_eq!(told(found), told(want));
            assert_eq!(found.metadata.audio_duration, want.metadata.audio_duration);
            assert!(want.segments.iter().any(|s| s.temperature > Some(0.0)), "the draws do not depend on the batch either");
        }
    });
}

#[test]
fn a_recogniser_that_fails_for_one_serves_the_others() {
    within(60, || {
        let made = || {
            let stt = Hear::new(|_, span: dubcore::Span| match span.duration() > secs(1.5) {
                true => Err(error(ErrorKind::Internal)),
                false => Ok(vec![dubcore::Segment::new(span, format!("{:.2}", span.duration().as_secs_f64()))]),
            });
            Ok(OwnModel::stt(Arc::new(At16k(stt))))
        };
        let factory = Factory::builder().own_model(own(), made).build().unwrap();
        let opts = LoadOptions::default().batch(Batching::default().most(3).wait(secs(2.0)));
        let stt = factory.stt(&own(), &opts, &Job::new()).unwrap();
        let found = at_once(vec![1.0, 2.0, 1.25], move |length| {
            let audio = Audio::new(vec![0.1; (length * 16_000.0) as usize], 16_000).unwrap();
            let opts = SttOptions::default().language(Lang::EN).spans(vec![span(0.0, length)]);
            stt.transcribe(&audio, &opts, &Job::new())
        });
        assert_eq!(found[0].as_ref().unwrap().text(), "1.00");
        assert_eq!(found[1].as_ref().unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(found[2].as_ref().unwrap().text(), "1.25");
    });
}

#[test]
fn nobody_in_a_batch_hears_anothers_sound() {
    within(60, || {
        let made = || Ok(OwnModel::stt(Arc::new(Level)));
        let factory = Factory::builder().own_model(own(), made).build().unwrap();
        let opts = LoadOptions::default().batch(Batching::default().most(5).wait(secs(2.0)));
        let stt = factory.stt(&own(), &opts, &Job::new()).unwrap();
        // To the end, beyond it, beyond all time, and hardly beyond it.
        let ends = [secs(1.0), secs(1.5), Duration::MAX, secs(1.0005), secs(0.75)];
        let found = at_once(ends.into_iter().enumerate().collect(), move |(i, end): (usize, Duration)| {
            let audio = Audio::new(vec![0.1 * (i + 1) as f32; 16_000], 16_000).unwrap();
            let spans = vec![dubcore::Span::new(secs(0.5), end)];
            stt.transcribe(&audio, &SttOptions::default().language(Lang::EN).spans(spans), &Job::new())
        });
        let told: Vec<_> = found.iter().map(|r| r.as_ref().map(|t| t.text()).map_err(|e| e.kind())).collect();
        let (heard, refused) = (|level: &str| Ok(level.to_owned()), || Err(ErrorKind::InvalidArgument));
        assert_eq!(told, [heard("0.1"), refused(), refused(), heard("0.4"), heard("0.5")]);
    });
}

#[test]
fn a_panic_is_an_error_that_says_why() {
    let deaf = |_: usize, _: dubcore::Span| -> Result<Vec<dubcore::Segment>> { panic!("it has no ears") };
    let made = move || Ok(OwnModel::stt(Hear::new(deaf)));
    let factory = Factory::builder().own_model(own(), made).build().unwrap();
    let stt = factory.stt(&own(), &LoadOptions::default(), &Job::new()).unwrap();
    let opts = SttOptions::default().spans(vec![span(0.0, 1.0)]);
    let e = stt.transcribe(&Audio::new(vec![0.1; 16_000], 16_000).unwrap(), &opts, &Job::new()).unwrap_err();
    assert!(e.kind() == ErrorKind::Internal && e.to_string().contains("own/slow panicked: it has no ears"), "{e}");
}

/// A recogniser that tells how loud it is where it is to listen.
struct Level;

impl Stt for Level {
    fn transcribe(&self, audio: &Audio, opts: &SttOptions, _: &Job) -> Result<dubcore::Transcript> {
        let heard = |span: &dubcore::Span| {
            if span.end > audio.duration() + secs(0.001) {
                return Err(error(ErrorKind::InvalidArgument));
            }
            let mut levels: Vec<String> = audio.slice(*span).samples().iter().map(|s| format!("{s:.1}")).collect();
            levels.dedup();
            Ok(dubcore::Segment::new(*span, levels.join(" ")))
        };
        let segments = opts.spans.iter().map(heard).collect::<Result<Vec<_>>>()?;
        Ok(dubcore::Transcript::new(Lang::EN, segments, Default::default()))
    }

    fn info(&self) -> StageInfo {
        let mut info = StageInfo::new("own/level").languages([Lang::EN], []);
        info.sample_rate = 16_000;
        info
    }
}

/// A recogniser that says which rate it wants.
struct At16k<S>(S);

impl<F: Fn(usize, dubcore::Span) -> Result<Vec<dubcore::Segment>> + Send + Sync> Stt for At16k<Arc<Hear<F>>> {
    fn transcribe(&self, audio: &Audio, opts: &SttOptions, job: &Job) -> Result<dubcore::Transcript> {
        self.0.transcribe(audio, opts, job)
    }

    fn info(&self) -> StageInfo {
        let mut info = self.0.info();
        info.sample_rate = 16_000;
        info
    }
}
