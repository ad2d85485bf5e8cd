"""No option of a request leads to a file that is not in the model folders."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from sfumato.errors import SfumatoError
from sfumato.hub.local_adapters import find_adapter
from sfumato.hub.local_models import embedded_variants, locate
from sfumato.server.jobs.job import JobRequest
from sfumato.server.safety.names import HOLDS, Forbidden, check_names
from sfumato.settings.control import Control
from sfumato.settings.image_prompt import ImagePrompt
from sfumato.settings.kinds import Names, Picture, Text
from sfumato.settings.option import options_in
from sfumato.settings.steering import Several
from sfumato.settings.table import OPTIONS
from sfumato.settings.task_options import UpscaleOptions

PATHS = ("../../etc/passwd", "/etc/passwd", "~/x.safetensors", "a\0b", "..", "C:\\x", "sub/../../x", "https://a.b/c")
# Texts that name no file: words of prompts, layers, and names from tables of ours.
WORDS = {"styles", "pag_layers"}
PICTURE = "input:" + "0" * 64


def requests(value: str) -> dict[str, JobRequest]:
    """Requests that have a value in each place where the name of a file goes."""
    one: dict[str, dict[str, Any]] = {name: {"options": {name: value}} for name in HOLDS if name != "upscaler"}
    one |= {f"{name} in a list": {"options": {name: [value]}} for name in ("lora", "embedding", "hypernetwork")}
    one["lora with weight"] = {"options": {"lora": [value + ":0.5"]}}
    for option, names in (
        ("control", ("model", "depth_model", "image")),
        ("ip_adapter", ("model", "encoder", "image")),
    ):
        one[option + " as text"] = {"options": {option: [value + "=" + value]}}
        one |= {f"{option}.{name}": {"options": {option: [{"model": "x", name: value}]}} for name in names}
    one["upscaler"] = {"kind": "upscale", "how": {"upscaler": value}}
    one["enlarge"] = {"kind": "enlarge", "how": {"upscaler": value}}
    one |= {"model": {"model": value}, "refiner": {"refiner": value}, "picture": {"pictures": {"image": value}}}
    one["lora in the prompt"] = {"prompt": f"a cat <lora:{value}:1>"}
    one["lyco in the negative prompt"] = {"negative": f"a cat <lyco:{value}:1>"}
    one["hypernet in prompts"] = {"kind": "interpolate", "how": {"prompts": [f"<hypernet:{value}:1>", "a"]}}
    one["embedding in the prompt"] = {"prompt": f"embedding:{value}", "options": {"prompt_syntax": "comfyui"}}
    return {where: JobRequest(**given) for where, given in one.items()}


@pytest.mark.parametrize("path", PATHS)
def test_paths_are_refused(path: str) -> None:
    for where, request in requests(path).items():
        if "prompt" in where and ":" in path:  # which ends a tag's name
            continue
        with pytest.raises(SfumatoError):
            check_names(request)
            pytest.fail(where)


def test_every_option_that_takes_a_file_is_in_the_table() -> None:
    """An option that is added later fails here until the table says what it may name."""
    files = {name for name, one in OPTIONS.items() if isinstance(one.kind, Text | Names | Picture | Several)}
    files |= {name for name, one in options_in(UpscaleOptions).items() if isinstance(one.kind, Text)}
    assert files - WORDS == set(HOLDS)
    for group, known in ((Control, {"model", "depth_model"}), (ImagePrompt, {"model", "encoder"})):
        assert {name for name, one in options_in(group).items() if isinstance(one.kind, Text)} == known


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models with a file, a link within it, and a link out of it."""
    folder = tmp_path / "models" / "Stable-diffusion"
    folder.mkdir(parents=True)
    shutil.copy(embedded_variants()[0], folder / "mine.safetensors")
    shutil.copy(embedded_variants()[0], tmp_path / "secret.safetensors")
    (folder / "again.safetensors").symlink_to(folder / "mine.safetensors")
    (folder / "outside.safetensors").symlink_to(tmp_path / "secret.safetensors")
    monkeypatch.setenv("SFUMATO_MODELS", str(tmp_path))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("SFUMATO_MODELS", str(tmp_path / "models"))
    return folder


def test_names_of_the_model_folders_are_taken(models: Path) -> None:
    for name in ("mine", "mine.safetensors", "MINE", "again", "emoji"):
        check_names(JobRequest(model=name, options={"hires_upscaler": "Latent", "image_prompt": PICTURE}))


def test_links_out_of_the_model_folders_are_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SfumatoError, match="not in a model folder"):
        check_names(JobRequest(model="outside"))
    monkeypatch.setenv("SFUMATO_CONFINED", "1")
    with pytest.raises(SfumatoError, match="link out of the model folders"):
        locate("outside")


def test_a_confined_process_opens_no_path(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where wildcards bring names that the request did not have, the worker looks them up by itself."""
    secret = models.parents[1] / "secret.safetensors"
    assert locate(secret)[0] == find_adapter(str(secret)) == secret
    monkeypatch.setenv("SFUMATO_CONFINED", "1")
    for name in (str(secret), "../secret.safetensors"):
        with pytest.raises(SfumatoError):
            locate(name)
        with pytest.raises(SfumatoError):
            find_adapter(name)
    assert locate("mine")[0] == models / "mine.safetensors"


def test_a_file_of_the_working_folder_is_no_name(models: Path) -> None:
    shutil.copy(models / "mine.safetensors", "here.safetensors")
    with pytest.raises(SfumatoError):
        check_names(JobRequest(model="here.safetensors"))
    with pytest.raises(SfumatoError):
        check_names(JobRequest(options={"lora": ["here.safetensors"]}))


def test_files_of_the_operator_are_forbidden() -> None:
    with pytest.raises(Forbidden, match="leave it out"):
        check_names(JobRequest(options={"styles_file": "styles.csv"}))
    check_names(JobRequest(options={"safety": "model"}))
