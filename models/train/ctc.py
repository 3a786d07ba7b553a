"""Trains the recogniser that scores the Spanish voice, on a spoken corpus that may still grow.

    python speech.py --text train.tsv --out DIR --language es
    python ctc.py --corpus DIR --out ../eval/listener.npz --minutes 40

The first shard of the corpus is kept apart, and its letter errors are told. The weights written are a running mean in float16.
"""

import argparse
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.append(str(Path(__file__).parents[1] / "eval"))
import listener  # noqa: E402
import scoring  # noqa: E402
import around  # noqa: E402
from augment import Augment, Bank, finish  # noqa: E402
from clock import Clock  # noqa: E402
from muon import Mean, Muon  # noqa: E402


class Block(nn.Module):
    """A long depth-wise convolution and a feed-forward layer (ConvNeXt, Liu 2022)."""

    def __init__(self, d, width):
        super().__init__()
        self.depth, self.norm = nn.Conv1d(d, d, width, padding=width // 2, groups=d), nn.LayerNorm(d)
        self.wide, self.narrow = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

    def forward(self, x):
        y = self.norm(self.depth(x.transpose(1, 2)).transpose(1, 2))
        return x + self.narrow(F.dropout(F.silu(self.wide(y)), 0.05, self.training))


class Listener(nn.Module):
    def __init__(self, d=192, blocks=8, width=17):
        super().__init__()
        self.first = nn.Conv1d(80, d, 5, listener.STRIDE, padding=2)
        self.blocks = nn.ModuleList(Block(d, width) for _ in range(blocks))
        self.norm, self.last = nn.LayerNorm(d), nn.Linear(d, len(listener.LETTERS) + 1)

    def forward(self, m):
        """[batch, frames, 80] -> [batch, frames / 2, letters]"""
        x = F.silu(self.first(m.transpose(1, 2))).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.last(self.norm(x))


class Corpus:
    """The utterances in the bank: place, frames, text, their letters."""

    def __init__(self, folder, bank):
        self.folder, self.bank, self.items, self.apart = folder, bank, [], []

    def refresh(self):
        for index in self.bank.fill(self.folder):
            items = [(place, frames, words := listener.spoken(text), [listener.LETTERS.index(ch) + 1 for ch in words]) for text, _, frames, place in index if text]
            # The first shard of speech is small: it is the one kept apart.
            if not self.apart:
                self.apart = items
            else:
                self.items += items
        return len(self.items)


def batch(items, frames_in_all, r):
    """Utterances of about one length: [(row, start, length, place, rate, gain)], the frames of the window, the utterances."""
    first = r.randrange(len(items))
    longest = items[first][1]
    near = [i for i in (r.randrange(len(items)) for _ in range(400)) if 0.75 * longest <= items[i][1] <= longest]
    chosen = [items[i] for i in [first, *near][: max(2, frames_in_all // (longest + 20))]]
    spans, texts = [], []
    for row, (place, frames, _, chars) in enumerate(chosen):
        rate = int(1000 * r.uniform(0.9, 1.15)) if r.random() < 0.4 else 1000
        length = min(int((frames - 1) * 1000 / rate), longest + 20)
        at = r.randrange(longest + 21 - length)
        spans.append((row, at, length, place, rate, int(1000 * r.uniform(-2, 0.3))))
        texts.append(chars)
    return spans, longest + 20, texts


def heard(model, corpus):
    """(wanted, heard) of what is kept apart."""
    for place, frames, words, _ in corpus.apart:
        m = F.pad(corpus.bank.data[place : place + frames].float(), (0, 0, 10, 10), value=-10.0)
        with torch.no_grad():
            yield words, listener.letters(model(finish(m[None]))[0].cpu().numpy())


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--corpus", required=True)
    a.add_argument("--out", required=True)
    a.add_argument("--from", dest="source", help="the weights of an earlier run")
    around.arguments(a, minutes=40)
    a.add_argument("--frames", type=int, default=9000, help="in a batch")
    a.add_argument("--bank", type=int, default=15_000_000)
    a.add_argument("--muon", type=float, default=0.01)
    a.add_argument("--adam", type=float, default=1.5e-3)
    a = a.parse_args()
    torch.manual_seed(1)
    r, model = random.Random(1), Listener().to(a.device)
    if a.source:
        model.load_state_dict({k: torch.from_numpy(v) for k, v in listener.Listener(a.source).w.items()})
    bank = Bank(a.bank, a.device)
    corpus, augment = Corpus(a.corpus, bank), Augment(bank, a.device)
    matrices = [p for n, p in model.named_parameters() if n.endswith(("wide.weight", "narrow.weight"))]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    muon, adam = Muon(matrices), torch.optim.AdamW(others, a.adam, betas=(0.9, 0.98), weight_decay=0.0)
    mean = Mean(matrices + others, horizon=200)
    while corpus.refresh() < 1000:
        time.sleep(5)
    clock, step, losses, look = Clock(a.minutes, a.end), 0, [], around.Every(240)
    model.train()

    def save():
        with mean.applied():
            model.eval()
            print(f"LOOK letter errors {scoring.letter_errors(heard(model, corpus)):.4f}", flush=True)
            with open(a.out + ".part", "wb") as f:
                np.savez(f, **{k: v.half().cpu().numpy() for k, v in model.state_dict().items()})
            os.replace(a.out + ".part", a.out)
            # the two must be one network
            place, frames, _, _ = corpus.apart[0]
            m = bank.data[place : place + frames].float()
            with torch.no_grad():
                mine = model(finish(m[None]))[0].cpu().numpy()
            assert np.abs(listener.Listener(a.out).outputs(m.cpu().numpy()) - mine).max() < 0.1
            model.train()

    while (done := clock.progress()) < 1:
        if step % 50 == 0:
            corpus.refresh()
        spans, frames, texts = batch(corpus.items, a.frames, r)
        rows = len(texts)
        none = torch.zeros(rows, device=a.device)
        put = lambda x: torch.tensor(x, device=a.device)
        mels = augment(rows, frames, put(spans), put([]), none, none.bool(), put([s[1] + s[2] + 5 for s in spans]), min(0.7, 2 * done))
        out = model(mels)
        lengths = torch.tensor([len(t) for t in texts])
        # what a window of this pace has no room for is left out by zero_infinity
        loss = F.ctc_loss(out.float().log_softmax(-1).transpose(0, 1), put(sum(texts, [])), torch.full((rows,), out.size(1)), lengths, zero_infinity=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        rate = min(1.0, (step + 1) / 100) * min(1.0, (1 - done) / 0.7)
        for g in adam.param_groups:
            g["lr"] = a.adam * rate
        adam.step()
        muon.step(a.muon * rate)
        model.zero_grad(set_to_none=True)
        losses.append(loss.item())
        step += 1
        if step % 4 == 0:
            mean.update()
        if step % 50 == 0:
            print(f"{clock.minutes():.1f} min, step {step}, {len(corpus.items)} utterances, {rows}x{frames}, loss {np.mean(losses):.3f}", flush=True)
            losses = []
        if look.due():
            save()
            look.done()
    save()


if __name__ == "__main__":
    main()
