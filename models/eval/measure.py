"""The figures of the embedded models, on sentences of the project's own: `cargo xtask eval-pack` runs it.

    python measure.py [--json FILE] [--data DIR] [--speech DIR]

Translation is measured on pairs.tsv: kind, English, Spanish, and what must be in a translation (spaces between, | for either).
With --data also on DIR/test.tsv, held-out pairs of the corpus. Recognition is measured on a folder that train/heldout.py made.
What was measured is compared with figures.json, which keeps what was measured last; --write replaces that.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import dubcore
import sacrebleu

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "train"))
import scoring  # noqa: E402

# A change smaller than this is the rounding of another processor.
SLACK = 0.3


def plain(text):
    """Without the marks of thousands, which either language may leave out."""
    return re.sub(r"(?<=\d)[.,\s](?=\d{3}\b)", "", text).lower()


def holds(text, parts):
    """Whether each part, or one of its forms, is a word of the text."""
    word = lambda form: re.search(rf"(?<!\w){re.escape(plain(form))}(?!\w)", plain(text))
    return all(any(word(form) for form in part.split("|")) for part in parts.split())


def overlap(found, wanted):
    return {"BLEU": sacrebleu.corpus_bleu(found, [wanted]).score, "chrF": sacrebleu.corpus_chrf(found, [wanted]).score}


def translation(a, told):
    translator = dubcore.Translator("micro/mt-en-es")
    translate = lambda texts: [t.text for t in translator.translate(texts, from_="en", to="es", beams=4)]
    rows = [line.split("\t") for line in (HERE / "pairs.tsv").read_text().splitlines()]
    found = translate([english for _, english, _, _ in rows])
    for name, value in overlap(found, [spanish for _, _, spanish, _ in rows]).items():
        told[f"translation, own pairs, {name}"] = value
    for kind in ("name", "number"):
        right = [(holds(text, parts), english, text) for (k, english, _, parts), text in zip(rows, found, strict=True) if k == kind]
        told[f"translation, {kind}s right, %"] = 100 * sum(ok for ok, _, _ in right) / len(right)
        if a.show:
            print(*(f"{english} | {text}" for ok, english, text in right if not ok), sep="\n")
    if a.data:
        pairs = [line.split("\t")[:2] for line in (Path(a.data) / "test.tsv").read_text().splitlines()]
        for name, value in overlap(translate([e for e, _ in pairs]), [s for _, s in pairs]).items():
            told[f"translation, the corpus's pairs, {name}"] = value


def recognition(a, told):
    folder, stt = Path(a.speech), dubcore.Stt("micro/stt-en")
    sets = {True: ([], []), False: ([], [])}
    for item in json.loads((folder / "manifest.json").read_text()):
        wanted, found = sets[item["heard"]]
        wanted.append(item["text"])
        found.append(stt.transcribe(folder / item["wav"], language="en").text)
    for heard, (wanted, found) in sets.items():
        if wanted:
            voices = "voices of the training" if heard else "other voices"
            told[f"recognition, {voices}, word errors in %"] = 100 * scoring.word_errors(wanted, found)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--json", help="write the figures there too")
    p.add_argument("--data", help="a folder with the corpus's test.tsv")
    p.add_argument("--speech", help="a folder that train/heldout.py made")
    p.add_argument("--show", action="store_true", help="print the translations that lack something")
    p.add_argument("--write", action="store_true", help="keep the figures")
    a = p.parse_args()
    told = {}
    translation(a, told)
    if a.speech:
        recognition(a, told)
    kept = HERE / "figures.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    worse = []
    for name, value in told.items():
        was = known.get(name)
        print(f"{name:60} {value:6.1f}" + (f"  was {was:.1f}" if was is not None else ""))
        if was is not None and (value - was if "errors" in name else was - value) > SLACK:
            worse.append(name)
    if a.json:
        Path(a.json).write_text(json.dumps(told, indent=1) + "\n")
    if a.write:
        kept.write_text(json.dumps(known | {n: round(v, 2) for n, v in told.items()}, indent=1) + "\n")
    elif worse:
        sys.exit(f"worse than it was: {', '.join(worse)}")


if __name__ == "__main__":
    main()
