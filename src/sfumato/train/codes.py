"""Pictures as short codes, which a model with a scene prior remembers: what they are, and how exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sfumato.nets.composer import BASIS_LEVELS, DETAIL_LEVELS, Composer
from sfumato.nets.packed import packed, unpacked

REACH = 3.0  # standard deviations that the largest number in a row of the basis stands for
STEPS = torch.linspace(0.3, 2.2, 39)  # of a detail's levels, in standard deviations, among which the best is chosen


@dataclass(frozen=True, eq=False)
class Codes:
    """Pictures as coefficients: `codes` (N, K) of every picture of the set, on a `basis` (C h w, K) around a `mean` (C
    h w); and what they leave out, as `details` (N, D) of whole numbers on a `detail_basis` (D, C h w / 2) of packed
    rows (see `nets.packed`) of the scales `detail_scale` (D,).

    Codes and their basis are rounded to the eight bits in which a model keeps them. Both bases are principal components
    of the training pictures (Pearson 1901). Details have the fewer levels the less they vary.
    """

    codes: Tensor
    basis: Tensor
    mean: Tensor
    details: Tensor
    detail_basis: Tensor
    detail_scale: Tensor

    @classmethod
    def of(
        cls, latents: Tensor, train: np.ndarray, count: int, detail: tuple[int, ...] = (), codes: Tensor | None = None
    ) -> Codes:
        """Returns `count` coefficients of latents (N, C, h, w), and so many details of each of `DETAIL_LEVELS`, learnt
        from the pictures `train` alone. Of `codes` (N, K) that are given, the basis is the one that brings most of the
        pictures back."""
        x = latents.float().flatten(1)
        if codes is None:
            codes = _principal(x, train, count)
        codes = codes.to(torch.float8_e4m3fn).float()
        ones = torch.cat([codes, torch.ones(len(codes), 1)], 1)
        fitted = torch.linalg.lstsq(ones[train], x[train]).solution
        fitted[:-1] = fitted[:-1].to(torch.float8_e4m3fn).float()
        rest = x - ones @ fitted
        return cls(codes, fitted[:-1].T.contiguous(), fitted[-1], *_details(rest, train, levels_of(detail)))

    def fill(self, composer: Composer) -> None:
        """Gives a composer the bases."""
        with torch.no_grad():
            composer.basis.weight.copy_(self.basis)
            composer.basis.bias.copy_(self.mean)
            if len(self.detail_scale):
                composer.get_buffer("detail_basis").copy_(self.detail_basis)
                composer.get_buffer("detail_scale").copy_(self.detail_scale)

    @property
    def whole(self) -> Tensor:
        """The codes with their details, (N, K + D)."""
        return torch.cat([self.codes, self.details], 1)


def _principal(x: Tensor, train: np.ndarray, count: int) -> Tensor:
    """Returns coefficients (N, K) of a standard deviation of 1 on average."""
    mean = x[train].mean(0)
    torch.manual_seed(0)
    _, _, basis = torch.pca_lowrank(x[train] - mean, min(count + 32, len(train)), center=False, niter=3)
    codes = (x - mean) @ basis[:, :count]
    return codes / codes[train].std(0).mean()


def _details(rest: Tensor, train: np.ndarray, levels: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the details of what codes leave out of latents, `rest` (N, C h w), their basis and its scales."""
    learnt = rest[train]
    directions = torch.linalg.eigh(learnt.T @ learnt / len(learnt))[1].flip(1)[:, : len(levels)].T
    size = directions.square().mean(1, keepdim=True).sqrt() * (REACH / (BASIS_LEVELS // 2))
    basis = packed(directions / size, BASIS_LEVELS)
    rough = unpacked(basis, BASIS_LEVELS)
    amounts = coefficients(rough, rest)
    steps = _best_steps(amounts[train], torch.tensor(levels, dtype=torch.float32))
    return rounded(amounts / steps, levels), basis, steps


def levels_of(detail: Sequence[int]) -> list[int]:
    """Returns the number of levels of each detail."""
    return [level for level, number in zip(DETAIL_LEVELS, detail, strict=False) for _ in range(number)]


def coefficients(rows: Tensor, rest: Tensor) -> Tensor:
    """Returns the amounts (N, D) of the rows (D, L) whose sum is nearest to `rest` (N, L)."""
    gram = (rows @ rows.T).double()
    near = gram + 1e-6 * gram.diagonal().mean() * torch.eye(len(gram)) if len(gram) else gram
    return torch.linalg.solve(near, (rows @ rest.T).double()).T.float()


def rounded(amounts: Tensor, levels: list[int]) -> Tensor:
    """Returns amounts (N, D) as whole numbers of so many levels each."""
    largest = torch.tensor([level // 2 for level in levels], dtype=torch.float32)
    return amounts.round().clamp(-largest, largest)


def _best_steps(amounts: Tensor, levels: Tensor) -> Tensor:
    """Returns the steps (D,) by which amounts (N, D) are rounded to the least squared error."""
    deviation, largest = amounts.square().mean(0).sqrt().clamp(min=1e-8), (levels - 1) / 2
    errors = []
    for step in STEPS:
        whole = (amounts / (step * deviation)).round().clamp(-largest, largest)
        errors.append((whole * step * deviation - amounts).square().mean(0))
    return STEPS[torch.stack(errors).argmin(0)] * deviation
