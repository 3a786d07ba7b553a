"""The voice's two halves for training: text to latents, latents to sound, in the layers of transformers' VitsModel.

Of its latents the first 82 are made to be log-mels, pitch and voicing, standardised; the rest stay noise, of which the vocoder
makes what is rough in consonants. So neither half needs the other, and no posterior encoder is trained.
"""

import json

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import VitsConfig

from analysis import BANDS, HOP, RATE
from teacher import LETTERS

# Log-mels, the logarithm of the pitch, voicing.
KNOWN = BANDS + 2
PITCH, VOICING = BANDS, BANDS + 1
# How loud the free latents' noise is, as it will be when the voice speaks.
NOISE = 0.667


def config():
    return VitsConfig(
        vocab_size=len(LETTERS), hidden_size=96, num_hidden_layers=3, num_attention_heads=2, ffn_dim=384, ffn_kernel_size=3, window_size=4, flow_size=96,
        prior_encoder_num_flows=4, prior_encoder_num_wavenet_layers=2, posterior_encoder_num_wavenet_layers=1, wavenet_dilation_rate=2, wavenet_kernel_size=5,
        wavenet_dropout=0.0, upsample_initial_channel=256, upsample_rates=[8, 8, 4], upsample_kernel_sizes=[16, 16, 8], resblock_kernel_sizes=[7],
        resblock_dilation_sizes=[[1, 3]], duration_predictor_filter_channels=128, duration_predictor_dropout=0.1, use_stochastic_duration_prediction=False,
        layerdrop=0.0, hidden_dropout=0.05, attention_dropout=0.05, activation_dropout=0.05, noise_scale=NOISE, noise_scale_duration=0.0, sampling_rate=RATE,
        pad_token_id=0,
    )  # fmt: skip


def monotonic(scores, tokens, frames):
    """The durations of tokens along the best path (Kim 2020): scores [batch, tokens, frames], every token at least one frame."""
    scores = scores.copy()
    for b, (t, f) in enumerate(zip(tokens, frames)):
        scores[b, t:], scores[b, :, f:] = -1e9, 0
    batch, most, length = scores.shape
    best, moved = np.full((batch, most), -1e9, np.float32), np.zeros((length, batch, most), bool)
    best[:, 0] = scores[:, 0, 0]
    for f in range(1, length):
        before = np.pad(best[:, :-1], ((0, 0), (1, 0)), constant_values=-1e9)
        moved[f] = before > best
        best = np.maximum(best, before) + scores[:, :, f]
    out = np.zeros((batch, most), np.int64)
    for b, (t, f) in enumerate(zip(tokens, frames)):
        at = t - 1
        for k in range(f - 1, -1, -1):
            out[b, at] += 1
            # the tokens that are left need a frame each
            if at > 0 and (moved[k, b, at] or at == k):
                at -= 1
    return out


