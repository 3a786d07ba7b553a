//! Compute types: what is asked for is what computes, each has weights of its own, and they say the same things.

mod common;

use common::*;
use dubcore::{
    ComputeType, ErrorKind, Factory, Job, KeepAll, Lang, LoadOptions, ResultCache, ResultCacheOptions, StageInfo, SttOptions,
    TranslateOptions, TtsOptions,
};

const ALL: [ComputeType; 3] = [ComputeType::F32, ComputeType::Bf16, ComputeType::Int8];

fn with(compute_type: ComputeType) -> LoadOptions {
    LoadOptions::default().compute_type(compute_type)
}

#[test]
fn each_compute_type_has_weights_of_its_own_and_all_say_the_same() {
    let _turn = shared();
    let factory = Factory::builder().policy(KeepAll).build().unwrap();
    let job = Job::new();
    let clip = clip_audio("kitchen.wav");
    let translate = TranslateOptions::new(Lang::EN, Lang::ES);
    let mut heard = Vec::new();
    let mut written = Vec::new();
    for compute_type in ALL {
        let name = compute_type.to_string();
        let stt = factory.stt(&"micro/stt-en".parse().unwrap(), &with(compute_type), &job).unwrap();
        let info = stt.info();
        assert!(info.compute_type == name && !info.kernels.is_empty(), "{info:?}");
        let transcript = stt.transcribe(&clip, &SttOptions::default(), &job).unwrap();
        assert_eq!(transcript.metadata.compute_type, name);
        heard.push(transcript.text());
        let translator = factory.translator(&"micro/mt-en-es".parse().unwrap(), &with(compute_type), &job).unwrap();
        let translation = translator.translate(&["Good morning.", "The kitchen is closed."], &translate, &job);
        for text in translation {
            let text = text.unwrap();
            assert_eq!(text.metadata.compute_type, name);
            written.push(text.text);
        }
    }
    assert_eq!(heard, vec![heard[0].clone(); 3]);
    assert_eq!(written[2..4], written[..2]);
    assert_eq!(written[4..], written[..2]);

    let status = factory.status();
    let bytes = |ending: &str| {
        let of = status.residents.iter().filter(|r| r.key.to_string().starts_with("stt_"));
        of.filter(|r| r.key.to_string().ends_with(ending)).map(|r| r.bytes).sum::<u64>() as f64
    };
    assert_eq!(status.residents.len(), 6);
    for key in status.residents.iter().map(|r| r.key.clone()) {
        assert_eq!(key.to_string().parse::<dubcore::ModelKey>().unwrap(), key);
    }
    // Convolutions, positions and norms are f32 in any case.
    let (f32, bf16, int8) = (bytes("_off"), bytes("_off+bf16"), bytes("_off+int8"));
    assert!(bf16 < 0.6 * f32 && int8 < 0.35 * f32, "{f32} {bf16} {int8}");
    // All of them go by the model's name.
    assert!(factory.pin(&"micro/stt-en".parse().unwrap(), true));
    factory.unload(&"micro/stt-en".parse().unwrap(), &job).unwrap();
    assert_eq!(factory.status().residents.len(), 3);
}

/// Whether a model computes in what its kernels are fastest in, of those that cost no quality.
fn is_fastest(info: &StageInfo) -> bool {
    match info.kernels.as_str() {
        "amx" => info.compute_type == "bf16",
        // It depends on the processor's maker.
        "avx512_bf16" => ["bf16", "f32"].contains(&info.compute_type.as_str()),
        _ => info.compute_type == "f32",
    }
}

#[test]
fn what_is_not_said_is_what_the_processor_is_fastest_in_and_shares_its_weights() {
    let _turn = shared();
    let factory = Factory::builder().policy(KeepAll).build().unwrap();
    let voice = "micro/tts-es".parse().unwrap();
    let info = |compute_type| factory.tts(&voice, &with(compute_type), &Job::new()).unwrap().info();
    let auto = info(ComputeType::Auto);
    assert!(is_fastest(&auto), "{auto:?}");
    assert_eq!(info(auto.compute_type.parse().unwrap()), auto);
    let status = factory.status();
    assert_eq!((status.residents.len(), status.loads), (1, 1));
    assert_eq!(status.residents[0].key.compute_type, auto.compute_type);
}

