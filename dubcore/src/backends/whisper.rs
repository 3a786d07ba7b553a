//! Whisper (Radford et al. 2022), as the Hugging Face checkpoints `openai/whisper-*` lay it out.

mod rules;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::audio::{Audio, RATES, Span};
use crate::backend::{Backend, Loaded, Stage};
use crate::device::Device;
use crate::error::{Error, ErrorKind, Result};
use crate::lang::Lang;
use crate::nn::conv::{Conv1d, ConvSpec};
use crate::nn::decode::{Hypothesis, Model, Search, generate};
use crate::nn::layers::{Activation, Embedding, Linear};
use crate::nn::mel::LogMel;
use crate::nn::transformer::{Decoder, Encoder, Shape};
use crate::nn::weights::Weights;
use crate::nn::{self, Act, Ctx, Signal};
use crate::runtime::Job;
use crate::source::ModelFiles;
use crate::stage::{Metadata, StageInfo, Stt, SttOptions, Task, Transcript};
use crate::vad::{VadOptions, speech_spans};

use rules::WhisperRules;
use text::TextDecoder;

pub(crate) const BACKEND: Backend = Backend { model_types: &["whisper"], load };

#[derive(Deserialize)]
struct Config {
    d_model: usize,
    encoder_layers: usize,
    encoder_attention_heads: usize,
    encoder_ffn_dim: usize,
    decoder_layers: usize,
    decoder_attention_heads: usize,
    decoder_ffn_dim: usize,
    vocab_size: usize,
    num_mel_bins: usize,
    max_source_positions: usize,
    max_target_positions: usize,
    activation_function: String,
    decoder_start_token_id: u32,
    eos_token_id: u32,
    #[serde(default)]
    scale_embedding: bool,
}

impl Config {
    fn shape(&self, layers: usize, heads: usize, ffn: usize) -> Result<Shape> {
        Ok(Shape {
            width: self.d_model,
            heads,
            ffn,
            layers,
            activation: Activation::parse(&self.activation_function)?,
            norm_first: true,
            key_bias: false,
        })
    }
}

#[derive(Default, Deserialize)]
struct Generation {
    #[serde(default)]
    lang_to_id: BTreeMap<String, u32>,
    #[serde(default)]
    task_to_id: BTreeMap<String, u32>,
    no_timestamps_token_id: Option<u32>,
    suppress_tokens: Option<Vec<i64>>,
    begin_suppress_tokens: Option<Vec<i64>>,
    max_initial_timestamp_index: Option<u32>,
}

#[derive(Deserialize)]
struct Preprocessor {
    hop_length: usize,
    n_fft: usize,
    sampling_rate: u32,
    n_samples: Option<usize>,
    chunk_length: usize,
}

struct Whisper {
    info: StageInfo,
    mel: LogMel,
    conv1: Conv1d,
    conv2: Conv1d,
    positions: Embedding,
    encoder: Encoder,
    decoder: Decoder,
    text: TextDecoder,
    special: Special,
    max_tokens: usize,
    /// Windows worked on at once.
    batch: usize,
}

/// The tokens that steer the decoder.
struct Special {
    start: u32,
    end: u32,
    languages: Vec<(Lang, u32)>,
    tasks: BTreeMap<String, u32>,
    no_timestamps: Option<u32>,
    suppress: Vec<u32>,
    begin_suppress: Vec<u32>,
    max_initial_timestamp: Option<u32>,
}

fn load(files: &ModelFiles) -> Result<Loaded> {
    let (model, bytes) = load_whisper(files)?;
    Ok(Loaded { stage: Stage::Stt(Arc::new(model)), bytes })
}

