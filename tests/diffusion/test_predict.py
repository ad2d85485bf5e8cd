"""What a network's output means, in both directions."""

import pytest
import torch

from sfumato.diffusion.predict import SIGMA_DATA, from_output, preconditioning, target
from sfumato.diffusion.process import EXPLODING, FLOW, ForwardProcess, process_for

KINDS = ["eps", "v", "x0", "flow", "edm"]
SIGMA = torch.tensor([0.03, 0.5, 0.97], dtype=torch.float64)
X0, NOISE = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_the_target_is_what_gives_the_data_back(kind: str) -> None:
    x = process_for(kind).noised(X0, NOISE, SIGMA)
    assert torch.allclose(from_output(kind, target(kind, X0, x, SIGMA), x, SIGMA), X0, atol=1e-12)


def test_targets_are_those_of_the_papers() -> None:
    s = SIGMA.reshape(-1, 1, 1, 1)
    x = EXPLODING.noised(X0, NOISE, SIGMA)
    alpha = (1 + s**2).rsqrt()  # of the variance-preserving scale
    assert torch.allclose(target("eps", X0, x, SIGMA), NOISE, atol=1e-10)
    assert torch.allclose(target("x0", X0, x, SIGMA), X0)
    assert torch.allclose(target("v", X0, x, SIGMA), alpha * NOISE - alpha * s * X0, atol=1e-10)
    assert torch.allclose(target("flow", X0, FLOW.noised(X0, NOISE, SIGMA), SIGMA), NOISE - X0, atol=1e-10)


@pytest.mark.parametrize("kind", ["eps", "v", "x0"])
def test_networks_of_the_variance_preserving_kinds_see_unit_variance(kind: str) -> None:
    c_in, _, _ = preconditioning(kind, SIGMA)
    assert torch.allclose(c_in**2 * (1 + SIGMA**2), torch.ones(3, dtype=torch.float64))


def test_edm_networks_see_and_answer_unit_variance() -> None:
    c_in, c_skip, c_out = preconditioning("edm", SIGMA)
    data = SIGMA_DATA**2
    assert torch.allclose(c_in**2 * (data + SIGMA**2), torch.ones(3, dtype=torch.float64))
    # Karras et al. 2022, equation 114: the target's variance is one.
    assert torch.allclose(((1 - c_skip) ** 2 * data + c_skip**2 * SIGMA**2) / c_out**2, torch.ones(3).double())


def test_noising_keeps_what_the_path_says() -> None:
    x = FLOW.noised(X0, NOISE, SIGMA)
    assert torch.allclose(x[1], 0.5 * X0[1] + 0.5 * NOISE[1])
    assert torch.allclose(EXPLODING.noised(X0, NOISE, SIGMA)[1], X0[1] + 0.5 * NOISE[1])


@pytest.mark.parametrize("path", [EXPLODING, FLOW, ForwardProcess(0.5)])
def test_a_level_is_found_from_its_noise_to_signal_ratio(path: ForwardProcess) -> None:
    for sigma in (0.01, 0.4, 0.9):
        assert path.sigma_at(sigma / path.alpha(sigma)) == pytest.approx(sigma, rel=1e-12)
