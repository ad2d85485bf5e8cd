"""Whole sampler runs on the exact toy denoiser: every state on the way against the original code's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.diffusion.driver import Failed, Finished, Step, drive
from sfumato.diffusion.guidance import Estimate, Guide, cfg, inpaint, network_guide
from sfumato.diffusion.noise_schedule import FlowTable, NoiseTable, training_sigmas
from sfumato.diffusion.process import EXPLODING
from sfumato.diffusion.rng import scaled
from sfumato.diffusion.sample import Sampler, find_sampler
from sfumato.diffusion.sigma_schedules import SIGMA_SCHEDULES, discrete, karras_between, sigma_list
from sfumato.errors import SfumatoError
from sfumato.pipeline.sampling import first_latents
from sfumato.spec import NoiseSchedule, Prediction
from sfumato.verify.cases import (
    Case,
    Result,
    close,
    failed,
    files,
    listed,
    read_json,
    read_tensors,
    stated_tolerance,
    strangers,
    unsupported,
)
from sfumato.verify.toy import Toy, label, to_vp

SD = NoiseTable(training_sigmas(NoiseSchedule()))
EDM_RANGE = (0.0292, 14.6146)  # of generative-models' EDMDiscretization
MOST_SKIPPED = 5  # times as long as a run may the list be of whose end it is
SAME_LEVEL = 1e-6  # relative: two noise levels are the same one

Entry = Mapping[str, Any]
Tensors = Mapping[str, Tensor]

# The names of samplers in the reference code, and ours.
NAMES = {
    "sample_euler": "euler",
    "sample_euler_ancestral": "euler_ancestral",
    "sample_heun": "heun",
    "sample_dpm_2": "dpm_2",
    "sample_dpm_2_ancestral": "dpm_2_ancestral",
    "sample_lms": "lms",
    "sample_dpm_fast": "dpm_fast",
    "sample_dpm_adaptive": "dpm_adaptive",
    "sample_dpmpp_2s_ancestral": "dpmpp_2s_ancestral",
    "sample_dpmpp_sde": "dpmpp_sde",
    "sample_dpmpp_2m": "dpmpp_2m",
    "sample_dpmpp_2m_sde": "dpmpp_2m_sde",
    "sample_dpmpp_3m_sde": "dpmpp_3m_sde",
    "DDIMSampler": "ddim",
    "DDIMSampler.stochastic_encode + decode": "ddim",
    "PLMSSampler": "plms",
    "EulerEDMSampler": "euler",
    "HeunEDMSampler": "heun",
    "LinearMultistepSampler": "lms",
    "DPMPP2MSampler": "dpmpp_2m",
    "DPMPP2SAncestralSampler": "dpmpp_2s_ancestral",
    "EulerAncestralSampler": "euler_ancestral",
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "PNDMScheduler": "plms",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "HeunDiscreteScheduler": "heun",
    "LMSDiscreteScheduler": "lms",
    "DEISMultistepScheduler": "deis",
    "UniPCMultistepScheduler": "unipc_bh2",
    "LCMScheduler": "lcm",
    "TCDScheduler": "tcd",
    "FlowMatchEulerDiscreteScheduler": "euler",
    "FlowMatchHeunDiscreteScheduler": "heun",
}
# One class of theirs is several of our samplers: (class, algorithm, order).
SOLVERS = {
    ("DPMSolverMultistepScheduler", "dpmsolver++", 2): "dpmpp_2m",
    ("DPMSolverMultistepScheduler", "dpmsolver++", 3): "dpmpp_3m",
    ("DPMSolverMultistepScheduler", "sde-dpmsolver++", 2): "dpmpp_2m_sde",
    ("DPMSolverSinglestepScheduler", "dpmsolver++", 2): "dpmpp_2s",
}
PREDICTIONS: Mapping[str, Prediction] = {"epsilon": "eps", "v_prediction": "v"}


@dataclass(frozen=True)
class Run:
    """A reference run, translated: what our sampler is given, and how the reference recorded its states.

    `vp`: states are stored in the variance-preserving scale. `at_calls`: they are those at every network call, not
    those before every step; the final state follows in either case. `known` is a picture that stays where `drawn` is 0;
    its estimates and what becomes of it at the end differ from the reference's by intent, and are not compared.
    """

    sampler: Sampler
    sigmas: Tensor
    start: Tensor
    options: Mapping[str, Any] = field(default_factory=dict)
    kind: Prediction = "eps"
    scale: float = 1.0
    s_noise: float = 1.0
    vp: bool = False
    at_calls: bool = True
    known: Tensor | None = None
    drawn: Tensor = field(default_factory=lambda: torch.ones(()))


def find(folder: Path) -> Iterator[Case]:
    known = []
    for path in files(folder):
        if path.suffix == ".json" and path.stem in READERS:
            known += [path.name, f"{path.stem}.safetensors"]
            yield from listed(path, f"samplers/{path.stem}", _runs)
    yield from strangers(folder, known)


def _runs(path: Path) -> Iterator[Case]:
    data, reader = read_json(path), READERS[path.stem]
    tensors = cache(lambda: read_tensors(path.with_suffix(".safetensors")))
    for name, entry in data["runs"].items():

        def check(name: str = name, entry: Entry = entry) -> Result:
            prefix = f"{name}."
            own = {key.removeprefix(prefix): tensor for key, tensor in tensors().items() if key.startswith(prefix)}
            shared = {key: tensor for key, tensor in tensors().items() if key.startswith(("toy.", "x_T"))}
            if "x" not in own:
                raise SfumatoError(f"{name}.x is missing")
            run = reader(name, entry, own | shared)
            return replay(run, entry, own, shared, stated_tolerance(data["tolerance"], name))

        yield Case(f"samplers/{path.stem}/{name}", check)


def replay(run: Run, entry: Entry, own: Tensors, shared: Tensors, tolerance: float) -> Result:
    """Run our sampler from the same start with the same noise, and compare every state and estimate on the way."""
    denoiser = Toy(shared["toy.means"], shared["toy.variances"], shared["toy.weights"], run.kind).denoiser()
    calls: list[tuple[Tensor, float]] = []
    guide = _recording(cfg(network_guide(denoiser, label(1)), network_guide(denoiser, label(0)), run.scale), calls)
    noise = RecordedNoise(own.get("noise", torch.empty(0)), entry.get("noise_calls"))
    if run.known is not None:
        guide = inpaint(
            guide,
            run.known,
            torch.where(run.drawn == 1, math.inf, 0.0),
            lambda sigma: noise(sigma, sigma),
            denoiser.path,
        )
    job = run.sampler.run(guide, run.start, run.sigmas, denoiser.path, scaled(noise, run.s_noise), **run.options)
    steps: list[Step] = []
    for _, event in drive([job]):
        match event:
            case Step():
                steps.append(event)
            case Failed(error=error):
                raise error
            case Finished(x=x):
                final = x
    states = calls if run.at_calls else [(step.x, step.sigma) for step in steps]
    states = [*states, (final * run.drawn, run.sigmas[-1].item())]
    ours = torch.stack([to_vp(x, sigma) if run.vp else x for x, sigma in states])
    theirs = torch.cat([own["x"][:-1], own["x"][-1:] * run.drawn])
    pairs = [(ours[-len(theirs) :], theirs)]
    if "pred_x0" in own and len(steps) == len(calls):
        pairs.append((torch.stack([step.x0 for step in steps]) * run.drawn, own["pred_x0"] * run.drawn))
    if noise.levels_differ:
        return failed("noise was asked for between other noise levels than in the reference")
    return close(pairs, tolerance)


class RecordedNoise:
    """The reference's noise in the order in which it was drawn."""

    def __init__(self, tensors: Tensor, levels: list[tuple[float, float]] | None):
        self.tensors, self.levels, self.used, self.levels_differ = tensors, levels, 0, False

    def __call__(self, sigma: float, sigma_next: float) -> Tensor:
        if self.used == len(self.tensors):
            raise SfumatoError(f"the sampler asked for more noise than the reference's {self.used} draws")
        if self.levels is not None:
            pairs = zip((sigma, sigma_next), self.levels[self.used], strict=True)
            self.levels_differ |= not all(math.isclose(a, b, rel_tol=SAME_LEVEL) for a, b in pairs)
        self.used += 1
        return self.tensors[self.used - 1]


