//! VITS voices (Kim et al. 2021), among them Meta's MMS: characters in, waveform out, in one network.
//!
//! A text encoder gives each character the mean and deviation of a prior; a duration predictor says how many frames it
//! takes; a sample of the prior passes a normalising flow backwards and becomes the latents of a HiFi-GAN decoder.
//! Texts are spoken one by one, so that no result depends on its neighbours; long ones in pieces (see [`pieces`]).

pub(crate) mod bench;
mod config;
mod pieces;
#[cfg(test)]
mod tests;
mod tokenizer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use self::config::Config;
use self::tokenizer::{Tokenizer, Tokens};
use crate::audio::{Audio, samples_to_time, time_to_samples};
use crate::backend::{Backend, Loaded, Stage};
use crate::compute::ComputeType;
use crate::device::Place;
use crate::error::{Error, ErrorKind, Result};
use crate::lang::Lang;
use crate::nn::duration::{DurationPredictor, StochasticDurationPredictor};
use crate::nn::flow::{ResidualCoupling, sample_prior};
use crate::nn::hifigan::HifiGan;
use crate::nn::layers::Embedding;
use crate::nn::relative::TextEncoder;
use crate::nn::weights::Weights;
use crate::nn::{self, Act, Ctx};
use crate::runtime::Job;
use crate::source::ModelFiles;
use crate::stage::{Metadata, Speech, StageInfo, Tts, TtsOptions};
use crate::text::spell_out;

pub(crate) const BACKEND: Backend = Backend { model_types: &["vits"], load };

/// The longest text, in characters: some twenty minutes of speech.
const MAX_TEXT: usize = 20_000;
/// The most frames of a piece. Speech at a quarter of the pace stays far below; a duration predictor gone astray does not.
const MAX_FRAMES: usize = 32_768;
/// The silence between the pieces of a long text.
const PAUSE: Duration = Duration::from_millis(150);

/// What only training needs: the encoder of spectrograms, and the half of the duration predictor that knows the answer;
/// also the flow that is skipped.
const IDLE: [&str; 3] = ["posterior_encoder.", "duration_predictor.post_", "duration_predictor.flows.1."];

struct Vits {
    info: StageInfo,
    place: Place,
    tokenizer: Tokenizer,
    config: Config,
    model: Model,
}

/// The network.
struct Model {
    embedding: Embedding,
    encoder: TextEncoder,
    durations: Durations,
    flow: ResidualCoupling,
    decoder: HifiGan,
    speakers: Option<Embedding>,
}

enum Durations {
    Plain(DurationPredictor),
    Stochastic(StochasticDurationPredictor),
}

/// What the text side of the network says of a text.
struct Prior {
    /// Means and logarithms of deviations.
    stats: Act,
    /// Frames of each token.
    durations: Vec<usize>,
    speaker: Option<Act>,
}

impl Prior {
    /// How long the speech will be, in frames.
    fn frames(&self) -> usize {
        self.durations.iter().sum::<usize>().max(1)
    }
}

fn load(files: &ModelFiles, place: &Place, compute: ComputeType) -> Result<Loaded> {
    let config = Config::read(files)?;
    let tokenizer = Tokenizer::load(files, config.vocab_size)?;
    let weights = Weights::open(files, place, compute)?;
    let model = Model::load(&weights, &config)?;
    let mut info = StageInfo::new(files.name());
    // What goes in is written, and what comes out is spoken, in the same language.
    info.from = languages(&tokenizer, files.name());
    info.to = info.from.clone();
    weights.tell_of_convolutions(&mut info);
    info.revision = files.revision();
    info.speakers = config.num_speakers;
    info.sample_rate = config.sampling_rate;
    let held = weights.finish(&IDLE);
    Ok(Loaded::new(Stage::Tts(Arc::new(Vits { info, place: place.clone(), tokenizer, config, model })), held))
}

/// The voice's language, from its tokenizer or, as MMS voices are called, its name (`facebook/mms-tts-spa`).
fn languages(tokenizer: &Tokenizer, name: &str) -> Vec<Lang> {
    let named = name.split("mms-tts-").nth(1).map(|n| n.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or(n));
    tokenizer.language().or(named).and_then(|code| code.parse().ok()).into_iter().collect()
}

