"""A network whose answer is known exactly: the posterior mean of a mixture of Gaussians."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Denoiser
from sfumato.diffusion.noise_schedule import FlowTable, NoiseTable, Table
from sfumato.spec import Prediction

# Time is the logarithm of the noise level, so that every level, also one beyond a model's own, has an exact time.
LOG_TIME = NoiseTable(torch.logspace(-4, 8, 1201, dtype=torch.float64))


class Toy(nn.Module):
    """Predicts eps, v or flow of data that are a mixture of K isotropic Gaussians, under one of two labels.

    means (K, C, h, w), variances (K,), weights (2, K): row 0 for no prompt, row 1 for the prompt. As a network, it sees
    x = a x0 + b n in the scale of its kind and the time, and `cond.tokens` (B, 1, 1) holds the label.
    """

    variances: Tensor
    weights: Tensor

    def __init__(self, means: Tensor, variances: Tensor, weights: Tensor, kind: Prediction = "eps"):
        super().__init__()
        self.means = nn.Parameter(means.to(torch.float64), requires_grad=False)
        self.register_buffer("variances", variances.to(torch.float64))
        self.register_buffer("weights", weights.to(torch.float64))
        self.kind = kind
        self.table: Table = FlowTable() if kind == "flow" else LOG_TIME

    def x0(self, x: Tensor, a: Tensor, b: Tensor, label: Tensor) -> Tensor:
        """E[x0 | x] for x (B, C, h, w) = a x0 + b n, with a, b, label (B,)."""
        away = x[:, None] - a.reshape(-1, 1, 1, 1, 1) * self.means  # (B, K, C, h, w)
        variance = a[:, None] ** 2 * self.variances + b[:, None] ** 2  # (B, K)
        dimensions = self.means[0].numel()
        logits = self.weights[label].log() - away.flatten(2).pow(2).sum(2) / (2 * variance)
        share = (logits - dimensions / 2 * variance.log()).softmax(1)
        shrink = (a[:, None] * self.variances / variance)[..., None, None, None]
        return (share[..., None, None, None] * (self.means + shrink * away)).sum(1)

    def forward(self, x: Tensor, t: Tensor, cond: Cond, control: tuple[Tensor, ...] = ()) -> Tensor:
        sigma = self.table.sigma(t)
        a, b = 1 - sigma, sigma
        if self.kind != "flow":
            a = (1 + sigma**2).rsqrt()
            b = sigma * a
        x0 = self.x0(x, a, b, cond.tokens[:, 0, 0].long())
        a, b = a.reshape(-1, 1, 1, 1), b.reshape(-1, 1, 1, 1)
        if self.kind == "flow":
            return (x - x0) / b
        eps = (x - a * x0) / b
        return eps if self.kind == "eps" else a * eps - b * x0

    def denoiser(self) -> Denoiser:
        """This network as samplers use it."""
        return Denoiser(self, self.kind, self.table)


def label(value: int) -> Cond:
    """The conditioning that names a label."""
    return Cond(torch.full((1, 1, 1), value))


def to_vp(x: Tensor, sigma: float) -> Tensor:
    """x = x0 + sigma n in the variance-preserving scale, where the original code and diffusers keep it."""
    return x / math.sqrt(1 + sigma**2)
