//! What a server does with its factory: names and versions, models of its own, loading beforehand, settings, health.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use dubcore::media::{self, Limits};
use dubcore::{
    Decision, Device, DubModels, Dubber, ErrorKind, Factory, FactoryBuilder, HealthStatus, HubOptions, Job, KeepAll, Lang,
    LoadMode, LoadOptions, ModelRef, OwnModel, ResultCache, ResultCacheOptions, Snapshot, TranslateOptions, TtsOptions,
};

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
        .hub(HubOptions::default().downloads(false))
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
fn a_model_of_the_hosts_own_may_come_later() {
    let factory = Factory::builder().policy(KeepAll).hub(HubOptions::default().downloads(false)).build().unwrap();
    let later = model("cloud/voice");
    assert_eq!(tts(&factory, &later).err().unwrap().kind(), ErrorKind::ModelNotFound);
    factory.add_own_model(later.clone(), || Ok(OwnModel::tts(plain_mouth())));
    tts(&factory, &later).unwrap();
    assert_eq!(loaded(&factory), [later]);
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
            ("device", Ok(_)) => {
                let opts = TranslateOptions::new(Lang::EN, Lang::ES);
                let found = translator().translate(&["Good morning."], &opts, &Job::new()).remove(0).unwrap().metadata;
                assert_eq!(found.device, Device::Cpu);
                assert_eq!(found.fallback.unwrap().from, "micro/mt-en-es on cuda:7");
            }
            ("partly", Ok(_)) => {
                let voice = |builder: FactoryBuilder| tts(&builder.build().unwrap(), &model("micro/tts-es")).map(drop);
                // What the host says of one thing leaves the others to the environment.
                let refused = voice(Factory::builder().idle(Duration::from_secs(60))).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::OutOfMemory);
                voice(Factory::builder().memory_budget(0)).unwrap();
                voice(Factory::builder().policy(KeepAll)).unwrap();
                assert!(Factory::builder().build().unwrap().results().is_some());
                assert!(Factory::builder().results(None).build().unwrap().results().is_none());
                assert_eq!(ResultCacheOptions::from_env().unwrap().entries, 7);
            }
            ("no cache", Ok(factory)) => {
                translator();
                assert_eq!(factory.status().residents.len(), 0);
            }
            ("folder", Ok(factory)) => {
                let of_the_hub: ModelRef = "owner/voice".parse().unwrap();
                assert!(tts(factory, &of_the_hub).is_ok());
                let e = tts(factory, &"owner/other".parse().unwrap()).err().unwrap();
                assert!(e.kind() == ErrorKind::ModelNotFound && e.to_string().contains("/nowhere/hub"), "{e}");
            }
            ("wrong", Err(e)) => assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains("DUBCORE_"), "{e}"),
            (what, factory) => panic!("{what}: {:?}", factory.map(|f| f.status())),
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().to_str().unwrap();
    let copy = ModelCopy::new("tts-es");
    let models = tempfile::tempdir().unwrap();
    std::fs::create_dir(models.path().join("owner")).unwrap();
    std::os::unix::fs::symlink(copy.model().to_string(), models.path().join("owner/voice")).unwrap();
    let models = models.path().to_str().unwrap();
    let cases: [(&str, &[(&str, &str)]); 15] = [
        ("preload", &[("DUBCORE_PRELOAD_MODELS", "micro/tts-es, micro/mt-en-es")]),
        ("results", &[("DUBCORE_RESULT_CACHE", "true"), ("DUBCORE_RESULT_CACHE_SIZE", "1"), ("DUBCORE_RESULT_CACHE_DISK", disk)]),
        ("wrong", &[("DUBCORE_PRELOAD_MODELS", "micro/tts-es,a b")]),
        ("wrong", &[("DUBCORE_RESULT_CACHE", "maybe")]),
        ("wrong", &[("DUBCORE_RESULT_CACHE", "true"), ("DUBCORE_RESULT_CACHE_TTL_SECONDS", "-1")]),
        ("wrong", &[("DUBCORE_CPU_THREADS", "many")]),
        ("wrong", &[("DUBCORE_DEVICE", "abacus")]),
        ("device", &[("DUBCORE_DEVICE", "cuda:7")]),
        ("partly", &[("DUBCORE_MEMORY_BUDGET", "1"), ("DUBCORE_RESULT_CACHE", "true"), ("DUBCORE_RESULT_CACHE_SIZE", "7")]),
        ("no cache", &[("DUBCORE_MODEL_CACHE_ENABLED", "false")]),
        ("wrong", &[("DUBCORE_MODEL_CACHE_ENABLED", "no")]),
        ("wrong", &[("DUBCORE_GPU_MEMORY_THRESHOLD", "90")]),
        ("wrong", &[("DUBCORE_GPU_MEMORY_THRESHOLD", "most")]),
        ("folder", &[("DUBCORE_MODELS_DIR", models), ("HF_HUB_OFFLINE", "1"), ("HF_HOME", "/nowhere")]),
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
fn a_benchmark_asks_no_cache_and_fills_none() {
    let results = ResultCache::new(ResultCacheOptions::default()).unwrap();
    let factory = Factory::builder().policy(KeepAll).results(results.clone()).build().unwrap();
    let audio = media::decode(&clip("kitchen.wav").into(), &Limits::default(), &Job::new()).unwrap();
    let job = Job::new();
    let run = |n| Dubber::benchmark(&factory, &DubModels::default(), &audio, Lang::ES, n, &job);
    let found = run(2).unwrap();
    assert_eq!((found.runs.len(), found.models.len(), results.status().entries), (2, 3, 0));
    assert!(found.median() > found.stages.transcribe && found.stages.transcribe > Duration::ZERO);
    assert!(found.real_time_factor() > 0.0 && found.audio_duration == audio.duration());
    assert_eq!(job.progress().fraction, 1.0);
    assert_eq!(run(0).unwrap_err().kind(), ErrorKind::InvalidArgument);
    job.cancel();
    assert_eq!(run(1).unwrap_err().kind(), ErrorKind::Cancelled);
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

#[test]
fn what_cannot_be_loaded_falls_back_and_says_so() {
    let (good, bad) = (ModelCopy::new("tts-es"), ModelCopy::new("tts-es"));
    bad.write("config.json", "{}");
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    let broken = model("own/broken");
    let factory = Factory::builder().policy(KeepAll).own_model(broken.clone(), move || {
        count.fetch_add(1, Ordering::SeqCst);
        Err(error(ErrorKind::Io))
    });
    let factory = factory.build().unwrap();
    let get = |model: &dubcore::ModelRef, opts: &LoadOptions| factory.tts(model, opts, &Job::new());
    let chain = |models: &[&dubcore::ModelRef]| LoadOptions::default().fallback(models.iter().map(|m| (*m).clone()).collect());
    let speak =
        |voice: &Arc<dyn dubcore::Tts>| voice.synthesize(&["agua"], &TtsOptions::default(), &Job::new()).remove(0).unwrap();

    // The second of three that works does the work; each result tells.
    let voice = get(&broken, &chain(&[&bad.model(), &good.model()])).unwrap();
    let spoken = speak(&voice);
    let fell_back = spoken.metadata.fallback.unwrap();
    assert_eq!((fell_back.from.as_str(), fell_back.to), ("own/broken", good.model().to_string()));
    assert!(fell_back.why.contains("the host's own io") && spoken.metadata.model == good.model().to_string());
    assert_eq!(voice.info().model, good.model().to_string());
    // What failed is not tried again at every call: not within half a minute, in which a slow machine hardly speaks twice. A call
    // with nothing to say asks for the model too, and takes no time.
    for _ in 0..5 {
        let e = voice.synthesize(&[""], &TtsOptions::default(), &Job::new()).remove(0).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!((tries.load(Ordering::SeqCst), factory.status().loads), (1, 3));
    // Alone it is.
    assert_eq!(get(&broken, &LoadOptions::default()).err().unwrap().kind(), ErrorKind::Io);
    assert_eq!(tries.load(Ordering::SeqCst), 2);
    // One that works is not fallen back from.
    assert_eq!(speak(&get(&good.model(), &chain(&[&broken])).unwrap()).metadata.fallback, None);

    // The modes: the model or an error; only the others.
    let e = get(&broken, &chain(&[&good.model()]).mode(LoadMode::Memory)).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::Io);
    let spared = get(&bad.model(), &chain(&[&good.model()]).mode(LoadMode::Fallback)).unwrap();
    assert_eq!(speak(&spared).metadata.fallback, None);
    let e = get(&good.model(), &LoadOptions::default().mode(LoadMode::Fallback)).err().unwrap();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);

    // Where nothing can be loaded, the error tells what was tried and what there is.
    let e = get(&broken, &chain(&[&bad.model(), &model("micro/stt-en")])).err().unwrap();
    let text = e.to_string();
    assert!(e.kind() == ErrorKind::ModelIncompatible && text.contains("own/broken") && text.contains("model_type"), "{text}");
    assert!(text.contains("loaded are") && text.contains(&good.model().to_string()), "{text}");

    // The model comes back, but only when it is tried again.
    factory.clear(&Job::new()).unwrap();
    good.write("config.json", "{}");
    let e = voice.synthesize(&["agua"], &TtsOptions::default(), &Job::new()).remove(0).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::ModelCorrupt);
    // A cancelled caller falls back to nothing.
    let job = Job::new();
    job.cancel();
    assert_eq!(factory.tts(&broken, &chain(&[&good.model()]), &job).err().unwrap().kind(), ErrorKind::Cancelled);
}
