//! How long a dub takes on this machine.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{DubModels, DubRequest, Dubber, Output, Pipeline, StageTimes};
use crate::audio::Audio;
use crate::device::ProcessMemory;
use crate::error::{Error, Result};
use crate::factory::Factory;
use crate::lang::Lang;
use crate::runtime::Job;

/// What [`Dubber::benchmark`] measured.
#[non_exhaustive]
#[derive(Clone, Debug, Serialize)]
pub struct Benchmark {
    /// Length of the sound.
    pub audio_duration: Duration,
    /// Until the models were loaded, which is next to nothing where they were before.
    pub load: Duration,
    /// The first dub, for which memory is taken and caches fill.
    pub first: Duration,
    /// Each of those after it.
    pub runs: Vec<Duration>,
    /// What each stage took in them, on average.
    pub stages: StageTimes,
    /// The models: recogniser, translator, voice.
    pub models: Vec<String>,
    /// The process's memory afterwards.
    pub memory: ProcessMemory,
}

impl Benchmark {
    /// The median of the runs.
    pub fn median(&self) -> Duration {
        let mut runs = self.runs.clone();
        runs.sort_unstable();
        runs.get(runs.len() / 2).copied().unwrap_or(self.first)
    }

    /// The median by the length of the sound.
    pub fn real_time_factor(&self) -> f64 {
        self.median().as_secs_f64() / self.audio_duration.as_secs_f64().max(1e-9)
    }
}

impl Dubber {
    /// Dubs `audio` into `to` once and then `iterations` times more, keeping nothing, and says how long that took: to choose a
    /// machine, or settings, by. No result comes from a cache or goes into one.
    ///
    /// # Errors
    /// `InvalidArgument` for no iterations; else as for [`Dubber::from_factory`] and [`Run::finish`](super::Run::finish). A dub
    /// in which a line fails is an error.
    ///
    /// ```
    /// # fn main() -> dubcore::Result<()> {
    /// use dubcore::media::{self, Limits};
    /// use dubcore::{DubModels, Dubber, Factory, Job, Lang};
    /// # let clip = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/media/kitchen.wav");
    /// let audio = media::decode(&clip.into(), &Limits::default(), &Job::new())?;
    /// let found = Dubber::benchmark(Factory::global()?, &DubModels::default(), &audio, Lang::ES, 3, &Job::new())?;
    /// println!("a second of sound takes {:.2} s", found.real_time_factor());
    /// # assert_eq!(found.runs.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn benchmark(
        factory: &Factory,
        models: &DubModels,
        audio: &Audio,
        to: Lang,
        iterations: usize,
        job: &Job,
    ) -> Result<Benchmark> {
        if iterations == 0 {
            return Err(Error::argument("a benchmark of no iterations tells nothing: ask for one at least"));
        }
        let began = Instant::now();
        let dubber = Self::from_factory(&factory.without_results(), models, None, to, job)?;
        let load = began.elapsed();
        let mut times = Vec::with_capacity(iterations + 1);
        let mut stages = Vec::with_capacity(iterations);
        let mut models = Vec::new();
        for run in 0..=iterations {
            let part = job.child("", 1.0 / (iterations + 1) as f64);
            let began = Instant::now();
            let request = DubRequest::new(audio.clone(), to).output(Output::Memory);
            let dub = dubber.start(request, part.clone())?.finish()?;
            times.push(began.elapsed());
            job.check()?;
            if let Some(failed) = dub.failed.first() {
                return Err(failed.error.clone());
            }
            if run > 0 {
                stages.push(dub.times);
            }
            models = dub.models;
            part.report(1.0);
        }
        let first = times.remove(0);
        let mean = |of: fn(&StageTimes) -> Duration| stages.iter().map(of).sum::<Duration>() / iterations as u32;
        let stages = StageTimes {
            listen: mean(|s| s.listen),
            transcribe: mean(|s| s.transcribe),
            translate: mean(|s| s.translate),
            speak: mean(|s| s.speak),
            mix: mean(|s| s.mix),
        };
        Ok(Benchmark { audio_duration: audio.duration(), load, first, runs: times, stages, models, memory: ProcessMemory::now() })
    }
}
