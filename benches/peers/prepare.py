"""What the contenders read: checkpoints with random weights, in each one's own format, and the same input for all.

    python prepare.py FOLDER PROGRAM WAV

PROGRAM is dubcore-bench, which makes the checkpoints; WAV is mono, 16 bits. What FOLDER has already stays.
"""

import array
import json
import random
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np

import ggml

# A window of Whisper's, the tokens of a translation's two sides (the end of the source included), frames of a vocoder.
SECONDS, RATE = 30, 16_000
SOURCE, TARGET = 20, 24
FRAMES = 322
# About five seconds of speech at the random voice's 15 letters a second.
TEXT = "espera diez minutos en la puerta de la casa que ya viene el tren de la noche"
WORDS = "the a we they house river street window morning train keys table is was sees opens near of on old green cold and".split()


def once(path, make):
    """Makes a file or folder under another name first: whole or not at all."""
    if path.exists():
        return
    print(f"preparing {path.name}", flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"part-{path.name}")
    shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
    make(part)
    part.rename(path)


def rewritten(path, **changes):
    found = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**found, **changes}))


def whisper(folder, program):
    """Every token is a word and none the end, so that every contender writes as many as are asked for, and they can be
    counted in the text. The published checkpoints suppress some 90; whisper.cpp knows only those."""
    subprocess.run([program, "random-model", "whisper-base", folder], check=True, stdout=subprocess.DEVNULL)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    word = lambda token: token[0] == "Ġ" and token[1:].isascii() and token[1:].isalnum()
    words = {id for token, id in vocabulary.items() if word(token)}
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    suppressed = [id for id in range(size) if id not in words]
    rewritten(folder / "generation_config.json", suppress_tokens=suppressed)


def marian(folder, program):
    """As long as is wanted; and the first token's vector is zero, as in the published checkpoints: CTranslate2 counts on it."""
    subprocess.run([program, "random-model", "opus-mt", folder], check=True, stdout=subprocess.DEVNULL)
    config = json.loads((folder / "config.json").read_text())
    keys = "bos_token_id eos_token_id forced_eos_token_id pad_token_id decoder_start_token_id bad_words_ids num_beams".split()
    rewritten(folder / "config.json", max_length=TARGET + 1)
    rewritten(folder / "generation_config.json", max_length=TARGET + 1, **{key: config[key] for key in keys})
    weights = folder / "model.safetensors"
    dict(ggml.safetensors(weights, "r+"))["model.shared.weight"][config["pad_token_id"]] = 0


def sentences(folder, count):
    """Sentences of exactly SOURCE tokens: texts, pieces and their numbers, the end included."""
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    numbers = json.loads((folder / "vocab.json").read_text())
    draw, out = random.Random(1), []
    while len(out) < count:
        text = ""
        while len(found := pieces.encode(text, out_type=str)) < SOURCE - 1:
            text = f"{text} {draw.choice(WORDS)}".strip()
        if len(found) == SOURCE - 1 and all(p in numbers for p in found):
            found.append("</s>")
            out.append({"text": text, "pieces": found, "ids": [numbers[p] for p in found]})
    return out


def sound(wav, path):
    """The recording over and over, as 32-bit floats. Its rate does not matter here: it is heard as if it were RATE."""
    with wave.open(str(wav)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype("<f4") / 32768
    path.write_bytes(np.resize(samples, SECONDS * RATE).tobytes())


def latents(path, channels):
    draw = random.Random(1)
    path.write_bytes(array.array("f", [draw.gauss(0, 1) for _ in range(FRAMES * channels)]).tobytes())


def filters(folder):
    """[mels, bins], as all use them."""
    from transformers import WhisperFeatureExtractor

    return np.asarray(WhisperFeatureExtractor.from_pretrained(folder).mel_filters, np.float32).T


def ctranslate2(source, target, **options):
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(source)).convert(str(target), **options)
    for file in ("tokenizer.json", "preprocessor_config.json"):
        if (source / file).exists():
            shutil.copy(source / file, target / file)


def onnx(source, what, path):
    import torch
    import transformers

    if what == "encoder":
        model = transformers.WhisperForConditionalGeneration.from_pretrained(source).model.encoder
        given = torch.zeros(1, model.config.num_mel_bins, 2 * model.config.max_source_positions)
    else:
        model = transformers.VitsModel.from_pretrained(source)
        model.noise_scale = model.noise_scale_duration = 0.0
        given = torch.zeros(1, model.config.flow_size, FRAMES)
        if what == "vocoder":
            model = model.decoder
        else:
            given = torch.tensor([voice_ids(source)])

    class First(torch.nn.Module):
        """The model's first output alone."""

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            found = self.model(x)
            return found if isinstance(found, torch.Tensor) else found[0]

    with torch.no_grad():
        torch.onnx.export(
            First().eval(), (given,), str(path), input_names=["x"], output_names=["y"], external_data=False, verbose=False,
            # The newer exporter cannot follow how a text's length becomes that of the sound.
            dynamo=what != "voice",
        )


def voice_ids(folder):
    """TEXT as the voice reads it: a blank before and behind each letter."""
    numbers = json.loads((folder / "vocab.json").read_text())
    return [0] + [number for letter in TEXT for number in (numbers[letter], 0)]


def main(folder, program, wav):
    hear, write, say = (folder / name for name in ("whisper-base", "opus-mt-en-es", "mms-tts-spa"))
    once(hear, lambda p: whisper(p, program))
    once(write, lambda p: marian(p, program))
    once(say, lambda p: subprocess.run([program, "random-model", "mms-tts", p], check=True, stdout=subprocess.DEVNULL))
    once(folder / "sound.f32", lambda p: sound(wav, p))
    once(folder / "latents.f32", lambda p: latents(p, json.loads((say / "config.json").read_text())["flow_size"]))
    once(folder / "sentences.json", lambda p: p.write_text(json.dumps(sentences(write, 32))))
    once(folder / "voice.json", lambda p: p.write_text(json.dumps({"text": TEXT, "ids": voice_ids(say)})))
    for kind in ggml.FILES:
        once(folder / f"whisper-base-{kind}.bin", lambda p: ggml.convert(hear, p, filters(hear), kind))
    for source in (hear, write):
        once(folder / f"ct2-{source.name}-f32", lambda p: ctranslate2(source, p))
        once(folder / f"ct2-{source.name}-int8", lambda p: ctranslate2(source, p, quantization="int8"))
    for what, source in (("encoder", hear), ("vocoder", say), ("voice", say)):
        once(folder / f"{what}.onnx", lambda p: onnx(source, what, p))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
