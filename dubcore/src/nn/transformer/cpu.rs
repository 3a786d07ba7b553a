//! The transformer on the processor's kernels.
//!
//! Queries, keys and values of a self-attention are one product; biases, activations and residual sums are done where their
//! product is. A request has threads and scratch memory of its own ([`Cpu`]) and, while it decodes, caches with room to grow.

use super::{EPS, Shape};
use crate::device::{Held, Use};
use crate::error::{Error, Result};
use crate::nn::cpu::{Act as Fused, Cpu, End, Format, Isa, KvCache, LayerNorm, Packed, Queries, Rows, Seen, Tile, UNSEEN};
use crate::nn::layers::Embedding;
use crate::nn::weights::{Matrix, Weights};
use crate::nn::{Act, Ctx, with_values};
use crate::team::Team;

const SET: End = End { act: Fused::None, add: false };
const ADD: End = End { act: Fused::None, add: true };

/// The shape of a cache of so many sequences.
fn of_cache(shape: &Shape, sequences: usize) -> (usize, usize, usize) {
    (sequences, shape.heads, shape.width / shape.heads)
}

/// The weight and the bias of a linear layer.
type Plain<'a> = (Matrix<'a>, Option<Vec<f32>>);

/// Reads layers into packed weights.
struct Reader<'a> {
    isa: Isa,
    format: Format,
    shape: &'a Shape,
}

impl Reader<'_> {
    fn linear<'w>(&self, w: &'w Weights, outputs: usize, inputs: usize, bias: bool) -> Result<Plain<'w>> {
        let bias = if bias { Some(w.values("bias", &[outputs])?) } else { None };
        Ok((w.matrix("weight", (outputs, inputs))?, bias))
    }

    /// Several linear layers of one input as one.
    fn pack(&self, w: &Weights, parts: Vec<Plain<'_>>) -> Result<Packed> {
        let (weights, biases): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let of_part = weights.iter().zip(biases);
        let biases: Vec<f32> = of_part.flat_map(|(w, b)| b.unwrap_or_else(|| vec![0.0; w.rows()])).collect();
        w.pack((self.isa, self.format), &weights, Some(&biases))
    }

    /// A projection of an attention. That of queries includes the scale of the scores.
    fn project<'w>(&self, w: &'w Weights, name: &str) -> Result<Plain<'w>> {
        let width = self.shape.width;
        let (weight, mut bias) = self.linear(w, width, width, name != "k_proj" || self.shape.key_bias)?;
        if name != "q_proj" {
            return Ok((weight, bias));
        }
        let scale = ((width / self.shape.heads) as f32).powf(-0.5);
        bias.iter_mut().flatten().for_each(|v| *v *= scale);
        Ok((weight.times(scale), bias))
    }

    fn projections(&self, w: &Weights, names: &[&str]) -> Result<Packed> {
        let of_name: Vec<Weights> = names.iter().map(|name| w.at(name)).collect();
        let parts = of_name.iter().zip(names).map(|(w, name)| self.project(w, name)).collect::<Result<_>>()?;
        self.pack(w, parts)
    }

    fn norm(&self, w: &Weights) -> Result<LayerNorm> {
        let width = self.shape.width;
        Ok(LayerNorm::new(self.isa, w.values("weight", &[width])?, w.values("bias", &[width])?, EPS as f32))
    }

    fn last_norm(&self, w: &Weights) -> Result<Option<LayerNorm>> {
        self.shape.norm_first.then(|| self.norm(&w.at("layer_norm"))).transpose()
    }

    fn attention(&self, w: &Weights) -> Result<Attention> {
        let qkv = self.projections(&w.at("self_attn"), &["q_proj", "k_proj", "v_proj"])?;
        let out = self.projections(&w.at("self_attn"), &["out_proj"])?;
        Ok(Attention { norm: self.norm(&w.at("self_attn_layer_norm"))?, qkv, out })
    }

    fn feed_forward(&self, w: &Weights) -> Result<FeedForward> {
        let (width, ffn) = (self.shape.width, self.shape.ffn);
        let up = self.pack(w, vec![self.linear(&w.at("fc1"), ffn, width, true)?])?;
        let down = self.pack(w, vec![self.linear(&w.at("fc2"), width, ffn, true)?])?;
        Ok(FeedForward { norm: self.norm(&w.at("final_layer_norm"))?, up, down })
    }
}

struct Attention {
    norm: LayerNorm,
    qkv: Packed,
    out: Packed,
}

