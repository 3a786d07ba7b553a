"""Sounds without speech: music (chords, melodies, arpeggios, drums), mains hum, clicks, beeps, coloured noise.

Made as ten-second waveforms at 16 kHz. The recogniser learns to write nothing for them and to hear speech over them.
"""

import numpy as np
from scipy.signal import butter, sosfilt

RATE, LENGTH = 16000, 160000
SCALES = ([0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10], [0, 2, 4, 7, 9], [0, 3, 5, 7, 10], [0, 2, 3, 5, 7, 9, 10])


def note(r, hz, seconds, timbre):
    """One note: harmonics under an envelope, with vibrato."""
    t = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * hz * t + timbre["vibrato"] * np.sin(2 * np.pi * timbre["wobble"] * t)
    x = np.zeros_like(t)
    for k, strength in enumerate(timbre["harmonics"], 1):
        if k * hz * timbre["stretch"] ** (k - 1) < 7500:
            x += strength * np.sin(k * timbre["stretch"] ** (k - 1) * phase + r.uniform(0, 6.28))
    attack = np.minimum(1, t / timbre["attack"])
    release = np.minimum(1, (t[-1] - t) / 0.03) if len(t) else 0
    return x * attack * release * np.exp(-t * timbre["decay"])


def timbre(r):
    """An instrument: plucked, struck, bowed or blown."""
    count = r.integers(1, 12)
    slope = r.uniform(0.4, 2.0)
    harmonics = np.arange(1, count + 1) ** -slope * r.uniform(0.3, 1, count)
    if r.random() < 0.2:
        harmonics[1::2] *= 0.1
    sustained = r.random() < 0.45
    return {
        "harmonics": harmonics, "stretch": 1 + (r.uniform(0, 0.002) if r.random() < 0.3 else 0), "attack": r.uniform(0.03, 0.2) if sustained else r.uniform(0.002, 0.02),
        "decay": r.uniform(0, 0.6) if sustained else r.uniform(1, 9), "vibrato": r.uniform(0, 1.5) if sustained else 0.0, "wobble": r.uniform(4, 7),
    }


def _add(x, part, at, gain):
    at = int(at)
    part = part[: max(0, len(x) - at)]
    x[at : at + len(part)] += gain * part


def _drum(r, kind):
    n = int(RATE * r.uniform(0.05, 0.35))
    t = np.arange(n) / RATE
    if kind == "kick":
        return np.sin(2 * np.pi * (45 * t + 60 * 0.03 * (1 - np.exp(-t / 0.03)))) * np.exp(-t * r.uniform(8, 25))
    x = r.normal(0, 1, n) * np.exp(-t * r.uniform(15, 60))
    sos = butter(2, r.uniform(1000, 3000) if kind == "snare" else r.uniform(4500, 6500), "highpass" if kind == "hat" else "lowpass", fs=RATE, output="sos")
    return sosfilt(sos, x)


