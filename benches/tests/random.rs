//! Models with random weights load, and what they do has the length that it should.

use dubcore::media::Limits;
use dubcore::{ComputeType, Factory, Fallback, Job, Lang, LoadOptions, ModelRef, SttOptions, TranslateOptions, TtsOptions};
use dubcore_bench::clip;
use dubcore_bench::random::{Shape, Storage, cached, write};

fn job() -> Job {
    Job::new().timeout(std::time::Duration::from_secs(120))
}

#[test]
fn a_voice_speaks_in_its_own_time() {
    let dir = ModelRef::directory(cached(Shape::MmsTts).unwrap());
    let factory = Factory::builder().build().unwrap();
    let voice = factory.tts(&dir, &LoadOptions::default(), &job()).unwrap();
    let text = "No hay nadie en casa.";
    let speech = voice.synthesize(&[text], &TtsOptions::default(), &job()).remove(0).unwrap().audio;
    let (seconds, letters) = (speech.duration().as_secs_f64(), text.chars().count() as f64);
    assert!((10.0..20.0).contains(&(letters / seconds)), "{seconds} s");
    let level = (speech.samples().iter().map(|s| s * s).sum::<f32>() / speech.len() as f32).sqrt();
    assert!((0.01..0.9).contains(&level), "{level}");
}

#[test]
fn a_translator_writes_words_to_the_last_token() {
    let dir = ModelRef::directory(cached(Shape::OpusMt).unwrap());
    let factory = Factory::builder().build().unwrap();
    let translator = factory.translator(&dir, &LoadOptions::default(), &job()).unwrap();
    for beams in [1, 2] {
        let opts = TranslateOptions::new(Lang::EN, Lang::ES).beams(beams);
        let text = translator.translate(&["It is cold."], &opts, &job()).remove(0).unwrap().text;
        // One token is the forced end.
        assert_eq!(text.split(' ').count(), 8, "{text}");
        assert!(text.chars().all(|c| c == ' ' || c.is_ascii_lowercase()), "{text}");
    }
}

#[test]
fn a_recogniser_writes_as_many_tokens_as_it_may() {
    let dir = ModelRef::directory(cached(Shape::WhisperBase).unwrap());
    let factory = Factory::builder().build().unwrap();
    let stt = factory.stt(&dir, &LoadOptions::default().compute_type(ComputeType::F32), &job()).unwrap();
    let sound = dubcore::media::decode(&clip("kitchen.wav").into(), &Limits::default(), &job()).unwrap();
    let opts = SttOptions::default().max_tokens(5).fallback(Fallback::none());
    let text = stt.transcribe(&sound, &opts, &job()).unwrap().text();
    assert_eq!(text.split_whitespace().count(), 5, "{text}");
    // The published checkpoint's 72.6 million numbers, and what fills the last vectors.
    let bytes = factory.status().bytes;
    assert!((4 * 72_500_000..4 * 72_800_000).contains(&bytes), "{bytes}");
}

#[test]
fn a_seed_makes_the_same_again_and_another_does_not() {
    let dir = cached(Shape::MmsTts).unwrap().with_extension("again");
    let read = |storage, seed| {
        write(Shape::MmsTts, &dir, storage, seed).unwrap();
        std::fs::read(dir.join("model.safetensors")).unwrap()
    };
    let (first, again, other, half) =
        (read(Storage::F32, 1), read(Storage::F32, 1), read(Storage::F32, 2), read(Storage::F16, 1));
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(first == again && first != other && first.len() == other.len());
    assert!((0.45..0.55).contains(&(half.len() as f64 / first.len() as f64)));
}
