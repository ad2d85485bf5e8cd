"""Noise levels: what networks were trained on, and the lists that samplers walk down."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.diffusion.noise_schedule import FlowTable, NoiseTable, alphas_cumprod, betas, training_sigmas
from sfumato.diffusion.process import EXPLODING
from sfumato.diffusion.samplers.common import split_ancestral
from sfumato.diffusion.sigma_schedules import (
    ddim_quad,
    ddim_uniform,
    discrete,
    exponential,
    karras,
    karras_between,
    polyexponential,
    sgm_uniform,
    vp,
)
from sfumato.spec import NoiseSchedule
from sfumato.verify.cases import UNKNOWN, Case, Result, close, failing, files, listed, read_json, strangers

FLOAT64, FLOAT32 = 1e-12, 1e-6  # relative tolerances of lists, by the precision that the original keeps them in
SD = NoiseTable(training_sigmas(NoiseSchedule()))


def find(folder: Path) -> Iterator[Case]:
    known = []
    for path in files(folder):
        if path.suffix == ".json" and path.stem in FILES:
            known.append(path.name)
            yield from listed(path, f"schedules/{path.stem}", FILES[path.stem])
    yield from strangers(folder, known)


def _case(path: Path, name: str, ours: Callable[[], Tensor], reference: Sequence[float], tolerance: float) -> Case:
    def check() -> Result:
        return close([(ours(), torch.tensor(reference, dtype=torch.float64))], tolerance, relative=True)

    return Case(f"schedules/{path.stem}/{name}", check)


def _training(path: Path) -> Iterator[Case]:
    """Betas and what follows from them."""
    data = read_json(path)
    noise = NoiseSchedule(start=data["linear_start"], end=data["linear_end"])
    ours = {
        "betas": lambda: betas(noise),
        "alphas_cumprod": lambda: alphas_cumprod(noise),
        "alphas_cumprod_float32_as_in_checkpoints": lambda: alphas_cumprod(noise),
        "sigmas": lambda: training_sigmas(noise),
        "log_snr": lambda: -2 * training_sigmas(noise).log(),
    }
    for name, reference in data.items():
        if isinstance(reference, list):
            if name not in ours:
                yield failing(f"schedules/{path.stem}/{name}", UNKNOWN)
                continue
            yield _case(path, name, ours[name], reference, FLOAT32 if "float32" in name else FLOAT64)


def _k_diffusion(path: Path) -> Iterator[Case]:
    ours: dict[str, Callable[[int], Tensor]] = {
        "k_diffusion_default_linear_t": partial(discrete, SD),
        "karras_rho7": partial(karras, SD),
        "exponential": partial(exponential, SD),
        "polyexponential_rho1": partial(polyexponential, SD, rho=1.0),
        "polyexponential_rho0.5": partial(polyexponential, SD, rho=0.5),
        "karras_sigma_0.1_10": partial(karras_between, 0.1, 10.0),
        "vp_continuous": vp,
    }
    data = read_json(path)
    for n, lists in data.get("lists", {}).items():
        for name, reference in lists.items():
            if name in ours:
                yield _case(path, f"{n}/{name}", partial(ours[name], int(n)), reference, FLOAT64)
            else:
                yield failing(f"schedules/{path.stem}/{n}/{name}", UNKNOWN)
    maps = data.get("t_sigma_maps", {})
    sigma, t = (torch.tensor(maps.get(name, []), dtype=torch.float64) for name in ("sigma", "t"))
    between: dict[str, tuple[Callable[[], Tensor], float]] = {
        "sigma_to_t_interpolated": (lambda: SD.time(sigma), FLOAT64),
        "sigma_to_t_quantized": (lambda: SD.nearest_time(sigma), 0.0),
        # k-diffusion rounds times to float32, as networks are given them.
        "t_to_sigma": (lambda: SD.sigma(t.float()), FLOAT64),
    }
    for name in maps.keys() - {"sigma", "t"}:
        if name not in between:
            yield failing(f"schedules/{path.stem}/{name}", UNKNOWN)
    for name, (made, tolerance) in between.items():
        if name in maps:
            yield _case(path, name, made, maps[name], tolerance)


def _ddim(path: Path) -> Iterator[Case]:
    """Times, and the three tables of the original's step: abar before and after, and the noise added."""
    for n, lists in read_json(path)["by_n"].items():
        for kind, make in (("uniform", ddim_uniform), ("quad", ddim_quad)):
            if (times := lists.get(f"timesteps_{kind}")) is not None:
                yield _case(path, f"{n}/timesteps_{kind}", partial(_times, make, int(n)), times, 0.0)
        reference = lists.get("params_uniform", {})
        for name, which in (("alphas", slice(1, None)), ("alphas_prev", slice(-1))):
            if name in reference:
                yield _case(path, f"{n}/{name}", partial(_alphas, int(n), which), reference[name], FLOAT64)
        for eta in (key for key in reference if not key.startswith("alphas")):
            ours = partial(_added, int(n), float(eta))
            yield _case(path, f"{n}/sigmas_eta{eta}", ours, reference[eta]["sigmas"], FLOAT64)


def _times(make: Callable[[NoiseTable, int], Tensor], n: int) -> Tensor:
    """The training steps of a list's levels, rising; what a list ends at is no step."""
    return SD.nearest_time(make(SD, n)[:-1]).flip(0)


def _alphas(n: int, which: slice) -> Tensor:
    """abar at the levels of the original DDIM list, rising times."""
    return (1 / (1 + ddim_uniform(SD, n) ** 2)).flip(0)[which]


def _added(n: int, eta: float) -> Tensor:
    """Noise that every step of the original DDIM adds, counted in its variance-preserving scale, rising times."""
    sigmas = ddim_uniform(SD, n)
    pairs = zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True)
    added = [split_ancestral(s, s1, eta, EXPLODING)[2] / math.sqrt(1 + s1**2) for s, s1 in pairs]
    return torch.tensor(added[::-1], dtype=torch.float64)


def _sgm(path: Path) -> Iterator[Case]:
    data = read_json(path)
    for n, reference in data.get("sigmas", {}).items():
        yield _case(path, f"{n}/sigmas", partial(sgm_uniform, SD, int(n)), reference, FLOAT32)
    for n, reference in data.get("timesteps", {}).items():
        yield _case(path, f"{n}/timesteps", partial(_times, sgm_uniform, int(n)), reference, 0.0)


def _flow(path: Path) -> Iterator[Case]:
    data = read_json(path)
    for name, reference in data.get("table_1_to_1000", {}).items():
        yield _case(path, f"{name}/table", partial(getattr, FlowTable(_shift(name)), "sigmas"), reference, FLOAT32)
    for name, lists in data.get("sigmas", {}).items():
        table = FlowTable(_shift(name))
        for n, reference in lists.items():
            yield _case(path, f"{name}/{n}", partial(discrete, table, int(n)), reference, FLOAT32)


def _shift(name: str) -> float:
    return float(name.removeprefix("shift_"))


FILES: dict[str, Callable[[Any], Iterator[Case]]] = {
    "sd_scaled_linear_1000": _training,
    "sd2_x4_upscaler_1000": _training,
    "k_diffusion_sigmas": _k_diffusion,
    "ldm_ddim": _ddim,
    "sdxl_sgm": _sgm,
    "sd3_flow": _flow,
}
