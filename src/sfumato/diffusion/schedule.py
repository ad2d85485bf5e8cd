"""Noise levels: the table a network was trained on, and the lists that samplers walk down. Float64 on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.errors import SfumatoError
from sfumato.spec import Schedule


def betas(noise: Schedule) -> Tensor:
    """Noise added per training step (T,) (Ho et al. 2020, section 4; the scaled kind is linear in sqrt(beta))."""
    if noise.kind == "scaled_linear":
        return torch.linspace(noise.start**0.5, noise.end**0.5, noise.steps, dtype=torch.float64) ** 2
    return torch.linspace(noise.start, noise.end, noise.steps, dtype=torch.float64)


def training_sigmas(noise: Schedule) -> Tensor:
    """sigma_t = sqrt((1 - abar_t) / abar_t) for every training step (T,), rising."""
    abar = torch.cumprod(1 - betas(noise), 0)
    return ((1 - abar) / abar).sqrt()


@dataclass(frozen=True, eq=False)
class NoiseTable:
    """The noise levels (T,) of a network's training steps, and the map between the two.

    Between steps log sigma is interpolated linearly, as k-diffusion does.
    """

    sigmas: Tensor

    @property
    def sigma_min(self) -> float:
        return self.sigmas[0].item()

    @property
    def sigma_max(self) -> float:
        return self.sigmas[-1].item()

    def sigma(self, t: Tensor) -> Tensor:
        """Noise levels at times t, whole or fractional, in 0 .. T-1."""
        logs, t = self.sigmas.log(), t.to(torch.float64)
        low = t.floor().long().clamp(0, len(logs) - 1)
        high = (low + 1).clamp(max=len(logs) - 1)
        return torch.lerp(logs[low], logs[high], t - low).exp()

    def time(self, sigma: Tensor) -> Tensor:
        """Fractional times of noise levels; beyond the table's ends the nearest end."""
        logs, log = self.sigmas.log(), sigma.to(torch.float64).log()
        low = (torch.searchsorted(logs, log, right=True) - 1).clamp(0, len(logs) - 2)
        fraction = (log - logs[low]) / (logs[low + 1] - logs[low])
        return low + fraction.clamp(0, 1)


def _ending_in_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def discrete(table: NoiseTable, n: int) -> Tensor:
    """Evenly spaced times from the last training step to the first, rounded to float32 as k-diffusion has them."""
    return _ending_in_zero(table.sigma(torch.linspace(len(table.sigmas) - 1, 0, n)))


def sgm_uniform(table: NoiseTable, n: int) -> Tensor:
    """Evenly spaced whole times that stop one step short of the first (Stability-AI generative-models)."""
    t = torch.linspace(len(table.sigmas) - 1, 0, n + 1, dtype=torch.float64)[:-1]
    return _ending_in_zero(table.sigma(t.floor()))


def ddim_uniform(table: NoiseTable, n: int) -> Tensor:
    """The original DDIM list: times 1, 1+c, 1+2c ... with c = T // n; it ends at the first training step, not at 0."""
    total = len(table.sigmas)
    t = torch.arange(0, total, max(total // n, 1)).flip(0) + 1
    return torch.cat([table.sigma(t.clamp(max=total - 1)), table.sigmas[:1]])


def karras(table: NoiseTable, n: int, rho: float = 7.0) -> Tensor:
    """Evenly spaced in sigma^(1/rho) (Karras et al. 2022, equation 5)."""
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    high, low = table.sigma_max ** (1 / rho), table.sigma_min ** (1 / rho)
    return _ending_in_zero((high + ramp * (low - high)) ** rho)


def exponential(table: NoiseTable, n: int) -> Tensor:
    """Evenly spaced in log sigma."""
    logs = torch.linspace(math.log(table.sigma_max), math.log(table.sigma_min), n, dtype=torch.float64)
    return _ending_in_zero(logs.exp())


SCHEDULES: dict[str, Callable[[NoiseTable, int], Tensor]] = {
    "discrete": discrete,
    "karras": karras,
    "exponential": exponential,
    "sgm_uniform": sgm_uniform,
    "ddim_uniform": ddim_uniform,
}


def sigma_list(name: str, table: NoiseTable, steps: int) -> Tensor:
    """The falling noise levels (steps + 1,) of a named schedule. Raises SfumatoError for a name or count unknown to it."""
    if name not in SCHEDULES:
        raise SfumatoError(f"unknown schedule '{name}'; choose one of {', '.join(SCHEDULES)}")
    if not 1 <= steps <= len(table.sigmas):
        raise SfumatoError(f"steps is {steps}; choose 1 to {len(table.sigmas)}")
    return SCHEDULES[name](table, steps)
