"""Marian with random weights: encoder, logits, greedy and beam search, and texts end to end.

transformers' Marian has one layout: sinusoidal positions behind the scaled embeddings, each block normalised after its
residual. It ignores `normalize_before`, `normalize_embedding`, `add_final_layer_norm`, `add_bias_logits` and
`static_position_embeddings`, so a case that sets them would only show that they are ignored; one does.
"""

import itertools
import json
from dataclasses import dataclass, field

import sentencepiece
import torch
from transformers import GenerationConfig, LogitsProcessorList, MarianConfig, MarianMTModel, MarianTokenizer

from common import (
    MARGIN, GreedyMargin, beam_margin, case_dir, randomise, rounded, until, write_json, write_tensors,
)

NEW_TOKENS = 48
SUBJECTS = {
    "en": ["the baker", "my sister", "an old sailor", "the young doctor", "our neighbour", "nobody", "the tall teacher"],
    "es": ["el panadero", "mi hermana", "un viejo marinero", "la joven médica", "nuestro vecino", "nadie", "el maestro"],
}
VERBS = {
    "en": ["paints", "forgets", "carries", "is looking for", "has lost", "will repair", "dreams of"],
    "es": ["pinta", "olvida", "lleva", "está buscando", "ha perdido", "reparará", "sueña con"],
}
OBJECTS = {
    "en": ["a blue boat", "the broken clock", "seven letters", "the garden key", "a warm coat", "the last train"],
    "es": ["un barco azul", "el reloj roto", "siete cartas", "la llave del jardín", "un abrigo", "el último tren"],
}
TEXTS = [
    "The baker paints a blue boat.",
    "Nobody has lost the garden key, my sister forgets!",
    "",
    "  Zebras: 42 … ñandú\tjazz 火 ",
    "our neighbour is looking for seven letters and the last train and the broken clock and a warm coat.",
]


@dataclass
class Case:
    name: str
    width: int
    heads: tuple
    ffn: tuple
    encoder: int
    decoder: int
    activation: str
    dtype: torch.dtype
    scale: bool = True
    tied: bool = True
    shared: bool = True
    force_end: bool = True
    end_bias: float = 0.0
    start: int | None = None
    normalisation: str = "identity"
    extra: dict = field(default_factory=dict)


CASES = [
    Case("shared-relu", 32, (4, 4), (64, 96), 2, 3, "relu", torch.float32, end_bias=6.0),
    Case("shared-swish", 64, (8, 4), (96, 64), 3, 1, "swish", torch.float16, scale=False, force_end=False, end_bias=6.0,
         extra={"normalize_before": True, "normalize_embedding": True, "add_final_layer_norm": True}),
    Case("separate-gelu", 48, (3, 3), (64, 64), 1, 2, "gelu", torch.bfloat16, shared=False, end_bias=6.0,
         normalisation="nmt_nfkc"),
    Case("untied-swish", 32, (2, 4), (64, 64), 2, 2, "swish", torch.float32, shared=False, tied=False, end_bias=6.0,
         start=0),
]


def sentences(language):
    # Invented names bring the syllables that so few words lack.
    syllables = itertools.product("bdklmnprst", "aeiou", "gjvz", "aio")
    names = itertools.cycle("".join(letters).capitalize() for letters in syllables)
    for s, v, o in itertools.product(SUBJECTS[language], VERBS[language], OBJECTS[language]):
        yield f"{s.capitalize()} {v} {o}, {next(names)}."
        yield f"{next(names)}, {v} {s} {o}?"


class Writer:
    content = b""

    def write(self, data):
        self.content += data


