"""What a ControlNet will add: a guide that gives every question residuals, with nothing else changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import sfumato
import tiny
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Row
from sfumato.diffusion.guidance import Estimate, Guide
from sfumato.families import family
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.unet import UNet
from sfumato.pipeline.conditioning import guidance
from sfumato.pipeline.events import Picture
from sfumato.pipeline.generate import Plan, generate
from sfumato.pipeline.model import Model
from sfumato.pipeline.sampling import SamplingRun
from sfumato.settings.settings import Settings

Control = Callable[[Row], tuple[Tensor, ...]]
SMALL = {"steps": 3, "cfg": 3.0, "seed": 7, "width": 32, "height": 32, "sampler": "euler", "watermark": False}


def controlled(guide: Guide, control: Control) -> Guide:
    """The guide with `control` of every row that it asks."""

    def denoise(x: Tensor, sigma: float) -> Estimate:
        inner, answers = guide(x, sigma), None
        while True:
            try:
                rows = next(inner) if answers is None else inner.send(answers)
            except StopIteration as stop:
                return stop.value
            answers = yield [replace(row, control=control(row)) for row in rows]

    return denoise


def residuals(network: nn.Module, x: Tensor, cond: Cond) -> tuple[Tensor, ...]:
    """Ones in the shapes that a network of a family adds: tokens of a transformer, or every skip and the middle."""
    if isinstance(network, MMDiT):
        _, _, h, w = x.shape
        return (torch.ones(1, h * w // network.cfg.patch**2, network.cfg.hidden),)
    assert isinstance(network, UNet)
    shapes: list[torch.Size] = []
    levels = [(*level.resnets, *getattr(level, "downsamplers", ())) for level in network.down_blocks]
    parts = (network.conv_in, *(part for level in levels for part in level), network.mid_block)
    hooks = [part.register_forward_hook(lambda _, __, result: shapes.append(result.shape)) for part in parts]
    network(x, torch.zeros(1), cond)
    for hook in hooks:
        hook.remove()
    return tuple(torch.ones(shape) for shape in shapes)


def draw(model: Model, strength: float, **options: object) -> list[Image.Image]:
    settings = Settings.of(model.spec, "a cat", **SMALL | options)
    model = model.for_request(settings)
    run = SamplingRun.of(model, settings)
    made: list[tuple[Tensor, ...]] = []

    def control(row: Row) -> tuple[Tensor, ...]:
        if not made:
            made.append(tuple(strength * one for one in residuals(model.loaded.network, row.x, row.cond)))
        return made[0]

    def one(settings: Settings):
        return guidance(model, settings, run.sigmas).through(lambda guide: controlled(guide, control))

    events = generate(model, settings, Plan.of(model, run, one))
    return [event.image for event in events if isinstance(event, Picture)]


@pytest.mark.parametrize("release", ["sd1", "sdxl", "sd35_medium"])
@torch.no_grad()
def test_control_is_a_guide_more_whatever_the_family(release: str, tmp_path: Path) -> None:
    model = sfumato.load(tiny.save(tmp_path / release, family(release)))
    network = model.denoiser.network  # louder, so that it is seen in eight bits
    (network.proj_out if isinstance(network, MMDiT) else network.conv_out).weight.mul_(8)
    (plain,) = model.txt2img("a cat", **SMALL).images
    (without,), (changed,) = draw(model, 0), draw(model, 1)
    assert without.tobytes() == plain.tobytes()
    assert changed.tobytes() != plain.tobytes()
    (tiled,), (both,) = draw(model, 0, tiling="x"), draw(model, 1, tiling="x", pag=2.0)
    assert both.tobytes() != tiled.tobytes(), "and with other views of the network"
    first, second = (np.asarray(image, int) for image in draw(model, 1, n=2))
    assert np.abs(first - np.asarray(changed, int)).max() <= 2 < np.abs(second - first).max()
