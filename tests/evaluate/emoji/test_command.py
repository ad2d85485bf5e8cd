"""The command from end to end: a model of random weights, a judge of random weights, a set of squares."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from sfumato.cli.main import app
from sfumato.data.emoji.captions import LANGUAGES
from sfumato.data.emoji.dataset import EmojiData
from sfumato.errors import SfumatoError
from sfumato.evaluate import speed

from .test_page import check


@pytest.fixture
def run(squares: EmojiData, model: Path, judge: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(speed, "first_picture", lambda options, rounds: float(rounds))

    def run(*words: object, data: Path | None = None, by: Path | None = None) -> Result:
        fixed = ["--model", model, "--data", data or squares.path, "--judge", by or judge, "--steps", 1, "--quick"]
        return CliRunner().invoke(app, ["evaluate", *map(str, [*fixed, "--device", "cpu", *words])])

    return run


def test_json_has_every_figure_and_is_the_same_twice(run, squares: EmojiData):
    first, second = (run("--pictures", 4, "--scenes", 0, "--json") for _ in range(2))
    assert first.exit_code == 0, first.stderr
    report, again = json.loads(first.stdout), json.loads(second.stdout)
    took, _ = report.pop("speed"), again.pop("speed")
    assert took["first_picture"] == 1 and took["twenty_steps"] > 0 and took["among_many"] > 0
    assert report == again
    assert list(report["precision"]) == list(LANGUAGES)
    english = report["precision"]["en"]
    assert (english["drawn"]["n"], english["real"]["n"], english["held_out"]["n"]) == (4, 4, 2)
    assert 0 <= english["drawn"]["low"] <= english["drawn"]["mean"] <= english["drawn"]["high"] <= 1
    assert set(report["reconstruction"]) == {"unseen_picture", "unseen_concept"}
    assert report["reconstruction"]["unseen_concept"]["white"]["n"] == 12
    assert set(report["words"]) == {"real", "name", "sentence", "keywords"}
    assert report["words"]["sentence"]["ja"]["of_100"]["n"] == 2
    assert report["words"]["keywords"]["en"]["of_all"] is None  # one keyword each: no combination is new
    assert report["unseen"]["style"]["n"] == report["unseen"]["real_concept"]["of_100"]["n"] == 2
    assert report["scenes"] == {} and report["variety"]["between_seeds"]["n"] == 3 * 3
    assert set(report["originality"]["distances"]) == {"drawn", "unseen_picture", "unseen_concept", "copies"}
    assert report["settings"]["steps"] == 1 and report["settings"]["width"] == 32
    assert "drawing (47)" in first.stderr


def test_tables_are_aligned_and_complete(run):
    result = run("--pictures", 3, "--scenes", 0, "--style", "flat", "--style", "noto")
    assert result.exit_code == 0, result.stderr
    blocks = [block.splitlines() for block in result.stdout.strip().split("\n\n")]
    table = next(block for block in blocks if block[0].startswith("own caption first of 100"))
    assert [line.split()[0] for line in table[1:7]] == list(LANGUAGES)
    assert len({len(line) for line in table[:7]}) == 1
    assert "styles flat, noto" in result.stdout
    heads = ("concept right", "unseen combinations", "variety", "to the nearest", "reconstruction", "speed")
    assert all(any(block[0].startswith(head) for block in blocks) for head in heads)


def test_scenes_and_a_page(run, forms: EmojiData, tmp_path: Path):
    result = run("--pictures", 2, "--scenes", 1, "--report", tmp_path / "report.html", "--json", data=forms.path)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert set(report["scenes"]) == {"plain", "held"}
    scores = report["scenes"]["plain"]["scores"]
    asked = {"left", "right", "above", "below", "small", "count", "many"}
    assert set(scores) >= asked | {"thing", "colour", "whole scene"}
    assert scores["left"]["drawn"]["n"] == 6 and set(scores["left"]["languages"]) == set(LANGUAGES)
    assert scores["left"]["real"]["n"] >= 4 and scores["small"]["real"]["mean"] == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]
    page = (tmp_path / "report.html").read_text()
    assert check(page) > 100
    assert "What was taken for what" in page and "Not picked" in page and 'lang="th"' in page and "Variety" in page


@pytest.mark.parametrize("task", ["inpaint", "outpaint"])
def test_completed_scenes_are_judged_in_the_gap(run, forms: EmojiData, tmp_path: Path, task: str):
    page = tmp_path / "report.html"
    result = run("--task", task, "--scenes", 1, "--json", "--report", page, data=forms.path)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    scores = report["attributes"]["scores"]
    kinds = {"inpaint": 4, "outpaint": 3}[task]
    assert report["settings"]["task"] == task and scores["thing"]["drawn"]["n"] == kinds * 6
    assert scores["outside"]["drawn"]["mean"] == 1, "the rest is left as it was"
    assert check(page.read_text()) > 2 * 18


def test_sheet_and_nothing_else(run, tmp_path: Path):
    result = run("--sheet", tmp_path / "sheet.png", data=tmp_path, by=tmp_path)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(tmp_path / "sheet.png")
    assert Image.open(tmp_path / "sheet.png").size == (542, 202)


def test_an_interrupted_sheet_leaves_no_file(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sfumato.evaluate.emoji.sheet.draw_each", interrupted)
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
        (run("--task", "paint"), "inpaint"),
        (run("--model", tmp_path / "absent"), "no model"),
    ):
        assert result.exit_code == 2, result.output
        assert result.stdout == "" and result.stderr.count("\n") == 1 and words in result.stderr


@pytest.mark.slow
def test_the_start_of_a_process_is_timed(model: Path):
    seconds = speed.first_picture(["--model", str(model), "--steps", "1", "--size", "32x32"], 1)
    assert seconds is not None and seconds > 0.2
    assert speed.first_picture([], 0) is None
    with pytest.raises(SfumatoError, match="no model"):
        speed.first_picture(["--model", str(model / "absent")], 1)
