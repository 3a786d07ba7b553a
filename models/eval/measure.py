"""The figures of the embedded models, on sentences of the project's own: `cargo xtask eval-pack` runs it.

    python measure.py [--json FILE] [--data DIR] [--speech DIR] [--compute-type f32,bf16,int8]
                      [--weights WHISPER_DIR .. --prompts MANIFEST]

Translation is measured on pairs.tsv: kind, English, Spanish, and what must be in a translation (spaces between, | for either).
With --data also on DIR/test.tsv, held-out pairs of the corpus. The voice says some of pairs.tsv, and a small recogniser
(listener.py), which never heard it, writes that down, and the dub of the sample clip. Recognition is measured on a folder that
train/heldout.py made. With --prompts recognisers of others, openai/whisper-* models in Hugging Face layout, are measured on
recordings of people, as benches/quality/quality.py does; one of them that knows Spanish also writes down what the voice says.

What was measured is compared with figures.json, which keeps what was measured last; --write replaces that. Of several compute
types the first is what the others are compared with: bf16 may be worse by 0.1 point, int8 by 0.5.
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path

import dubcore
import numpy as np
import sacrebleu

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "train"), str(HERE.parents[1] / "benches/quality")]
import mel  # noqa: E402
import quality  # noqa: E402
import scoring  # noqa: E402
from listener import Listener, spoken  # noqa: E402

# A change smaller than this is the rounding of another processor.
SLACK = 0.3
MODELS = (dubcore.Stt, "micro/stt-en"), (dubcore.Translator, "micro/mt-en-es"), (dubcore.Tts, "micro/tts-es")
# How much worse than the first a compute type may be, in points.
BOUNDS = {"bf16": 0.1, "int8": 0.5}
# What has the bounds: other figures have too few cases, or count a word of a sentence several times.
BOUND = re.compile("errors|chrF")


def plain(text):
    """Without the marks of thousands, which either language may leave out."""
    return re.sub(r"(?<=\d)[.,\s](?=\d{3}\b)", "", text).lower()


def holds(text, parts):
    """Whether each part, or one of its forms, is a word of the text."""
    word = lambda form: re.search(rf"(?<!\w){re.escape(plain(form))}(?!\w)", plain(text))
    return all(any(word(form) for form in part.split("|")) for part in parts.split())


def overlap(found, wanted):
    return {"BLEU": sacrebleu.corpus_bleu(found, [wanted]).score, "chrF": sacrebleu.corpus_chrf(found, [wanted]).score}


class Shown(dict):
    """Figures by name, each shown as soon as it is known."""

    def __init__(self, compute_type):
        super().__init__()
        self.compute_type = compute_type

    def __setitem__(self, name, value):
        super().__setitem__(name, value)
        print(f"{self.compute_type:5} {name:60} {value:6.2f}", file=sys.stderr, flush=True)


def translation(a, compute_type, told):
    translator = dubcore.Translator("micro/mt-en-es", compute_type=compute_type)
    translate = lambda texts: [t.text for t in translator.translate(texts, from_="en", to="es", beams=4)]
    rows = pairs()
    found = translate([english for _, english, _, _ in rows])
    for name, value in overlap(found, [spanish for _, _, spanish, _ in rows]).items():
        told[f"translation, own pairs, {name}"] = value
    for kind in ("name", "number"):
        right = [(holds(text, parts), english, text) for (k, english, _, parts), text in zip(rows, found, strict=True) if k == kind]
        told[f"translation, {kind}s right, %"] = 100 * sum(ok for ok, _, _ in right) / len(right)
        if a.show:
            print(*(f"{english} | {text}" for ok, english, text in right if not ok), sep="\n")
    if a.data:
        corpus = [line.split("\t")[:2] for line in (Path(a.data) / "test.tsv").read_text().splitlines()]
        for name, value in overlap(translate([e for e, _ in corpus]), [s for _, s in corpus]).items():
            told[f"translation, the corpus's pairs, {name}"] = value
    return translator.info


def pairs():
    return [line.split("\t") for line in (HERE / "pairs.tsv").read_text().splitlines()]


def recognition(a, compute_type, told):
    folder, stt = Path(a.speech), dubcore.Stt("micro/stt-en", compute_type=compute_type)
    sets = {True: ([], []), False: ([], [])}
    for item in json.loads((folder / "manifest.json").read_text()):
        wanted, found = sets[item["heard"]]
        wanted.append(item["text"])
        found.append(stt.transcribe(folder / item["wav"], language="en").text)
    for heard, (wanted, found) in sets.items():
        if wanted:
            voices = "voices of the training" if heard else "other voices"
            told[f"recognition, {voices}, word errors in %"] = 100 * scoring.word_errors(wanted, found)


def people(a, compute_type, told):
    """Recordings of people, written down by weights of others."""
    prompts = [json.loads(line) for line in Path(a.prompts).read_text().splitlines()]
    for folder in a.weights:
        stt = dubcore.Stt(folder, compute_type=compute_type)
        found = [(p["en"], stt.transcribe(p["en_wav"], language="en").text) for p in prompts]
        words, letters = quality.rates(found, "en")
        told[f"{Path(folder).name}, prompts, word errors in %"] = words
        told[f"{Path(folder).name}, prompts, letter errors in %"] = letters


def sound(audio):
    return np.asarray(audio.resample(mel.RATE))


def misheard(pairs):
    """How many letters of (text, audio) the listener gets wrong, in %. What has figures is not counted: it reads none."""
    listener = Listener()
    return 100 * scoring.letter_errors((spoken(text), listener.hear(sound(audio))) for text, audio in pairs if not re.search(r"\d", text))


def voice(a, compute_type, told, first):
    """What the voice says, heard by the recogniser of the recipe and by somebody else's, and beside what it said in the first
    compute type."""
    # Names of other languages have a spelling that no letter of a listener's is right for.
    texts = [spanish for kind, _, spanish, _ in pairs() if kind not in ("name", "number")]
    tts = dubcore.Tts("micro/tts-es", factory=dubcore.Factory(cpu_threads=1), compute_type=compute_type)
    began = time.perf_counter()
    said = [s.audio for s in tts.synthesize(texts)]
    told["voice, real-time factor on one thread"] = (time.perf_counter() - began) / sum(audio.duration for audio in said)
    told["voice, letter errors in %"] = misheard(zip(texts, said, strict=True))
    mine = [scoring.cepstra(sound(audio)) for audio in said]
    far = [scoring.distortion(*pair) for pair in zip(first, mine, strict=True)] if first else [0.0]
    first.extend(mine if not first else [])
    told["voice, distortion beside the first compute type, dB"] = float(np.mean(far))
    for folder in a.weights:
        listener = dubcore.Stt(folder, compute_type="f32")
        if "es" in listener.info.from_:
            found = [listener.transcribe(audio, language="es").text for audio in said]
            told[f"voice, heard by {Path(folder).name}, letter errors in %"] = quality.rates(zip(texts, found), "es")[1]


def round_trip(compute_type, told):
    """The sample clip: what is said in it, and what is heard of its dub."""
    clip = HERE.parents[1] / "examples/media/station.mp4"
    wanted = [line["text"] for line in json.loads(clip.with_suffix(".en.json").read_text())["segments"]]
    pipeline = dubcore.Pipeline(*(stage(name, compute_type=compute_type) for stage, name in MODELS))
    lines = list(pipeline.start(clip, to="es"))
    told["sample clip, word errors in %"] = 100 * scoring.word_errors([" ".join(wanted)], [" ".join(line.source for line in lines)])
    told["sample clip, its dub, letter errors in %"] = misheard((line.target, line.audio) for line in lines)


def compared(told, types):
    """Prints all figures side by side; returns what is out of its bounds."""
    wide, out = max(len(name) for name in told[types[0]]), []
    print(" " * wide, *(f"{t:>8}" for t in types))
    for name, base in told[types[0]].items():
        print(f"{name:{wide}}", *(f"{told[t][name]:8.2f}" for t in types))
        for t in types[1:]:
            worse = told[t][name] - base if "errors" in name else base - told[t][name]
            if BOUND.search(name) and worse > BOUNDS.get(t, 0):
                out.append(f"{name}, {t}: {worse:.2f}")
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--json", help="write the figures there too")
    p.add_argument("--data", help="a folder with the corpus's test.tsv")
    p.add_argument("--speech", help="a folder that train/heldout.py made")
    p.add_argument("--weights", action="append", default=[], help="a recogniser of others; may be given several times")
    p.add_argument("--prompts", help="recordings of people: see benches/quality/quality.py")
    p.add_argument("--compute-type", default="f32", help="with commas between several; the first is what others are compared with")
    p.add_argument("--show", action="store_true", help="print the translations that lack something")
    p.add_argument("--write", action="store_true", help="keep the figures")
    a = p.parse_args()
    types, told, first = a.compute_type.split(","), {}, []
    if not set(types) <= {"f32", "bf16", "int8"}:
        p.error(f"--compute-type {a.compute_type}: use f32, bf16 and int8, with commas between them")
    for compute_type in types:
        mine = told[compute_type] = Shown(compute_type)
        info = translation(a, compute_type, mine)
        assert info.compute_type == compute_type, info
        if a.speech:
            recognition(a, compute_type, mine)
        if a.prompts:
            people(a, compute_type, mine)
        voice(a, compute_type, mine, first)
        round_trip(compute_type, mine)
    kept = HERE / "figures.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    base, worse = told[types[0]], []
    for name in [n for n in base if n in known]:
        was, value = known[name], base[name]
        print(f"{name:60} {value:6.1f}  was {was:.1f}")
        if (value - was if "errors" in name else was - value) > SLACK:
            worse.append(name)
    out = compared(told, types)
    if a.json:
        Path(a.json).write_text(json.dumps(told, indent=1) + "\n")
    if a.write:
        own = {n: round(v, 2) for n, v in base.items() if n.startswith(("translation", "recognition", "voice, letter", "sample"))}
        kept.write_text(json.dumps(known | own, indent=1) + "\n")
    elif worse:
        sys.exit(f"worse than it was: {', '.join(worse)}")
    if out:
        sys.exit(f"worse than {types[0]} by more than it may be: {'; '.join(out)}")


if __name__ == "__main__":
    main()
