//! The factory: one load per model however many ask, failures, eviction under use, and policies that call back.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::time::{Duration, Instant};

use common::*;
use dubcore::{
    Admission, CachePolicy, Decision, ErrorKind, Factory, Job, KeepAll, LoadOptions, Lru, MemoryBudget, ModelRef, NoCache,
    OwnModel, Snapshot, TtsOptions,
};

fn newcomer(now: &Snapshot<'_>) -> Option<ModelRef> {
    now.newcomer.map(|r| r.key.model.clone())
}

fn voices(n: usize) -> Vec<ModelCopy> {
    (0..n).map(|_| ModelCopy::new("tts-es")).collect()
}

fn bytes_of_a_voice(copy: &ModelCopy) -> u64 {
    let factory = factory(KeepAll);
    tts(&factory, &copy.model()).unwrap();
    factory.status().bytes
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
    let full = factory(MemoryBudget { high: 1.0, low: 1.0, ..MemoryBudget::new(bytes * 3 / 2) });
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
        let budget = MemoryBudget { high: 1.0, low: 1.0, ..MemoryBudget::new(bytes_of_a_voice(&copies[0]) * 3 / 2) };
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
