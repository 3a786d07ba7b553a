"""The weights of Silero VAD for 16 kHz as the package on PyPI has them (TorchScript), and what its ONNX says of a recording:
alone, in noise, faint and too loud. The safetensors file of that package holds other, older weights.
"""

import importlib.util
import wave
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from common import FIXTURES, RATE, case_dir, write_json, write_tensors

FRAME, CONTEXT = 512, 64
WEIGHTS = FIXTURES.parents[1] / "assets/silero-vad-6.2.1/silero_vad_16k.safetensors"


def noise(n):
    """The generator of the Rust test, within -1 and 1."""
    out, state = np.empty(n, np.float32), 1
    for i in range(n):
        state = (state * 1_664_525 + 1_013_904_223) % 2**32
        out[i] = np.float32(state) / np.float32(2**31) - np.float32(1)
    return out


def probabilities(session, sound):
    sound = np.pad(sound, (0, -len(sound) % FRAME)).clip(-1, 1)
    state, before = np.zeros((2, 1, 128), np.float32), np.zeros(CONTEXT, np.float32)
    for frame in sound.reshape(-1, FRAME):
        heard = np.concatenate([before, frame])[None]
        p, state = session.run(None, {"input": heard, "state": state, "sr": np.array(RATE, np.int64)})
        before = frame[-CONTEXT:]
        yield round(float(p[0, 0]), 7)


def generate(_micro):
    # Found without importing it, which would want torchaudio.
    data = Path(importlib.util.find_spec("silero_vad").submodule_search_locations[0]) / "data"
    published = torch.jit.load(data / "silero_vad.jit").state_dict()
    of_16k = {name.removeprefix("_model."): t for name, t in published.items() if name.startswith("_model.")}
    write_tensors(WEIGHTS, of_16k)
    WEIGHTS.chmod(0o644)
    session = onnxruntime.InferenceSession(str(data / "silero_vad.onnx"), providers=["CPUExecutionProvider"])
    path = case_dir("vad")
    with wave.open(str(path / "harbour.wav")) as wav:
        speech = np.frombuffer(wav.readframes(wav.getnframes()), "<i2").astype(np.float32) / 32768
    sounds = []
    for gain, level in [(1.0, 0.0), (1.0, 0.05), (0.02, 0.002), (3.0, 0.3), (0.0, 0.5)]:
        sound = np.float32(gain) * speech + np.float32(level) * noise(len(speech))
        sounds.append({"gain": gain, "noise": level, "probabilities": list(probabilities(session, sound))})
    write_json(path / "expected.json", {"sounds": sounds})
