//! What the factory gives out: a stage that takes a lease on its model for each call.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chain::{Chain, Id, of_the_device};
use super::{Factory, LoadOptions};
use arc_swap::ArcSwap;

use crate::audio::{Audio, Span};
use crate::backend::Stage;
use crate::cache::results::key::Key;
use crate::error::{Error, ErrorKind, Result};
use crate::gate::{Gate, Pass, Refused};
use crate::lang::Lang;
use crate::runtime::Job;
use crate::stage::{
    Fallback, FellBack, Metadata, Speech, StageInfo, Stt, SttOptions, Transcript, TranslateOptions, Translation, Translator, Tts,
    TtsOptions,
};

#[derive(Clone)]
pub(super) struct Handle {
    factory: Factory,
    /// What to use, in this order: the next one where those before cannot be loaded.
    chain: Chain,
    kind: &'static str,
    /// Of the model as it was loaded last: its directory may change, and then it is another revision.
    info: Arc<ArcSwap<StageInfo>>,
    opts: LoadOptions,
}

/// A request to a recogniser, as part of a batch: its sound, and the spans of speech in it.
pub(super) type Piece = (Audio, Vec<Span>);

/// How far behind the end of its sound a span may end: recognisers let that pass, since times are often rounded.
const SLACK: Duration = Duration::from_millis(1);

/// The piece with spans that are in order and end with its own sound, for behind that there may be another's. `None` where
/// they are wrong.
fn fenced((audio, spans): &Piece) -> Option<Piece> {
    let mut last = Duration::ZERO;
    let cut = |span: &Span| {
        let end = span.end.min(audio.duration());
        let fits = last <= span.start && span.start < end && span.end - end <= SLACK;
        last = end;
        fits.then(|| Span::new(span.start, end))
    };
    let spans = spans.iter().map(cut).collect::<Option<Vec<_>>>()?;
    Some((audio.clone(), spans))
}

impl Handle {
    pub(super) fn new(factory: Factory, chain: Chain, kind: &'static str, info: StageInfo, opts: LoadOptions) -> Self {
        Self { factory, chain, kind, info: Arc::new(ArcSwap::from_pointee(info)), opts }
    }

    /// What gates and batches are known by.
    fn id(&self) -> &Id {
        &self.chain[0]
    }

    /// Runs a call under a lease, when it is its turn. Where the device has no memory for it, what nobody uses there goes and
    /// the call is made once more, then with what comes next. `error` is what came of it, where a call can fail in part. A
    /// panic ends here, as an error.
    fn call<R>(
        &self,
        job: &Job,
        call: impl Fn(&Stage) -> Result<R>,
        error: impl Fn(&R) -> Option<&Error>,
    ) -> Result<(R, Option<FellBack>)> {
        let _pass = self.enter(job)?;
        let mut rest = &self.chain[..];
        // What was tried first, and why it did not do.
        let mut failed: Option<(&Id, Error)> = None;
        loop {
            let (lease, at, mut fell_back) = self.factory.lease_first(rest, Some(self.kind), |id| self.factory.lease(id, job))?;
            let (id, left) = (&rest[at], &rest[at + 1..]);
            if let Some((first, e)) = &failed {
                fell_back = Some(first.fell_back(id, e));
            }
            let now = lease.item().loaded.stage.info();
            if now != **self.info.load() {
                self.info.store(Arc::new(now));
            }
            let run = || {
                catch_unwind(AssertUnwindSafe(|| call(&lease.item().loaded.stage)))
                    .unwrap_or_else(|panic| Err(Error::panicked(&format!("model {}", id.model), &*panic)))
            };
            let no_device = |result: &Result<R>| match result {
                Ok(result) => error(result).filter(|e| of_the_device(e)).cloned(),
                Err(e) => Some(e.clone()).filter(of_the_device),
            };
            let mut result = run();
            if self.factory.is_own(&id.model) {
                return result.map(|result| (result, fell_back));
            }
            if no_device(&result).is_some_and(|e| e.kind() == ErrorKind::OutOfMemory) {
                self.factory.make_room(id.device);
                result = run();
            }
            match no_device(&result) {
                Some(e) if !left.is_empty() => {
                    tracing::warn!("a call to {id} is made elsewhere: {}", e.report());
                    failed.get_or_insert((id, e));
                    rest = left;
                }
                _ => return result.map(|result| (result, fell_back)),
            }
        }
    }

