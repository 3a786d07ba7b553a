//! The encoder-decoder transformer (Vaswani et al. 2017) in the form that Whisper, Marian and their relatives share:
//! layers normalised before or after each block, decoding over a KV cache.
//!
//! Two engines do it: [`cpu`] by the processor's kernels, and [`candle`], the reference, which `DUBCORE_CPU_ISA=candle` asks
//! for.

mod candle;
mod cpu;

use super::decode::Model;
use super::engine::Engine;
use super::layers::{Activation, Embedding};
use super::weights::Weights;
use super::{Act, Ctx};
use crate::error::{Error, ErrorKind, Result};
use crate::team::Team;

/// The shape of one side of the transformer.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) ffn: usize,
    pub(crate) layers: usize,
    pub(crate) activation: Activation,
    /// Layer norm before each block and once at the end (Whisper), or after each block (Marian).
    pub(crate) norm_first: bool,
    /// Whether the key projection has a bias (Whisper's has none).
    pub(crate) key_bias: bool,
}

impl Shape {
    /// Checks what config.json says before anything is computed from it.
    pub(crate) fn check(&self) -> Result<()> {
        let ok = (1..=65_536).contains(&self.width)
            && self.heads >= 1
            && self.width.is_multiple_of(self.heads)
            && (1..=1 << 20).contains(&self.ffn)
            && (1..=512).contains(&self.layers);
        if ok {
            return Ok(());
        }
        let Self { width, heads, ffn, layers, .. } = self;
        Err(Error::new(
            ErrorKind::ModelCorrupt,
            format!("config.json describes an impossible transformer: width {width}, {heads} heads, ffn {ffn}, {layers} layers"),
        ))
    }
}

impl Shape {
    /// The most floats that a layer holds at a time over `steps` in all, each of which attends to `past`.
    fn peak(&self, steps: usize, past: usize) -> usize {
        // The input, normalised, the queries and the sum of values; scores before and after softmax, or the wide layer before
        // and after its activation.
        steps * (4 * self.width + 2 * (self.heads * past).max(self.ffn))
    }
}

const EPS: f64 = 1e-5;

/// How many positions of each row of a batch are not padding.
pub(crate) struct Padding(Vec<usize>);

impl Padding {
    /// For rows that are `lengths` long in a batch `width` wide; `None` if all are full.
    pub(crate) fn new(lengths: &[usize], width: usize) -> Option<Self> {
        (!lengths.iter().all(|l| *l == width)).then(|| Self(lengths.to_vec()))
    }
}

/// The encoder's layers.
pub(crate) enum Encoder {
    Candle(candle::Encoder),
    Cpu(cpu::Encoder),
}

impl Encoder {
    /// Reads `layers.N` and, where layers are normalised first, `layer_norm`.
    pub(crate) fn load(w: &Weights, s: &Shape) -> Result<Self> {
        s.check()?;
        Ok(match w.engine() {
            Engine::Candle => Self::Candle(candle::Encoder::load(w, s)?),
            Engine::Cpu(isa, format) => Self::Cpu(cpu::Encoder::load(isa, format, w, s)?),
        })
    }

    pub(crate) fn forward(&self, ctx: &Ctx<'_>, x: &Act, padding: Option<&Padding>) -> Result<Act> {
        let lengths = padding.map(|p| p.0.as_slice());
        match self {
            Self::Candle(encoder) => encoder.forward(ctx, x, lengths),
            Self::Cpu(encoder) => encoder.forward(ctx, x, lengths),
        }
    }
}

/// A decoder from tokens to logits over the vocabulary.
pub(crate) enum Decoder {
    Candle(candle::Decoder),
    Cpu(cpu::Decoder),
}

impl Decoder {
    /// Reads `layers.N` and, where layers are normalised first, `layer_norm`; what goes in is given, and the vocabulary whose
    /// product the logits are, with a bias.
    pub(crate) fn load(
        w: &Weights,
        s: &Shape,
        embedding: Embedding,
        positions: Embedding,
        head: (&Embedding, Option<Vec<f32>>),
    ) -> Result<Self> {
        s.check()?;
        Ok(match w.engine() {
            Engine::Candle => Self::Candle(candle::Decoder::load(w, s, embedding, positions, head)?),
            Engine::Cpu(isa, format) => Self::Cpu(cpu::Decoder::load((isa, format), w, s, embedding, positions, head)?),
        })
    }

    /// Bytes that decoding keeps of each row of the encoder's output, `time` long.
    pub(crate) fn row_bytes(&self, time: usize) -> usize {
        match self {
            Self::Candle(decoder) => decoder.row_bytes(time),
            Self::Cpu(decoder) => decoder.row_bytes(time),
        }
    }

    /// Begins decoding over the encoder's output, one row of tokens per row of it.
    pub(crate) fn start(&self, ctx: &Ctx<'_>, encoded: &Act, padding: Option<Padding>) -> Result<Session<'_>> {
        let lengths = padding.as_ref().map(|p| p.0.as_slice());
        Ok(match self {
            Self::Candle(decoder) => Session::Candle(decoder.start(ctx, encoded, lengths)?),
            Self::Cpu(decoder) => Session::Cpu(decoder.start(ctx, encoded, lengths)?),
        })
    }
}

/// Decoding in progress: the KV caches of one request.
pub(crate) enum Session<'a> {
    Candle(candle::Session<'a>),
    Cpu(cpu::Session<'a>),
}

impl Session<'_> {
    /// Begins again behind an empty past; row `i` attends to the encoder's row `rows[i]`, of which any may come repeatedly.
    pub(crate) fn restart(&mut self, rows: &[usize]) -> Result<()> {
        match self {
            Self::Candle(session) => session.restart(rows),
            Self::Cpu(session) => session.restart(rows),
        }
    }

    /// Logits of every position of `tokens`, `[rows, time, vocabulary]`.
    #[cfg(test)]
    pub(crate) fn all_logits(&mut self, ctx: &Ctx<'_>, tokens: &[Vec<u32>]) -> Result<Act> {
        match self {
            Self::Candle(session) => session.all_logits(ctx, tokens),
            Self::Cpu(session) => session.all_logits(ctx, tokens),
        }
    }
}

impl Model for Session<'_> {
    fn step(&mut self, ctx: &Ctx<'_>, tokens: &[Vec<u32>], logits: &mut Vec<f32>) -> Result<()> {
        match self {
            Self::Candle(session) => session.step(ctx, tokens, logits),
            Self::Cpu(session) => session.step(ctx, tokens, logits),
        }
    }

    fn select(&mut self, rows: &[usize]) -> Result<()> {
        match self {
            Self::Candle(session) => session.select(rows),
            Self::Cpu(session) => session.select(rows),
        }
    }

    fn team(&self) -> Option<&Team> {
        match self {
            Self::Candle(_) => None,
            Self::Cpu(session) => Some(session.team()),
        }
    }
}

#[cfg(test)]
mod tests;