def _recording(guide: Guide, calls: list[tuple[Tensor, float]]) -> Guide:
    def denoise(x: Tensor, sigma: float) -> Estimate:
        calls.append((x, sigma))
        return (yield from guide(x, sigma))

    return denoise


def _sampler(name: str, options: Mapping[str, Any]) -> Sampler:
    """Ours of a name. Raises SfumatoError for one that we lack, or that lacks one of the options."""
    sampler = find_sampler(name)
    for option in options:
        if option not in sampler.options:
            raise unsupported(f"the option {option} of {sampler.label}")
    return sampler


def _name(theirs: str) -> str:
    if theirs not in NAMES:
        raise unsupported(f"the sampler {theirs}")
    return NAMES[theirs]


def _list(sigmas: list[float]) -> Tensor:
    return torch.tensor(sigmas, dtype=torch.float64)


def _require_own(sigmas: Tensor, candidates: Iterator[Tensor]) -> None:
    """Raise SfumatoError unless one of our schedules ends with this list."""
    for own in candidates:
        if len(own) >= len(sigmas) and torch.allclose(own[-len(sigmas) :], sigmas, rtol=SAME_LEVEL, atol=0):
            return
    raise SfumatoError("none of our schedules gives the reference's list of noise levels")


def _k_diffusion(name: str, entry: Entry, tensors: Tensors) -> Run:
    given = dict(entry["options"])
    s_noise = given.pop("s_noise", 1.0)
    if "solver_type" in given:
        given["solver"] = given.pop("solver_type")
    if "sigma_max" in given:
        # Samplers that choose their own levels between two, and may count their calls by the list.
        ends = given.pop("sigma_min"), given.pop("sigma_max")
        if given.pop("order", 3) != 3:
            raise unsupported("this order")
        sigmas = karras_between(*ends, given.pop("n", 2))
        sigmas[0] = ends[1]
    else:
        sigmas = _list(entry["sigmas"])
        counts = range(len(sigmas) - 1, MOST_SKIPPED * len(sigmas))  # a run on a picture has the end of a longer list
        _require_own(sigmas, (sigma_list(schedule, SD, n) for n in counts for schedule in SIGMA_SCHEDULES))
    start = tensors["x_T_unit"] * sigmas[0]
    return Run(_sampler(_name(entry["sampler"]), given), sigmas, start, given, s_noise=s_noise, at_calls=False)


