"""`sfumato tokens`, and the options about words."""

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

Run = Callable[..., Result]


def test_how_a_prompt_is_read(run: Run, model: str) -> None:
    lines = run("tokens", "a (cat:1.3) [b|c] (x <b", "--model", model, "--steps", "2").stdout.splitlines()
    assert lines[0] == "prompt    a (cat:1.3) [b|c] (x <b"
    note, text, caret = lines[1:4]
    assert "'(' is never closed" in note
    assert text[caret.index("^")] == "(" and text[caret.index("^") :] == "(x <b"
    assert "step 1: a (cat:1.3) b (x <b" in lines and "step 2: a (cat:1.3) c (x <b" in lines
    assert any(line.startswith("  window 1,") and "):1.3 b (" in line for line in lines)


def test_carets_stand_under_wide_letters(run: Run, model: str) -> None:
    lines = run("tokens", "猫🍎 (a", "--model", model).stdout.splitlines()
    assert lines[3].index("^") == len("          ") + 5  # two letters of two columns and a blank


def test_choices_are_those_of_the_seed(run: Run, model: str, tmp_path: Path) -> None:
    (tmp_path / "animal.txt").write_text("cat\n")
    words = ("tokens", "{a|b|c} __animal__", "--model", model, "--wildcards", str(tmp_path), "--seed", "3", "--json")
    found = json.loads(run(*words).stdout)
    assert found["template"] == "{a|b|c} __animal__" and found["prompt"] in ("a cat", "b cat", "c cat")
    assert found == json.loads(run(*words).stdout)


def test_json_has_all(run: Run, model: str) -> None:
    found = json.loads(run("tokens", "a <lora:fur:0.5> AND b BREAK c :0.5", "--model", model, "--json").stdout)
    assert found["adapters"] == ["<lora:fur:0.5>"]
    assert [part["weight"] for part in found["parts"]] == [1.0, 0.5]
    (reading,) = found["parts"][1]["readings"]
    assert [[piece["text"] for piece in window] for window in reading["windows"]] == [["b"], ["c"]]
    assert (reading["first"], reading["cut"]) == (1, 0)


def test_what_is_too_long_is_counted(run: Run, model: str) -> None:
    result = run("tokens", "a " * (16 * 75 + 3), "--model", model)
    assert "too long by 3 tokens: it cannot be drawn" in result.stdout


def test_an_adapter_ends_a_drawing_in_one_line(run: Run, model: str) -> None:
    result = run("txt2img", "a <lora:fur:0.5>", "--model", model, "--size", "64x64")
    assert result.exit_code == 2 and len(result.stderr.strip().splitlines()) == 1
    assert "no adapter 'fur'" in result.stderr


def test_styles_and_plain_words_are_drawn(run: Run, model: str, tmp_path: Path) -> None:
    styles = tmp_path / "styles.csv"
    styles.write_text("name,prompt,negative_prompt\nink,ink drawing,colour\n")
    small = (
        "--model",
        model,
        "--size",
        "64x64",
        "--steps",
        "1",
        "--seed",
        "1",
        "--json",
        "--out",
        str(tmp_path / "x.png"),
    )
    result = run("txt2img", "a (cat", "--style", "ink", "--styles-file", str(styles), *small)
    assert "note: the prompt at '(cat, ink drawing'" in result.stderr
    assert json.loads(result.stdout)["infotexts"][0].startswith("a (cat, ink drawing\nNegative prompt: colour\n")
    plain = run("txt2img", "a (cat", "--prompt-syntax", "plain", *small, "--overwrite")
    assert "note" not in plain.stderr and "Prompt syntax: plain" in json.loads(plain.stdout)["infotexts"][0]