#[test]
fn a_voice_says_as_much_in_any_compute_type() {
    let _turn = shared();
    let factory = Factory::builder().policy(KeepAll).build().unwrap();
    let say = |compute_type| {
        let voice = factory.tts(&"micro/tts-es".parse().unwrap(), &with(compute_type), &Job::new()).unwrap();
        assert_ne!(voice.info().compute_type, "auto");
        voice.synthesize(&["Buenos días, señora."], &TtsOptions::default(), &Job::new()).remove(0).unwrap().audio
    };
    let want = say(ComputeType::F32);
    let level = |samples: &[f32]| (samples.iter().map(|s| s * s).sum::<f32>() / samples.len() as f32).sqrt();
    for compute_type in [ComputeType::Bf16, ComputeType::Int8] {
        let got = say(compute_type);
        let (longer, louder) = (got.len() as f32 / want.len() as f32, level(got.samples()) / level(want.samples()));
        assert!((0.95..1.05).contains(&longer) && (0.9..1.1).contains(&louder), "{compute_type}: {longer} {louder}");
    }
}

#[test]
fn results_are_remembered_by_compute_type() {
    let _turn = shared();
    let results = ResultCache::new(ResultCacheOptions::default()).unwrap();
    let factory = Factory::builder().policy(KeepAll).results(results.clone()).build().unwrap();
    let translate = |compute_type| {
        let translator = factory.translator(&"micro/mt-en-es".parse().unwrap(), &with(compute_type), &Job::new()).unwrap();
        let opts = TranslateOptions::new(Lang::EN, Lang::ES);
        translator.translate(&["Good morning."], &opts, &Job::new()).remove(0).unwrap().metadata
    };
    for (known, compute_type) in ALL.into_iter().enumerate() {
        assert!(!translate(compute_type).cached);
        assert_eq!(results.status().entries, known + 1);
        let again = translate(compute_type);
        assert!(again.cached && again.compute_type == compute_type.to_string(), "{again:?}");
    }
}

/// The environment is read once per process, so each case has one of its own.
#[test]
fn the_environment_says_what_nobody_else_says() {
    let ask = |compute_type| {
        let factory = Factory::builder().build()?;
        factory.translator(&"micro/mt-en-es".parse().unwrap(), &with(compute_type), &Job::new()).map(|t| t.info())
    };
    if let Ok(what) = std::env::var("DUBCORE_TEST_CHILD") {
        match what.as_str() {
            "wrong" => {
                let e = ask(ComputeType::Auto).unwrap_err();
                assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains("DUBCORE_COMPUTE_TYPE=\"half\""), "{e}");
            }
            "int8" => {
                assert_eq!(ask(ComputeType::Auto).unwrap().compute_type, "int8");
                assert_eq!(ask(ComputeType::F32).unwrap().compute_type, "f32");
            }
            "auto" => assert!(is_fastest(&ask(ComputeType::Auto).unwrap())),
            "scalar" => {
                assert_eq!(ask(ComputeType::Bf16).unwrap().kernels, "scalar");
                assert_eq!(ask(ComputeType::Auto).unwrap().compute_type, "f32");
            }
            "reference" => {
                let info = ask(ComputeType::F32).unwrap();
                assert_eq!((info.compute_type.as_str(), info.kernels.as_str()), ("f32", "candle"));
                assert_eq!(ask(ComputeType::Auto).unwrap(), info);
                let e = ask(ComputeType::Int8).unwrap_err();
                assert!(e.kind() == ErrorKind::InvalidArgument && e.to_string().contains("int8 is asked for"), "{e}");
            }
            other => panic!("{other}"),
        }
        return;
    }
    for (what, name, value) in [
        ("wrong", "DUBCORE_COMPUTE_TYPE", "half"),
        ("int8", "DUBCORE_COMPUTE_TYPE", "int8"),
        ("auto", "DUBCORE_COMPUTE_TYPE", "auto"),
        ("scalar", "DUBCORE_CPU_ISA", "scalar"),
        ("reference", "DUBCORE_CPU_ISA", "candle"),
    ] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "the_environment_says_what_nobody_else_says", "--nocapture"]).env("DUBCORE_TEST_CHILD", what);
        let output = child.env(name, value).output().unwrap();
        assert!(output.status.success(), "{what}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}
