"""What the reference SentencePiece makes of some thousand lines, with the two vocabularies of the bundled translator.

Half are everyday sentences; the others are where segmenters differ: normalisation, runs of spaces, ties, unknown
characters, marks without a base. Both sides of the bundled model may share one file: then only one list is stored.
"""

import json
import random
import unicodedata

import sentencepiece

from common import case_dir

ENGLISH = [
    ["I", "We", "They", "Tom", "My mother", "The teacher", "Nobody here", "That old man", "Your friends", "Mary's dog"],
    ["never", "always", "often", "really", "just", "already", "hardly", "still"],
    ["bought", "saw", "wanted to fix", "couldn't find", "talked about", "broke", "asked for", "is painting", "forgot"],
    ["the house", "a new bicycle", "two cups of tea", "an umbrella", "the last question", "some money", "his homework"],
    ["in Boston", "yesterday", "before dinner", "at half past ten", "without help", "on the roof", "for 20 years"],
    [".", "!", "?", "...", ", didn't they?", "; that was all.", " - or so I heard."],
]
SPANISH = [
    ["Yo", "Nosotros", "Ellas", "Mi hermano", "La maestra", "Aquel señor", "Tus amigos", "El niño pequeño", "¿Quién"],
    ["nunca", "siempre", "ya", "casi", "todavía", "de verdad", "también"],
    ["compró", "quería arreglar", "no encontró", "habló de", "rompió", "pidió", "está pintando", "olvidó", "vio"],
    ["la casa", "una bicicleta nueva", "dos tazas de té", "el paraguas", "la última pregunta", "un poco de dinero"],
    ["en Sevilla", "ayer", "antes de cenar", "a las diez y media", "sin ayuda", "en el tejado", "hace 20 años"],
    [".", "!", "?", "…", ", ¿no?", "; eso fue todo.", " — según dicen."],
]
ODD = [
    "e\u0301", "n\u0303", "a\u0308\u0323", "\u0301", "\u0300\u0300\u0300", "Z\u0351\u036b\u0343",
    "\u1100\u1161\u11a8", "각", "한글", "ﬁ", "ﬀ", "ﬃ", "ﬅ", "Ａｂｃ１２３", "！？", "ﾊﾝｶｸ", "ｶﾞ", "x²", "10⁻³", "H₂O", "½",
    "¾", "Ⅳ", "ⅻ", "①", "⒜", "㎏", "㏒", "№", "™", "℃", "Å", "Ω", "ſ", "ŉ", "Ĳ", "ǆ", "İ", "ı", "ß", "ẞ", "Σς",
    "\u00a0", "\u3000", "\u2003", "\u2009", "\u202f", "\u200b", "\u200d", "\u2060", "\ufeff", "\u00ad",
    "\u2028", "\u2029", "\u0085", "\t", "\x00", "\x01", "\x07", "\x1b", "\x7f", "\x9f", "\ufffd", "\ufffe",
    "\ue000", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇪🇸", "☕️", "☕︎", "😀", "𝒳", "𝟘", "𐍈", "🄰", "שלום", "مرحبا", "ﷺ", "ﻻ",
    "\u202eabc\u202c", "\u200f", "हिन्दी", "ไทย", "漢字", "火", "日本語。", "かな", "русский", "Ελληνικά", "▁", "▁▁",
    "▁a", "a▁b", "<s>", "</s>", "<unk>", "<pad>", "<0x41>", "«", "»", "“quoted”", "‘it’s’", "‚", "„", "–", "—",
    "‑", "−", "…", "‥", "·", "•", "´", "`", "¨", "^", "~", "|", "\\", "/", "//", "@", "#", "$", "€", "£", "¡",
    "¿", "º", "ª", "§", "¶", "†", "‰", "′", "″", "×", "÷", "≠", "→", "∞", "√", "█", "\U000e0001", "\U0010ffff",
]
SPACES = [" ", "  ", "   ", " " * 17, " " * 100, "\u00a0", "\u3000", "\t", " \t ", "\u2003\u2003", " \u00a0 "]


def sentence(rng, parts):
    *words, end = (rng.choice(part) for part in parts)
    return " ".join(words) + end


def mutated(rng, text):
    """A sentence with something awkward in it."""
    spot = rng.randrange(len(text) + 1)
    kind = rng.randrange(7)
    if kind == 0:
        return text[:spot] + rng.choice(ODD) + text[spot:]
    if kind == 1:
        return rng.choice(SPACES).join(text.split(" "))
    if kind == 2:
        return unicodedata.normalize("NFD", text)
    if kind == 3:
        return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" and rng.random() < 0.5 else c for c in text)
    if kind == 4:
        return text.upper() if rng.random() < 0.5 else text.title()
    if kind == 5:
        return rng.choice(SPACES) + text + rng.choice(SPACES)
    return text[:spot] + str(rng.randrange(10 ** rng.randrange(1, 12))) + text[spot:]


def build():
    rng = random.Random(2024)
    lines = ["", *SPACES, *ODD, *".,;:!?-'\"()", "a", "A", "ñ", "0"]
    lines += ["a" * 300, "ab" * 200, "pneumono" * 40, "é" * 100, "9" * 120]
    lines += [f"{rng.choice(ODD)}{rng.choice(ODD)}" for _ in range(500)]
    lines += [f"a{odd}b {odd} c" for odd in ODD]
    letters = "abcdefghijklmnopqrstuvwxyzáéíñ"
    lines += ["".join(rng.choices(letters, k=rng.randrange(1, 16))) for _ in range(700)]
    lines += ["".join(rng.choices(letters + "   .,'-", k=rng.randrange(1, 50))) for _ in range(400)]
    # Any code point but surrogates, which no text holds.
    wild = [*range(0x3000), *range(0xE000, 0x20000)]
    lines += ["".join(map(chr, rng.choices(wild, k=rng.randrange(1, 8)))) for _ in range(600)]
    for parts in (ENGLISH, SPANISH):
        lines += [sentence(rng, parts) for _ in range(700)]
        lines += [mutated(rng, sentence(rng, parts)) for _ in range(700)]
    return list(dict.fromkeys(lines))


def compact(record):
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))


def generate(micro):
    source, target = (
        sentencepiece.SentencePieceProcessor(model_file=str(micro / "mt-en-es" / f"{side}.spm"))
        for side in ("source", "target")
    )
    records = []
    for line in build():
        record = {"text": line, "source": source.encode(line)}
        if (other := target.encode(line)) != record["source"]:
            record["target"] = other
        records.append(record)
    assert len(records) >= 5000, len(records)
    path = case_dir("sentencepiece")
    (path / "lines.jsonl").write_text("".join(compact(r) + "\n" for r in records), encoding="utf-8")

    rng = random.Random(7)
    size = len(target)
    sequences = [r["source"] for r in rng.sample(records, 150)] + [
        [rng.randrange(size) for _ in range(rng.randrange(1, 12))] for _ in range(150)
    ]
    (path / "decode.jsonl").write_text(
        "".join(compact({"ids": ids, "text": target.decode(ids)}) + "\n" for ids in sequences), encoding="utf-8"
    )
