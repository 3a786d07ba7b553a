//! Silero VAD 6.2 at 16 kHz (Silero Team, MIT): how likely it is that somebody speaks, for each frame of 32 ms.
//!
//! A frame is heard with the 4 ms before it. The sizes of four short spectra go through four convolutions, which leave one
//! step of 128 channels, and an LSTM remembers what came before: for many seconds, so that sound must be heard from its
//! beginning. All but the recurrence, three quarters of the work, is done for many frames at once, by several threads. Equal
//! to the published model in onnxruntime within 1e-5 of a probability.

use super::cpu::{Act, Cpu, End, Format, Isa, Packed, Rows, Shape, Tile, by_tap, lstm};
use super::weights::Weights;
use crate::error::Result;
use crate::process::PerProcess;
use crate::team::Team;

/// Samples of a frame, and those before it that are heard once more.
pub(crate) const FRAME: usize = 512;
const CONTEXT: usize = 64;

/// Samples of a spectrum, from one to the next, and spectra of a frame: the last ends in a reflection of the frame's end.
const WINDOW: usize = 256;
const HOP: usize = 128;
const SPECTRA: usize = 4;
const BINS: usize = WINDOW / 2 + 1;

/// Inputs, outputs and stride of the convolutions, whose kernels are three steps wide.
const LAYERS: [(usize, usize, usize); 4] = [(BINS, 128, 1), (128, 64, 2), (64, 64, 2), (64, WIDTH, 1)];
const TAPS: usize = 3;

/// Channels of the recurrent state.
const WIDTH: usize = 128;

/// Frames at a time: enough rows for a product, few enough for a second-level cache. And what a thread does at a time.
const BATCH: usize = 24;
const SHARE: usize = 8 * BATCH;

/// As published, in another container: `tests/generate/vad.py` made it.
static PUBLISHED: &[u8] = include_bytes!("../../assets/silero-vad-6.2.1/silero_vad_16k.safetensors");

/// The network. Any number of threads may listen with it at once, each with a state of its own.
pub(crate) struct Silero {
    isa: Isa,
    /// A Fourier transform as a matrix: the real parts of all bins, then the imaginary ones.
    spectrum: Packed,
    /// Outputs `[taps, channels]`.
    layers: Vec<Packed>,
    /// Of the LSTM, from its inputs and from its own last outputs.
    input: Packed,
    recurrent: Packed,
    /// From outputs to the logit.
    last: Vec<f32>,
    bias: f32,
}

/// What is remembered of the sound so far.
#[derive(Clone)]
pub(crate) struct State {
    output: [f32; WIDTH],
    cell: [f32; WIDTH],
    before: [f32; CONTEXT],
}

impl Default for State {
    fn default() -> Self {
        Self { output: [0.0; WIDTH], cell: [0.0; WIDTH], before: [0.0; CONTEXT] }
    }
}

