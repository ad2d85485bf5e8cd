"""The prompt languages, by the names that settings have for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

from sfumato.text.prompt import comfyui, emphasis, invokeai
from sfumato.text.prompt.editing import after_first_pass
from sfumato.text.prompt.emphasis import Span, Spans
from sfumato.text.prompt.parse import parse
from sfumato.text.prompt.template import expand_notes
from sfumato.text.prompt.tree import Branch, Prompt, Text

Syntax = Literal["a1111", "a1111-1.5", "comfyui", "invokeai", "plain"]
"""AUTOMATIC1111's of today; that of its versions before 1.6; ComfyUI's; InvokeAI's; none, all is drawn as it stands."""

SYNTAXES: tuple[Syntax, ...] = get_args(Syntax)
OLD = "a1111-1.5"
WITH_CHANCE = ("a1111", OLD)  # the languages whose programs draw choices and wildcards too


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


def second_pass(syntax: str, text: str, steps: int, compose: bool = True) -> str:
    """What a prompt says in a second pass, after `steps` of a first one. Old versions began anew."""
    if syntax != "a1111":
        return text
    prompt = parse(text, compose)
    branches = (replace(branch, nodes=after_first_pass(branch.nodes, steps)) for branch in prompt.branches)
    return str(replace(prompt, branches=tuple(branches)))
