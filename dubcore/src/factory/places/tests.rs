//! A GPU that runs out of memory at every point where some is asked for, and one that fails for good.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::audio::{Audio, Span};
use crate::backends::fixtures::fixture;
use crate::cache::policy::KeepAll;
use crate::compute::ComputeType;
use crate::device::simulated::Simulated;
use crate::device::{Hardware, Use};
use crate::factory::{Batching, HealthStatus, LoadMode, LoadOptions};
use crate::runtime::Job;
use crate::source::ModelRef;
use crate::stage::{Fallback, FellBack, Metadata, SttOptions, TranslateOptions, TtsOptions};

const KINDS: [&str; 3] = ["stt", "translator", "tts"];

fn model(kind: &str) -> ModelRef {
    let of = |path| ModelRef::directory(fixture(path));
    match kind {
        "stt" => of("whisper/a"),
        "translator" => of("marian/shared-relu"),
        _ => of("vits/deterministic"),
    }
}

fn factory(gpu: &Arc<Simulated>) -> Factory {
    Factory::builder().policy(KeepAll).gpu(gpu.clone()).build().unwrap()
}

/// What a model says, and where it said so.
fn call(factory: &Factory, kind: &str, opts: &LoadOptions) -> Result<(String, Metadata)> {
    let (model, job) = (model(kind), Job::new());
    match kind {
        "stt" => {
            let sound = (0..16_000).map(|i| (i as f32 * 0.05).sin() * 0.3).collect();
            let audio = Audio::new(sound, 16_000)?;
            let options = SttOptions::default().max_tokens(12).fallback(Fallback::none());
            let options = options.spans(vec![Span::new(Duration::ZERO, audio.duration())]);
            let heard = factory.stt(&model, opts, &job)?.transcribe(&audio, &options, &job)?;
            Ok((format!("{:?}", heard.segments), heard.metadata))
        }
        "translator" => {
            let translator = factory.translator(&model, opts, &job)?;
            let info = translator.info();
            let (from, to) = (info.from.first().copied(), info.to.first().copied());
            let options = TranslateOptions::new(from.unwrap_or(crate::Lang::EN), to.unwrap_or(crate::Lang::ES));
            let options = options.max_tokens(6).beams(2);
            let mut said = translator.translate(&["a b", "c"], &options, &job).into_iter().collect::<Result<Vec<_>>>()?;
            let metadata = said.swap_remove(0).metadata;
            Ok((format!("{:?}", said.iter().map(|t| (&t.text, t.score)).collect::<Vec<_>>()), metadata))
        }
        _ => {
            let voice = factory.tts(&model, opts, &job)?;
            let said = voice.synthesize(&["ab"], &TtsOptions::default(), &job).remove(0)?;
            Ok((format!("{:?}", said.audio.samples()), said.metadata))
        }
    }
}

/// In f32, in which both places give the same: by itself the processor may take another.
fn on(device: Device) -> LoadOptions {
    LoadOptions::default().device(device).compute_type(ComputeType::F32)
}

fn on_gpu() -> LoadOptions {
    on(Device::Cuda(0))
}

/// How often a load and a call ask for memory, and what comes of them.
fn undisturbed(kind: &str) -> (u64, String) {
    let gpu = Arc::new(Simulated::new(1 << 30));
    let (said, metadata) = call(&factory(&gpu), kind, &on_gpu()).unwrap();
    assert_eq!((metadata.device, metadata.fallback), (Device::Cuda(0), None));
    assert!(said.len() > 10, "{kind} says {said}");
    println!("{kind} asks for memory {} times", gpu.asked());
    let on_cpu = call(&factory(&gpu), kind, &on(Device::Cpu)).unwrap();
    assert_eq!((&on_cpu.0, on_cpu.1.device), (&said, Device::Cpu), "the processor gives the same");
    (gpu.asked(), said)
}

fn told(kind: &str) -> FellBack {
    let model = model(kind);
    FellBack { from: format!("{model} on cuda:0"), to: format!("{model} on cpu"), why: String::new() }
}

