"""Guides."""

import math

import pytest
import torch

from sfumato.diffusion import predict
from sfumato.diffusion.drive import Row
from sfumato.diffusion.guide import Guide, away_from, cfg, inpaint, plain, rescale, switch_at
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


LEVELS = karras_between(0.03, 14.6, 9)


def spied(guide: Guide, asked: list[Row]) -> Guide:
    """A guide that notes every question on its way."""

    def denoise(x: torch.Tensor, sigma: float):
        job, answers = guide(x, sigma), None
        while True:
            try:
                rows = job.send(answers)
            except StopIteration as stop:
                return stop.value
            asked.extend(rows)
            answers = yield rows

    return denoise


@pytest.mark.parametrize("name", ["dpmpp_2m", "lms", "unipc", "heun"])
def test_handing_over_to_the_same_model_changes_nothing(mixture, unit, outcomes, name: str) -> None:
    denoiser = mixture()
    guide = cfg(plain(denoiser, label(1)), plain(denoiser, label(0)), 4.0)
    jobs = [
        SAMPLERS[name].run(chosen, 14.6 * unit(2), LEVELS, denoiser.path, None)
        for chosen in (guide, switch_at(LEVELS[4].item(), guide, guide))
    ]
    alone, handed = outcomes(jobs).values()
    assert torch.equal(alone, handed)


def test_the_refiner_draws_below_its_level_with_a_conditioning_of_its_own(mixture, unit, outcomes) -> None:
    base, refiner = mixture(), mixture("v")
    asked: list[Row] = []
    guide = switch_at(
        LEVELS[4].item(),
        cfg(plain(base, label(1)), plain(base, label(0)), 4.0),
        cfg(plain(refiner, label(0)), plain(refiner, label(1)), 2.0),
    )
    outcomes([SAMPLERS["dpmpp_2m"].run(spied(guide, asked), 14.6 * unit(2), LEVELS, base.path, None)])
    by = [(row.sigma, row.denoiser) for row in asked]
    assert by == [(s, base if i <= 4 else refiner) for i, s in enumerate(LEVELS[:-1].tolist()) for _ in range(2)]


def test_jobs_that_are_handed_over_share_calls(mixture, unit, outcomes, monkeypatch) -> None:
    base, refiner = mixture(), mixture("v")
    calls: list[tuple[object, int]] = []
    call = type(base).__call__
    monkeypatch.setattr(type(base), "__call__", lambda d, x, *rest: calls.append((d, len(x))) or call(d, x, *rest))
    guide = switch_at(1.0, plain(base, label(1)), plain(refiner, label(1)))
    outcomes([SAMPLERS["euler"].run(guide, 14.6 * unit(k), LEVELS, base.path, None) for k in range(3)])
    above = int((LEVELS >= 1.0).sum())
    assert calls == [(base, 3)] * above + [(refiner, 3)] * (len(LEVELS) - 1 - above)


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
def test_rescaling_gives_the_output_the_spread_of_the_positive(mixture, unit, outcomes, kind: str) -> None:
    denoiser = mixture(kind)
    positive, x, sigma = plain(denoiser, label(1)), unit(0), 0.8 if kind == "flow" else 6.0
    guided = cfg(positive, plain(denoiser, label(0)), 9.0)
    outputs = [
        predict.target(kind, estimate(outcomes, guide, x, sigma), x, torch.tensor([sigma]).double())
        for guide in (positive, guided, *(rescale(guided, positive, share, kind) for share in (0.7, 1.0)))
    ]
    usual, plainly, partly, wholly = outputs
    assert wholly.std() == pytest.approx(usual.std().item()) != pytest.approx(plainly.std().item())
    # Lin et al. 2023, equations 15 and 16.
    assert torch.allclose(partly, 0.7 * plainly * usual.std() / plainly.std() + 0.3 * plainly)
    assert rescale(guided, positive, 0, kind) is guided


def test_what_guides_have_in_common_is_asked_once(mixture, unit, outcomes) -> None:
    denoiser, worse = mixture(), mixture("v")
    positive, negative = plain(denoiser, label(1)), plain(denoiser, label(0))
    guided = rescale(cfg(positive, negative, 9.0), positive, 0.7, "eps")
    asked: list[Row] = []
    estimate(outcomes, spied(away_from(guided, positive, plain(worse, label(1)), 2.5, 0, 9), asked), unit(0), 0.8)
    assert len(asked) == 3


@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_leaves_alone_what_is_to_be_kept(mixture, unit, outcomes, name: str, kind: str) -> None:
    """And the network sees the picture there, under noise of the level."""
    denoiser, picture, noise = mixture(kind), unit(1), unit(2)
    levels = LEVELS / (1 + LEVELS) if kind == "flow" else LEVELS
    free_at = torch.zeros(1, 1, 8, 8)
    free_at[..., 4:] = math.inf
    asked: list[Row] = []
    guide = inpaint(spied(plain(denoiser, label(1)), asked), picture, free_at, lambda sigma: noise, denoiser.path)
    seeds = iter(range(3, 999))
    start = denoiser.path.noised(picture, noise, levels[:1])
    result = outcomes([SAMPLERS[name].run(guide, start, levels, denoiser.path, lambda s, s1: unit(next(seeds)))])[0]
    kept = slice(None, 4)
    assert torch.allclose(result[..., kept], picture[..., kept], atol=0.2 if name.startswith("dpm_") else 1e-9)
    assert (result - picture)[..., 4:].abs().mean() > 0.2
    for row in asked:
        shown = denoiser.path.noised(picture, noise, torch.tensor([row.sigma], dtype=torch.float64))
        assert torch.allclose(row.x[..., kept], shown[..., kept])
        assert not torch.allclose(row.x[..., 4:], shown[..., 4:]) or row.sigma == levels[0]


def test_a_place_that_is_freed_late_resembles_the_picture_more(gaussian, unit, outcomes) -> None:
    denoiser, picture, noise = gaussian.denoiser(), gaussian.mean + gaussian.std * unit(1), unit(2)
    free_at = torch.tensor([math.inf, 0.6, 0.15, 0.0])[None, None, None].repeat_interleave(2, 3).expand(1, 1, 8, 8)
    guide = inpaint(plain(denoiser, label(1)), picture, free_at, lambda sigma: noise, denoiser.path)
    x = denoiser.path.noised(picture, noise, LEVELS[:1])
    (result,) = outcomes([SAMPLERS["dpmpp_2m"].run(guide, x, LEVELS, denoiser.path, None)]).values()
    far = (result - picture).abs().mean((0, 1, 2)).reshape(4, 2).mean(1).tolist()
    assert far[0] > far[1] > far[2] > far[3] and far[3] < 1e-9, far
