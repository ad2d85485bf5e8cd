"""A workflow of ComfyUI as a graph: nodes by what they do, which their inputs show, rather than by their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

MOST_NODES = 20_000
MOST_TEXT = 100_000  # characters of a prompt
MOST_JOINED = 200  # texts that are joined to one
_SAMPLER_INPUTS = ("latent_image", "latent", "samples", "optional_latent", "latents")
_MOST_SWITCHES = 20  # one behind the other
_PIPES = ("pipe", "basic_pipe", "context", "base_ctx", "script")


@dataclass(frozen=True, eq=False)
class Node:
    """A node: its key in the graph, its class, and its inputs, which are values or [key, output] of another node."""

    key: str
    kind: str
    inputs: Mapping[str, Any]

    @property
    def samples(self) -> bool:
        """Whether it walks noise levels over latents: it takes latents, and a sampler or steps."""
        inputs = self.inputs
        has = any(is_link(inputs.get(name)) for name in _SAMPLER_INPUTS)
        walks = "sampler_name" in inputs or is_link(inputs.get("sampler")) or is_link(inputs.get("guider"))
        return (has or any(is_link(inputs.get(name)) for name in _PIPES)) and (walks or {"steps", "cfg"} <= {*inputs})

    @property
    def redraws(self) -> bool:
        """Whether it draws over a finished picture by itself, as upscalers in tiles and menders of faces do."""
        inputs = self.inputs
        return "steps" in inputs and "cfg" in inputs and is_link(inputs.get("image", inputs.get("upscaled_image")))

    @property
    def saves(self) -> bool:
        """Whether it shows or saves pictures."""
        pictures = is_link(self.inputs.get("images", self.inputs.get("image", self.inputs.get("frames"))))
        return pictures and any(mark in self.kind.lower() for mark in ("save", "preview", "output", "saver"))

    @property
    def loads(self) -> bool:
        """Whether it loads a network that draws."""
        return any(name in self.inputs for name in ("ckpt_name", "unet_name", "base_ckpt_name"))

    @property
    def encodes(self) -> bool:
        """Whether it makes a conditioning of words: it takes words, and something to read them."""
        if self.kind.startswith("CLIPTextEncode"):
            return True
        if any(name.startswith("conditioning") and is_link(value) for name, value in self.inputs.items()):
            return False  # it adds to one
        reads = any(is_link(self.inputs.get(name)) for name in ("clip", "opt_clip", "text_encoder", "clip_l"))
        return reads and any(name in self.inputs for name in TEXTS) and "ckpt_name" not in self.inputs

    @property
    def lets_through(self) -> Any:
        """The input that a switch passes on, where the file says which; None for any other node."""
        which = next(
            (self.inputs[name] for name in ("select", "switch", "index", "Input") if name in self.inputs), None
        )
        names: tuple[str, ...]
        if isinstance(which, bool):
            names = ("on_true", "true") if which else ("on_false", "false")
        elif isinstance(which, int) and 0 <= which < MOST_NODES:
            names = (f"input{which}", f"input_{which}", f"any_{which:02}", f"value{which}")
        else:
            return None
        return next((self.inputs[name] for name in names if is_link(self.inputs.get(name))), None)


# The first two hold what became of a text that was made while the workflow ran.
TEXTS = (
    "populated_text",
    "text_0",
    "text",
    "prompt",
    "text_g",
    "text_positive",
    "clip_l",
    "text_l",
    "t5xxl",
    "string",
    "positive_prompt",
)


def is_link(value: object) -> bool:
    """Whether an input comes from another node, which a graph says as [key, output]."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], int) and isinstance(value[0], str | int)


