"""Folders of pictures drawn anew."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import sfumato
from sfumato.api import StableDiffusion
from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.provenance import infotext
from sfumato.provenance.embedded import read_infotext

SMALL = {"steps": 4, "watermark": False}


@pytest.fixture
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "in"
    (source / "more").mkdir(parents=True)
    Image.radial_gradient("L").resize((33, 21)).convert("RGB").save(source / "a.png")
    Image.linear_gradient("L").resize((16, 16)).convert("RGB").save(source / "more" / "b.jpg")
    (source / "a.txt").write_text("a cat\n")
    (source / "notes.md").write_text("not a picture")
    return source


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_names_sizes_and_captions_are_kept(sd: StableDiffusion, folder: Path, tmp_path: Path) -> None:
    written = sd.augment(folder, tmp_path / "out", strength=0.5, **SMALL)
    assert files(tmp_path / "out") == ["a.png", "a.txt", "more/b.jpg"]
    assert written == [tmp_path / "out" / "a.png", tmp_path / "out" / "more" / "b.jpg"]
    with Image.open(tmp_path / "out" / "a.png") as new, Image.open(folder / "a.png") as old:
        assert new.size == old.size and new.tobytes() != old.tobytes()
    assert (tmp_path / "out" / "a.txt").read_text() == "a cat\n"
    prompt, _, fields = infotext.parse(read_infotext(tmp_path / "out" / "a.png") or "")
    assert (prompt, fields["Denoising strength"], fields["CFG scale"]) == ("a cat", "0.5", "1")


def test_copies_differ_and_do_not_depend_on_the_neighbours(sd: StableDiffusion, folder: Path, tmp_path: Path) -> None:
    sd.augment(folder, tmp_path / "out", n=2, **SMALL)
    assert files(tmp_path / "out") == ["a-1.png", "a-1.txt", "a-2.png", "a-2.txt", "more/b-1.jpg", "more/b-2.jpg"]
    first, second = ((tmp_path / "out" / name).read_bytes() for name in ("a-1.png", "a-2.png"))
    assert first != second
    (folder / "more" / "b.jpg").rename(folder / "0.jpg")
    sd.augment(folder, tmp_path / "again", n=2, **SMALL)
    assert (tmp_path / "again" / "a-2.png").read_bytes() == second


def test_an_interrupted_folder_goes_on(sd: StableDiffusion, folder: Path, tmp_path: Path) -> None:
    sd.augment(folder, tmp_path / "out", **SMALL)
    kept = tmp_path / "out" / "a.png"
    kept.write_bytes(b"mine")
    (tmp_path / "out" / "more" / "b.jpg").unlink()
    sd.augment(folder, tmp_path / "out", **SMALL)
    assert kept.read_bytes() == b"mine" and files(tmp_path / "out") == ["a.png", "a.txt", "more/b.jpg"]


def test_broken_pictures_are_left_out_with_a_note(sd: StableDiffusion, folder: Path, tmp_path: Path) -> None:
    (folder / "broken.png").write_bytes(b"not a png")
    with pytest.warns(SfumatoWarning, match=r"broken.png .*; left out"):
        sd.augment(folder, tmp_path / "out", **SMALL)
    assert files(tmp_path / "out") == ["a.png", "a.txt", "more/b.jpg"]


def test_bad_folders_are_refused(sd: StableDiffusion, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, target, words in (
        (tmp_path / "no", tmp_path / "out", "is not a folder"),
        (tmp_path / "empty", tmp_path / "out", "has no pictures"),
        (folder, folder / "out", "would be drawn again"),
        (folder, folder, "would be drawn again"),
    ):
        with pytest.raises(SfumatoError, match=words):
            sd.augment(source, target)
    with pytest.raises(SfumatoError, match=r"strength is 1.7"):
        sd.augment(folder, tmp_path / "out", strength=1.7)


def test_the_commands(run: Callable, refused: Callable, model: str, folder: Path) -> None:
    for name in ("augment", "anonymise"):
        done = run(name, "in", name, "--model", model, "--steps", 2)
        assert done.exit_code == 0, done.output
        assert done.stdout.splitlines() == [f"{name}/a.png", f"{name}/more/b.jpg"]
    strengths = [
        infotext.parse(read_infotext(f"{name}/a.png") or "")[2]["Denoising strength"]
        for name in ("augment", "anonymise")
    ]
    assert strengths == ["0.3", "0.6"]
    refused(run("augment", "no", "out", "--model", model), "no is not a folder")
