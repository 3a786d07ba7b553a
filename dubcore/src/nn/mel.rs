//! The log-mel spectrogram of Whisper, equal to `WhisperFeatureExtractor` of transformers.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use super::Act;
use super::cpu::{Cpu, End, Format, Isa, Packed, Rows, Tile, log10};
use crate::error::{Error, ErrorKind, Result};

/// Log-mel of windows of one length: Hann window, centred frames with reflected edges, Slaney mel scale, log10 clamped to
/// 8 below the window's maximum, scaled to about -1..=1.
pub(crate) struct LogMel {
    isa: Isa,
    fft: Arc<dyn RealToComplex<f32>>,
    hann: Vec<f32>,
    /// Neighbouring mel bands: the first frequency bin of any, and the weights of all from there on.
    groups: Vec<(usize, Packed)>,
    mels: usize,
    hop: usize,
    samples: usize,
}

/// Bands of a group: the bins of one lie near those of the next.
const GROUP: usize = 32;

/// Frames that a thread does at a time.
const FRAMES: usize = 96;

/// What the reference takes for silence.
const LEAST: f32 = 1e-10;

impl LogMel {
    /// For windows of `samples` at `rate` Hz, `mels` bands, frames of `n_fft` every `hop` samples.
    pub(crate) fn new(mels: usize, n_fft: usize, hop: usize, samples: usize, rate: u32) -> Result<Self> {
        let ok = (1..=1024).contains(&mels) && (16..=16_384).contains(&n_fft) && (1..=n_fft).contains(&hop);
        if !ok || samples <= n_fft || samples / hop > 1 << 16 {
            return Err(Error::new(
                ErrorKind::ModelCorrupt,
                format!(
                    "log-mel of {mels} bands, n_fft {n_fft}, hop {hop}, {samples} samples makes no sense: see preprocessor_config.json"
                ),
            ));
        }
        let tau = std::f64::consts::TAU;
        let hann = (0..n_fft).map(|i| (0.5 - 0.5 * (tau * i as f64 / n_fft as f64).cos()) as f32).collect();
        let fft = RealFftPlanner::new().plan_fft_forward(n_fft);
        let isa = Isa::chosen()?;
        let bands = mel_bands(mels, n_fft / 2 + 1, f64::from(rate));
        let groups = bands.chunks(GROUP).map(|bands| group(isa, bands)).collect();
        Ok(Self { isa, fft, hann, groups, mels, hop, samples })
    }

    /// Samples of a window.
    pub(crate) fn samples(&self) -> usize {
        self.samples
    }

    /// `[windows, frames, mels]` of windows that are padded with silence, or cut, to the window's length.
    pub(crate) fn forward(&self, windows: &[&[f32]]) -> Result<Act> {
        let frames = self.samples / self.hop;
        let cpu = Cpu::new(0);
        let mut out = vec![0.0; windows.len() * frames * self.mels];
        for (window, mel) in windows.iter().zip(out.chunks_exact_mut((frames * self.mels).max(1))) {
            let audio = &window[..window.len().min(self.samples)];
            cpu.team.each_rows(Tile::dense(mel, self.mels), FRAMES, |i, mut out| self.frames(audio, i * FRAMES, out.all()));
            // The reference clamps relative to the loudest point of the whole window.
            let floor = mel.iter().copied().fold(f32::MIN, f32::max) - 8.0;
            mel.iter_mut().for_each(|v| *v = (v.max(floor) + 4.0) / 4.0);
        }
        Act::new(out, (windows.len(), frames, self.mels))
    }