def _ldm(name: str, entry: Entry, tensors: Tensors) -> Run:
    if entry["sampler"] == "DPM_Solver.sample":
        return _ldm_dpm_solver(entry, tensors)
    given, kind = entry["options"], entry["parameterization"]
    options = {"eta": given["eta"]} if given.get("eta") else {}
    sampler = _sampler(_name(entry["sampler"]), options)
    sigmas = sigma_list(sampler.schedule, SD, given["S"])
    scale = given.get("cfg_scale", 1.0)
    if "t_enc" not in given:
        start = first_latents(tensors["x_T_unit"], sigmas, sampler)
        run = Run(sampler, sigmas, start, options, kind, scale, vp=True)
        return replace(run, known=tensors["x0"], drawn=1 - tensors["mask"]) if "mask" in tensors else run
    # img2img: the picture is noised to the level of step t_enc counted from the end, and sampled from the next one.
    noised_at, sigmas = sigmas[-given["t_enc"] - 2], sigmas[-given["t_enc"] - 1 :]
    encoded = to_vp(EXPLODING.noised(tensors["x0"], tensors["img2img_noise"], noised_at[None]), noised_at.item())
    return Run(sampler, sigmas, first_latents(encoded, sigmas, sampler), options, kind, scale, vp=True)


def _ldm_dpm_solver(entry: Entry, tensors: Tensors) -> Run:
    """That code puts its steps at fractional times, between which it draws log alpha, not log sigma, as straight."""
    given = entry["options"]
    times = _list([*entry["network_times"], 0.0])
    low = times.floor().long().clamp(max=len(SD.sigmas) - 2)
    log_alpha = -(1 + SD.sigmas**2).log() / 2
    sigmas = (-2 * torch.lerp(log_alpha[low], log_alpha[low + 1], times - low)).expm1().sqrt()
    if given["method"] == "singlestep":
        sampler, options = _sampler("dpm_fast", {}), {}
    else:
        options = {"order": given["order"]}
        sampler = _sampler("dpmpp_3m" if given["predict_x0"] else "dpm_solver", options)
    start = tensors["x_T_unit"] * math.sqrt(1 + sigmas[0].item() ** 2)
    return Run(sampler, sigmas, start, options, vp=True)


