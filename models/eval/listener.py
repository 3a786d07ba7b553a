"""The recogniser that scores the Spanish voice: a small convolutional network whose letters come out by CTC (Graves 2006).

It has heard other synthesisers alone, never the voice. Its weights, listener.npz, are what train/ctc.py has trained; this file
runs them with numpy. What it hears has no capitals, no punctuation and no figures.
"""

from pathlib import Path

import mel
import numpy as np

WEIGHTS = Path(__file__).parent / "listener.npz"
# The outputs from 1 on; 0 is the blank.
LETTERS = " abcdefghijklmnopqrstuvwxyzáéíóúüñ"
# Frames that an output stands for.
STRIDE = 2


def spoken(text):
    """The letters of a text that has no figures."""
    return " ".join("".join(ch for ch in text.lower().replace("-", " ") if ch in LETTERS).split())


def finish(m):
    """What the network reads, from log-mels: eight powers of ten below the loudest, scaled."""
    return (np.maximum(m, m.max() - 8) + 4) / 4


def letters(outputs):
    """The best letters of [frames, letters]: neighbours that are one merge, blanks go."""
    best = outputs.argmax(-1)
    kept = best[(best != np.append(0, best[:-1])) & (best != 0)]
    return " ".join("".join(LETTERS[k - 1] for k in kept).split())


def _norm(x, weight, bias):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight + bias


def _silu(x):
    return x / (1 + np.exp(-x))


def _windows(x, width, stride=1):
    """[frames, channels] -> [frames / stride, channels, width], with zeros beyond the ends."""
    x = np.pad(x, ((width // 2, width // 2), (0, 0)))
    return np.lib.stride_tricks.sliding_window_view(x, width, 0)[::stride]


class Listener:
    def __init__(self, weights=WEIGHTS):
        with np.load(weights) as f:
            self.w = {k: f[k].astype(np.float32) for k in f.files}
        self.blocks = sum(k.endswith(".depth.weight") for k in self.w)

    def outputs(self, m):
        """Log-mels [frames, 80] -> [frames / 2, letters], before the softmax."""
        w = self.w
        x = _silu(np.tensordot(_windows(finish(m), w["first.weight"].shape[2], STRIDE), w["first.weight"], ((1, 2), (1, 2))) + w["first.bias"])
        for i in range(self.blocks):
            part = lambda name: w[f"blocks.{i}.{name}"]
            y = np.einsum("tck,ck->tc", _windows(x, part("depth.weight").shape[2]), part("depth.weight")[:, 0]) + part("depth.bias")
            y = _silu(_norm(y, part("norm.weight"), part("norm.bias")) @ part("wide.weight").T + part("wide.bias"))
            x = x + y @ part("narrow.weight").T + part("narrow.bias")
        return _norm(x, w["norm.weight"], w["norm.bias"]) @ w["last.weight"].T + w["last.bias"]

    def hear(self, x):
        """What a waveform at 16 kHz says."""
        return letters(self.outputs(mel.raw(np.pad(x, 1600))))
