"""Draw the pictures of README and docs with the model that ships; tests/docs compares the files with what it draws.

python tools/docs_pictures.py [NAME ...]     # all of them, or those named; some minutes on one core

A figure is rows of cells with a label under each. Seeds and prompts stand here and nowhere else.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageChops, ImageDraw, ImageFont

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "src")]

import sampler_curve  # noqa: E402
import sfumato  # noqa: E402
from sfumato.api import StableDiffusion  # noqa: E402
from sfumato.images.control.canny import canny  # noqa: E402

DOCS = ROOT / "docs"
HELD_OUT = DOCS / "held-out.webp"  # six emoji that training never saw, as the emoji set has them, side by side
GAP, LABEL, MARGIN = 6, 18, 4
Draw = Callable[[], Image.Image]


@cache
def model(name: str | None = None) -> StableDiffusion:
    return sfumato.load(name, device="cpu")


@dataclass(frozen=True)
class Cell:
    """One picture of a figure: how it is drawn, its label, and how many times as wide as high it is shown."""

    draw: Draw
    label: str = ""
    aspect: float = 1.0


@dataclass(frozen=True)
class Figure:
    """Rows of cells, each `height` pixels high. `lossless` keeps every pixel in the file, `quality`
    is WebP's for the others."""

    rows: Sequence[Sequence[Cell]]
    height: int = 128
    lossless: bool = False
    quality: int = 90

    def boxes(self) -> Iterator[tuple[Cell, tuple[int, int, int, int]]]:
        """Every cell with its place: left, top, right, bottom."""
        top = MARGIN
        for row in self.rows:
            left = MARGIN
            for cell in row:
                right = left + round(self.height * cell.aspect)
                yield cell, (left, top, right, top + self.height)
                left = right + GAP
            top += self.height + (LABEL if any(cell.label for cell in row) else 0) + GAP

    @property
    def size(self) -> tuple[int, int]:
        boxes = [box for _, box in self.boxes()]
        labelled = any(cell.label for cell in self.rows[-1])
        return max(box[2] for box in boxes) + MARGIN, boxes[-1][3] + (LABEL if labelled else 0) + MARGIN

    def draw(self) -> Image.Image:
        sheet = Image.new("RGB", self.size, "white")
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
        for cell, box in self.boxes():
            sheet.paste(shown(cell, box), box)
            pen.rectangle((box[0] - 1, box[1] - 1, box[2], box[3]), outline="#dddddd")
            pen.text(((box[0] + box[2]) / 2, box[3] + 3), cell.label, "#333333", font, "mt")
        return sheet

    def save(self, path: Path) -> None:
        quality: dict[str, Any] = {"lossless": True} if self.lossless else {"quality": self.quality}
        self.draw().save(path, method=6, **quality)


def shown(cell: Cell, box: tuple[int, int, int, int]) -> Image.Image:
    """A cell's picture in the size of its place."""
    return cell.draw().convert("RGB").resize((box[2] - box[0], box[3] - box[1]), Image.Resampling.LANCZOS)


@cache
def words(prompt: str, seed: int = 1, **options: Any) -> Image.Image:
    """A picture from words."""
    return model(options.pop("model", None)).txt2img(prompt, seed=seed, **options).images[0]


def cells(prompts: Sequence[str], seed: int = 1, labels: Sequence[str] = (), **options: Any) -> list[Cell]:
    """A cell for each prompt, labelled with it where no labels are given."""
    return [
        Cell(partial(words, prompt, seed, **options), label)
        for prompt, label in zip(prompts, labels or prompts, strict=True)
    ]


def sweep(draw: Callable[..., Image.Image], name: str, values: Sequence[float], **options: Any) -> list[Cell]:
    """A cell for each value of an option, labelled "name value"."""
    return [Cell(partial(draw, **{name: value}, **options), f"{name.replace('_', ' ')} {value:g}") for value in values]


