"""Every task with every option: it is honoured or clearly refused, and what was drawn is drawn again from its file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import sfumato
import tiny
from sfumato.api import Result, StableDiffusion
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.images.files import save
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.unet import UNet
from sfumato.provenance.read import read
from sfumato.settings.settings import Options
from sfumato.train.config import LoopConfig
from sfumato.train.methods.controlnet import ControlNetTraining
from sfumato.train.steering import fresh
from tiny.adapters import EYE, random_eye, random_ip_adapter, random_lora, strict_checker

Load = Callable[[str], StableDiffusion]
BASE = {"steps": 4, "cfg": 4.0, "seed": 7, "sampler": "euler", "schedule": "discrete"}
SIZE = {"width": 32, "height": 32}
PROMPT = "a red heart"


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """A release as a complete little model with random weights."""
    folder = tmp_path_factory.mktemp("every")

    @cache
    def load(release: str) -> StableDiffusion:
        model = sfumato.load(tiny.save(folder / release, family(release)))
        network = model.denoiser.network  # louder, so that what guides it is seen in eight bits
        (network.proj_out if isinstance(network, MMDiT) else network.conv_out).weight.mul_(8)
        return model

    yield load
    load.cache_clear()


def picture(width: int = 32, height: int = 32) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([8 * x % 256, 6 * y % 256, 5 * (x + y) % 256], -1).astype(np.uint8))


def hole() -> Image.Image:
    mask = Image.new("L", (32, 32))
    mask.paste(255, (8, 8, 24, 20))
    return mask


Task = Callable[[Load, dict[str, Any]], Result]
TASKS: dict[str, Task] = {
    "txt2img": lambda load, o: load("sd1").txt2img(PROMPT, **SIZE | o),
    "txt2img xl": lambda load, o: load("sdxl").txt2img(PROMPT, refiner=load("sdxl_refiner"), **SIZE | o),
    "txt2img 3.5": lambda load, o: load("sd35_medium").txt2img(PROMPT, **SIZE | o),
    "img2img": lambda load, o: load("sd1").img2img(picture(), PROMPT, strength=1, **SIZE | o),
    "inpaint": lambda load, o: load("sd1").inpaint(picture(), PROMPT, mask=hole(), **SIZE | o),
    "outpaint": lambda load, o: load("sd1").outpaint(picture(), PROMPT, right=16, bottom=16, **SIZE | o),
    "depth2img": lambda load, o: load("sd2_depth").depth2img(picture(), PROMPT, strength=1, **SIZE | o),
    "upscale": lambda load, o: load("sd1").upscale(picture(), PROMPT, strength=1, **o),
    "upscale x4": lambda load, o: load("sd2_upscaler").upscale(picture(16, 16), PROMPT, **o),
    "interpolate": lambda load, o: load("sd1").interpolate([PROMPT, "a cat"], frames=2, **SIZE | o),
}
# The middle of a U-Net has one place for 32 pixels, which attends to itself with and without attention.
LARGER = {"width": 64, "height": 64}
# How an option is tried: its value, and what must be said besides for it to mean anything.
TRIED: dict[str, tuple[Any, dict[str, Any]]] = {
    "steps": (3, {}),
    "seed": (9, {}),
    "width": (48, {}),
    "height": (48, {}),
    "sampler": ("heun", {}),
    "schedule": ("karras", {}),
    "sampler_options": ({"s_churn": 1.0}, {}),
    "sigmas": ([9.0, 2.0, 0.0], {"steps": None, "schedule": None, "sigmas": [9.0, 5.0, 0.0]}),
    "clip_skip": (2, {}),
    "n": (2, {}),
    "best_of": (2, {}),
    "aesthetic": (..., {"best_of": 2}),
    "clip_vision": (..., {"best_of": 2}),
    "safety": (..., {}),
    "watermark": (False, {"width": 256, "height": 256, "steps": 1}),
    "variation_seed": (5, {"variation_strength": 0.5}),
    "variation_strength": (0.5, {}),
    "seed_resize": ((16, 48), {}),
    "rng": ("nv", {}),
    "tiling": ("x", {}),
    "hires_scale": (2, {}),
    "hires_strength": (1.0, {"hires_scale": 2}),
    "hires_steps": (3, {"hires_scale": 2}),
    "hires_upscaler": ("lanczos", {"hires_scale": 2}),
    "hires_sampler": ("heun", {"hires_scale": 2}),
    "hires_schedule": ("karras", {"hires_scale": 2}),
    "hires_prompt": ("a blue cat", {"hires_scale": 2}),
    "hires_negative": ("a blue cat", {"hires_scale": 2}),
    "original_size": ((64, 64), {}),
    "crop": ((8, 0), {}),
    "target_size": ((64, 64), {}),
    "aesthetic_score": (0.0, {"switch_at": 0.1, "cfg": 50.0}),
    "switch_at": (0.2, {}),
    "step_cache": ("deepcache:2", {}),
    "token_merging": (0.75, LARGER),
    "decoder": ("tiny", {}),
    "cfg": (2.0, {}),
    "cfg_interval": ("50%-100%", {}),
    "cfg_pp": (True, {"cfg": 0.6}),
    "apg": (True, {}),
    "apg_eta": (0.5, {"apg": True}),
    "apg_norm": (1.0, {"apg": True}),
    "apg_momentum": (0.5, {"apg": True}),
    "cfg_rescale": (0.7, {}),
    "threshold": (90.0, {}),
    "mimic_scale": (2.0, {"threshold": 90}),
    "threshold_limit": (0.5, {"threshold": 90}),
    "pag": (100.0, LARGER),
    "pag_layers": (("up_blocks",), {"pag": 100, **LARGER}),
    "pag_interval": ("50%-100%", {"pag": 100, **LARGER}),
    "slg": (300.0, {"slg_interval": "0%-100%"}),
    "slg_interval": ("0%-50%", {"slg": 300}),
    "clip_guidance": (5000.0, {}),
    "clip_interval": ("0%-50%", {"clip_guidance": 5000}),
    "prompt_syntax": ("plain", {"styles": ("bracketed",)}),
    "emphasis": ("none", {"styles": ("bracketed",)}),
    "wildcards": (..., {"styles": ("chance",)}),
    "styles": (("plain",), {}),
    "styles_file": (..., {"styles": ("plain",)}),
    "lora": (..., {}),
    "lora_partial": (True, {"lora": ...}),
    "embedding": (..., {}),
    "hypernetwork": (..., {}),
    "ip_adapter": (..., {}),
    "control": (..., {}),
    "image_prompt": ("a.png", {}),
    "image_noise": (5, {"image_prompt": "a.png"}),
}
RELEASES = {
    "txt2img xl": "sdxl",
    "txt2img 3.5": "sd35_medium",
    "depth2img": "sd2_depth",
    "upscale x4": "sd2_upscaler",
}
IN_3_5 = {"pag_layers": ("transformer_blocks.0",), "sigmas": [0.9, 0.4, 0.0]}
BESIDE_IN_3_5 = {"sigmas": [0.9, 0.6, 0.0]}


def test_every_option_is_tried() -> None:
    assert set(TRIED) == set(Options.__annotations__)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with styles and wildcards."""
    folder = tmp_path_factory.mktemp("words")
    rows = ['name,prompt,negative_prompt', 'bracketed,"{prompt}, (blue:1.4)",', 'plain,"{prompt}, blue",',
            'chance,"{prompt}, __colour__",']  # fmt: skip
    (folder / "styles.csv").write_text("\n".join(rows) + "\n")
    (folder / "other.csv").write_text('name,prompt,negative_prompt\nplain,"{prompt}, cat",\n')
    for name, content in (("one", "red"), ("two", "blue cat")):
        (folder / name).mkdir()
        (folder / name / "colour.txt").write_text(content + "\n")
    return folder


