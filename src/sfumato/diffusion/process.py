"""The road from data to noise: x = alpha(sigma) x0 + sigma n, with alpha = 1 - c sigma."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from sfumato.diffusion.noise_schedule import alphas_cumprod
from sfumato.spec import NoiseSchedule

Level = TypeVar("Level", float, Tensor)


def per_row(value: Tensor, like: Tensor) -> Tensor:
    """A coefficient per row (B,) shaped to multiply `like` (B, ...), in its dtype and on its device."""
    return value.to(like.device, like.dtype).reshape(-1, *[1] * (like.dim() - 1))


@dataclass(frozen=True)
class ForwardProcess:
    """c = 0: variance exploding coordinates of every eps, v, x0 and edm model. c = 1: rectified flow."""

    c: float = 0.0

    def alpha(self, sigma: Level) -> Level:
        """Returns alpha, the share of the picture at noise level sigma."""
        return 1 - self.c * sigma

    def sigma_at(self, ratio: float) -> float:
        """The noise level at which sigma / alpha is `ratio`."""
        return ratio / (1 + self.c * ratio)

    def noised(self, x0: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """Data x0 (B, ...) at noise levels sigma (B,)."""
        return per_row(self.alpha(sigma), x0) * x0 + per_row(sigma, x0) * noise


def diffused(x0: Tensor, noise: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """x0 (B, ...) after t (B,) steps of a schedule: sqrt(abar) x0 + sqrt(1 - abar) n (Ho et al. 2020, equation 4)."""
    abar = alphas_cumprod(schedule)[t]
    return per_row(abar.sqrt(), x0) * x0 + per_row((1 - abar).sqrt(), x0) * noise


EXPLODING = ForwardProcess(0.0)
FLOW = ForwardProcess(1.0)


def process_for(prediction: str) -> ForwardProcess:
    """The path that belongs to a kind of prediction."""
    return FLOW if prediction == "flow" else EXPLODING