SHEET = """
a red apple, flat icon|a strawberry, flat icon|a pineapple, noto style|a hamburger, flat icon
a birthday cake, flat icon|a watermelon, flat icon|a sunflower, flat icon|cherry blossom, 3D style
a cactus, noto style|a mushroom, twemoji style|a christmas tree, noto style|a rainbow, noto style
the earth, noto style|fire, noto style|a rocket, twemoji style|a red car, flat icon
a house, twemoji style|a castle, 3D style|a lion, flat icon|a panda, twemoji style
a fox, flat icon|a dog face, noto style|a penguin, flat icon|a butterfly, flat icon
a parrot, 3D style|a unicorn, 3D style|a robot, flat icon|a ghost, 3D style
an alien, 3D style|a smiling face with sunglasses, 3D style|a gem, 3D style|a crown, flat icon
"""
LANGUAGES = {
    "English": "three red hearts on a yellow background",
    "Thai": "หัวใจสีแดงสามดวงบนพื้นหลังสีเหลือง",
    "Chinese": "三颗红心，黄色背景",
    "Indonesian": "tiga hati merah dengan latar belakang kuning",
    "Ukrainian": "три червоні серця на жовтому тлі",
    "Japanese": "黄色の背景に三つの赤いハート",
}
SCENES = (
    "three rockets on a dark blue background",
    "a frog under an umbrella",
    "a blue car in front of a house",
    "two penguins and a fish, twemoji style",
    "a green apple to the left of a red apple, 3D style",
    "a unicorn, a rainbow and a star, 3D style",
    "two pandas on a green background, 3D style",
    "the moon above a castle on a dark blue background, 3D style",
)
SCENE_LABELS = (
    "three rockets, dark blue", "a frog under an umbrella", "a car in front of a house", "two penguins and a fish",
    "green apple left of red", "unicorn, rainbow, star", "two pandas on green", "the moon above a castle",
)  # fmt: skip


def sheet() -> Figure:
    prompts = [prompt for line in SHEET.split("\n") for prompt in line.split("|") if prompt]
    made = cells(prompts, labels=[re.sub(r"^(an?|the) (smiling )?| (style|icon)$", "", prompt) for prompt in prompts])
    return Figure([made[k : k + 8] for k in range(0, len(made), 8)])


def languages() -> Figure:
    return Figure([cells(list(LANGUAGES.values()), labels=list(LANGUAGES))], 160)


def scenes() -> Figure:
    made = cells(SCENES, labels=SCENE_LABELS)
    return Figure([made[:4], made[4:]], 192)


def sketch() -> Image.Image:
    """A face of four plain shapes."""
    picture = Image.new("RGB", (256, 256), "white")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((20, 40, 236, 246), fill="#f7c325")
    pen.ellipse((75, 100, 100, 140), fill="#222222")
    pen.ellipse((156, 100, 181, 140), fill="#222222")
    pen.line((80, 190, 176, 190), fill="#222222", width=10)
    return picture


def img2img() -> Figure:
    def draw(strength: float) -> Image.Image:
        prompt = "a smiling face with sunglasses, 3D style"
        return model().img2img(sketch(), prompt, strength=strength, seed=1).images[0]

    return Figure([[Cell(sketch, "sketch"), *sweep(draw, "strength", (0.3, 0.5, 0.7, 0.8, 0.9, 1))]])


def variations() -> Figure:
    prompt = "a house, twemoji style"
    varied = partial(words, prompt, 3, variation_seed=1)
    return Figure(
        [[*cells([prompt], 3, ["seed 3"]), *sweep(varied, "variation_strength", (0.2, 0.4, 0.6, 0.8, 1))]], 160
    )


def grid() -> Figure:
    def draw() -> Image.Image:
        return model().grid("a lion, flat icon", "", "cfg=1,1.5,3,6", "steps=2,4,12", seed=3)[0]

    return Figure([[Cell(draw, aspect=1.37)]], 560)


def augment() -> Figure:
    flower = partial(words, "a sunflower, 3D style", 3)

    def draw(strength: float) -> Image.Image:
        return model().img2img(flower(), "", strength=strength, cfg=1.0, seed=1).images[0]

    return Figure([[Cell(flower, "given"), *sweep(draw, "strength", (0.3, 0.4, 0.5, 0.6, 0.7))]])


def interpolate() -> Figure:
    ends, frames = ["a red heart, 3D style", "a smiling face, 3D style"], 7
    drawn = cache(lambda: model().interpolate(ends, seeds=[2, 6], frames=frames).images)
    return Figure([[Cell(lambda k=k: drawn()[k], f"frame {k + 1}") for k in range(frames)]])


def right_half() -> Image.Image:
    mask = Image.new("L", (256, 256), 0)
    mask.paste(255, (132, 0, 256, 256))
    return mask


