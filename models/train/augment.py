"""Windows of speech as the recogniser hears them, made on the training device from the bank of raw log-mels.

In the log-mel domain: tempo, size of the head (a warp of the bands), voices that nobody has, equaliser, reverberation, coloured
noise, music below the speech, telephone and other band limits, masks over bands and over time.
"""

import glob
import json

import numpy as np
import torch

BANDS = 80


class Bank:
    """All log-mels, one after another, on the device."""

    def __init__(self, frames, device):
        self.data = torch.zeros(frames, BANDS, dtype=torch.float16, device=device)
        self.used, self.seen = 0, set()

    def fill(self, folder, most=None):
        """Takes in shards of speech.py that are new in the folder, so many at most: the utterances of each, which are
        (transcript or None, voice, frames, place)."""
        new = [f for f in sorted(glob.glob(f"{folder}/*.npy")) if f not in self.seen and not f.endswith(".part.npy")]
        for file in new[:most]:
            self.seen.add(file)
            place = self.add(np.load(file))
            if place is None:
                continue
            index = []
            for text, voice, frames in json.load(open(file[:-4] + ".json")):
                index.append((text, voice, frames, place))
                place += frames
            yield index

    def add(self, mels):
        """The place of the new frames, or None where the bank is full."""
        if self.used + len(mels) + 2 > len(self.data):
            return None
        at = self.used
        self.data[at : at + len(mels)] = torch.from_numpy(mels).to(self.data.device)
        self.used += len(mels)
        return at


def _curves(device):
    """Four control points across the bands -> 80 bands."""
    x = torch.linspace(0, 3, BANDS)
    low = x.long().clamp(max=2)
    out = torch.zeros(4, BANDS)
    out[low, torch.arange(BANDS)] = 1 - (x - low)
    out[low + 1, torch.arange(BANDS)] += x - low
    return out.to(device)


def _cosines(device, count):
    """The first of the cosines that cepstra are made of, [80, count]."""
    n = (torch.arange(BANDS) + 0.5)[:, None]
    out = (torch.pi / BANDS * n * torch.arange(count)).cos() * (2 / BANDS) ** 0.5
    out[:, 0] /= 2**0.5
    return out.to(device)


def finish(m):
    """What the model reads, from log-mels [rows, frames, 80]: eight powers of ten below the loudest, scaled."""
    return (torch.maximum(m, m.amax((1, 2), keepdim=True) - 8) + 4) / 4


