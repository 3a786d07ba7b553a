//! The processor's kernels by themselves, on the shapes of whisper-base, opus-mt and MMS, beside what candle does for the
//! same. Each is timed in turns with the other and with the core's peak, so that all see the same machine.

use std::time::{Duration, Instant};

use anyhow::Result;
use candle_core::{Device, Tensor};
use dubcore::bench::kernels::{Kernels, Numbers, Work, instruction_sets};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::meter::{Meter, Row};
use crate::peak::Peak;

const NUMBERS: [Numbers; 3] = [Numbers::F32, Numbers::Bf16, Numbers::Int8];

/// Products, attention, convolutions, norms. Prints a row for each on the instruction set that the library would take, and
/// how near to the peak it comes on that and on each lesser one: a line of JSON behind the word `kernel`.
pub fn kernels() -> Result<()> {
    let mut bench = Bench { meter: Meter::new()?, sets: instruction_sets() };
    // Rows, inputs, outputs: an encoder's layer, a decoder's with one row and with a beam of four, the vocabulary.
    let shapes = [
        (1500, 512, 512),
        (1500, 512, 2048),
        (1500, 2048, 512),
        (4, 512, 2048),
        (1, 512, 512),
        (1, 512, 2048),
        (1, 2048, 512),
        (1, 512, 51_865),
    ];
    for shape in shapes {
        bench.linear(shape)?;
    }
    bench.attention("encoder, 30 s", 1500, 1500)?;
    bench.attention("decoder's step over 30 s", 1, 1500)?;
    bench.steps()?;
    // The residual blocks of HiFi-GAN for some 2.5 s of speech: time, channels, taps, dilation.
    for (time, channels, taps, dilation) in [(1_288, 256, 11, 5), (10_304, 128, 7, 3), (20_608, 64, 3, 1), (41_216, 32, 11, 5)] {
        bench.conv((time, channels, channels), taps, (1, dilation))?;
    }
    // Whisper's before its encoder, for 30 s.
    bench.conv((3_000, 80, 512), 3, (1, 1))?;
    bench.conv((3_000, 512, 512), 3, (2, 1))?;
    for shape in [(161, 512, 16, 8), (10_304, 128, 4, 2)] {
        bench.conv_transpose(shape)?;
    }
    bench.rows()
}

/// Calls `work` until it has what it has within a model, where the kernel before left threads awake and caches full: Linux may
/// wake a thread on the processor of the one that wakes it, and takes some milliseconds to move it to an idle one.
fn ready(mut work: impl FnMut()) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(20) {
        work();
    }
}

struct Bench {
    meter: Meter,
    sets: Vec<&'static str>,
}

/// What is measured: its name, its operations and the bytes of weights or of keys and values that it reads.
struct Case<'a> {
    name: String,
    ops: f64,
    bytes: f64,
    set: &'a str,
    numbers: Numbers,
}

impl Bench {
    /// Times `ours` and `theirs` in turns.
    fn case(&mut self, case: &Case<'_>, threads: usize, mut ours: Work<'_>, mut theirs: impl FnMut()) -> Result<()> {
        let best = self.sets.last() == Some(&case.set);
        let mut times = [Vec::new(), Vec::new()];
        let mut peak = 0f64;
        let mut turn = |rounds: u64| {
            ready(|| ours.run());
            let mut mine = Duration::ZERO;
            for _ in 0..rounds {
                let began = Instant::now();
                ours.run();
                mine += began.elapsed();
            }
            times[0].push(mine.as_secs_f64() / rounds as f64);
            ready(&mut theirs);
            let began = Instant::now();
            (0..rounds.min(20)).for_each(|_| theirs());
            times[1].push(began.elapsed().as_secs_f64() / rounds.min(20) as f64);
            peak = peak.max(of(Peak::measure(&self.sets), case.set, case.numbers));
            mine
        };
        if best {
            let name = format!("{}, {:?}", case.name, case.numbers);
            self.meter.rounds("kernels", &name, Row::new(1), &mut turn)?;
        } else {
            for rounds in [1, 2, 2, 2, 2, 2, 2, 2] {
                turn(rounds);
            }
        }
        let [ours, theirs] = times.map(median);
        let peak = (peak > 0.0).then(|| case.ops / ours / 1e9 / (peak * threads as f64));
        let printed = json!({
            "name": case.name, "numbers": format!("{:?}", case.numbers).to_lowercase(), "set": case.set,
            "rate": case.ops / ours / 1e9, "peak": peak, "memory": case.bytes / ours / 1e9, "ratio": theirs / ours,
        });
        println!("kernel {printed}");
        Ok(())
    }