/// Attention over the encoder's output.
struct Cross {
    norm: LayerNorm,
    q: Packed,
    kv: Packed,
    out: Packed,
}

struct FeedForward {
    norm: LayerNorm,
    up: Packed,
    down: Packed,
}

/// Activations of a request: `[rows, width]`, and what a block makes of them.
struct Stream<'a> {
    cpu: &'a Cpu,
    shape: &'a Shape,
    x: Vec<f32>,
}

impl Stream<'_> {
    /// Adds what `block` makes of the activations, normalised before or after: `block` adds to its second argument.
    fn residual(&mut self, norm: &LayerNorm, block: impl FnOnce(&Cpu, Rows<'_>, Tile<'_>) -> Result<()>) -> Result<()> {
        let (cpu, width) = (self.cpu, self.shape.width);
        let mut other = cpu.arena.lend::<f32>(self.x.len());
        if self.shape.norm_first {
            norm.forward(cpu, Rows::dense(&self.x, width), Tile::dense(&mut other, width));
            return block(cpu, Rows::dense(&other, width), Tile::dense(&mut self.x, width));
        }
        other.copy_from_slice(&self.x);
        block(cpu, Rows::dense(&self.x, width), Tile::dense(&mut other, width))?;
        norm.forward(cpu, Rows::dense(&other, width), Tile::dense(&mut self.x, width));
        Ok(())
    }

    fn feed_forward(&mut self, l: &FeedForward) -> Result<()> {
        let (ffn, act) = (self.shape.ffn, self.shape.activation.fused());
        self.residual(&l.norm, |cpu, x, out| {
            let mut wide = cpu.arena.lend::<f32>(x.len() * ffn);
            l.up.forward(cpu, x, Tile::dense(&mut wide, ffn), End { act, add: false });
            l.down.forward(cpu, Rows::dense(&wide, ffn), out, ADD);
            Ok(())
        })
    }

    fn normalise(&mut self, norm: &LayerNorm) {
        let width = self.shape.width;
        let mut other = self.cpu.arena.lend::<f32>(self.x.len());
        other.copy_from_slice(&self.x);
        norm.forward(self.cpu, Rows::dense(&other, width), Tile::dense(&mut self.x, width));
    }
}

pub(crate) struct Encoder {
    isa: Isa,
    /// Of keys and values.
    format: Format,
    shape: Shape,
    layers: Vec<(Attention, FeedForward)>,
    last_norm: Option<LayerNorm>,
}

impl Encoder {
    pub(super) fn load(isa: Isa, format: Format, w: &Weights, shape: &Shape) -> Result<Self> {
        let reader = Reader { isa, format, shape };
        let layer = |i| {
            let w = w.at("layers").at(i);
            Ok((reader.attention(&w)?, reader.feed_forward(&w)?))
        };
        let layers = (0..shape.layers).map(layer).collect::<Result<_>>()?;
        // Each key meets all rows of a window, not one as in a decoder: what counts is the arithmetic, not the memory.
        let format = if isa.is_faster_in_bf16() { format } else { Format::F32 };
        Ok(Self { isa, format, shape: shape.clone(), layers, last_norm: reader.last_norm(w)? })
    }

    pub(super) fn forward(&self, ctx: &Ctx<'_>, x: &Act, lengths: Option<&[usize]>) -> Result<Act> {
        let (rows, time, width) = x.shape()?;
        let of_cache = of_cache(&self.shape, rows);
        let cached = KvCache::floats(self.isa, self.format, of_cache, time);
        let _held = ctx.take(Use::Workspace, self.shape.peak(rows * time, 0) + 3 * rows * time * width + cached)?;
        let mut cpu = Cpu::new(0);
        let mut cache = KvCache::new(self.isa, self.format, of_cache, time);
        let seen = |i: usize| Seen::First(lengths.map_or(time, |l| l[i]));
        let queries: Vec<_> = (0..rows).map(|i| Queries { rows: time, sequence: i, seen: seen(i) }).collect();
        let mut values = x.values()?;
        for (attention, ffn) in &self.layers {
            ctx.check()?;
            cpu.team.refresh();
            let mut stream = Stream { cpu: &cpu, shape: &self.shape, x: values };
            stream.residual(&attention.norm, |cpu, x, out| {
                let mut qkv = cpu.arena.lend::<f32>(x.len() * 3 * width);
                attention.qkv.forward(cpu, x, Tile::dense(&mut qkv, 3 * width), SET);
                for (i, of_row) in qkv.chunks_exact(time * 3 * width).enumerate() {
                    let part = |n: usize| Rows::new(&of_row[n * width..], time, width, 3 * width);
                    cache.fill(cpu, i, part(1), part(2));
                }
                let mut mixed = cpu.arena.lend::<f32>(x.len() * width);
                cache.attend(cpu, Rows::new(&qkv, x.len(), width, 3 * width), &queries, Tile::dense(&mut mixed, width));
                // Half a layer over a window of half a minute takes long enough.
                ctx.check()?;
                attention.out.forward(cpu, Rows::dense(&mixed, width), out, ADD);
                Ok(())
            })?;
            ctx.check()?;
            stream.feed_forward(ffn)?;
            values = stream.x;
        }
        let mut stream = Stream { cpu: &cpu, shape: &self.shape, x: values };
        if let Some(norm) = &self.last_norm {
            stream.normalise(norm);
        }
        Act::new(stream.x, (rows, time, width))
    }
}

