"""The spoken corpus: sentences read by random voices, as shards of raw log-mels with an index beside each.

    python speech.py --text train.tsv --out DIR --worker 0 --workers 4 [--language es]

Runs until its sentences are read `--passes` times. A shard is NAME.npy ([frames, 80], float16) and NAME.json, a list of
(transcript, voice, frames). Sounds without speech have the transcript null; worker 0 makes `--sounds` of them first.
"""

import argparse
import json
import os
import random
import re
import time

import numpy as np
from scipy.signal import resample_poly

import figures
import mel
import sounds
import templates
import voices

# Of Spanish no figures: the readings of English ones alone are known here.
READABLE = {"en": re.compile(r"[A-Za-z .,;:!?'\"0-9$%-]+"), "es": re.compile(r"[A-Za-zÁÉÍÓÚÜÑáéíóúüñ .,;:!?¿¡'\"-]+")}


def sentences(path, language="en"):
    """A column of the pairs, what the voices can read of it."""
    seen, column = set(), list(READABLE).index(language)
    with open(path) as f:
        for line in f:
            text = line.rstrip("\n").split("\t")[column].strip()
            if text not in seen and READABLE[language].fullmatch(text) and 2 <= len(text) <= 140 and len(text.split()) <= 24:
                seen.add(text)
                yield text


def variants(texts, r, language):
    """Endless sentences: the corpus in random order; in English some with other names, mixed with ones made from templates."""
    while True:
        r.shuffle(texts)
        for text in texts:
            if language != "en":
                yield text
                continue
            if r.random() < 0.25:
                yield templates.pair(r)[0]
            if r.random() < 0.5 and (changed := templates.rename(r, text)):
                text = changed[0]
            yield text


def uneven(m):
    """The frames at another pace every tenth of a second or so, and some of them louder or softer: other people dwell on
    other sounds than a synthesiser does."""
    knots = max(2, len(m) // np.random.randint(7, 22))
    pace = np.exp(np.random.normal(0, np.random.uniform(0.1, 0.38), knots))
    pace = np.interp(np.linspace(0, knots - 1, len(m)), np.arange(knots), pace)
    at = np.concatenate([[0], np.cumsum(pace)])
    at = np.interp(np.arange(int(at[-1])), at, np.arange(len(at))).clip(0, len(m) - 1.001)
    low, part = at.astype(int), (at % 1)[:, None].astype(np.float32)
    loud = np.interp(np.linspace(0, knots - 1, len(at)), np.arange(knots), np.random.normal(0, np.random.uniform(0, 0.2), knots))
    return m[low] * (1 - part) + m[low + 1] * part + loud[:, None].astype(np.float32)


def utterance(text, r, language):
    """A reading: (transcript, voice, log-mels), or None where it does not fit."""
    english = language == "en"
    words = figures.spoken(text) if english else text
    if words is None:
        return None
    voice, speak = (voices.random_voice if english else voices.random_spanish)(r)
    x = voices.trim(speak(words))
    if r.random() < 0.4:
        # another size of head
        x = resample_poly(x, 100, r.randrange(89, 114)).astype(np.float32)
    if not 0.25 < len(x) / voices.RATE < 9.5:
        return None
    x *= 0.5 / max(1e-3, np.abs(x).max())
    if r.random() < 0.08:
        limit = r.uniform(0.08, 0.3)
        x = np.clip(x, -limit, limit)
    m = mel.raw(np.pad(x, 240) + np.random.normal(0, 1e-5, len(x) + 480).astype(np.float32))
    if r.random() < 0.45:
        m = uneven(m)
    if len(m) > 960:
        return None
    return figures.written(words) if english else words, voice, m.astype(np.float16)


def write(path, items):
    """One shard, whole or not at all."""
    np.save(path + ".part.npy", np.concatenate([m for _, _, m in items]))
    with open(path + ".json", "w") as f:
        json.dump([(text, voice, len(m)) for text, voice, m in items], f)
    os.rename(path + ".part.npy", path + ".npy")


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--text", required=True)
    a.add_argument("--out", required=True)
    a.add_argument("--language", choices=READABLE, default="en")
    a.add_argument("--worker", type=int, default=0)
    a.add_argument("--workers", type=int, default=1)
    a.add_argument("--passes", type=float, default=1)
    a.add_argument("--sounds", type=int, default=600)
    a.add_argument("--shard", type=int, default=600)
    a = a.parse_args()
    os.makedirs(a.out, exist_ok=True)
    if a.worker == 0:
        r = np.random.default_rng(0)
        for k in range(0, a.sounds, 60):
            write(f"{a.out}/sound_{k:05d}", [(None, kind, mel.raw(x).astype(np.float16)) for kind, x in (sounds.sound(r) for _ in range(60))])
    texts = sorted(sentences(a.text, a.language))[a.worker :: a.workers]
    r = random.Random(a.worker)
    np.random.seed(a.worker)
    todo, start, items, shard, made, failed = int(a.passes * len(texts)), time.time(), [], 0, 0, 0
    for text in variants(texts, r, a.language):
        try:
            item = utterance(text, r, a.language)
        except Exception as e:  # an engine that stumbles over a sentence costs that sentence
            failed += 1
            if failed < 5:
                print("failed:", text, repr(e), flush=True)
            continue
        if item:
            items.append(item)
        # small shards at first, so that training starts early
        if len(items) >= min(a.shard, 100 * (shard + 1)) or made + len(items) >= todo:
            write(f"{a.out}/speech_{a.worker:02d}_{shard:04d}", items)
            made, shard, items = made + len(items), shard + 1, []
            print(f"{made} utterances, {made / (time.time() - start):.1f}/s, {failed} failed", flush=True)
            if made >= todo:
                break


if __name__ == "__main__":
    main()