    fn linear(&mut self, (rows, inputs, outputs): (usize, usize, usize)) -> Result<()> {
        let (x, w) = (noise(rows * inputs), noise(outputs * inputs));
        let tensor = |v: &[f32], s: (usize, usize)| Tensor::from_slice(v, s, &Device::Cpu);
        let (tx, tw) = (tensor(&x, (rows, inputs))?, tensor(&w, (outputs, inputs))?.t()?);
        for set in self.sets.clone() {
            if set == "scalar" && rows > 4 {
                continue;
            }
            let kernels = Kernels::new(set, 0)?;
            for numbers in NUMBERS {
                let (work, bytes) = kernels.linear(numbers, &x, &w, inputs, false);
                let (ops, name) = (2.0 * (rows * inputs * outputs) as f64, format!("{rows} x {inputs} x {outputs}"));
                let case = Case { name, ops, bytes: bytes as f64, set, numbers };
                self.case(&case, kernels.threads(), work, || drop(tx.matmul(&tw).expect("a product")))?;
            }
        }
        Ok(())
    }

    /// Eight heads of 64.
    fn attention(&mut self, name: &str, rows: usize, keys: usize) -> Result<()> {
        let (heads, head) = (8, 64);
        let channels = heads * head;
        let (q, k, v) = (noise(rows * channels), noise(keys * channels), noise(keys * channels));
        let tensor = |v: &[f32], n: usize| -> Result<Tensor> {
            Ok(Tensor::from_slice(v, (n, heads, head), &Device::Cpu)?.transpose(0, 1)?.contiguous()?)
        };
        let (tq, tk, tv) = (tensor(&q, rows)?, tensor(&k, keys)?.t()?, tensor(&v, keys)?);
        let theirs = || -> candle_core::Result<Tensor> { candle_nn::ops::softmax_last_dim(&tq.matmul(&tk)?)?.matmul(&tv) };
        for set in self.sets.clone() {
            if set == "scalar" {
                continue;
            }
            let kernels = Kernels::new(set, 0)?;
            for numbers in [Numbers::F32, Numbers::Bf16] {
                let (attend, mut fill) = kernels.attention(numbers, (&q, &k, &v), (heads, head));
                let bytes = (2 * keys * channels * if numbers == Numbers::F32 { 4 } else { 2 }) as f64;
                let ops = 4.0 * (rows * keys * channels) as f64;
                let case = Case { name: format!("attention, {name}"), ops, bytes, set, numbers };
                self.case(&case, kernels.threads(), attend, || drop(theirs().expect("attention")))?;
                let packed = median((0..5).map(|_| seconds(|| fill.run())).collect());
                println!("{name}, {numbers:?}, {set}: {:.2} ms to pack keys and values", packed * 1e3);
            }
        }
        Ok(())
    }

    /// Four beams behind 64 steps; candle copies the cache when they trade places.
    fn steps(&mut self) -> Result<()> {
        let (heads, head, beams, steps) = (8, 64, 4, 64);
        let channels = heads * head;
        let q = noise(beams * channels);
        let cache = Tensor::from_vec(noise(beams * steps * channels), (beams, heads, steps, head), &Device::Cpu)?;
        let tq = Tensor::from_slice(&q, (beams, heads, 1, head), &Device::Cpu)?;
        let order = Tensor::new(&[1u32, 0, 3, 2], &Device::Cpu)?;
        let theirs = || -> candle_core::Result<Tensor> {
            let (k, v) = (cache.index_select(&order, 0)?, cache.index_select(&order, 0)?);
            candle_nn::ops::softmax_last_dim(&tq.matmul(&k.t()?)?)?.matmul(&v)
        };
        for set in self.sets.clone() {
            let kernels = Kernels::new(set, 0)?;
            for numbers in [Numbers::F32, Numbers::Bf16] {
                let work = kernels.step(numbers, &q, (heads, head), steps);
                let ops = 4.0 * (beams * steps * channels) as f64;
                let name = "attention, 4 beams over 64 steps".to_string();
                let case = Case { name, ops, bytes: ops, set, numbers };
                self.case(&case, kernels.threads(), work, || drop(theirs().expect("attention")))?;
            }
        }
        Ok(())
    }

    fn conv(
        &mut self,
        (time, channels, outputs): (usize, usize, usize),
        taps: usize,
        (stride, dilation): (usize, usize),
    ) -> Result<()> {
        let (x, w) = (noise(time * channels), noise(outputs * channels * taps));
        let tx = Tensor::from_slice(&x, (1, time, channels), &Device::Cpu)?.transpose(1, 2)?.contiguous()?;
        let tw = Tensor::from_slice(&w, (outputs, channels, taps), &Device::Cpu)?;
        let theirs = || tx.conv1d(&tw, (taps - 1) * dilation / 2, stride, dilation, 1);
        for set in self.sets.clone() {
            if set == "scalar" {
                continue;
            }
            let kernels = Kernels::new(set, 0)?;
            for numbers in [Numbers::F32, Numbers::Bf16] {
                let work = kernels.conv(numbers, &x, &w, (channels, taps), (stride, dilation));
                let steps = time.div_ceil(stride);
                let ops = 2.0 * (steps * outputs * channels * taps) as f64;
                let name = format!("convolution of {time} x {channels} to {outputs}, {taps} taps, {stride} and {dilation} apart");
                let case = Case { name, ops, bytes: 4.0 * (time * channels + steps * outputs) as f64, set, numbers };
                self.case(&case, kernels.threads(), work, || drop(theirs().expect("a convolution")))?;
            }
        }
        Ok(())
    }

