"""Texts of others are read in time that grows as they do, however they are made."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from foreign import graph, node
from growth import MOST, grows, scans
from sfumato.errors import SfumatoError
from sfumato.provenance import infotext
from sfumato.provenance.embedded import Embedded, json_object
from sfumato.provenance.read import read
from sfumato.provenance.readers import a1111, comfyui, invokeai, novelai
from sfumato.text.prompt import comfyui as comfyui_language
from sfumato.text.prompt import emphasis
from sfumato.text.prompt import invokeai as invokeai_language
from sfumato.text.prompt.editing import text_per_step
from sfumato.text.prompt.parse import parse
from sfumato.text.prompt.template import expand, expand_notes

Maker = Callable[[int], str]
REPEATED = ("(", ")", "[", "{", "}", '"', "\\", ":", "(a", "[a:b:", "[a|", "(a:1.2)", "a+", "__a", "__a b", "1.2::",
            "# ", "${a", "{@", ": ", "embedding:", "<lora:", "AND ", "BREAK ", "|")  # fmt: skip
TEXTS: list[Maker] = [lambda n, one=one: one * (n // len(one)) for one in REPEATED]
TEXTS += [
    lambda n: "(" * (n // 2) + ")" * (n // 2),
    lambda n: "[a:b:" * (n // 9) + "0.5]" * (n // 9),
    lambda n: "((a) b" * (n // 6),
    lambda n: "(a:1" + "1" * n,
]


def steps_of(text: str) -> None:
    for branch in parse(text).branches:
        text_per_step(branch.nodes, 4)


def drawn(text: str) -> None:
    with suppress(SfumatoError):
        expand(text, 1)


@pytest.mark.parametrize(
    "work",
    [
        emphasis.read, parse, steps_of, comfyui_language.read, comfyui_language.parse, invokeai_language.read,
        novelai.translated, lambda text: list(expand_notes(text)), drawn,
    ],
)  # fmt: skip
def test_prompts(work: Callable[[str], object]) -> None:
    for make in TEXTS:
        assert grows(work, make, 800) <= MOST, make(20)


FIELDS = ("a", "a: ", 'a: "', "a: [", 'a: {"', ",", "Steps: 1\n", "Negative prompt:\n", "Template: \n", "a b-c/",
          "x:\\", 'a: "\\", ', 'a: ["", ', "Steps: 1, ")  # fmt: skip


@pytest.mark.parametrize("one", FIELDS)
def test_infotexts(one: str) -> None:
    assert grows(infotext.parse, lambda n: one * (n // len(one)), 3000) <= MOST
    assert scans(infotext.parse, lambda n: one * (n // len(one)), 60_000) <= MOST


@pytest.mark.parametrize("one", ["<exif:UserComment>", '"', "{", "[", '{"a":', "prompt:"])
def test_what_lies_around_texts(one: str) -> None:
    packet = lambda n: one * (n // len(one))  # noqa: E731
    assert scans(json_object, packet, 100_000) <= MOST

    def found(text: str) -> None:
        with suppress(SfumatoError):
            comfyui.read(Embedded({"prompt": text, "workflow": text, "parameters": text}))

    assert scans(found, packet, 50_000) <= MOST


def chained(kind: str, inputs: str) -> Maker:
    """A graph with a chain of nodes between a sampler and its words, model or picture."""

    def make(n: int) -> str:
        made = graph(**{inputs: ["c0", 0]})
        ends = {"positive": ["6", 0], "model": ["4", 0], "latent_image": ["5", 0]}
        for place in range(n):
            further = [f"c{place + 1}", 0] if place + 1 < n else ends[inputs]
            name = {"latent_image": "samples", "positive": "anything"}.get(inputs, inputs)
            made[f"c{place}"] = node(f"{kind} {place}", **{name: further})
        return json.dumps(made)

    return make


@pytest.mark.parametrize("inputs", ["positive", "model", "latent_image"])
def test_long_ways_through_a_graph(inputs: str) -> None:
    def walk(text: str) -> None:
        recipe = comfyui.read(Embedded({"prompt": text}))
        assert recipe is not None and recipe.prompt == "a house"

    assert grows(walk, chained("Unknown", inputs), 60) <= MOST


def test_texts_that_are_joined_twice_over_do_not_explode() -> None:
    made = graph()
    made["6"]["inputs"]["text"] = ["j0", 0]
    for place in range(60):
        link = [f"j{place + 1}", 0]
        made[f"j{place}"] = node("StringConcatenate", string_a=link, string_b=link, delimiter="")
    made["j60"] = node("PrimitiveString", value="word " * 1000)
    recipe = comfyui.read(Embedded({"prompt": json.dumps(made)}))
    assert recipe is not None and len(recipe.prompt) <= 100_000


def test_dream_and_brackets_of_old_invokeai() -> None:
    for one in ("[", "[a]", '" -', "-s ", "]["):
        assert grows(lambda text: invokeai.read(Embedded({"Dream": text})), lambda n: one * n, 300) <= MOST  # noqa: B023


def test_losses_and_texts_have_an_end(tmp_path: Path) -> None:
    text = "a cat\nSteps: 20, " + ", ".join(f"Unknown {place}: x" for place in range(5000))
    (tmp_path / "a.txt").write_text(text)
    recipe = read(tmp_path / "a.txt")
    assert len(recipe.lost) == 61 and recipe.lost[-1].startswith("and 4,9")
    long = a1111.read("a" * 300_000 + "\nSteps: 20, Seed: 1, Size: 8x8")
    assert "steps" not in long.options
