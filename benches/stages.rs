//! The stages by themselves, on the embedded models: `cargo bench --bench stages`.
//!
//! The group `window` times our recogniser beside candle-transformers' Whisper, on the same weights and number of tokens.

mod peer;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use dubcore::media::{Limits, decode};
use dubcore::{
    Audio, DubRequest, Dubber, Factory, Job, Lang, LoadOptions, Metadata, Output, Pipeline, Result, ScriptLine, Span, Speech,
    StageInfo, Stt, SttOptions, Transcript, TranslateOptions, Tts, TtsOptions,
};

const SENTENCES: [&str; 8] = [
    "We left the keys on the kitchen table.",
    "Good evening, how was your day?",
    "My brother wants to learn to swim this summer.",
    "There is nobody at home.",
    "Could you close the window, please?",
    "It rained all night, but the street is dry.",
    "She told me that the train was late again.",
    "Why didn't you call me yesterday?",
];

/// Most tokens that the recognisers write in the comparison.
const TOKENS: usize = 20;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn factory() -> &'static Factory {
    Factory::global().expect("the environment's settings are right")
}

fn model(name: &str) -> dubcore::ModelRef {
    name.parse().expect("a model's name")
}

/// Ten seconds of speech, the whole of the recogniser's window.
fn window() -> Audio {
    let clip = root().join("examples/media/kitchen.wav");
    let audio = decode(&clip.into(), &Limits::default(), &Job::new()).expect("a sample clip");
    audio.resample(16_000).expect("a usual rate").slice(Span::new(Duration::ZERO, Duration::from_secs(10)))
}

fn recognition(c: &mut Criterion) {
    let stt = factory().stt(&model("micro/stt-en"), &LoadOptions::default(), &Job::new()).expect("an embedded model");
    let audio = window();
    let opts = SttOptions::default().spans(vec![Span::new(Duration::ZERO, audio.duration())]);
    let hear = |opts: &SttOptions| stt.transcribe(black_box(&audio), opts, &Job::new()).expect("speech").text();

    let mut group = c.benchmark_group("recognise");
    group.sample_size(10).measurement_time(Duration::from_secs(6));
    group.bench_function("10 s, greedy", |b| b.iter(|| hear(&opts)));
    group.bench_function("10 s, beam 4", |b| b.iter(|| hear(&opts.clone().beams(4))));
    group.finish();

    // Both write as many tokens as ours has for this window, so that neither stops early.
    let all = hear(&opts).len();
    let cut = |n: &usize| hear(&opts.clone().max_tokens(*n)).len() < all;
    let tokens = (1..=TOKENS).rev().find(cut).expect("the window holds speech");
    let short = opts.clone().max_tokens(tokens);
    let mut peer = peer::Peer::load(&root().join("models/micro/stt-en")).expect("candle reads the embedded model");
    // Start, language, task, no timestamps: what the model's config.json forces.
    let prompt: [u32; 4] = [2001, 2002, 2004, 2008];
    let mut group = c.benchmark_group(format!("window, {tokens} tokens"));
    group.sample_size(10).measurement_time(Duration::from_secs(6));
    // Ours includes what the other leaves out: features, tokenizer, rules.
    group.bench_function("dubcore", |b| b.iter(|| hear(&short)));
    group.bench_function("candle-transformers", |b| b.iter(|| peer.window(black_box(&prompt), tokens).expect("tokens")));
    group.bench_function("candle-transformers, encoder alone", |b| b.iter(|| peer.encode().expect("states")));
    group.finish();
}

fn translation(c: &mut Criterion) {
    let translator =
        factory().translator(&model("micro/mt-en-es"), &LoadOptions::default(), &Job::new()).expect("an embedded model");
    let run = |texts: &[&str], beams| {
        let opts = TranslateOptions::new(Lang::EN, Lang::ES).beams(beams);
        translator.translate(black_box(texts), &opts, &Job::new()).into_iter().collect::<Result<Vec<_>>>().expect("text")
    };
    let mut group = c.benchmark_group("translate");
    group.sample_size(10).measurement_time(Duration::from_secs(4));
    group.bench_function("1 sentence, greedy", |b| b.iter(|| run(&SENTENCES[..1], 1)));
    group.bench_function("1 sentence, beam 4", |b| b.iter(|| run(&SENTENCES[..1], 4)));
    group.bench_function("8 sentences, beam 4", |b| b.iter(|| run(&SENTENCES, 4)));
    group.finish();
}

fn speech(c: &mut Criterion) {
    let tts = factory().tts(&model("micro/tts-es"), &LoadOptions::default(), &Job::new()).expect("an embedded model");
    // About a second of speech; the name says how much it is.
    let say = || {
        let made = tts.synthesize(&[black_box("Espera diez minutos.")], &TtsOptions::default(), &Job::new());
        made.into_iter().next().expect("one text").expect("speech").audio
    };
    let length = say().duration().as_secs_f64();
    let mut group = c.benchmark_group("speak");
    group.sample_size(10).measurement_time(Duration::from_secs(4));
    group.bench_function(format!("{length:.2} s"), |b| b.iter(say));
    group.finish();
}

fn sound(c: &mut Criterion) {
    let tone = |seconds: u32, rate: u32| {
        let samples = (0..seconds * rate).map(|i| 0.3 * (i as f32 * 0.05).sin()).collect();
        Audio::new(samples, rate).expect("finite samples")
    };
    let mut group = c.benchmark_group("sound");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    let audio = tone(10, 44_100);
    group.bench_function("resample 10 s, 44.1 to 16 kHz", |b| {
        b.iter(|| black_box(&audio).resample(16_000).expect("a usual rate"))
    });

    // Twenty lines of two seconds in a minute of sound. The mixer is reached through a pipeline whose stages cost nothing;
    // what it spent on mixing and writing is what counts.
    let minute = tone(60, 44_100);
    let stand_in = Arc::new(StandIn(tone(2, 16_000)));
    let dubber = Dubber::new(stand_in.clone(), None, Some(stand_in));
    let line = |i: u64| {
        let start = Duration::from_secs(3 * i);
        ScriptLine::new(Span::new(start, start + Duration::from_secs(2)), "line").target("línea")
    };
    let request = DubRequest::new(minute, Lang::ES).script((0..20).map(line).collect()).output(Output::Memory);
    group.bench_function("mix 60 s, 20 lines", |b| {
        b.iter_custom(|times| {
            let one = |_| {
                let run = dubber.start(request.clone(), Job::new()).expect("a request that is in order");
                run.finish().expect("a dub").times.mix
            };
            (0..times).map(one).sum()
        });
    });
    group.finish();
}

/// A recogniser that hears nothing and a voice that always says the same.
struct StandIn(Audio);

impl Stt for StandIn {
    fn transcribe(&self, _: &Audio, _: &SttOptions, _: &Job) -> Result<Transcript> {
        Ok(Transcript::new(Lang::EN, Vec::new(), Metadata::default()))
    }

    fn info(&self) -> StageInfo {
        StageInfo::new("stand-in")
    }
}

impl Tts for StandIn {
    fn synthesize(&self, texts: &[&str], _: &TtsOptions, _: &Job) -> Vec<Result<Speech>> {
        texts.iter().map(|_| Ok(Speech::new(self.0.clone(), Metadata::default()))).collect()
    }

    fn duration(&self, _: &str, _: &TtsOptions, _: &Job) -> Result<Option<Duration>> {
        Ok(Some(self.0.duration()))
    }

    fn info(&self) -> StageInfo {
        StageInfo::new("stand-in")
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500));
    targets = recognition, translation, speech, sound
}
criterion_main!(benches);