struct DecoderLayer {
    attention: Attention,
    cross: Cross,
    ffn: FeedForward,
}

pub(crate) struct Decoder {
    isa: Isa,
    format: Format,
    shape: Shape,
    embedding: Embedding,
    positions: Embedding,
    layers: Vec<DecoderLayer>,
    last_norm: Option<LayerNorm>,
    logits: Packed,
}

impl Decoder {
    pub(super) fn load(
        (isa, format): (Isa, Format),
        w: &Weights,
        shape: &Shape,
        embedding: Embedding,
        positions: Embedding,
        (head, bias): (&Embedding, Option<Vec<f32>>),
    ) -> Result<Self> {
        let reader = Reader { isa, format, shape };
        let layer = |i| {
            let w = w.at("layers").at(i);
            let cross = w.at("encoder_attn");
            Ok(DecoderLayer {
                attention: reader.attention(&w)?,
                cross: Cross {
                    norm: reader.norm(&w.at("encoder_attn_layer_norm"))?,
                    q: reader.projections(&cross, &["q_proj"])?,
                    kv: reader.projections(&cross, &["k_proj", "v_proj"])?,
                    out: reader.projections(&cross, &["out_proj"])?,
                },
                ffn: reader.feed_forward(&w)?,
            })
        };
        let table = head.packed()?;
        Ok(Self {
            isa,
            format,
            shape: shape.clone(),
            embedding,
            positions,
            layers: (0..shape.layers).map(layer).collect::<Result<_>>()?,
            last_norm: reader.last_norm(w)?,
            logits: bias.map_or_else(|| table.clone(), |bias| table.with_bias(&bias)),
        })
    }

    pub(super) fn row_bytes(&self, time: usize) -> usize {
        size_of::<f32>() * self.layers.len() * KvCache::floats(self.isa, self.format, of_cache(&self.shape, 1), time)
    }

    pub(super) fn start(&self, ctx: &Ctx<'_>, encoded: &Act, lengths: Option<&[usize]>) -> Result<Session<'_>> {
        let (rows, time, width) = encoded.shape()?;
        let shape = of_cache(&self.shape, rows);
        let floats = KvCache::floats(self.isa, self.format, shape, time);
        let held = ctx.take(Use::Cache, self.layers.len() * floats)?;
        let _work = ctx.take(Use::Workspace, 2 * time * width)?;
        let cpu = Cpu::new(0);
        let cross = with_values(&encoded.0, |x| {
            let mut cross = Vec::with_capacity(self.layers.len());
            for layer in &self.layers {
                ctx.check()?;
                let mut kv = cpu.arena.lend::<f32>(2 * time * width);
                let mut cache = KvCache::new(self.isa, self.format, shape, time);
                for (i, x) in x.chunks_exact((time * width).max(1)).enumerate() {
                    layer.cross.kv.forward(&cpu, Rows::dense(x, width), Tile::dense(&mut kv, 2 * width), SET);
                    let part = |n: usize| Rows::new(&kv[n * width..], time, width, 2 * width);
                    cache.fill(&cpu, i, part(0), part(1));
                }
                cross.push(cache);
            }
            Ok::<_, Error>(cross)
        })??;
        let lengths = lengths.map_or_else(|| vec![time; rows], <[usize]>::to_vec);
        let mut session = Session {
            decoder: self,
            cpu,
            cross,
            lengths,
            past: Past { layers: Vec::new(), steps: 0, beams: 0, _held: None },
            len: 0,
            rows: Vec::new(),
            paths: Vec::new(),
            x: Vec::new(),
            _held: held,
        };
        session.restart(&(0..rows).collect::<Vec<_>>())?;
        Ok(session)
    }
}

/// Decoding in progress.
pub(crate) struct Session<'a> {
    decoder: &'a Decoder,
    cpu: Cpu,
    /// By layer.
    cross: Vec<KvCache>,
    /// Of each row of the encoder's output, what is not padding.
    lengths: Vec<usize>,
    past: Past,
    /// Steps that were taken.
    len: usize,
    rows: Vec<Row>,
    /// By row, for each step that was taken the beam whose key it goes on from.
    paths: Vec<Vec<u8>>,
    /// What the last step made of each row, as long as nothing follows.
    x: Vec<f32>,
    _held: Held,
}