@pytest.fixture(scope="module")
def adapter(load: Load, words: Path) -> Callable[[str, str], tuple[str]]:
    """The name of an adapter's file for the model of a task. A "strange" LoRA has a layer that no model has; the
    embedding stands for a word of the prompt."""

    @cache
    def adapter(task: str, kind: str) -> tuple[str]:
        model = load(RELEASES.get(task, "sd1"))
        path, ending = words / task / kind / "red.safetensors", ""
        path.parent.mkdir(parents=True)
        if kind == "embedding":
            widths = [tower.cfg.hidden_size for tower in model.encode.towers]
            names = ("clip_l", "clip_g") if len(widths) > 1 else ("emb_params",)
            save_file({name: torch.ones(2, width) for name, width in zip(names, widths, strict=True)}, path)
        elif kind == "hypernetwork":
            path, ending, width = path.with_suffix(".pt"), ":0.9", model.spec.unet.context_dim
            layers = {
                f"linear.{name}": one
                for name, one in torch.nn.Sequential(torch.nn.Linear(width, width)).state_dict().items()
            }
            torch.save({width: (layers, layers)}, path)
        elif kind == "ip_adapter":
            network, eye = model.denoiser.network, path.with_stem("eye")
            save_file(random_eye(), eye)
            width, unet = model.spec.unet.context_dim, isinstance(network, UNet)
            save_file(random_ip_adapter(network, width) if unet else random_lora(network), path)
            picture().save(path.with_suffix(".png"))
            ending = f"={path.with_suffix('.png')},encoder={eye}"
        elif kind == "control":
            torch.manual_seed(0)
            loop = LoopConfig(steps=1, batch=1, lr=1.0)
            sizes = ControlNetTraining(loop=loop, hidden=96, blocks=2)
            channels = model.spec.vae.latent_channels
            network = fresh(model.denoiser.network, sizes, channels)
            louder = {name: value + 0.2 * torch.randn_like(value) for name, value in network.state_dict().items()}
            save_file(louder, path)
            picture().save(path.with_suffix(".png"))
            ending = f"={path.with_suffix('.png')},hint=canny"
        else:
            tensors = random_lora(model.denoiser.network, 0.5, more=["no_layer"] if kind == "strange" else [])
            ending = ":0.9"
            save_file(tensors, path)
        return (f"{path}{ending}",)

    return adapter


