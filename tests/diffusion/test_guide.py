"""Guides."""

import pytest
import torch

from sfumato.diffusion.guide import cfg, plain
from sfumato.diffusion.sample import SAMPLERS
from sfumato.diffusion.schedule import karras_between
from sfumato.verify.toy import label


def estimate(outcomes, guide, x: torch.Tensor, sigma: float) -> torch.Tensor:
    def job():
        return (yield from guide(x, sigma))

    return outcomes([job()])[0]


def test_guidance_is_linear_in_its_scale(mixture, unit, outcomes) -> None:
    denoiser = mixture()
    positive, negative = plain(denoiser, label(1)), plain(denoiser, label(0))
    at = {scale: estimate(outcomes, cfg(positive, negative, scale), unit(0), 1.5) for scale in (0, 1, 2, 7.5)}
    assert torch.equal(at[1], estimate(outcomes, positive, unit(0), 1.5))
    assert torch.allclose(at[0], estimate(outcomes, negative, unit(0), 1.5))
    assert torch.allclose(at[7.5], at[0] + 7.5 * (at[1] - at[0]))
    assert not torch.allclose(at[2], at[1])


def test_guides_nest(mixture, unit, outcomes) -> None:
    denoiser = mixture()
    positive, negative = plain(denoiser, label(1)), plain(denoiser, label(0))
    nested = cfg(cfg(positive, negative, 2.0), negative, 3.0)
    flat = cfg(positive, negative, 6.0)
    assert torch.allclose(estimate(outcomes, nested, unit(1), 2.0), estimate(outcomes, flat, unit(1), 2.0))


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "heun"])
def test_eps_and_v_networks_of_the_same_data_draw_the_same(mixture, unit, outcomes, name: str) -> None:
    sigmas = karras_between(0.03, 14.6, 12)
    results = []
    for kind in ("eps", "v"):
        denoiser = mixture(kind)
        guide = cfg(plain(denoiser, label(1)), plain(denoiser, label(0)), 4.0)
        job = SAMPLERS[name].run(guide, 14.6 * unit(2), sigmas, denoiser.path, None)
        results.append(outcomes([job])[0])
    assert torch.allclose(*results, atol=1e-9)