    fn conv_transpose(&mut self, (time, channels, taps, stride): (usize, usize, usize, usize)) -> Result<()> {
        let (x, w) = (noise(time * channels), noise(channels * channels / 2 * taps));
        let tx = Tensor::from_slice(&x, (1, time, channels), &Device::Cpu)?.transpose(1, 2)?.contiguous()?;
        let tw = Tensor::from_slice(&w, (channels, channels / 2, taps), &Device::Cpu)?;
        let theirs = || tx.conv_transpose1d(&tw, (taps - stride) / 2, 0, stride, 1, 1);
        for set in self.sets.clone() {
            if set == "scalar" {
                continue;
            }
            let kernels = Kernels::new(set, 0)?;
            for numbers in [Numbers::F32, Numbers::Bf16] {
                let work = kernels.conv_transpose(numbers, &x, &w, channels, stride);
                let ops = (time * channels * channels * taps) as f64;
                let name = format!("transposed convolution of {time} x {channels}, {taps} taps, stride {stride}");
                let case = Case { name, ops, bytes: 4.0 * (w.len() + x.len() * (1 + stride / 2)) as f64, set, numbers };
                self.case(&case, kernels.threads(), work, || drop(theirs().expect("a convolution")))?;
            }
        }
        Ok(())
    }

    /// What is as fast as memory: a row costs its bytes.
    fn rows(&mut self) -> Result<()> {
        let (rows, channels, vocabulary) = (1500, 512, 51_865);
        let (x, logits) = (noise(rows * channels), noise(vocabulary));
        let tx = Tensor::from_slice(&x, (rows, channels), &Device::Cpu)?;
        let (gain, bias) = (Tensor::ones_like(&tx.get(0)?)?, Tensor::zeros_like(&tx.get(0)?)?);
        let tl = Tensor::from_slice(&logits, vocabulary, &Device::Cpu)?;
        let set = self.sets[self.sets.len() - 1];
        let kernels = Kernels::new(set, 0)?;
        let case = |name: &str, values: usize| Case {
            name: name.to_string(),
            ops: values as f64,
            bytes: 4.0 * values as f64,
            set,
            numbers: Numbers::F32,
        };
        let (time, taps) = (65_536, 7);
        let (signal, w) = (noise(time * 32), noise(32 * taps));
        let ts = Tensor::from_slice(&signal, (1, time, 32), &Device::Cpu)?.transpose(1, 2)?.contiguous()?;
        let tw = Tensor::from_slice(&w, (1, 32, taps), &Device::Cpu)?;
        let last = case("convolution of 65536 x 32 to 1, 7 taps", 2 * time * 32 * taps);
        self.case(&last, kernels.threads(), kernels.conv_to_one(&signal, &w, 32), || {
            drop(ts.conv1d(&tw, taps / 2, 1, 1, 1).expect("a convolution"));
        })?;
        let norm = || candle_nn::ops::layer_norm(&tx, &gain, &bias, 1e-5);
        let threads = kernels.threads();
        self.case(&case("layer norm of 1500 x 512", 2 * x.len()), threads, kernels.norm(&x, channels), || {
            drop(norm().expect("rows"));
        })?;
        self.case(&case("peak of 51865 logits", vocabulary), 1, kernels.peak(&logits), || {
            drop((tl.argmax(0).expect("logits"), tl.log_sum_exp(0).expect("logits")));
        })
    }
}

/// One core's peak for what a set does with such numbers. Without an instruction for it, that of f32.
fn of(peak: Peak, set: &str, numbers: Numbers) -> f64 {
    match (set, numbers) {
        ("amx", Numbers::Bf16) => peak.amx_bf16,
        ("amx", Numbers::Int8) => peak.amx_int8,
        ("avx512_bf16", Numbers::Bf16) => peak.avx512_bf16,
        ("avx512" | "avx512_bf16", Numbers::Int8) => peak.avx512_vnni,
        ("avx512" | "avx512_bf16" | "amx", _) => peak.avx512,
        ("avx2", _) => peak.avx2,
        _ => 0.0,
    }
}

fn noise(n: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(n as u64);
    (0..n).map(|_| rng.random_range(-0.5..0.5)).collect()
}

fn seconds(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
