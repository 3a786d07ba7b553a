"""What the vocoder is measured by: the distance of spectra, and discriminators that learn to tell it from the teacher."""

import torch
import torch.nn as nn
import torch.nn.functional as F

import analysis


class Periods(nn.Module):
    """Looks at every p-th sample (HiFi-GAN, Kong 2020)."""

    def __init__(self, period, channels):
        super().__init__()
        self.period, sizes = period, [1, *channels]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0)) for a, b in zip(sizes, sizes[1:]))
        self.convolutions.append(nn.Conv2d(sizes[-1], sizes[-1], (3, 1), 1, (1, 0)))
        self.last = nn.Conv2d(sizes[-1], 1, (3, 1), 1, (1, 0))

    def forward(self, x):
        """[batch, samples] -> its verdicts, and what its layers saw"""
        x = F.pad(x[:, None], (0, -x.size(1) % self.period), "reflect")
        return _through(self, x.unflatten(2, (-1, self.period)))


class Spectrum(nn.Module):
    """Looks at a spectrogram (UnivNet, Jang 2021)."""

    def __init__(self, size, hop, channels):
        super().__init__()
        self.size, self.hop = size, hop
        self.register_buffer("window", torch.hann_window(size), persistent=False)
        sizes, wide = [1, channels, channels, 2 * channels, 2 * channels], [9, 9, 9, 5]
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, (w, 3), (2, 1), (w // 2, 1)) for a, b, w in zip(sizes, sizes[1:], wide))
        self.convolutions.append(nn.Conv2d(2 * channels, 2 * channels, 3, padding=1))
        self.last = nn.Conv2d(2 * channels, 1, 3, padding=1)

    def forward(self, x):
        return _through(self, 0.3 * magnitudes(x, self.size, self.hop, self.window, 1e-8)[:, None].log())


def _through(d, x):
    seen = []
    for layer in d.convolutions:
        x = F.leaky_relu(layer(x), 0.1)
        seen.append(x)
    return d.last(x), seen


def magnitudes(x, size, hop, window, floor, center=True):
    s = torch.view_as_real(torch.stft(x, size, hop, size, window, center=center, return_complex=True))
    return s.pow(2).sum(-1).clamp_min(floor).sqrt()


class Discriminators(nn.Module):
    def __init__(self, channels=16, spectral=8):
        super().__init__()
        self.all = nn.ModuleList(Periods(p, [channels * 2**i for i in range(4)]) for p in (2, 3, 5, 7, 11))
        self.all.extend(Spectrum(n, hop, spectral) for n, hop in ((512, 128), (1024, 256), (256, 64)))

    def pass_on(self, real, made, which):
        """The discriminators' loss, for their step, and the gradient of `made` that makes it seem real."""
        made = made.detach().requires_grad_(True)
        share = len(self.all) / len(which)
        theirs, other, alike = 0.0, 0.0, 0.0
        for i in which:
            verdict, seen = self.all[i](real)
            fake, saw = self.all[i](made)
            theirs = theirs + ((verdict - 1) ** 2).mean() + (fake**2).mean()
            other = other + ((fake - 1) ** 2).mean()
            alike = alike + sum((a - b.detach()).abs().mean() / (b.detach().abs().mean() + 1e-3) for a, b in zip(saw, seen))
        (gradient,) = torch.autograd.grad(share * (other + 0.5 * alike), made, retain_graph=True)
        return theirs, gradient, other.item() / len(which)


class Spectra(nn.Module):
    """The distance of two sounds in spectra of several sizes, and in log-mels as analysis.py has them."""

    SIZES = ((256, 64), (512, 128), (1024, 256), (2048, 512))

    def __init__(self):
        super().__init__()
        self.size, self.hop = analysis.FFT, analysis.HOP
        self.register_buffer("filters", torch.from_numpy(analysis.FILTERS))
        for n, _ in self.SIZES:
            self.register_buffer(f"window{n}", torch.hann_window(n))

    def log_mel(self, x):
        pad = (self.size - self.hop) // 2
        x = F.pad(x[:, None], (pad, pad), "reflect")[:, 0]
        return (self.filters @ magnitudes(x, self.size, self.hop, self.window1024, 1e-9, center=False)).clamp_min(1e-2).log()

    def forward(self, made, real):
        """(mean distance of log-mels, mean distance of spectra)"""
        far = 0.0
        for n, hop in self.SIZES:
            window, floor = getattr(self, f"window{n}"), 0.01 * n**0.5
            a, b = (magnitudes(x, n, hop, window, 1e-7) for x in (made, real))
            far = far + ((a + floor).log() - (b + floor).log()).abs().mean() + 0.5 * (a - b).norm() / (b.norm() + 1e-3)
        return (self.log_mel(made) - self.log_mel(real)).abs().mean(), far / len(self.SIZES)
