"""Whisper's log-mel spectrogram in numpy. `raw` stops before the clamp and the scaling, which follow the augmentation."""

import numpy as np

BANDS, FFT, HOP, RATE = 80, 400, 160, 16000


def _slaney(hz):
    return np.where(hz < 1000, hz * 3 / 200, 15 + np.log(np.maximum(hz, 1e-9) / 1000) * 27 / np.log(6.4))


def _hertz(mel):
    return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


def triangles(edges, fft):
    """From each edge in hertz over the next, where it is one, to the one after, [bins, bands]."""
    bins = np.linspace(0, RATE / 2, fft // 2 + 1)[:, None]
    rise = (bins - edges[:-2]) / np.diff(edges)[:-1]
    fall = (edges[2:] - bins) / np.diff(edges)[1:]
    return np.maximum(0, np.minimum(rise, fall))


def filters():
    """Triangles of unit area, [bins, bands]."""
    edges = _hertz(np.linspace(_slaney(np.array(0.0)), _slaney(np.array(RATE / 2)), BANDS + 2))
    return (triangles(edges, FFT) * 2 / (edges[2:] - edges[:-2])).astype(np.float32)


FILTERS = filters()
WINDOW = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)).astype(np.float32)


def raw(x):
    """log10 mel power, [frames, 80], one frame per 160 samples."""
    x = np.pad(np.asarray(x, np.float32), FFT // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(x, FFT)[::HOP][: (len(x) - FFT) // HOP]
    power = np.abs(np.fft.rfft(frames * WINDOW)) ** 2
    return np.log10(np.maximum(power.astype(np.float32) @ FILTERS, 1e-10))
