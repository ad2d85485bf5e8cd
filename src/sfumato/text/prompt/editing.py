"""The text of a prompt at each step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sfumato.text.prompt.tree import Adapter, Alternate, Edit, Node, Nodes, Text


class Stretch(NamedTuple):
    """Up to step `until`, counted from 1, the prompt is `text`."""

    until: int
    text: str


def stretches(nodes: Nodes, steps: int) -> list[Stretch]:
    """The texts of a prompt over `steps` steps, in AUTOMATIC1111's way: a stretch for every place where one may change.

    A change before the first step leaves a stretch until step 0, which is never drawn.
    """
    return [Stretch(until, at_step(nodes, until, steps)) for until in sorted({steps, *_changes(nodes, steps)})]


def text_per_step(nodes: Nodes, steps: int) -> list[str]:
    """Returns the text that is read at each of the steps."""
    return [at_step(nodes, step, steps) for step in range(1, steps + 1)]


def at_step(nodes: Nodes, step: int, steps: int) -> str:
    """The text that is read at a step, counted from 1. Adapters are no words and leave none."""
    text = ""
    for node in nodes:
        match node:
            case Text():
                text += node.text
            case Adapter():
                text += str(node) if node.kind == "embedding" else ""
            case Edit():
                text += at_step(node.before if step <= _last(node, steps) else node.after, step, steps)
            case Alternate():
                text += at_step(node.options[(step - 1) % len(node.options)], step, steps)
    return text


def _last(edit: Edit, steps: int) -> int:
    """The last step that reads what is before the edit."""
    return max(0, min(steps, int(edit.when * steps if edit.share else edit.when)))


def after_first_pass(nodes: Nodes, steps: int) -> Nodes:
    """Returns what a prompt says in a second pass, as AUTOMATIC1111 has it since version 1.6.

    Numbers of steps go on from the `steps` of the first; shares up to 1 were of the first, those from 1 to 2 are of the
    second.
    """
    return tuple(_after(node, steps) for node in nodes)


def _after(node: Node, steps: int) -> Node:
    match node:
        case Edit():
            before, after = (after_first_pass(part, steps) for part in (node.before, node.after))
            return Edit(before, after, max(0.0, node.when - (1 if node.share else steps)), node.share)
        case Alternate():
            return Alternate(tuple(after_first_pass(option, steps) for option in node.options))
    return node


def _changes(nodes: Nodes, steps: int) -> Iterator[int]:
    for node in nodes:
        match node:
            case Edit():
                yield _last(node, steps)
                yield from _changes(node.before + node.after, steps)
            case Alternate():
                yield from range(1, steps + 1)
                for option in node.options:
                    yield from _changes(option, steps)
