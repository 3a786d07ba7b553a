"""The bundled micro models, in f32 on their f16 weights: texts, tokens and sound, and slices of the sums behind them.

A candidate whose decisions are too narrow to be reproduced (see `common`) is passed over.
"""

import json
import wave

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import (
    LogitsProcessorList,
    MarianMTModel,
    MarianTokenizer,
    VitsModel,
    VitsTokenizer,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

import vits
import whisper
from common import (
    MARGIN, RATE, TESTS, GreedyMargin, beam_margin, bursts, case_dir, chirp, until, write_json, write_tensors,
)

ENGLISH = [
    "Good evening, how was your day?",
    "We left the keys on the kitchen table.",
    "My brother wants to learn to swim this summer.",
    "There is nobody at home.",
    "Could you close the window, please?",
    "It rained all night, but the street is dry.",
    "I would like a cup of coffee without sugar.",
    "She told me that the train was late again.",
    "Why didn't you call me yesterday?",
    "The children are playing in the garden.",
    "He doesn't know where his father works.",
    "Thank you for the book! I will read it tonight.",
    "If you are tired, you should go to bed.",
    "Tom bought 3 apples and a newspaper at 10:30.",
    "Please speak a little more slowly.",
    "Nobody understood the question.",
]
SPANISH = ["Buenos días.", "¿Dónde está la estación?", "Mañana iremos al mercado.", "No, gracias; ya he comido.",
           "El niño duerme.", "¡Qué bonita canción!", "Mi hermana vive cerca."]
WHOLE = 3 * RATE // 2
MT_TOKENS, STT_TOKENS = 64, 100


def translator(micro, path):
    tokenizer = MarianTokenizer.from_pretrained(micro / "mt-en-es")
    model = MarianMTModel.from_pretrained(micro / "mt-en-es", dtype=torch.float32, attn_implementation="eager").eval()
    tensors, sentences = {}, []
    for text in ENGLISH:
        inputs = tokenizer(text, return_tensors="pt")
        watch = GreedyMargin(model.config.eos_token_id)
        greedy = model.generate(
            **inputs, num_beams=1, max_new_tokens=MT_TOKENS, logits_processor=LogitsProcessorList([watch])
        )[0]
        with beam_margin() as beams:
            out = model.generate(
                **inputs, num_beams=4, max_new_tokens=MT_TOKENS, return_dict_in_generate=True, output_scores=True
            )
        if min(watch.least, beams.least) < MARGIN:
            continue
        i = len(sentences)
        forced = model(**inputs, decoder_input_ids=greedy[None, :-1])
        tensors[f"encoder.{i}"] = forced.encoder_last_hidden_state[0, :, ::32]
        tensors[f"logits.{i}"] = forced.logits[0, :, ::97]
        rows = [until(row[1:], model.config.eos_token_id) for row in (greedy.tolist(), out.sequences[0].tolist())]
        texts = [tokenizer.decode(row, skip_special_tokens=True) for row in rows]
        sentences.append({
            "text": text, "input_ids": inputs.input_ids[0].tolist(), "greedy": rows[0], "greedy_text": texts[0],
            "beam4": rows[1], "beam4_text": texts[1], "beam4_score": out.sequences_scores[0].item(),
        })
        if len(sentences) == 12:
            break
    assert len(sentences) == 12, "too few sentences are decided clearly"
    write_tensors(path / "mt-en-es.safetensors", tensors)
    write_json(path / "mt-en-es.json", {
        "note": "encoder.N is [tokens, every 32nd channel]; logits.N is [tokens, every 97th of the vocabulary], with the "
                "start token and greedy without its end fed in.",
        "max_new_tokens": MT_TOKENS, "sentences": sentences,
    })


def voice(micro, path):
    tokenizer = VitsTokenizer.from_pretrained(micro / "tts-es")
    model = VitsModel.from_pretrained(micro / "tts-es", dtype=torch.float32).eval()
    tensors, sentences = {}, []
    for text in SPANISH:
        ids = torch.tensor([tokenizer(text).input_ids])
        run = vits.speak(model, ids)
        if run["margin"] < MARGIN:
            continue
        i, sound = len(sentences), run["waveform"][0]
        whole = len(sound) <= WHOLE
        tensors[f"waveform.{i}"] = sound if whole else sound[::7]
        sentences.append({
            "text": text, "input_ids": ids[0].tolist(), "durations": run["durations"][0].int().tolist(),
            "samples": len(sound), "step": 1 if whole else 7,
        })
        if len(sentences) == 4:
            break
    assert len(sentences) == 4, "too few sentences are decided clearly"
    write_tensors(path / "tts-es.safetensors", tensors)
    write_json(path / "tts-es.json", {
        "note": "Both noise scales 0. waveform.N holds every step-th sample from the first.", "sentences": sentences,
    })


def recordings():
    """The first sentence of the example clip, and its last two in one window.

    Resampled to 16 kHz by the spectrum; what comes out is stored, so no resampler is tested.
    """
    folder = TESTS.parent.parent / "examples" / "media"
    with wave.open(str(folder / "kitchen.wav")) as file:
        rate = file.getframerate()
        sound = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768.0
    length = len(sound) * RATE // rate
    sound = np.fft.irfft(np.fft.rfft(sound)[: length // 2 + 1], length) * (length / len(sound))
    spoken = json.loads((folder / "kitchen.en.json").read_text())["segments"]
    for first, last in ((spoken[0], spoken[0]), (spoken[-2], spoken[-1])):
        yield sound[int((first["start"] - 0.2) * RATE) : int((last["end"] + 0.2) * RATE)]


def recogniser(micro, path):
    folder = micro / "stt-en"
    extractor = WhisperFeatureExtractor.from_pretrained(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = WhisperForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    cuts = [*recordings(), np.concatenate([chirp(0.5, 200, 900, level=0.2), bursts(0.5, 21, level=0.05)])]
    tensors, clips = {}, []
    for i, cut in enumerate(cuts):
        samples = (cut * 32768).round().clip(-32768, 32767).astype(np.int16)
        features = extractor(samples.astype(np.float32) / 32768, sampling_rate=RATE, return_tensors="pt").input_features
        rows, least, raw = whisper.greedy(model, features, max_new_tokens=STT_TOKENS)
        stamped, stamped_least, _ = whisper.timestamps(model, features, max_new_tokens=STT_TOKENS)
        assert min(least, stamped_least) >= MARGIN, (i, least, stamped_least)
        inputs = torch.tensor([raw["prompt"][0].tolist() + [t for t in rows[0] if t != model.config.eos_token_id]])
        out = model(input_features=features, decoder_input_ids=inputs)
        tensors |= {
            f"audio.{i}": torch.from_numpy(samples), f"encoder.{i}": out.encoder_last_hidden_state[0, ::10, ::16],
            f"logits.{i}": out.logits[0, :, ::61],
        }
        clips.append({
            "prompt": raw["prompt"][0].tolist(), "greedy": rows[0], "greedy_timestamps": stamped[0],
            "text": tokenizer.decode(rows[0]), "speech": i < 2, "margin": least, "timestamps_margin": stamped_least,
        })
    write_tensors(path / "stt-en.safetensors", tensors)
    write_json(path / "stt-en.json", {
        "note": "audio.N is int16 (divide by 32768); encoder.N is [every 10th frame, every 16th channel]; logits.N is "
                "[tokens, every 61st of the vocabulary] for the prompt and greedy without its end fed in.",
        "max_new_tokens": STT_TOKENS, "clips": clips,
    })


def generate(micro):
    path = case_dir("micro")
    translator(micro, path)
    voice(micro, path)
    recogniser(micro, path)
