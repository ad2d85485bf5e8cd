"""One noise stream per picture, so that a picture never depends on what else is drawn beside it.

Noise is made on the CPU in float32 and moved, so every device starts from the same numbers.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from sfumato.diffusion import philox

Source = Literal["cpu", "nv"]


class NoiseStream:
    """Unit-variance noise of one picture. Two streams of one seed give the same tensors in the same order.

    The `source` is torch's generator on the CPU, or "nv", what torch draws on CUDA.
    """

    def __init__(self, seed: int, shape: tuple[int, ...], device: torch.device | str = "cpu", source: Source = "cpu"):
        self.generator = torch.Generator("cpu").manual_seed(seed)
        self.shape = shape
        self.device = device
        self.seed, self.source, self.draws = seed, source, 0

    def normal(self, shape: tuple[int, ...] | None = None) -> Tensor:
        """The next tensor of the stream, in its own shape or another."""
        shape = self.shape if shape is None else shape
        if self.source == "nv":
            numbers = philox.normal(self.seed, self.draws, math.prod(shape))
            self.draws += 1
            return torch.from_numpy(numbers).reshape(shape).to(self.device)
        return torch.randn(shape, generator=self.generator, dtype=torch.float32, device="cpu").to(self.device)

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        """Independent noise for a step; the noise levels do not matter."""
        return self.normal()


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """The tensor that lies at `share` of the arc from a to b (Shoemake 1985), each taken as one vector.

    Unlike the straight line it keeps the length, and with it the variance of noise.
    """
    cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), 0).clamp(-1, 1)
    angle = cosine.acos()
    if angle.sin() < 1e-4:  # the same direction, or the opposite, to which no arc is the shortest
        return torch.lerp(a, b, share)
    return ((1 - share) * angle).sin() / angle.sin() * a + (share * angle).sin() / angle.sin() * b


class BrownianPath:
    """Noise for steps of a stochastic differential equation, read from one Brownian motion over sigma.

    Overlapping steps get correlated noise, as solvers of second order need. Points that were asked for are kept, and
    new ones between them are drawn from the Brownian bridge.
    """

    def __init__(self, stream: NoiseStream):
        self.stream = stream
        self.times: list[float] = []
        self.values: dict[float, Tensor] = {}

    def _add(self, time: float, value: Tensor) -> Tensor:
        insort(self.times, time)
        self.values[time] = value
        return value

    def at(self, time: float) -> Tensor:
        """The value of the motion at a time, up to a constant."""
        if time in self.values:
            return self.values[time]
        if not self.times:
            return self._add(time, torch.zeros(self.stream.shape, dtype=torch.float32, device=self.stream.device))
        noise, i = self.stream.normal(), bisect_left(self.times, time)
        if i in (0, len(self.times)):
            nearest = self.times[0 if i == 0 else -1]
            return self._add(time, self.values[nearest] + abs(time - nearest) ** 0.5 * noise)
        low, high = self.times[i - 1], self.times[i]
        share = (time - low) / (high - low)
        mean = torch.lerp(self.values[low], self.values[high], share)
        return self._add(time, mean + (share * (high - time)) ** 0.5 * noise)

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        """Unit-variance noise of the step from sigma to sigma_next."""
        start = self.at(sigma)
        return (self.at(sigma_next) - start) / abs(sigma_next - sigma) ** 0.5


def scaled(noise: Callable[[float, float], Tensor], factor: float) -> Callable[[float, float], Tensor]:
    """The same noise, larger or smaller: k-diffusion's s_noise, for every sampler that adds noise."""
    return lambda sigma, sigma_next: factor * noise(sigma, sigma_next)
