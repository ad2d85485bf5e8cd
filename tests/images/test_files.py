"""Picture files: lossless where they claim it, settings inside, hostile files refused in one line."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.images import files as picture
from sfumato.images.files import encode, open_image, save, upright
from sfumato.provenance.embedded import read_infotext

TEXT = (
    "червоне серце 红色的心 ❤️\nNegative prompt: café\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 32x24"
)


WHITE = {
    "1": 1, "L": 255, "P": 0, "LA": (255, 255), "La": (255, 255), "RGBa": (255, 255, 255, 255), "CMYK": (0, 0, 0, 0),
    "YCbCr": (255, 128, 128), "I;16": 65535, "I": 65535,
}  # fmt: skip


@pytest.fixture
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".webp", ".jpg", ".jpeg"])
@pytest.mark.parametrize("text", [TEXT, "plain", None])
def test_pictures_and_settings_come_back(image: Image.Image, tmp_path: Path, suffix: str, text: str | None) -> None:
    path = tmp_path / f"a{suffix}"
    save(image, path, text)
    assert read_infotext(path) == text
    again = open_image(path)
    assert again.mode == "RGB" and again.size == image.size
    if suffix.lower() in (".png", ".webp"):
        assert np.array_equal(np.asarray(again), np.asarray(image))
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_picture_makes_the_same_file(image: Image.Image) -> None:
    assert encode(image, ".png", TEXT) == encode(image, ".png", TEXT)


def test_text_that_is_no_unicode_is_still_saved(image: Image.Image, tmp_path: Path) -> None:
    save(image, tmp_path / "a.png", "bad \udcff byte")
    assert read_infotext(tmp_path / "a.png") == "bad ? byte"


@pytest.mark.parametrize("codec", ["utf_16_be", "utf_16_le"])
def test_comments_of_either_byte_order_are_read(image: Image.Image, tmp_path: Path, codec: str) -> None:
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = b"UNICODE\0" + TEXT.encode(codec)
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_infotext(tmp_path / "a.jpg") == TEXT


def test_unwritable_pictures_are_refused(image: Image.Image, tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match=r"\.gif"):
        save(image, tmp_path / "a.gif")
    with pytest.raises(SfumatoError, match="without suffix"):
        save(image, tmp_path / "a")
    with pytest.raises(SfumatoError, match="JPEG"):
        save(image, tmp_path / "a.jpg", "x" * 70_000)
    with pytest.raises(SfumatoError, match="WEBP"):
        save(Image.new("RGB", (17_000, 1)), tmp_path / "a.webp")
    assert list(tmp_path.iterdir()) == []


def test_a_turned_photo_is_set_upright(image: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(open_image(tmp_path / "a.png")), np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_becomes_white(tmp_path: Path, mode: str) -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    path = tmp_path / "a.png"
    clear.convert(mode).save(path, **({"transparency": 0} if mode == "P" else {}))
    assert np.asarray(open_image(path)).min() == 255


def test_sixteen_bit_grey_is_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 32896, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert np.asarray(open_image(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("mode", WHITE)
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.new(mode, (2, 2), WHITE[mode])
    if mode == "P":
        image.putpalette([255, 255, 255])
    assert upright(image).mode == "RGB" and np.asarray(upright(image)).min() == 255


def test_a_cmyk_photo_keeps_its_colours(tmp_path: Path) -> None:
    red = Image.new("RGB", (16, 16), (200, 30, 40))
    red.convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    assert np.abs(np.asarray(open_image(tmp_path / "a.jpg"), int) - (200, 30, 40)).max() <= 3


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    with pytest.warns(SfumatoWarning, match="is animated; its first frame is taken"):
        assert np.asarray(open_image(tmp_path / f"a{suffix}")).min() == 255


def one_line(path: Path, message: str) -> None:
    for reader in (open_image, read_infotext):
        with pytest.raises(SfumatoError, match=message) as caught:
            reader(path)
        assert "\n" not in str(caught.value)


def test_files_that_are_no_pictures(image: Image.Image, tmp_path: Path) -> None:
    one_line(tmp_path / "none.png", "no file")
    one_line(tmp_path, "not a file")
    (tmp_path / "text.png").write_text("hello")
    one_line(tmp_path / "text.png", "no PNG, JPEG, WebP, GIF or BMP")
    image.save(tmp_path / "a.tiff")
    one_line(tmp_path / "a.tiff", "no PNG, JPEG, WebP, GIF or BMP")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_damaged_files(image: Image.Image, tmp_path: Path, suffix: str) -> None:
    content = encode(image, suffix, TEXT)
    for length in range(1, len(content) // 2, max(1, len(content) // 40)):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content[:length])
        one_line(path, "damaged|convert it")


def test_a_small_file_may_not_grow_without_limit(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for side in (10_000, 60_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
        one_line(tmp_path / "bomb.png", f"{side}x{side} pixels" if side * side < 2e8 else "more than 67,108,864 pixels")
    assert picture.MAX_PIXELS == 2**26
