"""Sheets of one picture under many settings."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.api import StableDiffusion
from sfumato.errors import SfumatoError
from sfumato.tasks.grid import Axis, Grid

SMALL = {"steps": 2, "width": 16, "height": 16, "watermark": False, "seed": 5}


@pytest.fixture
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("steps=10,20, 40", "steps", (10, 20, 40)),
        ("cfg=1..9:2", "cfg", (1.0, 3.0, 5.0, 7.0, 9.0)),
        ("cfg = 0.1..0.5:0.1", "cfg", (0.1, 0.2, 0.3, 0.4, 0.5)),
        ("seed=3..1:-1", "seed", (3, 2, 1)),
        ("steps=4..6", "steps", (4, 5, 6)),
        ("sampler=Euler a,heun", "sampler", ("Euler a", "heun")),
        ('words="red, round",blue', "words", ("red, round", "blue")),
        ("clip-skip=1,2", "clip_skip", (1, 2)),
        ("watermark=yes,no", "watermark", (True, False)),
        ("strength=0..1:0.5", "strength", (0.0, 0.5, 1.0)),
        ("control.weight=0..1:0.5", "control.weight", (0.0, 0.5, 1.0)),
        ("control.mode=prompt,control", "control.mode", ("prompt", "control")),
        ("ip-adapter.end=0.5,1", "ip_adapter.end", (0.5, 1.0)),
    ],
)
def test_axes(text: str, name: str, values: tuple[object, ...]) -> None:
    axis = Axis.parse(text)
    assert (axis.name, axis.values) == (name, values)
    assert [type(value) for value in axis.values] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps", "is no axis; give one such as steps=10,20,40"),
        ("colour=red", "is no axis"),
        ("n=1,2", "is no axis"),
        ("styles=ink", "is no axis"),
        ("step=1,2", "did you mean steps"),
        ("steps=", "has no values"),
        ("steps=1,x", "a value in 'steps=1,x' is 'x'; give a whole number"),
        ("steps=1.5", "give a whole number"),
        ("watermark=maybe", "give true or false"),
        ("cfg=1..9:0", "never ends"),
        ("cfg=9..1", "never ends"),
        ("cfg=1..2..3:4.5.6", "give a number"),
        ("cfg=1...2:1", "give a number"),
        ("seed=1..99999", "99999 values"),
    ],
)
def test_bad_axes_are_refused(text: str, words: str) -> None:
    with pytest.raises(SfumatoError, match=words):
        Axis.parse(text)


def test_every_cell_is_the_picture_of_its_settings(sd: StableDiffusion) -> None:
    axes = [Axis.parse("cfg=1,5"), Axis.parse("sampler=euler,heun"), Axis.parse("words=cat,dog")]
    todo = Grid.of(sd, axes, "a cat", options=SMALL)
    cells = list(todo.draw(sd))
    assert [cell.place for cell in cells] == [(x, y, z) for z in range(2) for y in range(2) for x in range(2)]
    last = sd.txt2img("a dog", cfg=5, sampler="heun", **SMALL).images[0]
    assert cells[-1].picture is not None and cells[-1].picture.image == last
    table = todo.table(cells)
    assert [axis["name"] for axis in table["axes"]] == ["cfg", "sampler", "words"]
    assert (table["cells"][-1]["cfg"], table["cells"][-1]["seed"]) == (5.0, 5)
    sheet = todo.sheet(cells)
    assert sheet.width > 2 * 16 and sheet.height > 4 * 16
    drawn = [np.asarray(each).reshape(-1, 3) for each in (sheet, todo.sheet(cells[:3]))]
    grey = [int((pixels == 211).all(1).sum()) for pixels in drawn]
    assert grey[1] - grey[0] >= 5 * 16 * 16


def test_the_method(sd: StableDiffusion) -> None:
    sheet, table = sd.grid("a cat", "", "cfg=1,5", "seed=1,2", **SMALL)
    assert len(table["cells"]) == 4 and sheet.width > 32
    read = sd.tokens("a (cat:1.2)")
    assert read.parts[0].readings[0].windows[0][-1].weight == 1.2


def test_strength_is_an_axis_where_there_is_a_picture(sd: StableDiffusion) -> None:
    picture = Image.new("RGB", (16, 16), "red")
    todo = Grid.of(sd, [Axis.parse("strength=0,1")], "a cat", image=picture, options=SMALL)
    cells = list(todo.draw(sd, picture))
    assert cells[1].picture is not None and cells[1].picture.image == sd.txt2img("a cat", **SMALL).images[0]
    with pytest.raises(SfumatoError, match="give a picture, or another axis"):
        Grid.of(sd, [Axis.parse("strength=0,1")], "a cat")
    with pytest.raises(SfumatoError, match=r"strength is 2.0"):
        Grid.of(sd, [Axis.parse("strength=0,2")], "a cat", image=picture)


def test_bad_grids_are_refused(sd: StableDiffusion) -> None:
    with pytest.raises(SfumatoError, match="one to three axes of different options"):
        Grid.of(sd, [Axis.parse("cfg=1"), Axis.parse("cfg=2")], "a cat")
    with pytest.raises(SfumatoError, match="more than 1000 cells"):
        Grid.of(sd, [Axis.parse("seed=1..40"), Axis.parse("steps=1..40")], "a cat")
    with pytest.raises(SfumatoError, match="'pig' is in no prompt"):
        Grid.of(sd, [Axis.parse("words=pig,dog")], "a cat")
    with pytest.raises(SfumatoError, match="steps is 0"):
        Grid.of(sd, [Axis.parse("steps=0")], "a cat")


def test_the_command(run: Callable, refused: Callable, model: str, tmp_path: Path) -> None:
    options = ("--model", model, "--size", "16x16", "--steps", 2, "--seed", 1)
    done = run("grid", "a cat", "--x", "cfg=1..5:2", "--y", "seed=1,2", *options, "--cells", "cells")
    assert done.exit_code == 0, done.output
    assert done.stdout == "grid.png\n"
    table = json.loads((tmp_path / "grid.json").read_text())
    assert len(table["cells"]) == 6 == len(list((tmp_path / "cells").iterdir()))
    refused(run("grid", "a cat", "--x", "cfg=1", "-n", 2, *options), "one picture a cell")
    refused(run("grid", "a cat", "--x", "cfg=1", "--out", "x/", *options), "give the sheet a name")


def test_parts_of_controls_are_axes(sd: StableDiffusion) -> None:
    axes = [Axis.parse("control.weight=0,0.5"), Axis.parse("control.hint=canny,none")]
    given = {**SMALL, "control": ["edges=one.png,end=0.5", "depth=two.png"]}
    cells = Grid.of(sd, axes, "a cat", options=given).cells
    for cell in cells:
        for control, model in zip(cell.settings.control, ("edges", "depth"), strict=True):
            assert (control.model, control.weight) == (model, (0, 0.5)[cell.place[0]])
            assert control.hint == ("canny", "none")[cell.place[1]]
        assert cell.settings.control[0].end == 0.5
    with pytest.raises(SfumatoError, match=r"control\.weight changes nothing without `?control`?"):
        Grid.of(sd, axes[:1], "a cat", options=SMALL)