    /// log10 of the mel power of frames from `first` on, `[frames, mels]`.
    fn frames(&self, audio: &[f32], first: usize, out: &mut [f32]) {
        let n_fft = self.hann.len();
        let (bins, count) = (n_fft / 2 + 1, out.len() / self.mels);
        let mut power = vec![0f32; count * bins];
        let mut time = self.fft.make_input_vec();
        let mut freq = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let last = self.samples - 1;
        for (i, power) in power.chunks_exact_mut(bins).enumerate() {
            // In samples of the window with half a frame of its reflection before it.
            let (start, pad) = ((first + i) * self.hop, n_fft / 2);
            if start > audio.len() + 2 * pad {
                // From here on there is no sound, nor its reflection.
                break;
            }
            match start.checked_sub(pad).and_then(|from| audio.get(from..from + n_fft)) {
                Some(inside) => time.iter_mut().zip(inside).zip(&self.hann).for_each(|((t, v), w)| *t = v * w),
                None => {
                    for (j, (t, w)) in time.iter_mut().zip(&self.hann).enumerate() {
                        let at = (start + j).abs_diff(pad);
                        let at = if at > last { 2 * last - at } else { at };
                        *t = audio.get(at).copied().unwrap_or(0.0) * w;
                    }
                }
            }
            // Cannot fail: the buffers have the plan's own lengths.
            if self.fft.process_with_scratch(&mut time, &mut freq, &mut scratch).is_ok() {
                power.iter_mut().zip(&freq).for_each(|(p, c)| *p = c.re * c.re + c.im * c.im);
            }
        }
        let cpu = Cpu::alone();
        for (i, (from, weights)) in self.groups.iter().enumerate() {
            let power = Rows::new(&power[*from..], count, weights.inputs(), bins);
            let bands = Tile::new(&mut out[i * GROUP..], count, weights.outputs(), self.mels);
            weights.forward(&cpu, power, bands, End::default());
        }
        log10(self.isa, out, LEAST);
    }
}

/// The weights of neighbouring bands, and the bin of the first of them.
fn group(isa: Isa, bands: &[(usize, Vec<f32>)]) -> (usize, Packed) {
    let from = bands.iter().map(|(first, _)| *first).min().unwrap_or(0);
    let to = bands.iter().map(|(first, weights)| first + weights.len()).max().unwrap_or(0).max(from + 1);
    let mut all = vec![0.0; bands.len() * (to - from)];
    for ((first, weights), row) in bands.iter().zip(all.chunks_exact_mut(to - from)) {
        row[first - from..][..weights.len()].copy_from_slice(weights);
    }
    (from, Packed::linear(&Cpu::alone(), isa, Format::F32, &all, None, (bands.len(), to - from)))
}

/// Triangles on Slaney's mel scale (linear below 1 kHz, logarithmic above) up to 8 kHz, each of unit area.
fn mel_bands(mels: usize, bins: usize, rate: f64) -> Vec<(usize, Vec<f32>)> {
    let step = 6.4f64.ln() / 27.0;
    let to_mel = |hz: f64| if hz < 1000.0 { hz * 3.0 / 200.0 } else { 15.0 + (hz / 1000.0).ln() / step };
    let to_hz = |mel: f64| if mel < 15.0 { mel * 200.0 / 3.0 } else { 1000.0 * ((mel - 15.0) * step).exp() };
    let top = to_mel(8000.0);
    let edges: Vec<f64> = (0..mels + 2).map(|i| to_hz(top * i as f64 / (mels + 1) as f64)).collect();
    let hz = |bin: usize| bin as f64 * rate / 2.0 / (bins - 1) as f64;
    edges
        .windows(3)
        .map(|e| {
            let weight = |bin| {
                let f = hz(bin);
                let rise = (f - e[0]) / (e[1] - e[0]);
                let fall = (e[2] - f) / (e[2] - e[1]);
                (rise.min(fall).max(0.0) * 2.0 / (e[2] - e[0])) as f32
            };
            let first = (0..bins).find(|b| weight(*b) > 0.0).unwrap_or(0);
            let weights: Vec<f32> = (first..bins).map(weight).take_while(|w| *w > 0.0).collect();
            (first, weights)
        })
        .collect()
}
