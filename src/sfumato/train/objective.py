"""The objective that all denoisers are trained by: targets, errors, weights and the distributions of times.

A network's output F stands for the picture x0 = c_skip x + c_out F(c_in x, t), see `diffusion.predict`. Training
regresses F to the output that stands for the true x0, (x0 - c_skip x) / c_out. That is each family's own target: the
noise (eps), alpha noise - sigma x0 (v), the picture (x0), noise - x0 (flow).

Letters: x0 (B, C, h, w) are clean latents, x the same at noise levels sigma (B,), which are float64 on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sfumato.diffusion import predict
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Denoiser
from sfumato.diffusion.process import per_row
from sfumato.errors import SfumatoError
from sfumato.seeding import stream
from sfumato.spec import NoiseSchedule, Prediction
from sfumato.train import loss_weights, training_noise

Times = Literal["uniform", "logit_normal", "mode", "cosmap", "cubic", "beta"]
Penalty = Literal["square", "absolute", "huber", "smooth_l1"]
MODE_SCALES = (-1.0, 2 / (math.pi - 2))  # what "mode" times allow (Esser et al. 2024, equation 20)
Noised = Mapping[str, Tensor]
"""Latents `x0` (B, C, h, w), their `noise` and levels `sigma` (B,), and what may be there: the `input_noise` that the
network sees instead, and a `mask` (B, 1, h, w) of where errors count."""


@dataclass(frozen=True)
class Objective:
    """What a denoiser is trained to do, beyond the target of its family.

    Levels: `times` with `shift` and `scale`, see `times`; `zero_terminal_snr` trains on a schedule whose last step is
    pure noise (Lin et al. 2023), for v only. Weights, at most one: `min_snr` is gamma of Min-SNR (usually 5), with
    `min_snr_shifted` in its other dialect; `p2` is gamma of P2 (usually 1); `debiased` (`train.loss_weights` has the
    formulas). Noise: `offset_noise` (0.05 to 0.1) and `pyramid_noise` (0.3 to 0.9, see `train.training_noise`);
    `input_perturbation` is the deviation of further noise that the network sees and its target leaves out (Ning et al.
    2023, usually 0.1). Errors: `penalty`, see `penalised`, with `width` where it goes over from square to linear.
    """

    times: Times = "uniform"
    shift: float = 0.0
    scale: float = 1.0
    zero_terminal_snr: bool = False
    min_snr: float = 0.0
    min_snr_shifted: bool = False
    p2: float = 0.0
    debiased: bool = False
    offset_noise: float = 0.0
    pyramid_noise: float = 0.0
    input_perturbation: float = 0.0
    penalty: Penalty = "square"
    width: float = 0.1

    def __post_init__(self) -> None:
        for name in ("min_snr", "p2", "offset_noise", "pyramid_noise", "input_perturbation"):
            if getattr(self, name) < 0:
                raise SfumatoError(f"{name} is {getattr(self, name)}; expected 0, which turns it off, or more")
        weights = [name for name in ("min_snr", "p2", "debiased") if getattr(self, name)]
        if len(weights) > 1:
            raise SfumatoError(f"{' and '.join(weights)} are both ways to weigh noise levels; choose one of them")
        if self.min_snr_shifted and not self.min_snr:
            raise SfumatoError("min_snr_shifted is a dialect of Min-SNR; give min_snr too, such as 5")
        if self.pyramid_noise >= 1:
            raise SfumatoError(f"pyramid_noise is {self.pyramid_noise}; expected less than 1, such as 0.8")
        if not self.width > 0:
            raise SfumatoError(f"width is {self.width}; expected a positive number")
        if self.times == "mode" and not MODE_SCALES[0] <= self.scale <= MODE_SCALES[1]:
            raise SfumatoError(f"scale is {self.scale}; times of the kind mode take -1 to {MODE_SCALES[1]:.2f}")
        if self.times == "beta" and self.scale * math.exp(-abs(self.shift)) < 0.5:
            raise SfumatoError(
                f"shift is {self.shift} and scale {self.scale}; times of the kind beta take scale exp(shift) and "
                "scale exp(-shift) from 0.5"
            )
        if self.times in ("uniform", "logit_normal") and not self.scale > 0:
            raise SfumatoError(f"scale is {self.scale}; expected a positive number")

    def check(self, prediction: Prediction) -> None:
        """Raises SfumatoError if a part of it has no meaning for a network of this prediction."""
        if prediction == "flow":
            reasons = {
                "zero_terminal_snr": "a flow ends in pure noise as it is",
                "offset_noise": "drawing starts from pure white noise, so a flow learns the mean of a picture as it is",
                "pyramid_noise": "drawing starts from pure white noise, so a flow learns coarse shapes as it is",
                "p2": "its weights are of the steps of a diffusion; for a flow choose other times, or min_snr",
                "debiased": "its weights are of the steps of a diffusion; for a flow choose other times, or min_snr",
            }
            for name, reason in reasons.items():
                if getattr(self, name):
                    raise SfumatoError(f"{name} has no meaning for a flow: {reason}; leave it out")
        if self.zero_terminal_snr and prediction != "v":
            raise SfumatoError(f"zero_terminal_snr needs a network that predicts v, this one predicts {prediction}")
        if self.min_snr_shifted and prediction not in ("eps", "v"):
            raise SfumatoError(f"min_snr_shifted is known for eps and v, this network predicts {prediction}")

    def schedule(self, noise: NoiseSchedule) -> NoiseSchedule:
        """Returns the noise schedule to train on."""
        return replace(noise, zero_terminal_snr=True) if self.zero_terminal_snr else noise

    def shares(self, rng: np.random.Generator, count: int) -> Tensor:
        """Returns times (count,) in (0, 1) of a batch, float64, spread over all of the distribution."""
        return times(self.times, stratified(rng, count), self.shift, self.scale)

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Returns the `noise` (B, C, h, w) of a batch, float32; where the network sees another, `input_noise` too."""
        noise = training_noise.white(rng, shape)
        if self.offset_noise:
            noise = training_noise.with_offset(noise, rng, self.offset_noise)
        if self.pyramid_noise:
            noise = training_noise.pyramid(noise, rng, self.pyramid_noise)
        if not self.input_perturbation:
            return {"noise": noise}
        return {"noise": noise, "input_noise": noise + self.input_perturbation * training_noise.white(rng, shape)}

    def errors(self, denoiser: Denoiser, batch: Noised, cond: Cond) -> Tensor:
        """Returns the mean penalty of the errors of the network's output in each row, (B,).

        Of a mask, errors count as much as its values, and their mean is over its sum.
        """
        x0, sigma = batch["x0"], batch["sigma"].cpu()
        x = denoiser.path.noised(x0, batch["noise"], sigma)
        seen = denoiser.path.noised(x0, batch["input_noise"], sigma) if "input_noise" in batch else x
        target = predict.target(denoiser.prediction, x0, x, denoiser.level(sigma))
        error = penalised(self.penalty, denoiser.output(seen, sigma, cond) - target, self.width)
        if "mask" not in batch:
            return error.flatten(1).mean(1)
        mask = batch["mask"].to(error).expand_as(error)
        return (error * mask).flatten(1).sum(1) / mask.flatten(1).sum(1).clamp(min=1e-6)

    def weights(self, prediction: Prediction, sigma: Tensor) -> Tensor:
        """Returns how much rows of noise levels sigma (B,) count, (B,), float64 on the CPU."""
        sigma = sigma.cpu()
        if self.min_snr_shifted:
            return loss_weights.min_snr_shifted(prediction, sigma, self.min_snr)
        if self.p2:
            return loss_weights.p2(prediction, sigma, self.p2)
        if self.debiased:
            return loss_weights.debiased(prediction, sigma)
        return loss_weights.min_snr(prediction, sigma, self.min_snr)

    def losses(self, denoiser: Denoiser, batch: Noised, cond: Cond) -> Tensor:
        """Returns `errors` times `weights`, (B,)."""
        errors = self.errors(denoiser, batch, cond)
        return errors * self.weights(denoiser.prediction, batch["sigma"]).to(errors)


