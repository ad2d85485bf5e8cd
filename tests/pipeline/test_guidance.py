"""The options about guidance: what each changes, what is refused, and what is told of it."""

import pytest
import torch

import sfumato
from sfumato.api import StableDiffusion
from sfumato.errors import SfumatoError
from sfumato.families import family, sd1
from sfumato.pipeline.guidance import clip_score
from sfumato.provenance import infotext
from sfumato.settings.guidance import GuidanceSettings
from sfumato.settings.option import written
from sfumato.settings.settings import Settings

SMALL = {"steps": 4, "cfg": 5.0, "seed": 3, "width": 16, "height": 16, "watermark": False, "sampler": "euler"}


@pytest.fixture(scope="module")
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


def drawn(sd: StableDiffusion, **options: object) -> tuple[bytes, dict[str, str]]:
    result = sd.txt2img("a cat", **SMALL | options)
    return result.images[0].tobytes(), infotext.parse(result.infotexts[0])[2]


OPTIONS = [
    ({"cfg_interval": "25%-75%"}, {"CFG Interval": "25%-75%"}),
    ({"cfg_pp": True}, {"Sampler": "Euler CFG++", "CFG scale": "5"}),
    ({"apg": True}, {"APG Eta": "0", "APG Norm Threshold": "15", "APG Momentum": "-0.5"}),
    ({"cfg_rescale": 0.7}, {"CFG Rescale": "0.7"}),
    ({"threshold": 90, "mimic_scale": 2}, {"Threshold percentile": "90", "Mimic scale": "2"}),
    ({"threshold": 90, "threshold_limit": 0.5}, {"Threshold percentile": "90", "Threshold limit": "0.5"}),
    ({"pag": 3}, {"PAG Scale": "3"}),
    ({"pag": 3, "pag_layers": ["up_blocks.1"]}, {"PAG Scale": "3", "PAG Layers": "up_blocks.1"}),
    ({"clip_guidance": 500}, {"CLIP Guidance Scale": "500"}),
]


@pytest.mark.parametrize(("options", "said"), OPTIONS, ids=lambda value: "-".join(value))
def test_every_option_changes_the_picture_and_is_told(sd, options: dict, said: dict) -> None:
    plain, facts = drawn(sd)
    picture, told = drawn(sd, **options)
    assert picture != plain
    assert {name: told[name] for name in said} == said
    assert drawn(sd, **options)[0] == picture
    assert {name for name in told if name not in facts} == set(said) - {"Sampler", "CFG scale"}


@pytest.mark.parametrize("option", ["pag", "clip_guidance"])
def test_outside_its_interval_a_guidance_does_nothing(sd, option: str) -> None:
    name = option.removesuffix("_guidance") + "_interval"
    nowhere = drawn(sd, **{option: 300.0, name: "900-1000"})[0]
    assert nowhere == drawn(sd)[0] != drawn(sd, **{option: 300.0, name: "0%-50%"})[0]


def test_guidance_in_no_step_is_none(sd) -> None:
    assert drawn(sd, cfg_interval="900-1000")[0] == drawn(sd, cfg=1.0)[0] != drawn(sd)[0]
    # Outside its interval CFG++ keeps the noise that all others keep.
    assert drawn(sd, cfg_pp=True, cfg_interval="900-1000")[0] == drawn(sd, cfg=1.0)[0]


def test_all_together_and_a_batch_holds_the_pictures_of_its_seeds(sd) -> None:
    options = {"apg": True, "cfg_rescale": 0.3, "threshold": 95, "pag": 1.0, "clip_guidance": 50.0}
    both = sd.txt2img("a cat", **SMALL | options, cfg_interval="10%-90%", n=2).images
    alone = [
        sd.txt2img("a cat", **SMALL | options | {"seed": seed}, cfg_interval="10%-90%").images[0] for seed in (3, 4)
    ]
    assert [image.tobytes() for image in both] == [image.tobytes() for image in alone]


def test_the_scale_of_cfg_pp_is_small_unless_it_is_said() -> None:
    assert Settings.of(sd1.SPEC, "a cat", sampler="ddim", cfg_pp=True).cfg == 0.6
    assert Settings.of(sd1.SPEC, "a cat", sampler="ddim", cfg_pp=True, cfg=0.9).cfg == 0.9


def test_clip_guidance_raises_the_score(sd) -> None:
    """Of what the network makes of one place: that is what its gradient is for."""
    score = clip_score(sd, "a red heart")
    with torch.enable_grad():
        x0 = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
        before = score(x0)
        (slope,) = torch.autograd.grad(before.sum(), x0)
    step = slope / slope.norm()
    assert score(x0 + 0.1 * step) > before > score(x0 - 0.1 * step)


def test_clip_guidance_in_inference_mode_draws_the_same(sd) -> None:
    options = {"clip_guidance": 300.0}
    with torch.inference_mode():
        inside = drawn(sd, **options)[0]
    assert inside == drawn(sd, **options)[0]


def test_a_refiner_is_guided_in_the_same_way(sd, model: str) -> None:
    options = {"cfg_pp": True, "pag": 2.0, "steps": 10}
    alone = drawn(sd, **options)[0]
    assert drawn(sd, **options, refiner=sfumato.load(model))[0] == alone


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cfg_interval": "5-1"}, "cfg_interval is '5-1'; give the lower noise level first"),
        ({"pag_interval": "now"}, "noise levels such as 0.28-5.4, or shares of the steps such as 20%-80%"),
        ({"clip_interval": (1, 2)}, r"clip_interval is \(1, 2\)"),
        ({"cfg_pp": 1}, "cfg_pp is 1; choose True or False"),
        ({"cfg_pp": True, "sampler": "heun"}, r"Heun has no CFG\+\+; choose one of ddim, ddpm, euler, euler_ancestral"),
        ({"apg_norm": -1}, "apg_norm is -1; choose a number from 0"),
        ({"apg_momentum": 2}, "apg_momentum is 2"),
        ({"threshold": 101}, "threshold is 101; choose a number from 0 to 100, such as 99.5"),
        ({"threshold_limit": 0}, "threshold_limit is 0"),
        ({"pag": "strong"}, "pag is 'strong'"),
        ({"pag": 3, "pag_layers": "mid_block"}, "pag_layers is 'mid_block'; give names in brackets"),
        ({"pag": 3, "pag_layers": ("attic",)}, "no self-attention in 'attic'; it has them in .*mid_block"),
        ({"apg_norm": 3}, "apg_norm without apg changes nothing; give apg as well"),
        ({"threshold": 9, "mimic_scale": 3, "threshold_limit": 1}, "exclude each other"),
        ({"slg": 2}, "1.x has no skip-layer guidance"),
        ({"clip_guidance": float("nan")}, "clip_guidance is nan"),
    ],
)
def test_what_cannot_be_honoured_is_refused_at_once(sd, options: dict, words: str) -> None:
    with pytest.raises(SfumatoError, match=words):
        sd.stream("a cat", **SMALL | options)


def test_skip_layers_of_a_release_may_be_moved_to_other_steps() -> None:
    spec = family("sd35_medium").spec
    settings = Settings.of(spec, "a cat", slg=2.5, slg_interval="50%-100%")
    assert written(GuidanceSettings, settings, spec.defaults) == {"SLG Scale": 2.5, "SLG Interval": "50%-100%"}
