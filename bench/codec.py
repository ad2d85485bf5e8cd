"""Bytes against quality: compressed pictures that training never saw, beside JPEG and WebP at equal bytes.

python bench/codec.py --data data/emoji
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

import sfumato
from sfumato.api import StableDiffusion
from sfumato.data.emoji.dataset import EmojiData
from sfumato.evaluate.reconstruction import psnr, ssim
from sfumato.images.tensors import compose, to_images, to_pixels

SIZES = (150, 250, 400, 600, 800)
WHITE = (255, 255, 255)
Codec = Callable[[int], Image.Image | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/emoji"))
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    data, sd = EmojiData(options.data), sfumato.load()
    unseen = np.concatenate([data.splits["unseen_picture"], data.splits["unseen_concept"]])
    chosen = unseen[np.linspace(0, len(unseen) - 1, options.pictures).astype(int)]
    pictures = [to_images(compose(data.picture(int(i)).copy(), WHITE)[None])[0] for i in chosen]

    table = Table("bytes, at most", *(f"{name} {unit}" for name in ("ours", "stored", "WebP", "JPEG") for unit in "PS"))
    for size in options.sizes:
        rows: list[list[float]] = []
        for picture in pictures:
            codecs = (*ours(sd, picture), by("WEBP", picture), by("JPEG", picture))
            rows.append([figure for codec in codecs for figure in quality(picture, codec(size))])
        figures = np.array(rows)
        cells = []
        for k in range(0, figures.shape[1], 2):
            reached = ~np.isnan(figures[:, k])
            share = "" if reached.all() else f" ({reached.mean():.0%})"
            mean = figures[reached, k : k + 2].mean(0) if reached.any() else (np.nan, np.nan)
            cells += [f"{mean[0]:.1f}{share}", f"{mean[1]:.3f}"] if reached.any() else ["-", "-"]
        table.add_row(str(size), *cells)
    Console(width=140).print(table)
    print(f"P is PSNR in dB, S is SSIM; {len(pictures)} pictures of {data.size} pixels; (n%): so many can be as small")


def ours(sd: StableDiffusion, picture: Image.Image) -> tuple[Codec, Codec]:
    """Ours, and what is stored without the network's repair."""

    def reads(steps: int) -> Codec:
        return lambda size: sd.decompress(sd.compress(picture, size=size), steps=steps)

    return reads(1), reads(0)


def by(kind: str, picture: Image.Image) -> Codec:
    """The best that a format can do in so many bytes; None where its worst is larger."""

    def codec(size: int) -> Image.Image | None:
        low, high, best = 0, 100, None
        while low <= high:
            middle = (low + high) // 2
            file = io.BytesIO()
            picture.save(file, kind, quality=middle, method=6, optimize=True)
            if file.tell() <= size:
                low, best = middle + 1, Image.open(file).convert("RGB")
            else:
                high = middle - 1
        return best

    return codec


def quality(picture: Image.Image, other: Image.Image | None) -> tuple[float, float]:
    if other is None:
        return float("nan"), float("nan")
    x, y = to_pixels(picture), to_pixels(other)
    return psnr(x, y).item(), ssim(x, y).item()


if __name__ == "__main__":
    with torch.inference_mode():
        main()
