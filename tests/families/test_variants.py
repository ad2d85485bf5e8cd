"""Releases that share names and shapes: told apart by name, by what they predict, or by their folder's scheduler."""

from dataclasses import replace
from pathlib import Path

import pytest

from sfumato.checkpoint import diffusers_config
from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.errors import SfumatoError
from sfumato.families import FAMILIES, family
from sfumato.spec import Spec

SHARED = [one for one in FAMILIES if one.variants]
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def test_names_are_unique_and_habits_are_the_releases_own() -> None:
    assert {one.name for one in SHARED} >= {"sd2", "sdxl"}
    for one in SHARED:
        names = [release.variant for release in one.releases]
        assert "" not in names and len(set(names)) == len(names)
        for release in one.releases:
            assert one.varied(one.spec, release.variant) == release


def test_a_variant_keeps_the_sizes_of_the_file() -> None:
    sdxl = family("sdxl")
    small = Spec(family="sdxl", title="small", variant="base")
    turbo = sdxl.varied(small, "turbo")
    assert (turbo.unet, turbo.vae, turbo.text) == (small.unet, small.vae, small.text)
    assert (turbo.defaults.steps, turbo.defaults.cfg, turbo.defaults.width) == (1, 1.0, 512)


@pytest.mark.parametrize(
    ("name", "known"),
    [("sdxl", "no variant 'tiny'; choose base or turbo"), ("sd1", "no variants, not 'tiny' either; leave it out")],
)
def test_an_unknown_variant_is_refused_with_those_that_there_are(name: str, known: str) -> None:
    with pytest.raises(SfumatoError, match=known):
        family(name).varied(family(name).spec, "tiny")


def test_a_prediction_brings_the_habits_of_its_release() -> None:
    sd2 = family("sd2")
    assert sd2.predicting(sd2.spec, "eps").variant == "base"
    assert sd2.predicting(sd2.spec, "v") == sd2.spec
    assert sd2.predicting(sd2.spec, "x0").variant == "768-v"
    with pytest.raises(SfumatoError, match="the prediction is 'epsilon'; choose eps or "):
        sd2.predicting(sd2.spec, "epsilon")


def folder(spec: Spec, side: int, scheduler: dict[str, object], **index: object) -> Spec:
    """What is read of a folder with the full-size release's files, a usual side in pixels, a scheduler and an index."""
    files = {
        "model_index": index,
        "unet/config": diffusers_config.unet_to(spec.unet, side // 8),
        "vae/config": diffusers_config.vae_to(spec.vae, side),
        "text_encoder/config": diffusers_config.clip_to(spec.text),
        "scheduler/scheduler_config": BETAS | scheduler,
    }
    if spec.text_2 is not None:
        files["text_encoder_2/config"] = diffusers_config.clip_to(spec.text_2)
    checkpoint = Checkpoint(path=Path("folder"), container="folder", tensors={}, files=[], configs=files)
    return family(spec.family).layouts["diffusers"].spec(checkpoint)


def euler(ancestral: bool, spacing: str) -> dict[str, object]:
    name = "EulerAncestralDiscreteScheduler" if ancestral else "EulerDiscreteScheduler"
    return {"_class_name": name, "timestep_spacing": spacing, "steps_offset": 1}


@pytest.mark.parametrize(
    ("name", "side", "scheduler", "variant"),
    [
        ("sdxl", 1024, euler(False, "leading"), "base"),
        ("sdxl", 512, euler(True, "trailing"), "turbo"),
        ("sdxl", 1024, euler(True, "trailing"), "base"),
        ("sd2", 768, {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}, "768-v"),
        ("sd2", 512, {"_class_name": "PNDMScheduler"}, "base"),
        ("sd2", 512, euler(False, "trailing"), "turbo"),
    ],
)
def test_a_folder_says_which_release_it_is(name: str, side: int, scheduler: dict[str, object], variant: str) -> None:
    one = family(name)
    wanted = next(release for release in one.releases if release.variant == variant)
    read = folder(one.spec, side, scheduler)
    assert (read.variant, read.prediction, read.title) == (variant, wanted.prediction, wanted.title)
    unsaid = {"sampler": wanted.defaults.sampler, "schedule": wanted.defaults.schedule}
    assert replace(read.defaults, **unsaid) == wanted.defaults


@pytest.mark.parametrize(
    ("scheduler", "sampler", "schedule"),
    [
        ({"_class_name": "PNDMScheduler"}, "plms", "ddim_uniform"),
        ({"_class_name": "EulerDiscreteScheduler"}, "euler", "discrete"),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True}, "dpmpp_2m", "karras"),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"},
            "dpmpp_2m_sde",
            "discrete",
        ),
        ({"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3}, "dpmpp_3m", "discrete"),
        ({"_class_name": "UniPCMultistepScheduler", "solver_type": "bh1"}, "unipc", "discrete"),
        ({"_class_name": "UniPCMultistepScheduler"}, "unipc_bh2", "discrete"),
        ({"_class_name": "SASolverScheduler"}, "sa_solver", "discrete"),
        ({"_class_name": "DPMSolverSinglestepScheduler", "use_exponential_sigmas": True}, "dpmpp_2s", "exponential"),
        ({"_class_name": "KDPM2DiscreteScheduler", "timestep_spacing": "trailing"}, "dpm_2", "trailing"),
        ({"_class_name": "DDIMScheduler", "timestep_spacing": "trailing"}, "ddim", "trailing"),
        ({"_class_name": "NobodysScheduler"}, "plms", "ddim_uniform"),
    ],
)
def test_a_folder_says_how_to_sample(scheduler: dict[str, object], sampler: str, schedule: str) -> None:
    defaults = folder(family("sd1").spec, 512, scheduler).defaults
    assert (defaults.sampler, defaults.schedule, defaults.steps) == (sampler, schedule, 50)


def test_a_folder_says_whether_no_negative_prompt_is_zeros() -> None:
    read = [folder(family("sdxl").spec, 1024, {}, **index) for index in ({}, {"force_zeros_for_empty_prompt": False})]
    assert [spec.zero_empty_negative for spec in read] == [True, False]


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        ({"beta_start": -1}, "beta_start = -1; a number between 0 and 1 is expected"),
        ({"beta_start": 0}, "beta_start = 0"),
        ({"beta_end": 1}, "beta_end = 1"),
        ({"beta_end": 1e-5}, "beta_end = 1e-05; a number between beta_start and 1"),
        ({"num_train_timesteps": 0}, "num_train_timesteps = 0; a positive"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 0}, "shift = 0; a positive number"),
        ({"trained_betas": [0.1] * 1000}, r"trained_betas = \[0.1, .{90,94}\.\.\.; this version"),
    ],
)
def test_noise_levels_of_no_use_are_refused_by_name(scheduler: dict[str, object], said: str) -> None:
    with pytest.raises(SfumatoError, match=said):
        folder(family("sdxl").spec, 1024, scheduler)
