//! Whole dubs from a cache: how they are found, kept, and given again.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::audio::Audio;
use crate::cache::results::ResultCache;
use crate::cache::results::key::{Hash, Key, Keyed};
use crate::cache::results::{Value, pack, samples_of_bytes, samples_to_bytes, segment_bytes, unpack};
use crate::error::{Error, ErrorKind, Result};
use crate::fit::FitOptions;
use crate::lang::Lang;
use crate::media::{Input, Limits, WavFormat};
use crate::mix::MixOptions;
use crate::runtime::Job;

use super::dub::{Dub, Line, StageTimes, write};
use super::{DubRequest, Dubber, Output, ScriptLine, run};

/// A dub as it is remembered: complete, and with the sound of its lines.
#[derive(Clone)]
pub(super) struct Whole(Arc<Parts>);

#[derive(Serialize, Deserialize)]
struct Parts {
    lines: Vec<Line>,
    from: Lang,
    to: Lang,
    duration: Duration,
    models: Vec<String>,
    /// Rate and number of samples of each line's sound. The samples follow the description, then the track.
    sounds: Vec<Option<(u32, usize)>>,
    #[serde(skip)]
    track: Vec<u8>,
}

impl Value for Whole {
    fn bytes(&self) -> usize {
        let line =
            |l: &Line| size_of::<Line>() + segment_bytes(&l.source) + l.text.len() + l.audio.as_ref().map_or(0, |a| 4 * a.len());
        size_of::<Parts>() + self.0.lines.iter().map(line).sum::<usize>() + self.0.track.len()
    }

    fn encode(&self) -> Option<Vec<u8>> {
        let sounds = self.0.lines.iter().filter_map(|l| l.audio.as_ref());
        pack(&*self.0, sounds.flat_map(|a| samples_to_bytes(a.samples())).chain(self.0.track.iter().copied()))
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut parts, mut body): (Parts, _) = unpack(bytes)?;
        for (line, sound) in parts.lines.iter_mut().zip(&parts.sounds) {
            if let Some((rate, len)) = *sound {
                let samples = body.split_off(..len.checked_mul(4)?)?;
                line.audio = Some(Audio::new(samples_of_bytes(samples), rate).ok()?);
            }
        }
        parts.track = body.to_vec();
        Some(Self(Arc::new(parts)))
    }
}

/// Everything that a dub depends on.
struct Subject<'a> {
    dubber: &'a Dubber,
    request: &'a DubRequest,
    /// The hash of the media's content.
    media: [u8; 32],
}

impl Keyed for Subject<'_> {
    fn feed(&self, hash: &mut Hash) {
        let Dubber { stt, translator, tts, results: _ } = self.dubber;
        (stt.info(), translator.as_ref().map(|t| t.info()), tts.as_ref().map(|t| t.info())).feed(hash);
        let DubRequest { input, from, to, output, format, script, limits, stt, beams, tts, fit, mix } = self.request;
        hash.bytes(&self.media);
        // What is read of the media, for what they hold is hashed already.
        track_of(input).feed(hash);
        (from, to, *output != Output::Discard, *format == WavFormat::F32, script).feed(hash);
        let Limits { max_duration, max_channels, max_bytes } = limits;
        (max_duration, max_channels, max_bytes).feed(hash);
        let FitOptions { rate, stretch, max_stretch, guard, fade } = fit;
        (rate, stretch, max_stretch, guard, fade).feed(hash);
        let MixOptions { duck_db, original, attack, release, match_loudness, ceiling_db } = mix;
        (duck_db, original, attack, release).feed(hash);
        (match_loudness, ceiling_db, stt, beams, tts).feed(hash);
    }
}

impl Keyed for ScriptLine {
    fn feed(&self, hash: &mut Hash) {
        let Self { span, source, target } = self;
        (span, source, target).feed(hash);
    }
}

fn track_of(input: &Input) -> Option<usize> {
    match input {
        Input::Track { index, .. } => Some(*index),
        _ => None,
    }
}

fn hash_media(input: &Input, job: &Job) -> Result<[u8; 32]> {
    let hash = match input {
        Input::Track { of, .. } => return hash_media(of, job),
        Input::Bytes(bytes) => blake3::hash(bytes),
        Input::Audio(audio) => return Ok(Key::of("sound", audio).bytes()),
        Input::Path(path) => hash_file(path, job)?,
    };
    Ok(*hash.as_bytes())
}

