"""What is on the machine, and which file a name means."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

import sfumato
from sfumato.checkpoint import hashes
from sfumato.errors import SfumatoError
from sfumato.hub import catalogue, local_models
from sfumato.hub.catalogue import File, release

Put = Callable[[Path], Path]
SHIPPED = 4 + len(local_models.embedded_variants())  # models and adapters that are found before all others


@pytest.fixture
def small(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Releases 1.5 and 2.1 whose files are as small as what `put` writes; its size."""
    size = put(tmp_path / "measure.safetensors").stat().st_size
    monkeypatch.setattr(
        local_models,
        "RELEASES",
        tuple(
            replace(one, file=File(one.file.name, size, one.file.sha256)) if one.name in ("sd1.5", "sd2.1") else one
            for one in catalogue.RELEASES
        ),
    )
    monkeypatch.setattr(
        local_models, "release", lambda name: next((one for one in local_models.RELEASES if one.name == name), None)
    )
    return size


def cached(repository: str, file: str, put: Put) -> Path:
    """A file in the Hugging Face cache, as its library lays it out."""
    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    blob = put(folder / "blobs" / "0123")
    link = folder / "snapshots" / "abc" / file
    link.parent.mkdir(parents=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    return link


def test_an_empty_machine_has_the_embedded_model_and_knows_every_release() -> None:
    listed = local_models.models()
    assert [one.name for one in listed if one.path] == [
        "emoji", "emoji-depth", "emoji-fast", "emoji-inpainting", "emoji-unet", "emoji-edges", "saturn-emoji",
        "sepia",
    ]  # fmt: skip
    assert {one.release for one in listed} == {None, *(one.name for one in catalogue.RELEASES)}
    emoji = next(one for one in listed if one.path)
    assert (emoji.family, emoji.layout, emoji.licence) == ("sd3_prior", "diffusers", "sfumato-emoji")


def test_a_stray_is_known_by_its_tensors(home: Path, put: Put) -> None:
    path = put(home / "models" / "portraits" / "mine.safetensors")
    model = next(one for one in local_models.models() if one.path == path)
    assert (model.name, model.what, model.family, model.layout) == ("mine", "Stable Diffusion 1.x", "sd1", "original")
    assert (model.dtype, model.size, model.licence) == ("float32", path.stat().st_size, "creativeml-openrail-m")
    assert model.release is model.problem is model.sha256 is None


def test_broken_files_are_listed_as_such(home: Path) -> None:
    path = home / "models" / "broken.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a model")
    model = next(one for one in local_models.models() if one.path == path)
    assert model.what == "broken" and model.problem is not None and str(path) in model.problem


def test_a_release_is_known_by_name_and_size_or_by_hash(
    home: Path, put: Put, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = put(home / "models" / "v1-5-pruned-emaonly.safetensors")
    renamed = put(home / "models" / "renamed.safetensors")
    known = release("sd2.1")
    assert known is not None and known.file.sha256 is not None
    hashes.keep(renamed, known.file.sha256)
    assert {one.path: one.release for one in local_models.models() if one.release and one.path} == {
        named: "sd1.5",
        renamed: "sd2.1",
    }
    renamed.write_bytes(b"changed")
    assert local_models.release_of(renamed) is None
    named.write_bytes(b"of another size")
    assert local_models.release_of(named) is None


@pytest.mark.usefixtures("small")
def test_names_mean_files_in_every_place(home: Path, put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_cache = cached("runwayml/stable-diffusion-v1-5", "v1-5-pruned-emaonly.safetensors", put)
    assert local_models.find("sd1.5").path == in_cache
    a1111 = put(tmp_path / "webui" / "models" / "Stable-diffusion" / "sub" / "v1-5-pruned-emaonly.safetensors")
    comfy = put(tmp_path / "comfy" / "models" / "checkpoints" / "Dream.safetensors")
    vae = put(tmp_path / "comfy" / "models" / "vae" / "Dream.safetensors")
    plain = put(tmp_path / "plain" / "other.safetensors")
    roots = [str(tmp_path / name) for name in ("webui", "comfy", "plain", "missing")]
    monkeypatch.setenv("SFUMATO_MODELS", os.pathsep.join(roots))
    assert local_models.find("sd1.5").path == a1111
    assert local_models.find("Dream").path == local_models.find("dream.safetensors").path == comfy
    assert local_models.find("Dream", kind="vae").path == vae
    assert local_models.find("other").path == plain
    own = put(home / "models" / "v1-5-pruned-emaonly.safetensors")
    assert local_models.find("sd1.5").path == own
    monkeypatch.delenv("SFUMATO_MODELS")
    (home / "config.toml").write_text(f"models = ['{tmp_path / 'plain'}']")
    assert local_models.find("other").path == plain


def test_a_diffusers_folder_is_one_model_with_a_name(home: Path, put: Put) -> None:
    folder = home / "models" / "fine"
    put(folder / "unet" / "diffusion_pytorch_model.safetensors")
    (folder / "model_index.json").write_text("{}")
    (home / "models" / "empty").mkdir()
    (home / "models" / "empty" / "model_index.json").write_text("{}")  # a download that was never finished
    assert local_models.find("fine").path == folder
    assert [one.path for one in local_models.found()][SHIPPED:] == [folder]


def test_names_that_mean_nothing_or_too_much_are_refused(home: Path, put: Put) -> None:
    with pytest.raises(SfumatoError, match=r"`sfumato pull sd1.5` downloads it \(4.3 GB\)"):
        local_models.find("sd1.5")
    with pytest.raises(SfumatoError, match=r"no model at 'sd1.55'.*such as sd1.5"):
        local_models.find("sd1.55")
    one, two = (put(home / "models" / folder / "twice.safetensors") for folder in "ab")
    with pytest.raises(SfumatoError, match=f"'twice' may mean {one}, {two}"):
        local_models.find("twice")


def test_a_file_with_two_names_and_a_circle_of_links_are_seen_once(home: Path, put: Put) -> None:
    path = put(home / "models" / "one.safetensors")
    (home / "models" / "two.safetensors").symlink_to(path)
    (home / "models" / "circle").symlink_to(home / "models")
    (home / "models" / "gone.safetensors").symlink_to(home / "nowhere")
    assert [one.path for one in local_models.found()][SHIPPED:] == [path]


def test_a_model_opens_by_its_name(home: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "models").mkdir(parents=True)
    (home / "models" / "tiny").symlink_to(model)
    sd = sfumato.load("tiny")
    assert (sd.path, sd.name) == (home / "models" / "tiny", "tiny")
    snapshot = Path(constants.HF_HUB_CACHE) / "models--someone--small" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(model)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    sd = sfumato.load("someone/small")
    assert (sd.path, sd.name) == (snapshot, "small")


def test_official_files_say_which_variant_they_are(home: Path, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2.1's two files, which look the same, each is loaded as what it is, by its name and by its path."""
    asked: list[str | None] = []

    def stop(path: Path, **options: object) -> None:
        asked.append(options["variant"])
        raise SfumatoError("far enough")

    monkeypatch.setattr("sfumato.pipeline.load.load_parts", stop)
    for name in ("sd2.1-base", "sd2.1"):
        known = release(name)
        assert known is not None
        path = home / "models" / known.file.name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
        os.truncate(path, known.file.size)
        for word, variant in ((name, None), (path, None), (path, "other")):
            with pytest.raises(SfumatoError, match="far enough"):
                sfumato.load(word, variant=variant)
    assert asked == ["base", "base", "other", "768-v", "768-v", "other"]
