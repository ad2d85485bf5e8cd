"""What a program does with drawn pictures: saved with their settings, shown, counted, and cut."""

import copy
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.api import Result, StableDiffusion
from sfumato.errors import SfumatoError
from sfumato.provenance.read import read

SMALL = {"steps": 2, "width": 16, "height": 16}


@pytest.fixture(scope="module")
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


@pytest.fixture(scope="module")
def two(sd: StableDiffusion) -> Result:
    return sd.txt2img("a cat", n=2, seed=5, **SMALL)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.JPEG", "a.webp"])
def test_a_picture_keeps_its_settings_wherever_it_is_saved(two: Result, name: str, tmp_path: Path) -> None:
    two.images[1].save(tmp_path / name)
    recipe = read(tmp_path / name)
    assert (recipe.prompt, recipe.options["seed"], recipe.program) == ("a cat", 6, "sfumato")
    two.images[1].copy().save(str(tmp_path / f"copy-{name}"))
    assert read(tmp_path / f"copy-{name}").options["seed"] == 6


def test_settings_go_into_open_files_and_notebooks(two: Result, tmp_path: Path) -> None:
    file = io.BytesIO()
    two[0].save(file, "PNG")
    for content in (file.getvalue(), two[0]._repr_png_(), two[:1]._repr_png_()):
        assert Image.open(io.BytesIO(content)).text["parameters"] == two.infotexts[0]


def test_who_gives_other_texts_decides(two: Result, tmp_path: Path) -> None:
    two[0].save(tmp_path / "a.webp", exif=Image.Exif())
    two[0].resize((8, 8)).save(tmp_path / "b.png")
    two[0].save(tmp_path / "c.bmp")
    assert "parameters" not in Image.open(tmp_path / "b.png").info
    with pytest.raises(SfumatoError, match="says nothing"):
        read(tmp_path / "a.webp")


def test_pictures_are_equal_by_their_pixels(two: Result) -> None:
    plain = Image.fromarray(np.asarray(two[0]))
    assert two[0] == plain and plain == two[0] and two[0] != two[1] and two[0] != "a cat"
    assert two[0].crop((0, 0, 8, 8)) == plain.crop((0, 0, 8, 8))


def test_a_picture_goes_through_pickle_with_its_settings(two: Result) -> None:
    again = pickle.loads(pickle.dumps(two[0]))
    assert again == two[0] and again.infotext == copy.deepcopy(two[0]).infotext == two.infotexts[0]


def test_a_result_is_a_sequence(two: Result) -> None:
    assert len(two) == 2 and [*two] == two.images and two[-1] is two.images[1]
    assert (two[1:].seeds, two[1:].infotexts, len(two[1:].latents)) == ([6], two.infotexts[1:], 1)
    assert repr(two) == "<Result: 2 pictures of 16x16, seeds 5, 6>"
    assert repr(two[:1]) == "<Result: 1 picture of 16x16, seed 5>"
    shown = Image.open(io.BytesIO(two._repr_png_()))
    assert shown.size == (36, 16)
    assert two[:0]._repr_png_() is None and repr(two[:0]) == "<Result: 0 pictures, seeds >"


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("a.png", ["a-5.png", "a-6.png"]),
        ("{index}.webp", ["0.webp", "1.webp"]),
        ("cat {seed}.jpg", ["cat 5.jpg", "cat 6.jpg"]),
        ("folder", ["folder/5.png", "folder/6.png"]),
        ("v1.5/", ["v1.5/5.png", "v1.5/6.png"]),
    ],
)
def test_where_pictures_are_saved(two: Result, path: str, names: list[str], tmp_path: Path) -> None:
    files = two.save(f"{tmp_path}/{path}")
    assert files == [tmp_path / name for name in names]
    assert [read(file).options["seed"] for file in files] == [5, 6]
    with pytest.raises(SfumatoError, match="is there already"):
        two.save(f"{tmp_path}/{path}")
    two.save(f"{tmp_path}/{path}", overwrite=True)


def test_one_picture_has_the_name_that_was_given(sd: StableDiffusion, two: Result, tmp_path: Path) -> None:
    assert two[:1].save(tmp_path / "a.png") == [tmp_path / "a.png"]
    with pytest.raises(SfumatoError, match=r"\.gif; use \.png"):
        two.save(tmp_path / "a.gif")
    varied = sd.txt2img("a cat", n=2, seed=5, variation_seed=1, variation_strength=0.5, **SMALL)
    assert [file.name for file in varied.save(tmp_path / "v")] == ["5-0.png", "5-1.png"]