impl Silero {
    /// The one of this process, made of the embedded weights when it is first asked for.
    pub(crate) fn get() -> Result<&'static Self> {
        static NETWORK: PerProcess<Silero> = PerProcess::new();
        NETWORK.get(|_| Self::load(Isa::chosen()?))
    }

    fn load(isa: Isa) -> Result<Self> {
        let weights = Weights::parse("the speech detector", PUBLISHED.into())?;
        let pack =
            |weights: &[f32], bias: Option<&[f32]>, size| Packed::linear(&Cpu::alone(), isa, Format::F32, weights, bias, size);
        let layers = LAYERS.iter().enumerate().map(|(i, (inputs, outputs, _))| {
            let w = weights.at("encoder").at(i).at("reparam_conv");
            let published = w.values("weight", &[*outputs, *inputs, TAPS])?;
            let shape = Shape { outputs: *outputs, channels: TAPS * inputs, taps: 1 };
            let row = |o: usize, to: &mut [f32]| by_tap(&published[o * to.len()..][..to.len()], TAPS, to);
            Ok(Packed::new(&Cpu::alone(), isa, Format::F32, shape, Some(&w.values("bias", &[*outputs])?), row))
        });
        let gates = (4 * WIDTH, WIDTH);
        let lstm = weights.at("decoder.rnn");
        let of_input = lstm.values("bias_ih", &[gates.0])?;
        let bias: Vec<f32> = of_input.iter().zip(lstm.values("bias_hh", &[gates.0])?).map(|(a, b)| a + b).collect();
        let last = weights.at("decoder.decoder.2");
        Ok(Self {
            isa,
            spectrum: pack(&weights.values("stft.forward_basis_buffer", &[2 * BINS, 1, WINDOW])?, None, (2 * BINS, WINDOW)),
            layers: layers.collect::<Result<_>>()?,
            input: pack(&lstm.values("weight_ih", &[gates.0, gates.1])?, Some(&bias), gates),
            recurrent: pack(&lstm.values("weight_hh", &[gates.0, gates.1])?, None, gates),
            last: last.values("weight", &[1, WIDTH, 1])?,
            bias: last.values("bias", &[1])?[0],
        })
    }

    /// For each frame of `samples` (16 kHz, full scale is 1), which follow what `state` is of, the probability that it is speech.
    /// What is missing of the last frame is silence.
    pub(crate) fn hear(&self, team: &Team, state: &mut State, samples: &[f32]) -> Vec<f32> {
        let gates = team.map(samples.len().div_ceil(SHARE * FRAME), |i| {
            let (from, cpu) = (i * SHARE * FRAME, Cpu::alone());
            let share = &samples[from..samples.len().min(from + SHARE * FRAME)];
            let before = if i == 0 { &state.before } else { &samples[from - CONTEXT..from] };
            let ends = (0..).step_by(BATCH * FRAME).map(|at| if at == 0 { before } else { &share[at - CONTEXT..at] });
            share
                .chunks(BATCH * FRAME)
                .zip(ends)
                .flat_map(|(batch, before)| self.gates(&cpu, before, batch))
                .collect::<Vec<f32>>()
        });
        if let Some(last) = samples.chunks(FRAME).next_back() {
            let mut frame = [0.0; FRAME];
            frame[..last.len()].copy_from_slice(last);
            state.before.copy_from_slice(&frame[FRAME - CONTEXT..]);
        }
        let (cpu, again) = (Cpu::alone(), End { act: Act::None, add: true });
        let of_frame = |gates: &mut [f32]| {
            self.recurrent.forward(&cpu, Rows::dense(&state.output, WIDTH), Tile::dense(gates, 4 * WIDTH), again);
            lstm(self.isa, gates, &mut state.cell, &mut state.output);
            let logit = state.output.iter().zip(&self.last).map(|(v, weight)| v.max(0.0) * weight).sum::<f32>() + self.bias;
            1.0 / (1.0 + (-logit).exp())
        };
        gates.concat().chunks_exact_mut(4 * WIDTH).map(of_frame).collect()
    }

    /// What the frames of `samples`, which follow `before`, bring to the gates of the LSTM.
    fn gates(&self, cpu: &Cpu, before: &[f32], samples: &[f32]) -> Vec<f32> {
        const END: usize = CONTEXT + FRAME;
        let frames = samples.len().div_ceil(FRAME);
        let mut windows = cpu.arena.lend::<f32>(frames * SPECTRA * WINDOW);
        let starts = (0..).step_by(FRAME).map(|at| if at == 0 { before } else { &samples[at - CONTEXT..at] });
        for ((frame, before), windows) in samples.chunks(FRAME).zip(starts).zip(windows.chunks_exact_mut(SPECTRA * WINDOW)) {
            let mut around = [0.0; (SPECTRA - 1) * HOP + WINDOW];
            // Decoded sound may overshoot a little. What is no number would stay in the state for good.
            let sound = before.iter().chain(frame).map(|v| if v.is_nan() { 0.0 } else { v.clamp(-1.0, 1.0) });
            around.iter_mut().zip(sound).for_each(|(to, v)| *to = v);
            (END..around.len()).for_each(|i| around[i] = around[2 * (END - 1) - i]);
            let from = around.windows(WINDOW).step_by(HOP);
            windows.chunks_exact_mut(WINDOW).zip(from).for_each(|(to, from)| to.copy_from_slice(from));
        }
        let product = |weights: &Packed, x: &[f32], act| {
            let (columns, outputs) = (weights.inputs(), weights.outputs());
            let mut out = cpu.arena.lend::<f32>(x.len() / columns * outputs);
            weights.forward(cpu, Rows::dense(x, columns), Tile::dense(&mut out, outputs), End { act, add: false });
            out
        };
        let spectra = product(&self.spectrum, &windows, Act::None);
        let mut x = cpu.arena.lend::<f32>(frames * SPECTRA * BINS);
        for (sizes, spectrum) in x.chunks_exact_mut(BINS).zip(spectra.chunks_exact(2 * BINS)) {
            let (real, imaginary) = spectrum.split_at(BINS);
            sizes.iter_mut().zip(real).zip(imaginary).for_each(|((to, re), im)| *to = (re * re + im * im).sqrt());
        }
        let mut steps = SPECTRA;
        for ((channels, _, stride), weights) in LAYERS.iter().zip(&self.layers) {
            let to = steps.div_ceil(*stride);
            let mut around = cpu.arena.lend::<f32>(frames * to * TAPS * channels);
            let of_frame = x.chunks_exact(steps * channels);
            for (x, around) in of_frame.zip(around.chunks_exact_mut(to * TAPS * channels)) {
                taps(x, *channels, *stride, around);
            }
            x = product(weights, &around, Act::Relu);
            steps = to;
        }
        product(&self.input, &x, Act::None).to_vec()
    }
}

