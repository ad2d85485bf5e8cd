"""What other people's files say of themselves: it is used, a user's word wins, and contradictions are said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sfumato
import tiny
from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.families import family
from sfumato.loading.convert import convert
from sfumato.loading.load import load_parts
from sfumato.loading.resolve import Overrides, opened_model
from sfumato.loading.save import save_folder
from sfumato.spec import Spec

EMPTY = torch.zeros(0)
MODELSPEC = {"modelspec.architecture": "stable-diffusion-xl-v1-base", "modelspec.prediction_type": "v"}
BASE = {
    "modelspec.architecture": "stable-diffusion-v2-512",
    "modelspec.prediction_type": "epsilon",
    "modelspec.resolution": "512x512",
}
Read = Callable[..., Spec]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """`read("sdxl", {metadata}, {tensors}, yaml text, **overrides)`: how a little file is taken."""

    def read(
        name: str,
        metadata: dict[str, str] | None = None,
        extra: dict[str, torch.Tensor] | None = None,
        yaml: str | None = None,
        **overrides: object,
    ) -> Spec:
        owner = family(name)
        spec = tiny.shrink(owner.spec)
        state = tiny.tensors(owner, spec, tiny.random_networks(owner, spec), "original")
        path = tiny.write_file(tmp_path / "model.safetensors", state | (extra or {}), metadata)
        if yaml is not None:
            path.with_suffix(".yaml").write_text(yaml)
        load_parts(path, **overrides)
        with opened_model(path, overrides=Overrides(**overrides)) as model:
            return model.spec

    return read


def of(spec: Spec) -> tuple[str, str, bool, int]:
    return spec.variant, spec.prediction, spec.noise.zero_terminal_snr, spec.defaults.width


@pytest.mark.parametrize("shape", [(0,), (), (1,)])
def test_marker_tensors(read: Read, shape: tuple[int, ...]) -> None:
    marks = {"v_pred": torch.zeros(shape), "ztsnr": torch.zeros(shape)}
    spec = read("sdxl", extra=marks)
    assert of(spec) == ("base", "v", True, 1024)
    assert spec.defaults.schedule == "trailing"
    assert of(read("sd1", extra={"v_pred": torch.zeros(shape)})) == ("", "v", False, 512)


def test_modelspec(read: Read) -> None:
    assert of(read("sdxl", MODELSPEC)) == ("base", "v", False, 1024)
    assert of(read("sd2", BASE)) == ("base", "eps", False, 512)
    assert of(read("sd2", {"modelspec.architecture": "stable-diffusion-v2-768-v/lora"})) == ("768-v", "v", False, 768)
    assert of(read("sd1", {"modelspec.resolution": "768x768"})) == ("", "eps", False, 768)
    assert of(read("sd1", {"modelspec.resolution": "7x123456", "modelspec.prediction_type": "?"}))[3] == 512


@pytest.mark.parametrize(
    ("yaml", "prediction", "zero"),
    [
        ('model:\n  params:\n    parameterization: "v"\n', "v", False),
        ("model:\n  params:\n    parameterization: eps  # as before\n", "eps", False),
        ("scaling_config:\n  target: sgm.modules.diffusionmodules.denoiser_scaling.VScaling\n", "v", False),
        ("    parameterization: v\n    zero_snr: true\n", "v", True),
        ("    parameterization: 'v'\r\n    rescale_betas_zero_snr: True\r\n", "v", True),
        ("model: {params: {parameterization: v}}\n", "v", False),
        ("    # parameterization: v\n    parameterization: eps\n", "eps", False),
    ],
)
def test_the_web_uis_configuration_beside_the_file(read: Read, yaml: str, prediction: str, zero: bool) -> None:
    assert of(read("sdxl", yaml=yaml))[1:3] == (prediction, zero)


def test_a_configuration_of_latent_diffusion_that_does_not_say_predicts_the_noise(read: Read) -> None:
    yaml = "model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params:\n    linear_start: 0.00085\n"
    assert of(read("sd2", yaml=yaml)) == ("base", "eps", False, 512)
    assert of(read("sd2", yaml=f"{yaml}    parameterization: v\n")) == ("768-v", "v", False, 768)


@pytest.mark.parametrize("yaml", ["nothing: of this kind\n", "", "scaling_config:\n  target: a.EDMScaling\n"])
def test_a_configuration_that_says_nothing_is_left_alone_with_a_word(read: Read, yaml: str) -> None:
    with pytest.warns(SfumatoWarning, match="model.yaml says nothing that is known here of what model.safetensors"):
        assert of(read("sdxl", yaml=yaml)) == ("base", "eps", False, 1024)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"ss_base_model_version": "sd_v2"}, ("base", "eps")),
        ({"ss_base_model_version": "sd_v2_768_v"}, ("768-v", "v")),
        ({"prediction_type": " epsilon "}, ("base", "eps")),
        ({"modelspec.prediction_type": "V-Prediction"}, ("768-v", "v")),
        ({"modelspec.architecture": "stable-diffusion-v2-512", "ss_v_parameterization": "True"}, ("768-v", "v")),
        ({"modelspec.prediction_type": "epsilon" * 1000}, ("768-v", "v")),
    ],
)
def test_other_trainers_words(read: Read, metadata: dict[str, str], expected: tuple[str, str]) -> None:
    assert of(read("sd2", metadata))[:2] == expected


def test_a_users_word_wins(read: Read) -> None:
    marks = {"v_pred": EMPTY, "ztsnr": EMPTY}
    assert of(read("sdxl", extra=marks, prediction="eps", zero_snr=False))[1:3] == ("eps", False)
    assert of(read("sdxl", prediction="v", zero_snr=True))[1:3] == ("v", True)
    assert of(read("sd2", BASE, variant="768-v")) == ("768-v", "v", False, 768)
    assert of(read("sd2", prediction="eps")) == ("base", "eps", False, 512)
    with pytest.raises(SfumatoError, match="predicts 'flow', which has no zero terminal SNR"):
        read("sd3_medium", zero_snr=True)


def test_contradictions_are_said(read: Read) -> None:
    with pytest.warns(
        SfumatoWarning, match="prediction is v by the tensor v_pred, but eps by modelspec.prediction_type"
    ):
        assert read("sdxl", {"modelspec.prediction_type": "epsilon"}, {"v_pred": EMPTY}).prediction == "v"
    with pytest.warns(SfumatoWarning, match="prediction is eps by modelspec.prediction_type, but v by model.yaml"):
        assert read("sd2", BASE, yaml="parameterization: v").prediction == "eps"
    with pytest.warns(SfumatoWarning, match="says in modelspec.architecture that it is another model"):
        assert read("sd1", MODELSPEC).family == "sd1"


def test_an_absurd_configuration_is_refused(read: Read) -> None:
    with pytest.raises(SfumatoError, match="has 1,048,577 bytes; the limit here is 1,048,576"):
        read("sd1", yaml="#" * (1 << 20 | 1))


def test_playground_is_told_by_its_marks(tmp_path: Path, read: Read) -> None:
    spec = read("sdxl", extra={"edm_mean": torch.zeros(1, 4, 1, 1), "edm_std": torch.ones(1, 4, 1, 1)})
    assert (spec.title, spec.prediction, spec.noise.kind) == ("Playground 2.5", "edm", "karras")
    assert spec.vae.scale == 0.5 and len(spec.vae.mean) == len(spec.vae.std) == 4
    convert(tmp_path / "model.safetensors", tmp_path / "folder", "diffusers")
    convert(tmp_path / "folder", tmp_path / "back.safetensors", "original")
    for path in ("folder", "back.safetensors"):
        with opened_model(tmp_path / path) as model:
            again = model.spec
        for name in ("title", "prediction", "noise", "vae", "defaults", "discrete_timesteps", "zero_empty_negative"):
            assert getattr(again, name) == getattr(spec, name), name
    with opened_model(tmp_path / "folder", overrides=Overrides(variant="base")) as model:
        assert (model.spec.prediction, model.spec.noise.kind, model.spec.vae.mean) == ("eps", "scaled_linear", ())


def test_a_network_that_is_told_the_guidance_scale(tmp_path: Path) -> None:
    owner = family("sd1")
    small = tiny.shrink(owner.spec)
    defaults = replace(small.defaults, steps=4, cfg=8.0, sampler="lcm", schedule="trailing")
    spec = replace(small, unet=replace(small.unet, guidance_dim=16), defaults=defaults)
    tiny.WORDS.save(tmp_path / "words")
    save_folder(tmp_path / "folder", spec, tiny.random_networks(owner, spec), tmp_path / "words")
    convert(tmp_path / "folder", tmp_path / "model.safetensors", "original")
    for path in ("folder", "model.safetensors"):
        model = sfumato.load(tmp_path / path)
        assert model.spec.unet.guidance_dim == 16
        assert model.spec.defaults == defaults
        size = {"width": 64, "height": 64, "seed": 1, "watermark": False}
        strong, weak, same = (model.txt2img("a red heart", cfg=cfg, **size).images[0].tobytes() for cfg in (8, 2, 8))
        assert strong == same != weak


def test_levels_between_two_ends(tmp_path: Path, read: Read) -> None:
    marks = {"edm_vpred.sigma_max": torch.tensor(80.0), "edm_vpred.sigma_min": torch.tensor(0.25)}
    spec = read("sdxl", extra=marks)
    assert (spec.prediction, spec.noise.kind, spec.noise.start, spec.noise.end) == ("v", "karras", 0.25, 80)
    convert(tmp_path / "model.safetensors", tmp_path / "folder", "diffusers")
    with opened_model(tmp_path / "folder") as model:
        assert (model.spec.noise, model.spec.prediction) == (spec.noise, "v")
    with pytest.raises(SfumatoError, match=r"says in edm_vpred\.sigma_max that a noise level is -1"):
        read("sdxl", extra={"edm_vpred.sigma_max": torch.tensor(-1.0)})
