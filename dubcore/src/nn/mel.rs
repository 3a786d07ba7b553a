//! The log-mel spectrogram of Whisper, equal to `WhisperFeatureExtractor` of transformers.

use std::sync::Arc;

use realfft::{RealFftPlanner, RealToComplex};

use super::Signal;
use crate::error::{Error, ErrorKind, Result};

/// Log-mel of windows of one length: Hann window, centred frames with reflected edges, Slaney mel scale, log10 clamped to
/// 8 below the window's maximum, scaled to about -1..=1.
pub(crate) struct LogMel {
    fft: Arc<dyn RealToComplex<f32>>,
    hann: Vec<f32>,
    /// Per mel band: the first frequency bin and the weights from there on (the bands are narrow).
    bands: Vec<(usize, Vec<f32>)>,
    hop: usize,
    samples: usize,
}

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
        Ok(Self { fft, hann, bands: mel_bands(mels, n_fft / 2 + 1, f64::from(rate)), hop, samples })
    }

    /// Samples of a window.
    pub(crate) fn samples(&self) -> usize {
        self.samples
    }

    /// `[windows, mels, frames]` of windows that are padded with silence, or cut, to the window's length.
    pub(crate) fn forward(&self, windows: &[&[f32]]) -> Result<Signal> {
        let frames = self.samples / self.hop;
        let mut out = Vec::with_capacity(windows.len() * self.bands.len() * frames);
        for window in windows {
            let mut mel = self.window(&window[..window.len().min(self.samples)], frames);
            // The reference clamps relative to the loudest point of the whole window.
            let floor = mel.iter().copied().fold(f32::MIN, f32::max) - 8.0;
            mel.iter_mut().for_each(|v| *v = (v.max(floor) + 4.0) / 4.0);
            out.extend(mel);
        }
        Signal::new(out, (windows.len(), self.bands.len(), frames))
    }

    /// log10 of the mel power, `[mels, frames]`.
    fn window(&self, audio: &[f32], frames: usize) -> Vec<f32> {
        let n_fft = self.hann.len();
        let pad = n_fft / 2;
        let at = |i: isize| {
            let last = self.samples as isize - 1;
            let i = if i < 0 {
                -i
            } else if i > last {
                2 * last - i
            } else {
                i
            };
            audio.get(i as usize).copied().unwrap_or(0.0)
        };
        let mut out = vec![0f32; self.bands.len() * frames];
        let mut time = self.fft.make_input_vec();
        let mut freq = self.fft.make_output_vec();
        let mut scratch = self.fft.make_scratch_vec();
        let mut power = vec![0f32; freq.len()];
        for frame in 0..frames {
            let start = (frame * self.hop) as isize - pad as isize;
            if start > audio.len() as isize + pad as isize {
                // Everything from here on is padding: the floor of the logarithm.
                for band in out.chunks_mut(frames) {
                    band[frame..].fill(-10.0);
                }
                break;
            }
            for (i, (t, w)) in time.iter_mut().zip(&self.hann).enumerate() {
                *t = at(start + i as isize) * w;
            }
            // Cannot fail: the buffers have the plan's own lengths.
            if self.fft.process_with_scratch(&mut time, &mut freq, &mut scratch).is_err() {
                continue;
            }
            for (p, c) in power.iter_mut().zip(&freq) {
                *p = c.re * c.re + c.im * c.im;
            }
            for (band, (first, weights)) in self.bands.iter().enumerate() {
                let sum: f32 = weights.iter().zip(&power[*first..]).map(|(w, p)| w * p).sum();
                out[band * frames + frame] = sum.max(1e-10).log10();
            }
        }
        out
    }
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
