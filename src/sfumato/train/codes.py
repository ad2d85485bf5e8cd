"""Pictures as short codes, which a model with a scene prior remembers: what they are, and how exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfumato.files import atomic_write
from sfumato.nets.packed import LARGEST, packed, unpacked

REACH = 3.0  # standard deviations that the largest of four bits stands for


@dataclass(frozen=True, eq=False)
class Codes:
    """Pictures as coefficients: `codes` (N, K) of every picture of the set, on a `basis` (C h w, K) around a `mean` (C
    h w); and what they leave out, as `details` (N, D) of whole numbers from -7 to 7 on a `detail_basis` (D, C h w / 2)
    of packed rows (see `nets.packed`) of the scales `detail_scale` (D,).

    The codes are rounded to the eight bits in which a memory keeps them. Both bases are principal components of the
    training pictures (Pearson 1901).
    """

    codes: Tensor
    basis: Tensor
    mean: Tensor
    details: Tensor
    detail_basis: Tensor
    detail_scale: Tensor

    @classmethod
    def of(cls, latents: Tensor, train: np.ndarray, count: int, detail: int = 0, codes: Tensor | None = None) -> Codes:
        """Returns `count` coefficients and `detail` details of latents (N, C, h, w), learnt from the pictures `train`
        alone. Of `codes` (N, K) that are given, the basis is the one that brings most of the pictures back."""
        x = latents.float().flatten(1)
        if codes is None:
            codes = _principal(x, train, count)
        codes = codes.to(torch.float8_e4m3fn).float()
        ones = torch.cat([codes, torch.ones(len(codes), 1)], 1)
        fitted = torch.linalg.lstsq(ones[train], x[train]).solution
        return cls(codes, fitted[:-1].T.contiguous(), fitted[-1], *_details(x - ones @ fitted, train, detail))


def _principal(x: Tensor, train: np.ndarray, count: int) -> Tensor:
    """Returns coefficients (N, K) of a standard deviation of 1 on average."""
    mean = x[train].mean(0)
    torch.manual_seed(0)
    _, _, basis = torch.pca_lowrank(x[train] - mean, min(count + 32, len(train)), center=False, niter=3)
    codes = (x - mean) @ basis[:, :count]
    return codes / codes[train].std(0).mean()


def _details(rest: Tensor, train: np.ndarray, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the details of what codes leave out of latents, `rest` (N, C h w), their basis and its scales."""
    learnt = rest[train]
    variances, directions = torch.linalg.eigh(learnt.T @ learnt / len(learnt))
    deviations = variances.flip(0)[:count].clamp(min=1e-12).sqrt()
    rows = directions.flip(1)[:, :count].T * deviations[:, None] * (REACH / LARGEST)
    scale = rows.square().mean(1).sqrt() * (REACH / LARGEST)
    basis = packed(rows / scale[:, None])
    rough = scale[:, None] * unpacked(basis)
    gram = rough @ rough.T
    near = gram + 1e-6 * gram.diagonal().mean() * torch.eye(count) if count else gram
    return unpacked(packed(torch.linalg.solve(near, rough @ rest.T).T)), basis, scale


def kept(path: Path, make: Callable[[], Codes]) -> Codes:
    """Returns what `make` makes, from the file that an earlier run kept it in, if there is one."""
    if not path.is_file():
        with atomic_write(path) as file:
            torch.save(vars(make()), file)
    return Codes(**torch.load(path, weights_only=True))
