"""How much the noise levels count in a loss.

All weights are of the squared error of the network's output F, one a row (B,). Papers state them for one prediction;
they are carried over to the others by the error of the estimate of x0, which is c_out times that of F
(`diffusion.predict`): a weight w of the error of x0 is w c_out^2 here. S is (alpha / sigma)^2, signal to noise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.diffusion import predict
from sfumato.diffusion.process import process_for
from sfumato.spec import Prediction


def snr(kind: Prediction, sigma: Tensor) -> Tensor:
    """Returns S = (alpha / sigma)^2 of noise levels sigma (B,)."""
    return (process_for(kind).alpha(sigma) / sigma) ** 2


def min_snr(kind: Prediction, sigma: Tensor, gamma: float) -> Tensor:
    """Returns min(S, gamma) c_out^2, or ones for gamma 0 (Hang et al. 2023, section 3.4).

    That is min(S, gamma) / S for eps, min(S, gamma) / (S + 1) for v, and the same idea for a flow.
    """
    return _of_x0(kind, sigma, snr(kind, sigma).clamp(max=gamma)) if gamma else torch.ones_like(sigma)


def min_snr_shifted(kind: Prediction, sigma: Tensor, gamma: float) -> Tensor:
    """Returns min(S, gamma) / S for eps, and for v min(S + 1, gamma) / (S + 1): the other dialect of Min-SNR.

    The paper clips S and divides by S + 1. Many training scripts of 2023 and later add 1 first, clip the sum and divide
    by it. Where S is small (much noise) the paper's weight falls to 0, this one stays at 1.
    """
    ratio = snr(kind, sigma) + (1 if kind == "v" else 0)
    return ratio.clamp(max=gamma) / ratio


def p2(kind: Prediction, sigma: Tensor, gamma: float) -> Tensor:
    """Returns S / (1 + S)^gamma c_out^2, which is 1 / (1 + S)^gamma for eps (Choi et al. 2022, equation 8, k = 1)."""
    ratio = snr(kind, sigma)
    return _of_x0(kind, sigma, ratio / (1 + ratio) ** gamma)


def debiased(kind: Prediction, sigma: Tensor) -> Tensor:
    """Returns sqrt(S) c_out^2, which is 1 / sqrt(S) for eps (Yu et al. 2024, "Debias the training of diffusion
    models").

    For v it is sqrt(S) / (S + 1); some trainers take 1 / (S + 1) there, the weight of the plain error of x0.
    """
    return _of_x0(kind, sigma, snr(kind, sigma).sqrt())


def _of_x0(kind: Prediction, sigma: Tensor, weights: Tensor) -> Tensor:
    """Weights of the squared error of x0 as weights of that of F."""
    _, _, c_out = predict.preconditioning(kind, sigma)
    return weights * c_out**2