/// A row that is being decoded.
#[derive(Clone, Copy, PartialEq)]
struct Row {
    /// The encoder's row that it attends to: its sequence in the caches.
    sequence: usize,
    /// Its place among the rows of that sequence.
    beam: usize,
}

/// Keys and values of self-attention, of each sequence `[steps, beams]`.
struct Past {
    layers: Vec<KvCache>,
    steps: usize,
    beams: usize,
    _held: Option<Held>,
}

impl Past {
    /// Makes room for `steps` of `beams`, of which `len` have been taken.
    fn grow(&mut self, ctx: &Ctx<'_>, d: &Decoder, sequences: usize, len: usize, (steps, beams): (usize, usize)) -> Result<()> {
        if steps <= self.steps && beams <= self.beams {
            return Ok(());
        }
        let room = if steps > self.steps { (2 * self.steps).max(steps).max(32) } else { self.steps };
        let (beams, old) = (beams.max(self.beams), self.beams);
        let shape = of_cache(&d.shape, sequences);
        let floats = KvCache::floats(d.isa, d.format, shape, room * beams);
        let held = ctx.take(Use::Cache, d.layers.len() * floats)?;
        let fresh = || KvCache::new(d.isa, d.format, shape, room * beams);
        let mut layers: Vec<KvCache> = d.layers.iter().map(|_| fresh()).collect();
        for (from, to) in self.layers.iter().zip(&mut layers) {
            from.copy(len * old, to, |t| t / old * beams + t % old);
        }
        *self = Self { layers, steps: room, beams, _held: Some(held) };
        Ok(())
    }
}

