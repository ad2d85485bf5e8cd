"""Pictures that were drawn before the tasks were rebuilt on one loop: the same requests still draw them.

`same_pictures.npz` holds them. To write it anew, for a defect that is mended: delete the entry's name from it and run
this file with SFUMATO_KEEP_PICTURES=1 in the environment; say in the commit why the picture changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sfumato
import tiny
from sfumato.families import family

KEPT = Path(__file__).with_name("same_pictures.npz")
SMALL = {"steps": 3, "cfg": 4.0, "seed": 7, "width": 32, "height": 32, "sampler": "euler", "schedule": "discrete"}
Load = Callable[[str], "sfumato.StableDiffusion"]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """A release as a complete little model with random weights."""
    folder = tmp_path_factory.mktemp("same")

    @cache
    def load(release: str) -> sfumato.StableDiffusion:
        return sfumato.load(tiny.save(folder / release, family(release)))

    yield load
    load.cache_clear()


def picture(width: int = 32, height: int = 32) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([8 * x % 256, 6 * y % 256, 5 * (x + y) % 256], -1).astype(np.uint8))


def hole(width: int = 32, height: int = 32) -> Image.Image:
    mask = Image.new("L", (width, height))
    mask.paste(255, (width // 4, height // 4, 3 * width // 4, 5 * height // 8))
    return mask


def without(*names: str) -> dict[str, object]:
    return {name: value for name, value in SMALL.items() if name not in names}


CASES: dict[str, Callable[[Load], list[Image.Image]]] = {
    "txt2img": lambda load: load("sd1").txt2img("a red heart", "a cat", **SMALL, n=2).images,
    "txt2img of chance": lambda load: load("sd1").txt2img("a {red|blue} {heart|cat}", **SMALL, n=3).images,
    "txt2img language": lambda load: (
        load("sd1").txt2img("a [red:blue:0.5] (heart:1.3) AND a cat :0.5", "[cat|heart]", **SMALL).images
    ),
    "txt2img ancestral": lambda load: load("sd1").txt2img("a cat", **SMALL | {"sampler": "euler_a"}, n=2).images,
    "txt2img sde": lambda load: load("sd1").txt2img("a cat", **SMALL | {"sampler": "dpmpp_2m_sde"}).images,
    "txt2img ddim": lambda load: load("sd1").txt2img("a cat", **SMALL | {"sampler": "ddim"}, clip_skip=2).images,
    "txt2img marked": lambda load: load("sd1").txt2img("a cat", **SMALL | {"width": 256, "height": 256}).images,
    "txt2img variation": lambda load: (
        load("sd1").txt2img("a cat", **SMALL, n=2, variation_seed=5, variation_strength=0.3).images
    ),
    "txt2img nv": lambda load: load("sd1").txt2img("a cat", **SMALL, rng="nv").images,
    "txt2img tiling": lambda load: load("sd1").txt2img("a cat", **SMALL, tiling="x").images,
    "txt2img sigmas": lambda load: (
        load("sd1").txt2img("a cat", **without("steps", "schedule"), sigmas=[9, 2, 0]).images
    ),
    "txt2img hires": lambda load: load("sd1").txt2img("a cat", **SMALL, n=2, hires_scale=2, hires_steps=2).images,
    "txt2img hires lanczos": lambda load: (
        load("sd1").txt2img("a cat", **SMALL, hires_scale=1.5, hires_upscaler="lanczos").images
    ),
    "txt2img guided": lambda load: (
        load("sd1").txt2img("a cat", **SMALL, n=2, pag=2, cfg_rescale=0.5, threshold=95, cfg_interval="20%-80%").images
    ),
    "txt2img apg": lambda load: load("sd1").txt2img("a cat", **SMALL, apg=True).images,
    "txt2img cfg++": lambda load: load("sd1").txt2img("a cat", **SMALL | {"cfg": 0.6}, cfg_pp=True).images,
    "txt2img 2.x": lambda load: load("sd2").txt2img("a cat", **SMALL).images,
    "txt2img xl": lambda load: (
        load("sdxl").txt2img("a cat", **SMALL, refiner=load("sdxl_refiner"), switch_at=0.5, crop=(8, 0)).images
    ),
    "txt2img 3.5": lambda load: load("sd35_medium").txt2img("a cat", **SMALL, n=2, slg=2).images,
    "txt2img inpainting model": lambda load: load("sd1_inpainting").txt2img("a cat", **SMALL).images,
    "img2img": lambda load: load("sd1").img2img(picture(), "a cat", **SMALL, strength=0.7, n=2).images,
    "img2img pad": lambda load: load("sd1").img2img(picture(40, 24), "a cat", **SMALL, resize="pad").images,
    "img2img depth": lambda load: load("sd2_depth").img2img(picture(), "a cat", **SMALL).images,
    "img2img 3.5": lambda load: load("sd35_medium").img2img(picture(), "a cat", **SMALL, strength=0.7).images,
    "inpaint": lambda load: load("sd1").inpaint(picture(), "a cat", mask=hole(), **SMALL, n=2).images,
    "inpaint soft": lambda load: (
        load("sd1").inpaint(picture(), "a cat", mask=hole(), **SMALL, soft=True, strength=0.7, start="original").images
    ),
    "inpaint closely": lambda load: (
        load("sd1").inpaint(picture(64, 64), "a cat", mask=hole(64, 64), **SMALL, only_masked=True, padding=4,
                            start="noise", strength=0.7).images
    ),
    "inpaint odd": lambda load: (
        load("sd1").inpaint(picture(37, 29), "a cat", mask=hole(37, 29), **SMALL | {"width": 40, "height": 32}).images
    ),
    "inpaint by a model for it": lambda load: (
        load("sd1_inpainting").inpaint(picture(), "a cat", mask=hole(), **SMALL, strength=0.7, start="nothing").images
    ),
    "depth2img": lambda load: load("sd2_depth").depth2img(picture(), "a cat", **SMALL, n=2).images,
    "depth2img of depth": lambda load: load("sd2_depth").depth2img(None, "a cat", **SMALL, depth=picture()).images,
    "grid": lambda load: [load("sd1").grid("a cat", "", "steps=2,3", "words=cat,heart", **SMALL)[0]],
    "grid on a picture": lambda load: [load("sd1").grid("a cat", "", "strength=0.5,1", image=picture(), **SMALL)[0]],
    "outpaint": lambda load: load("sd1").outpaint(picture(), "a cat", left=16, bottom=40, **SMALL, n=2).images,
    "interpolate": lambda load: (
        load("sd1").interpolate(["a red heart", "a cat"], seeds=[1, 2], frames=4, **SMALL).images
    ),
    "upscale": lambda load: (
        load("sd1").upscale(picture(), "a cat", **without("width", "height"), n=2, strength=0.8).images
    ),
    "upscale x4": lambda load: (
        load("sd2_upscaler").upscale(picture(16, 12), "a cat", **without("width", "height"), n=2).images
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_same_request_draws_the_same_picture(case: str, load: Load) -> None:
    """The same bytes; on another processor, whose sums are rounded otherwise, a level of brightness here and there."""
    drawn = np.stack([np.asarray(image) for image in CASES[case](load)])
    kept = dict(np.load(KEPT)) if KEPT.exists() else {}
    if case not in kept and os.environ.get("SFUMATO_KEEP_PICTURES"):
        np.savez_compressed(KEPT, **kept, **{case: drawn})
        return
    assert drawn.shape == kept[case].shape
    apart = np.abs(drawn.astype(int) - kept[case])
    assert apart.max() <= int(os.environ.get("SFUMATO_PICTURES_MAY_DIFFER", 2)) and (apart > 0).mean() < 0.02
