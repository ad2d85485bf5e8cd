"""Drawing from the command line: files, names, settings, interruption and every kind of bad input."""

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

import sfumato
from sfumato.cli.options import parse_pair
from sfumato.errors import SfumatoError
from sfumato.pipeline.events import Picture, Progress
from sfumato.provenance import infotext
from sfumato.provenance.embedded import read_infotext
from sfumato.tasks import txt2img as task

Run = Callable[..., Result]


@pytest.fixture
def draw(run: Run, model: str) -> Run:
    """`sfumato txt2img` with the little model, two steps and 32 x 32 pixels."""
    return lambda *words: run("txt2img", "--model", model, "--steps", 2, "--size", "32x32", *words)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["cat.png", "cat.jpg", "new/folder/cat.webp"])
def test_one_picture_into_a_file(draw: Run, tmp_path: Path, name: str) -> None:
    for seed, more in ((3, ()), (4, ("--overwrite",))):  # the second replaces the first
        done = draw("a cat", "--seed", seed, "--out", name, *more)
        assert (done.exit_code, done.stdout) == (0, f"{name}\n"), done.output
        assert done.stderr.startswith("picture 1 of 1 after ")
        with Image.open(tmp_path / name) as image:
            assert image.size == (32, 32)
        prompt, negative, fields = infotext.parse(read_infotext(tmp_path / name) or "")
        assert (prompt, negative, fields["Seed"], fields["Steps"]) == ("a cat", "", str(seed), "2")
    assert names((tmp_path / name).parent) == [Path(name).name]


def test_parts_given_apart(draw: Run, model: str) -> None:
    parts = ("--vae", f"{model}/vae", "--text-encoder", f"{model}/text_encoder/model.safetensors")
    assert draw("a cat", *parts, "--out", "cat.png").exit_code == 0
    done = draw("a cat", "--vae", f"{model}/text_encoder")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "is a CLIP text encoder alone; a VAE is expected here" in done.stderr


def test_several_pictures_go_on_in_their_folder(draw: Run, tmp_path: Path) -> None:
    for _ in range(2):
        assert draw("a cat", "--seed", 5, "-n", 2, "--out", "cats").exit_code == 0
    assert names(tmp_path / "cats") == ["00000-5.png", "00001-6.png", "00002-5.png", "00003-6.png"]
    first, again = (tmp_path / f"cats/{name}-5.png" for name in ("00000", "00002"))
    assert first.read_bytes() == again.read_bytes()


def test_without_out_no_file_is_replaced(draw: Run, tmp_path: Path) -> None:
    for _ in range(3):
        assert draw("a cat", "--seed", 5).exit_code == 0
    assert names(tmp_path) == ["sfumato-5-2.png", "sfumato-5-3.png", "sfumato-5.png"]


def test_a_folder_may_have_a_dot_in_its_name(draw: Run, tmp_path: Path) -> None:
    assert draw("a cat", "--seed", 1, "--out", "v1.5/").stdout == "v1.5/00000-1.png\n"
    assert draw("a cat", "--seed", 1, "--out", "v1.5").stdout == "v1.5/00001-1.png\n"