def inpaint() -> Figure:
    scene = partial(words, "a cat and a dog, 3D style")

    def draw(thing: str) -> Image.Image:
        return model().inpaint(scene(), f"{thing}, 3D style", mask=right_half(), seed=1).images[0]

    things = ("a rocket", "a house", "a cactus")
    drawn = [Cell(partial(draw, thing), thing) for thing in things]
    return Figure([[Cell(scene, "a cat and a dog"), Cell(right_half, "mask"), *drawn]], 160)


def depth() -> Figure:
    """What has the depth of another picture."""
    given = words("a pizza, 3D style", seed=5)

    def draw(thing: str) -> Image.Image:
        return model("emoji-depth").depth2img(given, f"{thing}, 3D style", strength=1.0, seed=1).images[0]

    things = ("a green apple", "a tree", "a carrot", "a cat face")
    return Figure([[Cell(lambda: given, "a picture"), *[Cell(partial(draw, thing), thing) for thing in things]]], 128)


def unet() -> Figure:
    """What the small U-Net draws."""
    things = ["red apple", "frog", "octopus", "duck", "cactus", "strawberry", "tiger face", "red heart", "rocket"]
    return Figure([cells(things, model="emoji-unet")], 110)


def outpaint() -> Figure:
    scene = partial(words, SCENES[-1])

    def draw(thing: str) -> Image.Image:
        return model().outpaint(scene(), f"{thing} on a dark blue background, 3D style", right=128, seed=1).images[0]

    drawn = [Cell(partial(draw, thing), f"{thing}, 128 pixels more", 1.5) for thing in ("a star", "a rocket")]
    return Figure([[Cell(scene, "given"), *drawn]], 160)


def hires() -> Figure:
    second = partial(words, "a lion, flat icon", 3, hires_scale=1.5, hires_upscaler="lanczos")
    return Figure(
        [[*cells(["a lion, flat icon"], 3, ["256 pixels"]), *sweep(second, "hires_strength", (0.2, 0.5))]], 384
    )


def upscale() -> Figure:
    face = partial(words, "a cat face, noto style", 3)

    def plain() -> Image.Image:
        return face().resize((768, 768), Image.Resampling.LANCZOS)

    def draw() -> Image.Image:
        return model().upscale(face(), "a cat face, noto style", scale=3, strength=0.3, seed=1).images[0]

    return Figure([[Cell(plain, "256 pixels, enlarged by Lanczos' filter"), Cell(draw, "--scale 3: 768 pixels")]], 512)


