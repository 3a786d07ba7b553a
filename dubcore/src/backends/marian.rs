//! Marian (Junczys-Dowmunt et al. 2018), as the Hugging Face checkpoints `Helsinki-NLP/opus-mt-*` lay it out.
//!
//! Follows transformers' `MarianMTModel`: layers normalised after each block, sinusoidal positions, and none of the fields
//! of config.json that the reference ignores (`normalize_before`, `normalize_embedding`, `add_final_layer_norm`).

#[cfg(test)]
mod tests;
mod tokenizer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::backend::{Backend, Loaded, Stage};
use crate::compute::ComputeType;
use crate::device::{Held, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::nn::decode::{Fixed, Hypothesis, Search, generate};
use crate::nn::layers::{Activation, Embedding};
use crate::nn::transformer::{Decoder, Encoder, Padding, Shape};
use crate::nn::weights::Weights;
use crate::nn::{self, Act, Ctx};
use crate::runtime::Job;
use crate::source::ModelFiles;
use crate::stage::{Metadata, StageInfo, TranslateOptions, Translation, Translator, beam_width};

use tokenizer::MarianTokenizer;

pub(crate) const BACKEND: Backend = Backend { model_types: &["marian"], load };

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
    decoder_vocab_size: Option<usize>,
    max_position_embeddings: usize,
    activation_function: String,
    #[serde(default)]
    scale_embedding: bool,
    #[serde(default = "yes")]
    share_encoder_decoder_embeddings: bool,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
    /// Old checkpoints keep here what newer ones keep in generation_config.json.
    #[serde(flatten)]
    generation: Generation,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Default, Deserialize)]
struct Generation {
    bad_words_ids: Option<Vec<Vec<u32>>>,
    decoder_start_token_id: Option<u32>,
    early_stopping: Option<bool>,
    eos_token_id: Option<u32>,
    forced_eos_token_id: Option<u32>,
    length_penalty: Option<f32>,
    max_length: Option<usize>,
    num_beams: Option<usize>,
}

impl Generation {
    /// The settings of `self`, with those of `other` where `self` has none.
    fn or(self, other: Self) -> Self {
        Self {
            bad_words_ids: self.bad_words_ids.or(other.bad_words_ids),
            decoder_start_token_id: self.decoder_start_token_id.or(other.decoder_start_token_id),
            early_stopping: self.early_stopping.or(other.early_stopping),
            eos_token_id: self.eos_token_id.or(other.eos_token_id),
            forced_eos_token_id: self.forced_eos_token_id.or(other.forced_eos_token_id),
            length_penalty: self.length_penalty.or(other.length_penalty),
            max_length: self.max_length.or(other.max_length),
            num_beams: self.num_beams.or(other.num_beams),
        }
    }
}

struct Marian {
    info: StageInfo,
    place: Place,
    embedding: Embedding,
    positions: Embedding,
    encoder: Encoder,
    decoder: Decoder,
    tokenizer: MarianTokenizer,
    generation: Generation,
    start: u32,
    end: u32,
    max_positions: usize,
}

/// Most hypotheses worked on at once, each of which has a number for every token of the vocabulary, and most source tokens
/// (padding included) among their sentences.
const MAX_HYPOTHESES: usize = 64;
const MAX_TOKENS: usize = 1024;

/// Copies of tied tables, and positions, which are computed.
const IDLE: [&str; 6] = [
    "lm_head.",
    "model.shared.",
    "model.encoder.embed_tokens.",
    "model.decoder.embed_tokens.",
    "model.encoder.embed_positions.",
    "model.decoder.embed_positions.",
];

fn load(files: &ModelFiles, place: &Place, compute: ComputeType) -> Result<Loaded> {
    let (model, held) = load_marian(files, place, compute)?;
    Ok(Loaded::new(Stage::Translator(Arc::new(model)), held))
}