fn load_whisper(files: &ModelFiles) -> Result<(Whisper, u64)> {
    let config: Config = files.json("config.json")?;
    let generation: Generation = files.find_json("generation_config.json")?.unwrap_or_default();
    let pre: Preprocessor = files.json("preprocessor_config.json")?;
    let text = TextDecoder::load(files)?;
    let bytes = files.read("model.safetensors")?;
    let weights = Weights::parse(format!("model.safetensors of model {}", files.name()), bytes)?;
    let size = weights.resident_bytes();
    let w = weights.at("model");

    let samples = pre.n_samples.unwrap_or(pre.chunk_length.saturating_mul(pre.sampling_rate as usize));
    if !RATES.contains(&pre.sampling_rate) {
        return Err(files.corrupt("preprocessor_config.json", "has a sampling_rate that no sound has"));
    }
    let mel = LogMel::new(config.num_mel_bins, pre.n_fft, pre.hop_length, samples, pre.sampling_rate)?;
    if samples / pre.hop_length != config.max_source_positions.saturating_mul(2) {
        return Err(
            files.corrupt("preprocessor_config.json", "describes a window that does not fit config.json's max_source_positions")
        );
    }
    let special = Special::read(&config, generation, &text, files)?;
    if config.max_target_positions < 8 {
        return Err(files.corrupt("config.json", "leaves no room for text: max_target_positions is too small"));
    }
    let d = config.d_model;
    let enc = config.shape(config.encoder_layers, config.encoder_attention_heads, config.encoder_ffn_dim)?;
    let dec = config.shape(config.decoder_layers, config.decoder_attention_heads, config.decoder_ffn_dim)?;
    enc.check()?;
    let we = w.at("encoder");
    let wd = w.at("decoder");
    let scale = if config.scale_embedding { (d as f64).sqrt() } else { 1.0 };
    let embedding = Embedding::load(&wd.at("embed_tokens"), config.vocab_size, d, scale)?;
    let logits = Linear::tied(&embedding, None)?;
    let mut info = StageInfo::new(files.name()).languages(special.languages.iter().map(|l| l.0).collect::<Vec<_>>(), []);
    info.sample_rate = pre.sampling_rate;
    let model = Whisper {
        conv1: Conv1d::load(&we.at("conv1"), ConvSpec::same(config.num_mel_bins, d, 3), true)?,
        conv2: Conv1d::load(&we.at("conv2"), ConvSpec { stride: 2, ..ConvSpec::same(d, d, 3) }, true)?,
        positions: Embedding::load(&we.at("embed_positions"), config.max_source_positions, d, 1.0)?,
        encoder: Encoder::load(&we, &enc)?,
        decoder: Decoder::load(
            &wd,
            &dec,
            embedding,
            Embedding::load(&wd.at("embed_positions"), config.max_target_positions, d, 1.0)?,
            logits,
        )?,
        info: StageInfo { revision: files.revision(), ..info },
        mel,
        text,
        special,
        max_tokens: config.max_target_positions,
        // About two half-minute windows: an encoder layer over more would outlast the time between two checks.
        batch: (3_000 / config.max_source_positions.max(1)).clamp(1, 8),
    };
    Ok((model, size))
}

impl Special {
    fn read(config: &Config, generation: Generation, text: &TextDecoder, files: &ModelFiles) -> Result<Self> {
        let inside = |id: &u32| (*id as usize) < config.vocab_size;
        // Negative ids are how some configurations write "none".
        let ids = |list: Option<Vec<i64>>| list.unwrap_or_default().into_iter().filter_map(|t| u32::try_from(t).ok()).collect();
        let mut languages = Vec::new();
        for (token, id) in &generation.lang_to_id {
            let code = token.trim_start_matches("<|").trim_end_matches("|>");
            // Whisper counts a few languages that have no code of their own any more; they cannot be asked for.
            if let Ok(lang) = code.parse::<Lang>() {
                languages.push((lang, *id));
            }
        }
        if languages.is_empty() {
            languages.push((Lang::EN, u32::MAX));
        }
        let special = Self {
            start: config.decoder_start_token_id,
            end: config.eos_token_id,
            no_timestamps: generation.no_timestamps_token_id.or_else(|| text.id("<|notimestamps|>")),
            tasks: generation.task_to_id,
            suppress: ids(generation.suppress_tokens),
            begin_suppress: ids(generation.begin_suppress_tokens),
            max_initial_timestamp: generation.max_initial_timestamp_index,
            languages,
        };
        let named = special.languages.iter().map(|l| l.1).filter(|id| *id != u32::MAX).chain(special.tasks.values().copied());
        if ![special.start, special.end].into_iter().chain(special.no_timestamps).chain(named).all(|id| inside(&id)) {
            return Err(files.corrupt("generation_config.json", "names tokens outside the vocabulary"));
        }
        Ok(special)
    }

