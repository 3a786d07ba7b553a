"""Whisper with random weights: features, encoder, logits, and every way of decoding a window.

The suppression lists are chosen after a first run, from tokens that the model would otherwise emit, so that an
implementation which forgets them fails.
"""

import itertools
from collections import Counter
from dataclasses import dataclass

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

from common import (
    MARGIN, RATE, GreedyMargin, beam_margin, bursts, case_dir, chirp, randomise, rounded, tones, until, write_json,
    write_tensors,
)

NEW_TOKENS = 44
TEXT = [
    "The river runs behind the old mill and under the bridge.",
    "Nobody remembers where the red bicycle came from.",
    "El perro duerme debajo de la mesa mientras llueve.",
    "She counted seven boats, three bells and one lighthouse.",
    "¿Dónde está la llave que dejaste ayer en la cocina?",
]


@dataclass
class Case:
    name: str
    mels: int
    width: int
    heads: int
    ffn: int
    encoder: int
    decoder: int
    seconds: int
    dtype: torch.dtype
    positions: int


CASES = [
    Case("a", 80, 32, 4, 64, 2, 3, 1, torch.float32, 64),
    Case("b", 128, 48, 3, 96, 3, 2, 2, torch.float16, 80),
    Case("c", 80, 64, 1, 128, 1, 2, 1, torch.bfloat16, 96),
]


def build_tokenizer(seconds):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    specials = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|es|>", "<|translate|>", "<|transcribe|>",
                "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    tokenizer.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    stamps = [f"<|{i * 0.02:.2f}|>" for i in range(seconds * 50 + 1)]
    tokenizer.add_tokens([AddedToken(s, special=False, normalized=False) for s in stamps])
    ids = {s: tokenizer.token_to_id(s) for s in specials}
    prompt = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*prompt, "$A", "<|endoftext|>"], special_tokens=[(s, ids[s]) for s in [*prompt, "<|endoftext|>"]]
    )
    return tokenizer, ids


def build_model(case, vocab, ids, seed):
    config = WhisperConfig(
        vocab_size=vocab, num_mel_bins=case.mels, d_model=case.width, encoder_layers=case.encoder,
        decoder_layers=case.decoder, encoder_attention_heads=case.heads, decoder_attention_heads=case.heads,
        encoder_ffn_dim=case.ffn, decoder_ffn_dim=case.ffn, max_source_positions=case.seconds * 50,
        max_target_positions=case.positions, pad_token_id=ids["<|endoftext|>"], bos_token_id=ids["<|endoftext|>"],
        eos_token_id=ids["<|endoftext|>"], decoder_start_token_id=ids["<|startoftranscript|>"],
        suppress_tokens=None, begin_suppress_tokens=None, attn_implementation="eager",
    )
    model = WhisperForConditionalGeneration(config)
    sinusoids = model.model.encoder.embed_positions.weight.clone()
    # Strong positions and weak cross-attention, whose mean hardly changes, keep the decoder from repeating itself.
    randomise(model, seed, gain=2.5, embedding=1.3, **{"decoder.embed_positions": 3.0, "encoder_attn.out_proj": 0.12})
    model.model.encoder.embed_positions.weight.copy_(sinusoids)
    # A longer end token ends a row now and then.
    model.model.decoder.embed_tokens.weight[ids["<|endoftext|>"]] *= 1.25
    model.generation_config = GenerationConfig(
        pad_token_id=ids["<|endoftext|>"], bos_token_id=ids["<|endoftext|>"], eos_token_id=ids["<|endoftext|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"], is_multilingual=True,
        lang_to_id={s: ids[s] for s in ("<|en|>", "<|es|>")},
        task_to_id={s: ids[f"<|{s}|>"] for s in ("transcribe", "translate")},
        no_timestamps_token_id=ids["<|notimestamps|>"], prev_sot_token_id=ids["<|startofprev|>"],
        max_initial_timestamp_index=10, max_length=case.positions, return_timestamps=False,
        suppress_tokens=sorted(ids[s] for s in ids if s not in ("<|endoftext|>", "<|notimestamps|>")),
        begin_suppress_tokens=sorted([vocab_space(), ids["<|endoftext|>"]]),
        alignment_heads=[[case.decoder - 1, h] for h in range(case.heads)],
    )
    return rounded(model, case.dtype)


def vocab_space():
    return build_tokenizer(1)[0].token_to_id("Ġ")


def decode(model, features, **options):
    """Runs generate() and returns what it produced behind the prompt, each row up to its end token."""
    raw = {}
    plain = GenerationMixin.generate

    def keep(self, *args, **kwargs):
        out = plain(self, *args, **kwargs)
        raw["prompt"] = kwargs["decoder_input_ids"]
        raw["sequences"] = out if torch.is_tensor(out) else out["sequences"]
        raw["scores"] = None if torch.is_tensor(out) else out.get("sequences_scores")
        return out

    # Whisper's generate() strips the prompt and the end token and may run more windows; this takes the inner result.
    GenerationMixin.generate = keep
    try:
        model.generate(
            features, task="transcribe", language="en", force_unique_generate_call=True,
            **{"max_new_tokens": NEW_TOKENS, "return_timestamps": False, "num_beams": 1, **options},
        )
    finally:
        GenerationMixin.generate = plain
    start = raw["prompt"].shape[1]
    rows = [until(row[start:], model.config.eos_token_id) for row in raw["sequences"].tolist()]
    return rows, raw


def greedy(model, features, **options):
    watch = GreedyMargin(model.config.eos_token_id)
    rows, raw = decode(model, features, logits_processor=LogitsProcessorList([watch]), **options)
    return rows, watch.least, raw


