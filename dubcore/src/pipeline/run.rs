//! A dub in progress: pulled line by line, so that no more is computed than is asked for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::audio::Span;
use crate::error::{Error, ErrorKind, Result};
use crate::fit::{fit, latest_end, plan_rate};
use crate::lang::Lang;
use crate::mix::loudness;
use crate::runtime::Job;
use crate::sentence::{MergeOptions, Merger, sentences_of};
use crate::stage::{Segment, Translation, TtsOptions};

use super::dub::{Dub, FailedLine, Line, Placement, StageTimes};
use super::guard::caught;
use super::listen::Listener;
use super::replay::{Recorder, Replay};
use super::track::{Track, check_output};
use super::{DubRequest, Dubber};

/// Spans of speech that are recognised, and sentences that are translated, at once.
const BATCH: usize = 8;
/// Lines of a script that are taken together end within this time after the first one's beginning.
const SCRIPT_REACH: Duration = Duration::from_secs(120);

/// A dub in progress. Each `next` computes as much as it takes to finish one more line.
///
/// A line that fails is yielded as its error, and the lines behind it follow. `Cancelled`, `DeadlineExceeded`, and what
/// makes going on impossible (damaged media, a full disk) end the run: the error comes once, then `None` for ever.
///
/// Dropping a run abandons it; its unfinished output is deleted.
pub struct Run(Kind);

enum Kind {
    Live(Box<Live>),
    Replay(Replay),
}

/// A dub that is computed.
struct Live {
    dubber: Dubber,
    request: DubRequest,
    job: Job,
    progress: Parts,
    listener: Listener,
    track: Option<Track>,
    /// Made when the language is known.
    merger: Option<Merger>,
    heard_all: bool,
    /// Where sentences come from, if not from the recogniser.
    script: Option<VecDeque<(Segment, Option<String>)>>,
    /// Sentences that wait for a voice, translated, in order.
    waiting: VecDeque<Sentence>,
    next_index: usize,
    from: Option<Lang>,
    lines: Vec<Line>,
    failed: Vec<FailedLine>,
    /// The error that ended the run, if one did.
    end: Option<Error>,
    mixed_all: bool,
    times: StageTimes,
    voiced_until: Duration,
    /// Where the dub is to be remembered.
    recorder: Option<Recorder>,
}

struct Sentence {
    segment: Segment,
    text: Result<String>,
    /// How loud the original is there: its sound is not kept while the sentence waits.
    level: Option<f64>,
}

/// The parts of a dub whose progress is told.
pub(super) struct Parts {
    transcribe: Job,
    translate: Job,
    speak: Job,
    mix: Job,
}

impl Parts {
    pub(super) fn of(job: &Job) -> Self {
        Self {
            transcribe: job.child("transcribe", 0.45),
            translate: job.child("translate", 0.15),
            speak: job.child("speak", 0.35),
            mix: job.child("mix", 0.05),
        }
    }

    /// All of them are so far.
    pub(super) fn report(&self, fraction: f64) {
        for part in [&self.transcribe, &self.translate, &self.speak, &self.mix] {
            part.report(fraction);
        }
    }
}

impl Run {
    pub(super) fn new(dubber: Dubber, request: DubRequest, job: Job) -> Result<Self> {
        job.check()?;
        check_output(&request)?;
        let recorder = Recorder::new(&dubber, &request, &job)?;
        if let Some(dub) = recorder.as_ref().and_then(Recorder::recall) {
            return Ok(Self(Kind::Replay(Replay::new(dub, request.output, job))));
        }
        Ok(Self(Kind::Live(Box::new(Live::new(dubber, request, job, recorder)?))))
    }

    /// The job of this run.
    pub fn job(&self) -> &Job {
        match &self.0 {
            Kind::Live(live) => &live.job,
            Kind::Replay(replay) => replay.job(),
        }
    }

    /// Pulls the lines that are left and completes the output.
    ///
    /// A run that was cancelled, or whose deadline passed, gives the lines that were finished, `complete` being false,
    /// and writes no track. Lines that failed are in [`Dub::failed`]; the original is heard in their place.
    ///
    /// # Errors
    /// What ended the run, other than its job; the first line's error if every line failed; `Io` if the output cannot be
    /// completed. Nothing is written then.
    pub fn finish(mut self) -> Result<Dub> {
        while self.next().is_some() {}
        match self.0 {
            Kind::Live(live) => live.finish(),
            Kind::Replay(replay) => replay.finish(),
        }
    }
}