def train(lines, pieces, path, normalisation="identity"):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=(writer := Writer()), vocab_size=pieces, model_type="unigram",
        character_coverage=1.0, bos_id=-1, eos_id=0, unk_id=1, pad_id=-1, minloglevel=2, num_threads=1,
        hard_vocab_limit=False, normalization_rule_name=normalisation,
    )
    path.write_bytes(writer.content)
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def build_vocabulary(case, path):
    """As in published models, the .spm files' piece ids are not the model's ids: vocab.json decides."""
    english, spanish = list(sentences("en")), list(sentences("es"))
    # The usual normalisation is a table of 240 KB; one file shows it, the others have none.
    source = train(english, 150, path / "source.spm", case.normalisation)
    target = train(spanish, 190, path / "target.spm")

    def ids(*models, first, last=()):
        pieces = sorted({m.id_to_piece(i) for m in models for i in range(2, len(m))})
        return {piece: i for i, piece in enumerate([*first, *pieces, *last])}

    if case.shared:
        vocabularies = {"vocab.json": ids(source, target, first=["</s>", "<unk>"], last=["<pad>"])}
    else:
        # The configuration has one pad id for both sides, so it must exist in the smaller vocabulary too.
        first = ["</s>", "<unk>", "<pad>"]
        vocabularies = {"vocab.json": ids(source, first=first), "target_vocab.json": ids(target, first=first)}
    for name, v in vocabularies.items():
        (path / name).write_text(json.dumps(v, ensure_ascii=False, indent=0), encoding="utf-8")
    (path / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "es", "unk_token": "<unk>",
        "eos_token": "</s>", "pad_token": "<pad>", "model_max_length": 512, "separate_vocabs": not case.shared,
    }, indent=1))
    return MarianTokenizer.from_pretrained(path)


def build_model(case, tokenizer, seed):
    pad = tokenizer.pad_token_id
    config = MarianConfig(
        vocab_size=len(tokenizer.encoder),
        decoder_vocab_size=len(tokenizer.encoder if case.shared else tokenizer.target_encoder),
        d_model=case.width, encoder_layers=case.encoder, decoder_layers=case.decoder,
        encoder_attention_heads=case.heads[0], decoder_attention_heads=case.heads[1],
        encoder_ffn_dim=case.ffn[0], decoder_ffn_dim=case.ffn[1], activation_function=case.activation,
        max_position_embeddings=128, scale_embedding=case.scale, share_encoder_decoder_embeddings=case.shared,
        tie_word_embeddings=case.tied, pad_token_id=pad, eos_token_id=0, bos_token_id=0,
        decoder_start_token_id=pad if case.start is None else case.start,
        forced_eos_token_id=0 if case.force_end else None, attn_implementation="eager", **case.extra,
    )
    model = MarianMTModel(config)
    # Left alone, such a decoder repeats one token: its own input through tied embeddings, or what is common to all steps.
    # A last norm of random signs breaks the first, embeddings above the positions and centred ReLU outputs the second.
    randomise(model, seed, gain=0.8, embedding=0.8 / case.width**0.5 if case.scale else 0.8,
              **{"encoder_attn.out_proj": 0.1, "fc1.bias": 0.3})
    last = model.model.decoder.layers[-1].final_layer_norm
    last.weight.copy_(torch.randn(case.width, generator=torch.Generator().manual_seed(seed)) * 2.0)
    last.weight.div_(0.8 / case.width**0.5 if case.scale else 0.8)
    for name, p in model.named_parameters():
        if name.endswith("fc2.weight"):
            p.sub_(p.mean(dim=1, keepdim=True))
    bias = torch.randn(model.final_logits_bias.shape, generator=torch.Generator().manual_seed(seed)) * 0.5
    # Pad would often win if it were not among the bad words.
    bias[0, pad] += 3.0
    bias[0, 0] += case.end_bias
    model.final_logits_bias.copy_(bias)
    model.generation_config = GenerationConfig(
        pad_token_id=pad, eos_token_id=0, bos_token_id=0, decoder_start_token_id=config.decoder_start_token_id,
        forced_eos_token_id=config.forced_eos_token_id, bad_words_ids=[[pad]], max_length=128, num_beams=4,
    )
    model = rounded(model, case.dtype)
    # Positions are not in the file: a loader computes them, and they are never rounded.
    for side in (model.model.encoder, model.model.decoder):
        side.embed_positions.weight.copy_(side.embed_positions.create_weight())
    return model