def timestamps(model, features, **options):
    """Greedy with timestamps; its margin includes the vote between text and timestamps."""
    votes, rule = [], WhisperTimeStampLogitsProcessor.__call__

    def watched(self, input_ids, scores):
        self._detect_timestamp_from_logprob = False
        before = torch.log_softmax(rule(self, input_ids, scores), -1)
        self._detect_timestamp_from_logprob = True
        running = input_ids[:, -1] != self.eos_token_id
        gap = before[:, self.timestamp_begin:].logsumexp(-1) - before[:, : self.timestamp_begin].max(-1).values
        votes.extend(gap.abs()[running].tolist())
        return rule(self, input_ids, scores)

    WhisperTimeStampLogitsProcessor.__call__ = watched
    try:
        rows, least, raw = greedy(model, features, return_timestamps=True, **options)
    finally:
        WhisperTimeStampLogitsProcessor.__call__ = rule
    return rows, min(least, *votes), raw


def beam(model, features):
    with beam_margin() as watch:
        rows, raw = decode(model, features, num_beams=4, return_dict_in_generate=True, output_scores=True)
    return rows, watch.least, raw


def add_suppression(model, features, eos):
    """Suppresses a token that starts a row, and one that rows use often."""
    rows, _, _ = greedy(model, features)
    config = model.generation_config
    config.begin_suppress_tokens = sorted({*config.begin_suppress_tokens, rows[0][0]})
    often = Counter(t for row in rows for t in row[4:] if t < eos).most_common(1)
    config.suppress_tokens = sorted({*config.suppress_tokens, *(token for token, _ in often)})


def varied(rows, least=30):
    return all(len(row) >= least and len(set(row)) >= 8 for row in rows)


def search(case, features, vocab, ids):
    first = ids["<|notimestamps|>"] + 1
    for seed in itertools.count():
        model = build_model(case, vocab, ids, seed)
        add_suppression(model, features, ids["<|endoftext|>"])
        rows, least, _ = greedy(model, features)
        if least < MARGIN or not varied(rows):
            continue
        ended = any(len(row) < NEW_TOKENS for row in rows)
        rows, least, _ = beam(model, features)
        ended |= any(len(row) < NEW_TOKENS for row in rows)
        if least < MARGIN or not varied(rows) or not ended:
            continue
        rows, least, _ = timestamps(model, features)
        mixed = all(3 <= sum(t >= first for t in row) <= len(row) - 8 for row in rows)
        if least >= MARGIN and varied(rows) and mixed:
            return model, seed


def write_case(case):
    path = case_dir("whisper", case.name)
    tokenizer, ids = build_tokenizer(case.seconds)
    vocab = tokenizer.get_vocab_size()
    extractor = WhisperFeatureExtractor(feature_size=case.mels, chunk_length=case.seconds)
    s = case.seconds
    audio = [chirp(0.62 * s, 180, 900), tones(0.9 * s, (220, 331, 1270)), bursts(0.37 * s, seed=ord(case.name))]
    features = extractor(audio, sampling_rate=RATE, return_tensors="pt").input_features

    model, seed = search(case, features, vocab, ids)
    tokenizer.save(str(path / "tokenizer.json"))
    extractor.save_pretrained(path)
    model.to(case.dtype).save_pretrained(path)
    model = WhisperForConditionalGeneration.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()

    greedy_rows, greedy_margin, raw = greedy(model, features)
    prompt = raw["prompt"][0].tolist()
    stamp_rows, stamp_margin, stamp_raw = timestamps(model, features)
    beam_rows, beam_least, beam_raw = beam(model, features)
    previous = torch.tensor([ids["<|startofprev|>"], *tokenizer.encode(" the river", add_special_tokens=False).ids])
    prompted_rows, prompted_margin, prompted_raw = greedy(model, features, prompt_ids=previous)
    assert min(greedy_margin, stamp_margin, beam_least, prompted_margin) >= MARGIN, "choose another seed"

    encoder = model.model.encoder(features).last_hidden_state
    inputs = torch.stack([torch.tensor(prompt + row[:12]) for row in greedy_rows])
    logits = model(input_features=features, decoder_input_ids=inputs).logits
    languages = model.detect_language(features).tolist()
    no_speech = logits[:, 0].softmax(-1)[:, ids["<|nospeech|>"]].tolist()
    write_tensors(path / "expected.safetensors", {
        **{f"audio.{i}": torch.from_numpy(a) for i, a in enumerate(audio)},
        "input_features": features, "encoder": encoder, "decoder_input_ids": inputs, "logits": logits,
    })
    text = [tokenizer.decode([t for t in row if t < ids["<|endoftext|>"]]) for row in greedy_rows]
    write_json(path / "expected.json", {
        "note": "Every row holds the tokens behind the prompt, and ends with the end token only if the model gave one "
                "within max_new_tokens. One window, no fallback.",
        "seed": seed,
        "max_new_tokens": NEW_TOKENS,
        "prompt": prompt,
        "greedy": greedy_rows,
        "greedy_text": text,
        "greedy_margin": greedy_margin,
        "beam4": beam_rows,
        "beam4_scores": beam_raw["scores"].tolist(),
        "beam4_margin": beam_least,
        "prompt_timestamps": stamp_raw["prompt"][0].tolist(),
        "greedy_timestamps": stamp_rows,
        "greedy_timestamps_margin": stamp_margin,
        "prompt_previous": prompted_raw["prompt"][0].tolist(),
        "greedy_previous": prompted_rows,
        "detected_language": languages,
        "no_speech_probability": no_speech,
    })


def generate(_micro):
    for case in CASES:
        write_case(case)
