//! The factory: one load per model however many ask, failures, eviction under use, and policies that call back.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use common::*;
use dubcore::{
    Admission, CachePolicy, Decision, ErrorKind, Factory, HealthStatus, Job, KeepAll, Lang, LoadOptions, Lru, MemoryBudget,
    ModelRef, NoCache, OwnModel, Result, ResultCache, ResultCacheOptions, Snapshot, TranslateOptions, Tts, TtsOptions,
};

/// A policy made of a closure.
struct Ask<F>(F);

impl<F: Fn(&Snapshot<'_>) -> Decision + Send + Sync> CachePolicy for Ask<F> {
    fn decide(&self, now: &Snapshot<'_>) -> Decision {
        (self.0)(now)
    }
}

fn factory(policy: impl CachePolicy + 'static) -> Factory {
    Factory::builder().policy(policy).build().unwrap()
}

fn tts(factory: &Factory, model: &ModelRef) -> Result<Arc<dyn Tts>> {
    factory.tts(model, &LoadOptions::default(), &Job::new())
}

/// What is loaded, by model.
fn loaded(factory: &Factory) -> Vec<ModelRef> {
    factory.status().residents.into_iter().map(|r| r.key.model).collect()
}

fn newcomer(now: &Snapshot<'_>) -> Option<ModelRef> {
    now.newcomer.map(|r| r.key.model.clone())
}

fn say(voice: &Arc<dyn Tts>) -> Vec<u32> {
    let speech = voice.synthesize(&["agua"], &TtsOptions::default(), &Job::new()).remove(0).unwrap();
    speech.audio.samples().iter().map(|s| s.to_bits()).collect()
}

fn voices(n: usize) -> Vec<ModelCopy> {
    (0..n).map(|_| ModelCopy::new("tts-es")).collect()
}

fn bytes_of_a_voice(copy: &ModelCopy) -> u64 {
    let factory = factory(KeepAll);
    tts(&factory, &copy.model()).unwrap();
    factory.status().bytes
}

/// Closed until it is opened; nobody waits for ever.
#[derive(Default)]
struct Door(Mutex<bool>, Condvar);

impl Door {
    fn pass(&self) {
        let (open, late) = self.1.wait_timeout_while(self.0.lock().unwrap(), Duration::from_secs(60), |open| !*open).unwrap();
        assert!(*open && !late.timed_out(), "the door was not opened");
    }

    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

#[test]
fn one_load_however_many_ask_and_others_go_ahead() {
    within(120, || {
        let (cold, other) = (ModelCopy::new("tts-es"), ModelCopy::new("tts-es"));
        let door = Arc::new(Door::default());
        let (held, at_door) = (cold.model(), door.clone());
        let factory = factory(Ask(move |now: &Snapshot<'_>| {
            if newcomer(now) == Some(held.clone()) {
                at_door.pass();
            }
            Decision::keep_all()
        }));
        let start = Arc::new(Barrier::new(33));
        let asking: Vec<_> = (0..32)
            .map(|_| {
                let (factory, model, start) = (factory.clone(), cold.model(), start.clone());
                std::thread::spawn(move || {
                    start.wait();
                    tts(&factory, &model)
                })
            })
            .collect();
        start.wait();
        // While that load is held up, another model loads and works.
        let voice = tts(&factory, &other.model()).unwrap();
        let want = say(&voice);
        assert_eq!(loaded(&factory), [other.model()]);
        door.open();
        let handles: Vec<_> = asking.into_iter().map(|t| t.join().unwrap().unwrap()).collect();
        let status = factory.status();
        assert_eq!((status.loads, status.residents.len(), status.evictions), (2, 2, 0));
        assert!(status.residents.iter().all(|r| r.in_use == 0 && !r.pinned && r.bytes > 1_000_000));
        assert_eq!(status.bytes, status.residents.iter().map(|r| r.bytes).sum::<u64>());
        assert!(handles.iter().take(3).all(|h| say(h) == want));
        assert_eq!(factory.status().loads, 2);
    });
}

#[test]
fn waiting_ends_with_the_waiters_own_job() {
    within(120, || {
        let copy = ModelCopy::new("tts-es");
        let door = Arc::new(Door::default());
        let at_door = door.clone();
        let factory = factory(Ask(move |_: &Snapshot<'_>| {
            at_door.pass();
            Decision::keep_all()
        }));
        let ask = |job: Job| factory.tts(&copy.model(), &LoadOptions::default(), &job);
        let began = Instant::now();
        let e = ask(Job::new().timeout(Duration::from_millis(50))).err().unwrap();
        assert_eq!(e.kind(), ErrorKind::DeadlineExceeded);
        let job = Job::new();
        let canceller = std::thread::spawn({
            let job = job.clone();
            move || {
                std::thread::sleep(Duration::from_millis(30));
                job.cancel();
            }
        });
        assert_eq!(ask(job.clone()).err().unwrap().kind(), ErrorKind::Cancelled);
        canceller.join().unwrap();
        // One who was cancelled already does not begin to wait.
        assert_eq!(ask(job).err().unwrap().kind(), ErrorKind::Cancelled);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        // Those who went away took nothing with them: the load that they began serves the next one.
        door.open();
        assert!(!say(&ask(Job::new()).unwrap()).is_empty());
        assert_eq!(factory.status().loads, 1);
    });
}