def build_inputs(vocab, pad):
    rng = torch.Generator().manual_seed(7)
    lengths = [9, 17, 4, 12]
    ids = torch.full((len(lengths), max(lengths)), pad)
    for row, length in zip(ids, lengths):
        row[: length - 1] = torch.randint(3, min(vocab - 1, 140), (length - 1,), generator=rng)
        row[length - 1] = 0
    return ids, (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()


def greedy(model, **inputs):
    watch = GreedyMargin(0)
    out = model.generate(
        **inputs, num_beams=1, max_new_tokens=NEW_TOKENS, logits_processor=LogitsProcessorList([watch])
    )
    return [until(row[1:], 0) for row in out.tolist()], watch.least


def beam(model, **inputs):
    with beam_margin() as watch:
        out = model.generate(
            **inputs, num_beams=4, max_new_tokens=NEW_TOKENS, return_dict_in_generate=True, output_scores=True
        )
    return [until(row[1:], 0) for row in out.sequences.tolist()], out.sequences_scores.tolist(), watch.least


def varied(rows):
    """Half of the rows are long and use many tokens, and none hangs on to one."""
    rich = [row for row in rows if len(row) >= 30 and len(set(row)) >= 8]
    return 2 * len(rich) >= len(rows) and all(len(set(row)) >= 4 for row in rows) and len({*map(tuple, rows)}) > 1


def search(case, tokenizer, inputs, texts):
    for seed in itertools.count():
        model = build_model(case, tokenizer, seed)
        rows, least = greedy(model, **inputs)
        if least < MARGIN or not varied(rows):
            continue
        ended = any(len(row) < NEW_TOKENS for row in rows)
        rows, _, least = beam(model, **inputs)
        ended |= any(len(row) < NEW_TOKENS for row in rows)
        if least >= MARGIN and varied(rows) and ended and greedy(model, **texts)[1] >= MARGIN:
            return model, seed


def write_case(case):
    path = case_dir("marian", case.name)
    tokenizer = build_vocabulary(case, path)
    ids, mask = build_inputs(len(tokenizer.encoder), tokenizer.pad_token_id)
    inputs = {"input_ids": ids, "attention_mask": mask}
    texts = dict(tokenizer(TEXTS, return_tensors="pt", padding=True))
    model, seed = search(case, tokenizer, inputs, texts)
    model.to(case.dtype).save_pretrained(path)
    model = MarianMTModel.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()

    greedy_rows, greedy_margin = greedy(model, **inputs)
    beam_rows, scores, beam_least = beam(model, **inputs)
    text_greedy, text_greedy_margin = greedy(model, **texts)
    assert min(greedy_margin, beam_least, text_greedy_margin) >= MARGIN, "choose another seed"

    decoder_ids = torch.tensor([[model.config.decoder_start_token_id, *(row + [0] * 12)[:12]] for row in greedy_rows])
    out = model(**inputs, decoder_input_ids=decoder_ids)
    write_tensors(path / "expected.safetensors", {
        **inputs, "encoder": out.encoder_last_hidden_state, "decoder_input_ids": decoder_ids, "logits": out.logits,
    })
    write_json(path / "expected.json", {
        "note": "Every row holds the tokens behind the start token, up to and with the end token (0) if there is one. "
                "Encoder rows behind a row's mask are what the reference leaves there, and mean nothing.",
        "seed": seed,
        "max_new_tokens": NEW_TOKENS,
        "greedy": greedy_rows,
        "greedy_margin": greedy_margin,
        "beam4": beam_rows,
        "beam4_scores": scores,
        "beam4_margin": beam_least,
        "texts": [
            {
                "text": text,
                "input_ids": tokenizer(text).input_ids,
                "greedy": g,
                "greedy_text": tokenizer.decode(g, skip_special_tokens=True),
            }
            for text, g in zip(TEXTS, text_greedy)
        ],
    })


def generate(_micro):
    for case in CASES:
        write_case(case)