    /// Waits for its turn.
    fn enter(&self, job: &Job) -> Result<Option<Pass>> {
        let slots = self.opts.pool_size;
        if slots == 0 {
            return Ok(None);
        }
        let busy = |why: String| {
            let what =
                format!("model {} is busy, {slots} calls at once: {why}; try again later or raise pool_size", self.id().model);
            Error::new(ErrorKind::Busy, what)
        };
        let began = Instant::now();
        let check = || {
            if self.opts.queue_timeout.is_some_and(|limit| began.elapsed() >= limit) {
                return Err(busy(format!("waited {:.1} s", began.elapsed().as_secs_f64())));
            }
            job.check().map_err(|e| match e.kind() {
                ErrorKind::DeadlineExceeded => busy("the job's deadline passed before its turn came".into()),
                _ => e,
            })
        };
        job.check()?;
        match Gate::enter(&self.factory.gate(self.id(), slots), self.opts.queue, check) {
            Ok(pass) => Ok(Some(pass)),
            Err(Refused::Full(waiting)) => Err(busy(format!("{waiting} wait already"))),
            Err(Refused::Left(e)) => Err(e),
        }
    }

    /// One run on next to nothing.
    pub(super) fn warm_up(&self, stage: &Stage, job: &Job) -> Result<()> {
        let info = stage.info();
        match stage {
            Stage::Stt(_) => {
                let rate = if info.sample_rate > 0 { info.sample_rate } else { 16_000 };
                // Told where the speech is, it does not look for it: silence would be skipped.
                let second = Audio::new(vec![0.0; rate as usize], rate)?;
                let opts = SttOptions::default().language(info.from.first().copied()).max_tokens(4);
                let opts = opts.spans(vec![Span::new(Duration::ZERO, second.duration())]).fallback(Fallback::none());
                self.transcribe(&second, &opts, job).map(drop)
            }
            Stage::Translator(_) => {
                let from = info.from.first().copied().unwrap_or(Lang::EN);
                let to = info.to.iter().copied().find(|to| *to != from).unwrap_or(Lang::ES);
                let opts = TranslateOptions::new(from, to).max_tokens(4);
                self.translate(&["a"], &opts, job).into_iter().try_for_each(|t| t.map(drop))
            }
            Stage::Tts(_) => self.synthesize(&["a"], &TtsOptions::default(), job).into_iter().try_for_each(|s| s.map(drop)),
        }
    }

    /// The model's kind was checked when the handle was made, but its directory may have changed since.
    fn changed<R>(&self) -> Result<R> {
        Err(Error::new(
            ErrorKind::ModelIncompatible,
            format!("model {} is now another kind of model than when it was asked for: ask for it again", self.id().model),
        ))
    }

    fn transcribe_now(&self, audio: &Audio, opts: &SttOptions, job: &Job) -> Result<Transcript> {
        let (mut transcript, fell_back) = self.call(
            job,
            |stage| match stage {
                Stage::Stt(s) => s.transcribe(audio, opts, job),
                _ => self.changed(),
            },
            |_| None,
        )?;
        transcript.metadata.fallback = fell_back.or(transcript.metadata.fallback);
        Ok(transcript)
    }

    fn translate_now(&self, texts: &[&str], opts: &TranslateOptions, job: &Job) -> Vec<Result<Translation>> {
        let called = self.call(
            job,
            |stage| match stage {
                Stage::Translator(s) => Ok(s.translate(texts, opts, job)),
                _ => self.changed(),
            },
            |r| device_error(r),
        );
        told(called, texts, |t| &mut t.metadata)
    }

    fn synthesize_now(&self, texts: &[&str], opts: &TtsOptions, job: &Job) -> Vec<Result<Speech>> {
        let called = self.call(
            job,
            |stage| match stage {
                Stage::Tts(s) => Ok(s.synthesize(texts, opts, job)),
                _ => self.changed(),
            },
            |r| device_error(r),
        );
        told(called, texts, |s| &mut s.metadata)
    }

