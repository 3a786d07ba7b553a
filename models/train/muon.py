"""The optimisers: Muon for the matrices inside the layers, AdamW for the rest, and a running mean of the weights."""

from contextlib import contextmanager

import torch


def orthogonal(g):
    """The nearest orthogonal matrices to a stack of them, nearly: five Newton-Schulz steps."""
    # a CPU is slow at bfloat16
    x = g.bfloat16() if g.is_cuda else g
    tall = x.size(1) > x.size(2)
    x = x.mT if tall else x
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).to(x.dtype)
    for _ in range(5):
        a = x @ x.mT
        b = torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315)
        x = torch.baddbmm(x, b, x, beta=3.4445)
    return (x.mT if tall else x).float()


class Muon:
    """Momentum whose steps are orthogonal. Matrices of one shape step together."""

    def __init__(self, parameters, momentum=0.95, decay=0.02):
        self.momentum, self.decay, self.groups = momentum, decay, {}
        for p in parameters:
            self.groups.setdefault((p.size(0), p.numel() // p.size(0)), []).append(p)
        self.velocity = {s: torch.zeros((len(ps),) + s, device=ps[0].device) for s, ps in self.groups.items()}

    @torch.no_grad()
    def step(self, rate):
        for shape, ps in self.groups.items():
            g = torch.stack([p.grad.reshape(shape) for p in ps])
            v = self.velocity[shape].lerp_(g, 1 - self.momentum)
            u = orthogonal(g.lerp(v, self.momentum))
            torch._foreach_mul_(ps, 1 - rate * self.decay)
            torch._foreach_add_(ps, [x.view_as(p) for x, p in zip(u, ps)], alpha=-rate * max(1, shape[0] / shape[1]) ** 0.5)


class Mean:
    """An exponential mean of the parameters, which takes their place where it is applied."""

    def __init__(self, parameters, horizon):
        self.parameters, self.horizon, self.count = list(parameters), horizon, 0
        self.mean = [p.detach().clone() for p in self.parameters]

    def update(self):
        self.count += 1
        weight = max(1 / self.horizon, 2 / (self.count + 5))
        torch._foreach_lerp_(self.mean, [p.detach() for p in self.parameters], weight)

    @contextmanager
    def applied(self):
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self):
        for p, m in zip(self.parameters, self.mean):
            kept = p.detach().clone()
            p.copy_(m)
            m.copy_(kept)
