//! The processor's kernels on sizes and numbers that a benchmark gives.

use crate::error::{Error, Result};
use crate::nn::cpu::{
    Act, Conv, ConvToOne, ConvTranspose, Cpu, End, Format, Isa, KvCache, LayerNorm, Packed, Queries, Rows, Seen, Shape, Tile,
    peak,
};

/// The instruction sets that this processor has, the slowest first.
pub fn instruction_sets() -> Vec<&'static str> {
    Isa::all().iter().map(Isa::name).collect()
}

/// How numbers are held while they are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// As they are.
    F32,
    /// Rounded.
    Bf16,
    /// Scaled and rounded.
    Int8,
}

impl Numbers {
    fn format(self) -> Format {
        match self {
            Self::F32 => Format::F32,
            Self::Bf16 => Format::Bf16,
            Self::Int8 => Format::Int8,
        }
    }
}

/// Threads, memory and an instruction set.
pub struct Kernels {
    cpu: Cpu,
    isa: Isa,
}

/// A kernel with its weights and all that it works on.
pub struct Work<'a>(Box<dyn FnMut() + 'a>);

impl Work<'_> {
    /// Does it once.
    pub fn run(&mut self) {
        (self.0)();
    }
}

impl Kernels {
    /// On an instruction set, with at most so many threads, 0 for all.
    ///
    /// # Errors
    /// `InvalidArgument` for a set that the processor does not have.
    pub fn new(set: &str, threads: usize) -> Result<Self> {
        let found = Isa::all().into_iter().find(|isa| isa.name() == set);
        let isa = found.ok_or_else(|| Error::argument(format!("this processor has no {set}")))?;
        Ok(Self { cpu: Cpu::new(threads), isa })
    }

    /// The threads that it has.
    pub fn threads(&self) -> usize {
        self.cpu.team.threads()
    }

    /// Bytes of scratch memory that it holds.
    pub fn scratch(&self) -> usize {
        self.cpu.arena.bytes()
    }

