#!/usr/bin/env python3
"""How well recordings are written down, beside faster-whisper on the same weights: the figures of docs/quality.md.

    cargo build --release --example transcribe
    pip install faster-whisper
    python benches/quality/quality.py --weights WHISPER_DIR --ct2 CT2_DIR \\
        --prompts MANIFEST [--language es] [--quiet-sounds DIR] [--compute-type int8]

WHISPER_DIR is an openai/whisper-* model in Hugging Face layout, CT2_DIR the same weights in CTranslate2's. MANIFEST has a
line of JSON per recording: {"id": .., "en": text, "en_wav": path, ..} (16-bit mono WAV). Three sets are made of them:

- prompts: each recording by itself;
- joined: all of them, one behind the other with pauses of 0.2 to 1.0 s, in recordings of about ten minutes;
- tight: the same with pauses of 0.1 to 0.3 s, so that hardly any pause is long enough to be one.

With --quiet-sounds five minutes each of silence, hiss, hum, and every WAV file in DIR (music) are heard too: no text is right.
"""

import argparse
import json
import math
import random
import re
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
DIGITS = {
    "en": "zero one two three four five six seven eight nine".split(),
    "es": "cero uno dos tres cuatro cinco seis siete ocho nueve".split(),
}
MINUTES = 10


def words(text, language):
    """Lower case, no punctuation or accents (the Spanish texts have none), digits spelled one by one."""
    text = re.sub(r"[áéíóúüñ]", lambda m: "aeiouun"["áéíóúüñ".index(m[0])], text.lower())
    text = re.sub(r"\d", lambda m: f" {DIGITS[language][int(m[0])]} ", text)
    return re.sub(r"[^a-z ]", " ", text.replace("'", "")).split()


