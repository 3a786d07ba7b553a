"""What the voice is made of: log-mels and pitch in frames of 16 ms."""

import numpy as np

from mel import RATE, triangles

HOP, FFT, BANDS = 256, 1024, 80


def filters():
    """Triangles on O'Shaughnessy's mel scale that sum to one, [bands, bins]."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    f = triangles(edges, FFT).T
    return (f / f.sum(1, keepdims=True).clip(1e-9)).astype(np.float32)


def frames(x, mode):
    pad = (FFT - HOP) // 2
    return np.lib.stride_tricks.sliding_window_view(np.pad(x, pad, mode=mode), FFT)[::HOP]


WINDOW = np.hanning(FFT + 1)[:-1].astype(np.float32)
FILTERS = filters()


def log_mel(x):
    """The logarithm of the mean magnitude of a band, [frames, 80]."""
    return np.log(np.maximum(np.abs(np.fft.rfft(frames(x, "reflect") * WINDOW)).astype(np.float32) @ FILTERS.T, 1e-2))


def pitch(x, low=80, high=380):
    """Hertz of each frame by normalised autocorrelation (Boersma 1993), 0 where unvoiced."""
    f = frames(x, "constant")
    f = (f - f.mean(1, keepdims=True)) * WINDOW
    correlate = lambda y: np.fft.irfft(np.abs(np.fft.rfft(y, 2 * FFT)) ** 2)[..., :FFT]
    c, w = correlate(f), correlate(WINDOW)
    r = c / np.maximum(c[:, :1], 1e-9) * w[0] / np.maximum(w, 1e-6)
    first, last = RATE // high, RATE // low + 1
    middle = r[:, first + 1 : last]
    peak = (middle > r[:, first : last - 1]) & (middle >= r[:, first + 2 : last + 1])
    # of an octave's periods rather the shorter
    cost = np.where(peak, middle, -1) - 0.06 * np.log2(np.arange(first + 1, last) / first)
    lag, row = first + 1 + cost.argmax(1), np.arange(len(r))
    a, b, c_ = r[row, lag - 1], r[row, lag], r[row, lag + 1]
    lag = lag + np.clip(0.5 * (a - c_) / np.minimum(a - 2 * b + c_, -1e-6), -0.5, 0.5)
    hertz = np.where((b > 0.55) & (np.sqrt(np.maximum(c[:, 0], 0) / FFT) > 0.004), RATE / lag, 0)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(hertz, 2), 5)
    voiced = (around > 0).sum(1)
    middle = np.array([np.median(v[v > 0]) if n >= 4 else 0 for v, n in zip(around, voiced)])
    # a frame alone is noise, one an octave from its neighbours a mistake
    wrong = (middle > 0) & (hertz > 0) & (np.abs(np.log2(np.maximum(hertz, 1) / np.maximum(middle, 1))) > 0.4)
    return np.where(voiced < 2, 0, np.where(wrong, middle, hertz))
