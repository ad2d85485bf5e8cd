"""What the arguments of scripts mean, without a server."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.server.composite import Composite
from sfumato.server.config import Config
from sfumato.server.desk import Desk
from sfumato.server.dialects.a1111.bodies import Img2ImgBody, Txt2ImgBody
from sfumato.server.dialects.a1111.common import asked_of, shared_options
from sfumato.server.dialects.a1111.local import LocalFiles
from sfumato.server.dialects.a1111.options import DEFAULTS
from sfumato.server.dialects.a1111.scripts.plot import Plot, fields_of
from sfumato.server.dialects.a1111.scripts.sheet import sheets
from sfumato.server.jobs.inputs import Inputs
from sfumato.server.jobs.job import JobRequest
from sfumato.server.safety.names import check_names
from sfumato.settings.speed import MAX_MERGED


def cells(*args: object, **fields: object) -> list[Txt2ImgBody]:
    """The bodies that a plot makes of one."""
    seen: list[Txt2ImgBody] = []

    def requests(body: Txt2ImgBody) -> list[JobRequest]:
        seen.append(body)
        return [JobRequest()]

    Plot().plan(Txt2ImgBody(script_name="x/y/z plot", script_args=list(args), **fields), requests)
    return seen


@pytest.mark.parametrize(
    ("values", "wanted"),
    [("3", [3]), ("1-4", [1, 2, 3, 4]), ("1-9 (+4)", [1, 5, 9]), ("10-20 [3]", [10, 15, 20]), ("1, 2,7", [1, 2, 7])],
)
def test_numbers_of_an_axis(values: str, wanted: list[int]) -> None:
    assert [one.steps for one in cells("Steps", values)] == wanted


def test_the_first_axis_runs_fastest() -> None:
    found = cells("Steps", "1,2", [], "CFG Scale", "3,4.5", [], "Sampler", "", ["Euler", "Heun"])
    assert [(one.steps, one.cfg_scale) for one in found[:3]] == [(1, 3), (2, 3), (1, 4.5)]
    assert [one.sampler_name for one in found] == ["Euler"] * 4 + ["Heun"] * 4


def test_axes_of_words_and_settings() -> None:
    assert [one.prompt for one in cells("Prompt S/R", "cat,dog", prompt="a cat")] == ["a cat", "a dog"]
    assert [one.prompt for one in cells("Prompt order", "a,b", prompt="a or b")] == ["a or b", "b or a"]
    assert [one.overrides for one in cells("Clip skip", "1,2")] == [
        {"CLIP_stop_at_last_layers": 1}, {"CLIP_stop_at_last_layers": 2},
    ]  # fmt: skip
    assert [(one.width, one.height) for one in cells("Size", "64x96")] == [(64, 96)]
    for args in (("Prompt S/R", "dog"), ("Size", "large"), ("Steps", "many"), ("Colour", "1"), (0,)):
        with pytest.raises(SfumatoError):
            cells(*args, prompt="a cat")


def test_clients_number_the_axes_of_their_task() -> None:
    labels = {kind: [one.label for one in fields_of(kind)] for kind in (False, True)}
    assert labels[False].index("Sampler") == 9 and labels[True].index("Sampler") == 9
    assert "Hires steps" not in labels[True] and "Image CFG Scale" not in labels[False]
    seen = []
    body = Img2ImgBody(script_name="x/y/z plot", script_args=[labels[True].index("Denoising"), "0.1,0.9"])
    Plot().plan(body, lambda one: seen.append(one.denoising_strength) or [JobRequest()])
    assert seen == [0.1, 0.9]


def test_a_sheet_of_what_an_interrupted_plot_has(tmp_path) -> None:
    file = tmp_path / "a.png"
    Image.new("RGB", (64, 64), "red").save(file)
    jobs = [[(file, "a\nSteps: 1, Sampler: Euler, Seed: 1")], [], [], []]
    (sheet, lone) = sheets([["1", "2"], ["3", "4"]], lone=True)(jobs)
    assert sheet.infotext == lone.infotext and len(sheet.image) > len(lone.image)
    assert sheets([["1", "2"], ["3", "4"]])([[], [], [], []]) == []
    three = sheets([["1"], ["2"], ["3", "4"]], parts=True)([jobs[0], jobs[0]])
    assert len(three) == 3


def test_a_chosen_vae_belongs_to_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "VAE").mkdir()
    (tmp_path / "VAE" / "soft.safetensors").write_bytes(b"")
    monkeypatch.setenv("SFUMATO_MODELS", str(tmp_path))
    kept = {**DEFAULTS, "sd_model_checkpoint": "emoji"}
    body = Txt2ImgBody(override_settings={"sd_vae": "soft.safetensors"})
    named: list[str] = []
    asked_of(body, kept, LocalFiles(), Inputs(tmp_path), named.append)
    assert Composite.of(named[0]) == Composite("emoji", "soft")
    check_names(JobRequest(model=named[0]))
    for bad in ("../soft", "/etc/passwd"):
        with pytest.raises(SfumatoError, match="VAE"):
            check_names(JobRequest(model=Composite("emoji", bad).name))
    with pytest.raises(SfumatoError, match="unknown VAE"):
        asked_of(Txt2ImgBody(override_settings={"sd_vae": "hard"}), kept, LocalFiles(), Inputs(tmp_path), named.append)


def test_the_share_that_attention_merges_is_an_option(tmp_path: Path) -> None:
    inputs = Inputs(tmp_path)
    spec_of = Desk(inputs, Config(folder=tmp_path)).spec
    kept = {**DEFAULTS, "sd_model_checkpoint": "emoji", "token_merging_ratio_img2img": 0.25}

    def merged(body: Txt2ImgBody | Img2ImgBody) -> float | None:
        asked = asked_of(body, kept, LocalFiles(), inputs, spec_of)
        return shared_options(body, asked).get("token_merging")

    assert merged(Txt2ImgBody()) is None
    assert merged(Txt2ImgBody(override_settings={"token_merging_ratio": 0.5})) == 0.5
    assert merged(Txt2ImgBody(override_settings={"token_merging_ratio": 0.9})) == MAX_MERGED
    assert merged(Img2ImgBody(override_settings={"token_merging_ratio": 0.5})) == 0.25
