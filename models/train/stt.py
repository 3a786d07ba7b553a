"""Trains the recogniser on a spoken corpus, which may still grow.

    python stt.py --corpus DIR --from ../micro/stt-en --out stt.safetensors --minutes 12

Starts from a model in Hugging Face layout, deepened to `--layers` encoder layers. The weights written are a running mean, in
float16 under the names of transformers.
"""

import argparse
import json
import os
import queue
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer

import around
import compose
import scoring
from augment import Augment, Bank, finish
from clock import Clock
from muon import Mean, Muon
from whisper import Whisper, deepen


def arguments():
    a = argparse.ArgumentParser()
    a.add_argument("--corpus", required=True)
    a.add_argument("--from", dest="source", required=True)
    a.add_argument("--head", help="the character head's weights, from an earlier training")
    a.add_argument("--out", required=True)
    a.add_argument("--monitor", help="held-out speech, .npz")
    around.arguments(a, minutes=12)
    a.add_argument("--layers", type=int, default=6)
    a.add_argument("--bfloat16", action="store_true", help="on a CPU, too, where that is fast in it")
    a.add_argument("--seconds", type=float, default=1500, help="of sound in a batch")
    a.add_argument("--wait", type=int, default=4000, help="utterances to begin with")
    a.add_argument("--bank", type=int, default=90_000_000, help="frames the corpus may have")
    a.add_argument("--composers", type=int, default=3)
    a.add_argument("--muon", type=float, default=0.012)
    a.add_argument("--adam", type=float, default=6e-4)
    a.add_argument("--warm", type=int, default=300)
    a.add_argument("--full", type=float, default=0.5, help="the part of the time with whole windows")
    a.add_argument("--save", type=float, default=90, help="seconds between checkpoints")
    a.add_argument("--look", type=float, default=180, help="seconds between evaluations")
    return a.parse_args()


class Corpus:
    """Moves new shards into the bank and tells the composers."""

    def __init__(self, folder, bank, news):
        self.folder, self.bank, self.news, self.utterances, self.quiet = folder, bank, news, 0, []

    def refresh(self, most=40):
        for index in self.bank.fill(self.folder, most):
            self.quiet += [(place, frames) for text, _, frames, place in index if text is None]
            self.utterances += sum(text is not None for text, _, _, _ in index)
            for n in self.news:
                n.put(("add", index))
        return self.utterances


