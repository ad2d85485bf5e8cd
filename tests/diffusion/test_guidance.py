"""Guides."""

import math
from collections.abc import Callable
from itertools import permutations

import pytest
import torch

from sfumato.diffusion import predict
from sfumato.diffusion.driver import Row
from sfumato.diffusion.guidance import (
    Guide,
    apg,
    cfg,
    classifier_guidance,
    constant_guide,
    dynamic_threshold,
    gradient,
    in_interval,
    inpaint,
    latent_threshold,
    network_guide,
    push_away,
    rescale,
    switch_at,
)
from sfumato.diffusion.process import EXPLODING, FLOW
from sfumato.diffusion.sample import SAMPLERS
from sfumato.diffusion.sigma_schedules import karras_between
from sfumato.verify.toy import label


def estimate(outcomes, guide, x: torch.Tensor, sigma: float) -> torch.Tensor:
    def job():
        return (yield from guide(x, sigma))

    return outcomes([job()])[0]


def test_guidance_is_linear_in_its_scale(mixture, unit, outcomes) -> None:
    denoiser = mixture()
    positive, negative = network_guide(denoiser, label(1)), network_guide(denoiser, label(0))
    at = {scale: estimate(outcomes, cfg(positive, negative, scale), unit(0), 1.5) for scale in (0, 1, 2, 7.5)}
    assert torch.equal(at[1], estimate(outcomes, positive, unit(0), 1.5))
    assert torch.allclose(at[0], estimate(outcomes, negative, unit(0), 1.5))
    assert torch.allclose(at[7.5], at[0] + 7.5 * (at[1] - at[0]))
    assert not torch.allclose(at[2], at[1])


def test_guides_nest(mixture, unit, outcomes) -> None:
    denoiser = mixture()
    positive, negative = network_guide(denoiser, label(1)), network_guide(denoiser, label(0))
    nested = cfg(cfg(positive, negative, 2.0), negative, 3.0)
    flat = cfg(positive, negative, 6.0)
    assert torch.allclose(estimate(outcomes, nested, unit(1), 2.0), estimate(outcomes, flat, unit(1), 2.0))


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "heun"])
def test_eps_and_v_networks_of_the_same_data_draw_the_same(mixture, unit, outcomes, name: str) -> None:
    sigmas = karras_between(0.03, 14.6, 12)
    results = []
    for kind in ("eps", "v"):
        denoiser = mixture(kind)
        guide = cfg(network_guide(denoiser, label(1)), network_guide(denoiser, label(0)), 4.0)
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
    guide = cfg(network_guide(denoiser, label(1)), network_guide(denoiser, label(0)), 4.0)
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
        cfg(network_guide(base, label(1)), network_guide(base, label(0)), 4.0),
        cfg(network_guide(refiner, label(0)), network_guide(refiner, label(1)), 2.0),
    )
    outcomes([SAMPLERS["dpmpp_2m"].run(spied(guide, asked), 14.6 * unit(2), LEVELS, base.path, None)])
    by = [(row.sigma, row.denoiser) for row in asked]
    assert by == [(s, base if i <= 4 else refiner) for i, s in enumerate(LEVELS[:-1].tolist()) for _ in range(2)]


def test_jobs_that_are_handed_over_share_calls(mixture, unit, outcomes, monkeypatch) -> None:
    base, refiner = mixture(), mixture("v")
    calls: list[tuple[object, int]] = []
    call = type(base).__call__
    monkeypatch.setattr(type(base), "__call__", lambda d, x, *rest: calls.append((d, len(x))) or call(d, x, *rest))
    guide = switch_at(1.0, network_guide(base, label(1)), network_guide(refiner, label(1)))
    outcomes([SAMPLERS["euler"].run(guide, 14.6 * unit(k), LEVELS, base.path, None) for k in range(3)])
    above = int((LEVELS >= 1.0).sum())
    assert calls == [(base, 3)] * above + [(refiner, 3)] * (len(LEVELS) - 1 - above)


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
def test_rescaling_gives_the_output_the_spread_of_the_positive(mixture, unit, outcomes, kind: str) -> None:
    denoiser = mixture(kind)
    positive, x, sigma = network_guide(denoiser, label(1)), unit(0), 0.8 if kind == "flow" else 6.0
    guided = cfg(positive, network_guide(denoiser, label(0)), 9.0)
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
    positive, negative = network_guide(denoiser, label(1)), network_guide(denoiser, label(0))
    guided = rescale(cfg(positive, negative, 9.0), positive, 0.7, "eps")
    asked: list[Row] = []
    estimate(outcomes, spied(push_away(guided, positive, network_guide(worse, label(1)), 2.5), asked), unit(0), 0.8)
    assert len(asked) == 3


