"""Nodes that make lists of noise levels, and change them."""

from __future__ import annotations

from typing import Annotated

import torch

from sfumato.diffusion.noise_schedule import TABLE_1X
from sfumato.diffusion.sigma_schedules import karras_between, sigma_list, vp
from sfumato.server.kinds.graph.drawing import table_of
from sfumato.server.kinds.graph.nodes.samplers import Scheduler, Share, StepNumber, Steps, finite, last_steps
from sfumato.server.kinds.graph.run import Run
from sfumato.server.kinds.graph.table import Choice, Number, Text, node
from sfumato.server.kinds.graph.values import ModelRef, Sigmas

Level = Annotated[float, Number(0.0, 5000.0, 0.01)]
Rho = Annotated[float, Number(0.0001, 100.0, 0.01)]
ALIGNED = {"SD1": "align_your_steps", "SDXL": "align_your_steps_xl"}
MOST = 1000  # steps of a list


@node("BasicScheduler", "sampling/custom_sampling/schedulers")
def basic(
    run: Run, model: ModelRef, scheduler: Scheduler = "simple", steps: Steps = 20, denoise: Share = 1.0
) -> Sigmas:
    """A list for a model, or with a lower denoise the last steps of a longer one."""
    loaded = run.model(model.parts)
    defaults = loaded.spec.defaults
    return finite(last_steps(scheduler, steps, denoise)(table_of(loaded, model, (defaults.width, defaults.height))))


@node("KarrasScheduler", "sampling/custom_sampling/schedulers")
def karras(steps: Steps = 20, sigma_max: Level = 14.614642, sigma_min: Level = 0.0291675, rho: Rho = 7.0) -> Sigmas:
    """Levels spaced evenly in their root of the order rho."""
    return finite(karras_between(sigma_min, sigma_max, min(steps, MOST), rho))


@node("ExponentialScheduler", "sampling/custom_sampling/schedulers")
def exponential(steps: Steps = 20, sigma_max: Level = 14.614642, sigma_min: Level = 0.0291675) -> Sigmas:
    """Levels spaced evenly in their logarithm."""
    return polyexponential(steps, sigma_max, sigma_min, 1.0)


@node("PolyexponentialScheduler", "sampling/custom_sampling/schedulers")
def polyexponential(
    steps: Steps = 20, sigma_max: Level = 14.614642, sigma_min: Level = 0.0291675, rho: Rho = 1.0
) -> Sigmas:
    """Levels whose logarithm falls with a power of the steps."""
    ramp = torch.linspace(1, 0, min(steps, MOST), dtype=torch.float64) ** rho
    low, high = (torch.tensor(max(value, 1e-6), dtype=torch.float64).log() for value in (sigma_min, sigma_max))
    return finite(torch.cat([(low + ramp * (high - low)).exp(), torch.zeros(1, dtype=torch.float64)]))


@node("VPScheduler", "sampling/custom_sampling/schedulers")
def preserving(
    steps: Steps = 20, beta_d: Level = 19.9, beta_min: Level = 0.1,
    eps_s: Annotated[float, Number(0.0, 1.0, 0.0001)] = 0.001,
) -> Sigmas:  # fmt: skip
    """Levels of the process that preserves variance, at evenly spaced times."""
    return finite(vp(min(steps, MOST), beta_d, beta_min, eps_s))


@node("BetaSamplingScheduler", "sampling/custom_sampling/schedulers")
def beta(
    run: Run, model: ModelRef, steps: Steps = 20, alpha: Annotated[float, Number(0.1, 10.0, 0.01)] = 0.6,
    beta: Annotated[float, Number(0.1, 10.0, 0.01)] = 0.6,
) -> Sigmas:  # fmt: skip
    """Levels at evenly spaced quantiles of a Beta distribution of times."""
    return finite(sigma_list("beta", run.model(model.parts).table, steps, alpha=alpha, beta=beta))


@node("AlignYourStepsScheduler", "sampling/custom_sampling/schedulers")
def aligned(
    model_type: Annotated[str, Choice(tuple(ALIGNED))] = "SD1", steps: Steps = 10, denoise: Share = 1.0
) -> Sigmas:
    """Levels that were found best for 1.x, or for XL."""
    taken = min(steps, MOST) if denoise >= 1 else round(steps * denoise)
    return finite(sigma_list(ALIGNED[model_type], TABLE_1X, min(steps, MOST))[-(taken + 1) :]) if taken else Sigmas(())


@node("SDTurboScheduler", "sampling/custom_sampling/schedulers")
def turbo(run: Run, model: ModelRef, steps: Annotated[int, Number(1, 10)] = 1, denoise: Share = 1.0) -> Sigmas:
    """Up to ten steps of a list of ten, for turbo models."""
    start = 10 - int(10 * denoise)
    levels = sigma_list("trailing", run.model(model.parts).table, 10)[:-1][start : start + steps]
    return finite(torch.cat([levels, levels.new_zeros(1)]))


@node("ManualSigmas", "sampling/custom_sampling/sigmas")
def manual(sigmas: Annotated[str, Text()] = "1, 0.5") -> Sigmas:
    """Noise levels as they are written, with commas between them."""
    found = []
    for word in sigmas.replace(",", " ").split():
        try:
            found.append(float(word))
        except ValueError:
            continue
    return finite(torch.tensor(found[: MOST + 1], dtype=torch.float64))


@node("SplitSigmas", "sampling/custom_sampling/sigmas", "high_sigmas", "low_sigmas")
def split(sigmas: Sigmas, step: StepNumber = 0) -> tuple[Sigmas, Sigmas]:
    """The first steps of a list, and the rest."""
    return Sigmas(sigmas.levels[: step + 1]), Sigmas(sigmas.levels[step:])


@node("SplitSigmasDenoise", "sampling/custom_sampling/sigmas", "high_sigmas", "low_sigmas")
def split_share(sigmas: Sigmas, denoise: Share = 1.0) -> tuple[Sigmas, Sigmas]:
    """The first steps of a list, and the last share of it."""
    steps = max(len(sigmas.levels) - 1, 0)
    taken = round(steps * denoise)
    return Sigmas(sigmas.levels[: steps - taken + 1]), Sigmas(sigmas.levels[steps - taken :])


@node("FlipSigmas", "sampling/custom_sampling/sigmas")
def flip(sigmas: Sigmas) -> Sigmas:
    """A list backwards; samplers here only take one that falls."""
    return Sigmas(sigmas.levels[::-1])
