"""What samplers and schedules are called: here, by the community, and by other programs. Needs no torch.

`label` is the community's name, as AUTOMATIC1111's web UI has it, and what a picture's settings say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module

from sfumato.diffusion.lookup import key_of, plain
from sfumato.diffusion.plugins import brought
from sfumato.errors import OptionError, shortened, unknown


@dataclass(frozen=True)
class Names:
    """The community's name of a sampler or a schedule, and other names that people know it by."""

    label: str
    aliases: tuple[str, ...] = ()


SAMPLER_NAMES: dict[str, Names] = {
    "ddim": Names("DDIM", ("DDIMScheduler", "DDIMParallelScheduler")),
    "ddpm": Names("DDPM", ("DDPMScheduler", "DDPMParallelScheduler")),
    "plms": Names("PLMS", ("pndm", "PNDMScheduler")),
    "ipndm": Names("iPNDM", ("IPNDMScheduler",)),
    "euler": Names(
        "Euler", ("k_euler", "EulerDiscreteScheduler", "EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler")
    ),
    "euler_ancestral": Names(
        "Euler a", ("euler_a", "k_euler_a", "k_euler_ancestral", "EulerAncestralDiscreteScheduler")
    ),
    "heun": Names("Heun", ("k_heun", "HeunDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")),
    "restart": Names("Restart"),
    "lms": Names("LMS", ("k_lms", "LMSDiscreteScheduler")),
    "dpm_2": Names("DPM2", ("k_dpm_2", "KDPM2DiscreteScheduler")),
    "dpm_2_ancestral": Names("DPM2 a", ("dpm2_a", "k_dpm_2_a", "k_dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler")),
    "dpm_fast": Names("DPM fast", ("k_dpm_fast",)),
    "dpm_adaptive": Names("DPM adaptive", ("k_dpm_ad", "k_dpm_adaptive")),
    "dpm_solver": Names("DPM-Solver"),
    "dpmpp_2s": Names("DPM++ 2S", ("DPMSolverSinglestepScheduler",)),
    "dpmpp_2s_ancestral": Names("DPM++ 2S a", ("k_dpmpp_2s_a", "k_dpmpp_2s_ancestral")),
    "dpmpp_2m": Names("DPM++ 2M", ("k_dpmpp_2m", "DPMSolverMultistepScheduler", "EDMDPMSolverMultistepScheduler")),
    "dpmpp_3m": Names("DPM++ 3M"),
    "dpmpp_sde": Names("DPM++ SDE", ("k_dpmpp_sde", "dpmpp_sde_gpu", "DPMSolverSDEScheduler")),
    "dpmpp_2m_sde": Names("DPM++ 2M SDE", ("k_dpmpp_2m_sde", "dpmpp_2m_sde_gpu")),
    "dpmpp_2m_sde_heun": Names("DPM++ 2M SDE Heun", ("k_dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu")),
    "dpmpp_3m_sde": Names("DPM++ 3M SDE", ("k_dpmpp_3m_sde", "dpmpp_3m_sde_gpu")),
    "unipc": Names("UniPC", ("uni_pc",)),
    "unipc_bh2": Names("UniPC bh2", ("uni_pc_bh2", "UniPCMultistepScheduler")),
    "deis": Names("DEIS", ("DEISMultistepScheduler",)),
    "res_multistep": Names("Res Multistep"),
    "res_multistep_ancestral": Names("Res Multistep a"),
    "er_sde": Names("ER SDE"),
    "sa_solver": Names("SA Solver", ("SASolverScheduler",)),
    "lcm": Names("LCM", ("LCMScheduler",)),
    "tcd": Names("TCD", ("TCDScheduler",)),
}
SCHEDULE_NAMES: dict[str, Names] = {
    "discrete": Names("Uniform", ("normal", "linspace")),
    "simple": Names("Simple"),
    "sgm_uniform": Names("SGM Uniform"),
    "ddim_uniform": Names("DDIM"),
    "leading": Names("Leading"),
    "trailing": Names("Trailing"),
    "karras": Names("Karras"),
    "exponential": Names("Exponential"),
    "polyexponential": Names("Polyexponential"),
    "beta": Names("Beta"),
    "linear_quadratic": Names("Linear Quadratic"),
    "kl_optimal": Names("KL Optimal"),
    "align_your_steps": Names("Align Your Steps", ("ays",)),
    "align_your_steps_xl": Names("Align Your Steps XL", ("ays_xl",)),
}
# Names of what is said otherwise here, or is not here: by other programs' spellings, what to give instead.
HINTS = {
    "automatic": "that is what goes without saying; leave `schedule` out",
    "use_karras_sigmas": "give `schedule` karras",
    "use_exponential_sigmas": "give `schedule` exponential",
    "use_beta_sigmas": "give `schedule` beta",
    "heunpp2": "the nearest that is here is heun",
    "ipndm_v": "the nearest that is here is ipndm",
    "sa_solver_pece": "the nearest that is here is sa_solver",
    "gradient_estimation": "the nearest that is here is euler",
    "seeds_2": "the nearest that is here is dpmpp_sde",
    "seeds_3": "the nearest that is here is dpmpp_sde",
    "exp_heun_2_x0": "the nearest that is here is dpmpp_2s",
    "exp_heun_2_x0_sde": "the nearest that is here is dpmpp_sde",
    "CosineDPMSolverMultistepScheduler": "the nearest that is here is dpmpp_2m_sde",
    "DPMSolverMultistepInverseScheduler": "it turns pictures into noise, which is not here",
    "DDIMInverseScheduler": "it turns pictures into noise, which is not here",
    "CMStochasticIterativeScheduler": "it is for consistency models; the nearest that is here is lcm",
    "KarrasVeScheduler": "the nearest that is here is heun with `sampler_options` s_churn",
    "UnCLIPScheduler": "the nearest that is here is ddpm",
    "RePaintScheduler": "inpainting takes any sampler here",
}
# Where the tables of each kind are, which need torch, and the entry points of other packages; and what adds to them.
HOMES = {
    "sampler": ("sfumato.diffusion.sample", "sfumato.samplers"),
    "schedule": ("sfumato.diffusion.sigma_schedules", "sfumato.sigma_schedules"),
}
ADD: dict[str, Callable[[str, object], object]] = {}
LISTED = "`sfumato samplers` lists them all"
_CFG_PP = re.compile(r"[ _]*cfg(?:[ _]*pp|\+\+)", re.IGNORECASE)
LONGEST = 60  # characters of a name that are looked at