#[test]
fn a_failed_load_is_told_to_all_and_tried_again() {
    within(120, || {
        let copy = ModelCopy::new("tts-es");
        let (door, closed) = (Arc::new(Door::default()), Arc::new(AtomicBool::new(true)));
        let (at_door, shut) = (door.clone(), closed.clone());
        let factory = factory(Ask(move |_: &Snapshot<'_>| {
            at_door.pass();
            let newcomer = if shut.load(Ordering::SeqCst) { Admission::Refuse("no room".into()) } else { Admission::Keep };
            Decision { evict: Vec::new(), newcomer }
        }));
        let asked = Arc::new(AtomicUsize::new(0));
        let asking: Vec<_> = (0..16)
            .map(|_| {
                let (factory, model, asked) = (factory.clone(), copy.model(), asked.clone());
                std::thread::spawn(move || {
                    asked.fetch_add(1, Ordering::SeqCst);
                    tts(&factory, &model).err().unwrap()
                })
            })
            .collect();
        while asked.load(Ordering::SeqCst) < 16 {
            std::thread::yield_now();
        }
        // From the count to the wait it is a few instructions.
        std::thread::sleep(Duration::from_millis(500));
        door.open();
        for e in asking.into_iter().map(|t| t.join().unwrap()) {
            assert_eq!(e.kind(), ErrorKind::OutOfMemory);
            assert!(e.to_string().contains("no room"), "{e}");
        }
        assert_eq!((factory.status().loads, factory.status().residents.len()), (1, 0));
        closed.store(false, Ordering::SeqCst);
        assert!(tts(&factory, &copy.model()).is_ok());
        assert_eq!(factory.status().loads, 2);

        // The same for a file that is damaged, and repaired.
        let copy = ModelCopy::new("tts-es");
        let whole = copy.read("model.safetensors");
        copy.write("model.safetensors", &whole[..whole.len() / 2]);
        let start = Arc::new(Barrier::new(8));
        let asking: Vec<_> = (0..8)
            .map(|_| {
                let (factory, model, start) = (factory.clone(), copy.model(), start.clone());
                std::thread::spawn(move || {
                    start.wait();
                    tts(&factory, &model).err().unwrap().kind()
                })
            })
            .collect();
        assert!(asking.into_iter().all(|t| t.join().unwrap() == ErrorKind::ModelCorrupt));
        copy.write("model.safetensors", &whole);
        assert!(!say(&tts(&factory, &copy.model()).unwrap()).is_empty());
    });
}

#[test]
fn lru_evicts_the_longest_unused_and_handles_load_again() {
    let copies = voices(3);
    let factory = factory(Lru { models: 2 });
    let handles: Vec<_> = copies[..2].iter().map(|c| tts(&factory, &c.model()).unwrap()).collect();
    let want = say(&handles[1]);
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(say(&handles[0]), want);
    let third = tts(&factory, &copies[2].model()).unwrap();
    let mut left = vec![copies[0].model(), copies[2].model()];
    left.sort_by_key(ToString::to_string);
    assert_eq!(loaded(&factory), left);
    assert_eq!((factory.status().loads, factory.status().evictions), (3, 1));
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(say(&third), want);
    // The evicted one's handle loads it again, and the first one has to go.
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(say(&handles[1]), want);
    assert!(!loaded(&factory).contains(&copies[0].model()));
    assert_eq!((factory.status().loads, factory.status().evictions), (4, 2));
    // Pinned, the longest unused stays, and the other goes.
    assert!(factory.pin(&copies[2].model(), true));
    assert!(!factory.pin(&copies[0].model(), true), "it is not loaded");
    assert_eq!(say(&handles[0]), want);
    let mut left = vec![copies[0].model(), copies[2].model()];
    left.sort_by_key(ToString::to_string);
    assert_eq!(loaded(&factory), left);
    assert!(factory.status().residents.iter().all(|r| r.pinned == (r.key.model == copies[2].model())));
    // By hand it can be unloaded for all that.
    factory.unload(&copies[2].model(), &Job::new()).unwrap();
    assert_eq!(loaded(&factory), [copies[0].model()]);
    factory.unload(&copies[2].model(), &Job::new()).unwrap();
    assert_eq!(say(&third), want);
}

