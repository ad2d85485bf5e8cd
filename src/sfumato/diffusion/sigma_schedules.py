"""Lists of noise levels that samplers walk down, from the first to 0. Float64 on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from sfumato.diffusion.noise_schedule import FlowTable, Table
from sfumato.diffusion.options import Option, Positive, Range, Share, Value, options_of
from sfumato.diffusion.plugins import checked_name
from sfumato.diffusion.sampler_names import ADD, SCHEDULE_NAMES, Names, schedule_name
from sfumato.errors import SfumatoError

Shape = Annotated[float, Range(0.1, 10)]


def _ending_in_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def discrete(table: Table, n: int) -> Tensor:
    """Evenly spaced times from the last training step to the first, rounded to float32 as k-diffusion has them."""
    return _ending_in_zero(table.sigma(torch.linspace(*table.ends, n, dtype=torch.float64).float()))


def sgm_uniform(table: Table, n: int) -> Tensor:
    """Evenly spaced whole times that stop one step short of the first (Stability-AI generative-models)."""
    t = torch.linspace(*table.ends, n + 1, dtype=torch.float64)[:-1]
    return _ending_in_zero(table.sigma(t.floor()))


def simple(table: Table, n: int) -> Tensor:
    """Levels of the table that are evenly spaced from the last down (ComfyUI)."""
    total = len(table.sigmas)
    return _ending_in_zero(table.sigmas[total - 1 - (torch.arange(n) * (total / n)).long()])


def beta(table: Table, n: int, alpha: Shape = 0.6, beta: Shape = 0.6) -> Tensor:
    """Times at evenly spaced quantiles of a Beta distribution, dense at both ends (Lee et al. 2024, section 4).

    Rounded to whole steps as ComfyUI has it, and each taken once: of very many steps fewer are left.
    """
    quantiles = beta_quantiles(1 - np.arange(n) / n, alpha, beta)
    steps = torch.from_numpy(np.rint(quantiles * (len(table.sigmas) - 1)).astype(int))
    return _ending_in_zero(table.sigmas[steps.unique().flip(0)])


def beta_quantiles(p: np.ndarray, a: float, b: float) -> np.ndarray:
    """Where the Beta(a, b) distribution reaches p (N,): the regularised incomplete beta function's inverse."""
    low, high = np.zeros_like(p), np.ones_like(p)
    for _ in range(200):  # small shapes reach far below 1e-20
        middle = (low + high) / 2
        under = np.where(middle < 0.5, _beta_until(middle, a, b), 1 - _beta_until(1 - middle, b, a)) < p
        low, high = np.where(under, middle, low), np.where(under, high, middle)
    return np.where(p < 1, low, 1.0)


def _beta_until(x: np.ndarray, a: float, b: float) -> np.ndarray:
    """The regularised incomplete beta function at x (N,), by the binomial series of its integrand; exact up to 1/2."""
    k = np.arange(1, 80)
    terms = np.concatenate([[1.0], np.cumprod((k - b) / k)]) / (a + np.arange(80))
    whole = math.gamma(a) * math.gamma(b) / math.gamma(a + b)
    return x**a * np.polynomial.polynomial.polyval(x, terms) / whole