@pytest.fixture
def pair(mixture) -> tuple[Guide, Guide]:
    """The positive and the negative estimate of one network."""
    denoiser = mixture()
    return network_guide(denoiser, label(1)), network_guide(denoiser, label(0))


def test_outside_its_interval_a_guide_is_not_even_asked(mixture, pair, unit, outcomes) -> None:
    asked: list[Row] = []
    guide = spied(in_interval(0.3, 3.0, cfg(*pair, 4.0), pair[0]), asked)
    outcomes([SAMPLERS["dpmpp_2m"].run(guide, 14.6 * unit(0), LEVELS, mixture().path, None)])
    assert [row.sigma for row in asked] == [s for s in LEVELS[:-1].tolist() for _ in range(1 + (0.3 <= s <= 3.0))]
    for sigma, scale in ((0.29, 1.0), (0.3, 4.0), (3.0, 4.0), (3.01, 1.0)):
        inside = in_interval(0.3, 3.0, cfg(*pair, 4.0), pair[0])
        expected = estimate(outcomes, cfg(*pair, scale), unit(0), sigma)
        assert torch.equal(estimate(outcomes, inside, unit(0), sigma), expected)


def test_projected_guidance_leaves_out_what_points_along_the_estimate(pair, unit, outcomes) -> None:
    x, sigma, scale = unit(0), 1.5, 7.5
    p, n = (estimate(outcomes, guide, x, sigma) for guide in pair)
    x0 = estimate(outcomes, apg(*pair, scale, eta=0, norm=0, momentum=0), x, sigma)
    assert ((x0 - p) * p).sum().item() == pytest.approx(0, abs=1e-9) and not torch.allclose(x0, p)
    along = ((p - n) * p).sum() / (p * p).sum() * p
    half = estimate(outcomes, apg(*pair, scale, eta=0.5, norm=0, momentum=0), x, sigma)
    assert torch.allclose(half, p + (scale - 1) * (p - n - along + 0.5 * along))
    whole = estimate(outcomes, apg(*pair, scale, eta=1, norm=0, momentum=0), x, sigma)
    assert torch.allclose(whole, estimate(outcomes, cfg(*pair, scale), x, sigma))
    short = estimate(outcomes, apg(*pair, scale, eta=1, norm=0.25 * (p - n).norm().item(), momentum=0), x, sigma)
    assert torch.allclose(short - p, 0.25 * (whole - p))
    assert apg(*pair, 1, eta=0, norm=0, momentum=0) is pair[0]


def test_momentum_is_that_of_one_picture(pair, mixture, unit, outcomes) -> None:
    def job(seed: int, momentum: float = -0.5):
        guide = apg(*pair, 5.0, eta=0, norm=0, momentum=momentum)
        return SAMPLERS["euler"].run(guide, 14.6 * unit(seed), LEVELS, mixture().path, None)

    together = outcomes([job(1), job(2)])
    for k, seed in enumerate((1, 2)):
        assert torch.allclose(together[k], outcomes([job(seed)])[0])
        assert not torch.allclose(together[k], outcomes([job(seed, momentum=0)])[0])


def test_momentum_adds_the_difference_before(pair, unit, outcomes) -> None:
    guide = apg(*pair, 3.0, eta=1, norm=0, momentum=-0.5)
    places = [(unit(0), 2.0), (unit(1), 1.0)]
    (p1, n1), (p, n) = ([estimate(outcomes, each, *place) for each in pair] for place in places)
    _, x0 = [estimate(outcomes, guide, *place) for place in places]
    assert torch.allclose(x0, p + 2 * (p - n - 0.5 * (p1 - n1)))