def penalised(kind: Penalty, error: Tensor, width: float) -> Tensor:
    """Returns what errors e cost, of their shape, with d = `width`.

    - "square": e^2;
    - "absolute": |e|;
    - "huber": e^2 up to |e| = d and 2 d |e| - d^2 beyond, so that a few large errors count less (twice the function of
      Huber 1964, so that small errors cost what they cost as squares);
    - "smooth_l1": huber / (2 d), that is |e| - d / 2 for large errors (Girshick 2015, equation 3, there with d = 1).
    """
    if kind == "square":
        return error.square()
    if kind == "absolute":
        return error.abs()
    size = error.abs()
    huber = torch.where(size <= width, size.square(), 2 * width * size - width**2)
    return huber if kind == "huber" else huber / (2 * width)


def residual(denoiser: Denoiser, x: Tensor, sigma: Tensor, cond: Cond, x0: Tensor) -> Tensor:
    """Returns F - (x0 - c_skip x) / c_out, of x's shape: the error of the network's output."""
    sigma = denoiser.level(sigma)
    return denoiser.output(x, sigma, cond) - predict.target(denoiser.prediction, x0, x, sigma)


def x0_error(denoiser: Denoiser, x: Tensor, sigma: Tensor, cond: Cond, x0: Tensor) -> Tensor:
    """Returns the estimate of x0 minus x0, of x's shape: `residual` times c_out."""
    _, _, c_out = predict.preconditioning(denoiser.prediction, denoiser.level(sigma))
    return per_row(c_out, x) * residual(denoiser, x, sigma, cond, x0)


