//! The stages by themselves, through their traits. What happens inside is told by differences: a window's first token
//! takes the features, the encoder and one step, each further token one step more.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use dubcore::media::{Limits, decode};
use dubcore::{Audio, Factory, Fallback, Job, Lang, LoadOptions, Span, Stt, SttOptions, TranslateOptions, TtsOptions};

use crate::meter::{Meter, Row};
use crate::peer::Peer;
use crate::{Set, clip};

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

/// About a second of speech of the embedded voice.
const SPOKEN: &str = "Espera diez minutos.";

/// Recogniser, translator and voice of a set.
pub fn stages(set: Set) -> Result<()> {
    let mut meter = Meter::new()?;
    let factory = Factory::global()?;
    let (opts, job) = (LoadOptions::default(), Job::new());
    let [stt, translator, tts] = set.models()?;
    let group = set.name();

    let began = Instant::now();
    let stt = factory.stt(&stt, &opts, &job)?;
    let (translator, tts) = (factory.translator(&translator, &opts, &job)?, factory.tts(&tts, &opts, &job)?);
    println!("note {group}: loaded in {:.2} s", began.elapsed().as_secs_f64());

    recognition(&mut meter, set, &*stt)?;
    let sentence = |texts: &[&str], beams| {
        let opts = TranslateOptions::new(Lang::EN, Lang::ES).beams(beams);
        let made = translator.translate(black_box(texts), &opts, &job);
        made.into_iter().collect::<dubcore::Result<Vec<_>>>().expect("text")
    };
    meter.each(group, "translate 1 sentence, greedy", Row::new(4), || sentence(&SENTENCES[..1], 1))?;
    meter.each(group, "translate 1 sentence, beam 4", Row::new(4), || sentence(&SENTENCES[..1], 4))?;
    meter.each(group, "translate 8 sentences, beam 4", Row::new(8), || sentence(&SENTENCES, 4))?;

    let say = || tts.synthesize(&[black_box(SPOKEN)], &TtsOptions::default(), &job).remove(0).expect("speech").audio;
    let length = say().duration().as_secs_f64();
    meter.each(group, "speak one sentence", Row::new(5).audio(length), say)
}

fn recognition(meter: &mut Meter, set: Set, stt: &dyn Stt) -> Result<()> {
    let group = set.name();
    let seconds = if set == Set::Micro { 10.0 } else { 30.0 };
    let audio = speech(seconds)?;
    // One window, whole: where speech lies in it is not looked for.
    let whole = vec![Span::new(Duration::ZERO, audio.duration())];
    let opts = SttOptions::default().language(Lang::EN).beams(1).spans(whole).fallback(Fallback::none());
    let hear = |tokens: usize| {
        let opts = opts.clone().max_tokens(tokens);
        stt.transcribe(black_box(&audio), &opts, &Job::new()).expect("speech").text()
    };
    let first = format!("window of {seconds} s to the first token");
    meter.each(group, &first, Row::new(8).audio(seconds), || hear(1))?;
    // A model may be done before; what it writes tells how far it goes.
    let all = hear(0).len();
    let most = (2..=33).rev().find(|n| hear(*n).len() < all || set == Set::Real).context("the window holds speech")?;
    meter.rounds(group, "decoder step", Row::new(8), |rounds| {
        let once = |tokens| {
            let began = Instant::now();
            hear(tokens);
            began.elapsed()
        };
        // Short and long in turns, so that both see the same machine.
        let one = |_| once(most).saturating_sub(once(1)) / (most - 1) as u32;
        (0..rounds).map(one).sum::<Duration>().max(Duration::from_nanos(1))
    })?;
    if set == Set::Micro {
        let name = |who: &str| format!("window of {seconds} s, {most} tokens, {who}");
        // Ours includes what the other leaves out: features, tokenizer, rules.
        meter.each(group, &name("dubcore"), Row::new(8).audio(seconds), || hear(most))?;
        let mut peer = Peer::load(&clip("../../models/micro/stt-en"))?;
        // Start, language, task, no timestamps: what the model's config.json forces.
        let prompt: [u32; 4] = [2001, 2002, 2004, 2008];
        meter.each(group, &name("candle-transformers"), Row::new(8).audio(seconds), || peer.window(&prompt, most))?;
    }
    Ok(())
}

/// Speech of so many seconds at 16 kHz: the start of a sample clip, over and over.
fn speech(seconds: f64) -> Result<Audio> {
    let clip = decode(&clip("kitchen.wav").into(), &Limits::default(), &Job::new())?.resample(16_000)?;
    let samples = clip.samples().iter().copied().cycle().take((seconds * 16_000.0) as usize);
    Ok(Audio::new(samples.collect(), 16_000)?)
}