impl Iterator for Run {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Kind::Live(live) => live.next(),
            Kind::Replay(replay) => replay.next(),
        }
    }
}

impl std::iter::FusedIterator for Run {}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("job", self.job()).finish_non_exhaustive()
    }
}

impl Live {
    fn new(dubber: Dubber, mut request: DubRequest, job: Job, recorder: Option<Recorder>) -> Result<Self> {
        let listener = Listener::open(&request.input, &request.limits)?;
        let track = if dubber.tts.is_some() { Track::open(&request)? } else { None };
        let lines = std::mem::take(&mut request.script);
        let script = (!lines.is_empty()).then(|| lines.into_iter().map(|l| (Segment::new(l.span, l.source), l.target)).collect());
        Ok(Self {
            from: request.from,
            dubber,
            request,
            progress: Parts::of(&job),
            job,
            listener,
            track,
            merger: None,
            heard_all: false,
            script,
            waiting: VecDeque::new(),
            next_index: 0,
            lines: Vec::new(),
            failed: Vec::new(),
            end: None,
            mixed_all: false,
            times: StageTimes::default(),
            voiced_until: Duration::ZERO,
            recorder,
        })
    }

    fn finish(mut self) -> Result<Dub> {
        let cut_short = match &self.end {
            None => false,
            Some(e) if matches!(e.kind(), ErrorKind::Cancelled | ErrorKind::DeadlineExceeded) => true,
            Some(e) => return Err(e.clone()),
        };
        if let (true, Some(first)) = (self.lines.is_empty() && !cut_short, self.failed.first()) {
            return Err(first.error.clone());
        }
        let began = Instant::now();
        let (file, bytes) = match self.track.take().filter(|_| !cut_short) {
            Some(track) => track.finish()?,
            None => (None, None),
        };
        self.times.mix += began.elapsed();
        let dub = Dub {
            complete: !cut_short && self.failed.is_empty(),
            cut_short,
            from: self.from.unwrap_or(Lang::EN),
            to: if self.dubber.translator.is_some() { self.request.to } else { self.from.unwrap_or(self.request.to) },
            duration: self.listener.duration().unwrap_or_default(),
            track: bytes,
            files: file.into_iter().collect(),
            times: self.times,
            models: self.dubber.infos().map(|i| i.model).collect(),
            cached: false,
            lines: std::mem::take(&mut self.lines),
            failed: std::mem::take(&mut self.failed),
        };
        if let Some(recorder) = self.recorder.take() {
            recorder.remember(&dub);
        }
        Ok(dub)
    }

    /// The next line, or the error of one that failed; an outer error ends the run.
    fn pull(&mut self) -> Result<Option<Result<Line>>> {
        loop {
            self.job.check()?;
            // A line is fitted into the gap before the next one, so the next one must be known.
            if self.waiting.len() > 1 || (self.exhausted() && !self.waiting.is_empty()) {
                return self.voice_one().map(Some);
            }
            if self.exhausted() {
                self.mix_rest()?;
                return Ok(None);
            }
            let sentences = self.listen()?;
            self.translate(sentences)?;
        }
    }

    fn exhausted(&self) -> bool {
        match &self.script {
            Some(script) => script.is_empty(),
            None => self.heard_all,
        }
    }

