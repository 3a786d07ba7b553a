"""Trains the English to Spanish translator, from scratch or from an earlier one.

    python translate.py --pairs train.tsv --from ../micro/mt-en-es --out mt.safetensors --minutes 8

Takes the vocabulary from a Marian model in Hugging Face layout. Against the small corpus: dropout with R-Drop, subword
sampling, joined sentences, other names, figures for number words, and pairs made from templates. The weights written are a
running mean, in float16 under the names of transformers.
"""

import argparse
import functools
import json
import queue
import random
import re
import time

import numpy as np
import sentencepiece
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import MarianConfig, MarianMTModel

import around
import figures
import templates
from clock import Clock
from muon import Mean


def arguments():
    a = argparse.ArgumentParser()
    a.add_argument("--pairs", required=True, help="English, tab, Spanish")
    a.add_argument("--from", dest="source", required=True, help="the vocabulary")
    a.add_argument("--start", action="store_true", help="with the weights of that model too; the layers must be as many")
    a.add_argument("--out", required=True)
    a.add_argument("--dev", help="held-out pairs to watch")
    around.arguments(a, minutes=8)
    a.add_argument("--d", type=int, default=256)
    a.add_argument("--encoder", type=int, default=6)
    a.add_argument("--decoder", type=int, default=3)
    a.add_argument("--tokens", type=int, default=24000, help="in a batch, padding included")
    a.add_argument("--rate", type=float, default=1.2e-3)
    a.add_argument("--warm", type=int, default=800)
    a.add_argument("--dropout", type=float, default=0.2)
    a.add_argument("--agree", type=float, default=1.0, help="the weight of R-Drop's term")
    a.add_argument("--sampling", type=float, default=0.2, help="sentencepiece's alpha")
    a.add_argument("--sampled", type=float, default=0.5, help="the part of the sentences with sampled pieces")
    a.add_argument("--renamed", type=float, default=0.75, help="of the sentences about Tom or Mary, the part about others")
    a.add_argument("--templates", type=float, default=0.25, help="pairs of the templates for each pair of the corpus")
    a.add_argument("--made-up", type=float, default=0.5, help="of the names, the part that nobody has")
    a.add_argument("--composers", type=int, default=6)
    a.add_argument("--save", type=float, default=90)
    a.add_argument("--look", type=float, default=120)
    return a.parse_args()


def settings(a, vocabulary):
    pad = vocabulary["<pad>"]
    return MarianConfig(
        vocab_size=len(vocabulary), decoder_vocab_size=len(vocabulary), d_model=a.d, max_position_embeddings=512, encoder_layers=a.encoder, decoder_layers=a.decoder,
        encoder_ffn_dim=4 * a.d, decoder_ffn_dim=4 * a.d, encoder_attention_heads=a.d // 64, decoder_attention_heads=a.d // 64, activation_function="swish",
        dropout=a.dropout, attention_dropout=0.0, activation_dropout=0.0, scale_embedding=True, decoder_start_token_id=pad, pad_token_id=pad,
        eos_token_id=vocabulary["</s>"], forced_eos_token_id=vocabulary["</s>"], bos_token_id=0, share_encoder_decoder_embeddings=True, tie_word_embeddings=True,
    )


def figures_on_both_sides(english, spanish):
    """The pair as the recogniser writes numbers, if the figures are then the same on both sides."""
    words = figures.spoken(english)
    if words is None:
        return None
    english, spanish = figures.written(words), figures.written_spanish(spanish)
    found = lambda text: sorted(re.findall(r"\d+", text.replace(",", "").replace(".", "")))
    if not found(english) or found(english) != found(spanish):
        return None
    for amount in re.findall(r"\$(\d+)\b", english):
        if not re.search(rf"\b{amount} dólar", spanish):
            return None
    return english, spanish