impl Model {
    fn load(w: &Weights, c: &Config) -> Result<Self> {
        let text = w.at("text_encoder");
        let embedding = Embedding::load(&text.at("embed_tokens"), c.vocab_size, c.hidden_size, (c.hidden_size as f64).sqrt())?;
        let predictor = w.at("duration_predictor");
        let (sizes, width, eps) = c.durations();
        Ok(Self {
            embedding,
            encoder: TextEncoder::load(&text, c.encoder()?)?,
            durations: match c.use_stochastic_duration_prediction {
                true => Durations::Stochastic(StochasticDurationPredictor::load(&predictor, c.stochastic())?),
                false => Durations::Plain(DurationPredictor::load(&predictor, sizes, width, eps)?),
            },
            flow: ResidualCoupling::load(&w.at("flow"), c.flow_size, c.prior_encoder_num_flows, c.wavenet())?,
            decoder: HifiGan::load(&w.at("decoder"), &c.decoder())?,
            speakers: match c.speaker() {
                0 => None,
                channels => Some(Embedding::load(&w.at("embed_speaker"), c.num_speakers, channels, 1.0)?),
            },
        })
    }

    /// Reads a text. `noise` `[2, tokens]` moves the rhythm; `pace` is what durations are divided by.
    fn read(&self, ctx: &Ctx<'_>, tokens: &[u32], speaker: usize, noise: &[f32], pace: f64) -> Result<Prior> {
        let (x, stats) = self.encoder.forward(ctx, &self.embedding.lookup(&[tokens])?)?;
        let speaker = self.speakers.as_ref().map(|s| s.lookup(&[[speaker as u32]])).transpose()?;
        let logs = match &self.durations {
            Durations::Plain(predictor) => predictor.forward(ctx, &x, speaker.as_ref())?,
            Durations::Stochastic(predictor) => predictor.forward(ctx, &x, speaker.as_ref(), noise)?,
        };
        let slower = (1.0 / pace) as f32;
        let mut durations = Vec::with_capacity(logs.len());
        let mut left = MAX_FRAMES;
        for log in logs {
            let frames = (log.exp() * slower).ceil();
            if frames.is_nan() {
                return Err(Error::internal("the voice predicted durations that are not numbers"));
            }
            // A float beyond usize's range becomes its maximum.
            let frames = frames as usize;
            left = left.checked_sub(frames).ok_or_else(|| {
                let what = format!(
                    "the voice would speak for more than {MAX_FRAMES} frames: shorten the text, speak faster or vary less"
                );
                Error::new(ErrorKind::LimitExceeded, what)
            })?;
            durations.push(frames);
        }
        Ok(Prior { stats, durations, speaker })
    }

    /// Speaks what was read, with `noise` `[frames, flow channels]` times `scale`, or with none.
    fn speak(&self, ctx: &Ctx<'_>, prior: &Prior, noise: Option<impl Iterator<Item = f32>>, scale: f32) -> Result<Vec<f32>> {
        ctx.check()?;
        let sample = sample_prior(&prior.stats, &prior.durations, noise, scale)?;
        let latents = self.flow.reverse(ctx, sample, prior.speaker.as_ref())?;
        self.decoder.forward(ctx, &latents, prior.speaker.as_ref())
    }
}

/// Options, checked, with the voice's own values where none were given.
struct Manner {
    speaker: usize,
    pace: f64,
    noise: f32,
    noise_duration: f32,
    seed: u64,
}

/// An error where a text, written in the manner `how`, is too long.
fn bounded(text: &str, how: &str) -> Result<()> {
    let length = text.chars().count();
    if length > MAX_TEXT {
        let what = format!("a text of {length} characters{how} is over the limit of {MAX_TEXT}: synthesize it in parts");
        return Err(Error::new(ErrorKind::LimitExceeded, what));
    }
    Ok(())
}

/// A piece of a text, read.
struct Piece<'a> {
    text: &'a str,
    tokens: Tokens,
    prior: Prior,
}

impl Vits {
    fn manner(&self, opts: &TtsOptions) -> Result<Manner> {
        opts.check()?;
        if let Some(lang) = opts.language
            && !self.info.from.is_empty()
            && !self.info.from.contains(&lang)
        {
            let spoken = self.info.from.iter().map(|l| l.name()).collect::<Vec<_>>().join(", ");
            let what = format!("model {} speaks {spoken}, not {}", self.info.model, lang.name());
            return Err(Error::new(ErrorKind::UnsupportedLanguage, what));
        }
        let speakers = self.config.num_speakers;
        if opts.speaker >= speakers {
            let what = format!("speaker {} of model {}, which has {speakers}: they count from 0", opts.speaker, self.info.model);
            return Err(Error::argument(what));
        }
        Ok(Manner {
            speaker: opts.speaker,
            pace: self.config.speaking_rate * opts.speaking_rate,
            noise: opts.noise_scale.unwrap_or(self.config.noise_scale) as f32,
            noise_duration: opts.noise_scale_duration.unwrap_or(self.config.noise_scale_duration) as f32,
            seed: opts.seed,
        })
    }

