"""Trains the Spanish voice on what its teacher has read, in up to three stages.

    python teacher.py --text train.tsv --out DIR
    python voice.py acoustic --readings DIR --out acoustic.pt --minutes 60
    python voice.py vocoder --readings DIR --from acoustic.pt --out vocoder.pt --minutes 60
    python voice.py joint --readings DIR --from vocoder.pt --out joint.pt --minutes 60 --export new/tts-es

acoustic: text to latents. vocoder: the teacher's latents to sound; both halves are in one file, so that it may be trained
first. joint: the vocoder learns from the latents that the first half makes, and the first half from the sound. Without --from,
joint goes on from the weights of ../micro/tts-es.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from transformers import VitsModel

import around
from adversary import Discriminators, Spectra
from clock import Clock
from export import publish
from muon import Mean
from vits import KNOWN, NOISE, Readings, Voice, config

MICRO = Path(__file__).parents[1] / "micro/tts-es"
# Frames of a piece of sound.
PIECE = 32
# Steps after which the alignment's head, which no model keeps, has learnt enough.
EARLY = 100


class Trainer:
    def __init__(self, a):
        self.a = a
        kept = torch.load(a.source, map_location="cpu") if a.source else None
        self.vits = VitsModel.from_pretrained(MICRO, dtype=torch.float32) if a.stage == "joint" and not kept else fresh(VitsModel(config()))
        self.voice, self.discriminators = Voice(self.vits).to(a.device), Discriminators().to(a.device)
        self.spectra, self.adversary = Spectra().to(a.device), a.stage == "joint"
        if kept:
            self.voice.load_state_dict(kept["voice"])
            self.voice.settle()
            self.discriminators.load_state_dict(kept["discriminators"])
        adam = lambda p, rate, first: torch.optim.AdamW(p, rate, betas=(first, 0.99), weight_decay=0.0)
        rates = {"acoustic": (1.5e-3, 0, 0), "vocoder": (0, 6e-4, 3e-4), "joint": (3e-4, 2e-4, 2e-4)}[a.stage]
        # A trained half waits for its alignment.
        self.waits = a.stage == "joint" and not kept
        align = [{"params": self.voice.acoustic()}, {"params": self.voice.align.parameters(), "scale": 5 if self.waits else 1}]
        self.optimisers = [
            (adam(parameters, rate, first), rate)
            for parameters, rate, first in zip((align, self.voice.vocoder.parameters(), self.discriminators.parameters()), rates, (0.9, 0.8, 0.8), strict=True)
        ]
        self.mean = Mean(self.voice.parameters(), horizon=300)

    def pieces(self, readings, batch, latents, r):
        """Latents and the teacher's sound: [pieces, 96, 32] and [pieces, samples]."""
        long, inputs, sounds = [row for row, n in enumerate(batch["lengths"]) if n >= PIECE], [], []
        for k in range(self.a.pieces):
            row = long[k % len(long)]
            at = int(r.integers(0, max(1, batch["lengths"][row] - PIECE)))
            inputs.append(latents[row, :, at : at + PIECE])
            sounds.append(readings.samples(batch["starts"][row] + at, PIECE))
        return torch.stack(inputs), torch.from_numpy(np.stack(sounds)).to(latents.device)

    def sound(self, inputs, real, adversary, r):
        """The vocoder's losses; the discriminators step."""
        made = self.voice.vocoder(inputs)[:, 0]
        mel, spectra = self.spectra(made, real)
        loss, told = 25 * mel + 5 * spectra, {"mel": mel.item(), "spectra": spectra.item()}
        if adversary:
            every = len(self.discriminators.all)
            # on a CPU half of them at a time
            which = range(every) if self.a.device != "cpu" else r.permutation(every)[: every // 2].tolist()
            theirs, gradient, told["taken for real"] = self.discriminators.pass_on(real, made, which)
            optimiser = self.optimisers[2][0]
            optimiser.zero_grad(set_to_none=True)
            theirs.backward()
            torch.nn.utils.clip_grad_norm_(self.discriminators.parameters(), 10)
            optimiser.step()
            loss = loss + (made * gradient).sum()
        return loss, told

    @torch.no_grad()
    def upright(self, inputs, real):
        """The vocoder with the teacher's sign, which no spectrum shows and every discriminator sees."""
        lean = lambda x: ((x - x.mean()) ** 3).mean()
        if lean(self.voice.vocoder(inputs)) * lean(real) < 0:
            self.voice.vocoder.conv_post.weight.neg_()

    def step(self, readings, some, done, step, r):
        a, stage, early = self.a, self.a.stage, not self.a.source and step < EARLY
        for optimiser, rate in self.optimisers:
            for g in optimiser.param_groups:
                g["lr"] = g.get("scale", 1) * rate * min(1, (step + 1) / 50) * (0.05 + 0.475 * (1 + np.cos(np.pi * done)))
        if early and self.waits:
            self.optimisers[0][0].param_groups[0]["lr"] = 0
        batch, loss, told = readings.batch(some, a.device), 0.0, {}
        if stage != "vocoder":
            latents, losses = self.voice(batch, early)
            loss = (1 if stage == "acoustic" else 10) * sum(self.voice.SHARES[k] * v for k, v in losses.items())
            told |= {k: v.item() for k, v in losses.items()}
        else:
            truth = batch["latents"].transpose(1, 2)
            latents = torch.cat([truth + 0.03 * torch.randn_like(truth), NOISE * torch.randn(len(truth), self.voice.free, truth.size(2), device=a.device)], 1)
        if stage != "acoustic":
            inputs, real = self.pieces(readings, batch, latents, r)
            adversary = stage == "joint" or done > 0.2
            if adversary and not self.adversary:
                self.upright(inputs, real)
            self.adversary = adversary
            sound, more = self.sound(inputs, real, adversary, r)
            loss, told = loss + sound, told | more
        for optimiser, _ in self.optimisers[:2]:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.voice.acoustic(), 1 if stage == "acoustic" else 10)
        torch.nn.utils.clip_grad_norm_(self.voice.vocoder.parameters(), 50)
        # A half without gradients stays as it is.
        for optimiser, _ in self.optimisers[:2]:
            optimiser.step()
        self.mean.update()
        return told

    def save(self):
        with self.mean.applied():
            torch.save({"voice": self.voice.state_dict(), "discriminators": self.discriminators.state_dict()}, self.a.out + ".part")
            os.replace(self.a.out + ".part", self.a.out)
            if self.a.export:
                self.export(self.a.export)

    @torch.no_grad()
    def export(self, folder):
        """The folder of ../micro/tts-es with other weights, under the names that facebook/mms-tts has."""
        # Both halves are its own layers.
        state = self.vits.state_dict()
        for k, v in state.items():
            # never run; alike numbers cost nothing in an archive
            if k.startswith("posterior_encoder"):
                state[k] = torch.full_like(v, 1e-3 if v.dim() == 3 else 0)
        old = lambda k: k.replace(".parametrizations.weight.original0", ".weight_g").replace(".parametrizations.weight.original1", ".weight_v")
        publish({old(k): v for k, v in state.items()}, MICRO, folder)