fn hash_file(path: &Path, job: &Job) -> Result<blake3::Hash> {
    let failed = |e| Error::new(ErrorKind::Io, format!("cannot read {}", path.display())).with_source(e);
    let mut file = File::open(path).map_err(failed)?;
    let (mut hasher, mut some) = (blake3::Hasher::new(), vec![0; 1 << 20]);
    loop {
        job.check()?;
        match file.read(&mut some) {
            Ok(0) => return Ok(hasher.finalize()),
            Ok(n) => drop(hasher.update(&some[..n])),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
}

/// Takes a dub down while it is computed.
pub(super) struct Recorder {
    results: ResultCache,
    key: Key,
    /// The lines' sound; `None` once it was too much to keep.
    sounds: Option<Vec<Option<Audio>>>,
    bytes: u64,
}

impl Recorder {
    /// Where this dub will be kept. `None` where nothing is, or where a stage does not tell which it is.
    pub(super) fn new(dubber: &Dubber, request: &DubRequest, job: &Job) -> Result<Option<Self>> {
        let Some(results) = &dubber.results else { return Ok(None) };
        if dubber.infos().any(|i| i.revision.is_empty()) || !is_file(&request.input) {
            return Ok(None);
        }
        let media = hash_media(&request.input, job)?;
        let key = Key::of("dub", &Subject { dubber, request, media });
        Ok(Some(Self { results: results.clone(), key, sounds: Some(Vec::new()), bytes: 0 }))
    }

    /// The dub, if it is known.
    pub(super) fn recall(&self) -> Option<Whole> {
        self.results.get(self.key)
    }

    /// Takes down a line's sound. A dub that is too long to be kept is let go early: hours of speech are not held.
    pub(super) fn hear(&mut self, sound: Option<Audio>) {
        self.bytes += sound.as_ref().map_or(0, |a| 4 * a.len() as u64);
        match &mut self.sounds {
            Some(sounds) if self.bytes <= self.results.largest() => sounds.push(sound),
            sounds => *sounds = None,
        }
    }

    /// Keeps the dub, if it is complete and not too large.
    pub(super) fn remember(self, dub: &Dub) {
        let Some(sounds) = self.sounds.filter(|s| dub.complete && s.len() == dub.lines.len()) else { return };
        let track = match (&dub.track, dub.files.first()) {
            (Some(track), _) => track.clone(),
            (None, Some(file)) => match read_up_to(file, self.results.largest()) {
                Some(track) => track,
                None => return,
            },
            (None, None) => Vec::new(),
        };
        let whole = Whole(Arc::new(Parts {
            sounds: sounds.iter().map(|s| s.as_ref().map(|a| (a.rate(), a.len()))).collect(),
            lines: dub.lines.iter().zip(sounds).map(|(line, audio)| Line { audio, ..line.clone() }).collect(),
            from: dub.from,
            to: dub.to,
            duration: dub.duration,
            models: dub.models.clone(),
            track,
        }));
        if whole.bytes() as u64 <= self.results.largest() {
            self.results.put(self.key, whole);
        }
    }
}

/// What is not a plain file may be read only once, or never end.
fn is_file(input: &Input) -> bool {
    match input {
        Input::Track { of, .. } => is_file(of),
        Input::Path(path) => path.is_file(),
        Input::Bytes(_) | Input::Audio(_) => true,
    }
}

fn read_up_to(path: &Path, most: u64) -> Option<Vec<u8>> {
    let file = File::open(path).ok().filter(|f| f.metadata().is_ok_and(|m| m.len() <= most))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// A dub that is given again.
pub(super) struct Replay {
    whole: Whole,
    left: VecDeque<Line>,
    output: Output,
    job: Job,
    progress: run::Parts,
    cut_short: Option<Error>,
    began: Instant,
}

impl Replay {
    pub(super) fn new(whole: Whole, output: Output, job: Job) -> Self {
        let left = whole.0.lines.iter().cloned().collect();
        let progress = run::Parts::of(&job);
        Self { whole, left, output, job, progress, cut_short: None, began: Instant::now() }
    }

    pub(super) fn job(&self) -> &Job {
        &self.job
    }

    pub(super) fn next(&mut self) -> Option<Result<Line>> {
        if self.cut_short.is_some() {
            return None;
        }
        if let Err(e) = self.job.check() {
            self.cut_short = Some(e.clone());
            return Some(Err(e));
        }
        let line = self.left.pop_front();
        let all = self.whole.0.lines.len().max(1);
        self.progress.report(1.0 - self.left.len() as f64 / all as f64);
        line.map(Ok)
    }

    pub(super) fn finish(self) -> Result<Dub> {
        let parts = &*self.whole.0;
        let given = parts.lines.len() - self.left.len();
        let cut_short = self.cut_short.is_some();
        let (mut track, mut files) = (None, Vec::new());
        match self.output {
            Output::File(path) if !cut_short => {
                write(&path, &parts.track)?;
                files.push(path);
            }
            Output::Memory if !cut_short => track = Some(parts.track.clone()),
            _ => {}
        }
        Ok(Dub {
            lines: parts.lines[..given].iter().map(|l| Line { audio: None, ..l.clone() }).collect(),
            failed: Vec::new(),
            complete: !cut_short,
            cut_short,
            from: parts.from,
            to: parts.to,
            duration: parts.duration,
            track,
            files,
            times: StageTimes { mix: self.began.elapsed(), ..StageTimes::default() },
            models: parts.models.clone(),
            cached: true,
        })
    }
}