class Voice(nn.Module):
    def __init__(self, vits):
        super().__init__()
        self.text, self.flow, self.durations, self.vocoder = vits.text_encoder, vits.flow, vits.duration_predictor, vits.decoder
        # What aligns letters with frames while there is no other way; no part of the model.
        self.align = nn.Linear(vits.config.hidden_size, KNOWN)
        self.free = vits.config.flow_size - KNOWN
        self.settle()

    @torch.no_grad()
    def settle(self):
        """The text says the known latents as they are, and of the free ones nothing but their noise."""
        weight, bias, size = self.text.project.weight, self.text.project.bias, KNOWN + self.free
        weight[size:], bias[size : size + KNOWN], bias[size + KNOWN :] = 0, -6, 0

    def acoustic(self):
        return [*self.text.parameters(), *self.flow.parameters(), *self.durations.parameters()]

    def log_durations(self, hidden, mask):
        """transformers' predictor, through which gradients reach the text."""
        p = self.durations
        x = p.dropout(p.norm_1(torch.relu(p.conv_1(hidden * mask)).transpose(1, 2)).transpose(1, 2))
        x = p.dropout(p.norm_2(torch.relu(p.conv_2(x * mask)).transpose(1, 2)).transpose(1, 2))
        return (p.proj(x * mask) * mask)[:, 0]

    def path(self, wanted, latents, tokens, frames):
        """Durations from what the letters want: pitch counts half, voicing twice."""
        with torch.no_grad():
            weight = torch.ones(KNOWN, device=latents.device)
            weight[PITCH], weight[VOICING] = 0.5, 2
            score = wanted @ (latents * weight).transpose(1, 2) - 0.5 * (wanted**2 * weight).sum(-1, keepdim=True)
        return monotonic(score.float().cpu().numpy(), tokens, frames)

    def forward(self, batch, early):
        """The latents of a batch in the teacher's durations, [batch, 96, frames], and the losses. `early`: for want of an
        alignment the letters share the time as their predicted durations would have it."""
        b = batch
        o = self.text(input_ids=b["ids"], padding_mask=b["said"][..., None], attention_mask=b["said"].long())
        hidden, means = o.last_hidden_state, o.prior_means.float()
        logs = self.log_durations(hidden.transpose(1, 2), b["said"][:, None]).float()
        wanted = self.align(hidden).float()
        if early:
            ends = ((logs.detach().exp() + 0.5) * b["said"]).cumsum(1)
            ends = ends / ends[:, -1:] * b["heard"].sum(1, keepdim=True)
            durations = torch.diff(ends.round().long(), dim=1, prepend=torch.zeros_like(ends[:, :1], dtype=torch.long))
        else:
            durations = torch.from_numpy(self.path(wanted, b["latents"], b["tokens"], b["lengths"])).to(logs.device)
        lasts = durations.cumsum(1)
        times = torch.arange(b["latents"].size(1), device=logs.device).expand(len(lasts), -1).contiguous()
        owner = torch.searchsorted(lasts, times, right=True).clamp(max=lasts.size(1) - 1)
        spread = lambda x: x.gather(1, owner[..., None].expand(-1, -1, x.size(2))).transpose(1, 2)
        mask, truth = b["heard"][:, None], b["latents"].transpose(1, 2)
        prior = spread(means)
        noise = NOISE * torch.randn_like(prior[:, KNOWN:]) * mask
        latents = self.flow(torch.cat([prior[:, :KNOWN], prior[:, KNOWN:] + noise], 1), mask, reverse=True).float()
        weight = torch.ones(KNOWN, 1, device=mask.device)
        weight[PITCH:] = 4
        count, off = mask.sum(), (latents[:, :KNOWN] - truth) * mask
        goal, total = (durations.clamp(min=1) - 0.5).log(), durations.sum(1)
        one_by_one = (F.smooth_l1_loss(logs, goal, reduction="none", beta=0.5) * b["said"]).sum() / b["said"].sum()
        # letter by letter alone comes out too fast in all
        whole = (((logs.exp() + 0.5) * b["said"]).sum(1) / total - 1).abs().mean()
        losses = {
            "align": ((spread(wanted) - truth) ** 2 * mask).sum() / count / KNOWN,
            "noise": ((latents[:, KNOWN:] - noise) ** 2 * mask).sum() / count / self.free,
            "far": (off.abs() * weight).sum() / count / KNOWN,
            "square": (off**2 * weight).sum() / count / KNOWN,
            "durations": one_by_one + 0.5 * whole,
        }
        return latents, losses

    SHARES = {"align": 0.5, "noise": 0.3, "far": 1.0, "square": 0.5, "durations": 0.3}


class Readings:
    """What teacher.py wrote."""

    def __init__(self, folder):
        with open(f"{folder}/index.json") as f:
            index = json.load(f)
        self.texts, self.starts = index["texts"], index["starts"]
        self.wave = np.load(f"{folder}/wave.npy")
        raw = np.concatenate([np.load(f"{folder}/mel.npy").astype(np.float32), np.load(f"{folder}/pitch.npy")], 1)
        mean, spread, voiced = raw.mean(0), raw.std(0), raw[:, VOICING] > 0.5
        mean[PITCH], spread[PITCH] = raw[voiced, PITCH].mean(), raw[voiced, PITCH].std()
        mean[VOICING] = spread[VOICING] = 0.5
        self.latents = (raw - mean) / spread
        self.lengths = np.diff(self.starts)

    def __len__(self):
        return len(self.texts)

    def samples(self, first, frames):
        return self.wave[first * HOP : (first + frames) * HOP].astype(np.float32) / 32767

    def batches(self, size, r):
        """Endless lists of sentences, of about one length in a list."""
        while True:
            order, lists = r.permutation(len(self)), []
            for part in np.array_split(order, max(1, len(order) // (20 * size))):
                part = part[self.lengths[part].argsort()]
                lists += [part[k : k + size] for k in range(0, len(part) - size + 1, size)]
            for k in r.permutation(len(lists)):
                yield lists[k]

    def batch(self, some, device):
        ids = []
        for i in some:
            ids.append(np.zeros(2 * len(self.texts[i]) + 1, np.int64))
            ids[-1][1::2] = [LETTERS.index(ch) for ch in self.texts[i]]
        table = lambda rows: torch.nn.utils.rnn.pad_sequence([torch.from_numpy(x) for x in rows], batch_first=True).to(device)
        latents = [self.latents[self.starts[i] : self.starts[i + 1]] for i in some]
        ones = lambda rows: table([np.ones(len(x), np.float32) for x in rows])
        return {
            "ids": table(ids), "said": ones(ids), "latents": table(latents), "heard": ones(latents), "tokens": [len(x) for x in ids],
            "lengths": [len(x) for x in latents], "starts": [self.starts[i] for i in some],
        }  # fmt: skip
