"""The configs of the schedulers: what is predicted, the noise levels, and the sampler and spacing they stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from sfumato.checkpoint.diffusers_config.fields import Config, Fields, Fixed, check
from sfumato.errors import SfumatoError
from sfumato.spec import Defaults, NoiseSchedule, Prediction

SCHEDULER_FIXED: Fixed = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "prediction_type": ("epsilon", "v_prediction", "sample"),
    "rescale_betas_zero_snr": (False, True),
    "trained_betas": (None,),
}
FLOW_FIXED: Fixed = {
    "base_image_seq_len": (256,),
    "invert_sigmas": (False,),
    "max_image_seq_len": (4096,),
    "shift_terminal": (None,),
    "time_shift_type": ("exponential",),
}
KINDS: dict[str, Literal["scaled_linear", "linear", "cosine"]] = {
    "linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine",
}  # fmt: skip
EDM_FIXED: Fixed = {"rho": (7.0, 7)}
EDM_PREDICTIONS: dict[Prediction, tuple[str, float]] = {"edm": ("epsilon", 0.5), "v": ("v_prediction", 1.0)}
# Our sampler, and the spacing of times that the scheduler falls back on.
SAMPLERS = {
    "DDIMScheduler": ("ddim", "leading"),
    "DDPMScheduler": ("ddpm", "leading"),
    "DEISMultistepScheduler": ("deis", "linspace"),
    "DPMSolverMultistepScheduler": ("dpmpp_2m", "linspace"),
    "DPMSolverSDEScheduler": ("dpmpp_sde", "linspace"),
    "DPMSolverSinglestepScheduler": ("dpmpp_2s", "linspace"),
    "EDMDPMSolverMultistepScheduler": ("dpmpp_2m", "linspace"),
    "EDMEulerScheduler": ("euler", "linspace"),
    "EulerAncestralDiscreteScheduler": ("euler_ancestral", "linspace"),
    "EulerDiscreteScheduler": ("euler", "linspace"),
    "HeunDiscreteScheduler": ("heun", "linspace"),
    "KDPM2AncestralDiscreteScheduler": ("dpm_2_ancestral", "linspace"),
    "KDPM2DiscreteScheduler": ("dpm_2", "linspace"),
    "LCMScheduler": ("lcm", "trailing"),
    "LMSDiscreteScheduler": ("lms", "linspace"),
    "PNDMScheduler": ("plms", "leading"),
    "UniPCMultistepScheduler": ("unipc_bh2", "linspace"),
    "SASolverScheduler": ("sa_solver", "linspace"),
}
# Settings that make another of our samplers of a class.
MADE: dict[tuple[str, str, object], str] = {
    ("DPMSolverMultistepScheduler", "algorithm_type", "dpmsolver"): "dpm_solver",
    ("DPMSolverMultistepScheduler", "algorithm_type", "sde-dpmsolver++"): "dpmpp_2m_sde",
    ("DPMSolverMultistepScheduler", "solver_order", 3): "dpmpp_3m",
    ("UniPCMultistepScheduler", "solver_type", "bh1"): "unipc",
}
# Those that a folder of ours may name, with the settings that the originals' samplers amount to.
SCHEDULERS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"clip_sample": False, "set_alpha_to_one": False},
    "EulerAncestralDiscreteScheduler": {},
    "EulerDiscreteScheduler": {},
    "LCMScheduler": {"clip_sample": False, "set_alpha_to_one": True},
    "PNDMScheduler": {"set_alpha_to_one": False, "skip_prk_steps": True},
}
SPACINGS = {"leading": "leading", "linspace": "discrete", "trailing": "trailing"}
ENDING_AT_THE_FIRST_STEP = ("ddim", "ddpm", "plms")  # of training, not at sigma 0, as in the original code
PREDICTIONS: dict[str, Prediction] = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}


def scheduler_from(config: Config, where: str = "scheduler/scheduler_config.json") -> tuple[Prediction, NoiseSchedule]:
    """What the network predicts, and its noise levels. Raises SfumatoError for what is not supported."""
    fields = Fields(where, config)
    if "FlowMatch" in str(config.get("_class_name")):
        return "flow", _flow_from(fields)
    if str(config.get("_class_name")).startswith("EDM"):
        return _edm_from(fields)
    check(where, config, SCHEDULER_FIXED)
    schedule = NoiseSchedule(
        kind=KINDS[config.get("beta_schedule", "linear")],
        start=fields.number("beta_start", 0.0001),
        end=fields.number("beta_end", 0.02),
        steps=_training_steps(fields),
        zero_terminal_snr=config.get("rescale_betas_zero_snr", False),
    )
    if not 0 < schedule.start < 1:
        raise fields.wrong("beta_start", "a number between 0 and 1")
    if not schedule.start <= schedule.end < 1:
        raise fields.wrong("beta_end", "a number between beta_start and 1")
    return PREDICTIONS[config.get("prediction_type", "epsilon")], schedule


def _training_steps(fields: Fields) -> int:
    steps = fields.integer("num_train_timesteps", 1000)
    if steps < 1:
        raise fields.wrong("num_train_timesteps", "a positive whole number")
    return steps


def _edm_from(fields: Fields) -> tuple[Prediction, NoiseSchedule]:
    """What is predicted, and the noise levels, of an EDMEulerScheduler or EDMDPMSolverMultistepScheduler."""
    check(fields.where, fields.config, EDM_FIXED)
    said = fields.text("prediction_type", "epsilon"), fields.number("sigma_data", 0.5)
    prediction = next((ours for ours, theirs in EDM_PREDICTIONS.items() if theirs == said), None)
    if prediction is None:
        raise fields.wrong("sigma_data", "0.5 for epsilon or 1.0 for v_prediction")
    start, end = fields.number("sigma_min", 0.002), fields.number("sigma_max", 80.0)
    if not 0 < start < end:
        raise fields.wrong("sigma_min", "a number between 0 and sigma_max")
    return prediction, NoiseSchedule(kind="karras", start=start, end=end, steps=_training_steps(fields))


def _flow_from(fields: Fields) -> NoiseSchedule:
    """The noise levels of a FlowMatchEulerDiscreteScheduler."""
    check(fields.where, fields.config, FLOW_FIXED)
    grows = fields.config.get("use_dynamic_shifting", False) is True
    shift = fields.number("shift", 1.0)
    if shift <= 0:
        raise fields.wrong("shift", "a positive number")
    return NoiseSchedule(
        steps=_training_steps(fields),
        shift=shift,
        log_shift=(fields.number("base_shift", 0.5), fields.number("max_shift", 1.15)) if grows else None,
    )


def sampling_from(config: Config, where: str, defaults: Defaults) -> Defaults:
    """`defaults` with the sampler and schedule that a scheduler's config stands for, where ours have it."""
    fields = Fields(where, config)
    name = fields.text("_class_name", "")
    if name not in SAMPLERS:
        return defaults
    sampler, spacing = SAMPLERS[name]
    sampler = next(
        (ours for (one, key, value), ours in MADE.items() if one == name and config.get(key) == value), sampler
    )
    schedule = SPACINGS[fields.choice("timestep_spacing", spacing, SPACINGS)]
    if name == "LCMScheduler":  # it has times of its own, counted from the last step, whatever the file says
        schedule = "trailing"
    if name.startswith("EDM"):
        schedule = fields.choice("sigma_schedule", "karras", ("karras", "exponential"))
    if sampler in ENDING_AT_THE_FIRST_STEP and schedule == "leading":
        schedule = "ddim_uniform"
    for spelled in ("karras", "exponential"):
        schedule = spelled if config.get(f"use_{spelled}_sigmas") is True else schedule
    return replace(defaults, sampler=sampler, schedule=schedule)


