"""The samplers of a workflow that lead to its picture, one after another, and what changes latents between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sfumato.provenance.readers.graph import Graph, Node, is_link
from sfumato.provenance.recipe import number_in, size_in

LEAST = 64  # pixels of a side below which a file is no picture as it was drawn


@dataclass
class Pass:
    """One sampler on the way to the picture, with what was done to its latents before, the nearest last."""

    node: Node
    changed: list[Node] = field(default_factory=list)
    begins: Node | None = None  # what made the latents, where that is no sampler


def chain(graph: Graph, size: tuple[int, int]) -> tuple[Node, list[Pass]]:
    """What saved the picture, and the samplers that led to it, the first first.

    Of several that save, the one that saves this size, else the one with the most samplers before it.
    """
    found = [(end, passes) for end in graph.ends[:100] if (passes := _passes(graph, end))]
    if not found:
        sampler = next(node for node in graph.nodes.values() if node.samples)
        return sampler, _passes(graph, sampler)
    saved = [one for one in found if "save" in one[0].kind.lower()] or found
    fitting = [one for one in saved if min(size) >= LEAST and _final_size(graph, one[0], one[1]) == size]
    return max(fitting or saved, key=lambda one: len(one[1]))


def _passes(graph: Graph, end: Node) -> list[Pass]:
    passes: list[Pass] = []
    sampler = end if end.samples else origin_of(graph, end)[0]
    while sampler is not None and all(sampler is not one.node for one in passes) and len(passes) < 20:
        link = graph.linked(_latents(sampler))
        if link is None:
            passes.insert(0, Pass(sampler))
            break
        before, changed, begins = (link, [], None) if link.samples else _walk(graph, link)
        passes.insert(0, Pass(sampler, changed, begins))
        sampler = before
    return passes


def _latents(sampler: Node) -> Any:
    names = ("latent_image", "latent", "samples", "optional_latent", "latents")
    return next((sampler.inputs[name] for name in names if is_link(sampler.inputs.get(name))), None)


def origin_of(graph: Graph, node: Node) -> tuple[Node | None, list[Node], Node | None]:
    """As `_walk`, from the inputs of a node that saves or changes pictures."""
    for name in ("images", "image", "upscaled_image", "pixels", "samples", "samples_to", "latent", "frames", "input"):
        other = graph.linked(node.inputs.get(name))
        if other is not None:
            return (other, [], None) if other.samples else _walk(graph, other)
    return None, [], None


def _walk(graph: Graph, start: Node) -> tuple[Node | None, list[Node], Node | None]:
    """The sampler that pictures or latents come from, what changed them on the way, and where they begin if at none.

    The path goes by the inputs that hold pictures or latents, and else by any.
    """
    names = ("images", "image", "upscaled_image", "pixels", "samples", "samples_to", "latent", "destination", "input",
             "image1", "images_a", "any", "any_1", "value")  # fmt: skip
    path, node, seen = list[Node](), start, set[str]()
    while not node.samples and node.key not in seen:
        seen.add(node.key)
        path.append(node)
        following = next((one for name in names if (one := graph.linked(node.inputs.get(name))) is not None), None)
        if following is None:
            return None, path[::-1], node
        node = following
    return (node, path[::-1], None) if node.samples else (None, path[::-1], path[-1])


def size_of(graph: Graph, one: Pass) -> tuple[int, int] | None:
    """Width and height of a pass, where the nodes before it say."""
    size: tuple[float, float] | None = None
    for node in one.changed:
        size = _resized(graph, node, size)
    if size is None or not all(8 <= side <= 100_000 for side in size):
        return None
    return round(size[0]), round(size[1])


def _resized(graph: Graph, node: Node, size: tuple[float, float] | None) -> tuple[float, float] | None:
    """The size after a node that may change it, in pixels."""
    width, height = (
        number_in(graph.value(node.inputs.get(name, node.inputs.get(f"empty_latent_{name}")), (name,)))
        for name in ("width", "height")
    )
    if width is not None and height is not None and (width or height):
        if size and not (width and height):  # 0 follows from the other side
            return (width or height * size[0] / size[1], height or width * size[1] / size[0])
        return (width, height) if width and height else size
    said = size_in(node.inputs.get("dimensions", node.inputs.get("resolution")))
    if said is not None:
        return said
    factor = number_in(graph.value(node.inputs.get("scale_by", node.inputs.get("upscale_by")), ("scale_by",)))
    if size is not None and factor is not None and ("Upscale" in node.kind or "Scale" in node.kind):
        return size[0] * factor, size[1] * factor
    return size


def _final_size(graph: Graph, end: Node, passes: list[Pass]) -> tuple[int, int] | None:
    """The size of the picture that a node saves."""
    size: tuple[float, float] | None = None
    for one in passes:
        for node in one.changed:
            size = _resized(graph, node, size)
    for node in origin_of(graph, end)[1]:
        size = _resized(graph, node, size)
    return None if size is None else (round(size[0]), round(size[1]))


def enlarged_after(graph: Graph, end: Node) -> bool:
    """Whether the picture that a node saves has another size than what was drawn."""
    return any("scale" in node.kind.lower() or "width" in node.inputs for node in origin_of(graph, end)[1])


def enlarging(one: Pass) -> list[Node]:
    """The nodes between two passes that make the picture larger."""
    return [node for node in one.changed if "scale" in node.kind.lower()]