class Graph:
    """The nodes of a workflow in the API format; what is no node is left out."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.nodes = {
            str(key): Node(str(key), str(one["class_type"]), one["inputs"])
            for key, one in list(data.items())[:MOST_NODES]
            if isinstance(one, Mapping) and "class_type" in one and isinstance(one.get("inputs"), Mapping)
        }

    @cached_property
    def ends(self) -> list[Node]:
        """What shows or saves pictures: what saves first; where nothing does, all nodes."""
        ends = [node for node in self.nodes.values() if node.saves]
        ends.sort(key=lambda node: "save" not in node.kind.lower())
        return ends or list(self.nodes.values())

    def followed(self, value: Any) -> Any:
        """An input, or where it comes from behind all switches, whose way is known."""
        for _ in range(_MOST_SWITCHES):
            node = self.nodes.get(str(value[0])) if is_link(value) else None
            behind = None if node is None else node.lets_through
            if behind is None:
                break
            value = behind
        return value

    def linked(self, value: Any) -> Node | None:
        """The node that an input comes from, behind all switches."""
        value = self.followed(value)
        return self.nodes.get(str(value[0])) if is_link(value) else None

    def links(self, node: Node) -> Iterator[tuple[str, Node]]:
        """The nodes that a node takes something from, with the names of its inputs."""
        for name, value in node.inputs.items():
            other = self.linked(value)
            if other is not None:
                yield name, other

    @cached_property
    def encoded(self) -> frozenset[str]:
        """The keys of encoders of words and of all nodes that depend on one."""
        return self._behind([node.key for node in self.nodes.values() if node.encodes])

    @cached_property
    def loaded(self) -> frozenset[str]:
        """The keys of nodes that load a network that draws, and of all that depend on one."""
        return self._behind([node.key for node in self.nodes.values() if node.loads])

    def _behind(self, keys: list[str]) -> frozenset[str]:
        users: dict[str, list[str]] = {}
        for node in self.nodes.values():
            for _, other in self.links(node):
                users.setdefault(other.key, []).append(node.key)
        seen, waiting = set(keys), list(keys)
        for key in waiting:
            for user in users.get(key, ()):
                if user not in seen:
                    seen.add(user)
                    waiting.append(user)
        return frozenset(seen)

    def upstream(self, start: Node, stop: frozenset[str] = frozenset()) -> Iterator[Node]:
        """A node and all that it depends on, each once, the nearest first; nothing behind the keys in `stop`."""
        seen, waiting = {start.key}, [start]
        for node in waiting:
            yield node
            if node.key in stop:
                continue
            for _, other in self.links(node):
                if other.key not in seen:
                    seen.add(other.key)
                    waiting.append(other)

    def value(self, value: Any, names: tuple[str, ...] = ()) -> Any:
        """A plain input, or what the nodes that it comes from say under one of these names or usual ones.

        None where they say nothing, or several things.
        """
        usual = (*names, "value", "Value", "seed", "int", "float", "number", "Number", *TEXTS, "String", "Text")
        seen: set[str] = set()
        while (node := self.linked(value)) is not None:
            if node.key in seen:
                return None
            seen.add(node.key)
            name = next((name for name in usual if name in node.inputs), None)
            if name is None:
                plain = [one for one in node.inputs.values() if not is_link(one)]
                joined = [one for one in node.inputs.values() if is_link(one)]
                only = plain if len(plain) == 1 else joined if not plain and len(joined) == 1 else []
                if not only:
                    return None
                value = only[0]
            else:
                value = node.inputs[name]
        return value

    def string(self, value: Any) -> str | None:
        """A text, or what nodes on the way to it join; None where they do anything else."""
        found, waiting, seen, length = list[str](), [value], 0, 0
        while waiting and seen < MOST_JOINED and length <= MOST_TEXT:
            current, seen = waiting.pop(), seen + 1
            node = self.linked(current)
            if node is None:
                if isinstance(current, str):
                    found.append(current)
                    length += len(current)
                continue
            parts = [name for name in node.inputs if name.lower().startswith(("string_", "text_", "text1", "text2"))]
            if "concat" in node.kind.lower() or "join" in node.kind.lower():
                joint = node.inputs.get("delimiter", node.inputs.get("separator", ""))
                for place, name in enumerate(reversed(sorted(parts))):
                    waiting += [joint, node.inputs[name]] if place else [node.inputs[name]]
            else:
                waiting.append(self.value(current, TEXTS))
        return "".join(found)[:MOST_TEXT] if found else None