def sampler_name(name: object) -> str:
    """The name here of a sampler that is called by any of its names; case, blanks, `-` and `_` do not count.

    Raises SfumatoError for a name of none, with the nearest, and with what to give instead of other programs' samplers.
    """
    return _found("sampler", name, SAMPLER_NAMES)


def schedule_name(name: object) -> str:
    """The name here of a schedule that is called by any of its names, as `sampler_name`."""
    return _found("schedule", name, SCHEDULE_NAMES)


def split_sampler_name(name: object) -> tuple[str, str | None, bool]:
    """Sampler, schedule if it is named, and whether it is CFG++, of one name such as "DPM++ 2M Karras".

    Both are given by their names here. Raises SfumatoError as `sampler_name`.
    """
    if not isinstance(name, str) or len(name) > LONGEST:
        return sampler_name(name), None, False
    text = _CFG_PP.sub("", name)
    for first, last in _cuts(text):
        sampler = key_of(first, _spelled(SAMPLER_NAMES))
        schedule = key_of(last, _spelled(SCHEDULE_NAMES)) if last else None
        if sampler is not None and (schedule is not None or not last):
            return sampler, schedule, text != name
    return sampler_name(name), None, False


def _cuts(name: str) -> Iterator[tuple[str, str]]:
    """A name whole, and cut in two at each of its gaps, the longest beginning first."""
    words = re.split(r"([ _-])", name.strip())
    for cut in (len(words), *range(len(words) - 2, 0, -2)):
        yield "".join(words[:cut]).removesuffix("_gpu"), "".join(words[cut + 1 :])


def _spelled(names: dict[str, Names]) -> dict[str, tuple[str, ...]]:
    return {name: (one.label, *one.aliases) for name, one in names.items()}


def _take_in(kind: str) -> None:
    """Take in what other packages bring, the first time that a name is none of ours."""
    module, group = HOMES[kind]
    for name, one in brought(group):
        import_module(module)
        ADD[kind](name, one)


def _found(kind: str, name: object, names: dict[str, Names]) -> str:
    found = key_of(name, _spelled(names))
    if found is None:
        _take_in(kind)
        found = key_of(name, _spelled(names))
    if found is not None:
        return found
    hints = {plain(one): text for one, text in HINTS.items()}
    if isinstance(name, str) and (hint := hints.get(plain(name))) is not None:
        raise OptionError(f"there is no {kind} {shortened(name)} here: {hint}")
    other = SCHEDULE_NAMES if kind == "sampler" else SAMPLER_NAMES
    if (elsewhere := key_of(name, _spelled(other))) is not None:
        named = "schedule" if kind == "sampler" else "sampler"
        raise OptionError(f"{shortened(name)} is no {kind} but a {named}; give `{named}` {elsewhere}")
    labels = [one.label for one in names.values()]
    both = [f"{label} {one.label}" for label in labels for one in SCHEDULE_NAMES.values()] if kind == "sampler" else []
    everything = [*names, *labels, *both]
    raise unknown(kind, name, everything, LISTED)