/// The inputs of each output step, tap by tap: every `stride`th step of `x` `[steps, channels]` with its neighbours, of which
/// those outside are zero.
fn taps(x: &[f32], channels: usize, stride: usize, around: &mut [f32]) {
    for (i, around) in around.chunks_exact_mut(TAPS * channels).enumerate() {
        for (tap, to) in around.chunks_exact_mut(channels).enumerate() {
            let from = (i * stride + tap).checked_sub(TAPS / 2).and_then(|step| x.chunks_exact(channels).nth(step));
            match from {
                Some(from) => to.copy_from_slice(from),
                None => to.fill(0.0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Expected {
        sounds: Vec<Sound>,
    }

    /// Noise of `noise`'s size from a generator written down in the script, added to the recording times `gain`.
    #[derive(Deserialize)]
    struct Sound {
        gain: f32,
        noise: f32,
        probabilities: Vec<f32>,
    }

    fn fixture(name: &str) -> String {
        format!("{}/tests/fixtures/vad/{name}", env!("CARGO_MANIFEST_DIR"))
    }

    fn sound(s: &Sound) -> Vec<f32> {
        let mut wav = hound::WavReader::open(fixture("harbour.wav")).unwrap();
        let mut state = 1u32;
        wav.samples::<i16>()
            .map(|v| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                s.gain * f32::from(v.unwrap()) / 32_768.0 + s.noise * (state as f32 / (1u64 << 31) as f32 - 1.0)
            })
            .collect()
    }

    #[test]
    fn probabilities_are_those_of_the_published_model() {
        let expected: Expected = serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap();
        assert!(expected.sounds.len() >= 3);
        for isa in Isa::all() {
            let silero = Silero::load(isa).unwrap();
            for s in &expected.sounds {
                let got = silero.hear(&Team::new(0), &mut State::default(), &sound(s));
                assert_eq!(got.len(), s.probabilities.len());
                let worst = got.iter().zip(&s.probabilities).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst <= 1e-5, "{isa:?}: {worst} off at gain {} and noise {}", s.gain, s.noise);
            }
        }
    }

    #[test]
    fn how_sound_is_cut_does_not_matter() {
        let silero = Silero::get().unwrap();
        let sound = sound(&Sound { gain: 1.0, noise: 0.01, probabilities: Vec::new() }).repeat(10);
        assert!(sound.len() > 2 * SHARE * FRAME);
        let whole = silero.hear(&Team::alone(), &mut State::default(), &sound);
        for frames in [1, 2, 7, BATCH, BATCH + 1, SHARE, 2 * SHARE + 3] {
            let (mut state, team) = (State::default(), Team::new(0));
            let parts: Vec<f32> = sound.chunks(frames * FRAME).flat_map(|part| silero.hear(&team, &mut state, part)).collect();
            assert_eq!(parts, whole, "{frames} frames at a time");
        }
    }

    #[test]
    fn what_is_no_number_is_forgotten() {
        let (silero, team, mut state) = (Silero::get().unwrap(), Team::alone(), State::default());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            assert!(silero.hear(&team, &mut state, &[bad; 2 * FRAME]).iter().all(|p| (0.0..=1.0).contains(p)));
        }
        let quiet = silero.hear(&team, &mut state, &[0.0; 100 * FRAME]);
        assert!(quiet[99] < 0.1, "{}", quiet[99]);
    }
}
