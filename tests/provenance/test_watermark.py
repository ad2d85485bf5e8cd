"""The invisible watermark: bit for bit the original's, and a reader whose false alarms are what it says."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sfumato.cli.watermark import app
from sfumato.errors import SfumatoError
from sfumato.images.files import save
from sfumato.provenance.watermark import DEFAULT, MESSAGES, capacity, decode, embed, extract_bits, read

CASES = range(4)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, golden: Path) -> dict:
    folder = golden / "watermark"
    record = json.loads((folder / "index.json").read_text())["cases"][request.param]
    pictures = {key: np.asarray(Image.open(folder / record[key]).convert("RGB")) for key in ("input", "output")}
    message = int(record["message_bits"], 2).to_bytes(record["n_bits"] // 8, "big")
    return record | pictures | {"message": message}


def emoji_like(rng: np.random.Generator, side: int, background: int | None = 255) -> np.ndarray:
    """Flat discs of random colours on a plain background."""
    image = np.empty((side, side, 3), np.uint8)
    image[:] = rng.integers(20, 235, 3) if background is None else background
    y, x = np.mgrid[:side, :side]
    for _ in range(6):
        cy, cx, r = rng.uniform(0.25, 0.75) * side, rng.uniform(0.25, 0.75) * side, rng.uniform(0.08, 0.3) * side
        image[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = rng.integers(0, 256, 3)
    return image


def test_marks_as_the_original_to_the_last_bit(case: dict) -> None:
    marked = embed(case["input"], case["message"])
    assert np.array_equal(marked, case["output"])
    assert hashlib.sha256(marked[..., ::-1].tobytes()).hexdigest() == case["sha256_output_bgr_bytes"]


@pytest.mark.parametrize(
    ("picture", "bits"), [("input", "decoded_bits_from_unmarked_input"), ("output", "decoded_bits_from_output")]
)
def test_decodes_as_the_original(case: dict, picture: str, bits: str) -> None:
    assert "".join(str(int(bit)) for bit in decode(case[picture], case["n_bits"])) == case[bits]


def test_reads_what_the_original_cannot(case: dict) -> None:
    reading = read(case["output"])
    assert reading.present and reading.message == case["message"]
    assert reading.matching / reading.bits > 0.99 > case["bits_correct"] / case["n_bits"]
    assert not read(case["input"]).present


@pytest.mark.parametrize("name", MESSAGES)
def test_every_known_message_is_recognised(name: str) -> None:
    image = emoji_like(np.random.default_rng(0), 512, None)
    reading = read(embed(image, MESSAGES[name]))
    assert reading.present and reading.name == name


def test_most_small_pictures_keep_their_mark() -> None:
    rng = np.random.default_rng(0)
    for background, least in ((None, 0.8), (255, 0.6)):
        readings = [read(embed(emoji_like(rng, 128, background))) for _ in range(40)]
        assert np.mean([reading.present and reading.message == DEFAULT for reading in readings]) >= least


def test_unmarked_pictures_raise_no_alarm() -> None:
    rng = np.random.default_rng(1)
    pictures = [
        emoji_like(rng, side, background) for side in (128, 256) for background in (255, None) for _ in range(50)
    ]
    pictures += [rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(50)]
    pictures += [np.full((256, 256, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(20)]
    assert min(read(picture).probability for picture in pictures) > 1e-5


def test_blank_white_carries_nothing_and_says_so() -> None:
    white = np.full((256, 256, 3), 255, np.uint8)
    reading = read(embed(white))
    assert not reading.present and reading.bits == 0 and reading.probability == 1


def test_marking_changes_little_and_leaves_the_input_alone() -> None:
    image = emoji_like(np.random.default_rng(2), 256, None)
    before = image.copy()
    marked = embed(image)
    assert np.array_equal(image, before)
    assert np.abs(marked.astype(int) - image).mean() < 3


def test_saturates_where_the_original_wraps_round() -> None:
    rng = np.random.default_rng(3)
    # Hard edges between the extremes of U drive it out of range.
    image = np.where(rng.random((256, 256, 1)) < 0.5, [0, 0, 255], [255, 255, 0]).astype(np.uint8)
    marked = embed(image).astype(int)
    blue = image[..., 2] == 255
    assert marked[blue][:, 2].mean() > marked[~blue][:, 2].mean()


@pytest.mark.parametrize(("height", "width"), [(128, 128), (300, 299), (93, 257)])
def test_capacity_is_where_embedding_ends(height: int, width: int) -> None:
    image = np.random.default_rng(4).integers(0, 256, (height, width, 3), dtype=np.uint8)
    fits = capacity(height, width) // 8
    assert extract_bits(embed(image, b"x" * fits), 8 * fits).shape == (8 * fits,)
    with pytest.raises(SfumatoError, match="watermark bits"):
        embed(image, b"x" * (fits + 1))


def test_what_is_no_picture_or_too_small() -> None:
    assert capacity(128, 128) == 256 and capacity(7, 500) == 0
    assert read(np.zeros((8, 40, 3), np.uint8)) is None
    for wrong in (np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8), np.zeros((64, 64, 3))):
        with pytest.raises(SfumatoError, match="RGB"):
            embed(wrong)
    with pytest.raises(SfumatoError, match="carries"):
        embed(np.zeros((256, 256, 3), np.uint8), b"")


def test_command_line(tmp_path: Path) -> None:
    image = emoji_like(np.random.default_rng(5), 256, None)
    save(Image.fromarray(embed(image)), tmp_path / "marked.png")
    save(Image.fromarray(image), tmp_path / "plain.png")
    save(Image.fromarray(image[:6, :6]), tmp_path / "tiny.png")
    run = CliRunner().invoke
    found = run(app, ["read", str(tmp_path / "marked.png")])
    assert found.exit_code == 0 and found.output.startswith("watermark of Stable Diffusion 1:")
    record = json.loads(run(app, ["read", str(tmp_path / "marked.png"), "--json"]).output)
    assert record["found"] and bytes.fromhex(record["message"]) == DEFAULT and record["matching"] <= record["bits"]
    plain = run(app, ["read", str(tmp_path / "plain.png")])
    assert plain.exit_code == 0 and plain.output.startswith("no watermark")
    assert json.loads(run(app, ["read", str(tmp_path / "tiny.png"), "--json"]).output) == {"found": False}
    assert isinstance(run(app, ["read", str(tmp_path / "absent.png")]).exception, SfumatoError)