class Augment:
    # How far each cepstrum jumps at most, near enough: as those of one diphone voice lie from another's, sound for sound.
    JUMPS = (5.2, 2.4, 1.9, 1.5, 1.3, 1.1, 1.0, 1.0) + (0.85,) * 16

    def __init__(self, bank, device):
        self.bank, self.device, self.curves, self.cosines = bank, device, _curves(device), _cosines(device, len(self.JUMPS))
        self.bands, self.jump = torch.arange(BANDS, device=device), torch.tensor(self.JUMPS, device=device)
        order = torch.arange(len(self.JUMPS), device=device)
        near = (-(order[:, None] - order[None]).abs() / 4).exp()
        self.near = near / near.square().sum(1, keepdim=True).sqrt()

    def _uniform(self, low, high, *shape):
        return torch.rand(*shape, device=self.device) * (high - low) + low

    def _chance(self, probability, n):
        return torch.rand(n, device=self.device) < probability

    def place(self, rows, frames, spans):
        """Log-mels [rows, frames, 80] with spans laid in, -10 elsewhere. spans: [n, 5] row, start, length, place in the bank, and
        rate and gain in thousandths."""
        out = torch.full((rows * frames, BANDS), -10.0, device=self.device)
        if len(spans) == 0:
            return out.view(rows, frames, BANDS)
        row, start, length, place, rate, gain = spans.T
        total = torch.repeat_interleave(torch.arange(len(spans), device=self.device), length)
        first = torch.cumsum(length, 0) - length
        i = torch.arange(len(total), device=self.device) - first[total]
        at = i.double() * (rate[total].double() / 1000)
        whole = at.long()
        part = (at - whole).float()[:, None]
        index = place[total] + whole
        m = self.bank.data[index].float() * (1 - part) + self.bank.data[index + 1].float() * part
        out[row[total] * frames + start[total] + i] = m + (gain[total].float() / 1000)[:, None]
        return out.view(rows, frames, BANDS)

    def warp(self, m, strength):
        """Formants moved up or down."""
        b = len(m)
        factor = torch.where(self._chance(0.5 * strength, b), self._uniform(0.88, 1.13, b), torch.ones(b, device=self.device))
        x = (self.bands[None] * factor[:, None]).clamp(0, BANDS - 1.001)
        low = x.long()
        part = (x - low)[:, None]
        low = low[:, None].expand(-1, m.size(1), -1)
        return m.gather(2, low) * (1 - part) + m.gather(2, low + 1) * part

    def estrange(self, m, voiced, strength):
        """The voice of a window becomes one that nobody has. Its cepstra's distance from their mean goes through a random matrix
        near one; and every tenth of a second or so they jump, as where pieces of recordings are joined."""
        b, frames, count = len(m), m.size(1), self.cosines.size(1)
        m = torch.where(voiced, torch.maximum(m, m.amax((1, 2), keepdim=True) - 8), m)
        loudness, some = m.mean(2, keepdim=True), voiced.any(2, keepdim=True)
        loud = some & (loudness > torch.where(some, loudness, 0).sum(1, keepdim=True) / some.sum(1, keepdim=True).clamp(min=1))
        mean = torch.where(loud, m, 0).sum(1, keepdim=True) / loud.sum(1, keepdim=True).clamp(min=1)
        amount = self._chance(0.6 * strength, b) * self._uniform(0, 0.42, b)
        change = torch.randn(b, count, count, device=self.device) * self.near * amount[:, None, None]
        moved = (m - mean) @ self.cosines @ change.transpose(1, 2)
        amount = self._chance(0.8 * strength, b) * self._uniform(0.1, 1.3, b)
        piece = (torch.rand(b, frames, device=self.device) < 1 / self._uniform(5, 20, b, 1)).cumsum(1)
        jumps = torch.randn(b, int(piece.max()) + 1, count, device=self.device) * self.jump * amount[:, None, None]
        moved = moved + jumps.gather(1, piece[..., None].expand(-1, -1, count))
        return torch.where(voiced, m + moved @ self.cosines.T, m)

    def reverberate(self, p, strength):
        """Energy smeared forward in time, in some rows."""
        on = self._chance(0.3 * strength, len(p)).nonzero()[:, 0]
        if len(on) == 0:
            return p
        n, tail = p.size(1), 80
        decay = 10 ** (-0.06 / self._uniform(0.12, 0.8, len(on), 1))
        t = torch.arange(tail, device=self.device)[None]
        h = torch.where(t > 0, decay**t * (1 - decay) * 4 * self._uniform(0.02, 0.3, len(on), 1), 0 * decay)
        spectrum = torch.fft.rfft(p[on], n=n + tail, dim=1) * torch.fft.rfft(h, n=n + tail, dim=1)[..., None]
        p[on] = p[on] + torch.fft.irfft(spectrum, n=n + tail, dim=1)[:, :n].clamp(min=0)
        return p

    @torch.no_grad()
    def __call__(self, rows, frames, spans, below, below_gain, silent, ends, strength):
        """spans: the speech; below: spans of music and other sounds, one a row at most, below_gain their level against the
        speech in powers of ten; silent: rows without speech; ends: the frame after which a padded window is empty."""
        m = self.warp(self.place(rows, frames, spans), strength)
        voiced = m > -9.99
        m = self.estrange(m, voiced, strength)
        tilt = self._chance(0.5, rows)[:, None] * (self._uniform(-0.6, 0.6, rows, 4) @ self.curves)
        p = torch.where(voiced, 10 ** (m + tilt[:, None]), torch.zeros_like(m))
        p = self.reverberate(p, strength)
        # the level of the speech where there is any
        level = (p.mean((1, 2)) * frames * BANDS / voiced.sum((1, 2)).clamp(min=1) + 1e-10).log10()
        level = torch.where(silent, self._uniform(-3, -0.5, rows), level)
        if len(below):
            s = self.warp(self.place(rows, frames, below), strength)
            s = torch.where(s > -9.99, 10**s, torch.zeros_like(s))
            s = s / (s.mean((1, 2), keepdim=True) + 1e-10) * 10 ** (level + below_gain)[:, None, None]
            colour = self._chance(0.4, rows)[:, None] * (self._uniform(-1, 0.5, rows, 4) @ self.curves)
            p = p + s * 10 ** colour[:, None]
        noisy = self._chance(0.6 * strength, rows)
        floor = torch.where(noisy, level - self._uniform(0.7, 4.5, rows), self._uniform(-10, -6, rows))
        colour = torch.where(noisy[:, None], self._uniform(-1.3, 1.0, rows, 4) @ self.curves, torch.zeros(rows, BANDS, device=self.device))
        wild = -torch.rand_like(p).clamp(min=1e-9).log()
        p = p + 10 ** (floor[:, None] + colour)[:, None] * wild
        m = p.clamp(min=1e-10).log10()
        top = torch.where(self._chance(0.12 * strength, rows), torch.randint(45, 74, (rows,), device=self.device), BANDS)
        bottom = torch.where(self._chance(0.1 * strength, rows), torch.randint(3, 11, (rows,), device=self.device), 0)
        out = (self.bands[None] >= top[:, None]) | (self.bands[None] < bottom[:, None])
        m = torch.where(out[:, None], (m - self._uniform(3, 8, rows, 1, 1)).clamp(min=-10), m)
        time = torch.arange(frames, device=self.device)[None]
        padded = (time >= ends[:, None]) & self._chance(0.5, rows)[:, None]
        m = torch.where(padded[..., None], -10.0, m)
        return self.mask(finish(m), strength)

    def mask(self, m, strength):
        """Two bands of frequencies and two stretches of time set to the mean."""
        mean = m.mean((1, 2))[:, None, None]
        for axis, most in ((2, 10), (1, 12), (2, 6), (1, 12)):
            n = m.size(axis)
            start = self._uniform(0, n - most, len(m)).long()
            width = torch.randint(1, most, (len(m),), device=self.device)
            i = torch.arange(n, device=self.device)[None]
            z = (i >= start[:, None]) & (i < (start + width)[:, None]) & self._chance(0.35 * strength, len(m))[:, None]
            m = torch.where(z[:, None] if axis == 2 else z[..., None], mean, m)
        return m
