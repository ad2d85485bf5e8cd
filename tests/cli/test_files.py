"""Where pictures come from and go to: several, by pattern, by standard input and output; and what is said meanwhile."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from sfumato.cli.main import app
from sfumato.cli.output import Destination
from sfumato.cli.sources import pictures_and_prompt
from sfumato.errors import SfumatoError
from sfumato.provenance.embedded import read_infotext

Run = Callable[..., Result]
SMALL = ("--steps", 1, "--size", "16x16", "--seed", 5)


@pytest.fixture
def draw(run: Run, model: str) -> Run:
    return lambda command, *words: run(command, *words, "--model", model, *SMALL)


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Two pictures in cats/."""
    (tmp_path / "cats").mkdir()
    for name in ("one", "two"):
        Image.linear_gradient("L").resize((16, 16)).save(tmp_path / "cats" / f"{name}.png")
    return ["cats/one.png", "cats/two.png"]


def test_a_file_that_exists_is_only_replaced_when_that_is_said(draw: Run, refused: Callable, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_text("mine")
    refused(draw("txt2img", "a cat", "--out", "cat.png"), "cat.png exists; give another name, or --overwrite to")
    assert (tmp_path / "cat.png").read_text() == "mine"
    assert draw("txt2img", "a cat", "--out", "cat.png", "--overwrite").exit_code == 0
    assert (tmp_path / "cat.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("command", ["grid", "interpolate"])
def test_the_same_rule_for_sheets_and_films(draw: Run, refused: Callable, tmp_path: Path, command: str) -> None:
    words = {"grid": ("a cat", "--x", "cfg=1,2"), "interpolate": ("a cat", "a dog", "--frames", 2)}[command]
    file = tmp_path / {"grid": "grid.png", "interpolate": "motion.gif"}[command]
    file.write_text("mine")
    refused(draw(command, *words, "--out", file.name), f"{file.name} exists", "--overwrite")
    assert draw(command, *words).stdout == f"{file.stem}-2{file.suffix}\n"  # a name that nobody gave
    assert file.read_text() == "mine"
    assert draw(command, *words, "--overwrite").exit_code == 0
    assert file.read_bytes()[:4] != b"mine"


def test_names_from_a_pattern(draw: Run, refused: Callable, tmp_path: Path, pictures: list[str]) -> None:
    assert draw("txt2img", "a cat", "-n", 2, "--out", "a/cat-{seed}.png").stdout == "a/cat-5.png\na/cat-6.png\n"
    assert draw("txt2img", "a cat", "--out", "a/cat-{seed}.png").stdout == "a/cat-5-2.png\n"
    assert draw("txt2img", "a cat", "--out", "a/cat-{seed}.png", "--overwrite").stdout == "a/cat-5.png\n"
    done = draw("img2img", *pictures, "a dog", "--out", "b/{name}-{seed}.jpg")
    assert done.stdout == "b/one-5.jpg\nb/two-5.jpg\n", done.output
    assert draw("txt2img", "a cat", "-n", 2, "--out", "c/{number}.png").stdout == "c/00000.png\nc/00001.png\n"
    refused(draw("img2img", *pictures, "--out", "one.png"), "2 pictures are to be drawn; give a folder, or a name such")
    refused(draw("img2img", *pictures, "--out", "{seed}.png"), "2 pictures are to be drawn")
    refused(draw("txt2img", "a cat", "--out", "{sed}.png"), "did you mean 'seed'?")
    refused(draw("txt2img", "a cat", "--out", "{seed.png"), "has a brace that is no place")
    refused(draw("txt2img", "a cat", "--out", "{seed}/a.png"), "only a file's name may have them")


def test_several_pictures_and_patterns(draw: Run, refused: Callable, tmp_path: Path, pictures: list[str]) -> None:
    done = draw("img2img", "cats/*.png", "a dog", "--out", "out/", "--json")
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["settings"]["picture"] for one in said] == pictures
    assert [one["files"] for one in said] == [["out/00000-5.png"], ["out/00001-5.png"]]
    texts = [read_infotext(path) or "" for path in (tmp_path / "out").iterdir()]
    assert len(texts) == 2 and all(text.startswith("a dog\n") for text in texts)
    assert draw("upscale", *pictures, "--strength", 0.5, "--out", "large/").exit_code == 2  # it has no --size
    refused(draw("img2img", "dogs/*.png", "a dog"), "no file fits 'dogs/*.png'")


@pytest.mark.parametrize(
    ("words", "pictures", "prompt"),
    [
        (["one.png"], ["one.png"], ""),
        (["one.png", "a cat"], ["one.png"], "a cat"),
        (["one.png", "two.png"], ["one.png", "two.png"], ""),
        (["one.png", "two.png", "a cat."], ["one.png", "two.png"], "a cat."),
        (["one.png", "cat"], ["one.png"], "cat"),  # a file without an ending, which a prompt may be called like
        (["*.png", "what is this?"], ["one.png", "two.png"], "what is this?"),
        (["*.png"], ["one.png", "two.png"], ""),
        (["missing.png"], ["missing.png"], ""),
        (["missing.png", "a cat"], ["missing.png"], "a cat"),
        ([".", "a cat"], ["."], "a cat"),  # which is no file, as its reader will say
        (["-", "a cat"], ["-"], "a cat"),
        (["one.png", ""], ["one.png"], ""),
        (["one.png", "x" * 5000], ["one.png"], "x" * 5000),
    ],
)
def test_which_words_are_pictures(
    words: list[str], pictures: list[str], prompt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one.png", "two.png", "cat"):
        (tmp_path / name).touch()
    assert pictures_and_prompt(words) == (pictures, prompt)


@pytest.mark.parametrize("words", [["a cat", "one.png"], ["a cat", "missing.png"], ["x" * 5000, "a cat"]])
def test_a_prompt_before_the_pictures_is_noticed(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.png").touch()
    with pytest.raises(SfumatoError, match="name the pictures first, and then the prompt"):
        pictures_and_prompt(words)


def test_standard_input_and_output(run: Run, model: str, pictures: list[str], tmp_path: Path) -> None:
    options = ["--model", model, *map(str, SMALL)]
    picture = (tmp_path / pictures[0]).read_bytes()
    done = CliRunner().invoke(app, ["img2img", "-", "a cat", *options, "--out", "-"], input=picture)
    assert done.exit_code == 0, done.stderr
    with Image.open(io.BytesIO(done.stdout_bytes)) as image:
        assert image.size == (16, 16) and image.info["parameters"].startswith("a cat\n")
    assert CliRunner().invoke(app, ["txt2img", "-", *options, "--out", "x.png"], input="a red\nheart\n").exit_code == 0
    assert (read_infotext("x.png") or "").startswith("a red\nheart\nSteps: 1")
    for words, said in (
        (["txt2img", "a cat", "--out", "-", "--json"], "--json and --out - both write to standard output"),
        (["txt2img", "a cat", "--out", "-", "-n", "2"], "standard output takes one picture"),
        (["img2img", "-", "a cat"], "the picture on standard input is no PNG"),
    ):
        done = CliRunner().invoke(app, [*words, *options], input=b"no picture")
        assert (done.exit_code, done.stdout) == (2, "") and said in done.stderr


def test_quiet_usual_and_verbose(draw: Run) -> None:
    assert draw("txt2img", "a cat", "-q").stderr == ""
    assert draw("txt2img", "a cat").stderr.startswith("picture 1 of 1 after ")
    loading, loaded, drawn = draw("txt2img", "a cat", "-v").stderr.splitlines()
    assert loading.startswith("loading ") and loading.endswith(" ...")
    assert loaded.startswith("loaded tiny (") and "float32" in loaded and loaded.endswith(" s")
    assert drawn.startswith("picture 1 of 1")
    assert draw("grid", "a cat", "--x", "cfg=1,2", "-q").stderr == ""


LOADING = """
import sys
from sfumato.cli import status
sys.stderr.isatty = lambda: True
seen = []
write = sys.stderr.write
def watch(text):
    if text:
        seen.append((text, "torch" in sys.modules))
    return write(text)
sys.stderr.write = watch
from sfumato.cli.main import app
try:
    app(["txt2img", "a cat", "--model", "nowhere"], prog_name="sfumato")
finally:
    print(seen[0], seen[-2:])
"""


def test_a_terminal_is_told_at_once_and_the_line_goes_before_the_error(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, cwd=tmp_path)
    assert done.stdout.decode().startswith("('loading nowhere ...', False)"), done
    assert done.stderr.decode().startswith("loading nowhere ...\r\x1b[2Kerror: no model at 'nowhere'"), done.stderr


def test_a_file_that_came_while_a_picture_was_drawn_is_not_replaced(tmp_path: Path) -> None:
    destination = Destination(tmp_path, "cat.png")
    destination.check()
    (tmp_path / "cat.png").write_text("mine")
    assert destination.save(Image.new("RGB", (4, 4)), 1, "a cat") == tmp_path / "cat-2.png"
    assert (tmp_path / "cat.png").read_text() == "mine"


def test_exit_codes_are_documented(run: Run) -> None:
    shown = " ".join(run("--help").stdout.split())
    for said in ("0 when all is done", "1 for a fault in sfumato", "2 for input", "130 when it was stopped"):
        assert said in shown


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("sfumato txt2img --sampler dpmpp_2", "dpmpp_2m"),
        ("sfumato txt2img --schedule kar", "karras"),
        ("sfumato txt2img --model emo", "emoji"),
        ("sfumato train ldm emoji", "emoji"),
    ],
)
def test_values_are_completed(words: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"_SFUMATO_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = CliRunner().invoke(app, [], env=environment, prog_name="sfumato")
    assert found in " ".join(done.stdout.split()).split() or any(one.startswith(found) for one in done.stdout.split())


def test_missing_pictures_are_told(draw: Run, refused: Callable) -> None:
    refused(draw("img2img", "no.png", "a cat"), "there is no file no.png")
    with pytest.raises(SfumatoError, match="no file fits"):
        pictures_and_prompt(["no/*.png"])


def test_names_of_models_are_taken_wherever_one_is_given(run: Run, refused: Callable, tmp_path: Path) -> None:
    assert "usable     yes" in run("inspect", "emoji").stdout
    done = run("convert", "emoji", "copy.safetensors", "--layout", "original", "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["exact"]
    refused(run("inspect", "emojj"), "no model at 'emojj'", "such as emoji")
    refused(run("convert", "emojj", "x", "--layout", "diffusers"), "no model at 'emojj'")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("txt2img cat --dtype flot16", "did you mean 'float16'?"),
        ("convert emoji x --layout difusers", "did you mean 'diffusers'?"),
        ("convert emoji x --layout diffusers --dtype float23", "unknown --dtype 'float23'; did you mean 'float32'?"),
        ("img2img one.png --resize padd", "unknown --resize 'padd'; did you mean 'pad'?"),
        ("inpaint one.png --start orignal", "unknown --start 'orignal'; did you mean 'original'?"),
        ("interrogate one.png --language eng", "did you mean 'en'?"),
        ("train lmd", "Did you mean 'ldm'"),
        ("txt2img cat --style inc --styles-file styles.csv", "did you mean 'ink'?"),
    ],
)
def test_wrong_values_are_answered_with_the_nearest(
    run: Run, refused: Callable, tmp_path: Path, words: str, said: str
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    (tmp_path / "styles.csv").write_text("name,prompt,negative_prompt\nink,ink drawing,\n")
    refused(run(*words.split()), said)