def linear_quadratic(table: Table, n: int, threshold: Share = 0.025) -> Tensor:
    """The first half of the steps, evenly spaced, covers the share `threshold`; then the steps grow evenly.

    Movie Gen (Polyak et al. 2024, section 3.4.2) for flows, with the end of the list scaled to the last level of other
    models, as ComfyUI has it.
    """
    half = max(n // 2, 1)
    slope, rest = threshold / half, n - half
    covered = [slope * i for i in range(half)]
    if rest:
        bend = (1 - threshold - slope * rest) / rest**2
        covered += [threshold + slope * i + bend * i**2 for i in range(rest)]
    return _ending_in_zero(table.sigma_max * (1 - torch.tensor(covered[:n], dtype=torch.float64)))


def kl_optimal(table: Table, n: int) -> Tensor:
    """Evenly spaced in the angle whose tangent is sigma (Sabour et al. 2024, theorem 3.1, for data of variance 1)."""
    angles = torch.linspace(math.atan(table.sigma_max), math.atan(table.sigma_min), n, dtype=torch.float64)
    return _ending_in_zero(angles.tan())


# The authors' levels for 10 steps.
ALIGNED_1X = (14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)
ALIGNED_XL = (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029)


def align_your_steps(table: Table, n: int) -> Tensor:
    """The levels that Sabour et al. 2024 found best for 10 steps of 1.x; `_aligned` says how for other numbers."""
    return _aligned(ALIGNED_1X, table, n)


def align_your_steps_xl(table: Table, n: int) -> Tensor:
    """Those of XL."""
    return _aligned(ALIGNED_XL, table, n)


def _aligned(found: tuple[float, ...], table: Table, n: int) -> Tensor:
    """log sigma interpolated linearly, the first level that of the table, the last 0.

    Raises SfumatoError for a flow, for which no such levels were published, and a table that ends below them.
    """
    places = np.linspace(0, len(found) - 1, n + 1)
    levels = torch.from_numpy(np.exp(np.interp(places, np.arange(len(found)), np.log(found))))
    levels[0], levels[-1] = table.sigma_max, 0
    if isinstance(table, FlowTable) or levels[1] >= levels[0]:
        raise SfumatoError(
            "Align Your Steps was worked out for the noise levels of 1.x and XL, which this model lacks; "
            "choose another schedule"
        )
    return levels


def leading(table: Table, n: int) -> Tensor:
    """Times 1, 1+c, 1+2c ... with c = T // n (Lin et al. 2023, table 2, one step up as all releases have it)."""
    t = torch.arange(n, dtype=torch.float64).flip(0) * (len(table.sigmas) // n)
    return _ending_in_zero(table.sigma(t + 1 if t[0] + 1 < len(table.sigmas) else t))


def trailing(table: Table, n: int) -> Tensor:
    """Whole times down from the last training step, the only list that is sure to hold it (Lin et al. 2023, table 2).

    `sgm_uniform` is the same list but for rounding.
    """
    last, total = table.ends[0], len(table.sigmas)
    falling = (total - torch.arange(n, dtype=torch.float64) * (total / n)).round()
    return _ending_in_zero(table.sigma(falling - (total - last)))


def _ddim(table: Table, steps: Tensor) -> Tensor:
    """The original's list for rising training steps: it moves them up by one and ends at the first of all, not at 0."""
    steps = (steps.flip(0) + 1).clamp(max=len(table.sigmas) - 1)
    return torch.cat([table.sigmas[steps], table.sigmas[:1]])


def ddim_uniform(table: Table, n: int) -> Tensor:
    """The original DDIM list: times 1, 1+c, 1+2c ... with c = T // n, which can be more than n of them."""
    total = len(table.sigmas)
    return _ddim(table, torch.arange(0, total - 1, max(total // n, 1)))


def ddim_quad(table: Table, n: int) -> Tensor:
    """The original's other list: times evenly spaced in their square root, over the first 80% of the steps."""
    t = torch.linspace(0, math.sqrt(0.8 * len(table.sigmas)), n, dtype=torch.float64) ** 2
    return _ddim(table, t.long())


def karras_between(sigma_min: float, sigma_max: float, n: int, rho: float = 7.0) -> Tensor:
    """Evenly spaced in sigma^(1/rho) (Karras et al. 2022, equation 5)."""
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return _ending_in_zero((high + ramp * (low - high)) ** rho)


def karras(table: Table, n: int, rho: Positive = 7.0) -> Tensor:
    """`karras_between` the ends of the table."""
    return karras_between(table.sigma_min, table.sigma_max, n, rho)


def polyexponential(table: Table, n: int, rho: Positive = 1.0) -> Tensor:
    """Log sigma falls with the rho-th power of evenly spaced steps (k-diffusion); rho 1 is `exponential`."""
    ramp = torch.linspace(1, 0, n, dtype=torch.float64) ** rho
    low, high = math.log(table.sigma_min), math.log(table.sigma_max)
    return _ending_in_zero((low + ramp * (high - low)).exp())


def exponential(table: Table, n: int) -> Tensor:
    """Evenly spaced in log sigma."""
    return polyexponential(table, n)


def vp(n: int, beta_range: float = 19.9, beta_min: float = 0.1, end: float = 1e-3) -> Tensor:
    """Evenly spaced times of the continuous variance-preserving process (Song et al. 2021b, equation 32)."""
    t = torch.linspace(1, end, n, dtype=torch.float64)
    return _ending_in_zero((beta_range * t**2 / 2 + beta_min * t).expm1().sqrt())


@dataclass(frozen=True)
class Spacing:
    """A schedule as users choose it: `levels(table, steps)` makes the list. Its other names are in `sampler_names`."""

    name: str
    levels: Callable[..., Tensor]
    source: str = ""

    @property
    def label(self) -> str:
        """The community's name for it."""
        return SCHEDULE_NAMES[self.name].label

    @property
    def options(self) -> dict[str, Option]:
        """What users may set of it."""
        return options_of(self.levels)


SIGMA_SCHEDULES: dict[str, Spacing] = {
    spacing.name: spacing
    for spacing in (
        Spacing("discrete", discrete, "k-diffusion"),
        Spacing("simple", simple, "ComfyUI"),
        Spacing("sgm_uniform", sgm_uniform, "generative-models"),
        Spacing("ddim_uniform", ddim_uniform, "arXiv:2010.02502"),
        Spacing("leading", leading, "arXiv:2305.08891"),
        Spacing("trailing", trailing, "arXiv:2305.08891"),
        Spacing("karras", karras, "arXiv:2206.00364"),
        Spacing("exponential", exponential, "k-diffusion"),
        Spacing("polyexponential", polyexponential, "k-diffusion"),
        Spacing("beta", beta, "arXiv:2407.12173"),
        Spacing("linear_quadratic", linear_quadratic, "arXiv:2410.13720"),
        Spacing("kl_optimal", kl_optimal, "arXiv:2404.14507"),
        Spacing("align_your_steps", align_your_steps, "arXiv:2404.14507"),
        Spacing("align_your_steps_xl", align_your_steps_xl, "arXiv:2404.14507"),
    )
}


def find_schedule(name: str, xl: bool = False) -> Spacing:
    """A schedule by any of its names, see `sampler_names.schedule_name`.

    Of the two named Align Your Steps an XL model means its own. Raises SfumatoError.
    """
    found = schedule_name(name)
    return SIGMA_SCHEDULES["align_your_steps_xl" if xl and found == "align_your_steps" else found]


def add_sigma_schedule(
    name: str, levels: object, label: str | None = None, aliases: tuple[str, ...] = (), **facts: Any
) -> Spacing:
    """Offer a schedule under a new name to this process, as the option `schedule`; returns it.

    `levels(table, steps)` returns the falling noise levels (steps + 1,), float64, from within the table to 0; `facts`
    are fields of `Spacing`. `label` is what pictures' settings call it. Raises ValueError as `sample.add_sampler`.
    """
    name = checked_name("schedule", name, name in SIGMA_SCHEDULES)
    if not isinstance(levels, Spacing):
        if not callable(levels):
            raise ValueError(f"the schedule {name} is {levels!r}; give a function of a table and a number of steps")
        levels = Spacing(name=name, levels=levels, **facts)
    SCHEDULE_NAMES[name] = Names(label or name, aliases)
    SIGMA_SCHEDULES[name] = replace(levels, name=name)
    return SIGMA_SCHEDULES[name]


ADD["schedule"] = add_sigma_schedule


def sigma_list(name: str, table: Table, steps: int, **options: Value) -> Tensor:
    """The falling noise levels (steps + 1,) of a schedule, with some of its `options`.

    Raises SfumatoError for an unknown name, a bad count, or a table that the schedule does not fit.
    """
    if not 1 <= steps <= len(table.sigmas):
        raise SfumatoError(f"steps is {steps}; choose 1 to {len(table.sigmas)}")
    return find_schedule(name).levels(table, steps, **options)


MOST = 1.001  # of a table's last level: what people give is rounded


def own_list(levels: Sequence[float], table: Table) -> Tensor:
    """A list of noise levels that the user gives. Raises SfumatoError unless it falls to 0 from within the table."""
    sigmas = torch.tensor(levels, dtype=torch.float64)
    if len(sigmas) < 2 or not (sigmas.diff() < 0).all() or sigmas[-1] != 0:
        text = ", ".join(f"{level:g}" for level in levels)
        raise SfumatoError(f"the noise levels are {text}; give falling numbers that end in 0, such as 14.6,7,3,1,0.1,0")
    most = table.sigma_max if isinstance(table, FlowTable) else MOST * table.sigma_max
    if not sigmas[0] <= most:
        raise SfumatoError(f"the first noise level is {levels[0]:g}; this model knows none above {table.sigma_max:g}")
    return sigmas
