"""Whisper's log-mel features at the edges: too short, exact, too long, silent, loud.

The real chunk is 30 s, which would be megabytes; one second decides the same questions. One case keeps every 50th frame
of a full chunk, because padding far beyond the sound changes which maximum the features are clipped against.
"""

import numpy as np
import torch
from transformers import WhisperFeatureExtractor

from common import RATE, bursts, case_dir, chirp, tones, write_json, write_tensors


def generate(_micro):
    path = case_dir("logmel")
    speech = np.concatenate([chirp(0.3, 120, 400), np.zeros(1600, np.float32), bursts(0.2, 3, level=0.05)])
    audio = {
        "shorter": speech,
        "exact": tones(1.0, (150, 440, 3100)),
        "longer": np.concatenate([chirp(0.9, 300, 6000), bursts(0.45, 5)]),
        "silence": np.zeros(RATE // 2, np.float32),
        "loud": (np.random.default_rng(9).standard_normal(RATE) * 4.0).clip(-8, 8).astype(np.float32),
        "faint": tones(0.5, (700,), level=1e-4),
        "tiny": chirp(100 / RATE, 500, 900),
    }
    tensors = {f"audio.{name}": torch.from_numpy(a) for name, a in audio.items()}
    for mels in (80, 128):
        extract = WhisperFeatureExtractor(feature_size=mels, chunk_length=1)
        # The filters are all that differs, so the wider bank need not repeat every edge.
        for name, a in audio.items() if mels == 80 else ((n, audio[n]) for n in ("shorter", "longer", "loud")):
            tensors[f"mel.{name}.{mels}"] = extract(a, sampling_rate=RATE, return_tensors="pt").input_features[0]
        full = WhisperFeatureExtractor(feature_size=mels)(audio["longer"], sampling_rate=RATE, return_tensors="pt")
        tensors[f"mel30.frames_every_50.{mels}"] = full.input_features[0, :, ::50]
    write_tensors(path / "expected.safetensors", tensors)
    write_json(path / "expected.json", {
        "note": "mel.NAME.MELS is [mels, 100] for a chunk of one second; mel30.frames_every_50.MELS is frames 0, 50, 100, "
                "... of audio.longer in a chunk of 30 s.",
        "names": list(audio),
    })