def scheduler_to(prediction: Prediction, noise: NoiseSchedule, defaults: Defaults) -> dict[str, Any]:
    """The config of the scheduler that samples as `defaults` advise, or of one that knows our table."""
    if prediction == "flow":
        return _flow_to(noise)
    if prediction in EDM_PREDICTIONS and noise.kind == "karras":
        return _edm_to(prediction, noise, defaults)
    predictions = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    if prediction not in predictions:
        raise SfumatoError(f"a Stable Diffusion folder cannot say that the network predicts {prediction!r}")
    classes = {ours: theirs for theirs, (ours, _) in SAMPLERS.items() if theirs in SCHEDULERS}
    name = "DDIMScheduler" if noise.zero_terminal_snr else classes.get(defaults.sampler, "DDIMScheduler")
    spacings = {ours: theirs for theirs, ours in SPACINGS.items()}
    return {
        "_class_name": name,
        "beta_end": noise.end,
        "beta_schedule": _kind_to(noise),
        "beta_start": noise.start,
        "num_train_timesteps": noise.steps,
        "prediction_type": predictions[prediction],
        "steps_offset": 1,
        "timestep_spacing": spacings.get(defaults.schedule, "leading"),
        "trained_betas": None,
        **SCHEDULERS[name],
        **({"rescale_betas_zero_snr": True} if noise.zero_terminal_snr else {}),
    }


def _edm_to(prediction: Prediction, noise: NoiseSchedule, defaults: Defaults) -> dict[str, Any]:
    """The config of a scheduler for networks that were trained as Karras et al. 2022."""
    return {
        "_class_name": "EDMEulerScheduler" if defaults.sampler == "euler" else "EDMDPMSolverMultistepScheduler",
        **{name: values[0] for name, values in EDM_FIXED.items()},
        "num_train_timesteps": noise.steps,
        "prediction_type": EDM_PREDICTIONS[prediction][0],
        "sigma_data": EDM_PREDICTIONS[prediction][1],
        "sigma_max": noise.end,
        "sigma_min": noise.start,
        "sigma_schedule": defaults.schedule if defaults.schedule == "exponential" else "karras",
    }


def _flow_to(noise: NoiseSchedule) -> dict[str, Any]:
    """The config of a FlowMatchEulerDiscreteScheduler."""
    low, high = noise.log_shift or (0.5, 1.15)
    return {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        **{name: values[0] for name, values in FLOW_FIXED.items()},
        "base_shift": low,
        "max_shift": high,
        "num_train_timesteps": noise.steps,
        "shift": noise.shift,
        "use_dynamic_shifting": noise.log_shift is not None,
    }


def noising_to(noise: NoiseSchedule) -> dict[str, Any]:
    """The config of a DDPMScheduler that only adds noise."""
    return {
        "_class_name": "DDPMScheduler",
        "beta_end": noise.end,
        "beta_schedule": _kind_to(noise),
        "beta_start": noise.start,
        "num_train_timesteps": noise.steps,
    }


def _kind_to(noise: NoiseSchedule) -> str:
    return next((theirs for theirs, ours in KINDS.items() if ours == noise.kind), noise.kind)
