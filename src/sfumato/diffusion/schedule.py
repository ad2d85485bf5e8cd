"""Noise levels: the table a network was trained on, and the lists that samplers walk down. Float64 on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.diffusion.names import find
from sfumato.errors import SfumatoError
from sfumato.spec import Prediction, Schedule

# Stands for the infinite noise level of a last training step without any signal; float32 latents still scale by it.
SIGMA_PURE_NOISE = 1e5


def betas(noise: Schedule) -> Tensor:
    """Noise added per training step (T,) (Ho et al. 2020, section 4; the scaled kind is linear in sqrt(beta))."""
    if noise.kind == "scaled_linear":
        return torch.linspace(noise.start**0.5, noise.end**0.5, noise.steps, dtype=torch.float64) ** 2
    return torch.linspace(noise.start, noise.end, noise.steps, dtype=torch.float64)


def alphas_cumprod(noise: Schedule) -> Tensor:
    """abar_t, the share of the picture's variance that is left after every training step (T,), falling."""
    abar = torch.cumprod(1 - betas(noise), 0)
    if noise.zero_terminal_snr:
        # Lin et al. 2023, algorithm 1: shift and scale sqrt(abar) so that nothing is left at the end.
        root = abar.sqrt()
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        abar = (root**2).clamp(min=1 / (1 + SIGMA_PURE_NOISE**2))
    return abar


def training_sigmas(noise: Schedule) -> Tensor:
    """sigma_t = sqrt((1 - abar_t) / abar_t) for every training step (T,), rising."""
    abar = alphas_cumprod(noise)
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

    @property
    def ends(self) -> tuple[float, float]:
        """The times between which a list of levels runs, the noisiest first."""
        return len(self.sigmas) - 1, 0

    def nearest_time(self, sigma: Tensor) -> Tensor:
        """Whole times of noise levels, the nearest by log sigma: for networks that were only ever told those."""
        return (sigma.to(torch.float64).log()[:, None] - self.sigmas.log()).abs().argmin(1)


@dataclass(frozen=True)
class FlowTable:
    """Noise levels of a rectified flow, shifted towards noise (Esser et al. 2024, equation 23).

    The network is told 1000 sigma. `sigma` shifts the times it is given and `time` does not shift back: a list of
    evenly spaced times is shifted once more at its lower end, as in SD3's own code, or with `once` it is not, as where
    the shift depends on the picture.
    """

    shift: float = 1.0
    steps: int = 1000
    once: bool = False

    @property
    def sigmas(self) -> Tensor:
        """The noise levels (T,) of times 1 .. T, rising to 1."""
        return self.sigma(torch.arange(1, self.steps + 1))

    @property
    def sigma_min(self) -> float:
        return self.sigmas[0].item()

    @property
    def sigma_max(self) -> float:
        return 1.0

    def sigma(self, t: Tensor) -> Tensor:
        """Noise levels at times t, whole or fractional, in 0 .. T."""
        u = t.to(torch.float64) / self.steps
        return self.shift * u / (1 + (self.shift - 1) * u)

    def time(self, sigma: Tensor) -> Tensor:
        """What the network is told at noise levels sigma."""
        return sigma.to(torch.float64) * self.steps

    @property
    def ends(self) -> tuple[float, float]:
        """The times between which a list of levels runs, the noisiest first."""
        return self.steps, 1 if self.once else self.sigma_min * self.steps


Table = NoiseTable | FlowTable
TABLE_1X = NoiseTable(training_sigmas(Schedule()))  # of 1.x, 2.x and XL
FEW, MANY = 256, 4096  # patches of a picture, between which the logarithm of its shift grows with their number


def table_of(prediction: Prediction, noise: Schedule, patches: int = MANY) -> Table:
    """The noise levels that a network knows; those of some flows depend on how many patches it sees of a picture."""
    if prediction != "flow":
        return NoiseTable(training_sigmas(noise))
    if noise.log_shift is None:
        return FlowTable(noise.shift, noise.steps)
    low, high = noise.log_shift
    return FlowTable(math.exp(low + (high - low) * (patches - FEW) / (MANY - FEW)), noise.steps, once=True)


def _ending_in_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def discrete(table: Table, n: int) -> Tensor:
    """Evenly spaced times from the last training step to the first, rounded to float32 as k-diffusion has them."""
    return _ending_in_zero(table.sigma(torch.linspace(*table.ends, n, dtype=torch.float64).float()))


