//! The transformer on candle: the reference, for every device.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::{EPS, Shape};
use crate::device::{Held, Use};
use crate::error::Result;
use crate::nn::elementwise::add;
use crate::nn::layers::{Activation, Embedding, LayerNorm, Linear, softmax};
use crate::nn::weights::Weights;
use crate::nn::{Act, Ctx, with_values};

/// Keys and values of an attention, `[rows, heads, time, head width]`. Clones share them.
#[derive(Clone)]
struct Kv {
    k: Tensor,
    v: Tensor,
    held: Arc<Held>,
}

impl Kv {
    /// Those of the given rows.
    fn select(&self, rows: &Tensor) -> Result<Self> {
        let row = self.k.elem_count() / self.k.dim(0)?.max(1);
        let held = self.held.beside(8 * (rows.elem_count() * row) as u64)?;
        Ok(Self { k: self.k.index_select(rows, 0)?, v: self.v.index_select(rows, 0)?, held: held.into() })
    }
}

struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: usize,
    scale: f64,
}

impl Attention {
    fn load(w: &Weights, s: &Shape) -> Result<Self> {
        let linear = |name, bias| Linear::load(&w.at(name), s.width, s.width, bias);
        Ok(Self {
            q: linear("q_proj", true)?,
            k: linear("k_proj", s.key_bias)?,
            v: linear("v_proj", true)?,
            out: linear("out_proj", true)?,
            heads: s.heads,
            scale: ((s.width / s.heads) as f64).powf(-0.5),
        })
    }

    fn split(&self, x: &Tensor) -> Result<Tensor> {
        let (b, t, c) = x.dims3()?;
        Ok(x.reshape((b, t, self.heads, c / self.heads))?.transpose(1, 2)?.contiguous()?)
    }

    fn kv(&self, ctx: &Ctx<'_>, x: &Tensor) -> Result<Kv> {
        let held = ctx.take(Use::Cache, 2 * x.elem_count())?.into();
        Ok(Kv { k: self.split(&self.k.apply(x)?)?, v: self.split(&self.v.apply(x)?)?, held })
    }

    /// Attention of `x` over `kv`; `mask` is added to the scores.
    fn over(&self, x: &Tensor, kv: &Kv, mask: Option<&Tensor>) -> Result<Tensor> {
        let (b, t, c) = x.dims3()?;
        let q = (self.split(&self.q.apply(x)?)? * self.scale)?;
        let scores = q.matmul(&kv.k.t()?)?;
        let scores = match mask {
            Some(mask) => add(&scores, mask)?,
            None => scores,
        };
        let mixed = softmax(&scores)?.matmul(&kv.v)?;
        self.out.apply(&mixed.transpose(1, 2)?.reshape((b, t, c))?)
    }
}

struct FeedForward {
    up: Linear,
    down: Linear,
    activation: Activation,
}

impl FeedForward {
    fn load(w: &Weights, s: &Shape) -> Result<Self> {
        Ok(Self {
            up: Linear::load(&w.at("fc1"), s.width, s.ffn, true)?,
            down: Linear::load(&w.at("fc2"), s.ffn, s.width, true)?,
            activation: s.activation,
        })
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.down.apply(&self.activation.apply(&self.up.apply(x)?)?)
    }
}

/// A block with its residual connection, normalised before or after.
fn residual(x: &Tensor, norm: &LayerNorm, first: bool, block: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if first { add(x, &block(&norm.apply(x)?)?) } else { norm.apply(&add(x, &block(x)?)?) }
}

struct EncoderLayer {
    attention: Attention,
    attention_norm: LayerNorm,
    ffn: FeedForward,
    ffn_norm: LayerNorm,
}

/// The encoder's layers.
pub(crate) struct Encoder {
    shape: Shape,
    layers: Vec<EncoderLayer>,
    last_norm: Option<LayerNorm>,
}

impl Encoder {
    pub(super) fn load(w: &Weights, s: &Shape) -> Result<Self> {
        let layer = |i| {
            let w = w.at("layers").at(i);
            Ok(EncoderLayer {
                attention: Attention::load(&w.at("self_attn"), s)?,
                attention_norm: LayerNorm::load(&w.at("self_attn_layer_norm"), s.width, EPS)?,
                ffn: FeedForward::load(&w, s)?,
                ffn_norm: LayerNorm::load(&w.at("final_layer_norm"), s.width, EPS)?,
            })
        };
        Ok(Self {
            shape: s.clone(),
            layers: (0..s.layers).map(layer).collect::<Result<_>>()?,
            last_norm: s.norm_first.then(|| LayerNorm::load(&w.at("layer_norm"), s.width, EPS)).transpose()?,
        })
    }

