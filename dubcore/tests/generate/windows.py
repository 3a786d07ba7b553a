"""The windows that a dub of the sample clips feeds to the recogniser, decoded greedily by transformers.

Which windows these are only the pipeline knows, so this runs the Rust test that compares them in its dumping mode and
decodes what it wrote: again after every change to voice activity detection or to the clips. Prints the word error rate
against what is spoken in the clips.
"""

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

import whisper
from common import MARGIN, RATE, TESTS, case_dir

TEST = "each_window_of_a_dub_gives_the_tokens_of_transformers"
CLIPS = TESTS.parent.parent / "examples" / "media"


def words(text):
    return re.sub(r"[^a-z0-9' ]", "", text.lower()).split()


def edits(want, got):
    row = list(range(len(got) + 1))
    for i, a in enumerate(want, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(got, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


def generate(micro):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "windows.safetensors")
        subprocess.run(["cargo", "test", "-q", "--workspace", "--lib", TEST], cwd=TESTS.parent, check=True,
                       env=dict(os.environ, DUBCORE_DUMP_WINDOWS=str(file)))
        sounds = load_file(file)
    folder = micro / "stt-en"
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = WhisperForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    out, heard = {}, {}
    for name in sorted(sounds):
        clip, _, start = name.split("/")
        features = extractor(sounds[name].numpy(), sampling_rate=RATE, return_tensors="pt").input_features
        rows, margin, _ = whisper.greedy(model, features, max_new_tokens=124)
        assert margin >= MARGIN, (name, margin)
        out.setdefault(clip, []).append({"start_ms": int(start), "tokens": rows[0]})
        heard.setdefault(clip, []).append(tokenizer.decode(rows[0]))
    for clip, texts in heard.items():
        truth = json.loads((CLIPS / clip).with_suffix(".en.json").read_text())
        want = words(" ".join(s["text"] for s in truth["segments"]))
        print(f"{clip}: WER {edits(want, words(' '.join(texts))) / len(want):.1%} over {len(want)} words")
    (case_dir("windows") / "expected.json").write_text(json.dumps(out, indent=0))
