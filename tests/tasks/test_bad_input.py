"""What every task on pictures does with what users really give: one clear line, or the right picture."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

import sfumato
from sfumato.api import Result, StableDiffusion
from sfumato.errors import SfumatoError, SfumatoWarning

SMALL = {"steps": 1, "seed": 3, "sampler": "euler", "watermark": False}
Task = Callable[..., Result]


def _inpainted(sd: StableDiffusion) -> Task:
    def task(image: object, prompt: str = "a cat", **options: object) -> Result:
        mask = np.zeros((6, 8), bool)
        mask[:, 4:] = True
        return sd.inpaint(image, prompt, mask=mask, **options)

    return task


TASKS: dict[str, Callable[[StableDiffusion], Task]] = {
    "img2img": lambda sd: sd.img2img,
    "inpaint": _inpainted,
    "outpaint": lambda sd: lambda image, prompt="a cat", **options: sd.outpaint(image, prompt, right=8, **options),
}


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest, model: str) -> Task:
    """Draws 8x6 pixels, or 16x6 where it adds some."""
    name = request.param
    sizes = {"width": 16, "height": 8} if name == "outpaint" else {}
    draw = TASKS[name](sfumato.load(model))
    return lambda image, prompt="a cat", **options: draw(image, prompt, **SMALL | sizes | options)


@pytest.fixture
def levels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def bomb(path: Path) -> Path:
    """A file of a few hundred bytes that says that it has 100 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b""))
    return path


def test_what_is_no_picture_is_refused_in_one_line(task: Task, levels: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    for value, message in (
        (np.full((6, 8, 3), np.nan), "not finite (NaN)"),
        (torch.full((3, 6, 8), float("nan")), "not finite (NaN)"),
        (levels.astype(float), "give floats from 0 to 1, or bytes"),
        (bomb(tmp_path / "bomb.png"), "10000x10000 pixels; the limit is 67,108,864"),
        (tmp_path / "text.png", "is no PNG, JPEG, WebP, GIF or BMP picture"),
        ("none.png", "there is no file none.png"),
        (None, "the picture is NoneType"),
    ):
        with pytest.raises(SfumatoError) as caught:
            task(value)
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_unusual_files_are_read_as_they_are_meant(task: Task, levels: np.ndarray, tmp_path: Path) -> None:
    plain = Image.fromarray(levels)
    expected = task(plain).images
    turned = Image.fromarray(np.rot90(levels))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    assert task(tmp_path / "turned.png").images == expected
    clear = Image.new("RGBA", (8, 6), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert task(tmp_path / "clear.png").images == task(Image.new("RGB", (8, 6), "white")).images
    plain.save(tmp_path / "moving.webp", save_all=True, append_images=[Image.new("RGB", (8, 6))], lossless=True)
    with pytest.warns(SfumatoWarning, match="is animated; its first frame is taken"):
        assert task(tmp_path / "moving.webp").images == expected
    deep = levels[:, :, 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert task(tmp_path / "deep.png").images == task(levels[:, :, 0]).images
    plain.convert("CMYK").save(tmp_path / "print.jpg")
    task(tmp_path / "print.jpg")


def test_a_prompt_of_emoji_only_is_a_prompt(task: Task, levels: np.ndarray) -> None:
    result = task(levels, "❤️🍎😀")
    assert result.infotexts[0].startswith("❤️🍎😀\n")


@pytest.mark.parametrize("name", ["img2img", "inpaint"])
@pytest.mark.parametrize("strength", [1.7, -0.1, float("nan")])
def test_strengths_outside_0_to_1_are_refused(model: str, levels: np.ndarray, name: str, strength: float) -> None:
    with pytest.raises(SfumatoError, match=r"strength is .*; choose a number from 0 to 1"):
        TASKS[name](sfumato.load(model))(levels, strength=strength)