@torch.no_grad()
def fresh(vits):
    """Weights to begin with."""
    for name, p in vits.named_parameters():
        if "embed_tokens" in name:
            torch.nn.init.normal_(p, std=vits.config.hidden_size**-0.5)
        elif "emb_rel" in name:
            torch.nn.init.normal_(p, std=(vits.config.hidden_size // vits.config.num_attention_heads) ** -0.5)
        elif name.startswith("decoder") and p.dim() == 3:
            torch.nn.init.kaiming_normal_(p, a=0.1)
            p.mul_(0.3 if "convs2" in name else 0.1 if name.startswith("decoder.conv_post") else 1)
        elif p.dim() == 2:
            torch.nn.init.xavier_uniform_(p)
        elif p.dim() == 3 and "original0" not in name:
            torch.nn.init.kaiming_uniform_(p, a=5**0.5)
        elif "bias" in name:
            torch.nn.init.zeros_(p)
    vits.decoder.conv_pre.weight[:, KNOWN:] = 0
    for flow in vits.flow.flows:
        flow.conv_post.weight.zero_()
    return vits


def main():
    p = argparse.ArgumentParser()
    p.add_argument("stage", choices=["acoustic", "vocoder", "joint"])
    p.add_argument("--readings", required=True)
    p.add_argument("--from", dest="source", help="what an earlier stage wrote")
    p.add_argument("--out", required=True)
    p.add_argument("--export", help="a folder for the voice in Hugging Face layout")
    around.arguments(p, minutes=60)
    p.add_argument("--sentences", type=int, default=16, help="in a step")
    p.add_argument("--pieces", type=int, default=16, help="of half a second, in a step")
    a = p.parse_args()
    torch.manual_seed(3)
    around.fast_arithmetic()
    r, readings = np.random.default_rng(3), Readings(a.readings)
    trainer, clock, save, told, step, mark = Trainer(a), Clock(a.minutes, a.end), around.Every(300), [], 0, time.time()
    trainer.voice.train()
    for some in readings.batches(a.sentences, r):
        done = clock.progress()
        if done >= 1:
            break
        told.append(trainer.step(readings, some, done, step, r))
        step += 1
        if step % 20 == 0:
            mean = {k: round(float(np.mean([t[k] for t in told if k in t])), 4) for k in told[-1]}
            print(f"{clock.minutes():.1f} min, step {step}, {(time.time() - mark) / 20:.2f} s/step {json.dumps(mean)}", flush=True)
            told, mark = [], time.time()
        if save.due():
            trainer.save()
            save.done()
    trainer.save()
    print(f"DONE {step} steps", flush=True)


if __name__ == "__main__":
    main()
