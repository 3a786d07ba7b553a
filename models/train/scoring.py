"""What the figures are: word errors, in which case, punctuation and the way numbers are written don't count, and the
distance of one reading from another."""

import re

import numpy as np

import analysis
import figures


def words(text):
    """The spoken words of a transcript."""
    return re.sub(r"[^a-z' ]", "", (figures.spoken(text) or text).lower().replace("-", " ")).split()


def distance(reference, other):
    """Edits between two lists, or two strings."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(reference, 1):
        before, row[0] = row[:], i
        for j, b in enumerate(other, 1):
            row[j] = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
    return row[-1]


def word_errors(references, others):
    """The error rate over all the sentences."""
    pairs = [(words(a), words(b)) for a, b in zip(references, others)]
    return sum(distance(a, b) for a, b in pairs) / max(1, sum(len(a) for a, _ in pairs))


def letter_errors(pairs):
    """The error rate of letters over (wanted, heard) texts. Where a word ends cannot be heard: spaces don't count."""
    pairs = [[text.replace(" ", "") for text in pair] for pair in pairs]
    return sum(distance(*pair) for pair in pairs) / max(1, sum(len(wanted) for wanted, _ in pairs))


def cepstra(x):
    """Mel cepstra of a waveform at 16 kHz, without the loudness, [frames, 24]."""
    turns = np.pi / analysis.BANDS * (np.arange(analysis.BANDS) + 0.5)
    return analysis.log_mel(x) @ np.cos(np.outer(turns, np.arange(1, 25))) * (2 / analysis.BANDS)


def distortion(one, other):
    """Mel-cepstral distortion of two readings in dB (Kubichek 1993), along the best alignment in time."""
    far = 10 / np.log(10) * np.sqrt(2 * ((one[:, None] - other[None]) ** 2).sum(-1))
    best, steps = np.full(np.add(far.shape, 1), np.inf), np.zeros(np.add(far.shape, 1))
    best[0, 0] = 0
    # By diagonals, whose places do not depend on one another.
    for d in range(sum(far.shape) - 1):
        i = np.arange(max(0, d - far.shape[1] + 1), min(far.shape[0], d + 1))
        j = d - i
        before = np.stack([best[i, j], best[i, j + 1], best[i + 1, j]])
        pick, all_ = before.argmin(0), np.arange(len(i))
        best[i + 1, j + 1] = before[pick, all_] + far[i, j]
        steps[i + 1, j + 1] = np.stack([steps[i, j], steps[i, j + 1], steps[i + 1, j]])[pick, all_] + 1
    return best[-1, -1] / steps[-1, -1]
