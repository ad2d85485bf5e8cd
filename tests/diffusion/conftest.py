"""Data whose every posterior is known: a Gaussian of many dimensions, and a mixture of two under two labels."""

from collections.abc import Callable

import pytest
import torch

from sfumato.diffusion.driver import Denoiser, Failed, Finished, Job, Step, drive
from sfumato.diffusion.process import process_for
from sfumato.verify.toy import Toy


class Gaussian:
    """N(mean, std^2) in every dimension of (1, C, h, w)."""

    mean, std = 0.3, 0.5

    def denoiser(self, kind: str = "eps", shape: tuple[int, ...] = (4, 8, 8)) -> Denoiser:
        means = torch.full((1, *shape), self.mean)
        return Toy(means, torch.tensor([self.std**2], dtype=torch.float64), torch.ones(2, 1), kind).denoiser()

    def moments(self, sigma: float, kind: str) -> tuple[float, float]:
        """Mean and standard deviation at a noise level."""
        alpha = process_for(kind).alpha(sigma)
        return alpha * self.mean, ((alpha * self.std) ** 2 + sigma**2) ** 0.5

    def flow(self, x: torch.Tensor, s: float, s1: float, kind: str = "eps") -> torch.Tensor:
        """Where the probability flow takes x from level s to s1: standardised, x does not move."""
        (mean, std), (mean1, std1) = self.moments(s, kind), self.moments(s1, kind)
        return mean1 + std1 * (x - mean) / std


@pytest.fixture(scope="session")
def gaussian() -> Gaussian:
    return Gaussian()


@pytest.fixture(scope="session")
def mixture() -> Callable[[str], Denoiser]:
    """The denoiser of two components; label 0 favours the first, label 1 the second."""

    def make(kind: str = "eps") -> Denoiser:
        means = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        return Toy(means, torch.tensor([0.02, 0.05]), torch.tensor([[0.9, 0.1], [0.2, 0.8]]), kind).denoiser()

    return make


@pytest.fixture(scope="session")
def unit() -> Callable[..., torch.Tensor]:
    """Unit noise of a seed."""

    def make(seed: int, shape: tuple[int, ...] = (1, 4, 8, 8)) -> torch.Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    return make


@pytest.fixture(scope="session")
def outcomes() -> Callable[..., dict[int, torch.Tensor | Exception]]:
    """Drive jobs to their end: what each returned or raised."""

    def run(jobs: list[Job], max_rows: int = 8) -> dict[int, torch.Tensor | Exception]:
        results: dict[int, torch.Tensor | Exception] = {}
        for number, event in drive(jobs, max_rows):
            match event:
                case Finished(x=x):
                    results[number] = x
                case Failed(error=error):
                    results[number] = error
                case Step():
                    pass
        return results

    return run
