//! Whisper (Radford et al. 2022), as the Hugging Face checkpoints `openai/whisper-*` lay it out.

pub(crate) mod bench;
mod fallback;
mod rules;
mod special;
#[cfg(test)]
mod tests;
mod text;
mod windows;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;

use crate::audio::{Audio, RATES, Span};
use crate::backend::{Backend, Loaded, Stage};
use crate::compute::ComputeType;
use crate::device::{Held, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::nn::conv::{Conv1d, ConvSpec};
use crate::nn::decode::{Hypothesis, Model, Search, generate, sample};
use crate::nn::layers::{Activation, Embedding};
use crate::nn::mel::LogMel;
use crate::nn::transformer::{Decoder, Encoder, Session, Shape};
use crate::nn::weights::Weights;
use crate::nn::{self, Act, Ctx};
use crate::runtime::Job;
use crate::source::ModelFiles;
use crate::stage::{Metadata, Segment, StageInfo, Stt, SttOptions, Transcript, beam_width};

use fallback::{Try, Verdict, compression_ratio, numbers};
use rules::WhisperRules;
use special::{Signs, Special};
use text::TextDecoder;
use windows::{Part, windows};

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
    is_multilingual: Option<bool>,
    no_timestamps_token_id: Option<u32>,
    suppress_tokens: Option<Vec<i64>>,
    begin_suppress_tokens: Option<Vec<i64>>,
    max_initial_timestamp_index: Option<u32>,
    num_beams: Option<usize>,
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
    place: Place,
    mel: LogMel,
    conv1: Conv1d,
    conv2: Conv1d,
    positions: Embedding,
    encoder: Encoder,
    decoder: Decoder,
    text: TextDecoder,
    special: Special,
    max_tokens: usize,
    /// Beam width that the model was made for, if it says so.
    num_beams: Option<usize>,
    /// Windows that are encoded at once, and those that are decoded.
    encode: usize,
    decode: usize,
}

fn load(files: &ModelFiles, place: &Place, compute: ComputeType) -> Result<Loaded> {
    let (model, held) = load_whisper(files, place, compute)?;
    Ok(Loaded::new(Stage::Stt(Arc::new(model)), held))
}

fn load_whisper(files: &ModelFiles, place: &Place, compute: ComputeType) -> Result<(Whisper, Held)> {
    let config: Config = files.json("config.json")?;
    let generation: Generation = files.find_json("generation_config.json")?.unwrap_or_default();
    let pre: Preprocessor = files.json("preprocessor_config.json")?;
    let text = TextDecoder::load(files)?;
    let weights = Weights::open(files, place, compute)?;
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
    let num_beams = generation.num_beams;
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
    let embedding = Embedding::vocabulary(&wd.at("embed_tokens"), config.vocab_size, d, scale)?;
    let mut info = StageInfo::new(files.name()).languages(special.languages.iter().map(|l| l.0).collect::<Vec<_>>(), []);
    info.sample_rate = pre.sampling_rate;
    weights.tell(&mut info);
    let decoder = Decoder::load(
        &wd,
        &dec,
        embedding.clone(),
        Embedding::load(&wd.at("embed_positions"), config.max_target_positions, d, 1.0)?,
        (&embedding, None),
    )?;
    // About two half-minute windows: an encoder layer over more would outlast the time between two checks.
    let encode = (3_000 / config.max_source_positions.max(1)).clamp(1, 8);
    let model = Whisper {
        conv1: Conv1d::load(&we.at("conv1"), ConvSpec::same(config.num_mel_bins, d, 3), Activation::Gelu)?,
        conv2: Conv1d::load(&we.at("conv2"), ConvSpec { stride: 2, ..ConvSpec::same(d, d, 3) }, Activation::Gelu)?,
        positions: Embedding::load(&we.at("embed_positions"), config.max_source_positions, d, 1.0)?,
        encoder: Encoder::load(&we, &enc)?,
        info: StageInfo { revision: files.revision(), ..info },
        place: place.clone(),
        mel,
        text,
        special,
        max_tokens: config.max_target_positions,
        num_beams,
        encode,
        decode: (CROSS / decoder.row_bytes(config.max_source_positions).max(1)).clamp(encode, 8),
        decoder,
    };
    // The output table is tied to the embedding; some exporters write it twice.
    Ok((model, weights.finish(&["proj_out."])))
}

/// Bytes that cross-attention's keys and values of the windows that are decoded at once may take: a step takes hardly longer
/// for several than for one.
const CROSS: usize = 160 << 20;

