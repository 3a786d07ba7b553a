"""Held-out speech: test sentences read by voices of the training and by voices it never heard.

    python heldout.py --text test.tsv --out DIR [--per 50]

Writes DIR/NAME.wav and DIR/manifest.json; with `--monitor FILE.npz` also a small set of log-mels, of the unheard voices
alone, for a look at a running training. Needs festival with the voices ked_diphone and cmu_us_slt_arctic_hts.
"""

import argparse
import json
import os
import wave

import numpy as np

import mel
import speech
from voices import Espeak, Festival, Flite, Pico, RHVoice, engine

HEARD = {
    "espeak en-us": lambda t: engine(Espeak)(t, "en-us"),
    "espeak en-gb": lambda t: engine(Espeak)(t, "en-gb"),
    **{f"flite {v}": (lambda t, v=v: engine(Flite)(t, v)) for v in ("slt", "rms", "awb", "kal16")},
    **{f"pico {v}": (lambda t, v=v: engine(Pico)(t, v)) for v in ("en-US", "en-GB")},
    **{f"rhvoice {v}": (lambda t, v=v: engine(RHVoice)(t, v)) for v in ("alan", "clb", "slt")},
}
UNHEARD = {
    "rhvoice bdl": lambda t: engine(RHVoice)(t, "bdl"),
    "espeak en-us+f4": lambda t: engine(Espeak)(t, "en-us+f4"),
    "espeak en-gb+Mario": lambda t: engine(Espeak)(t, "en-gb+Mario"),
    "festival ked": lambda t: engine(Festival, "voice_ked_diphone")(t),
    "festival slt hts": lambda t: engine(Festival, "voice_cmu_us_slt_arctic_hts")(t),
}


def write(path, x):
    with wave.open(path, "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(16000)
        f.writeframes((x * 32767).astype("<i2").tobytes())


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--text", required=True)
    a.add_argument("--out", required=True)
    a.add_argument("--per", type=int, default=50)
    a.add_argument("--monitor")
    a = a.parse_args()
    os.makedirs(a.out, exist_ok=True)
    # no figures here: their reading is the voices' business, and tested apart
    texts = [t for t in speech.sentences(a.text) if len(t.split()) <= 20 and not any(ch in "0123456789$%" for ch in t)]
    manifest, mels, tops, kept = [], [], [], []
    for k, (voice, speak) in enumerate((HEARD | UNHEARD).items()):
        mine = [texts[(k * 50 + i) % len(texts)] for i in range(a.per)]
        for i, text in enumerate(mine):
            x = speak(text)
            x = 0.5 * x / np.abs(x).max()
            name = f"{voice.replace(' ', '_')}_{i:02d}.wav"
            write(f"{a.out}/{name}", x)
            manifest.append({"voice": voice, "heard": voice in HEARD, "text": text, "wav": name, "seconds": len(x) / 16000})
            if voice in UNHEARD and i < 20 and len(x) < 158000:
                m = mel.raw(np.pad(x, (0, 160000 - len(x))))
                tops.append(m.max())
                mels.append(np.round((np.maximum(m - m.max(), -8) + 8) * 255 / 8).astype(np.uint8))
                kept.append(text)
        print(voice, len(mine), flush=True)
    json.dump(manifest, open(f"{a.out}/manifest.json", "w"), indent=0)
    if a.monitor:
        np.savez_compressed(a.monitor, mels=np.stack(mels), tops=np.array(tops, np.float32), texts=np.array(kept))


if __name__ == "__main__":
    main()