def music(r):
    """Ten seconds of a piece: some of chords, bass, melody, arpeggio and drums."""
    x = np.zeros(LENGTH)
    scale, root = SCALES[r.integers(len(SCALES))], 110 * 2 ** (r.integers(0, 12) / 12)
    beat = 60 / r.uniform(60, 170)
    tune = r.uniform(-0.5, 0.5)

    def pitch(degree, octave=0):
        return root * 2 ** (octave + degree // len(scale) + (scale[degree % len(scale)] + tune) / 12)

    parts = {p for p in ("chords", "bass", "melody", "arpeggio", "drums") if r.random() < 0.5} or {"melody" if r.random() < 0.6 else "chords"}
    progression = r.integers(0, 7, 4)
    if "chords" in parts:
        sound, octave = timbre(r), r.integers(0, 2)
        for i, at in enumerate(np.arange(0, 10, 4 * beat)):
            for third in (0, 2, 4, 6)[: r.integers(2, 5)]:
                _add(x, note(r, pitch(progression[i % 4] + third, octave), 4 * beat, sound), at * RATE, 0.5)
    if "bass" in parts:
        sound = timbre(r)
        for i, at in enumerate(np.arange(0, 10, beat)):
            _add(x, note(r, pitch(progression[i // 4 % 4], -1), beat, sound), at * RATE, 0.8)
    if "arpeggio" in parts:
        sound, step = timbre(r), beat / r.choice([2, 3, 4])
        for i, at in enumerate(np.arange(0, 10, step)):
            _add(x, note(r, pitch(progression[int(at / beat) // 4 % 4] + 2 * (i % 4), 1), step * r.uniform(0.8, 2), sound), at * RATE, 0.4)
    if "melody" in parts:
        sound, at, degree, octave = timbre(r), r.uniform(0, 1), int(r.integers(0, 8)), r.integers(0, 3)
        while at < 10:
            length = beat * r.choice([0.5, 1, 1, 2])
            degree = int(np.clip(degree + r.integers(-3, 4), -4, 12))
            if r.random() < 0.85:
                _add(x, note(r, pitch(degree, octave), length, sound), at * RATE, r.uniform(0.4, 0.9))
            at += length
    if "drums" in parts:
        kit = {k: _drum(r, k) for k in ("kick", "snare", "hat")}
        for i, at in enumerate(np.arange(0, 10, beat / 2)):
            for k, often in (("kick", i % 4 == 0), ("snare", i % 4 == 2), ("hat", True)):
                if often and r.random() < 0.9:
                    _add(x, kit[k], at * RATE, r.uniform(0.3, 1) * (0.4 if k == "hat" else 1))
    return x


def noise(r):
    """Coloured noise, steady or in gusts."""
    spectrum = np.fft.rfft(r.normal(0, 1, LENGTH))
    spectrum *= (np.arange(len(spectrum)) + 50.0) ** -r.uniform(0, 1.2)
    x = np.fft.irfft(spectrum)
    if r.random() < 0.5:
        x *= np.interp(np.arange(LENGTH), np.linspace(0, LENGTH, 30), r.uniform(0.05, 1, 30) ** 2)
    return x


def hum(r):
    """Mains hum, with its harmonics and some hiss."""
    t, hz = np.arange(LENGTH) / RATE, r.choice([50, 60]) * r.uniform(0.99, 1.01)
    x = sum(r.uniform(0, 1) / k * np.sin(2 * np.pi * hz * k * t + r.uniform(0, 6)) for k in range(1, 12))
    return x + r.normal(0, 0.02, LENGTH)


def clicks(r):
    """Knocks, typing, footsteps, beeps: short sounds on a quiet ground."""
    x = r.normal(0, r.uniform(0.0005, 0.01), LENGTH)
    regular, period = r.random() < 0.4, r.uniform(0.1, 1.2)
    times = np.arange(0, 10, period) if regular else np.sort(r.uniform(0, 10, r.integers(2, 60)))
    beep = r.random() < 0.35
    hz, length = r.uniform(200, 4000), r.uniform(0.05, 0.5)
    for at in times:
        if beep:
            t = np.arange(int(length * RATE)) / RATE
            _add(x, np.sin(2 * np.pi * hz * t) * np.minimum(1, np.minimum(t, length - t) / 0.005), at * RATE, 0.5)
        else:
            n = int(RATE * r.uniform(0.005, 0.12))
            burst = r.normal(0, 1, n) * np.exp(-np.arange(n) / n * 5)
            _add(x, sosfilt(butter(1, r.uniform(300, 6000), fs=RATE, output="sos"), burst), at * RATE, r.uniform(0.2, 1))
    return x


def sound(r):
    """A random one, peak 0.5: its kind and its samples."""
    kind = r.choice(["music", "music", "music", "music", "noise", "clicks", "hum"])
    x = {"music": music, "noise": noise, "hum": hum, "clicks": clicks}[kind](r)
    return str(kind), (0.5 * x / max(1e-6, np.abs(x).max())).astype(np.float32)
