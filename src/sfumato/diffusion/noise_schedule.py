"""Noise levels that a network was trained on, and its times. Float64 on the CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.spec import NoiseSchedule, Prediction

# Stands for the infinite noise level of a last training step without any signal; float32 latents still scale by it.
SIGMA_PURE_NOISE = 1e5


def betas(noise: NoiseSchedule) -> Tensor:
    """Noise added per training step (T,) (Ho et al. 2020, section 4; the scaled kind is linear in sqrt(beta)).

    Of "cosine" the share of the picture's variance that is left falls as the square of a cosine (Nichol & Dhariwal
    2021, equation 17).
    """
    if noise.kind == "cosine":
        times = torch.linspace(0, 1, noise.steps + 1, dtype=torch.float64)
        left = torch.cos((times + 0.008) / 1.008 * torch.pi / 2) ** 2
        return (1 - left[1:] / left[:-1]).clamp(max=0.999)
    if noise.kind == "scaled_linear":
        return torch.linspace(noise.start**0.5, noise.end**0.5, noise.steps, dtype=torch.float64) ** 2
    return torch.linspace(noise.start, noise.end, noise.steps, dtype=torch.float64)


def alphas_cumprod(noise: NoiseSchedule) -> Tensor:
    """abar_t, the share of the picture's variance that is left after every training step (T,), falling."""
    abar = torch.cumprod(1 - betas(noise), 0)
    if noise.zero_terminal_snr:
        # Lin et al. 2023, algorithm 1: shift and scale sqrt(abar) so that nothing is left at the end.
        root = abar.sqrt()
        root = (root - root[-1]) * root[0] / (root[0] - root[-1])
        abar = (root**2).clamp(min=1 / (1 + SIGMA_PURE_NOISE**2))
    return abar


def training_sigmas(noise: NoiseSchedule) -> Tensor:
    """sigma_t = sqrt((1 - abar_t) / abar_t) for every training step (T,), rising.

    Of "karras" (sigma_min^(1/7) ... sigma_max^(1/7))^7, evenly spaced (Karras et al. 2022, equation 5).
    """
    if noise.kind == "karras":
        return torch.linspace(noise.start ** (1 / 7), noise.end ** (1 / 7), noise.steps, dtype=torch.float64) ** 7
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

    def network_time(self, sigma: Tensor) -> Tensor:
        """Returns the times that the network is given for noise levels sigma."""
        return self.time(sigma)

    def nearest_time(self, sigma: Tensor) -> Tensor:
        """Whole times of noise levels, the nearest by log sigma: for networks that were only ever told those."""
        return (sigma.to(torch.float64).log()[:, None] - self.sigmas.log()).abs().argmin(1)


@dataclass(frozen=True, eq=False)
class ContinuousTable(NoiseTable):
    """Noise levels of a network that knows all between two ends and is given ln(sigma) / 4 (Karras et al. 2022)."""

    def network_time(self, sigma: Tensor) -> Tensor:
        """Returns the times that the network is given for noise levels sigma: c_noise of table 1."""
        return sigma.to(torch.float64).log() / 4


@dataclass(frozen=True)
class FlowTable:
    """Noise levels of a rectified flow, shifted towards noise (Esser et al. 2024, equation 23).

    The network is given 1000 sigma. `sigma` shifts the times it is given and `time` does not shift back: a list of
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
        """The times of noise levels sigma, not shifted back."""
        return sigma.to(torch.float64) * self.steps

    def network_time(self, sigma: Tensor) -> Tensor:
        """Returns the times that the network is given for noise levels sigma."""
        return self.time(sigma)

    @property
    def ends(self) -> tuple[float, float]:
        """The times between which a list of levels runs, the noisiest first."""
        return self.steps, 1 if self.once else self.sigma_min * self.steps


Table = NoiseTable | FlowTable
TABLE_1X = NoiseTable(training_sigmas(NoiseSchedule()))  # of 1.x, 2.x and XL
FEW, MANY = 256, 4096  # patches of a picture, between which the logarithm of its shift grows with their number


def table_of(prediction: Prediction, noise: NoiseSchedule, patches: int = MANY) -> Table:
    """The noise levels that a network knows; those of some flows depend on how many patches it sees of a picture."""
    if prediction != "flow":
        kind = ContinuousTable if noise.kind == "karras" else NoiseTable
        return kind(training_sigmas(noise))
    if noise.log_shift is None:
        return FlowTable(noise.shift, noise.steps)
    low, high = noise.log_shift
    return FlowTable(math.exp(low + (high - low) * (patches - FEW) / (MANY - FEW)), noise.steps, once=True)