#[test]
fn a_memory_budget_is_kept() {
    let copies = voices(3);
    let bytes = bytes_of_a_voice(&copies[0]);
    // Two fit, for 2 / 2.6 is below the high mark; the third makes one go, for 2 / 2.6 is above the low one: two go.
    let budget = bytes * 26 / 10;
    let roomy = factory(MemoryBudget::new(budget));
    let handles: Vec<_> = copies.iter().map(|c| tts(&roomy, &c.model()).unwrap()).collect();
    assert_eq!(loaded(&roomy), [copies[2].model()]);
    assert_eq!((roomy.status().evictions, roomy.status().bytes), (2, bytes));
    let want = say(&handles[2]);
    assert!(handles.iter().all(|h| say(h) == want));
    assert!(roomy.status().bytes <= budget);

    let small = factory(MemoryBudget::new(bytes - 1));
    let e = tts(&small, &copies[0].model()).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::OutOfMemory);
    assert!(e.to_string().contains("raise the budget"), "{e}");
    assert_eq!((small.status().bytes, small.status().loads), (0, 1));
    // What is pinned leaves too little; nothing that is loaded goes for nothing.
    let full = factory(MemoryBudget { bytes: bytes * 3 / 2, high: 1.0, low: 1.0 });
    tts(&full, &copies[0].model()).unwrap();
    assert!(full.pin(&copies[0].model(), true));
    assert_eq!(tts(&full, &copies[1].model()).err().unwrap().kind(), ErrorKind::OutOfMemory);
    assert_eq!((loaded(&full), full.status().evictions), (vec![copies[0].model()], 0));
    full.pin(&copies[0].model(), false);
    tts(&full, &copies[1].model()).unwrap();
    assert_eq!(loaded(&full), [copies[1].model()]);
}

#[test]
fn two_newcomers_at_once_do_not_both_take_the_last_room() {
    within(120, || {
        let copies = voices(2);
        let budget = MemoryBudget { bytes: bytes_of_a_voice(&copies[0]) * 3 / 2, high: 1.0, low: 1.0 };
        let (both, calls) = (Barrier::new(2), AtomicUsize::new(0));
        let factory = factory(Ask(move |now: &Snapshot<'_>| {
            // Both see that nothing is loaded before either goes on.
            if calls.fetch_add(1, Ordering::SeqCst) < 2 {
                assert!(now.residents.is_empty());
                both.wait();
            }
            budget.decide(now)
        }));
        let asking: Vec<_> = copies
            .iter()
            .map(|c| {
                let (factory, model) = (factory.clone(), c.model());
                std::thread::spawn(move || tts(&factory, &model).map(|_| ()))
            })
            .collect();
        let results: Vec<_> = asking.into_iter().map(|t| t.join().unwrap()).collect();
        assert!(results.iter().any(Result::is_ok));
        assert!(results.iter().flat_map(|r| r.as_ref().err()).all(|e| e.kind() == ErrorKind::OutOfMemory));
        assert!(factory.status().bytes <= budget.bytes, "{} of {}", factory.status().bytes, budget.bytes);
    });
}

#[test]
fn what_is_in_use_stays() {
    within(120, || {
        let copies = voices(2);
        let factory = factory(Lru { models: 1 });
        let voice = tts(&factory, &copies[0].model()).unwrap();
        let want = say(&voice);
        // The observer is called in the midst of the call.
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (inner, sink) = (factory.clone(), seen.clone());
        let (own, other) = (copies[0].model(), copies[1].model());
        let job = Job::new().observe(move |_| {
            let in_use = inner.status().residents.iter().find(|r| r.key.model == own).map(|r| r.in_use);
            inner.preload(std::slice::from_ref(&other), &LoadOptions::default(), &Job::new()).remove(0).unwrap();
            sink.lock().unwrap().push((in_use, inner.sweep(), loaded(&inner).contains(&own)));
        });
        let spoken = voice.synthesize(&["agua", "pan"], &TtsOptions::default(), &job);
        assert!(spoken.iter().all(Result::is_ok));
        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|(in_use, _, there)| *in_use == Some(1) && *there));
        // Afterwards it may go.
        factory.unload(&copies[0].model(), &Job::new()).unwrap();
        factory.unload(&copies[1].model(), &Job::new()).unwrap();
        assert_eq!((factory.status().bytes, factory.status().residents.len()), (0, 0));
        assert_eq!(say(&voice), want);
    });
}