    pub(super) fn forward(&self, ctx: &Ctx<'_>, x: &Act, lengths: Option<&[usize]>) -> Result<Act> {
        let mask = lengths.map(|lengths| hidden_keys(lengths, x.shape()?.1)).transpose()?;
        let mask = mask.as_ref();
        let (rows, time, _) = x.shape()?;
        let _held = ctx.take(Use::Workspace, self.shape.peak(rows * time, time))?;
        let mut x = x.0.clone();
        for l in &self.layers {
            ctx.check()?;
            x = residual(&x, &l.attention_norm, self.shape.norm_first, |x| l.attention.over(x, &l.attention.kv(ctx, x)?, mask))?;
            // Half a layer over a window of half a minute takes long enough.
            ctx.check()?;
            x = residual(&x, &l.ffn_norm, self.shape.norm_first, |x| l.ffn.apply(x))?;
        }
        Ok(Act(match &self.last_norm {
            Some(norm) => norm.apply(&x)?,
            None => x,
        }))
    }
}

struct DecoderLayer {
    attention: Attention,
    attention_norm: LayerNorm,
    cross: Attention,
    cross_norm: LayerNorm,
    ffn: FeedForward,
    ffn_norm: LayerNorm,
}

/// A decoder from tokens to logits over the vocabulary.
pub(crate) struct Decoder {
    shape: Shape,
    embedding: Embedding,
    positions: Embedding,
    layers: Vec<DecoderLayer>,
    last_norm: Option<LayerNorm>,
    logits: Linear,
}

impl Decoder {
    pub(super) fn load(
        w: &Weights,
        s: &Shape,
        embedding: Embedding,
        positions: Embedding,
        (head, bias): (&Embedding, Option<Vec<f32>>),
    ) -> Result<Self> {
        let layer = |i| {
            let w = w.at("layers").at(i);
            let norm = |name| LayerNorm::load(&w.at(name), s.width, EPS);
            Ok(DecoderLayer {
                attention: Attention::load(&w.at("self_attn"), s)?,
                attention_norm: norm("self_attn_layer_norm")?,
                cross: Attention::load(&w.at("encoder_attn"), s)?,
                cross_norm: norm("encoder_attn_layer_norm")?,
                ffn: FeedForward::load(&w, s)?,
                ffn_norm: norm("final_layer_norm")?,
            })
        };
        Ok(Self {
            shape: s.clone(),
            embedding,
            positions,
            layers: (0..s.layers).map(layer).collect::<Result<_>>()?,
            last_norm: s.norm_first.then(|| LayerNorm::load(&w.at("layer_norm"), s.width, EPS)).transpose()?,
            logits: Linear::tied(head, bias)?,
        })
    }

    pub(super) fn row_bytes(&self, time: usize) -> usize {
        2 * size_of::<f32>() * self.layers.len() * time * self.shape.width
    }

    pub(super) fn start(&self, ctx: &Ctx<'_>, encoded: &Act, lengths: Option<&[usize]>) -> Result<Session<'_>> {
        let rows = encoded.0.dim(0)?;
        let mut cross = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            ctx.check()?;
            cross.push(layer.cross.kv(ctx, &encoded.0)?);
        }
        let mask = lengths.map(|lengths| hidden_keys(lengths, encoded.shape()?.1)).transpose()?;
        let cross = Cross { kv: cross, mask };
        Ok(Session { decoder: self, rows_cross: cross.clone(), cross, row: (0..rows).collect(), past: Vec::new(), len: 0 })
    }
}

#[derive(Clone)]
struct Cross {
    kv: Vec<Kv>,
    mask: Option<Tensor>,
}

impl Cross {
    fn select(&self, rows: &Tensor) -> Result<Self> {
        let kv = self.kv.iter().map(|kv| kv.select(rows)).collect::<Result<_>>()?;
        Ok(Self { kv, mask: self.mask.as_ref().map(|m| m.index_select(rows, 0)).transpose()? })
    }
}

/// Decoding in progress: the KV caches of one request.
pub(crate) struct Session<'a> {
    decoder: &'a Decoder,
    /// Cross-attention per row of the encoder's output, and per row that is being decoded.
    cross: Cross,
    rows_cross: Cross,
    /// The encoder's row that each decoded row attends to.
    row: Vec<usize>,
    /// Self-attention, with room to grow: only the first `len` positions count.
    past: Vec<Kv>,
    len: usize,
}