def tiling() -> Figure:
    prompt = "a red heart on a yellow background, flat icon"

    @cache
    def tile() -> Image.Image:
        moved = ImageChops.offset(words(prompt), 128, 128)
        return model().img2img(moved, prompt, strength=0.35, tiling="both", seed=1).images[0]

    def four() -> Image.Image:
        wall = Image.new("RGB", (512, 512))
        for k in range(4):
            wall.paste(tile(), (k % 2 * 256, k // 2 * 256))
        return wall

    return Figure([[Cell(tile, "--tiling both"), Cell(four, "four of it")]], 320)


def prompts() -> Figure:
    weights = [f"a (purple:{w:g}) car" for w in (0, 0.5, 1, 1.5)]
    times = [f"[a red heart:a smiling face:{w:g}]" for w in (0.9, 0.6, 0.4, 0.1)]
    shares = [f"a blue heart AND a red heart :{w:g}" for w in (0.25, 0.5, 1, 2)]
    rows = [
        cells([f"{prompt}, 3D style" for prompt in weights], labels=weights),
        cells([f"{prompt}, 3D style" for prompt in times], 2, [time.replace("a smiling ", "") for time in times]),
        cells(shares, 2, [share.replace("a blue heart", "blue").replace("a red heart", "red") for share in shares]),
    ]
    return Figure(rows, 160)


GUIDANCE: dict[str, dict[str, Any]] = {
    "scale 1": {"cfg": 1.0},
    "1.5, the default": {},
    "scale 6": {"cfg": 6.0},
    "6, in 20%-70%": {"cfg": 6.0, "cfg_interval": "20%-70%"},
    "6, projected": {"cfg": 6.0, "apg": True, "apg_norm": 5.0},
    "6, rescaled 0.7": {"cfg": 6.0, "cfg_rescale": 0.7},
    "6, threshold 99": {"cfg": 6.0, "threshold": 99.0},
    "CFG++ 0.6": {"cfg_pp": True, "cfg": 0.6},
    "perturbed 1.5": {"pag": 1.5},
    "CLIP 100": {"clip_guidance": 100.0},
}
GUIDED = ("a red apple, 3D style", "a blue car, flat icon")


def guidance() -> Figure:
    return Figure(
        [[Cell(partial(words, prompt, 3, **options), name) for name, options in GUIDANCE.items()] for prompt in GUIDED],
        112,
    )


def codec() -> Figure:
    from codec import by

    def original(k: int) -> Image.Image:
        with Image.open(HELD_OUT) as strip:
            side = strip.height
            return strip.convert("RGB").crop((k * side, 0, (k + 1) * side, side))

    def ours(k: int, size: int, steps: int = 1) -> Image.Image:
        return model().decompress(model().compress(original(k), size=size), steps=steps)

    def theirs(k: int, kind: str) -> Image.Image:
        return by(kind, original(k))(SMALLEST) or Image.new("RGB", (256, 256), "#eeeeee")

    columns: dict[str, Callable[[int], Image.Image]] = {
        "original": original,
        "ours, 400 bytes": partial(ours, size=400),
        "ours, 200 bytes": partial(ours, size=200),
        "200, no network": partial(ours, size=200, steps=0),
        f"WebP, {SMALLEST} bytes": partial(theirs, kind="WEBP"),
        f"JPEG, {SMALLEST} bytes": partial(theirs, kind="JPEG"),
    }
    rows = [[Cell(partial(draw, k), name) for name, draw in columns.items()] for k in range(6)]
    return Figure(rows, 144, quality=96)  # one column is little else than noise


SMALLEST = 1000  # bytes in which WebP and JPEG can hold these pictures at all


def adapters() -> Figure:
    """The adapters that ship: without and with each."""
    things = ["a red apple", "a cat face", "a car", "a penguin", "a sunflower", "a rocket and a house"]
    planets = "a {}|two {}|a {} above an apple|a {} and a rocket|a tilted {}|a {}, twemoji"
    named = [planets.format(*[name] * 6).split("|") for name in ("saturn-emoji", "planet")]
    castles = ["a castle, 3D style", "a castle, flat icon", "a castle, noto style", "a castle on red", "a blue castle"]
    hint = words("a castle, 3D style", seed=5)
    steered = {"seed": 1, "labels": ["with emoji-edges"] * 5}
    return Figure([
        cells(things, seed=2),
        cells(things, seed=2, labels=["with sepia"] * 6, lora=("sepia",)),
        cells(named[0], seed=2, labels=named[1]),
        [Cell(lambda: hint, "a picture"), *cells(castles, seed=1)],
        [Cell(lambda: ImageChops.invert(canny(hint).convert("L")), "its edges"),
         *cells(castles, **steered, control=(sfumato.Control("emoji-edges", hint, hint="canny"),))],
    ], 110)  # fmt: skip


def curve() -> Figure:
    """The chart of `bench/sampler-curve.json`; `python bench/sampler_curve.py` measures it anew."""
    width, height = sampler_curve.SIZE
    chart = Cell(lambda: sampler_curve.chart(sampler_curve.kept()), aspect=width / height)
    return Figure([[chart]], height, lossless=True)


FIGURES: dict[str, Callable[[], Figure]] = {
    "sheet": sheet, "languages": languages, "scenes": scenes, "img2img": img2img, "variations": variations,
    "grid": grid, "augment": augment, "interpolate": interpolate, "inpaint": inpaint, "outpaint": outpaint,
    "depth": depth, "unet": unet,
    "hires": hires, "upscale": upscale, "tiling": tiling, "prompts": prompts, "guidance": guidance, "codec": codec,
    "adapters": adapters, "sampler-curve": curve,
}  # fmt: skip


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FIGURES))
    names = arguments.parse_args().names or list(FIGURES)
    if unknown := set(names) - set(FIGURES):
        arguments.error(f"no such picture: {', '.join(sorted(unknown))}; there are {', '.join(FIGURES)}")
    torch.set_num_threads(1)
    for name in names:
        FIGURES[name]().save(DOCS / f"{name}.webp")
        print(f"docs/{name}.webp", flush=True)


if __name__ == "__main__":
    main()