def edits(want, got):
    row = list(range(len(got) + 1))
    for i, a in enumerate(want, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(got, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


def rates(pairs, language):
    """Word and character error rates in percent over (wanted, got) texts."""
    pairs = [(words(want, language), words(got, language)) for want, got in pairs]
    total = sum(len(want) for want, _ in pairs)
    letters = [("".join(want), "".join(got)) for want, got in pairs]
    wer = 100 * sum(edits(*p) for p in pairs) / total
    cer = 100 * sum(edits(*p) for p in letters) / sum(len(want) for want, _ in letters)
    return wer, cer


def read(path):
    with wave.open(str(path)) as w:
        assert (w.getnchannels(), w.getsampwidth()) == (1, 2), path
        return np.frombuffer(w.readframes(w.getnframes()), "<i2"), w.getframerate()


def write(path, samples, rate):
    with wave.open(str(path), "wb") as w:
        w.setnchannels(1), w.setsampwidth(2), w.setframerate(rate)
        w.writeframes(np.clip(samples, -32768, 32767).astype("<i2").tobytes())


def join(recordings, language, folder, name, least, most):
    """Recordings of about ten minutes, each with what is said in it."""
    draw, out, sound, texts, length = random.Random(1), [], [], [], 0

    def close():
        if sound:
            path = folder / f"{name}-{len(out)}.wav"
            write(path, np.concatenate(sound), rate)
            out.append((path, " ".join(texts)))
            sound.clear(), texts.clear()

    for r in recordings:
        samples, rate = read(r[f"{language}_wav"])
        pause = np.zeros(int(draw.uniform(least, most) * rate), "<i2")
        sound += [samples, pause]
        texts.append(r[language])
        length += len(samples) + len(pause)
        if length >= MINUTES * 60 * rate:
            close()
            length = 0
    close()
    return out


def quiet_sounds(folder, music):
    """Five minutes each of what holds no speech."""
    rate, draw = 16000, np.random.default_rng(1)
    n = 300 * rate
    t = np.arange(n) / rate
    yield "silence", write_named(folder, "silence", np.zeros(n), rate)
    for level in (30, 300, 3000):
        yield f"hiss {level}", write_named(folder, f"hiss-{level}", draw.normal(0, level, n), rate)
    swell = 1 + 0.8 * np.sin(2 * np.pi * t / 7)
    yield "swelling hiss", write_named(folder, "swell", draw.normal(0, 1000, n) * swell, rate)
    hum = sum(np.sin(2 * np.pi * 50 * k * t) / k for k in range(1, 8))
    yield "hum", write_named(folder, "hum", 3000 * hum, rate)
    steps = np.interp(np.arange(n), np.arange(0, n, rate // 2), draw.normal(0, 1, -(-n // (rate // 2))))
    yield "clatter", write_named(folder, "clatter", draw.normal(0, 4000, n) * (np.abs(steps) > 1.5), rate)
    scale = [220 * 2 ** (k / 12) for k in (0, 3, 5, 7, 10, 12)]
    notes = draw.choice(scale, -(-n // (rate // 4)))
    phase = np.cumsum(np.repeat(notes, rate // 4)[:n]) / rate * 2 * np.pi
    beat = np.exp(-8 * (t % 0.25))
    tune = sum(np.sin(k * phase) / k**2 for k in range(1, 6)) * beat
    yield "tune", write_named(folder, "tune", 8000 * tune, rate)
    for path in sorted(music.glob("*.wav")):
        samples, rate = read(path)
        whole = np.tile(samples, math.ceil(300 * rate / len(samples)))[: 300 * rate]
        yield f"music {path.stem}", write_named(folder, path.stem, whole, rate)


def write_named(folder, name, samples, rate):
    write(folder / f"{name}.wav", samples, rate)
    return folder / f"{name}.wav"


def ours(args, paths, timestamps):
    program = ROOT / "target/release/examples/transcribe"
    command = [program, "--stt", args.weights, "--from", args.language, "--compute-type", args.compute_type, "--json", *paths]
    out = subprocess.run(command + (["--timestamps"] if timestamps else []), check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in out.stdout.splitlines()]
    assert len(lines) == len(paths)
    return [line["text"] for line in lines]


def theirs(args, paths, timestamps):
    from faster_whisper import WhisperModel

    model = WhisperModel(str(args.ct2), device="cpu", compute_type="float32", cpu_threads=2)
    texts = []
    for path in paths:
        segments, _ = model.transcribe(
            str(path), language=args.language, beam_size=1, without_timestamps=not timestamps,
            condition_on_previous_text=False, vad_filter=timestamps,
        )
        texts.append(" ".join(s.text.strip() for s in segments))
    return texts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--ct2", type=Path)
    parser.add_argument("--compute-type", default="f32", choices=("f32", "bf16", "int8"), help="dubcore's; the other's is f32")
    parser.add_argument("--systems", default="dubcore,faster-whisper")
    parser.add_argument("--prompts", type=Path)
    parser.add_argument("--language", default="en", choices=sorted(DIGITS))
    parser.add_argument("--sets", default="prompts,joined,tight")
    parser.add_argument("--quiet-sounds", type=Path, metavar="DIR")
    parser.add_argument("--every", type=int, default=1, help="take every Nth recording only")
    parser.add_argument("--keep", type=Path, help="write all texts to this file")
    args = parser.parse_args()
    args.weights = str(Path(args.weights).resolve())
    kept = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        jobs = []
        if args.prompts:
            recordings = [json.loads(line) for line in args.prompts.read_text().splitlines()][:: args.every]
            single = [(r[f"{args.language}_wav"], r[args.language]) for r in recordings]
            made = {
                "prompts": lambda: (single, False),
                "joined": lambda: (join(recordings, args.language, folder, "joined", 0.2, 1.0), True),
                "tight": lambda: (join(recordings, args.language, folder, "tight", 0.1, 0.3), True),
            }
            jobs = [(name, *made[name]()) for name in args.sets.split(",")]
        systems = [(name, {"dubcore": ours, "faster-whisper": theirs}[name]) for name in args.systems.split(",")]
        for name, files, timestamps in jobs:
            for system, run in systems:
                began = time.time()
                texts = run(args, [p for p, _ in files], timestamps)
                wer, cer = rates([(want, got) for (_, want), got in zip(files, texts)], args.language)
                print(f"{name:8} {system:15} WER {wer:5.2f} %  CER {cer:5.2f} %  {time.time() - began:6.0f} s", flush=True)
                kept += [{"set": name, "system": system, "file": str(p), "want": w, "got": g} for (p, w), g in zip(files, texts)]
        if args.quiet_sounds:
            sounds = list(quiet_sounds(folder, args.quiet_sounds))
            for timestamps in (False, True):
                texts = ours(args, [p for _, p in sounds], timestamps)
                for (name, _), text in zip(sounds, texts):
                    print(f"{name:32} timestamps={timestamps!s:5} {text!r}", flush=True)
    if args.keep:
        args.keep.write_text("".join(json.dumps(k, ensure_ascii=False) + "\n" for k in kept))


if __name__ == "__main__":
    sys.exit(main())
