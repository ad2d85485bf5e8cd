"""What a network's output F means: x0 = c_skip x + c_out F(c_in x, t) (Karras et al. 2022, table 1).

Sampling reads the equation from left to right, training solves it for F; both use this file, so they cannot disagree.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.diffusion.process import per_row
from sfumato.spec import Prediction

SIGMA_DATA = 0.5  # standard deviation of the data that edm networks are scaled for


def preconditioning(kind: Prediction, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(c_in, c_skip, c_out) for noise levels sigma (B,), each (B,) and of sigma's dtype."""
    one, zero = torch.ones_like(sigma), torch.zeros_like(sigma)
    if kind == "flow":
        return one, one, -sigma
    if kind == "edm":
        total = sigma**2 + SIGMA_DATA**2
        return total.rsqrt(), SIGMA_DATA**2 / total, sigma * SIGMA_DATA * total.rsqrt()
    c_in = (sigma**2 + 1).rsqrt()
    if kind == "eps":
        return c_in, one, -sigma
    if kind == "v":
        return c_in, c_in**2, -sigma * c_in
    return c_in, zero, one


def target(kind: Prediction, x0: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """What F must be for x (B, ...) at sigma (B,) to yield x0: the noise, v = alpha n - sigma x0, n - x0 ..."""
    _, c_skip, c_out = preconditioning(kind, sigma)
    return (x0 - per_row(c_skip, x) * x) / per_row(c_out, x)


def from_output(kind: Prediction, output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """The estimate of x0 that an output F stands for."""
    _, c_skip, c_out = preconditioning(kind, sigma)
    return per_row(c_skip, x) * x + per_row(c_out, x) * output