    /// Whether language tokens exist: models for English alone have none.
    fn multilingual(&self) -> bool {
        self.languages.iter().any(|l| l.1 != u32::MAX)
    }

    fn prompt(&self, language: u32, opts: &SttOptions) -> Result<Vec<u32>> {
        let mut prompt = vec![self.start];
        if self.multilingual() {
            prompt.push(language);
            let task = if opts.task == Task::Translate { "translate" } else { "transcribe" };
            match self.tasks.get(task) {
                Some(id) => prompt.push(*id),
                None if opts.task == Task::Translate => return Err(Error::argument("this model has no task \"translate\"")),
                None => {}
            }
        } else if opts.task == Task::Translate {
            return Err(Error::argument("this model hears English alone: it has no task \"translate\""));
        }
        match (opts.timestamps, self.no_timestamps) {
            (false, Some(id)) => prompt.push(id),
            (true, None) => return Err(Error::argument("this model has no timestamps")),
            _ => {}
        }
        Ok(prompt)
    }
}

impl Whisper {
    fn encode(&self, ctx: &Ctx<'_>, mel: &Signal) -> Result<Act> {
        let x = self.conv1.forward_act(ctx, mel, Activation::Gelu)?;
        ctx.check()?;
        let x = self.conv2.forward_act(ctx, &x, Activation::Gelu)?.to_act()?;
        self.encoder.forward(ctx, &self.positions.add_positions(&x, 0)?, None)
    }

    /// The most probable language of each window.
    fn detect(&self, ctx: &Ctx<'_>, encoded: &Act) -> Result<Vec<u32>> {
        let (rows, ..) = encoded.shape()?;
        let logits = self.decoder.start(ctx, encoded, None)?.step(ctx, &vec![vec![self.special.start]; rows])?;
        let best = |scores: Vec<f32>| {
            let score = |id: u32| scores.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
            self.special.languages.iter().map(|l| l.1).max_by(|a, b| score(*a).total_cmp(&score(*b)))
        };
        logits.into_iter().map(|l| best(l).ok_or_else(|| Error::internal("no language token"))).collect()
    }