def test_thresholding_draws_what_is_beyond_the_quantile_back_into_the_limit(outcomes) -> None:
    x = torch.linspace(-4, 4, 101, dtype=torch.float64).reshape(1, 1, 1, 101)
    x0 = estimate(outcomes, dynamic_threshold(constant_guide(x), 0.9, limit=2.0), x, 1.0)
    quantile = torch.quantile(x.abs(), 0.9).item()
    assert torch.allclose(x0, x.clamp(-quantile, quantile) * 2 / quantile)
    assert torch.equal(estimate(outcomes, dynamic_threshold(constant_guide(x), 0.9, limit=4.5), x, 1.0), x)


def test_latents_are_drawn_back_to_the_spread_of_the_positive_channel_by_channel(unit, outcomes) -> None:
    x = unit(0)
    centre = torch.tensor([0.0, 5, -3, 1]).double().reshape(1, 4, 1, 1)
    spread = torch.tensor([1.0, 3, 0.5, 8]).double().reshape(1, 4, 1, 1)
    wide = (x - x.mean((2, 3), keepdim=True)) * spread + centre
    x0 = estimate(outcomes, latent_threshold(constant_guide(wide), constant_guide(x), 1.0), x, 1.0)
    # What was spread wider has the spread of the positive again, about its own mean; what was not is as it was.
    assert torch.allclose(x0, (wide - centre) / spread.clamp(min=1) + centre)
    some = estimate(outcomes, latent_threshold(constant_guide(wide), constant_guide(x), 0.9), x, 1.0)
    largest = [(each - each.mean((2, 3), keepdim=True)).abs().amax((2, 3)) for each in (some, x)]
    assert (largest[0] <= largest[1] + 1e-9).all() and not torch.allclose(some, x0)


@pytest.mark.parametrize("kind", ["eps", "v", "flow"])
def test_classifier_guidance_is_the_gradient_through_the_network(gaussian, unit, outcomes, kind: str) -> None:
    denoiser, x, sigma = gaussian.denoiser(kind), unit(0), 0.7
    towards = unit(1)
    score = lambda x0: (x0 * towards).sum((1, 2, 3))  # noqa: E731
    positive = network_guide(denoiser, label(1))
    guide = classifier_guidance(positive, gradient(denoiser, label(1), score), 3.0, denoiser.path)
    alpha = denoiser.path.alpha(sigma)
    # The posterior mean of a Gaussian is linear in x, with this slope.
    slope = alpha * gaussian.std**2 / ((alpha * gaussian.std) ** 2 + sigma**2)
    expected = estimate(outcomes, positive, x, sigma) + 3.0 * sigma**2 / alpha * slope * towards
    assert torch.allclose(estimate(outcomes, guide, x, sigma), expected, atol=1e-6)


def test_guided_by_the_likelihood_of_an_observation_the_estimate_is_its_posterior(gaussian, unit, outcomes) -> None:
    """For a Gaussian the gradient of log p(y | x0) through the estimate leads to a known place: Bayes' rule, twice."""
    denoiser, x, sigma = gaussian.denoiser("eps"), unit(0), 0.7
    seen, trust = unit(1), 0.5  # y = x0 + noise of this deviation
    var = gaussian.std**2 * sigma**2 / (gaussian.std**2 + sigma**2)  # of x0, given x
    # p(y | x) = N(y; E[x0 | x], var + trust^2), of which the score is taken.
    score = lambda x0: -(seen - x0).square().sum((1, 2, 3)) / (2 * (var + trust**2))  # noqa: E731
    positive = network_guide(denoiser, label(1))
    guide = classifier_guidance(positive, gradient(denoiser, label(1), score), 1.0, denoiser.path)
    mean = estimate(outcomes, positive, x, sigma)
    expected = (mean / var + seen / trust**2) / (1 / var + 1 / trust**2)
    assert torch.allclose(estimate(outcomes, guide, x, sigma), expected, atol=1e-6)


def test_gradients_of_several_pictures_share_a_call(gaussian, unit, outcomes, monkeypatch) -> None:
    denoiser = gaussian.denoiser()
    calls: list[int] = []
    call = type(denoiser).__call__
    monkeypatch.setattr(type(denoiser), "__call__", lambda d, x, *rest: calls.append(len(x)) or call(d, x, *rest))
    positive = network_guide(denoiser, label(1))
    guide = classifier_guidance(positive, gradient(denoiser, label(1), lambda x0: x0.sum((1, 2, 3))), 1.0, EXPLODING)
    outcomes([SAMPLERS["euler"].run(guide, unit(k), LEVELS[-2:], EXPLODING, None) for k in range(3)])
    assert calls == [3, 3]


