//! What is done to sound before and behind the models.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use dubcore::bench::LogMel;
use dubcore::{
    Audio, DubRequest, Dubber, Job, Lang, Metadata, Output, Pipeline, ScriptLine, Span, Speech, StageInfo, Stt, SttOptions,
    Transcript, Tts, TtsOptions,
};

use crate::meter::{Meter, Row};

/// Features, resampling, mixing.
pub fn sound() -> Result<()> {
    let mut meter = Meter::new()?;
    let audio = tone(30, 16_000)?;
    let mel = LogMel::new(80, 30)?;
    meter.each("sound", "log-mel, 30 s", Row::new(3).audio(30.0), || mel.forward(black_box(&audio)).map(drop))?;

    let audio = tone(30, 44_100)?;
    meter.each("sound", "resample 30 s, 44.1 to 16 kHz", Row::new(3).audio(30.0), || black_box(&audio).resample(16_000))?;

    // Twenty lines of two seconds in a minute of sound. The mixer is reached through a pipeline whose stages cost nothing;
    // what it spent on mixing and writing is what counts.
    let stand_in = Arc::new(StandIn(tone(2, 16_000)?));
    let dubber = Dubber::new(stand_in.clone(), None, Some(stand_in));
    let line = |i: u64| {
        let start = Duration::from_secs(3 * i);
        ScriptLine::new(Span::new(start, start + Duration::from_secs(2)), "line").target("línea")
    };
    let request = DubRequest::new(tone(60, 44_100)?, Lang::ES).script((0..20).map(line).collect()).output(Output::Memory);
    meter.rounds("sound", "mix 60 s, 20 lines", Row::new(3).audio(60.0), |rounds| {
        let one = |_| dubber.start(request.clone(), Job::new()).and_then(|run| run.finish()).expect("a dub").times.mix;
        (0..rounds).map(one).sum()
    })
}

fn tone(seconds: u32, rate: u32) -> Result<Audio> {
    Ok(Audio::new((0..seconds * rate).map(|i| 0.3 * (i as f32 * 0.05).sin()).collect(), rate)?)
}

/// A recogniser that hears nothing and a voice that always says the same.
struct StandIn(Audio);

impl Stt for StandIn {
    fn transcribe(&self, _: &Audio, _: &SttOptions, _: &Job) -> dubcore::Result<Transcript> {
        Ok(Transcript::new(Lang::EN, Vec::new(), Metadata::default()))
    }

    fn info(&self) -> StageInfo {
        StageInfo::new("stand-in")
    }
}

impl Tts for StandIn {
    fn synthesize(&self, texts: &[&str], _: &TtsOptions, _: &Job) -> Vec<dubcore::Result<Speech>> {
        texts.iter().map(|_| Ok(Speech::new(self.0.clone(), Metadata::default()))).collect()
    }

    fn duration(&self, _: &str, _: &TtsOptions, _: &Job) -> dubcore::Result<Option<Duration>> {
        Ok(Some(self.0.duration()))
    }

    fn info(&self) -> StageInfo {
        StageInfo::new("stand-in")
    }
}
