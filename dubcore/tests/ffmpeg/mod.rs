//! Running ffmpeg, and comparing what it decodes with what is decoded here.

use std::f64::consts::TAU;
use std::path::{Path, PathBuf};
use std::process::Command;

use dubcore::media::{WavFormat, WavWriter};

/// The rate of the signals, and their frames: not a whole number of any codec's frames.
pub(crate) const RATE: u32 = 48_000;
pub(crate) const FRAMES: usize = 120_011;

/// A folder of its own with the signals in it: `mono.wav`, `stereo.wav`, `surround.wav`, all of 32-bit floats.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (name, channels) in [("mono", 1), ("stereo", 2), ("surround", 6)] {
            let path = folder.path(&format!("{name}.wav"));
            let mut writer = WavWriter::create(path, channels, RATE, WavFormat::F32).unwrap();
            writer.write(&signal(channels)).unwrap();
            writer.finish().unwrap();
        }
        folder
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// The samples of a signal.
    pub(crate) fn signal(&self, name: &str) -> Vec<f32> {
        signal(match name {
            "mono" => 1,
            "stereo" => 2,
            _ => 6,
        })
    }

    /// Makes `file` from a signal.
    pub(crate) fn encode(&self, signal: &str, options: &str, file: &str) -> PathBuf {
        // A plain WAV of six channels does not say where they are.
        let layout = if signal == "surround" { "-channel_layout 5.1" } else { "" };
        self.run(&format!("{layout} -i {signal}.wav {options} {file}"));
        self.path(file)
    }

    /// What ffmpeg decodes a stream of a file to.
    pub(crate) fn decode(&self, options: &str, file: &Path, stream: &str) -> Vec<f32> {
        let file = file.display();
        let bytes = self.run(&format!("{options} -i {file} -map {stream} -f f32le -c:a pcm_f32le -"));
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    /// Runs ffmpeg in the folder, and gives what it prints. Words are separated by spaces; none holds one.
    pub(crate) fn run(&self, arguments: &str) -> Vec<u8> {
        let mut command = Command::new("ffmpeg");
        command.current_dir(self.0.path()).args(["-v", "error", "-y", "-nostdin"]).args(arguments.split_whitespace());
        let out = command.output().unwrap_or_else(|e| {
            panic!("these tests need ffmpeg ({e}): install it (apt-get install ffmpeg), or run `cargo xtask test`, which does")
        });
        assert!(out.status.success(), "ffmpeg {arguments}\n{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }
}

/// Something like speech, different in each channel: a gliding voice with overtones in syllables, and hissing between them.
fn signal(channels: usize) -> Vec<f32> {
    let mut noise = 0x9e37_79b9_u32;
    let mut phases = vec![0.0_f64; channels];
    let mut out = Vec::with_capacity(FRAMES * channels);
    for i in 0..FRAMES {
        let t = i as f64 / f64::from(RATE);
        for (channel, phase) in phases.iter_mut().enumerate() {
            let c = channel as f64;
            let pitch = 110.0 + 37.0 * c + 40.0 * (TAU * (0.7 + 0.1 * c) * t).sin();
            *phase += pitch / f64::from(RATE);
            let voice: f64 = (1..12).map(|k| (TAU * f64::from(k) * *phase).sin() / f64::from(k)).sum();
            let syllable = (0.5 - 0.5 * (TAU * (3.1 + 0.3 * c) * t).cos()).powi(2);
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let hiss = f64::from(noise >> 8) / f64::from(1 << 23) - 1.0;
            let fade = (t / 0.02).min(1.0);
            out.push((fade * (0.22 * syllable * voice + 0.04 * (1.0 - syllable) * hiss)) as f32);
        }
    }
    out
}

/// How many frames `got` is late against `want`, where their first channels differ least within 0.4 s.
pub(crate) fn delay(got: &[f32], want: &[f32], channels: usize, rate: u32) -> i64 {
    let first = |samples: &[f32]| samples.iter().copied().step_by(channels).collect::<Vec<f32>>();
    let (got, want) = (first(got), first(want));
    let from = want.len() / 4;
    let excerpt = &want[from..(from + rate as usize / 2).min(want.len())];
    let score = |shift: i64| {
        let at = |i: usize| usize::try_from((from + i) as i64 + shift).ok().and_then(|i| got.get(i)).copied().unwrap_or(0.0);
        // Less the energy: a louder place is not a better one.
        // Every third sample, for speed.
        excerpt.iter().enumerate().step_by(3).map(|(i, &w)| -f64::from(w - at(i)).powi(2)).sum::<f64>()
    };
    let energy: f64 = excerpt.iter().step_by(3).map(|&w| f64::from(w).powi(2)).sum();
    let most = i64::from(rate) * 2 / 5;
    // Nearest first: what fits within 50 dB is not looked for elsewhere.
    let mut best = (0, score(0));
    for shift in (1..=most).flat_map(|s| [s, -s]) {
        if -best.1 < energy * 1e-5 {
            break;
        }
        let score = score(shift);
        if score > best.1 {
            best = (shift, score);
        }
    }
    best.0
}

/// Signal to noise in dB over what both have, `got` being late by `delay` samples.
pub(crate) fn snr(got: &[f32], want: &[f32], delay: i64) -> f64 {
    let (mut signal, mut noise) = (0.0, 1e-12);
    for (i, &w) in want.iter().enumerate() {
        let Some(&g) = usize::try_from(i as i64 + delay).ok().and_then(|i| got.get(i)) else { continue };
        signal += f64::from(w).powi(2);
        noise += f64::from(w - g).powi(2);
    }
    10.0 * (signal / noise).log10()
}