#[test]
fn memory_that_is_short_once_is_asked_for_again() {
    for kind in KINDS {
        let (points, want) = undisturbed(kind);
        assert!(points > 20, "{kind} asks {points} times");
        for point in 0..points {
            let gpu = Arc::new(Simulated::failing(1 << 30, move |asked, _| asked == point));
            let factory = factory(&gpu);
            let (said, metadata) = call(&factory, kind, &on_gpu()).unwrap();
            assert_eq!(said, want, "{kind}, {point}");
            assert_eq!((metadata.device, metadata.fallback), (Device::Cuda(0), None), "{kind}, {point}");
            assert!(gpu.asked() > points, "it was tried again");
            assert_eq!(gpu.memory().requests, 0);
            factory.clear(&Job::new()).unwrap();
            assert_eq!(gpu.memory().weights, 0, "{kind}, {point}");
        }
    }
}

#[test]
fn memory_that_stays_short_is_the_processors_turn() {
    for kind in KINDS {
        let (points, want) = undisturbed(kind);
        for point in 0..points {
            let gpu = Arc::new(Simulated::failing(1 << 30, move |asked, _| asked >= point));
            let own = factory(&gpu);
            for _ in 0..2 {
                let (said, metadata) = call(&own, kind, &on_gpu()).unwrap();
                assert_eq!((&said, metadata.device), (&want, Device::Cpu), "{kind}, {point}");
                let fell_back = metadata.fallback.unwrap();
                assert!(fell_back.why.contains("free on cuda:0"), "{}", fell_back.why);
                assert_eq!(FellBack { why: String::new(), ..fell_back }, told(kind));
                assert_eq!(gpu.memory().requests, 0, "{kind}, {point}");
            }
            own.clear(&Job::new()).unwrap();
            assert_eq!(gpu.memory().weights, 0);

            // Where nothing else is allowed it is an error, and the next call works.
            let gpu = Arc::new(Simulated::failing(1 << 30, move |asked, _| asked == point || asked == point + 1));
            let own = factory(&gpu);
            let strict = on_gpu().mode(LoadMode::Memory);
            let e = call(&own, kind, &strict).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::OutOfMemory, "{kind}, {point}: {e}");
            assert_eq!(gpu.memory().requests, 0);
            assert_eq!(call(&own, kind, &strict).unwrap().0, want);
            own.clear(&Job::new()).unwrap();
            assert_eq!(gpu.memory().weights, 0);
        }
    }
}

#[test]
fn what_is_not_used_makes_room() {
    let bytes = |kind| {
        let gpu = Arc::new(Simulated::new(1 << 30));
        let factory = factory(&gpu);
        call(&factory, kind, &on_gpu()).unwrap();
        factory.status().bytes
    };
    let (stt, tts) = (bytes("stt"), bytes("tts"));
    let gpu = Arc::new(Simulated::new(stt + tts / 2));
    let factory = Factory::builder().policy(KeepAll).gpu(gpu.clone()).gpu_memory_threshold(1.0).build().unwrap();
    assert_eq!(factory.warm_up(&[model("stt")], &on_gpu(), &Job::new()).len(), 1);
    let there = |factory: &Factory| factory.status().residents.iter().map(|r| r.key.model.to_string()).collect::<Vec<_>>();
    factory.preload(&[model("stt")], &on_gpu().mode(LoadMode::Memory), &Job::new()).remove(0).unwrap();
    factory.preload(&[model("tts")], &on_gpu().mode(LoadMode::Memory), &Job::new()).remove(0).unwrap();
    assert_eq!(there(&factory), [model("tts").to_string()]);
    assert_eq!((gpu.memory().weights, factory.status().devices[1].weights), (tts, tts));

    // A pinned one stays.
    assert!(factory.pin(&model("tts"), true));
    let e = factory.preload(&[model("stt")], &on_gpu().mode(LoadMode::Memory), &Job::new()).remove(0).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::OutOfMemory);
    assert_eq!(there(&factory), [model("tts").to_string()]);

    // A call, too, may have what nobody uses.
    let gpu = Arc::new(Simulated::new(1 << 30));
    let hungry = gpu.clone();
    let factory = self::factory(&gpu);
    let (want, _) = call(&factory, "stt", &on_gpu()).unwrap();
    call(&factory, "tts", &on_gpu()).unwrap();
    let mut rest = crate::device::Held::new(&(hungry as Place), Use::Workspace);
    rest.grow(gpu.memory().free - 1_000).unwrap();
    let (said, metadata) = call(&factory, "stt", &on_gpu()).unwrap();
    assert_eq!((said, metadata.device), (want, Device::Cuda(0)));
    assert_eq!(there(&factory), [model("stt").to_string()]);
}