fn load_marian(files: &ModelFiles, place: &Place, compute: ComputeType) -> Result<(Marian, Held)> {
    let config: Config = files.json("config.json")?;
    let generation: Generation = files.find_json("generation_config.json")?.unwrap_or_default();
    let generation = generation.or(config.generation.clone());
    let target_vocab = match (config.share_encoder_decoder_embeddings, config.decoder_vocab_size) {
        (false, Some(size)) => size,
        _ => config.vocab_size,
    };
    // Tables of these sizes are made before the weights can tell that they are wrong.
    if ![config.vocab_size, target_vocab].iter().all(|size| (1..=1 << 22).contains(size)) {
        return Err(files.corrupt("config.json", "has an impossible vocab_size"));
    }
    let tokenizer = MarianTokenizer::load(files, config.vocab_size, target_vocab)?;
    let weights = Weights::open(files, place, compute)?;
    let w = &weights;

    let shape = |layers, heads, ffn| -> Result<Shape> {
        let activation = Activation::parse(&config.activation_function)?;
        let shape = Shape { width: config.d_model, heads, ffn, layers, activation, norm_first: false, key_bias: true };
        shape.check()?;
        Ok(shape)
    };
    let enc = shape(config.encoder_layers, config.encoder_attention_heads, config.encoder_ffn_dim)?;
    let dec = shape(config.decoder_layers, config.decoder_attention_heads, config.decoder_ffn_dim)?;
    // The table of positions is computed: no file of its size stands behind it.
    let positions = config.max_position_embeddings;
    if !(8..=65_536).contains(&positions) || positions.saturating_mul(config.d_model) > 1 << 22 {
        return Err(files.corrupt("config.json", "has an impossible max_position_embeddings"));
    }
    let scale = if config.scale_embedding { (config.d_model as f64).sqrt() } else { 1.0 };
    // Tied tables are stored once, under whichever of their names the exporter liked.
    let shared: &[&'static str] = if config.share_encoder_decoder_embeddings { &["model.shared"] } else { &[] };
    let tied: &[&'static str] = if config.tie_word_embeddings { &["lm_head"] } else { &[] };
    let stored = |own: &'static str, more: &[&'static str]| {
        let mut names = [own].into_iter().chain(shared.iter().copied()).chain(more.iter().copied());
        names.find(|name| w.at(name).has("weight")).unwrap_or(own)
    };
    let both = if config.share_encoder_decoder_embeddings { tied } else { &[] };
    let (source_name, target_name) = (stored("model.encoder.embed_tokens", both), stored("model.decoder.embed_tokens", tied));
    let embedding = Embedding::vocabulary(&w.at(source_name), config.vocab_size, config.d_model, scale)?;
    // What is one table in the file is one in memory.
    let target = match source_name == target_name {
        true => embedding.clone(),
        false => Embedding::vocabulary(&w.at(target_name), target_vocab, config.d_model, scale)?,
    };
    let bias = w.has("final_logits_bias").then(|| w.values("final_logits_bias", &[1, target_vocab])).transpose()?;
    let head = match config.tie_word_embeddings {
        true => target.clone(),
        false => Embedding::vocabulary(&w.at("lm_head"), target_vocab, config.d_model, 1.0)?,
    };
    let token = |id: Option<u32>, name: &str| {
        id.filter(|id| (*id as usize) < target_vocab)
            .ok_or_else(|| files.corrupt("config.json", &format!("has no {name} inside the vocabulary")))
    };
    if generation.forced_eos_token_id.is_some_and(|id| id as usize >= target_vocab) {
        return Err(files.corrupt("config.json", "has a forced_eos_token_id beyond the vocabulary"));
    }
    let positions = || sinusoids(config.max_position_embeddings, config.d_model);
    let w = w.at("model");
    let mut info = StageInfo::new(files.name()).languages(tokenizer.from.clone(), tokenizer.to.clone());
    weights.tell(&mut info);
    let model = Marian {
        info: StageInfo { revision: files.revision(), ..info },
        start: token(generation.decoder_start_token_id, "decoder_start_token_id")?,
        end: token(generation.eos_token_id, "eos_token_id")?,
        embedding,
        positions: positions()?,
        encoder: Encoder::load(&w.at("encoder"), &enc)?,
        decoder: Decoder::load(&w.at("decoder"), &dec, target, positions()?, (&head, bias))?,
        tokenizer,
        place: place.clone(),
        generation,
        max_positions: config.max_position_embeddings,
    };
    Ok((model, weights.finish(&IDLE)))
}

/// Position vectors: sines in the first half, cosines in the second.
fn sinusoids(positions: usize, width: usize) -> Result<Embedding> {
    let half = width.div_ceil(2);
    let slower = |i: usize| 10_000f64.powf(2.0 * i as f64 / width as f64);
    let columns: Vec<(bool, f64)> =
        (0..width).map(|j| if j < half { (true, slower(j)) } else { (false, slower(j - half)) }).collect();
    let value = |pos: usize, (sine, by): &(bool, f64)| {
        let angle = pos as f64 / by;
        (if *sine { angle.sin() } else { angle.cos() }) as f32
    };
    let values = (0..positions).flat_map(|pos| columns.iter().map(move |column| value(pos, column))).collect();
    Embedding::from_values(values, positions, width)
}

impl Marian {
    /// Encodes rows of tokens of any lengths.
    fn encode(&self, ctx: &Ctx<'_>, rows: &[&[u32]]) -> Result<(Act, Option<Padding>)> {
        let width = rows.iter().map(|r| r.len()).max().unwrap_or(0);
        let lengths: Vec<usize> = rows.iter().map(|r| r.len()).collect();
        let padded: Vec<Vec<u32>> = rows
            .iter()
            .map(|r| {
                let mut row = r.to_vec();
                // Any token will do where attention does not look.
                row.resize(width, self.end);
                row
            })
            .collect();
        let padding = Padding::new(&lengths, width);
        let x = self.positions.add_positions(&self.embedding.lookup(&padded)?, 0)?;
        Ok((self.encoder.forward(ctx, &x, padding.as_ref())?, padding))
    }

    fn search(&self, opts: &TranslateOptions) -> Result<(Search, Fixed)> {
        let g = &self.generation;
        opts.check()?;
        let beams = beam_width(opts.beams, g.num_beams);
        if opts.alternatives >= beams {
            return Err(Error::argument(format!("{} alternatives need more than {beams} beams", opts.alternatives)));
        }
        // One position is the start token's.
        let room = g.max_length.unwrap_or(self.max_positions).min(self.max_positions).saturating_sub(1).max(1);
        let max_new = if opts.max_tokens == 0 { room } else { opts.max_tokens.min(room) };
        let bad = g.bad_words_ids.clone().unwrap_or_default();
        let rules = Fixed {
            bad_words: bad.into_iter().filter(|word| !word.is_empty() && *word != [self.end]).collect(),
            forced: g.forced_eos_token_id.map(|token| (max_new - 1, token)),
        };
        let search = Search {
            beams,
            max_new,
            end: self.end,
            length_penalty: g.length_penalty.unwrap_or(1.0),
            early_stopping: g.early_stopping.unwrap_or(false),
        };
        Ok((search, rules))
    }

    fn translate_rows(
        &self,
        rows: &[&[u32]],
        (search, rules): (&Search, &Fixed),
        job: &Job,
        done: (f64, f64),
    ) -> Result<Vec<Vec<Hypothesis>>> {
        nn::run(job, &self.place, |ctx| {
            let (encoded, padding) = self.encode(ctx, rows)?;
            let mut session = self.decoder.start(ctx, &encoded, padding)?;
            let mut advance = |_, running: usize| {
                let finished = 1.0 - running as f64 / rows.len() as f64;
                job.report(done.0 + (done.1 - done.0) * finished);
            };
            generate(ctx, &mut session, &vec![vec![self.start]; rows.len()], rules, search, &mut advance)
        })
    }

    fn translation(&self, found: Vec<Hypothesis>, opts: &TranslateOptions, spent: Duration) -> Result<Translation> {
        let text = |h: &Hypothesis| Ok((self.tokenizer.decode(&h.tokens)?, f64::from(h.score)));
        let mut all = found.iter().take(opts.alternatives + 1).map(text).collect::<Result<Vec<_>>>()?.into_iter();
        let (best, score) = all.next().ok_or_else(|| Error::internal("the search ended without a hypothesis"))?;
        let mut metadata = Metadata::new(&self.info, spent, Duration::ZERO);
        metadata.quality = Some(score.exp());
        Ok(Translation { alternatives: all.collect(), ..Translation::new(best, score, metadata) })
    }
}

impl Translator for Marian {
    fn translate(&self, texts: &[&str], opts: &TranslateOptions, job: &Job) -> Vec<Result<Translation>> {
        let checked = self.tokenizer.check(opts.from, opts.to, &self.info.model).and_then(|()| self.search(opts));
        let (search, rules) = match checked {
            Ok(found) => found,
            Err(e) => return texts.iter().map(|_| Err(e.clone())).collect(),
        };
        let most = (MAX_HYPOTHESES / search.beams).max(1);
        let mut results: Vec<Option<Result<Translation>>> = texts.iter().map(|_| None).collect();
        let mut todo: Vec<(usize, Vec<u32>)> = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            match job.check().and_then(|()| self.tokenizer.encode(text, opts.to)) {
                _ if text.trim().is_empty() => {
                    results[i] = Some(Ok(Translation::new("", 0.0, Metadata::new(&self.info, Duration::ZERO, Duration::ZERO))));
                }
                Err(e) => results[i] = Some(Err(e)),
                Ok(tokens) if tokens.len() > self.max_positions => {
                    results[i] = Some(Err(Error::new(
                        ErrorKind::LimitExceeded,
                        format!(
                            "a text of {} tokens exceeds the model's {}: translate it sentence by sentence",
                            tokens.len(),
                            self.max_positions
                        ),
                    )));
                }
                Ok(tokens) => todo.push((i, tokens)),
            }
        }
        // Sentences of like length share a batch. The order depends on the texts alone, so the result does too.
        todo.sort_by_key(|(i, tokens)| (tokens.len(), *i));
        let total = todo.len().max(1) as f64;
        let mut done = 0;
        while done < todo.len() {
            let rest = &todo[done..];
            let fits = |n: usize| n * rest[n - 1].1.len() <= MAX_TOKENS;
            let rows = (1..=rest.len().min(most)).rfind(|n| fits(*n)).unwrap_or(1);
            let began = Instant::now();
            let batch: Vec<&[u32]> = rest[..rows].iter().map(|(_, tokens)| tokens.as_slice()).collect();
            let share = (done as f64 / total, (done + rows) as f64 / total);
            match self.translate_rows(&batch, (&search, &rules), job, share) {
                Ok(found) => {
                    let spent = began.elapsed() / rows as u32;
                    for ((i, _), found) in rest.iter().zip(found) {
                        results[*i] = Some(self.translation(found, opts, spent));
                    }
                }
                Err(e) => rest[..rows].iter().for_each(|(i, _)| results[*i] = Some(Err(e.clone()))),
            }
            done += rows;
            job.report(done as f64 / total);
        }
        results.into_iter().map(|r| r.unwrap_or_else(|| Err(Error::internal("a text was left out")))).collect()
    }

    fn info(&self) -> StageInfo {
        self.info.clone()
    }
}

/// A tokenizer for a model of so many pieces makes tokens of a text, and a text of tokens.
#[cfg(fuzzing)]
pub(crate) fn tokens_of(files: &ModelFiles, pieces: usize, text: &str, tokens: &[u32]) -> Result<(Vec<u32>, String)> {
    let tokenizer = MarianTokenizer::load(files, pieces, pieces)?;
    Ok((tokenizer.encode(text, crate::lang::Lang::ES)?, tokenizer.decode(tokens)?))
}
