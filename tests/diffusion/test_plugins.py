"""Samplers, schedules and guides of users: as docs/samplers.md has them, and by entry points."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

import sfumato
from sfumato.api import StableDiffusion
from sfumato.diffusion import plugins
from sfumato.diffusion.sample import SAMPLERS, add_sampler, find_sampler
from sfumato.diffusion.sampler_names import SAMPLER_NAMES, SCHEDULE_NAMES
from sfumato.diffusion.samplers.onestep import euler
from sfumato.diffusion.sigma_schedules import SIGMA_SCHEDULES, add_sigma_schedule, find_schedule, karras
from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.pipeline.guides import GUIDES
from sfumato.provenance import infotext

SMALL = {"steps": 3, "seed": 3, "width": 16, "height": 16, "watermark": False}
PAGE = Path(__file__).parents[2] / "docs/samplers.md"


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that a test adds stays."""
    tables = [(one, dict(one)) for one in (SAMPLERS, SIGMA_SCHEDULES, SAMPLER_NAMES, SCHEDULE_NAMES, GUIDES)]
    monkeypatch.setattr(plugins, "_asked", set())
    yield
    for table, before in tables:
        table.clear()
        table.update(before)


@pytest.fixture
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


def test_the_examples_of_the_page_run() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Your own")[2]
    made: dict[str, object] = {}
    exec(re.search(r"```python\n(.*?)```", section, re.S)[1], made)
    fields = infotext.parse(made["result"].infotexts[0])[2]
    assert (fields["Sampler"], fields["Schedule type"], fields["Guides"]) == ("halfway", "square", "softer")


def test_a_sampler_and_a_schedule_of_ones_own_are_like_ours(sd: StableDiffusion) -> None:
    add_sampler("mine", euler)
    add_sigma_schedule("levels", karras)
    ours, theirs = (
        sd.txt2img("a cat", sampler=sampler, schedule=schedule, sampler_options={"s_churn": 1.0}, **SMALL)
        for sampler, schedule in (("euler", "karras"), ("Mine", "levels"))
    )
    assert theirs[0] == ours[0] and "Sampler: mine, Schedule type: levels, Sigma churn: 1" in theirs.infotexts[0]


def test_guides_go_around_the_others(sd: StableDiffusion) -> None:
    def plain(guide, positive, negative):
        return positive

    bare = sd.guided_by(plain)
    without = sd.txt2img("a cat", cfg=1, **SMALL)
    assert bare.txt2img("a cat", cfg=9, **SMALL)[0] == without[0] != sd.txt2img("a cat", cfg=9, **SMALL)[0]
    assert "Guides: plain" in bare.txt2img("a cat", **SMALL).infotexts[0] and not sd.guides
    assert bare.txt2img("a cat", tiling="x", **SMALL).infotexts[0].count("Guides: plain") == 1


class Point(EntryPoint):
    def load(self) -> object:
        if self.value == "broken":
            raise ImportError("no module named nowhere")
        return {"euler": euler, "karras": karras, "guide": lambda guide, positive, negative: guide}[self.value]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = {
        "sfumato.samplers": [("bad", "broken"), ("theirs", "euler")],
        "sfumato.sigma_schedules": [("their_levels", "karras")],
        "sfumato.guides": [("their_guide", "guide")],
    }
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: [Point(name, value, group) for name, value in points[group]]
    )


@pytest.mark.usefixtures("installed")
def test_what_packages_bring_is_found_by_its_name(sd: StableDiffusion) -> None:
    with pytest.warns(SfumatoWarning, match="broken, which a package offers as bad of sfumato.samplers, cannot be"):
        drawn = sd.guided_by("their_guide").txt2img("a cat", sampler="theirs", schedule="their levels", **SMALL)
    assert drawn[0] == sd.txt2img("a cat", sampler="euler", schedule="karras", **SMALL)[0]


@pytest.mark.usefixtures("installed")
def test_unknown_names_are_refused_still(sd: StableDiffusion) -> None:
    with pytest.warns(SfumatoWarning), pytest.raises(SfumatoError, match=r"sampler.*nobody"):
        find_sampler("nobody")
    with pytest.raises(SfumatoError, match=r"schedule.*nobody"):
        find_schedule("nobody")
    with pytest.raises(SfumatoError, match="unknown guide 'nobody'; choose one of their_guide"):
        sd.guided_by("nobody")


@pytest.mark.parametrize(("name", "value"), [("euler", euler), ("my sampler", euler), ("mine", 5), (5, euler)])
def test_what_cannot_be_offered_is_refused(name: object, value: object) -> None:
    with pytest.raises(ValueError, match="sampler"):
        add_sampler(name, value)
    with pytest.raises(ValueError, match="schedule"):
        add_sigma_schedule("karras" if name == "euler" else name, value)
    assert torch.is_grad_enabled()