#[test]
fn a_gpu_that_is_nearly_full_gets_nothing_more() {
    let gpu = Arc::new(Simulated::new(1 << 30));
    let mut others = crate::device::Held::new(&(gpu.clone() as Place), Use::Workspace);
    others.grow((1 << 30) / 100 * 95).unwrap();
    let own = factory(&gpu);
    let (_, metadata) = call(&own, "tts", &on_gpu()).unwrap();
    assert_eq!(metadata.device, Device::Cpu);
    let why = metadata.fallback.unwrap().why;
    assert!(why.contains("95 %") && why.contains("above 90 %"), "{why}");
    let e = call(&own, "tts", &on_gpu().mode(LoadMode::Memory)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::OutOfMemory);
    drop(others);
    assert_eq!(call(&own, "tts", &on_gpu()).unwrap().1.device, Device::Cuda(0), "there is room again");

    let builder = || Factory::builder().gpu(gpu.clone());
    for wrong in [-0.1, 1.1, f64::NAN] {
        assert_eq!(builder().gpu_memory_threshold(wrong).build().unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[test]
fn a_gpu_that_failed_is_left_alone() {
    for kind in KINDS {
        let gpu = Arc::new(Simulated::new(1 << 30));
        let own = factory(&gpu);
        let (want, _) = call(&own, kind, &on_gpu()).unwrap();
        gpu.die();
        let asked = gpu.asked();
        for _ in 0..3 {
            let (said, metadata) = call(&own, kind, &on_gpu()).unwrap();
            assert_eq!((&said, metadata.device), (&want, Device::Cpu));
            assert!(metadata.fallback.unwrap().why.contains("no longer used"));
        }
        assert_eq!(gpu.asked(), asked, "nobody asked it again");
        let e = call(&own, kind, &on_gpu().mode(LoadMode::Memory)).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::DeviceUnavailable);
        assert!(own.status().devices[1].failed);
        assert_eq!(own.health().status, HealthStatus::Degraded);
        own.clear(&Job::new()).unwrap();
        assert_eq!(gpu.memory().weights, 0);
    }
}

#[test]
fn a_gpu_that_fails_in_the_midst_of_a_call_is_replaced() {
    let (points, want) = undisturbed("translator");
    // Dies at the first key that a call asks for.
    let gpu: Arc<Simulated> = Arc::new_cyclic(|own: &std::sync::Weak<Simulated>| {
        let own = own.clone();
        Simulated::failing(1 << 30, move |_, what| {
            if what == Use::Cache {
                own.upgrade().unwrap().die();
            }
            what == Use::Cache
        })
    });
    let (said, metadata) = call(&factory(&gpu), "translator", &on_gpu()).unwrap();
    assert_eq!((said, metadata.device), (want, Device::Cpu));
    assert!(gpu.asked() < points);
}

#[test]
fn a_gpu_that_is_not_there() {
    let none = Factory::builder().policy(KeepAll).build().unwrap();
    let (_, metadata) = call(&none, "translator", &on_gpu()).unwrap();
    assert_eq!(metadata.device, Device::Cpu);
    assert!(metadata.fallback.unwrap().why.contains("no device cuda:0: there are cpu"));
    let e = call(&none, "translator", &on_gpu().mode(LoadMode::Memory)).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::DeviceUnavailable);
    assert_eq!(call(&none, "translator", &LoadOptions::default()).unwrap().1.fallback, None, "auto is the processor here");

    let gpu = Arc::new(Simulated::new(1 << 30));
    let metadata = call(&factory(&gpu), "translator", &LoadOptions::default()).unwrap().1;
    assert_eq!((metadata.device, metadata.fallback), (Device::Cuda(0), None), "and the GPU where there is one");
    let metadata = call(&factory(&gpu), "translator", &LoadOptions::default().device(Device::Cuda(1))).unwrap().1;
    assert!(metadata.fallback.unwrap().why.contains("there are cpu, cuda:0"));
}

#[test]
fn batches_fall_back_as_one() {
    let (points, want) = undisturbed("translator");
    let gpu = Arc::new(Simulated::failing(1 << 30, move |asked, _| asked >= points - 1));
    let own = factory(&gpu);
    let (said, metadata) = call(&own, "translator", &on_gpu().batch(Batching::default())).unwrap();
    assert_eq!((said, metadata.device), (want, Device::Cpu));
    assert!(metadata.fallback.is_some());
}
