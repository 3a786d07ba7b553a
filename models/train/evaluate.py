"""The figures of the cards, with transformers, from model folders.

    python evaluate.py stt --model DIR --heldout DIR [--per 20] [--beams 1]
    python evaluate.py mt --model DIR --pairs test.tsv
    python evaluate.py voice --model DIR --pairs test.tsv [--out DIR]
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).parents[1] / "eval"))

NAMES_AND_NUMBERS = [
    ("My name is Walter Simmons.", ["Walter", "Simmons"]), ("Naomi lives in Toronto with Hector.", ["Naomi", "Toronto", "Hector"]), ("The train leaves at 3:30.", ["3:30"]),
    ("It costs $12.", ["12"]), ("I was born in 1987.", ["1987"]), ("There are 45 chairs in the room.", ["45"]), ("Call Priya at 7:15, please.", ["Priya", "7:15"]),
    ("He is 72 years old.", ["72"]), ("Oscar paid $250 for the bicycle.", ["Oscar", "250"]), ("We moved to Denver in 2004.", ["Denver", "2004"]),
    ("About 30% of the people stayed at home.", ["30"]), ("Ingrid and Yusuf are getting married on June 14.", ["Ingrid", "Yusuf", "14"]), ("The meeting with Dr. Patterson is at 10:45.", ["Patterson", "10:45"]),
    ("We need 16 more days.", ["16"]), ("Felix told Stella a secret.", ["Felix", "Stella"]), ("The bus number is 58.", ["58"]), ("She has 11 cats.", ["11"]), ("Good evening, Mrs. Henderson.", ["Henderson"]),
    ("Ibrahim works in Chicago.", ["Ibrahim", "Chicago"]), ("It happened on May 21, 1998.", ["21", "1998"]),
]


def load_stt(folder, beams):
    from transformers import WhisperForConditionalGeneration, WhisperProcessor, logging

    # what it says of every call
    logging.set_verbosity_error()
    processor = WhisperProcessor.from_pretrained(folder)
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.num_beams = beams or model.generation_config.num_beams

    @torch.no_grad()
    def transcribe(sounds):
        out = []
        for k in range(0, len(sounds), 20):
            x = processor(sounds[k : k + 20], sampling_rate=16000, return_tensors="pt").input_features
            y = model.generate(x, language="en", task="transcribe", max_new_tokens=80)
            out += [t.strip() for t in processor.batch_decode(y, skip_special_tokens=True)]
        return out

    @torch.no_grad()
    def timed(x):
        """[(start, end)] of the sentences in a window."""
        features = processor(x, sampling_rate=16000, return_tensors="pt").input_features
        y = model.generate(features, language="en", task="transcribe", max_new_tokens=80, num_beams=1, return_timestamps=True)
        return [piece["timestamp"] for piece in processor.tokenizer.decode(y[0], output_offsets=True)["offsets"]]

    return transcribe, timed


def stt(a):
    import scoring
    import sounds
    from voices import read, trim

    transcribe, timed = load_stt(a.model, a.beams)
    manifest = [m for m in json.load(open(f"{a.heldout}/manifest.json")) if m["seconds"] < 9.8]
    groups, everything = {}, {True: ([], []), False: ([], [])}
    for m in manifest:
        groups.setdefault(m["voice"], []).append(m)
    result, shown = {}, []
    for voice, all_of_it in groups.items():
        some = all_of_it[: a.per]
        hyp, ref = transcribe([read(f"{a.heldout}/{m['wav']}")[0] for m in some]), [m["text"] for m in some]
        result[voice] = scoring.word_errors(ref, hyp)
        everything[some[0]["heard"]][0].extend(ref)
        everything[some[0]["heard"]][1].extend(hyp)
        shown += [(voice, ref[i], hyp[i]) for i in (0, 1)]
        print(f"{voice:22} {100 * result[voice]:5.1f} %", flush=True)
    for heard in (True, False):
        ref, hyp = everything[heard]
        exact = np.mean([scoring.words(r) == scoring.words(h) for r, h in zip(ref, hyp)])
        print(f"{'heard' if heard else 'unheard'} voices: {100 * scoring.word_errors(ref, hyp):.1f} %, {100 * exact:.0f} % of the sentences right", flush=True)
    some = manifest[:: max(1, len(manifest) // 50)][:50]
    r, clean, ref = np.random.default_rng(0), [read(f"{a.heldout}/{m['wav']}")[0] for m in some], [m["text"] for m in some]
    level = lambda x: np.sqrt(np.mean(x**2))
    say = lambda name, audio, texts: print(f"{name}: {100 * scoring.word_errors(texts, transcribe(audio)):.1f} %", flush=True)
    say("the same 50 sentences, clean", clean, ref)
    for db in (17, 10):
        say(f"white noise at {db} dB", [x + r.normal(0, level(x) * 10 ** (-db / 20), len(x)).astype(np.float32) for x in clean], ref)
    tunes = [sounds.music(np.random.default_rng(1000 + i)) for i in range(10)]
    mix = lambda x, tune, db: x + (tune[: len(x)] / level(tune[: len(x)]) * level(x) * 10 ** (-db / 20)).astype(np.float32)
    for db in (15, 8):
        say(f"music below at {db} dB", [mix(x, tunes[i % 10], db) for i, x in enumerate(clean)], ref)
    close = [trim(x, keep=0) for x in clean]
    two = [i for i in range(0, len(close) - 1, 2) if len(close[i]) + len(close[i + 1]) < 146000]
    pair = lambda i: np.pad(np.concatenate([close[i], np.zeros(6000, np.float32), close[i + 1]]), 1600)
    say("two sentences in a window", [pair(i) for i in two], [ref[i] + " " + ref[i + 1] for i in two])
    off = []
    for i in two:
        first, second = len(close[i]) / 16000, len(close[i + 1]) / 16000
        wanted, found = [(0.1, 0.1 + first), (0.475 + first, 0.475 + first + second)], timed(pair(i))
        if len(found) == 2:
            off += np.abs(np.subtract(found, wanted)).ravel().tolist()
    print(f"timestamps: {len(off) // 4} of {len(two)} pairs told apart; {100 * np.mean(np.array(off) <= 0.2):.0f} % within 0.2 s, {np.mean(off):.3f} s off in the mean")
    quiet = [np.zeros(48000, np.float32), np.zeros(160000, np.float32)] + [r.normal(0, s, 80000).astype(np.float32) for s in (0.001, 0.003, 0.03, 0.1)]
    for name, audio in (("silence and white noise", quiet), ("music alone", [(0.3 * t / np.abs(t).max()).astype(np.float32) for t in tunes]), ("other sounds", [f(np.random.default_rng(2000 + i)).astype(np.float32) * 0.2 for i in range(4) for f in (sounds.hum, sounds.clicks, sounds.noise)])):
        heard = transcribe(audio)
        print(f"{name}: words for {sum(map(bool, heard))} of {len(heard)} {[h for h in heard if h][:4]}", flush=True)
    for line in shown:
        print(*line, sep=" | ")


def mt(a):
    import sacrebleu
    from transformers import MarianMTModel, MarianTokenizer

    tokenizer, model = MarianTokenizer.from_pretrained(a.model), MarianMTModel.from_pretrained(a.model, dtype=torch.float32).eval()

    @torch.no_grad()
    def translate(texts, beams):
        out, order = [None] * len(texts), sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for k in range(0, len(order), 50):
            x = tokenizer([texts[i] for i in order[k : k + 50]], return_tensors="pt", padding=True)
            y = model.generate(**x, num_beams=beams, max_length=96)
            for i, t in zip(order[k : k + 50], tokenizer.batch_decode(y, skip_special_tokens=True)):
                out[i] = t
        return out

    pairs = [line.rstrip("\n").split("\t") for line in open(a.pairs)][: a.most]
    english, spanish = [p[0] for p in pairs], [p[1] for p in pairs]
    for beams in (1, 4):
        out = translate(english, beams)
        print(f"{beams} beams: BLEU {sacrebleu.corpus_bleu(out, [spanish]).score:.1f}, chrF {sacrebleu.corpus_chrf(out, [spanish]).score:.1f}", flush=True)
    out_names = translate([e for e, _ in NAMES_AND_NUMBERS], 4)
    kept = [sum(part in text for part in parts) for text, (_, parts) in zip(out_names, NAMES_AND_NUMBERS)]
    print(f"names and figures kept: {sum(kept)} of {sum(len(p) for _, p in NAMES_AND_NUMBERS)}")
    for (e, _), text in zip(NAMES_AND_NUMBERS, out_names):
        print(f"{e} | {text}")
    for i in range(0, len(pairs), max(1, len(pairs) // 20)):
        print(f"{english[i]} | {out[i]} | {spanish[i]}")


def voice(a):
    """The Spanish voice beside its teacher: how far it is from it, and what a recogniser hears of both."""
    from transformers import VitsModel, VitsTokenizer

    import heldout
    import scoring
    import speech
    from listener import Listener, spoken
    from teacher import read

    tokenizer, model = VitsTokenizer.from_pretrained(a.model), VitsModel.from_pretrained(a.model, dtype=torch.float32).eval()
    texts = [t for t in speech.sentences(a.pairs, "es") if len(t) > 20]
    texts = texts[:: max(1, len(texts) // a.per)][: a.per]
    listener, far, longer, heard = Listener(), [], [], {"voice": [], "teacher": []}
    for i, text in enumerate(texts):
        torch.manual_seed(i)
        with torch.no_grad():
            said = {"voice": model(**tokenizer(text, return_tensors="pt")).waveform[0].numpy(), "teacher": read(text)}
        far.append(scoring.distortion(*(scoring.cepstra(x) for x in said.values())))
        longer.append(len(said["voice"]) / len(said["teacher"]) - 1)
        for who, x in said.items():
            heard[who].append((spoken(text), listener.hear(x)))
            if i % max(1, len(texts) // 8) == 0:
                print(f"{who:8}", *heard[who][-1], sep=" | ", flush=True)
            if a.out:
                os.makedirs(a.out, exist_ok=True)
                heldout.write(f"{a.out}/{i:03d}_{who}.wav", x / max(1, np.abs(x).max()))
    print(f"{len(texts)} sentences: distortion {np.mean(far):.2f} dB, longer by {100 * np.mean(longer):.1f} % ({100 * np.mean(np.abs(longer)):.1f} % off)")
    print("letter errors: " + ", ".join(f"{who} {100 * scoring.letter_errors(pairs):.1f} %" for who, pairs in heard.items()))


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("what", choices=["stt", "mt", "voice"])
    p.add_argument("--model", required=True)
    p.add_argument("--heldout")
    p.add_argument("--pairs")
    p.add_argument("--per", type=int, default=20, help="sentences of a voice")
    p.add_argument("--beams", type=int, help="how wide the recogniser searches, if not as the model says")
    p.add_argument("--out", help="keep what the voice says there")
    p.add_argument("--most", type=int, default=1000)
    p = p.parse_args()
    {"stt": stt, "mt": mt, "voice": voice}[p.what](p)