class Epochs:
    """Batches of token lists, each epoch with its own variants of the sentences."""

    CHUNK = 12000

    def __init__(self, a, seed):
        self.a, self.r = a, random.Random(seed)
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=f"{a.source}/source.spm")
        self.pairs = [tuple(line.rstrip("\n").split("\t")[:2]) for line in open(a.pairs)]
        self.figured = functools.cache(lambda i: figures_on_both_sides(*self.pairs[i]))

    def sentences(self, some):
        r, out = self.r, []
        for i in some:
            english, spanish = self.pairs[i]
            if r.random() < 0.6 and (changed := self.figured(i)):
                english, spanish = changed
            if r.random() < self.a.renamed and (changed := templates.rename(r, english, spanish, self.a.made_up)):
                english, spanish = changed
            if r.random() < 0.02:
                # as a recogniser writes in a hurry
                english = english.rstrip(".!") if r.random() < 0.5 else english.lower()
            out.append((english, spanish))
        out += [templates.pair(r, self.a.made_up) for _ in range(int(len(out) * self.a.templates))]
        return out

    def encoded(self, pairs):
        source = self.pieces.encode([e for e, _ in pairs])
        # Half of them in other pieces than usual; the other half as they will come, so that names are copied piece by piece.
        some = self.r.sample(range(len(pairs)), int(len(pairs) * self.a.sampled))
        for i, tokens in zip(some, self.pieces.encode([pairs[i][0] for i in some], enable_sampling=True, alpha=self.a.sampling, nbest_size=-1)):
            source[i] = tokens
        out = list(zip(source, self.pieces.encode([s for _, s in pairs])))
        for _ in range(len(pairs) // 7):
            (s1, t1), (s2, t2) = self.r.choice(out), self.r.choice(out)
            if len(s1) + len(s2) < 64:
                out.append((s1 + s2, t1 + t2))
        return [(s, t) for s, t in out if 0 < len(s) < 90 and 0 < len(t) < 90]

    def batches(self):
        """The sentences of one epoch in batches of like length, a chunk after the other: the first one is soon there."""
        r, order = self.r, list(range(len(self.pairs)))
        r.shuffle(order)
        for k in range(0, len(order), self.CHUNK):
            out, batch, longest = [], [], 0
            for s, t in sorted(self.encoded(self.sentences(order[k : k + self.CHUNK])), key=lambda p: (len(p[1]), len(p[0]) + r.random())):
                size = max(len(s), len(t)) + 1
                if batch and max(longest, size) * (len(batch) + 1) > self.a.tokens:
                    out.append(batch)
                    batch, longest = [], 0
                batch.append((s, t))
                longest = max(longest, size)
            if batch:
                out.append(batch)
            r.shuffle(out)
            yield from out


def serve(a, seed, pad, end, out):
    """The process: puts (source, target) arrays, None after each epoch."""
    epochs = Epochs(a, seed)
    table = lambda lists: np.array([x + [end] + [pad] * (max(map(len, lists)) - len(x)) for x in lists], np.int32)
    while True:
        for batch in epochs.batches():
            out.put((table([s for s, _ in batch]), table([t for _, t in batch])))
        out.put(None)


class Trainer:
    def __init__(self, a, vocabulary):
        self.a, self.pad, self.end = a, vocabulary["<pad>"], vocabulary["</s>"]
        # Sentences are so short that fused attention costs more than it saves.
        self.model = MarianMTModel._from_config(settings(a, vocabulary), attn_implementation="eager")
        with torch.no_grad():
            for n, p in self.model.named_parameters():
                if "shared" in n:
                    # embeddings are scaled by the root of d: unit inputs and sane logits
                    p.normal_(0, a.d**-0.5)
                    p[self.pad].zero_()
                elif p.dim() == 2 and "embed" not in n:
                    torch.nn.init.xavier_uniform_(p)
        if a.start:
            known = {k: v.float() for k, v in load_file(f"{a.source}/model.safetensors").items()}
            missing, unknown = self.model.load_state_dict(known, strict=False)
            assert not unknown and not any("layers" in k for k in missing), "another number of layers"
        self.model.to(a.device)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.adam = torch.optim.AdamW(self.parameters, a.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=a.device != "cpu")
        self.mean = Mean(self.parameters, horizon=150)

    def halved(self):
        """bfloat16 on a CPU. A GPU waits for Python here, which the conversions would keep even longer."""
        return torch.autocast(self.a.device, dtype=torch.bfloat16, enabled=self.a.device == "cpu")

    def loss(self, source, target):
        """Cross-entropy, and how far two passes with other dropouts disagree."""
        a = self.a
        both = 2 if a.agree else 1
        x = torch.from_numpy(source).to(a.device).long().repeat(both, 1)
        y = torch.from_numpy(target).to(a.device).long().repeat(both, 1)
        read = F.pad(y[:, :-1], (1, 0), value=self.pad)
        with self.halved():
            hidden = self.model.model(input_ids=x, attention_mask=(x != self.pad).long(), decoder_input_ids=read, use_cache=False)[0]
            wanted = y != self.pad
            logits = F.linear(hidden[wanted], self.model.lm_head.weight)
        lp = logits.float().log_softmax(-1)
        cross = -0.9 * lp.gather(1, y[wanted][:, None]).mean() - 0.1 * lp.mean()
        if both == 1:
            return cross, torch.zeros(())
        one, two = lp.chunk(2)
        apart = 0.5 * (F.kl_div(one, two, log_target=True, reduction="sum") + F.kl_div(two, one, log_target=True, reduction="sum")) / len(one)
        return cross, apart

    def step(self, cross, apart, rate):
        (cross + self.a.agree * apart).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for g in self.adam.param_groups:
            g["lr"] = self.a.rate * rate
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def save(self):
        with self.mean.applied():
            state = around.halves(self.model.state_dict())
        # tied and computed tensors are not stored
        keep = {k: v for k, v in state.items() if k == "model.shared.weight" or k == "final_logits_bias" or ("embed_" not in k and "lm_head" not in k)}
        around.write(keep, self.a.out)

    @torch.no_grad()
    def look(self, pieces, dev):
        with around.look(self.model, self.mean):
            import sacrebleu

            out = []
            for k in range(0, len(dev), 250):
                x = [pieces.encode(e) + [self.end] for e, _ in dev[k : k + 250]]
                x = torch.tensor([i + [self.pad] * (max(map(len, x)) - len(i)) for i in x], device=self.a.device)
                with self.halved():
                    y = self.model.generate(input_ids=x, attention_mask=(x != self.pad).long(), num_beams=1, max_length=80, bad_words_ids=[[self.pad]])
                out += [pieces.decode([t for t in row if t not in (self.pad, self.end)]) for row in y.tolist()]
            print(f"LOOK BLEU {sacrebleu.corpus_bleu(out, [[s for _, s in dev]]).score:.2f}", flush=True)
            for i in range(0, len(dev), max(1, len(dev) // 5)):
                print(f"     {dev[i][0]} | {out[i]}", flush=True)


def main():
    a = arguments()
    vocabulary = json.load(open(f"{a.source}/vocab.json"))
    batches = around.CONTEXT.Queue(200)
    composers = around.start(serve, [(a, 100 + i, vocabulary["<pad>"], vocabulary["</s>"], batches) for i in range(a.composers)])
    torch.manual_seed(4)
    around.fast_arithmetic()
    trainer, pieces = Trainer(a, vocabulary), sentencepiece.SentencePieceProcessor(model_file=f"{a.source}/source.spm")
    dev = [tuple(line.rstrip("\n").split("\t")[:2]) for line in open(a.dev)] if a.dev else []
    print(f"{sum(p.numel() for p in trainer.parameters) / 1e6:.2f} M parameters", flush=True)
    clock, step, seen, epochs, mark, save, look = Clock(a.minutes, a.end), 0, 0, 0, time.time(), around.Every(a.save), around.Every(a.look)
    trainer.model.train()
    while (done := clock.progress()) < 1:
        try:
            batch = batches.get(timeout=60)
        except queue.Empty:
            print("no batch for 60 s", flush=True)
            continue
        if batch is None:
            epochs += 1
            continue
        cross, apart = trainer.loss(*batch)
        trainer.step(cross, apart, min(1.0, (step + 1) / a.warm) * min(1.0, max(0.0, (1 - done) / 0.8)))
        step, seen = step + 1, seen + len(batch[0])
        if step % 5 == 0:
            trainer.mean.update()
        if step % 50 == 0 or step < 4:
            print(
                f"{clock.minutes():.2f} min, step {step}, epoch {epochs}, {seen} pairs, {batch[1].shape}, loss {cross.item():.3f}, apart {apart.item():.3f}, "
                f"{(time.time() - mark) / 50:.3f} s/step, {batches.qsize()} batches waiting",
                flush=True,
            )
            mark = time.time()
        if save.due():
            trainer.save()
            save.done()
        if dev and look.due():
            trainer.look(pieces, dev)
            look.done()
            mark = time.time()
    trainer.save()
    print(f"DONE {step} steps, {epochs} epochs, {seen} pairs", flush=True)
    if dev:
        trainer.look(pieces, dev)
    around.leave(composers)


if __name__ == "__main__":
    main()