def test_pure_noise_of_a_flow_has_no_slope(mixture, unit, outcomes) -> None:
    denoiser = mixture("flow")
    positive = network_guide(denoiser, label(1))
    guide = classifier_guidance(positive, gradient(denoiser, label(1), lambda x0: x0.sum((1, 2, 3))), 9.0, FLOW)
    assert torch.equal(estimate(outcomes, guide, unit(0), 1.0), estimate(outcomes, positive, unit(0), 1.0))


def wrappers(denoiser, positive: Guide, worse: Guide) -> dict[str, Callable[[Guide], Guide]]:
    """Every guide that takes another one, each inside an interval of its own."""
    slope = gradient(denoiser, label(1), lambda x0: -x0.square().mean((1, 2, 3)))
    guides: dict[str, Callable[[Guide], Guide]] = {
        "away": lambda guide: push_away(guide, positive, worse, 2.0),
        "rescale": lambda guide: rescale(guide, positive, 0.7, "eps"),
        "threshold": lambda guide: latent_threshold(guide, positive, 0.9),
        "classifier": lambda guide: classifier_guidance(guide, slope, 5.0, denoiser.path),
    }
    return {name: lambda guide, wrap=wrap: in_interval(1.0, 9.0, wrap(guide), guide) for name, wrap in guides.items()}


@pytest.mark.parametrize("order", [*permutations(("away", "rescale", "threshold", "classifier"))], ids="-".join)
def test_guides_nest_in_any_order_each_within_its_interval(pair, mixture, unit, outcomes, order) -> None:
    denoiser = mixture()
    positive, negative = network_guide(denoiser, label(1)), network_guide(denoiser, label(0))
    wraps = wrappers(denoiser, positive, network_guide(mixture("v"), label(0)))
    guide = cfg(positive, negative, 4.0)
    for name in order:
        guide = wraps[name](guide)
    asked: list[Row] = []
    inside, outside = (estimate(outcomes, spied(guide, asked), unit(0), s) for s in (1.5, 0.5))
    assert [row.sigma for row in asked] == [1.5] * 4 + [0.5] * 2  # what they have in common is asked once
    assert inside.isfinite().all()
    assert not torch.allclose(inside, estimate(outcomes, cfg(positive, negative, 4.0), unit(0), 1.5))
    assert torch.equal(outside, estimate(outcomes, cfg(positive, negative, 4.0), unit(0), 0.5))
    # The outermost guide has the last word on what the others made.
    rest = cfg(positive, negative, 4.0)
    for name in order[:-1]:
        rest = wraps[name](rest)
    x0 = estimate(outcomes, rest, unit(0), 1.5)
    assert torch.allclose(inside, estimate(outcomes, wraps[order[-1]](constant_guide(x0)), unit(0), 1.5))


@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_leaves_alone_what_is_to_be_kept(mixture, unit, outcomes, name: str, kind: str) -> None:
    """And the network sees the picture there, under noise of the level."""
    denoiser, picture, noise = mixture(kind), unit(1), unit(2)
    levels = LEVELS / (1 + LEVELS) if kind == "flow" else LEVELS
    free_at = torch.zeros(1, 1, 8, 8)
    free_at[..., 4:] = math.inf
    asked: list[Row] = []
    guide = inpaint(
        spied(network_guide(denoiser, label(1)), asked), picture, free_at, lambda sigma: noise, denoiser.path
    )
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
    guide = inpaint(network_guide(denoiser, label(1)), picture, free_at, lambda sigma: noise, denoiser.path)
    x = denoiser.path.noised(picture, noise, LEVELS[:1])
    (result,) = outcomes([SAMPLERS["dpmpp_2m"].run(guide, x, LEVELS, denoiser.path, None)]).values()
    far = (result - picture).abs().mean((0, 1, 2)).reshape(4, 2).mean(1).tolist()
    assert far[0] > far[1] > far[2] > far[3] and far[3] < 1e-9, far