def _sgm(name: str, entry: Entry, tensors: Tensors) -> Run:
    given = dict(entry["options"])
    steps, scale, s_noise = given.pop("num_steps"), given.pop("scale") or 1.0, given.pop("s_noise", 1.0)
    if given.pop("guider") not in ("VanillaCFG", "IdentityGuider"):
        raise unsupported("the guider of this run")
    sampler = _sampler(_name(entry["sampler"]), given)
    sigmas = _list(entry["sigmas"])
    _require_own(sigmas, iter([sigma_list("sgm_uniform", SD, steps), karras_between(*EDM_RANGE, steps)]))
    start = tensors["x_T_unit"] * math.sqrt(1 + sigmas[0].item() ** 2)
    return Run(sampler, sigmas, start, given, scale=scale, s_noise=s_noise)


def _sd3(name: str, entry: Entry, tensors: Tensors) -> Run:
    sampler = _sampler(_name(entry["sampler"]), {})
    sigmas, given = _list(entry["sigmas"]), entry["options"]
    _require_own(sigmas, iter([discrete(FlowTable(given["shift"]), given["n"])]))
    return Run(sampler, sigmas, tensors["x_T_unit"] * sigmas[0], kind="flow")


def _diffusers(name: str, entry: Entry, tensors: Tensors) -> Run:
    config, options = entry["config"], dict(entry["step_kwargs"])
    solver = entry["class"], config.get("algorithm_type"), config.get("solver_order")
    theirs = SOLVERS.get(solver) or _name(entry["class"])
    if theirs in ("deis", "unipc_bh2"):
        options["order"] = config["solver_order"]
    if "solver_type" in config:
        options["variant"] = config["solver_type"]
    sampler = _sampler(theirs, options)
    kind = PREDICTIONS.get(entry["prediction"], "flow")
    if entry["sigmas"] is None:
        to_first_step = config.get("set_alpha_to_one") is False or entry["class"] == "TCDScheduler"
        sigmas = _of_times(config, entry["timesteps"], to_first_step)
    else:
        # Samplers of two calls a step list every level twice.
        sigmas = _list([sigma for sigma, _ in groupby(entry["sigmas"])])
    vp = kind != "flow" and entry["init_noise_sigma"] == 1
    start = tensors["x_T_unit"] * entry["init_noise_sigma"]
    if vp:
        start = start * math.sqrt(1 + sigmas[0].item() ** 2)
    return Run(sampler, sigmas, start, options, kind, vp=vp)


def _of_times(config: Mapping[str, Any], times: list[float], to_first_step: bool) -> Tensor:
    """The levels of a list of training steps, and what the scheduler ends at: the first step's level, or 0."""
    zero_snr = config.get("rescale_betas_zero_snr", False)
    table = NoiseTable(training_sigmas(NoiseSchedule(zero_terminal_snr=zero_snr)))
    levels = table.sigma(_list([time for time, _ in groupby(times)]))
    return torch.cat([levels, table.sigmas[:1] if to_first_step else levels.new_zeros(1)])


READERS: Mapping[str, Callable[[str, Entry, Tensors], Run]] = {
    "k_diffusion": _k_diffusion,
    "ldm": _ldm,
    "ldm_v_prediction": _ldm,
    "sgm": _sgm,
    "sd3": _sd3,
    "diffusers": _diffusers,
}
