"""Pictures steered by ControlNets: strengths, steps, modes, several, and every task."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel
from PIL import Image, ImageDraw
from torch import nn

import sfumato
from sfumato import Control, SfumatoError
from sfumato.api import StableDiffusion
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Finished, drive
from sfumato.pipeline.conditioning import conditioning, guidance
from sfumato.pipeline.sampling import SamplingRun
from sfumato.provenance.read import read
from sfumato.settings.settings import Settings
from sfumato.tasks.replay import replay

SMALL = {"steps": 4, "cfg": 3.0, "seed": 7, "width": 32, "height": 32, "sampler": "euler", "watermark": False}


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ControlNets `one` and `two` and a T2I-Adapter `t2i` for the tiny model."""
    folder = tmp_path_factory.mktemp("controls")
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        network = ControlNetModel(
            block_out_channels=(32, 64), layers_per_block=1, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            cross_attention_dim=32, attention_head_dim=2,
        )  # fmt: skip
        for conv in (*network.controlnet_down_blocks, network.controlnet_mid_block):
            nn.init.normal_(conv.weight, std=0.3)
        nn.init.normal_(network.controlnet_cond_embedding.conv_out.weight, std=0.3)
        network.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


@pytest.fixture(scope="module")
def shape() -> Image.Image:
    image = Image.new("RGB", (48, 32), "white")
    ImageDraw.Draw(image).ellipse((8, 6, 38, 28), fill="black")
    return image


def drawn(sd: StableDiffusion, *controls: Control | str, **options: object) -> np.ndarray:
    return np.asarray(sd.txt2img("a cat", control=list(controls), **{**SMALL, **options})[0]).astype(int)


def test_a_hint_changes_the_picture_and_nothing_of_it_stays(
    sd: StableDiffusion, networks: Path, shape: Image.Image
) -> None:
    before = drawn(sd)
    one = Control(networks / "one", shape)
    steered = drawn(sd, one)
    assert np.abs(steered - before).max() > 20
    assert np.array_equal(drawn(sd, replace(one, weight=0)), before)
    assert np.array_equal(drawn(sd), before)
    assert np.array_equal(drawn(sd, one), steered)
    assert not np.array_equal(drawn(sd, replace(one, hint="invert")), steered)
    both = drawn(sd, one, Control(networks / "two", shape))
    assert not np.array_equal(both, steered)
    assert np.array_equal(drawn(sd, one, replace(one, model=str(networks / "two"), weight=0)), steered)


def weights(sd: StableDiffusion, control: Control, negative: bool = False) -> list[list[float]]:
    """The strengths of a control's residuals at each of five steps."""
    settings = Settings.of(sd.spec, "a cat", control=[control], **{**SMALL, "steps": 5})
    model, sigmas = sd.for_request(settings), torch.tensor([5.0, 4, 3, 2, 1, 0])
    made = conditioning(model, settings, sigmas)
    scheduled = made.negative if negative else made.branches[0][0]
    conds: list[Cond] = [scheduled.at(sigma) for sigma in sigmas[:-1].tolist()]
    return [cond.hint_weights[0][0].tolist() for cond in conds]


def test_strengths_follow_steps_modes_and_blocks(sd: StableDiffusion, networks: Path, shape: Image.Image) -> None:
    one = Control(networks / "one", shape, weight=0.5)
    assert weights(sd, one) == weights(sd, one, negative=True) == [[0.5] * 5] * 5
    # As diffusers: a step has it that begins at or after the start and ends at or before the end.
    part = weights(sd, replace(one, start=0.2, end=0.65))
    assert [row[0] for row in part] == [0, 0.5, 0.5, 0, 0]
    soft = [pytest.approx(0.5 * 0.825**k) for k in (4, 3, 2, 1, 0)]
    assert weights(sd, replace(one, mode="prompt")) == weights(sd, replace(one, mode="prompt"), True) == [soft] * 5
    assert weights(sd, replace(one, mode="control")) == [soft] * 5
    assert weights(sd, replace(one, mode="control"), negative=True) == [[0.0] * 5] * 5
    assert weights(sd, replace(one, blocks=(0, 0.5, 1, 1, 2)))[0] == [0, 0.25, 0.5, 0.5, 1]
    with pytest.raises(SfumatoError, match="has 5 blocks, and `blocks` gives 2 strengths"):
        weights(sd, replace(one, blocks=(1, 2)))