/// How much of a window's work is done once it is encoded.
const ENCODED: f64 = 0.3;

impl Whisper {
    fn encode(&self, ctx: &Ctx<'_>, mel: &Act) -> Result<Act> {
        let x = self.conv1.forward(ctx, mel)?;
        ctx.check()?;
        let x = self.conv2.forward(ctx, &x)?;
        self.encoder.forward(ctx, &self.positions.add_positions(&x, 0)?, None)
    }

    /// What the decoder makes of each window before any word.
    fn signs(&self, ctx: &Ctx<'_>, session: &mut Session<'_>, windows: usize) -> Result<Vec<Signs>> {
        let mut logits = Vec::new();
        session.step(ctx, &vec![vec![self.special.start]; windows], &mut logits)?;
        Ok(logits.chunks_exact((logits.len() / windows.max(1)).max(1)).map(|l| self.special.signs(l)).collect())
    }

    /// What is said in each window of sound.
    fn decode(
        &self,
        ctx: &Ctx<'_>,
        session: &mut Session<'_>,
        prompt: &[u32],
        windows: &[Window<'_>],
        opts: &SttOptions,
        advance: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<Heard>> {
        let mut heard: Vec<Option<Heard>> = windows.iter().map(|_| None).collect();
        let mut open: Vec<usize> = (0..windows.len()).collect();
        for attempt in 0..opts.fallback.temperatures.len() {
            let found = self.attempt(ctx, session, prompt, (&open, windows), attempt, opts, advance)?;
            let mut again = Vec::new();
            for (row, found) in open.into_iter().zip(found) {
                let this = Try {
                    temperature: opts.fallback.temperatures[attempt],
                    compression_ratio: compression_ratio(&self.text.words(&found, &self.special)?),
                    found,
                };
                // In place of the tries at other temperatures, so not where there are none.
                let halves = windows[row].halves && attempt == 0 && opts.fallback.temperatures.len() > 1;
                let verdict = this.judge(&opts.fallback, windows[row].no_speech, halves);
                if verdict == Verdict::Retry {
                    again.push(row);
                    if heard[row].as_ref().is_some_and(|best| !this.better_than(&best.best, &opts.fallback)) {
                        continue;
                    }
                }
                heard[row] = Some(Heard { best: this, verdict });
            }
            open = again;
            if open.is_empty() {
                break;
            }
        }
        heard.into_iter().map(|h| h.ok_or_else(|| Error::internal("a window was never decoded"))).collect()
    }

    /// One try at the windows `open`: their best hypotheses.
    #[allow(clippy::too_many_arguments, reason = "a step of `decode`, whose arguments these are")]
    fn attempt(
        &self,
        ctx: &Ctx<'_>,
        session: &mut Session<'_>,
        prompt: &[u32],
        (open, windows): (&[usize], &[Window<'_>]),
        attempt: usize,
        opts: &SttOptions,
        advance: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<Hypothesis>> {
        let temperature = opts.fallback.temperatures[attempt];
        let draws = if temperature > 0.0 { opts.fallback.best_of } else { 1 };
        let rows: Vec<usize> = open.iter().flat_map(|row| std::iter::repeat_n(*row, draws)).collect();
        session.restart(&rows)?;
        let prompts = vec![prompt.to_vec(); rows.len()];
        let room = self.max_tokens.saturating_sub(prompt.len());
        let search = Search {
            beams: beam_width(opts.beams, self.num_beams),
            max_new: if opts.max_tokens == 0 { room } else { opts.max_tokens.min(room) },
            end: self.special.end,
            length_penalty: 1.0,
            early_stopping: false,
        };
        let rules = WhisperRules::new(&self.special, opts.timestamps);
        let mut found = if temperature > 0.0 {
            let seed = opts.fallback.seed;
            let mut rngs: Vec<_> = open.iter().flat_map(|row| numbers(seed, windows[*row].sound, attempt, draws)).collect();
            let drawn = sample(ctx, session, &prompts, &rules, &search, (temperature, &mut rngs), advance)?;
            let best = |draws: &[Hypothesis]| draws.iter().max_by(|a, b| a.score.total_cmp(&b.score)).cloned();
            drawn.chunks(draws).map(best).collect::<Vec<_>>().into_iter()
        } else {
            let all = generate(ctx, session, &prompts, &rules, &search, advance)?;
            all.into_iter().map(|hypotheses| hypotheses.into_iter().next()).collect::<Vec<_>>().into_iter()
        };
        open.iter()
            .map(|_| found.next().flatten().ok_or_else(|| Error::internal("the search ended without a hypothesis")))
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
}

/// A window that is to be decoded.
struct Window<'a> {
    sound: &'a [f32],
    no_speech: Option<f64>,
    /// Whether it has halves that could be heard instead.
    halves: bool,
}

/// What a window was heard to say.
struct Heard {
    best: Try,
    /// Of `best`.
    verdict: Verdict,
}

impl Stt for Whisper {
    fn transcribe(&self, audio: &Audio, opts: &SttOptions, job: &Job) -> Result<Transcript> {
        let began = Instant::now();
        opts.check()?;
        let mut language = self.language(opts)?;
        let mut language_probability = None;
        job.check()?;
        let audio = audio.resample_while(self.info.sample_rate, || job.check())?;
        let longest = Span::from_samples(0, self.mel.samples() as u64, self.info.sample_rate).duration();
        let mut open = VecDeque::from(windows(&audio, opts, longest, job)?);
        let mut segments: Vec<Segment> = Vec::new();
        let mut done = 0;
        while !open.is_empty() {
            let all = (done + open.len()) as f64;
            let batch: Vec<Part> = open.drain(..open.len().min(self.decode)).collect();
            let parts: Vec<Audio> = batch.iter().map(|part| audio.slice(part.span)).collect();
            let sounds: Vec<&[f32]> = parts.iter().map(Audio::samples).collect();
            let heard = nn::run(job, &self.place, |ctx| {
                let mut encoded = Vec::new();
                for some in sounds.chunks(self.encode) {
                    encoded.push(self.encode(ctx, &self.mel.forward(some)?)?);
                    job.report((done as f64 + ENCODED * (encoded.len() * self.encode).min(sounds.len()) as f64) / all);
                }
                let encoded = Act::concat(encoded)?;
                let mut session = self.decoder.start(ctx, &encoded, None)?;
                let signs = self.signs(ctx, &mut session, sounds.len())?;
                let language = match language {
                    Some(known) => known,
                    None => {
                        let (id, probability) = self.special.common_language(&signs, &sounds)?;
                        language_probability = Some(probability);
                        *language.insert(id)
                    }
                };
                let prompt = self.special.prompt(language, opts)?;
                let windows: Vec<_> = (0..batch.len())
                    .map(|i| Window { sound: sounds[i], no_speech: signs[i].no_speech, halves: batch[i].halves().is_some() })
                    .collect();
                // A window's tokens are not known beforehand: each step takes a share of what is left.
                let mut advance = |step: usize, _| {
                    let within = ENCODED + (1.0 - ENCODED) * (1.0 - (-(step as f64) / 24.0).exp());
                    job.report((done as f64 + within * batch.len() as f64) / all);
                };
                let heard = self.decode(ctx, &mut session, &prompt, &windows, opts, &mut advance)?;
                Ok(heard.into_iter().zip(signs).collect::<Vec<_>>())
            })?;
            done += batch.len();
            for (part, (heard, signs)) in batch.iter().zip(heard) {
                match heard.verdict {
                    Verdict::Keep | Verdict::Retry => {}
                    Verdict::Silence => continue,
                    Verdict::Halve => {
                        open.extend(part.halves().into_iter().flatten());
                        continue;
                    }
                }
                let (mut found, unended) = self.text.segments(&heard.best.found, part.span, &self.special)?;
                if let Some(last) = found.last().filter(|_| opts.timestamps) {
                    let rest = part.rest(if unended { last.span.start } else { last.span.end });
                    // Of a segment that was never ended, some may be missing.
                    if unended && rest.is_some() {
                        found.pop();
                    }
                    open.extend(rest);
                }
                segments.extend(found.into_iter().map(|segment| Segment {
                    no_speech_prob: signs.no_speech,
                    compression_ratio: Some(heard.best.compression_ratio),
                    temperature: Some(heard.best.temperature),
                    ..segment
                }));
            }
        }
        job.report(1.0);
        // What was heard again was heard last.
        segments.sort_by_key(|s| s.span.start);
        let mut metadata = Metadata::new(&self.info, began.elapsed(), audio.duration());
        let scores: Vec<f64> = segments.iter().filter_map(|s| s.avg_logprob).collect();
        if !scores.is_empty() {
            metadata.quality = Some((scores.iter().sum::<f64>() / scores.len() as f64).exp());
        }
        let transcript = Transcript::new(self.special.language(language), segments, metadata);
        Ok(Transcript { language_probability, ..transcript })
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