def test_json_says_everything(draw: Run, tmp_path: Path) -> None:
    options = {"seed": 7, "negative": "a dog", "cfg": 3.5, "clip-skip": 2, "sampler": "Euler a", "schedule": "karras"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    done = draw("a cat", *words, "-n", 2, "--out", "cats", "--json", "--no-watermark")
    said = json.loads(done.stdout)
    assert said["files"] == ["cats/00000-7.png", "cats/00001-8.png"]
    assert said["seeds"] == [7, 8]
    assert said["infotexts"] == [read_infotext(tmp_path / file) for file in said["files"]]
    assert 0 < said["seconds"] < 600
    settings = task.Settings(
        "a cat", "a dog", steps=2, cfg=3.5, seed=7, width=32, height=32, sampler="euler_ancestral", schedule="karras",
        clip_skip=2, n=2, watermark=False, slg=0.0, cfg_rescale=0.0,
    )  # fmt: skip
    assert said["settings"] == {"model": "tiny", **json.loads(json.dumps(asdict(settings)))}


def test_a_seed_is_drawn_and_told(draw: Run) -> None:
    first, second = (json.loads(draw("a cat", "--json").stdout) for _ in range(2))
    assert first["seeds"] != second["seeds"]
    again = json.loads(draw("a cat", "--json", "--seed", first["seeds"][0]).stdout)
    assert Path(again["files"][0]).read_bytes() == Path(first["files"][0]).read_bytes()


def test_an_unprintable_prompt_is_drawn(draw: Run) -> None:
    done = draw("\udcff a\0 cat \u202e", "--out", "cat.png", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["files"] == ["cat.png"]


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task is stopped after its first picture."""

    def stopped(model: object, settings: object, refiner: object) -> Iterator[Progress | Picture]:
        yield Progress(0, 1, 1, lambda: Image.new("RGB", (1, 1)))
        yield Picture(0, Image.new("RGB", (32, 32)), 5, "one")
        raise KeyboardInterrupt

    monkeypatch.setattr(task, "txt2img", stopped)


@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_keeps_finished_pictures(draw: Run, tmp_path: Path) -> None:
    done = draw("a cat", "-n", 2, "--out", "cats")
    assert (done.exit_code, done.stdout) == (130, "cats/00000-5.png\n")
    assert done.stderr.splitlines()[-1] == "stopped"
    assert names(tmp_path / "cats") == ["00000-5.png"]


@pytest.mark.usefixtures("interrupted")
def test_ctrl_c_reports_finished_pictures_as_json(draw: Run) -> None:
    done = draw("a cat", "-n", 2, "--out", "cats", "--json")
    assert done.exit_code == 130
    assert json.loads(done.stdout)["files"] == ["cats/00000-5.png"]


def test_an_interrupt_signal_ends_a_real_run(model: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sfumato", "txt2img", "a cat", "--model", model, "-n", "10000", "--steps", "2"]
    with subprocess.Popen(
        [*command, "--size", "32x32", "--seed", "0", "--out", "cats"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background they inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "cats/00000-0.png\n"
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "stopped" and "Traceback" not in errors
    files = names(tmp_path / "cats")
    assert len(files) - 1 - len(rest.splitlines()) in (0, 1)  # the last may have been saved but not yet named
    for file in files:
        Image.open(tmp_path / "cats" / file).load()


def test_a_full_disk_is_told_in_one_line(draw: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    done = draw("a cat", "--out", "cats")
    assert done.exit_code == 2
    assert "no space left" in done.stderr and done.stderr.count("\n") <= 2
    assert names(tmp_path / "cats") == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--size 64", "width x height"),
        ("--size 64x", "width x height"),
        ("--size -64x64", "width x height"),
        ("--size 6e1x64", "width x height"),
        ("--size 33x32", "the width of --size is 33"),
        ("--size 32x0", "the height of --size is 0"),
        ("--size 32x99998", "height of --size is 99998"),
        ("--steps 0", "steps is 0"),
        ("--steps -1", "steps is -1"),
        ("--steps 1001", "steps is 1001"),
        ("--steps 2.5", "--steps"),
        ("--cfg nan", "--cfg is nan"),
        ("--cfg -inf", "--cfg is -inf"),
        ("--cfg much", "--cfg"),
        ("--sampler foo", "unknown sampler 'foo'"),
        ("--schedule foo", "unknown schedule 'foo'"),
        ("--sampler euler_a --set eta", "--set has 'eta'; give a name and a value, such as eta=0.5"),
        ("--sampler euler_a --set eta=much", "eta is 'much'; choose a number such as 1.0"),
        ("--sampler euler_a --set eta=2", "eta is 2; choose a number from 0 to 1"),
        ("--set eta=1", "DPM++ 2M on the schedule Karras has no option 'eta'; it has rho"),
        ("--set rho=5 --schedule simple", "has no option 'rho'; it has none"),
        ("--schedule ays --sigmas 3,1,0", "leave those two out"),
        ("--sigmas 3,1", "--sigmas are 1 --steps"),
        ("--sigmas 3,x,0", "sigmas are '3,x,0'; give numbers"),
        ("--clip-skip 0", "--clip-skip is 0"),
        ("--clip-skip 9", "--clip-skip is 9"),
        ("--seed -9223372036854775809", "seed is -9223372036854775809"),
        ("--seed 18446744073709551616", "seed is 18446744073709551616"),
        ("-n 0", "--number is 0"),
        ("--device tpu", "device 'tpu'"),
        ("--device meta", "device 'meta'"),
        ("--dtype int4", "dtype 'int4'"),
        ("--model nowhere", "no model at 'nowhere'"),
        ("--model .", "holds no weights"),
        ("--model ~nobody/cat.ckpt", "no model at"),
        ("--out cat.gif", ".png"),
        ("--out cats/.png", "names no file"),
        ("--out new/folder/cat.png --steps 0", "steps is 0"),
        ("--out new/cats/ -n 3 --sampler foo", "unknown sampler"),
        ("-n 2 --out cat.png", "give a folder"),
        ("extra", "unexpected extra argument"),
    ],
)
def test_bad_options(draw: Run, refused: Callable[..., None], tmp_path: Path, words: str, expected: str) -> None:
    refused(draw("a cat", *words.split()), expected)
    assert names(tmp_path) == []


def test_bad_prompts(draw: Run, refused: Callable[..., None], tmp_path: Path) -> None:
    refused(draw("word " * 10_000), "shorten it")
    refused(draw("a cat", "--negative", "word " * 10_000), "shorten it")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"not a model", struct.pack("<Q", 2**40) + b"{}", struct.pack("<Q", 2) + b"{}", b"PK\3\4 no archive"],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_broken_model_files(
    draw: Run, refused: Callable[..., None], tmp_path: Path, content: bytes, suffix: str
) -> None:
    (tmp_path / f"broken{suffix}").write_bytes(content)
    refused(draw("a cat", "--model", f"broken{suffix}"), f"broken{suffix}")


@pytest.mark.parametrize("out", ["file/cat.png", "file/cats", "file", "x" * 300, f"{'x' * 250}.png", "/proc/cats"])
def test_unwritable_output_is_refused_before_the_model_is_loaded(
    draw: Run, refused: Callable[..., None], tmp_path: Path, out: str
) -> None:
    (tmp_path / "file").touch()
    refused(draw("a cat", "--out", out, "--model", "nowhere"), "cannot write")


def test_sizes() -> None:
    assert parse_pair("size", "512x768") == parse_pair("size", " 512 X 768 ") == parse_pair("size", "512×768")
    assert (parse_pair("size", "512x768"), parse_pair("size", None)) == ((512, 768), None)
    for text in ("", "x", "512", "512x", "0x1x2", "٣x٣", "1" * 5000 + "x1"):
        with pytest.raises(SfumatoError, match=r"the size is .*width x height"):
            parse_pair("size", text)


def test_an_overflowing_autoencoder_is_told_once(draw: Run, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    half = sfumato.load(model, dtype="float16")
    last = half.vae.decoder.conv_out  # not even smaller numbers inside help where the result is too large
    last.weight *= 2.0**15
    last.bias += 60000
    monkeypatch.setattr(sfumato, "load", lambda *arguments, **options: half)
    done = draw("a cat", "-n", 2, "--out", "cats")
    assert done.exit_code == 0, done.output
    notes = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert notes == ["note: the autoencoder overflows in half precision, so it runs in float32 from here on"]