    /// The next few sentences of the original.
    fn listen(&mut self) -> Result<Vec<(Segment, Option<String>)>> {
        if let Some(script) = &mut self.script {
            // Lines that are far apart are not held together.
            let near = script.front().map_or(Duration::ZERO, |(first, _)| first.span.start + SCRIPT_REACH);
            let count = script.iter().take(BATCH).take_while(|(line, _)| line.span.end <= near).count();
            let batch: Vec<_> = script.drain(..script.len().min(count.max(1))).collect();
            if let (Some((first, _)), Some((last, _))) = (batch.first(), batch.last()) {
                let began = Instant::now();
                self.listener.forget(first.span.start);
                self.listener.hear_until(last.span.end, &self.job)?;
                self.times.listen += began.elapsed();
            }
            return Ok(batch);
        }
        let began = Instant::now();
        let spans = self.listener.next_spans(BATCH, &self.job)?;
        self.times.listen += began.elapsed();
        let mut sentences = Vec::new();
        if let (Some(first), Some(last)) = (spans.first(), spans.last()) {
            let began = Instant::now();
            let start = first.start;
            let audio = self.listener.audio(Span::new(start, last.end))?;
            let back = |s: &Span| Span::new(s.start - start, s.end - start);
            let opts = self.request.stt.clone().language(self.from).spans(spans.iter().map(back).collect());
            let transcript = self.dubber.stt.transcribe(&audio, &opts, &self.job.quiet())?;
            if self.from.is_none() {
                // Only now is it known what is spoken.
                self.dubber.check_languages(Some(transcript.language), self.request.to)?;
                self.from = Some(transcript.language);
            }
            let merger = self.merger.get_or_insert_with(|| Merger::new(transcript.language, MergeOptions::default()));
            for segment in transcript.segments {
                let words = segment.words.iter().cloned().map(|mut w| {
                    w.span = w.span.shifted(start);
                    w
                });
                let segment = Segment { span: segment.span.shifted(start), words: words.collect(), ..segment };
                sentences.extend(merger.push(segment));
            }
            self.times.transcribe += began.elapsed();
        }
        self.heard_all = self.listener.finished();
        // Nothing for long ends a sentence as the end does.
        if self.heard_all || spans.is_empty() {
            sentences.extend(self.merger.as_mut().and_then(Merger::flush));
        }
        let heard = spans.last().filter(|_| !self.heard_all).map_or(self.listener.position(), |s| s.end);
        self.report(&self.progress.transcribe, heard);
        Ok(sentences.into_iter().map(|s| (s, None)).collect())
    }

    fn translate(&mut self, sentences: Vec<(Segment, Option<String>)>) -> Result<()> {
        let began = Instant::now();
        let from = self.from.or_else(|| self.dubber.translator.as_ref()?.info().from.first().copied()).unwrap_or(Lang::EN);
        // A line may hold several sentences; translators are made for one at a time.
        let parts: Vec<Vec<String>> = sentences
            .iter()
            .map(|(segment, given)| if given.is_some() { Vec::new() } else { sentences_of(from, &segment.text) })
            .collect();
        let todo: Vec<&str> = parts.iter().flatten().map(String::as_str).collect();
        let mut found = match &self.dubber.translator {
            Some(translator) if !todo.is_empty() => {
                let opts = Dubber::translate_options(&self.request, from);
                translator.translate(&todo, &opts, &self.job.quiet()).into_iter()
            }
            _ => Vec::<Result<Translation>>::new().into_iter(),
        };
        for ((segment, given), parts) in sentences.into_iter().zip(&parts) {
            let text = match (given, &self.dubber.translator) {
                (Some(text), _) => Ok(text),
                (None, None) => Ok(segment.text.clone()),
                (None, Some(_)) => {
                    let next = |_| found.next().unwrap_or_else(|| Err(Error::internal("the translator left a text out")));
                    // Every part is taken, also behind one that failed, so that the next line gets its own.
                    let texts: Vec<_> = parts.iter().map(next).collect();
                    texts.into_iter().map(|t| t.map(|t| t.text)).collect::<Result<Vec<_>>>().map(|t| t.join(" "))
                }
            };
            // What ends the job ends the run, not just the line; a stage's own deadline is its line's alone.
            if text.is_err() {
                self.job.check()?;
            }
            self.report(&self.progress.translate, segment.span.end);
            // Recognisers may let segments touch or overlap by a frame; lines never do.
            let start = segment.span.start.max(self.waiting.back().map_or(self.voiced_until, |s| s.segment.span.end));
            let segment = Segment { span: Span::new(start, segment.span.end), ..segment };
            let level = match &self.track {
                Some(_) => loudness(&self.listener.audio(segment.span)?),
                None => None,
            };
            self.waiting.push_back(Sentence { segment, text, level });
        }
        let pending = self.merger.as_ref().and_then(Merger::pending);
        self.listener.forget(pending.unwrap_or(self.listener.position()));
        self.times.translate += began.elapsed();
        Ok(())
    }