    /// The tokens of each window, best hypothesis first, and the window's language token.
    fn decode(
        &self,
        ctx: &Ctx<'_>,
        encoded: &Act,
        language: Option<u32>,
        opts: &SttOptions,
        advance: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<(u32, Hypothesis)>> {
        let (rows, ..) = encoded.shape()?;
        let languages = match language {
            Some(id) => vec![id; rows],
            None => self.detect(ctx, encoded)?,
        };
        let prompts = languages.iter().map(|id| self.special.prompt(*id, opts)).collect::<Result<Vec<_>>>()?;
        let room = self.max_tokens.saturating_sub(prompts.first().map_or(0, Vec::len));
        let search = Search {
            beams: opts.beams.max(1),
            max_new: if opts.max_tokens == 0 { room } else { opts.max_tokens.min(room) },
            end: self.special.end,
            length_penalty: 1.0,
            early_stopping: false,
        };
        let rules = WhisperRules::new(&self.special, opts.timestamps);
        let mut session = self.decoder.start(ctx, encoded, None)?;
        let found = generate(ctx, &mut session, &prompts, &rules, &search, advance)?;
        let best = |mut h: Vec<Hypothesis>| if h.is_empty() { None } else { Some(h.swap_remove(0)) };
        languages
            .into_iter()
            .zip(found)
            .map(|(l, h)| Ok((l, best(h).ok_or_else(|| Error::internal("the search ended without a hypothesis"))?)))
            .collect()
    }

    fn language(&self, opts: &SttOptions) -> Result<Option<u32>> {
        let known = &self.special.languages;
        match opts.language {
            None if known.len() == 1 => Ok(Some(known[0].1)),
            None => Ok(None),
            Some(lang) => known.iter().find(|l| l.0 == lang).map(|l| Some(l.1)).ok_or_else(|| {
                let all: Vec<_> = known.iter().map(|l| l.0.code()).collect();
                Error::new(
                    ErrorKind::UnsupportedLanguage,
                    format!("model {} does not hear {} ({lang}): it hears {}", self.info.model, lang.name(), all.join(", ")),
                )
            }),
        }
    }

    /// Where the windows lie: the spans asked for or found, none longer than the model's window.
    fn windows(&self, audio: &Audio, opts: &SttOptions) -> Result<Vec<Span>> {
        let all = Span::new(Duration::ZERO, audio.duration());
        let longest = Span::from_samples(0, self.mel.samples() as u64, self.info.sample_rate).duration();
        let cut = |span: Span| -> Result<Vec<Span>> {
            if span.duration() <= longest {
                return Ok(vec![span]);
            }
            let found = speech_spans(&audio.slice(span), longest, &VadOptions::default())?;
            Ok(found.into_iter().map(|s| s.shifted(span.start)).collect())
        };
        if opts.spans.is_empty() {
            return if audio.is_empty() { Ok(Vec::new()) } else { cut(all) };
        }
        let mut windows = Vec::new();
        let mut last = Duration::ZERO;
        for span in &opts.spans {
            if span.start < last || span.start >= span.end || span.end > all.end + Duration::from_millis(1) {
                return Err(Error::argument(format!(
                    "span {:.3}..{:.3} s is empty, out of order, or outside the audio of {:.3} s",
                    span.start.as_secs_f64(),
                    span.end.as_secs_f64(),
                    all.end.as_secs_f64()
                )));
            }
            last = span.end;
            windows.extend(cut(*span)?);
        }
        Ok(windows)
    }
}

impl Stt for Whisper {
    fn transcribe(&self, audio: &Audio, opts: &SttOptions, job: &Job) -> Result<Transcript> {
        let began = Instant::now();
        opts.check()?;
        let language = self.language(opts)?;
        job.check()?;
        let audio = audio.resample(self.info.sample_rate)?;
        let windows = self.windows(&audio, opts)?;
        let mut segments = Vec::new();
        let mut votes: BTreeMap<u32, Duration> = BTreeMap::new();
        for (i, batch) in windows.chunks(self.batch).enumerate() {
            let done = (i * self.batch) as f64;
            let parts: Vec<Audio> = batch.iter().map(|s| audio.slice(*s)).collect();
            let found = nn::run(job, |ctx| {
                let mel = self.mel.forward(&parts.iter().map(Audio::samples).collect::<Vec<_>>())?;
                let encoded = self.encode(ctx, &mel)?;
                // A window's tokens are not known beforehand: each step takes a share of what is left.
                let mut advance = |step: usize, _| {
                    let within = 0.3 + 0.7 * (1.0 - (-(step as f64) / 24.0).exp());
                    job.report((done + within * batch.len() as f64) / windows.len() as f64);
                };
                self.decode(ctx, &encoded, language, opts, &mut advance)
            })?;
            for (span, (lang, hypothesis)) in batch.iter().zip(found) {
                *votes.entry(lang).or_default() += span.duration();
                segments.extend(self.text.segments(&hypothesis, *span, &self.special)?);
            }
            job.report((done + batch.len() as f64) / windows.len() as f64);
        }
        job.report(1.0);
        let heard = votes.into_iter().max_by_key(|v| v.1).map(|v| v.0).or(language);
        let known = &self.special.languages;
        let language = known.iter().find(|l| Some(l.1) == heard).or(known.first()).map_or(Lang::EN, |l| l.0);
        let mut metadata = Metadata::new(&self.info, began.elapsed(), audio.duration());
        let scores: Vec<f64> = segments.iter().filter_map(|s| s.avg_logprob).collect();
        if !scores.is_empty() {
            metadata.quality = Some((scores.iter().sum::<f64>() / scores.len() as f64).exp());
        }
        debug_assert_eq!(self.info.device, Device::Cpu);
        Ok(Transcript::new(language, segments, metadata))
    }

    fn info(&self) -> StageInfo {
        self.info.clone()
    }
}

/// What a tokenizer makes of tokens.
#[cfg(fuzzing)]
pub(crate) fn text_of(files: &ModelFiles, tokens: &[u32]) -> Result<String> {
    TextDecoder::load(files)?.text(tokens)
}
