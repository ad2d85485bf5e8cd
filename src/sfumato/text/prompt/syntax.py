"""The prompt languages, by the names that settings have for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple, get_args

from sfumato.text.prompt import comfyui, emphasis, invokeai
from sfumato.text.prompt.editing import after_first_pass, text_per_step
from sfumato.text.prompt.emphasis import Span, Spans
from sfumato.text.prompt.parse import parse
from sfumato.text.prompt.template import expand_notes
from sfumato.text.prompt.tree import Branch, Prompt, Text

Syntax = Literal["a1111", "a1111-1.5", "comfyui", "invokeai", "plain"]
"""AUTOMATIC1111's of today; that of its versions before 1.6; ComfyUI's; InvokeAI's; none, all is drawn as it stands."""

SYNTAXES: tuple[Syntax, ...] = get_args(Syntax)
NEW, OLD = "a1111", "a1111-1.5"
WITH_CHANCE = (NEW, OLD)  # the languages whose programs draw choices and wildcards too


class Part(NamedTuple):
    """One of the prompts that AND joins: its text and its weighted words at each step, and how much it counts."""

    texts: tuple[str, ...]
    spans: tuple[Spans, ...]
    weight: float


def parsed(syntax: str, text: str, compose: bool = True) -> Prompt:
    """The tree of a prompt or, without `compose`, a negative prompt."""
    if syntax == "comfyui":
        return comfyui.parse(text)
    if syntax not in WITH_CHANCE:
        return Prompt((Branch((Text(text),)),))
    prompt = parse(text, compose, old=syntax == OLD)
    return replace(prompt, notes=(*prompt.notes, *expand_notes(text)))


def weighed(syntax: str, text: str) -> Spans:
    """The words of a text with their weights."""
    if syntax == "plain":
        return (Span(text),)
    if syntax == "comfyui":
        return comfyui.read(text)
    if syntax == "invokeai":
        return invokeai.read(text)
    return emphasis.read(text, blanks=syntax != OLD)[0]


def read(syntax: str, text: str, steps: int, compose: bool = True, after: int = 0) -> tuple[Prompt, tuple[Part, ...]]:
    """The tree of a prompt, and what is read of each of its parts at `steps` steps.

    A negative prompt is one part, without `compose`. `after` is the number of steps of a first pass, if this is the
    second: changes that it has made are made, see `editing.after_first_pass`. Only the newer web UI counts so.
    """
    prompt = parsed(syntax, text, compose)
    spans: dict[str, Spans] = {}
    parts = []
    for branch in prompt.drawn:
        nodes = after_first_pass(branch.nodes, after) if after and syntax == NEW else branch.nodes
        texts = tuple(text_per_step(nodes, steps))
        spans |= {each: weighed(syntax, each) for each in dict.fromkeys(texts) if each not in spans}
        parts.append(Part(texts, tuple(spans[each] for each in texts), branch.weight))
    return prompt, tuple(parts)