class Trainer:
    def __init__(self, a, tokenizer):
        self.a = a
        config = json.load(open(f"{a.source}/config.json"))
        config["encoder_layers"] = a.layers
        self.model = Whisper(config, dropout=0.05).to(a.device)
        weights = {k.removeprefix("model."): v.float() for k, v in load_file(f"{a.source}/model.safetensors").items() if k.startswith("model.")}
        self.model.load_state_dict(deepen(weights, a.layers))
        self.head = nn.Linear(config["d_model"], len(compose.LETTERS) + 1).to(a.device)
        if a.head and os.path.exists(a.head):
            self.head.load_state_dict({k: v.float() for k, v in load_file(a.head).items()})
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        matrix = lambda n, p: p.dim() >= 2 and "embed" not in n
        self.matrices = [p for n, p in named if matrix(n, p)]
        self.others = [p for n, p in named if not matrix(n, p)] + list(self.head.parameters())
        self.muon, self.adam = Muon(self.matrices), torch.optim.AdamW(self.others, a.adam, betas=(0.9, 0.98), weight_decay=0.0)
        self.mean = Mean(self.matrices + self.others, horizon=100)
        ids = tokenizer.token_to_id
        self.tokenizer, self.end = tokenizer, ids("<|endoftext|>")
        self.prefix = [ids(t) for t in ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")]

    def autocast(self):
        return torch.autocast(self.a.device, dtype=torch.bfloat16, enabled=self.a.device != "cpu" or self.a.bfloat16)

    def losses(self, mels, batch, drop):
        """Cross-entropy of the tokens and CTC of the letters."""
        device = self.a.device
        put = lambda x: torch.from_numpy(x).to(device, non_blocking=True)
        read, write = put(batch["read"]).long(), put(batch["write"]).long()
        # some words the decoder has read are wrong, so that it has to listen
        wrong = (torch.rand(read.shape, device=device) < drop) & (read < self.end)
        read = torch.where(wrong, torch.randint(0, self.end, read.shape, device=device), read)
        with self.autocast():
            memory = self.model.encoder(mels)
            hidden = self.model.decoder(read, memory)
            wanted = write != compose.IGNORED
            logits = self.model.logits(hidden[wanted])
            rows = put(batch["char_rows"])
            chars = self.head(memory[rows])
        cross = F.cross_entropy(logits.float(), write[wanted], label_smoothing=0.05)
        lengths = put(batch["char_lengths"])
        inputs = torch.full((len(rows),), chars.size(1), dtype=torch.int32, device=device)
        ctc = F.ctc_loss(chars.float().log_softmax(-1).transpose(0, 1), put(batch["chars"]).long(), inputs.long(), lengths.long(), zero_infinity=True)
        return cross, ctc

    def step(self, cross, ctc, weight, rate):
        (cross + weight * ctc).backward()
        torch.nn.utils.clip_grad_norm_(self.others, 1.0)
        for g in self.adam.param_groups:
            g["lr"] = self.a.adam * rate
        self.adam.step()
        with self.autocast():
            self.muon.step(self.a.muon * rate)
        for p in self.matrices + self.others:
            p.grad = None

    def save(self):
        with self.mean.applied():
            weights = {f"model.{k}": v for k, v in around.halves(self.model.state_dict()).items()}
            head = around.halves(self.head.state_dict())
        around.write(weights, self.a.out)
        around.write(head, self.a.out.replace(".safetensors", "-head.safetensors"))

    def transcribe(self, mels):
        out = []
        for k in range(0, len(mels), 64):
            with self.autocast():
                out += self.model.greedy(mels[k : k + 64], self.prefix, self.end)
        return [self.tokenizer.decode(row).strip() for row in out]

    def look(self, corpus, augment, monitor):
        """Error rate on held-out speech, and how often sounds without speech get words."""
        with around.look(self.model, self.mean):
            quiet = corpus.quiet[:60:2]
            if quiet:
                spans = torch.tensor([(i, 0, min(990, n - 2), place, 1000, 0) for i, (place, n) in enumerate(quiet)], device=self.a.device)
                m = augment.place(len(quiet), 1000, spans)
                heard = self.transcribe(finish(m))
                print(f"LOOK words for {sum(map(bool, heard))} of {len(quiet)} sounds without speech: {[h for h in heard if h][:3]}", flush=True)
            if monitor:
                mels = torch.from_numpy(monitor["mels"]).to(self.a.device).float() * (8 / 255) - 8 + torch.from_numpy(monitor["tops"]).to(self.a.device)[:, None, None]
                hyp, ref = self.transcribe((mels + 4) / 4), [str(t) for t in monitor["texts"]]
                print(f"LOOK word errors {scoring.word_errors(ref, hyp):.4f}", flush=True)
                for i in range(0, len(ref), max(1, len(ref) // 6)):
                    print(f"     {ref[i]} | {hyp[i]}", flush=True)


def main():
    a = arguments()
    file = f"{a.source}/tokenizer.json"
    batches, news = around.CONTEXT.Queue(24), [around.CONTEXT.Queue() for _ in range(a.composers)]
    composers = around.start(compose.serve, [(file, a.seconds, 1000 + i, n, batches) for i, n in enumerate(news)])
    torch.manual_seed(3)
    around.fast_arithmetic()
    trainer = Trainer(a, Tokenizer.from_file(file))
    print(f"{sum(p.numel() for p in trainer.model.parameters()) / 1e6:.2f} M parameters", flush=True)
    bank = Bank(a.bank, a.device)
    corpus, augment = Corpus(a.corpus, bank, news), Augment(bank, a.device)
    monitor = dict(np.load(a.monitor)) if a.monitor else None
    clock = Clock(a.minutes, a.end)
    while corpus.refresh() < a.wait and clock.progress() < 0.3:
        time.sleep(1)
    clock.restart()
    trainer.model.train()
    step, hours, told, mark, save, look = 0, 0.0, 0, time.time(), around.Every(a.save), around.Every(a.look)
    while (done := clock.progress()) < 1:
        if step % 60 == 0:
            corpus.refresh(most=6)
            whole, strength = (0.2 if done < 1 - a.full else 0.85), min(1.0, 0.4 + 4 * done)
            for n in news:
                n.put(("mix", whole, strength))
        try:
            b = batches.get(timeout=30)
        except queue.Empty:
            print("no batch for 30 s", flush=True)
            continue
        put = lambda x: torch.from_numpy(x).to(a.device, non_blocking=True)
        mels = augment(b["rows"], b["frames"], put(b["spans"]), put(b["below"]), put(b["level"]), put(b["silent"]), put(b["ends"]), strength)
        rate = min(1.0, (step + 1) / a.warm) * min(1.0, max(0.0, (1 - done) / 0.75))
        cross, ctc = trainer.losses(mels, b, drop=0.15 * (1 - done))
        trainer.step(cross, ctc, 0.5 * (1 - 0.7 * done), rate)
        step, hours = step + 1, hours + b["rows"] * b["frames"] / 360000
        if step % 5 == 0:
            trainer.mean.update()
        if step % 50 == 0 or step < 4 or a.device == "cpu":
            print(
                f"{clock.minutes():.2f} min, step {step}, {hours:.1f} h, {corpus.utterances} utterances, {b['rows']}x{b['frames']}, tokens {cross.item():.3f}, "
                f"letters {ctc.item():.3f}, {(time.time() - mark) / (step - told):.3f} s/step, {batches.qsize()} batches waiting",
                flush=True,
            )
            told, mark = step, time.time()
        if save.due():
            trainer.save()
            save.done()
        if look.due():
            trainer.look(corpus, augment, monitor)
            look.done()
            told, mark = step, time.time()
    trainer.save()
    print(f"DONE {step} steps, {hours:.1f} h of sound, {corpus.utterances} utterances, {bank.used / 360000:.1f} h apart", flush=True)
    trainer.look(corpus, augment, monitor)
    around.leave(composers)


if __name__ == "__main__":
    main()
