"""What the voice learns from: Spanish sentences read by SVOX Pico, as waveforms, log-mels and pitch.

    python teacher.py --text train.tsv --out DIR --count 6000 [--workers 4]

Writes DIR/wave.npy (int16 at 16 kHz), DIR/mel.npy ([frames, 80], float16), DIR/pitch.npy ([frames, 2], logarithm of hertz and
whether it is voiced) and DIR/index.json (the texts, and where each begins, in frames).
"""

import argparse
import json
import multiprocessing
import os
import random

import numpy as np

import speech
from analysis import HOP, RATE, log_mel, pitch
from voices import Pico, engine

# The voice's letters; the first is the blank.
LETTERS = "_ abcdefghijklmnopqrstuvwxyzáéíóúüñ.,;:?!¿¡'-"
# Pico rests up to a second at a mark; a dub has no room for it.
LONGEST_PAUSE, BEFORE, AFTER, QUIET = 0.26, 0.048, 0.128, 0.003


def tidy(x):
    """With short pauses, and little silence at the ends."""
    block = RATE // 200
    loud = np.flatnonzero(np.sqrt((x[: len(x) // block * block].reshape(-1, block) ** 2).mean(1)) > QUIET)
    x = np.pad(x, (int(BEFORE * RATE), int(AFTER * RATE)))
    shift, half, out, at = int(BEFORE * RATE), int(LONGEST_PAUSE * RATE / 2), [], loud[0] * block
    for before, after in zip(loud, loud[1:]):
        stop, go = shift + (before + 1) * block + half, shift + after * block - half
        if stop < go:
            out.append(x[at:stop])
            at = go
    return np.concatenate([*out, x[at : shift + (loud[-1] + 1) * block + int(AFTER * RATE)]])


def read(text):
    """A waveform, a whole number of frames long."""
    x = 0.8 * tidy(engine(Pico)(text, "es-ES"))
    return np.pad(x, (0, -len(x) % HOP)).astype(np.float32)


def reading(text):
    """(text as the voice reads it, samples, log-mels, pitch), or None where it is too short or too long for its letters."""
    x, text = read(text), "".join(ch for ch in text.lower() if ch in LETTERS)
    m, hertz = log_mel(x), pitch(x)
    if not 1.02 * (2 * len(text) + 1) < len(m) < min(900, 12 * (2 * len(text) + 1)):
        return None
    voiced = hertz > 0
    at = np.arange(len(m))
    level = np.interp(at, at[voiced], np.log(hertz[voiced])) if voiced.any() else np.full(len(m), np.log(180.0))
    return text, (x * 32767).astype(np.int16), m.astype(np.float16), np.stack([level, voiced], 1).astype(np.float32)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--text", required=True)
    a.add_argument("--out", required=True)
    a.add_argument("--count", type=int, default=6000)
    a.add_argument("--workers", type=int, default=2)
    a = a.parse_args()
    texts = sorted(t for t in speech.sentences(a.text, "es") if '"' not in t)
    random.Random(0).shuffle(texts)
    with multiprocessing.Pool(a.workers) as pool:
        kept = [item for item in pool.imap(reading, texts[: a.count], chunksize=16) if item]
    os.makedirs(a.out, exist_ok=True)
    for name, part in (("wave", 1), ("mel", 2), ("pitch", 3)):
        np.save(f"{a.out}/{name}.npy", np.concatenate([item[part] for item in kept]))
    starts = np.cumsum([0] + [len(item[2]) for item in kept]).tolist()
    with open(f"{a.out}/index.json", "w") as f:
        json.dump({"texts": [item[0] for item in kept], "starts": starts}, f, ensure_ascii=False)
    print(f"{len(kept)} sentences, {starts[-1] * HOP / RATE / 3600:.1f} h")


if __name__ == "__main__":
    main()