    fn voice_one(&mut self) -> Result<Result<Line>> {
        let Some(Sentence { segment, text, level }) = self.waiting.pop_front() else {
            return Err(Error::internal("no line waits for a voice"));
        };
        let index = self.next_index;
        self.next_index += 1;
        let span = segment.span;
        let result = match text {
            Err(e) => Err(e),
            Ok(text) => match self.speak(index, &segment, text, level) {
                Err(e) => {
                    // What ended the job ends the run; anything else, a voice's own time limit too, is this line's alone.
                    self.job.check()?;
                    Err(e)
                }
                line => line,
            },
        };
        self.voiced_until = span.end;
        self.report(&self.progress.speak, span.end);
        let began = Instant::now();
        if let Some(track) = &mut self.track {
            track.advance(Some(span.end), &self.job)?;
        }
        self.times.mix += began.elapsed();
        self.report(&self.progress.mix, span.end);
        match &result {
            Ok(line) => {
                if let Some(recorder) = &mut self.recorder {
                    recorder.hear(line.audio.clone());
                }
                self.lines.push(Line { audio: None, ..line.clone() });
            }
            Err(error) => self.failed.push(FailedLine { index, source: segment, error: error.clone() }),
        }
        Ok(result)
    }

    fn speak(&mut self, index: usize, segment: &Segment, text: String, level: Option<f64>) -> Result<Line> {
        let mut line = Line { index, source: segment.clone(), text, placement: None, audio: None };
        let Some(tts) = &self.dubber.tts else { return Ok(line) };
        let began = Instant::now();
        let job = self.job.quiet();
        let (fit_opts, slot) = (&self.request.fit, segment.span);
        // All before the slot's end was heard, if there is so much.
        if self.listener.position() <= slot.start {
            return Err(Error::argument(format!("the line begins at {:?}, where the media have ended", slot.start)));
        }
        let opts = TtsOptions { language: Some(self.request.to), ..self.request.tts.clone() };
        let rate = match tts.duration(&line.text, &opts, &job)? {
            Some(predicted) => plan_rate(predicted, slot.duration(), fit_opts),
            None => 1.0,
        };
        let asked = opts.clone().speaking_rate((opts.speaking_rate * rate).clamp(0.25, 4.0));
        let speech = tts
            .synthesize(&[&line.text], &asked, &job)
            .pop()
            .unwrap_or_else(|| Err(Error::internal("the voice returned nothing")))?;
        let next = self.waiting.front().map(|s| s.segment.span.start);
        let limit = latest_end(next, self.listener.duration(), fit_opts);
        let fitted = fit(&speech, rate, slot, limit, fit_opts)?;
        self.times.speak += began.elapsed();
        let began = Instant::now();
        if let Some(track) = &mut self.track {
            track.add(slot, level, &fitted)?;
        }
        self.times.mix += began.elapsed();
        line.placement = Some(Placement::from(&fitted));
        line.audio = Some(fitted.audio);
        Ok(line)
    }

    /// What is left behind the last line.
    fn mix_rest(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.mixed_all, true) {
            return Ok(());
        }
        let began = Instant::now();
        // A script may end before the media do; their length is told by hearing them out.
        self.listener.forget(Duration::MAX);
        self.listener.hear_until(Duration::MAX, &self.job)?;
        if let Some(track) = &mut self.track {
            track.advance(None, &self.job)?;
        }
        self.times.mix += began.elapsed();
        self.progress.report(1.0);
        Ok(())
    }

    /// Reports a part done up to `time`, where the length of the media is known.
    fn report(&self, part: &Job, time: Duration) {
        if let Some(total) = self.listener.duration().filter(|t| !t.is_zero()) {
            part.report(time.as_secs_f64() / total.as_secs_f64());
        }
    }

    fn next(&mut self) -> Option<Result<Line>> {
        if self.end.is_some() {
            return None;
        }
        // The job's observer is the host's code, too.
        match caught("the run", || self.pull()) {
            Ok(line) => line,
            Err(e) => {
                self.end = Some(e.clone());
                // The unfinished output goes at once, not when the run is dropped.
                self.track = None;
                Some(Err(e))
            }
        }
    }
}