def test_pictures_of_different_hints_share_network_calls(
    sd: StableDiffusion, networks: Path, shape: Image.Image
) -> None:
    many = [Control(networks / "one", shape.rotate(angle), weight=0.5 + angle / 100) for angle in (0, 40)]
    settings = [Settings.of(sd.spec, "a cat", control=[one], **SMALL) for one in many]
    views = [sd.for_request(one) for one in settings]
    assert views[0].denoiser is views[1].denoiser


def test_every_task_takes_a_hint(sd: StableDiffusion, networks: Path, shape: Image.Image, model: str) -> None:
    name, picture = str(networks / "one"), shape.resize((32, 32))
    mask = Image.new("L", (32, 32))
    ImageDraw.Draw(mask).rectangle((8, 8, 20, 20), fill=255)
    options = {name: value for name, value in SMALL.items() if name not in ("width", "height")}
    tasks = {
        "img2img": lambda **more: sd.img2img(picture, "a cat", **options, **more),
        "inpaint": lambda **more: sd.inpaint(picture, "a cat", mask=mask, **options, **more),
        "only masked": lambda **more: sd.inpaint(picture, "a cat", mask=mask, only_masked=True, width=32, height=32,
                                                 **options, **more),
        "outpaint": lambda **more: sd.outpaint(picture, "a cat", right=8, **options, **more),
        "hires": lambda **more: sd.txt2img("a cat", hires_scale=2, **SMALL, **more),
    }  # fmt: skip
    for task, draw in tasks.items():
        own = task == "hires"
        control = [Control(name, picture if own else None)]
        plain, steered = (np.asarray(draw(**more)[0]).astype(int) for more in ({}, {"control": control}))
        assert plain.shape == steered.shape and np.abs(plain - steered).max() > 5, task
        if not own and task != "outpaint":
            given = draw(control=[Control(name, picture)])
            if "mask" in task or task == "inpaint":
                assert np.abs(np.asarray(given[0]).astype(int) - steered).max() < 60, task
            else:
                assert np.array_equal(np.asarray(given[0]), steered), task
    with pytest.raises(SfumatoError, match="in pieces"):
        sd.outpaint(picture, "a cat", right=8, control=[Control(name, picture)], **options)
    with pytest.raises(SfumatoError, match="has no picture; give one"):
        sd.txt2img("a cat", control=[Control(name)], **SMALL)


def test_windows_of_a_large_picture_see_their_part_of_the_hint(
    sd: StableDiffusion, networks: Path, shape: Image.Image
) -> None:
    picture, small = shape.resize((32, 32)), copy.copy(sd)
    small.spec = replace(sd.spec, defaults=replace(sd.spec.defaults, width=32, height=32))
    options = {name: value for name, value in SMALL.items() if name not in ("width", "height")}
    control = Control(networks / "one")
    plain, steered, windows = (
        np.asarray(one.upscale(picture, "a cat", scale=2, strength=0.8, **more, **options)[0]).astype(int)
        for one, more in ((sd, {}), (sd, {"control": [control]}), (small, {"control": [control]}))
    )
    assert np.abs(plain - steered).max() > 5 and np.abs(steered - windows).max() > 0
    assert np.abs(steered - windows).mean() < np.abs(steered - plain).mean()


def test_the_settings_of_a_picture_say_what_steered_it(sd: StableDiffusion, networks: Path, tmp_path: Path) -> None:
    shape_file = tmp_path / "a, b.png"
    Image.new("RGB", (32, 32), "red").save(shape_file)
    control = Control(networks / "one", shape_file, hint="canny", weight=0.7, end=0.8, mode="prompt")
    text = sd.txt2img("a cat", control=[control], **SMALL)[0].infotext
    line = 'ControlNet 0: "Module: canny, Model: one'
    assert line in text
    said = text.partition('ControlNet 0: "')[2].partition('"')[0]
    read = Control.read(said)
    assert (read.hint, read.weight, read.start, read.end, read.mode) == ("canny", 0.7, 0, 0.8, "prompt")
    assert read.model == "one" and read.image is None


