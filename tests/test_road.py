"""The road of a prompt from `sfumato txt2img` to pixels, as docs/architecture.md lists it, held to a traced run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, GeneratorType
from typing import Any

import pytest
import torch
from PIL import Image

import sfumato
from sfumato.cli import draw, options
from sfumato.cli.main import app
from sfumato.diffusion.cond import Cond, ScheduledCond
from sfumato.diffusion.driver import Row, Step
from sfumato.diffusion.guidance import Guidance
from sfumato.nets.clip import TextStates
from sfumato.pipeline.events import Events, Progress
from sfumato.pipeline.generate import Plan
from sfumato.pipeline.prompts import PromptConditioning
from sfumato.pipeline.sampling import SamplingRun
from sfumato.settings.settings import Settings
from sfumato.tasks import txt2img
from sfumato.tasks.request import Request
from sfumato.text.prompt.chunks import Token
from sfumato.text.prompt.emphasis import Span
from sfumato.text.prompt.tree import Branch, Prompt

ROOT = Path(sfumato.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
ROW = re.compile(r"^\| (\d+) \| `([\w/]+\.py)` \| `(\w+)` \|", re.MULTILINE)
MOST_STATIONS, MOST_FILES = 26, 25
PROMPT = "a red heart"
FORMS = (
    Request, Settings, Plan, Prompt, Branch, Span, Token, Cond, ScheduledCond, PromptConditioning, Guidance,
    TextStates, SamplingRun, Row, Step, Progress, Image.Image, GeneratorType, Events,
)  # fmt: skip
# What is no station though it gives the request on: values that know themselves, and arithmetic on tensors.
VALUES = {"diffusion/cond.py", "settings/tensors.py", "text/prompt/tree.py"}
ARITHMETIC = {
    "diffusion/predict.py", "diffusion/process.py", "diffusion/rng.py", "diffusion/samplers/common.py",
    "images/tensors.py",
}  # fmt: skip
# Parts of a station of the same file, or values, that other files call back.
WITHIN = {
    ("cli/sources.py", "prompt_of"): "txt2img",  # gives the words back, unless they say where the prompt lies
    ("cli/main.py", "LazyGroup"): "txt2img",
    ("pipeline/generate.py", "run"): "generate",
    ("pipeline/conditioning.py", "_with"): "guidance",
    ("tasks/txt2img.py", "_guidance"): "Txt2ImgRequest",
    ("diffusion/driver.py", "gather"): "drive",
    ("diffusion/guidance.py", "network_guide"): "cfg",
    ("pipeline/prompts.py", "PromptConditioning"): "encode_prompts",
    ("nets/clip.py", "TextStates"): "CLIPText",
    (
        "pipeline/hints.py",
        "with_hints",
    ): "guidance",  # nothing is added without a control, or a picture beside the words
    ("diffusion/driver.py", "emitting"): "answered",
    ("pipeline/events.py", "Events"): "generate",
    ("pipeline/generate.py", "_drawing"): "generate",
    ("pipeline/image_tokens.py", "with_image_tokens"): "guidance",
    ("pipeline/unclip.py", "with_picture_vector"): "guidance",
}

Place = tuple[str, str]
# Stations that end in files or numbers of tokens, which are no form of the request here.
GIVE_NOTHING_BACK = {("cli/txt2img.py", "txt2img"), ("cli/draw.py", "draw"), ("text/tokenizer.py", "CLIPTokenizer")}


def is_form(value: object, depth: int = 3) -> bool:
    """Whether a value is the request in one of the forms that it takes on its road."""
    if isinstance(value, str):
        return PROMPT in value
    if isinstance(value, torch.Tensor):
        return value.ndim >= 3
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple) and not isinstance(value, FORMS):
        return depth > 0 and any(is_form(one, depth - 1) for one in value)
    return isinstance(value, FORMS)


def place(frame: FrameType | None) -> tuple[str, str] | None:
    """The file of the package that a frame runs, or the nearest that called it, and its function by its full name."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and not frame.f_code.co_name.startswith("<"):
            return path.relative_to(ROOT).as_posix(), frame.f_code.co_qualname
        frame = frame.f_back
    return None


@contextmanager
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[tuple[str, str], bool]]:
    """Which functions are called from another file, in order, and whether they give the request on.

    Loading the model is not watched, and nothing after the picture is decoded.
    """
    called: dict[tuple[str, str], bool] = {}
    watched, done = [True], [False]

    def watch(frame: FrameType, event: str, result: Any) -> None:
        if event not in ("call", "return") or not watched[0] or done[0] or frame.f_code.co_name.startswith("<"):
            return
        if not Path(frame.f_code.co_filename).is_relative_to(ROOT):
            return
        here = place(frame)
        assert here is not None
        if event == "return" and here in called:
            called[here] |= is_form(result)
            done[0] = here == ("pipeline/latents.py", "decode")
        elif event == "call":
            caller = place(frame.f_back)
            if caller is None or (caller[0] != here[0] and not caller[0].startswith("nets/")):
                called.setdefault(here, False)

    load = options.Loading.load

    def quiet(self: options.Loading) -> Any:
        watched[0] = False
        try:
            return load(self)
        finally:
            watched[0] = True

    monkeypatch.setattr(options.Loading, "load", quiet)
    sys.setprofile(watch)
    try:
        yield called
    finally:
        sys.setprofile(None)


def rows() -> list[Place]:
    """The stations that the page lists, in order."""
    found = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert [int(number) for number, _, _ in found] == list(range(1, len(found) + 1))
    return [(file, name) for _, file, name in found]


def test_the_page_lists_what_a_prompt_passes(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [
        "txt2img", PROMPT, "--model", model, "--steps", "2", "--cfg", "3", "--size", "32x32", "--schedule", "karras",
        "--sampler", "dpmpp_2m", "--out", str(tmp_path / "a.png"),
    ]  # fmt: skip
    assert txt2img and draw, "imported before, so that no class is made on the way"
    with traced(monkeypatch) as called:
        app(asked, standalone_mode=False)
    listed = rows()
    passed = list(dict.fromkeys((file, name.split(".")[0]) for (file, name), gives_on in called.items() if gives_on))
    assert [one for one in passed if one in listed] == [one for one in listed if one in passed], "in this order"
    assert {one for one in listed if one not in passed} <= GIVE_NOTHING_BACK
    assert {(file, name.split(".")[0]) for file, name in called} >= GIVE_NOTHING_BACK
    unlisted = {one for one in passed if one[0] not in VALUES | ARITHMETIC and one not in WITHIN} - set(listed)
    assert not unlisted, "these give the request on and are not listed"
    assert len(listed) <= MOST_STATIONS and len({file for file, _ in listed}) <= MOST_FILES