#[test]
fn use_goes_on_during_evictions() {
    within(300, || {
        let copies = voices(3);
        let want = {
            let factory = factory(KeepAll);
            say(&tts(&factory, &copies[0].model()).unwrap())
        };
        let factory = factory(Lru { models: 1 });
        let rounds = rounds(4, 100);
        let threads: Vec<_> = (0..8)
            .map(|t| {
                let (factory, want) = (factory.clone(), want.clone());
                let models: Vec<ModelRef> = copies.iter().map(ModelCopy::model).collect();
                std::thread::spawn(move || {
                    let handles: Vec<_> = models.iter().map(|m| tts(&factory, m).unwrap()).collect();
                    for i in 0..rounds {
                        assert!(say(&handles[(i + t) % handles.len()]) == want);
                        match (i + t) % 4 {
                            0 => assert!(factory.sweep() <= models.len()),
                            1 => {
                                let wait = Job::new().timeout(Duration::from_millis(i as u64 % 3 * 10));
                                let unloaded = factory.unload(&models[t % models.len()], &wait);
                                assert!(unloaded.map_or_else(|e| e.kind() == ErrorKind::Busy, |()| true));
                            }
                            2 => {
                                factory.pin(&models[0], i % 2 == 0);
                            }
                            _ => {
                                // What was unloaded in use is counted beside what was loaded in its place.
                                let status = factory.status();
                                assert!(status.residents.iter().filter(|r| !r.leaving).count() <= models.len());
                            }
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        factory.pin(&copies[0].model(), false);
        factory.sweep();
        let status = factory.status();
        let left = status.residents.iter();
        assert!(left.len() <= 1 && left.clone().all(|r| r.in_use == 0 && !r.leaving), "{status:?}");
        assert_eq!(status.loads, status.evictions + status.residents.len() as u64);
    });
}

#[test]
fn policies_may_call_the_factory() {
    within(120, || {
        let copies = voices(3);
        let own: Arc<OnceLock<Factory>> = Arc::default();
        let (inside, asked) = (own.clone(), Arc::new(AtomicUsize::new(0)));
        let (count, extra) = (asked.clone(), copies[2].model());
        let factory = factory(Ask(move |now: &Snapshot<'_>| {
            let factory = inside.get().unwrap();
            let status = factory.status();
            assert_eq!(status.residents.len(), now.residents.len());
            for r in now.residents {
                factory.pin(&r.key.model, true);
                factory.pin(&r.key.model, false);
                factory.unload(&r.key.model, &Job::new()).unwrap();
            }
            // Even a load of another model, whose own turn with the policy is nested in this one.
            if count.fetch_add(1, Ordering::SeqCst) == 0 {
                factory.preload(std::slice::from_ref(&extra), &LoadOptions::default(), &Job::new()).remove(0).unwrap();
            }
            // It names what is gone already, and what never was.
            Decision { evict: now.residents.iter().map(|r| r.key.clone()).collect(), newcomer: Admission::Keep }
        }));
        own.set(factory.clone()).unwrap();
        let first = tts(&factory, &copies[0].model()).unwrap();
        let second = tts(&factory, &copies[1].model()).unwrap();
        assert_eq!(loaded(&factory), [copies[1].model()]);
        assert_eq!(say(&first), say(&second));
        assert!(asked.load(Ordering::SeqCst) >= 4);
    });
}

#[test]
fn a_policys_panic_is_an_error_and_not_a_wait_for_ever() {
    within(60, || {
        let copy = ModelCopy::new("tts-es");
        let calls = AtomicUsize::new(0);
        let factory = factory(Ask(move |now: &Snapshot<'_>| match (calls.fetch_add(1, Ordering::SeqCst), now.newcomer) {
            (0, _) | (_, None) => panic!("no idea"),
            _ => Decision::keep_all(),
        }));
        let e = tts(&factory, &copy.model()).err().unwrap();
        assert!(e.kind() == ErrorKind::Internal && e.to_string().contains("no idea"), "{e}");
        assert!(tts(&factory, &copy.model()).is_ok());
        assert_eq!(factory.sweep(), 0);
    });
}

#[test]
fn what_is_used_once_goes_at_once() {
    let copy = ModelCopy::new("tts-es");
    let factory = factory(Ask(|_: &Snapshot<'_>| Decision { evict: Vec::new(), newcomer: Admission::UseOnce }));
    let voice = tts(&factory, &copy.model()).unwrap();
    assert_eq!(say(&voice), say(&voice));
    assert_eq!(factory.status().loads, 3);
    // The thread that loaded it may have been the last to let go of it.
    eventually(|| factory.status().bytes == 0);
    let factory = self::factory(NoCache);
    let voice = tts(&factory, &copy.model()).unwrap();
    assert_eq!(say(&voice), say(&voice));
    assert_eq!(factory.status().loads, 3);
    eventually(|| factory.status().residents.is_empty());
}

fn eventually(what: impl Fn() -> bool) {
    let began = Instant::now();
    while !what() {
        assert!(began.elapsed() < Duration::from_secs(10), "it did not come to that");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A voice of the host's own that says nothing for as long as the door is closed.
fn held_voice(door: &Arc<Door>) -> OwnModel {
    let door = door.clone();
    OwnModel::tts(Arc::new(Say(move |_: &str, _: &Job| {
        door.pass();
        Some(Ok(0.1))
    })))
    .bytes(1_000)
}

#[test]
fn what_is_unloaded_in_use_goes_when_its_call_ends() {
    within(60, || {
        let (door, made) = (Arc::new(Door::default()), Arc::new(AtomicUsize::new(0)));
        let (at_door, count) = (door.clone(), made.clone());
        let own = model("own/voice");
        let factory = Factory::builder().policy(KeepAll).own_model(own.clone(), move || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(held_voice(&at_door))
        });
        let factory = factory.build().unwrap();
        let voice = tts(&factory, &own).unwrap();
        let speaking = std::thread::spawn({
            let voice = voice.clone();
            move || voice.synthesize(&["a"], &TtsOptions::default(), &Job::new()).remove(0).map(drop)
        });
        eventually(|| factory.status().residents[0].in_use == 1);
        let brief = || Job::new().timeout(Duration::from_millis(30));
        for busy in [factory.unload(&own, &brief()), factory.clear(&brief())] {
            // The second one finds nothing that is not leaving already.
            assert!(busy.map_or_else(|e| e.kind() == ErrorKind::Busy && e.to_string().contains("own/voice"), |()| true));
        }
        let status = factory.status();
        assert!(status.residents[0].leaving && status.bytes == 1_000 && status.evictions == 1, "{status:?}");
        // Whoever comes now gets a new one, beside it.
        let other = tts(&factory, &own).unwrap();
        assert_eq!((made.load(Ordering::SeqCst), factory.status().bytes), (2, 2_000));
        factory.unload(&own, &Job::new()).unwrap();
        assert_eq!(factory.status().bytes, 1_000);
        door.open();
        speaking.join().unwrap().unwrap();
        eventually(|| factory.status().residents.is_empty());
        // Both handles are good still.
        for voice in [voice, other] {
            assert!(!say(&voice).is_empty());
        }
        assert_eq!(made.load(Ordering::SeqCst), 3);
        factory.pin(&own, true);
        factory.clear(&Job::new()).unwrap();
        assert!(factory.status().residents.is_empty());
    });
}

#[test]
fn a_thousand_callers_of_one_cold_model_load_it_once() {
    within(120, || {
        let (door, made, failing) = (Arc::new(Door::default()), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (at_door, count, fail) = (door.clone(), made.clone(), failing.clone());
        let own = model("own/voice");
        let factory = Factory::builder().policy(KeepAll).own_model(own.clone(), move || {
            count.fetch_add(1, Ordering::SeqCst);
            at_door.pass();
            match fail.load(Ordering::SeqCst) {
                true => Err(error(ErrorKind::ModelCorrupt)),
                false => Ok(OwnModel::tts(plain_mouth())),
            }
        });
        let factory = factory.build().unwrap();
        for (fails, loads) in [(true, 1), (false, 2)] {
            failing.store(fails, Ordering::SeqCst);
            *door.0.lock().unwrap() = false;
            let callers: Vec<_> = (0..1_000)
                .map(|_| {
                    let (factory, own) = (factory.clone(), own.clone());
                    std::thread::Builder::new().stack_size(256 << 10).spawn(move || tts(&factory, &own).map(|v| say(&v))).unwrap()
                })
                .collect();
            eventually(|| factory.status().loading.iter().any(|l| l.model == own && l.waiting == 1_000));
            assert!(factory.status().residents.is_empty());
            door.open();
            for caller in callers {
                match caller.join().unwrap() {
                    Ok(sound) => assert!(!fails && !sound.is_empty()),
                    Err(e) => assert!(fails && e.kind() == ErrorKind::ModelCorrupt, "{e}"),
                }
            }
            assert_eq!(made.load(Ordering::SeqCst), loads);
        }
    });
}

#[test]
fn names_with_versions_stand_for_models() {
    let (a, b) = (ModelCopy::new("tts-es"), ModelCopy::new("tts-es"));
    let name = |text: &str| model(text);
    let factory = Factory::builder()
        .policy(KeepAll)
        .alias(&name("voice:es@v1"), a.model())
        .alias(&name("voice:es@v2"), b.model())
        .alias(&name("voice:default"), name("voice:es@v2"))
        .alias(&name("round:a"), name("round:b"))
        .alias(&name("round:b"), name("round:a"))
        .own_model(name("voice:own"), || Ok(OwnModel::tts(plain_mouth())))
        .build()
        .unwrap();
    // Two versions side by side; two names of one model share it.
    let voices: Vec<_> = ["voice:es@v1", "voice:es@v2", "voice:default"].map(|n| tts(&factory, &name(n)).unwrap()).into();
    assert_eq!(factory.status().loads, 2);
    assert_eq!(voices.iter().map(|v| v.info().model).collect::<Vec<_>>()[1..], [b.model().to_string(), b.model().to_string()]);
    assert!(factory.pin(&name("voice:default"), true));
    assert_eq!(factory.status().residents.iter().find(|r| r.pinned).unwrap().key.model, b.model());
    assert!(!say(&tts(&factory, &name("voice:own")).unwrap()).is_empty());
    factory.unload(&name("voice:es@v1"), &Job::new()).unwrap();
    assert!(!loaded(&factory).contains(&a.model()));
    // One that nobody knows: the error names those that it may have been meant.
    let e = tts(&factory, &name("voice:es@v3")).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::ModelNotFound);
    assert!(
        ["voice:es@v1", "voice:es@v2", "voice:default", "voice:own", "voice:es"].iter().all(|n| e.to_string().contains(n)),
        "{e}"
    );
    assert!(!e.to_string().contains("whisper"), "{e}");
    assert!(tts(&factory, &name("other:x")).err().unwrap().to_string().contains("whisper:v2"));
    assert_eq!(tts(&factory, &name("round:a")).err().unwrap().kind(), ErrorKind::InvalidArgument);
    assert_eq!(factory.unload(&name("voice:es@v3"), &Job::new()).unwrap_err().kind(), ErrorKind::ModelNotFound);
    assert!(!factory.pin(&name("voice:es@v3"), true));
    // The names that every factory knows are hub models, which are not here.
    let e = factory.stt(&name("whisper:v3"), &LoadOptions::default(), &Job::new()).err().unwrap();
    assert!(e.kind() == ErrorKind::ModelNotFound && e.to_string().contains("openai/whisper-large-v3"), "{e}");
}

#[test]
fn a_models_own_maker_may_fail_and_panic() {
    let calls = Arc::new(AtomicUsize::new(0));
    let own = model("own/pen");
    let count = calls.clone();
    let factory = Factory::builder().own_model(own.clone(), move || match count.fetch_add(1, Ordering::SeqCst) {
        0 => Err(error(ErrorKind::Io)),
        1 => panic!("no paper"),
        _ => Ok(OwnModel::translator(plain_pen())),
    });
    let factory = factory.build().unwrap();
    let ask = || factory.translator(&own, &LoadOptions::default(), &Job::new());
    assert_eq!(ask().err().unwrap().kind(), ErrorKind::Io);
    let e = ask().err().unwrap();
    assert!(e.kind() == ErrorKind::Internal && e.to_string().contains("no paper"), "{e}");
    assert!(ask().is_ok());
    // It is what it is.
    assert_eq!(tts(&factory, &own).err().unwrap().kind(), ErrorKind::ModelIncompatible);
}

#[test]
fn kinds_are_checked_and_preloads_are_reported_one_by_one() {
    let factory = factory(KeepAll);
    let job = Job::new();
    let models = [model("micro/tts-es"), model("micro/nothing"), model("micro/mt-en-es")];
    let results = factory.preload(&models, &LoadOptions::default(), &job);
    assert!(results[0].is_ok() && results[2].is_ok());
    let e = results[1].as_ref().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::ModelNotFound);
    assert!(e.to_string().contains("micro/tts-es"), "it lists what there is: {e}");
    assert_eq!(job.progress().fraction, 1.0);
    assert_eq!(job.progress().parts, models.map(|m| (m.to_string(), 1.0)));
    assert_eq!((factory.status().loads, factory.status().residents.len()), (3, 2));
    let opts = LoadOptions::default();
    for e in [
        factory.stt(&model("micro/tts-es"), &opts, &Job::new()).err(),
        factory.translator(&model("micro/tts-es"), &opts, &Job::new()).err(),
        factory.tts(&model("micro/mt-en-es"), &opts, &Job::new()).err(),
    ] {
        assert_eq!(e.unwrap().kind(), ErrorKind::ModelIncompatible);
    }
    assert_eq!(factory.status().loads, 3);
    assert!(tts(&factory, &model("micro/tts-es")).is_ok());
}

#[test]
fn the_global_factory_is_one() {
    let threads: Vec<_> =
        (0..16).map(|_| std::thread::spawn(|| std::ptr::from_ref(Factory::global().unwrap()) as usize)).collect();
    let first = std::ptr::from_ref(Factory::global().unwrap()) as usize;
    assert!(threads.into_iter().all(|t| t.join().unwrap() == first));
    let e = Factory::builder().install_global().err().unwrap();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    assert_eq!(std::ptr::from_ref(Factory::global().unwrap()) as usize, first);
}

#[test]
fn models_load_in_the_background_and_tell_how_far_they_are() {
    within(120, || {
        let (good, bad) = (ModelCopy::new("tts-es"), ModelCopy::new("tts-es"));
        bad.write("config.json", "{}");
        let factory = factory(KeepAll);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let job = Job::new().observe(move |p| sink.lock().unwrap().push(p.clone()));
        let models = [good.model(), bad.model(), model("micro/tts-es")];
        let preload = factory.preload_in_background(&models, &LoadOptions::default(), job).unwrap();
        let results = preload.wait(&Job::new()).unwrap();
        assert_eq!(results.iter().map(|(m, _)| m.clone()).collect::<Vec<_>>(), models);
        let kinds: Vec<_> = results.iter().map(|(_, r)| r.as_ref().err().map(|e| e.kind())).collect();
        assert_eq!(kinds, [None, Some(ErrorKind::ModelCorrupt), None]);
        assert!(preload.is_done() && factory.status().residents.len() == 2 && factory.status().loading.is_empty());
        let seen = seen.lock().unwrap();
        assert!(seen.windows(2).all(|p| p[0].fraction <= p[1].fraction) && seen.last().unwrap().fraction == 1.0);
        let names: Vec<_> = seen.last().unwrap().parts.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, models.map(|m| m.to_string()));

        // Who waits may give up; the loads go on. Who cancels them ends them.
        let door = Arc::new(Door::default());
        let at_door = door.clone();
        let own = model("own/voice");
        let slow = Factory::builder().own_model(own.clone(), move || {
            at_door.pass();
            Ok(OwnModel::tts(plain_mouth()))
        });
        let slow = slow.build().unwrap();
        let preload = slow.preload_in_background(std::slice::from_ref(&own), &LoadOptions::default(), Job::new()).unwrap();
        let brief = Job::new().timeout(Duration::from_millis(20));
        assert_eq!(preload.wait(&brief).unwrap_err().kind(), ErrorKind::DeadlineExceeded);
        let cancelled = slow.preload_in_background(std::slice::from_ref(&own), &LoadOptions::default(), Job::new()).unwrap();
        cancelled.job().cancel();
        let results = cancelled.wait(&Job::new()).unwrap();
        assert_eq!(results[0].1.as_ref().unwrap_err().kind(), ErrorKind::Cancelled);
        assert!(!preload.is_done());
        door.open();
        preload.wait(&Job::new()).unwrap().remove(0).1.unwrap();
        assert_eq!(slow.status().loads, 1);
    });
}

#[test]
fn bytes_that_were_read_are_told() {
    within(120, || {
        let copy = ModelCopy::new("tts-es");
        let size = copy.folder.path().join("model.safetensors").metadata().unwrap().len();
        let door = Arc::new(Door::default());
        let at_door = door.clone();
        // The policy is asked when all is read.
        let factory = factory(Ask(move |_: &Snapshot<'_>| {
            at_door.pass();
            Decision::keep_all()
        }));
        let seen = Arc::new(Mutex::new(0.0f64));
        let sink = seen.clone();
        let job = Job::new().observe(move |p| *sink.lock().unwrap() = p.fraction);
        let preload = factory.preload_in_background(&[copy.model()], &LoadOptions::default(), job).unwrap();
        let mut most = 0;
        let began = Instant::now();
        // Some of a checkpoint is for training, and is read only once.
        while most < size / 10 * 9 && began.elapsed() < Duration::from_secs(60) {
            for l in factory.status().loading {
                assert!((l.all_bytes == 0 || l.all_bytes == size) && l.bytes <= l.all_bytes && l.bytes >= most, "{l:?}");
                most = l.bytes;
            }
        }
        assert!(most >= size / 10 * 9, "{most} of {size} were told, and it waits for the policy");
        door.open();
        preload.wait(&Job::new()).unwrap().remove(0).1.unwrap();
        assert_eq!(*seen.lock().unwrap(), 1.0);
    });
}

#[test]
fn warming_up_runs_every_kind_of_stage() {
    let _turn = shared();
    let factory = factory(KeepAll);
    let models = ["micro/stt-en", "micro/mt-en-es", "micro/tts-es", "micro/nothing"].map(model);
    let warm = factory.warm_up(&models, &LoadOptions::default(), &Job::new());
    assert!(warm[..3].iter().all(|w| w.as_ref().is_ok_and(|t| *t > Duration::ZERO)), "{warm:?}");
    assert_eq!(warm[3].as_ref().unwrap_err().kind(), ErrorKind::ModelNotFound);
    let status = factory.status();
    assert_eq!((status.residents.len(), status.loads), (3, 4));
    let job = Job::new();
    job.cancel();
    assert_eq!(factory.warm_up(&models[..1], &LoadOptions::default(), &job).remove(0).unwrap_err().kind(), ErrorKind::Cancelled);
}

/// Settings from the environment, each time in a process of its own.
#[test]
fn the_environment_has_its_say() {
    if let Ok(what) = std::env::var("DUBCORE_TEST_CHILD") {
        match (what.as_str(), Factory::global()) {
            ("preload", Ok(factory)) => {
                eventually(|| factory.status().residents.len() == 2);
            }
            ("results", Ok(factory)) => {
                let cache = factory.results().unwrap();
                assert_eq!(cache.folder(), std::env::var_os("DUBCORE_RESULT_CACHE_DISK").as_deref().map(std::path::Path::new));
                let (translator, opts) = (translator(), TranslateOptions::new(Lang::EN, Lang::ES));
                for cached in [false, true] {
                    let found = translator.translate(&["Good morning."], &opts, &Job::new()).remove(0).unwrap();
                    assert_eq!(found.metadata.cached, cached);
                }
                assert_eq!(cache.status().entries, 1);
            }
            ("wrong", Err(e)) => assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains("DUBCORE_"), "{e}"),
            (what, factory) => panic!("{what}: {:?}", factory.map(|f| f.status())),
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().to_str().unwrap();
    let cases: [(&str, &[(&str, &str)]); 8] = [
        ("preload", &[("DUBCORE_PRELOAD_MODELS", "micro/tts-es, micro/mt-en-es")]),
        ("results", &[("DUBCORE_RESULT_CACHE", "true"), ("DUBCORE_RESULT_CACHE_SIZE", "1"), ("DUBCORE_RESULT_CACHE_DISK", disk)]),
        ("wrong", &[("DUBCORE_PRELOAD_MODELS", "micro/tts-es,a b")]),
        ("wrong", &[("DUBCORE_RESULT_CACHE", "maybe")]),
        ("wrong", &[("DUBCORE_RESULT_CACHE", "true"), ("DUBCORE_RESULT_CACHE_TTL_SECONDS", "-1")]),
        ("wrong", &[("DUBCORE_CPU_THREADS", "many")]),
        ("wrong", &[("DUBCORE_DEVICE", "abacus")]),
        ("wrong", &[("DUBCORE_MEMORY_BUDGET", "2 GB")]),
    ];
    for (what, variables) in cases {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "the_environment_has_its_say", "--nocapture"]).env("DUBCORE_TEST_CHILD", what);
        let output = child.envs(variables.iter().copied()).output().unwrap();
        assert!(output.status.success(), "{variables:?}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn health_and_figures_tell_what_works() {
    let (good, bad) = (ModelCopy::new("tts-es"), ModelCopy::new("tts-es"));
    bad.write("config.json", "{}");
    let folder = tempfile::tempdir().unwrap();
    let results = ResultCache::new(ResultCacheOptions::default().disk(folder.path().to_path_buf())).unwrap();
    let factory =
        Factory::builder().policy(KeepAll).results(results).alias(&model("voice:default"), good.model()).build().unwrap();
    let health = factory.health();
    assert_eq!((health.status, health.models.len()), (HealthStatus::Healthy, 0));
    assert!(health.timestamp > 1.7e9 && !health.security.remote_code && !health.security.links_followed);
    let disk = health.disk.unwrap();
    assert!(disk.healthy && disk.free.unwrap() > 0 && disk.folder == folder.path());

    // Nothing that was asked for can be loaded; then something can.
    assert!(tts(&factory, &bad.model()).is_err());
    let health = factory.health();
    assert_eq!(health.status, HealthStatus::Unhealthy);
    assert!(
        !health.models[0].loaded && !health.models[0].healthy && health.models[0].error.as_ref().unwrap().contains("model_type")
    );
    let voice = tts(&factory, &model("voice:default")).unwrap();
    let health = factory.health();
    assert_eq!((health.status, health.models.len()), (HealthStatus::Degraded, 2));
    let well = health.models.iter().find(|m| m.model == good.model()).unwrap();
    assert!(well.loaded && well.healthy && well.error.is_none() && well.shared_with == ["voice:default"]);
    // It is fetched again, whole.
    bad.write("config.json", good.read("config.json"));
    tts(&factory, &bad.model()).unwrap();
    assert_eq!(factory.health().status, HealthStatus::Healthy);
    // The folder of results is no folder any more.
    std::fs::remove_dir_all(folder.path()).unwrap();
    std::fs::write(folder.path(), "").unwrap();
    say(&voice);
    let health = factory.health();
    assert!(health.status == HealthStatus::Degraded && health.disk.unwrap().failures == 1);
    std::fs::remove_file(folder.path()).unwrap();
    std::fs::create_dir(folder.path()).unwrap();

    let spoken = voice.synthesize(&["pan"], &TtsOptions::default().seed(1), &Job::new());
    assert!(spoken[0].is_ok() && factory.health().status == HealthStatus::Healthy);
    assert!(voice.synthesize(&["pan"], &TtsOptions::default().speaking_rate(99.0), &Job::new())[0].is_err());
    let status = factory.status();
    let calls = status.calls.iter().find(|c| c.stage == "tts").unwrap();
    assert_eq!((calls.calls, calls.failed), (3, 1));
    assert!(calls.p50 <= calls.p99 && calls.p99 <= calls.longest && calls.longest <= calls.total && !calls.p50.is_zero());
    assert_eq!(status.results.as_ref().unwrap().misses, 3);

    // Every line is a comment or a name with a number; what is told is told with its labels.
    let page = status.prometheus();
    for line in page.lines().filter(|l| !l.starts_with("# ")) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("dubcore_") && value.parse::<f64>().is_ok(), "{line}");
    }
    let has = |start: &str| page.lines().any(|l| l.starts_with(start));
    assert!(has("dubcore_loads_total 3") && has("dubcore_calls_total{stage=\"tts\"} 3"), "{page}");
    assert!(has(&format!("dubcore_model_in_use{{model=\"{}\"}} 0", status.residents[0].key)), "{page}");
    assert!(has("dubcore_call_seconds{stage=\"tts\",quantile=\"0.99\"} "), "{page}");
    assert_eq!(serde_json::to_value(factory.health()).unwrap()["status"], "healthy");
}

#[test]
fn a_model_that_changes_on_disk_is_another_one_to_the_cache() {
    let copy = ModelCopy::new("tts-es");
    let results = ResultCache::new(ResultCacheOptions::default()).unwrap();
    let factory = Factory::builder().policy(KeepAll).results(results).build().unwrap();
    let voice = tts(&factory, &copy.model()).unwrap();
    let cached = || voice.synthesize(&["pan"], &TtsOptions::default(), &Job::new()).remove(0).unwrap().metadata.cached;
    let before = voice.info().revision;
    assert!(!cached() && cached());
    // Another noise: the same weights, another revision.
    let mut config = copy.json("config.json");
    config["noise_scale"] = 0.1.into();
    copy.write("config.json", config.to_string());
    // What is loaded is what it was.
    assert!(cached() && voice.info().revision == before);
    factory.clear(&Job::new()).unwrap();
    // Until it is loaded again, nobody knows of the change; what is then computed is not taken for the old one's.
    voice.synthesize(&["agua"], &TtsOptions::default(), &Job::new()).remove(0).unwrap();
    assert!(voice.info().revision != before);
    assert!(!cached() && cached());
    assert!(!voice.synthesize(&["agua"], &TtsOptions::default(), &Job::new()).remove(0).unwrap().metadata.cached);
}