def test_controls_are_read_from_words() -> None:
    read = Control.parse("canny.safetensors=a=b,c.png,hint=canny,weight=0.8,end=.5")
    assert (read.model, read.image, read.hint, read.weight, read.end) == (
        "canny.safetensors",
        "a=b,c.png",
        "canny",
        0.8,
        0.5,
    )
    assert Control.parse("tile").image is None
    for text, message in (
        ("=a.png", "give a model and a picture"),
        ("a=b.png,weight=much", "weight is 'much'; give a number"),
        ("a=b.png,hint=foo", "unknown hint 'foo'"),
        ("a=b.png,start=0.9,end=0.1", "let it end later"),
    ):
        with pytest.raises((SfumatoError, ValueError), match=message):
            Control.parse(text)


def test_a_steered_picture_is_drawn_again(
    sd: StableDiffusion, networks: Path, shape: Image.Image, tmp_path: Path
) -> None:
    control = Control(networks / "one", shape, hint="canny", weight=0.7, end=0.8, mode="prompt")
    first = sd.txt2img("a cat", control=[control], **SMALL)
    text = first[0].infotext.replace("Model: one", f"Model: {networks / 'one'}", 1)
    (tmp_path / "a.txt").write_text(text)
    assert sd.replay(tmp_path / "a.txt", hints=[shape])[0] == first[0]
    recipe = read(tmp_path / "a.txt")
    replay(sd, recipe)
    assert recipe.lost == [f"ControlNet 0 ({networks / 'one'}), whose picture the file does not hold; give it with "
                           "--control-picture"]  # fmt: skip
    recipe = read(tmp_path / "a.txt")
    recipe.controls = [replace(control, model="other [0123456789]", image=None)]
    replay(sd, recipe)
    assert "there is no adapter '0123456789'" in recipe.lost[0]


def test_the_web_ui_says_what_steered_a_picture() -> None:
    said = (
        "Module: softedge_pidinet, Model: control_v11p_sd15_softedge [a8575a2a], Weight: 0.6, Resize Mode: Resize and "
        "Fill, Low Vram: False, Processor Res: 512, Guidance Start: 0.1, Guidance End: 0.9, Pixel Perfect: True, "
        "Control Mode: ControlNet is more important, Hr Option: Both, Save Detected Map: True"
    )
    control = Control.read(said)
    assert control.name_and_hash == ("control_v11p_sd15_softedge", "a8575a2a")
    assert (control.hint, control.weight, control.start, control.end) == ("gradient", 0.6, 0.1, 0.9)
    assert (control.mode, control.resize) == ("control", "pad")


@torch.no_grad()
def test_a_batch_of_different_hints_and_strengths_is_each_picture_alone(
    sd: StableDiffusion, networks: Path, shape: Image.Image
) -> None:
    files = [networks / "one", networks / "two"]
    asked = [(0.9, 0.0, 0), (0.4, 0.7, 40), (0.0, 0.8, 90), (0.0, 0.0, 0)]  # strengths of both, and the hint's angle
    each = [
        Settings.of(sd.spec, "a cat", control=[Control(file, shape.rotate(angle), weight=weight)
                    for file, weight in zip(files, weights, strict=True)], **SMALL | {"seed": angle})
        for *weights, angle in asked
    ]  # fmt: skip
    views = [sd.for_request(one) for one in each]
    network, calls = views[0].denoiser.network, []
    hook = network.register_forward_pre_hook(lambda module, given: calls.append(len(given[0])))

    def latents(several: list[Settings]) -> list[torch.Tensor]:
        runs = [SamplingRun.of(sd, one) for one in several]
        jobs = [
            run.job(guidance(view, one, run.sigmas), one)
            for run, one, view in zip(runs, several, [views[each.index(one)] for one in several], strict=True)
        ]
        return [
            event.x for _, event in sorted(drive(jobs, 16), key=lambda pair: pair[0]) if isinstance(event, Finished)
        ]

    together = latents(each)
    assert set(calls) == {2 * len(each)}, "prompts and negative prompts of all in one call"
    hook.remove()
    for one, made in zip(each, together, strict=True):
        assert torch.allclose(latents([one])[0], made, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-2)