impl Session<'_> {
    pub(super) fn restart(&mut self, rows: &[usize]) -> Result<()> {
        if rows != self.row {
            self.rows_cross = self.cross.select(&index(rows)?)?;
            self.row = rows.to_vec();
        }
        self.past.clear();
        self.len = 0;
        Ok(())
    }

    /// The decoder's output for `tokens` behind what it has seen, all rows equally long.
    fn hidden(&mut self, ctx: &Ctx<'_>, tokens: &[impl AsRef<[u32]>]) -> Result<Tensor> {
        let d = self.decoder;
        let x = d.positions.add_positions(&d.embedding.lookup(tokens)?, self.len)?;
        let (rows, width, _) = x.shape()?;
        debug_assert_eq!(rows, self.row.len());
        let sees = self.cross.kv.first().map_or(Ok(0), |kv| kv.k.dim(2))?.max(self.len + width);
        let _held = ctx.take(Use::Workspace, d.shape.peak(rows * width, sees))?;
        let mask = causal_mask(self.len, width)?;
        let mut x = x.0;
        for (i, l) in d.layers.iter().enumerate() {
            ctx.check()?;
            x = residual(&x, &l.attention_norm, d.shape.norm_first, |x| {
                let kv = remember(&mut self.past, i, self.len, l.attention.kv(ctx, x)?)?;
                l.attention.over(x, &kv, mask.as_ref())
            })?;
            x = residual(&x, &l.cross_norm, d.shape.norm_first, |x| {
                l.cross.over(x, &self.rows_cross.kv[i], self.rows_cross.mask.as_ref())
            })?;
            x = residual(&x, &l.ffn_norm, d.shape.norm_first, |x| l.ffn.apply(x))?;
        }
        self.len += width;
        match &d.last_norm {
            Some(norm) => norm.apply(&x),
            None => Ok(x),
        }
    }

    /// Logits of every position of `tokens`, `[rows, time, vocabulary]`.
    #[cfg(test)]
    pub(super) fn all_logits(&mut self, ctx: &Ctx<'_>, tokens: &[Vec<u32>]) -> Result<Act> {
        Ok(Act(self.decoder.logits.apply(&self.hidden(ctx, tokens)?)?))
    }

    pub(super) fn step(&mut self, ctx: &Ctx<'_>, tokens: &[Vec<u32>], logits: &mut Vec<f32>) -> Result<()> {
        let x = self.hidden(ctx, tokens)?;
        let last = x.narrow(1, x.dim(1)? - 1, 1)?.contiguous()?;
        let _held = ctx.take(Use::Workspace, tokens.len() * self.decoder.logits.outputs()?)?;
        with_values(&self.decoder.logits.apply(&last)?, |all| {
            logits.clear();
            logits.extend_from_slice(all);
        })
    }

    pub(super) fn select(&mut self, rows: &[usize]) -> Result<()> {
        if rows.iter().copied().eq(0..self.row.len()) {
            return Ok(());
        }
        let pick = index(rows)?;
        for kv in &mut self.past {
            *kv = kv.select(&pick)?;
        }
        let row: Vec<usize> = rows.iter().map(|r| self.row[*r]).collect();
        // Beams of one sentence trade places all the time; what they attend to changes only when a sentence ends.
        if row != self.row {
            self.rows_cross = self.cross.select(&index(&row)?)?;
            self.row = row;
        }
        Ok(())
    }
}

/// What is added to the scores of rows so long: the padding behind them is not seen.
fn hidden_keys(lengths: &[usize], width: usize) -> Result<Tensor> {
    let values: Vec<f32> = lengths.iter().flat_map(|l| (0..width).map(|i| if i < *l { 0.0 } else { f32::MIN })).collect();
    Ok(Tensor::from_vec(values, (lengths.len(), 1, 1, width), &Device::Cpu)?)
}

fn index(rows: &[usize]) -> Result<Tensor> {
    Ok(Tensor::from_vec(rows.iter().map(|r| *r as u32).collect::<Vec<_>>(), rows.len(), &Device::Cpu)?)
}

/// Writes `new` behind the first `len` positions of layer `i`'s cache and returns all of them. The cache doubles when full.
fn remember(past: &mut Vec<Kv>, i: usize, len: usize, new: Kv) -> Result<Kv> {
    let (rows, heads, width, head) = new.k.dims4()?;
    let room = past.get(i).map(|kv| kv.k.dim(2)).transpose()?.unwrap_or(0);
    if room < len + width {
        let room = (2 * room).max(len + width).max(32);
        let held = Arc::new(new.held.beside(8 * (rows * heads * room * head) as u64)?);
        let grow = |old: Option<&Tensor>| -> Result<Tensor> {
            let fresh = Tensor::zeros((rows, heads, room, head), DType::F32, &Device::Cpu)?;
            if let Some(old) = old {
                fresh.slice_set(old, 2, 0)?;
            }
            Ok(fresh)
        };
        let old = past.get(i);
        let grown = Kv { k: grow(old.map(|kv| &kv.k))?, v: grow(old.map(|kv| &kv.v))?, held };
        if i < past.len() { past[i] = grown } else { past.push(grown) }
    }
    let kv = &past[i];
    kv.k.slice_set(&new.k, 2, len)?;
    kv.v.slice_set(&new.v, 2, len)?;
    Ok(Kv { k: kv.k.narrow(2, 0, len + width)?, v: kv.v.narrow(2, 0, len + width)?, held: kv.held.clone() })
}

/// Hides the future from each of `width` new positions behind `past` old ones.
fn causal_mask(past: usize, width: usize) -> Result<Option<Tensor>> {
    if width == 1 {
        return Ok(None);
    }
    let values: Vec<f32> =
        (0..width).flat_map(|i| (0..past + width).map(move |j| if j > past + i { f32::MIN } else { 0.0 })).collect();
    Ok(Some(Tensor::from_vec(values, (1, 1, width, past + width), &Device::Cpu)?))
}