impl Session<'_> {
    pub(super) fn restart(&mut self, rows: &[usize]) -> Result<()> {
        self.place(rows.iter().copied());
        self.paths.clear();
        self.paths.resize(rows.len(), Vec::new());
        self.len = 0;
        Ok(())
    }

    /// Gives each row its place among those of its sequence.
    fn place(&mut self, sequences: impl Iterator<Item = usize>) {
        let mut count = vec![0; self.lengths.len()];
        let row = |sequence: usize| {
            count[sequence] += 1;
            Row { sequence, beam: count[sequence] - 1 }
        };
        self.rows = sequences.map(row).collect();
    }

    pub(super) fn select(&mut self, rows: &[usize]) -> Result<()> {
        if rows.iter().copied().eq(0..self.rows.len()) {
            return Ok(());
        }
        self.paths = rows.iter().map(|r| self.paths[*r].clone()).collect();
        let sequences: Vec<usize> = rows.iter().map(|r| self.rows[*r].sequence).collect();
        self.place(sequences.into_iter());
        Ok(())
    }

    pub(super) fn team(&self) -> &Team {
        &self.cpu.team
    }

    /// Makes `x` the decoder's output for `tokens` behind what it has seen, all rows equally long: `[rows * time, width]`.
    fn hidden(&mut self, ctx: &Ctx<'_>, tokens: &[impl AsRef<[u32]>]) -> Result<()> {
        let d = self.decoder;
        let (count, time, width) = (tokens.len(), tokens.first().map_or(0, |t| t.as_ref().len()), d.shape.width);
        debug_assert_eq!(count, self.rows.len());
        let mut x = std::mem::take(&mut self.x);
        x.clear();
        x.resize(count * time * width, 0.0);
        d.embedding.lookup_into(tokens, &mut x)?;
        d.positions.add_positions_to(&mut x, time, self.len)?;
        let _held = ctx.take(Use::Workspace, d.shape.peak(count * time, 0) + 4 * count * time * width)?;
        let steps = self.len + time;
        let beams = self.rows.iter().map(|r| r.beam + 1).max().unwrap_or(0);
        self.past.grow(ctx, d, self.lengths.len(), self.len, (steps, beams))?;
        let beams = self.past.beams;
        // What each position of each row sees: the steps up to its own.
        let mut table = Vec::with_capacity(count * time * steps);
        for (path, row) in self.paths.iter_mut().zip(&self.rows) {
            path.resize(steps, row.beam as u8);
            for i in 0..time {
                table.extend(path.iter().enumerate().map(|(t, beam)| if t <= self.len + i { *beam } else { UNSEEN }));
            }
        }
        let groups: Vec<&[Row]> = self.rows.chunk_by(|a, b| a.sequence == b.sequence).collect();
        let mut rest = table.as_slice();
        let (mut own, mut cross) = (Vec::with_capacity(groups.len()), Vec::with_capacity(groups.len()));
        for group in groups {
            let (rows, sequence) = (group.len() * time, group[0].sequence);
            let (table, behind) = rest.split_at(rows * steps);
            rest = behind;
            own.push(Queries { rows, sequence, seen: Seen::Path { table, beams } });
            cross.push(Queries { rows, sequence, seen: Seen::First(self.lengths[sequence]) });
        }
        self.cpu.team.refresh();
        let mut stream = Stream { cpu: &self.cpu, shape: &d.shape, x };
        for (i, l) in d.layers.iter().enumerate() {
            ctx.check()?;
            let past = &mut self.past.layers[i];
            stream.residual(&l.attention.norm, |cpu, x, out| {
                let mut qkv = cpu.arena.lend::<f32>(x.len() * 3 * width);
                l.attention.qkv.forward(cpu, x, Tile::dense(&mut qkv, 3 * width), SET);
                for (j, of_row) in qkv.chunks_exact(3 * width).enumerate() {
                    let (row, at) = (self.rows[j / time], self.len + j % time);
                    past.write(row.sequence, at * beams + row.beam, &of_row[width..2 * width], &of_row[2 * width..]);
                }
                let mut mixed = cpu.arena.lend::<f32>(x.len() * width);
                past.attend(cpu, Rows::new(&qkv, x.len(), width, 3 * width), &own, Tile::dense(&mut mixed, width));
                l.attention.out.forward(cpu, Rows::dense(&mixed, width), out, ADD);
                Ok(())
            })?;
            stream.residual(&l.cross.norm, |cpu, x, out| {
                let (mut q, mut mixed) = (cpu.arena.lend::<f32>(x.len() * width), cpu.arena.lend::<f32>(x.len() * width));
                l.cross.q.forward(cpu, x, Tile::dense(&mut q, width), SET);
                self.cross[i].attend(cpu, Rows::dense(&q, width), &cross, Tile::dense(&mut mixed, width));
                l.cross.out.forward(cpu, Rows::dense(&mixed, width), out, ADD);
                Ok(())
            })?;
            stream.feed_forward(&l.ffn)?;
        }
        if let Some(norm) = &d.last_norm {
            stream.normalise(norm);
        }
        self.x = stream.x;
        self.len = steps;
        Ok(())
    }

    /// Logits of every position of `tokens`, `[rows, time, vocabulary]`.
    #[cfg(test)]
    pub(super) fn all_logits(&mut self, ctx: &Ctx<'_>, tokens: &[Vec<u32>]) -> Result<Act> {
        self.hidden(ctx, tokens)?;
        let (width, vocabulary) = (self.decoder.shape.width, self.decoder.logits.outputs());
        let mut logits = vec![0.0; self.x.len() / width * vocabulary];
        self.decoder.logits.forward(&self.cpu, Rows::dense(&self.x, width), Tile::dense(&mut logits, vocabulary), SET);
        Act::new(logits, (tokens.len(), tokens[0].len(), vocabulary))
    }

    pub(super) fn step(&mut self, ctx: &Ctx<'_>, tokens: &[Vec<u32>], logits: &mut Vec<f32>) -> Result<()> {
        self.hidden(ctx, tokens)?;
        let (width, vocabulary, rows) = (self.decoder.shape.width, self.decoder.logits.outputs(), tokens.len());
        let _held = ctx.take(Use::Workspace, rows * vocabulary)?;
        logits.resize(rows * vocabulary, 0.0);
        let of_row = self.x.len() / rows.max(1);
        // The last position of each row.
        let last = Rows::new(&self.x[of_row.saturating_sub(width)..], rows, width, of_row);
        self.decoder.logits.forward(&self.cpu, last, Tile::dense(logits, vocabulary), SET);
        Ok(())
    }
}
