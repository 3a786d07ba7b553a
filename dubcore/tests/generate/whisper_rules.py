"""The rules around Whisper's decoder, each with cases that trigger it: what may follow what where timestamps are written,
how repetitive a text is, and which windows of the random models are tried again or taken for silence.

Needs the fixtures of the group `whisper`.
"""

import json
import zlib

import torch
from safetensors.torch import load_file
from transformers import GenerationConfig, WhisperForConditionalGeneration
from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

import whisper
from common import FIXTURES, MARGIN, case_dir

# A small vocabulary: words, the end, the token that switches timestamps off, then the timestamps.
END, NO_TIMESTAMPS, VOCABULARY, MAX_INITIAL = 12, 15, 46, 10
FIRST = NO_TIMESTAMPS + 1

PREFIXES = {
    "the first token is a time, and no late one": [],
    "behind a first time comes text": [FIRST + 3],
    "text may be closed": [FIRST + 3, 1, 2],
    "a closing time is followed by its partner or the end": [FIRST, 1, 2, FIRST + 9],
    "behind a pair comes text": [FIRST, 1, 2, FIRST + 9, FIRST + 9],
    "a segment ends behind its beginning": [FIRST, 1, FIRST + 9, FIRST + 12, 3],
    "times never fall": [FIRST + 5, 4, FIRST + 20, FIRST + 21, 5, 6],
    "the last tick of all": [FIRST, 1, VOCABULARY - 1],
}

TEXTS = [
    "The ferry leaves from the northern pier at noon.",
    "no no no no no no no no no no no no no no no no no no no no no no no no no no no no no",
    "I will call you tomorrow. I will call you tomorrow. I will call you tomorrow. I will call you tomorrow.",
    "¿Cuántas naranjas quedan en la cesta azul de la abuela?",
    "ha " * 200,
    "a",
    "Seven swans were swimming, six geese were grazing, five hens were hiding, four ducks were dozing.",
]


def timestamp_cases():
    config = GenerationConfig(eos_token_id=END, no_timestamps_token_id=NO_TIMESTAMPS, max_initial_timestamp_index=MAX_INITIAL)
    rule = WhisperTimeStampLogitsProcessor(config, begin_index=1)
    draw = torch.Generator().manual_seed(7)
    cases = []
    for name, prefix in PREFIXES.items():
        # Timestamps that together outweigh every word, or do not, on the same prefix.
        for lift in (-4.0, 0.0, 4.0):
            scores = torch.randn(1, VOCABULARY, generator=draw)
            scores[:, FIRST:] += lift
            allowed = rule(torch.tensor([[0, *prefix]]), scores.clone())[0] > -torch.inf
            cases.append({"rule": name, "generated": prefix, "scores": [round(s, 4) for s in scores[0].tolist()],
                          "allowed": [i for i, a in enumerate(allowed.tolist()) if a]})
    return cases


def judged(path):
    """What transformers decides about each window of a case at temperature 0, and by which thresholds: they lie between
    the windows, so that each decision occurs."""
    want = json.loads((path / "expected.json").read_text())
    features = load_file(path / "expected.safetensors")["input_features"]
    model = WhisperForConditionalGeneration.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
    seen = []
    judge, average = model._need_fallback, model._retrieve_avg_logprobs

    def watched(tokens, outputs, index, processors, config, vocabulary, temperature):
        logprob = average(outputs[index]["scores"], tokens, temperature).item()
        config.logprob_threshold, config.no_speech_threshold = watched.thresholds
        again, skip = judge(tokens, outputs, index, processors, config, vocabulary, temperature)
        seen.append({"avg_logprob": logprob, "retry": again, "silence": skip})
        return False, skip

    model._need_fallback = watched
    options = {"language": "en", "task": "transcribe", "max_new_tokens": want["max_new_tokens"], "num_beams": 1}

    def run(logprob, no_speech):
        seen.clear()
        watched.thresholds = (logprob, no_speech)
        model.generate(features, temperature=(0.0, 0.5), logprob_threshold=logprob,
                       no_speech_threshold=no_speech, **options)
        # What follows the first round are the ends of windows that generate() takes for unfinished.
        return [dict(s) for s in seen[: len(want["greedy"])]]

    logprobs = sorted(s["avg_logprob"] for s in run(-1e9, 1.0))
    silences = sorted(want["no_speech_probability"])
    between = [(a + b) / 2 for a, b in zip(logprobs, logprobs[1:])] + [logprobs[-1] + 1]
    assert min(b - a for a, b in zip(logprobs, logprobs[1:])) > MARGIN
    quiet = [(a * b) ** 0.5 for a, b in zip(silences, silences[1:])] + [silences[0] / 2]
    return [{"avg_logprob_below": lp, "no_speech_above": ns, "windows": run(lp, ns)} for lp in between for ns in quiet]


def generate(_micro):
    record = {
        "end": END, "no_timestamps": NO_TIMESTAMPS, "max_initial": MAX_INITIAL,
        "timestamps": timestamp_cases(),
        "compression": [{"text": t, "ratio": len(t.encode()) / len(zlib.compress(t.encode()))} for t in TEXTS],
        "judged": {c.name: judged(FIXTURES / "whisper" / c.name) for c in whisper.CASES},
    }
    every = [w for case in record["judged"].values() for rule in case for w in rule["windows"]]
    assert {(w["retry"], w["silence"]) for w in every} == {(False, False), (True, False), (False, True)}
    (case_dir("whisper-rules") / "expected.json").write_text(json.dumps(record, ensure_ascii=False, indent=0))