    /// Several requests as one: their sound is put end to end, and each piece of speech is recognised by itself, as it would
    /// be alone.
    fn transcribe_together(&self, pieces: Vec<Piece>, opts: &SttOptions, job: &Job) -> Vec<Result<Transcript>> {
        let alone = |(audio, spans): &Piece| self.transcribe_now(audio, &opts.clone().spans(spans.clone()), job);
        let fenced: Vec<Option<Piece>> = pieces.iter().map(fenced).collect();
        let joined: Vec<Piece> = fenced.iter().flatten().cloned().collect();
        let found = if joined.len() > 1 { self.end_to_end(&joined, opts, job).ok() } else { None };
        let mut found = found.into_iter().flatten();
        // What failed, or could not be joined, is one request's fault and not the others'.
        let one = |(piece, fenced): (&Piece, &Option<Piece>)| match fenced.as_ref().and_then(|_| found.next()) {
            Some(transcript) => Ok(transcript),
            None => alone(piece),
        };
        pieces.iter().zip(&fenced).map(one).collect()
    }

    fn end_to_end(&self, pieces: &[Piece], opts: &SttOptions, job: &Job) -> Result<Vec<Transcript>> {
        let info = self.info.load_full();
        let rate = info.sample_rate;
        let mut samples = Vec::new();
        let mut spans = Vec::new();
        let mut starts = Vec::new();
        for (audio, parts) in pieces {
            // Whole seconds are exact in samples and in nanoseconds, so that no span is rounded otherwise than alone.
            let seconds = samples.len().div_ceil(rate as usize);
            samples.resize(seconds * rate as usize, 0.0);
            let start = Duration::from_secs(seconds as u64);
            samples.extend_from_slice(audio.samples());
            spans.extend(parts.iter().map(|s| s.shifted(start)));
            starts.push(start);
        }
        let whole = self.transcribe_now(&Audio::new(samples, rate)?, &opts.clone().spans(spans), job)?;
        let ends = starts.iter().skip(1).copied().chain([Duration::MAX]);
        let own = |((audio, _), (start, end)): (&Piece, (&Duration, Duration))| {
            let mine = whole.segments.iter().filter(|s| (*start..end).contains(&s.span.start)).cloned();
            let segments: Vec<_> = mine
                .map(|mut s| {
                    s.span = Span::new(s.span.start - *start, s.span.end - *start);
                    s.words.iter_mut().for_each(|w| w.span = Span::new(w.span.start - *start, w.span.end - *start));
                    s
                })
                .collect();
            let scores: Vec<f64> = segments.iter().filter_map(|s| s.avg_logprob).collect();
            let mean = scores.iter().sum::<f64>() / scores.len().max(1) as f64;
            let metadata = Metadata::new(&info, whole.metadata.processing_time, audio.duration());
            let quality = (!scores.is_empty()).then(|| mean.exp());
            let metadata = Metadata { quality, fallback: whole.metadata.fallback.clone(), ..metadata };
            Transcript::new(whole.language, segments, metadata)
        };
        Ok(pieces.iter().zip(starts.iter().zip(ends)).map(own).collect())
    }
}

impl Handle {
    /// Makes a call that is traced and counted.
    fn counted<R>(&self, kind: &'static str, call: impl FnOnce() -> R, failed: impl FnOnce(&R) -> bool) -> R {
        let span = tracing::info_span!("call", stage = kind, model = %self.id().model, seconds = tracing::field::Empty);
        let (began, result) = (Instant::now(), span.in_scope(call));
        let time = began.elapsed();
        span.record("seconds", time.as_secs_f64());
        self.factory.count_call(kind, time, failed(&result));
        result
    }

    fn transcribe_by_turns(&self, audio: &Audio, opts: &SttOptions, job: &Job) -> Result<Transcript> {
        // Where the model looks for speech, shares windows or tells the language itself, the whole of the sound matters.
        let apart = !opts.spans.is_empty() && !opts.timestamps && opts.language.is_some();
        match self.opts.batch.filter(|_| apart && audio.rate() == self.info.load().sample_rate) {
            None => self.transcribe_now(audio, opts, job),
            Some(batching) => {
                let (this, shared) = (self.clone(), opts.clone().spans(Vec::new()));
                let (key, piece) = (Key::of("batch", &shared), (audio.clone(), opts.spans.clone()));
                let batcher = self.factory.batchers(&self.chain, batching).stt.clone();
                let call = move |pieces, job: &Job| this.transcribe_together(pieces, &shared, job);
                let lost = || Err(Error::internal("a batch left a request out"));
                batcher.submit(key, vec![piece], job, call).pop().unwrap_or_else(lost)
            }
        }
    }