def asked(
    task: str, option: str, words: Path, adapter: Callable[[str, str], tuple[str]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options without the one that is tried, and with it."""
    value, context = TRIED[option]
    if task == "txt2img 3.5":
        value = IN_3_5.get(option, value)
        context = {name: BESIDE_IN_3_5.get(name, one) for name, one in context.items()}
    without = {**BASE, **context}
    if "styles" in context or option == "styles":
        without["styles_file"] = str(words / "styles.csv")
    if option == "wildcards":
        without["wildcards"], value = str(words / "one"), str(words / "two")
    if option == "styles_file":
        value = str(words / "other.csv")
    if option in ("lora", "embedding", "hypernetwork", "ip_adapter", "control"):
        value = adapter(task, option)
    if option == "safety":
        value = strict_checker(words / "checker.safetensors")
    if option in ("aesthetic", "clip_vision"):
        liking, eye, other = (str(words / f"{name}.safetensors") for name in ("liking", "eye", "other"))
        save_file(torch.nn.Linear(EYE.projection_dim or 0, 1).state_dict(), liking)
        for seed, path in enumerate((eye, other)):
            save_file(random_eye(seed), path)
        by_eye = {**without, "aesthetic": liking, "clip_vision": eye}
        return (without, by_eye) if option == "aesthetic" else (by_eye, {**by_eye, "clip_vision": other})
    if option == "lora_partial":
        without["lora"] = adapter(task, "strange")
    if task.startswith("upscale"):  # the size follows from the picture's
        without = {name: value for name, value in without.items() if name not in ("width", "height")}
    return without, {**without, option: value}


@pytest.mark.parametrize("option", TRIED)
@pytest.mark.parametrize("task", TASKS)
def test_every_task_honours_or_refuses_every_option(
    task: str,
    option: str,
    load: Load,
    words: Path,
    adapter: Callable[[str, str], tuple[str]],
    drawn: dict[str, Any],
    tmp_path: Path,
) -> None:
    without, given = asked(task, option, words, adapter)

    def draw(options: dict[str, Any]) -> Result:
        key = task + repr(sorted(options.items(), key=lambda pair: pair[0]))
        if key not in drawn:
            drawn[key] = TASKS[task](load, options)
        return drawn[key]

    try:
        plain = draw(without)
        result = draw(given)
    except SfumatoError as error:
        named = {option, *TRIED[option][1]}
        said = str(error).replace("the seed", "seed")
        assert any(name in said or name.replace("_", " ") in said for name in (*named, *SAID.get(option, ()))), error
        return
    same = [one.tobytes() for one in plain.images] == [one.tobytes() for one in result.images]
    same = same and plain.scores == result.scores
    small = option == "watermark" and result.images[0].width < 256
    assert not same or small, "the option changes nothing and is not refused"
    if task == "txt2img" and option != "control":  # whose picture has to be given again, see tests/pipeline/test_hints
        assert_drawn_again(load("sd1"), result, tmp_path)


SAID = {
    "slg": ("skip-layer guidance",), "slg_interval": ("skip-layer guidance",), "best_of": ("best_of",),
    "clip_guidance": ("CLIP",), "pag": ("perturbed-attention",), "pag_layers": ("perturbed-attention",),
    "aesthetic_score": ("aesthetic score", "refiner"), "cfg_pp": ("CFG++",),
}  # fmt: skip


@pytest.fixture(scope="module")
def drawn() -> dict[str, Any]:
    return {}


def assert_drawn_again(model: StableDiffusion, result: Result, folder: Path) -> None:
    """From its file every picture is drawn again, or the recipe says what of it cannot be repeated."""
    for k, (image, text) in enumerate(zip(result.images, result.infotexts, strict=True)):
        save(image, folder / f"{k}.png", text)
        recipe = read(folder / f"{k}.png")
        again = model.replay(folder / f"{k}.png")
        assert recipe.lost or again.images[0].tobytes() == image.tobytes(), text


REPLAYED_ON = {"img2img": "sd1", "depth2img": "sd2_depth"}
SAID_LOST = ("inpaint", "outpaint", "upscale", "upscale x4", "interpolate", "txt2img xl")


@pytest.mark.parametrize("task", [*REPLAYED_ON, *SAID_LOST])
def test_what_was_drawn_is_drawn_again_or_the_recipe_says_what_is_lost(task: str, load: Load, tmp_path: Path) -> None:
    result = TASKS[task](load, BASE | {"sampler_options": {}})
    for k, (image, text) in enumerate(zip(result.images, result.infotexts, strict=True)):
        save(image, tmp_path / f"{k}.png", text)
        recipe = read(tmp_path / f"{k}.png")
        if task in REPLAYED_ON:
            again = load(REPLAYED_ON[task]).replay(tmp_path / f"{k}.png", image=picture())
            assert again.images[0].tobytes() == image.tobytes()
        else:
            assert recipe.lost or recipe.refiner, f"nothing says that {task} is not repeated: {text}"


def test_a_picture_of_many_is_drawn_again_by_itself(load: Load) -> None:
    """Each of several pictures has its own noise under its own seeds, whatever the task."""
    options = BASE | {"n": 3, "variation_seed": 5, "variation_strength": 0.5}
    for task, draw in TASKS.items():
        if task == "interpolate":
            continue
        result = draw(load, options)
        assert len({hashlib.sha256(image.tobytes()).digest() for image in result.images}) == 3, task
        assert len(set(result.infotexts)) == 3, task
        (alone,) = draw(load, options | {"n": 1, "variation_seed": 7}).images
        assert np.abs(np.asarray(alone, int) - np.asarray(result.images[2], int)).max() <= 2, task


def test_an_outpainted_picture_has_one_choice_of_words(load: Load) -> None:
    """Choices fall once for a picture, not anew for each piece that is added to it."""
    draw = load("sd1").outpaint
    options = {**BASE, **SIZE, "right": 80, "left": 40}
    chance = draw(picture(), "a {red|blue} {heart|cat}", **options, n=4)
    for index, text in enumerate(chance.infotexts):
        said = text.splitlines()[0]
        plain = draw(picture(), said, **options | {"seed": BASE["seed"] + index})
        assert np.abs(np.asarray(plain.images[0], int) - np.asarray(chance.images[index], int)).max() <= 2
    best = draw(picture(), "a {red|blue} heart", **options, best_of=3)
    assert best.scores[0] is not None and f"Best of: {3}" in best.infotexts[0]
    again = draw(picture(), best.infotexts[0].splitlines()[0], **options | {"seed": best.seeds[0]})
    assert np.abs(np.asarray(again.images[0], int) - np.asarray(best.images[0], int)).max() <= 2


@pytest.mark.parametrize(
    ("release", "options"), [("sd1", {"pag": 2.0}), ("sd35_medium", {"slg": 2.0, "slg_interval": "0%-100%"})]
)
def test_pictures_of_different_words_share_calls(
    release: str, options: dict[str, Any], load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guidance by a degraded network asks that network about all pictures at once, as the other about all of theirs."""
    model, rows = load(release), []

    for kind in {type(model.denoiser.network)}:
        forward = kind.forward

        def spy(self: Any, x: Any, *rest: Any, forward: Any = forward) -> Any:
            rows.append(len(x))
            return forward(self, x, *rest)

        monkeypatch.setattr(kind, "forward", spy)
    model.txt2img("a {red heart|blue cat}", **BASE | SIZE | options, n=4)
    assert rows == [8, 4] * BASE["steps"]
