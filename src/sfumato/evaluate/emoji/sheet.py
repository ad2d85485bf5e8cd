"""The README's sheet: the same prompts in several styles, whatever came out."""

from __future__ import annotations

from contextlib import closing

from PIL import Image

from sfumato.data.emoji.captions import STYLE_WORDS
from sfumato.evaluate.pictures import Watch
from sfumato.pipeline.batch import Request, draw_each
from sfumato.pipeline.model import Model
from sfumato.settings.settings import Settings

STYLES = ("3d", "flat", "gradient")
COLUMNS = 16
GAP = 2

# English names as in the set, with their codes; none of them is held out in these styles.
PROMPTS = {
    "red apple": "1f34e",
    "strawberry": "1f353",
    "banana": "1f34c",
    "watermelon": "1f349",
    "hamburger": "1f354",
    "soft ice cream": "1f366",
    "birthday cake": "1f382",
    "hot beverage": "2615",
    "red heart": "2764",
    "fire": "1f525",
    "sun": "2600",
    "crescent moon": "1f319",
    "rainbow": "1f308",
    "cactus": "1f335",
    "sunflower": "1f33b",
    "mushroom": "1f344",
    "rocket": "1f680",
    "automobile": "1f697",
    "sailboat": "26f5",
    "balloon": "1f388",
    "house": "1f3e0",
    "crown": "1f451",
    "light bulb": "1f4a1",
    "umbrella": "2602",
    "octopus": "1f419",
    "penguin": "1f427",
    "frog": "1f438",
    "butterfly": "1f98b",
    "panda": "1f43c",
    "ghost": "1f47b",
    "robot": "1f916",
    "smiling face with sunglasses": "1f60e",
}


def draw_sheet(model: Model, settings: Settings, watch: Watch) -> Image.Image:
    """PROMPTS in reading order, COLUMNS a row, each row once in every style, on white.

    Prompt k has seed + k in every style; nothing is chosen.
    """
    requests = [
        Request(f"{name}, {STYLE_WORDS['en'][style][0]}", settings.seed + k)
        for style in STYLES
        for k, name in enumerate(PROMPTS)
    ]
    width, height = settings.width + GAP, settings.height + GAP
    rows = -(-len(PROMPTS) // COLUMNS) * len(STYLES)
    canvas = Image.new("RGB", (COLUMNS * width - GAP, rows * height - GAP), "white")
    with closing(draw_each(model, requests, settings)) as pictures:
        for done, picture in enumerate(pictures, 1):
            style, prompt = divmod(picture.index, len(PROMPTS))
            block, column = divmod(prompt, COLUMNS)
            canvas.paste(picture.image, (column * width, (block * len(STYLES) + style) * height))
            watch("drawing", done, len(requests))
    return canvas