    /// The text as the voice can say it: digits and symbols in words, line breaks and tabs as the spaces they stand for.
    fn front_end(&self, text: &str) -> Result<String> {
        bounded(text, "")?;
        let text: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
        // A voice that does not say what it speaks gets the text as it is: there are no rules to read it by.
        let spoken = match self.info.from.first() {
            Some(lang) => spell_out(&text, *lang, &|c| self.tokenizer.knows(c))?,
            None => text,
        };
        // One sign may be a dozen letters.
        bounded(&spoken, ", with its numbers and signs in words,")?;
        Ok(spoken)
    }

    /// Hands each piece of `text`, read, to `each`, with its number and the manner of speaking.
    fn pieces(
        &self,
        ctx: &Ctx<'_>,
        text: &str,
        opts: &TtsOptions,
        mut each: impl FnMut(usize, &Manner, Piece<'_>) -> Result<()>,
    ) -> Result<()> {
        let manner = self.manner(opts)?;
        let spoken = self.front_end(text)?;
        let mut number = 0;
        for part in pieces::split(&spoken) {
            ctx.check()?;
            let tokens = self.tokenizer.encode(part);
            if !part.chars().any(|c| c.is_alphanumeric() && self.tokenizer.knows(c)) || tokens.ids.is_empty() {
                continue;
            }
            let noise = noise(manner.seed, 2 * number).take(2 * tokens.ids.len());
            let noise: Vec<f32> = noise.map(|z| z * manner.noise_duration).collect();
            let prior = self.model.read(ctx, &tokens.ids, manner.speaker, &noise, manner.pace)?;
            each(number, &manner, Piece { text: part, tokens, prior })?;
            number += 1;
        }
        if number == 0 {
            let shown: String = text.chars().take(80).collect();
            return Err(Error::argument(format!(
                "there is nothing in the text {shown:?} that model {} can say",
                self.info.model
            )));
        }
        Ok(())
    }

    fn say(&self, ctx: &Ctx<'_>, text: &str, opts: &TtsOptions) -> Result<Speech> {
        let began = Instant::now();
        let rate = self.info.sample_rate;
        let hop = self.model.decoder.hop();
        let (mut samples, mut words) = (Vec::new(), Vec::new());
        self.pieces(ctx, text, opts, |number, manner, piece| {
            if number > 0 {
                samples.resize(samples.len() + time_to_samples(PAUSE, rate) as usize, 0.0);
            }
            let begin = samples_to_time(samples.len() as u64, rate);
            let noise = (manner.noise != 0.0).then(|| noise(manner.seed, 2 * number + 1));
            samples.extend(self.model.speak(ctx, &piece.prior, noise, manner.noise)?);
            words.extend(pieces::words(piece.text, &piece.tokens, &piece.prior.durations, (hop, rate), begin));
            Ok(())
        })?;
        if samples.iter().any(|s| !s.is_finite()) {
            return Err(Error::internal(format!("model {} made a sound that is not finite", self.info.model)));
        }
        let audio = Audio::new(samples, rate)?;
        let metadata = Metadata::new(&self.info, began.elapsed(), audio.duration());
        Ok(Speech { words, ..Speech::new(audio, metadata) })
    }
}

impl Tts for Vits {
    fn synthesize(&self, texts: &[&str], opts: &TtsOptions, job: &Job) -> Vec<Result<Speech>> {
        let one = |(i, text): (usize, &&str)| {
            let speech = nn::run(job, &self.place, |ctx| self.say(ctx, text, opts));
            job.report((i + 1) as f64 / texts.len() as f64);
            speech
        };
        texts.iter().enumerate().map(one).collect()
    }

    fn duration(&self, text: &str, opts: &TtsOptions, job: &Job) -> Result<Option<Duration>> {
        let rate = self.info.sample_rate;
        let hop = self.model.decoder.hop() as u64;
        let mut samples = 0;
        nn::run(job, &self.place, |ctx| {
            self.pieces(ctx, text, opts, |number, _, piece| {
                let pause = if number > 0 { time_to_samples(PAUSE, rate) } else { 0 };
                samples += pause + piece.prior.frames() as u64 * hop;
                Ok(())
            })
        })?;
        Ok(Some(samples_to_time(samples, rate)))
    }

    fn info(&self) -> StageInfo {
        self.info.clone()
    }
}

/// Normal numbers without end. Each stream of a seed is independent of the others: durations and sound draw from two, so
/// that predicting a duration does not change what is heard.
fn noise(seed: u64, stream: usize) -> impl Iterator<Item = f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream as u64);
    std::iter::repeat_with(move || StandardNormal.sample(&mut rng))
}

/// A tokenizer for a voice of so many characters makes tokens of a text.
#[cfg(fuzzing)]
pub(crate) fn tokens_of(files: &ModelFiles, characters: usize, text: &str) -> Result<Vec<u32>> {
    Ok(Tokenizer::load(files, characters)?.encode(text).ids)
}