def denoising_losses(denoiser: Denoiser, x0: Tensor, noise: Tensor, sigma: Tensor, cond: Cond) -> Tensor:
    """Returns the mean square of `residual` of each row, (B,), with x0 noised to sigma.

    For eps it is equation 14 of Ho et al. 2020.
    """
    x = denoiser.path.noised(x0, noise, sigma)
    return residual(denoiser, x, sigma, cond, x0).square().flatten(1).mean(1)


def validation_errors(denoiser: Denoiser, x0: Tensor, cond: Cond, ratio: float) -> Tensor:
    """Returns squared errors of the estimate of x0, of x0's shape, at the level where noise is `ratio` times the
    signal.

    The noise depends on the ratio and on x0's shape alone, so figures can be compared between steps, networks and
    predictions.
    """
    noise = torch.from_numpy(stream(0, f"grid {ratio}", 0).standard_normal(tuple(x0.shape), np.float32)).to(x0)
    sigma = torch.full((len(x0),), denoiser.path.sigma_at(ratio), dtype=torch.float64)
    x = denoiser.path.noised(x0, noise, sigma)
    return (denoiser(x, sigma, cond).float() - x0).square()


def pseudo_huber(error: Tensor, width: float = 0.00054) -> Tensor:
    """Returns sqrt(|e|^2 + c^2) - c of each row, (B,), for errors (B, ...) with d values in a row and c = `width`
    sqrt(d).

    It is Song & Dhariwal 2024, section 3.3, divided by sqrt(d). That is about the root mean square, so rows that cannot
    be estimated well do not outweigh the others.
    """
    mean = error.flatten(1).square().mean(1)
    return (mean + width**2).sqrt() - width


def stratified(rng: np.random.Generator, count: int) -> Tensor:
    """Returns numbers (count,) in [0, 1), float64: one from every interval of length 1/count, in random order.

    So every batch sees all noise levels (Kingma et al. 2021, appendix I.1).
    """
    return torch.from_numpy((rng.permutation(count) + rng.random(count)) / count)


def times(kind: Times, u: Tensor, shift: float = 0.0, scale: float = 1.0) -> Tensor:
    """Returns times (B,) in (0, 1), 1 being pure noise, from uniform numbers u (B,), float64.

    - "logit_normal": sigmoid(shift + scale z), z of the normal distribution (Esser et al. 2024, equation 19: m and s);
    - "uniform": the same with z of the logistic distribution, so that times are uniform for shift 0 and scale 1;
    - "mode": 1 - u - scale (cos^2(pi u / 2) - 1 + u) (equation 20; `scale` from -1 to 1.75 is its s);
    - "cosmap": 1 - 1 / (tan(pi u / 2) + 1) (equation 21), the distribution of the cosine schedule;
    - "cubic": 1 - u^3, mostly noisy ones (Mou et al. 2023);
    - "beta": quantiles of the beta distribution, whose a is scale exp(shift) and b is scale exp(-shift).
    """
    u = u.clamp(1e-6, 1 - 1e-6)
    if kind == "mode":
        return (1 - u - scale * (torch.cos(math.pi / 2 * u) ** 2 - 1 + u)).clamp(0, 1)
    if kind == "cosmap":
        return 1 - 1 / (torch.tan(math.pi / 2 * u) + 1)
    if kind == "cubic":
        return 1 - u**3
    if kind == "beta":
        return beta_quantiles(u, scale * math.exp(shift), scale * math.exp(-shift))
    z = torch.special.ndtri(u) if kind == "logit_normal" else torch.logit(u)
    return torch.sigmoid(shift + scale * z)


def beta_quantiles(u: Tensor, a: float, b: float) -> Tensor:
    """Returns where the distribution function of Beta(a, b) is u (B,), to about five digits, for a and b from 0.5.

    The density is integrated over the angle w of x = sin^2 w, in which it is 2 sin^(2a - 1) w cos^(2b - 1) w.
    """
    edges = np.linspace(0, math.pi / 2, 4097)
    middle = (edges[1:] + edges[:-1]) / 2
    heights = np.sin(middle) ** (2 * a - 1) * np.cos(middle) ** (2 * b - 1)
    shares = np.concatenate([[0.0], heights.cumsum() / heights.sum()])
    return torch.from_numpy(np.sin(np.interp(u.numpy(), shares, edges)) ** 2)


def whole_steps(time: Tensor, steps: int) -> Tensor:
    """Returns the training steps, 0 .. steps - 1 (B,), int64, that times (B,) in [0, 1] fall into."""
    return (time * steps).long().clamp(max=steps - 1)


def geometric_mean(values: list[float]) -> float:
    """Returns the geometric mean, in which errors of very different sizes count the same."""
    return math.exp(sum(map(math.log, values)) / len(values))
