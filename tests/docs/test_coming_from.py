"""The tables of docs/coming-from-*.md: every name of ours in them exists, and every name of theirs is understood."""

from __future__ import annotations

import importlib
import inspect
import re
from functools import cache
from pathlib import Path

import pytest

import sfumato
from sfumato.cli.main import COMMANDS, _load
from sfumato.diffusion.sample import SAMPLERS, find_sampler
from sfumato.diffusion.sigma_schedules import SIGMA_SCHEDULES, find_schedule
from sfumato.settings.settings import Options

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("a1111", "comfyui", "diffusers")
CODE = re.compile(r"`([^`]+)`")


def rows(name: str) -> list[tuple[str, list[str]]]:
    """(heading, cells) of every row of every table of a page but the tables' own heads."""
    found, heading = [], ""
    lines = (DOCS / f"coming-from-{name}.md").read_text("utf-8").splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("|") and not line.startswith("|-") and not after.startswith("|-"):
            found.append((heading, [cell.strip() for cell in line.strip("|").split("|")]))
    return found


@cache
def command_options() -> set[str]:
    commands = [_load(name) for name in COMMANDS]
    leaves = [leaf for command in commands for leaf in (getattr(command, "commands", None) or {"": command}).values()]
    return {option for leaf in leaves for parameter in leaf.params for option in parameter.opts}


@cache
def arguments() -> set[str]:
    methods = [method for _, method in inspect.getmembers(sfumato.StableDiffusion, inspect.isfunction)]
    return {*Options.__annotations__}.union(*(inspect.signature(each).parameters for each in [*methods, sfumato.load]))


def exists(name: str) -> bool:
    """Whether a name of ours, as the tables write them, is one."""
    if name.startswith("--"):
        return name in command_options()
    if name.startswith("sfumato "):
        return name.split()[1] in COMMANDS
    if name.startswith("sd."):
        model = sfumato.StableDiffusion
        return hasattr(model, name[3:]) or name == "sd.encode"  # which a loaded model has
    if name.endswith("="):
        return name[:-1] in arguments()
    if name.startswith("sfumato."):
        return _imported(name)
    return name in SAMPLERS or name in SIGMA_SCHEDULES


def _imported(name: str) -> bool:
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def test_what_does_not_exist_is_found():
    names = ("--no-such", "sfumato nosuch", "sd.nosuch", "nosuch=", "sfumato.nets.nosuch", "sfumato.nosuch.x", "nosuch")
    assert not any(map(exists, names))


@pytest.mark.parametrize("page", PAGES)
def test_every_name_of_ours_exists(page):
    ours = [name for _, cells in rows(page) for cell in cells[1:] for name in CODE.findall(cell)]
    assert len(ours) > 50
    assert [name for name in ours if not exists(name)] == []


@pytest.mark.parametrize("page", PAGES)
def test_samplers_and_schedules_are_found_by_the_name_that_they_have_there(page):
    tables = [(heading, cells) for heading, cells in rows(page) if heading in ("Samplers", "Schedulers", "Schedules")]
    assert len(tables) > 20
    for heading, (theirs, ours) in tables:
        name = CODE.findall(ours)[0]
        if "=" in theirs or "with" in ours:
            continue  # said by an option there, or here
        if heading == "Schedules":
            assert find_schedule(theirs).name == name
        else:
            assert find_sampler(theirs).name == name


def test_every_sampler_of_the_web_ui_and_of_comfyui_that_is_here_is_listed():
    listed = {name for page in PAGES for _, cells in rows(page) for cell in cells[1:] for name in CODE.findall(cell)}
    ours_alone = {"dpmpp_3m", "dpm_solver"}
    assert set(SAMPLERS) - listed == ours_alone
