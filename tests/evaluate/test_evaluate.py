"""The command from end to end: a model of random weights, a judge of random weights, a set of squares."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from sfumato.cli.main import app
from sfumato.data.emoji.captions import LANGUAGES
from sfumato.data.emoji.dataset import EmojiData

from .test_page import check


@pytest.fixture
def run(squares: EmojiData, model: Path, judge: Path):
    def run(*words: object, data: Path | None = None, by: Path | None = None) -> Result:
        fixed = ["--model", model, "--data", data or squares.path, "--judge", by or judge, "--steps", 1, "--scenes", 0]
        return CliRunner().invoke(app, ["evaluate", *map(str, [*fixed, "--device", "cpu", *words])])

    return run


def test_json_has_every_figure_and_is_the_same_twice(run):
    first, second = (run("--pictures", 4, "--json") for _ in range(2))
    assert first.exit_code == 0, first.stderr
    report, again = json.loads(first.stdout), json.loads(second.stdout)
    assert report.pop("seconds_per_picture") > 0 and again.pop("seconds_per_picture") > 0
    assert report == again
    assert list(report["precision"]) == list(LANGUAGES)
    assert set(report["reconstruction"]) == {"unseen_picture", "unseen_concept"}
    assert report["reconstruction"]["unseen_concept"]["pictures"] == 12
    assert set(report["originality"]["distances"]) == {"drawn", "unseen_picture", "unseen_concept", "copies"}
    assert report["originality"]["distances"]["drawn"]["pictures"] == 24
    assert (report["prompts"], report["standard_error"]) == (4, 0.25)
    assert report["settings"]["steps"] == 1 and report["settings"]["width"] == 32
    assert 0 <= report["background"] <= 1
    assert "drawing (28)" in first.stderr


def test_the_table_is_aligned_and_complete(run):
    result = run("--pictures", 3, "--style", "flat", "--style", "noto")
    assert result.exit_code == 0, result.stderr
    blocks = [block.splitlines() for block in result.stdout.strip().split("\n\n")]
    table = next(block for block in blocks if block[0].startswith("R-precision in %"))
    assert [line.split()[0] for line in table[1:7]] == list(LANGUAGES)
    assert len({len(line) for line in table[:7]}) == 1
    assert "styles flat, noto" in result.stdout


def test_scenes_are_judged_in_every_language_beside_composed_ones(run, forms: EmojiData):
    result = run("--pictures", 2, "--scenes", 5, "--seeds", 2, "--json", data=forms.path)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    found = report["attributes"]
    assert (found["scenes"], found["real_scenes"], report["seeds"]) == (5, 100, 2)
    assert set(found["scores"]) >= {"object", "count", "left", "right", "above", "whole scene"}
    for name in ("left", "right", "above", "count"):
        score = found["scores"][name]
        assert score["asked"] == 12 and set(score["languages"]) == set(LANGUAGES)
        assert score["real"] == 1 and score["spread"] >= 0
    asked = {name: sum(row.values()) for name, row in found["confusion"]["position"]["real"].items()}
    assert asked == {"left": 20, "right": 20, "above": 20}
    assert "drawing (88)" in result.stderr and "composed scenes (100)" in result.stderr


def test_page_and_table_of_scenes_with_spread(run, forms: EmojiData, tmp_path: Path):
    result = run("--pictures", 2, "--scenes", 5, "--seeds", 2, "--report", tmp_path / "report.html", data=forms.path)
    assert result.exit_code == 0, result.stderr
    block = next(b for b in result.stdout.split("\n\n") if b.startswith("scenes: right in %")).splitlines()
    assert block[0].split()[4:] == ["asked", "drawn", "real", "chance", "spread", *LANGUAGES]
    assert block[-1] == "5 scenes in each language with 2 seeds each, beside 100 composed ones"
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]
    page = (tmp_path / "report.html").read_text()
    assert check(page) == 2 * (18 + 9 + 9) * 2 + 2 * 9
    assert "What was taken for what" in page and "Not picked" in page and 'lang="th"' in page


@pytest.mark.parametrize("task", ["inpaint", "outpaint"])
def test_completed_scenes_are_judged_in_the_gap(run, forms: EmojiData, tmp_path: Path, task: str):
    page = tmp_path / "report.html"
    result = run("--task", task, "--scenes", 2, "--json", "--report", page, data=forms.path)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    scores = report["attributes"]["scores"]
    assert report["settings"]["task"] == task and report["attributes"]["scenes"] == 2
    assert scores["outside"]["drawn"] == 1, "the rest is left as it was"
    assert scores["object"]["asked"] == 12 and scores["object"]["real"] > 0.8
    assert check(page.read_text()) == 2 * (12 + 9 + 9)


def test_sheet_and_nothing_else(run, tmp_path: Path):
    result = run("--sheet", tmp_path / "sheet.png", data=tmp_path, by=tmp_path)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "sheet.png")
    assert Image.open(tmp_path / "sheet.png").size == (542, 202)


def test_an_interrupted_sheet_leaves_no_file(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sfumato.evaluate.sheet.draw_each", interrupted)
    result = run("--sheet", tmp_path / "sheet.png")
    assert (result.exit_code, result.stderr) == (130, "stopped\n")
    assert not list(tmp_path.iterdir())


def test_bad_input_gets_one_line(run, tmp_path: Path):
    (tmp_path / "file").write_text("")
    for result, words in (
        (run(data=tmp_path / "absent"), "sfumato data build emoji"),
        (run(by=tmp_path), "sfumato train clip"),
        (run("--style", "oil"), "twemoji"),
        (run("--pictures", 1), "--pictures"),
        (run("--sampler", "none"), "none"),
        (run("--sheet", tmp_path / "file" / "sheet.png"), "cannot write"),
        (run("--sheet", tmp_path / "sheet.gif"), ".png"),
        (run("--report", tmp_path / "report.pdf"), ".html"),
        (run("--report", tmp_path / "file" / "report.html"), "cannot write"),
        (run("--scenes", 5), "too few things"),
        (run("--seeds", 0), "--seeds"),
        (run("--task", "paint"), "inpaint"),
        (run("--task", "inpaint"), "too few things"),
        (run("--model", tmp_path / "absent"), "no model"),
    ):
        assert result.exit_code == 2, result.output
        assert result.stdout == "" and result.stderr.count("\n") == 1 and words in result.stderr