    fn translate_by_turns(&self, texts: &[&str], opts: &TranslateOptions, job: &Job) -> Vec<Result<Translation>> {
        let Some(batching) = self.opts.batch else { return self.translate_now(texts, opts, job) };
        let (this, shared) = (self.clone(), opts.clone());
        let call = move |texts: Vec<String>, job: &Job| this.translate_now(&borrowed(&texts), &shared, job);
        let batcher = self.factory.batchers(&self.chain, batching).translator.clone();
        batcher.submit(Key::of("batch", opts), owned(texts), job, call)
    }

    fn synthesize_by_turns(&self, texts: &[&str], opts: &TtsOptions, job: &Job) -> Vec<Result<Speech>> {
        let Some(batching) = self.opts.batch else { return self.synthesize_now(texts, opts, job) };
        let (this, shared) = (self.clone(), opts.clone());
        let call = move |texts: Vec<String>, job: &Job| this.synthesize_now(&borrowed(&texts), &shared, job);
        let batcher = self.factory.batchers(&self.chain, batching).tts.clone();
        batcher.submit(Key::of("batch", opts), owned(texts), job, call)
    }
}

/// The results of a call, or its error for each of `texts`; telling whether it was another model's.
fn told<R>(
    called: Result<(Vec<Result<R>>, Option<FellBack>)>,
    texts: &[&str],
    metadata: fn(&mut R) -> &mut Metadata,
) -> Vec<Result<R>> {
    match called {
        Err(e) => texts.iter().map(|_| Err(e.clone())).collect(),
        Ok((results, None)) => results,
        Ok((mut results, fell_back)) => {
            results.iter_mut().flatten().for_each(|r| metadata(r).fallback = fell_back.clone());
            results
        }
    }
}

/// What the device did not do of a call for several texts.
fn device_error<R>(results: &[Result<R>]) -> Option<&Error> {
    results.iter().filter_map(|r| r.as_ref().err()).find(|e| of_the_device(e))
}

/// Whether nothing came of a call for several texts.
fn all_failed<R>(results: &[Result<R>]) -> bool {
    !results.is_empty() && results.iter().all(Result::is_err)
}

impl Stt for Handle {
    fn transcribe(&self, audio: &Audio, opts: &SttOptions, job: &Job) -> Result<Transcript> {
        self.counted("stt", || self.transcribe_by_turns(audio, opts, job), Result::is_err)
    }

    fn info(&self) -> StageInfo {
        self.info.load().as_ref().clone()
    }
}

impl Translator for Handle {
    fn translate(&self, texts: &[&str], opts: &TranslateOptions, job: &Job) -> Vec<Result<Translation>> {
        self.counted("translator", || self.translate_by_turns(texts, opts, job), |r| all_failed(r))
    }

    fn info(&self) -> StageInfo {
        self.info.load().as_ref().clone()
    }
}

impl Tts for Handle {
    fn synthesize(&self, texts: &[&str], opts: &TtsOptions, job: &Job) -> Vec<Result<Speech>> {
        self.counted("tts", || self.synthesize_by_turns(texts, opts, job), |r| all_failed(r))
    }

    fn duration(&self, text: &str, opts: &TtsOptions, job: &Job) -> Result<Option<Duration>> {
        let called = self.call(
            job,
            |stage| match stage {
                Stage::Tts(s) => s.duration(text, opts, job),
                _ => self.changed(),
            },
            |_| None,
        );
        called.map(|(predicted, _)| predicted)
    }

    fn info(&self) -> StageInfo {
        self.info.load().as_ref().clone()
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|t| (*t).to_owned()).collect()
}

fn borrowed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// Those who gather requests for one model.
pub(super) struct Batchers {
    pub(super) stt: Arc<super::batch::Batcher<Piece, Transcript>>,
    pub(super) translator: Arc<super::batch::Batcher<String, Translation>>,
    pub(super) tts: Arc<super::batch::Batcher<String, Speech>>,
}