def sgm_uniform(table: Table, n: int) -> Tensor:
    """Evenly spaced whole times that stop one step short of the first (Stability-AI generative-models)."""
    t = torch.linspace(*table.ends, n + 1, dtype=torch.float64)[:-1]
    return _ending_in_zero(table.sigma(t.floor()))


def leading(table: Table, n: int) -> Tensor:
    """Times 1, 1+c, 1+2c ... with c = T // n (Lin et al. 2023, table 2, one step up as all releases have it)."""
    t = torch.arange(n, dtype=torch.float64).flip(0) * (len(table.sigmas) // n)
    return _ending_in_zero(table.sigma(t + 1 if t[0] + 1 < len(table.sigmas) else t))


def trailing(table: Table, n: int) -> Tensor:
    """Whole times down from the last training step, the only list that is sure to hold it (Lin et al. 2023, table 2).

    `sgm_uniform` is the same list but for rounding.
    """
    last, total = table.ends[0], len(table.sigmas)
    falling = (total - torch.arange(n, dtype=torch.float64) * (total / n)).round()
    return _ending_in_zero(table.sigma(falling - (total - last)))


def _ddim(table: Table, t: Tensor) -> Tensor:
    """The original's list for rising times t: it moves them up by one and ends at the first training step, not at 0."""
    t = (t.flip(0) + 1).clamp(max=table.ends[0])
    return torch.cat([table.sigma(t), table.sigmas[:1]])


def ddim_uniform(table: Table, n: int) -> Tensor:
    """The original DDIM list: times 1, 1+c, 1+2c ... with c = T // n, which can be more than n of them."""
    total = len(table.sigmas)
    return _ddim(table, torch.arange(0, total, max(total // n, 1)))


def ddim_quad(table: Table, n: int) -> Tensor:
    """The original's other list: times evenly spaced in their square root, over the first 80% of the steps."""
    t = torch.linspace(0, math.sqrt(0.8 * len(table.sigmas)), n, dtype=torch.float64) ** 2
    return _ddim(table, t.long())


def karras_between(sigma_min: float, sigma_max: float, n: int, rho: float = 7.0) -> Tensor:
    """Evenly spaced in sigma^(1/rho) (Karras et al. 2022, equation 5)."""
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return _ending_in_zero((high + ramp * (low - high)) ** rho)


def karras(table: Table, n: int) -> Tensor:
    """`karras_between` the ends of the table."""
    return karras_between(table.sigma_min, table.sigma_max, n)


def polyexponential(table: Table, n: int, rho: float = 1.0) -> Tensor:
    """Log sigma falls with the rho-th power of evenly spaced steps (k-diffusion); rho 1 is `exponential`."""
    ramp = torch.linspace(1, 0, n, dtype=torch.float64) ** rho
    low, high = math.log(table.sigma_min), math.log(table.sigma_max)
    return _ending_in_zero((low + ramp * (high - low)).exp())


def exponential(table: Table, n: int) -> Tensor:
    """Evenly spaced in log sigma."""
    return polyexponential(table, n)


def vp(n: int, beta_range: float = 19.9, beta_min: float = 0.1, end: float = 1e-3) -> Tensor:
    """Evenly spaced times of the continuous variance-preserving process (Song et al. 2021b, equation 32)."""
    t = torch.linspace(1, end, n, dtype=torch.float64)
    return _ending_in_zero((beta_range * t**2 / 2 + beta_min * t).expm1().sqrt())


SCHEDULES: dict[str, Callable[..., Tensor]] = {
    "discrete": discrete,
    "karras": karras,
    "exponential": exponential,
    "sgm_uniform": sgm_uniform,
    "leading": leading,
    "trailing": trailing,
    "ddim_uniform": ddim_uniform,
}

LABELS = {  # as the community's tools write them
    "discrete": "Uniform",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "leading": "Leading",
    "trailing": "Trailing",
    "ddim_uniform": "DDIM",
}


def find_schedule(name: str) -> str:
    """The name of a schedule, given by that or by its community label, spelled as `names.find` allows.

    Raises SfumatoError.
    """
    return find("schedule", name, {name: (label,) for name, label in LABELS.items()})


def sigma_list(name: str, table: Table, steps: int) -> Tensor:
    """The falling noise levels (steps + 1,) of a schedule. Raises SfumatoError for an unknown name or a bad count."""
    schedule = SCHEDULES[find_schedule(name)]
    if not 1 <= steps <= len(table.sigmas):
        raise SfumatoError(f"steps is {steps}; choose 1 to {len(table.sigmas)}")
    return schedule(table, steps)