    /// Rows of `x`, `[rows, inputs]`, by weights `[outputs, inputs]`, with bias and, if asked, GELU and the residual sum. Also
    /// gives the bytes of the weights.
    pub fn linear<'a>(
        &'a self,
        numbers: Numbers,
        x: &'a [f32],
        weights: &[f32],
        inputs: usize,
        fused: bool,
    ) -> (Work<'a>, usize) {
        let outputs = weights.len() / inputs;
        let bias = vec![0.5; outputs];
        let packed = Packed::linear(&self.cpu, self.isa, numbers.format(), weights, Some(&bias), (outputs, inputs));
        let mut out = vec![0.0; x.len() / inputs * outputs];
        let end = if fused { End { act: Act::Gelu, add: true } } else { End::default() };
        let bytes = packed.bytes();
        let work = move || packed.forward(&self.cpu, Rows::dense(x, inputs), Tile::dense(&mut out, outputs), end);
        (Work(Box::new(work)), bytes)
    }

    /// Queries, keys and values, all `[rows, heads * head]`. Also gives the packing of keys and values.
    pub fn attention<'a>(
        &'a self,
        numbers: Numbers,
        (q, k, v): (&'a [f32], &'a [f32], &'a [f32]),
        (heads, head): (usize, usize),
    ) -> (Work<'a>, Work<'a>) {
        let channels = heads * head;
        let (keys, values) = (Rows::dense(k, channels), Rows::dense(v, channels));
        let new = || KvCache::new(self.isa, numbers.format(), (1, heads, head), keys.len());
        let (mut cache, mut other) = (new(), new());
        cache.fill(&self.cpu, 0, keys, values);
        let mut out = vec![0.0; q.len()];
        let queries = [Queries { rows: q.len() / channels, sequence: 0, seen: Seen::First(keys.len()) }];
        let attend = move || cache.attend(&self.cpu, Rows::dense(q, channels), &queries, Tile::dense(&mut out, channels));
        (Work(Box::new(attend)), Work(Box::new(move || other.fill(&self.cpu, 0, keys, values))))
    }

    /// A decoder's step: `beams` rows that go on by a table over `steps` steps of `heads` heads.
    pub fn step<'a>(&'a self, numbers: Numbers, q: &'a [f32], (heads, head): (usize, usize), steps: usize) -> Work<'a> {
        let channels = heads * head;
        let beams = q.len() / channels;
        let mut cache = KvCache::new(self.isa, numbers.format(), (1, heads, head), steps * beams);
        for t in 0..steps * beams {
            cache.write(0, t, &q[..channels], &q[..channels]);
        }
        let table: Vec<u8> = (0..beams * steps).map(|i| (i * 7 % 5 % beams) as u8).collect();
        let mut out = vec![0.0; q.len()];
        Work(Box::new(move || {
            let queries = [Queries { rows: beams, sequence: 0, seen: Seen::Path { table: &table, beams } }];
            cache.attend(&self.cpu, Rows::dense(q, channels), &queries, Tile::dense(&mut out, channels));
        }))
    }

    /// A convolution of `x`, `[time, channels]`, by weights `[outputs, channels, taps]`, with a stride and a dilation, behind a leaky
    /// ReLU.
    pub fn conv<'a>(
        &'a self,
        numbers: Numbers,
        x: &'a [f32],
        weights: &[f32],
        (channels, taps): (usize, usize),
        step: (usize, usize),
    ) -> Work<'a> {
        let outputs = weights.len() / (channels * taps);
        let shape = Shape { outputs, channels, taps };
        let conv = Conv::new(self.isa, numbers.format(), shape, weights, None, step);
        let mut out = vec![0.0; conv.steps(x.len() / channels) * outputs];
        Work(Box::new(move || {
            let out = Tile::dense(&mut out, outputs);
            conv.forward(&self.cpu, Rows::dense(x, channels), Act::Leaky(0.1), out, End::default());
        }))
    }

    /// A convolution of `x`, `[time, channels]`, to one channel, by weights `[channels, taps]`, behind a leaky ReLU.
    pub fn conv_to_one<'a>(&'a self, x: &'a [f32], weights: &[f32], channels: usize) -> Work<'a> {
        let conv = ConvToOne::new(self.isa, (channels, weights.len() / channels), weights, 0.0);
        let mut out = vec![0.0; x.len() / channels];
        Work(Box::new(move || {
            conv.forward_from(&self.cpu, Rows::dense(x, channels), 0, Act::Leaky(0.1), &mut out, Act::Tanh);
        }))
    }

    /// A transposed convolution of `x`, `[time, channels]`, to half as many channels, by weights `[channels, channels / 2, taps]`.
    pub fn conv_transpose<'a>(
        &'a self,
        numbers: Numbers,
        x: &'a [f32],
        weights: &[f32],
        channels: usize,
        stride: usize,
    ) -> Work<'a> {
        let outputs = channels / 2;
        let shape = Shape { outputs, channels, taps: weights.len() / (channels * outputs) };
        let conv = ConvTranspose::new(self.isa, numbers.format(), shape, weights, &vec![0.0; outputs], stride);
        let mut out = vec![0.0; x.len() / channels * stride * outputs];
        Work(Box::new(move || conv.forward(&self.cpu, Rows::dense(x, channels), Act::Leaky(0.1), &mut out)))
    }

    /// Layer norm of rows of `x`.
    pub fn norm<'a>(&'a self, x: &'a [f32], channels: usize) -> Work<'a> {
        let norm = LayerNorm::new(self.isa, vec![1.0; channels], vec![0.0; channels], 1e-5);
        let mut out = vec![0.0; x.len()];
        Work(Box::new(move || norm.forward(&self.cpu, Rows::dense(x, channels), Tile::dense(&mut out, channels))))
    }

    /// The largest of a row of logits, and the logarithm of their exponentials' sum.
    pub fn peak<'a>(&'a self, logits: &'a [f32]) -> Work<'a> {
        Work(Box::new(move || {
            std::hint::black_box(peak(self.isa, logits));
        }))
    }
}
