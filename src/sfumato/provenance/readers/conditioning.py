"""The words that a sampler of a workflow was told, walked to by what nodes do."""

from __future__ import annotations

from dataclasses import dataclass, field

from sfumato.provenance.readers.graph import TEXTS, Graph, Node, is_link
from sfumato.provenance.recipe import shown

_SIDES = ("positive", "negative")
# Inputs by which a conditioning passes through a node; the first that is linked leads on.
_THROUGH = ("conditioning", "conditioning_1", "conditioning_to", "conditioning1", "cond", "positive", "negative")


@dataclass
class Words:
    """Prompt and negative prompt, the nodes on the way from their encoders to the model, what was lost, and rules."""

    prompt: str = ""
    negative: str = ""
    clips: list[Node] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)


def words_of(graph: Graph, sampler: Node) -> Words:
    """The words of a sampler, or of the guider that it takes."""
    holder = graph.linked(sampler.inputs.get("guider")) or sampler
    words = Words()
    for side, option, names in (
        ("positive", "prompt", ("positive", "conditioning", "cond1", "pipe", "basic_pipe", "context")),
        ("negative", "negative", ("negative", "pipe", "basic_pipe", "context")),
    ):
        value = next((holder.inputs[name] for name in names if name in holder.inputs), None)
        if isinstance(value, str):
            setattr(words, option, value)
            continue
        before = len(words.lost)
        texts = _texts(graph, value, side, words)
        if not texts and is_link(value) and len(words.lost) == before:
            words.lost.append(f"the {option}, whose words are not in the file")
        if len(texts) > 1:
            word = "text is" if len(texts) == 2 else "texts are"
            words.lost.append(f"{len(texts) - 1} more {word} combined with the {option}: {shown(texts[1])}")
        setattr(words, option, texts[0] if texts else "")
    return words


def _texts(graph: Graph, value: object, side: str, words: Words) -> list[str]:
    """The texts behind a link, the first first: nodes with a positive and a negative output lead on by the output."""
    texts: list[str] = []
    waiting: list[tuple[object, str]] = [(value, side)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        link, side = waiting.pop()
        link = graph.followed(link)
        node = graph.linked(link)
        if node is None or (node.key, side) in seen:
            continue
        assert isinstance(link, list)
        output = link[1]
        if all(is_link(node.inputs.get(name)) for name in _SIDES) and output < 2:
            side = _SIDES[output]
        seen.add((node.key, side))
        if node.kind == "ConditioningZeroOut":
            words.rules.append(f"{side}: zeros, as ConditioningZeroOut has them")
            if side == "negative" or not texts:
                words.lost.append(f"zeros as the {side} prompt; an empty one is taken")
            continue
        if (text := _text(graph, node, side, words)) is not None:
            texts.append(text)
            words.clips = words.clips or _clips(graph, node)
            continue
        inputs = [name for name in _links_on(graph, node, side)]
        if not node.kind.startswith("Reroute") and inputs and "Switch" not in node.kind:
            words.lost.append(f"{node.kind}: what it adds to the {side} prompt")
        waiting += [(node.inputs[name], side) for name in reversed(inputs)]
    return list(dict.fromkeys(texts)) if texts else []


def _links_on(graph: Graph, node: Node, side: str) -> list[str]:
    """The inputs by which a conditioning came into a node."""
    if is_link(node.inputs.get(side)):
        return [side]
    named = [name for name in node.inputs if name.startswith(("conditioning", "cond")) and is_link(node.inputs[name])]
    if named:
        return sorted(named, key=lambda name: (name.endswith("from"), name))
    through = [name for name in (*_THROUGH, "pipe", "basic_pipe", "context") if is_link(node.inputs.get(name))]
    # Nodes that are not known: what leads to an encoder is the conditioning.
    return through or [name for name, other in graph.links(node) if other.key in graph.encoded]


def _text(graph: Graph, node: Node, side: str, words: Words) -> str | None:
    """The text that a node encodes, or None if it encodes none."""
    if any(isinstance(node.inputs.get(name), str) for name in _SIDES):  # loaders that encode both prompts
        return graph.string(node.inputs.get(side))
    if not node.encodes:
        return None
    named = [name for name in TEXTS if name in node.inputs]
    if {"populated_text"} & {*named}:
        named = ["populated_text"]
    found = [text for name in named if (text := graph.string(node.inputs[name])) is not None]
    if named and not found:
        words.lost.append(f"the words of {shown(node.kind)}, which are no text in the file")
    different = list(dict.fromkeys(filter(None, found)))
    if len(different) > 1:
        words.lost.append(f"{len(different) - 1} further texts for other text encoders: {shown(different[1])}")
    return different[0] if different else ""


def _clips(graph: Graph, encoder: Node) -> list[Node]:
    """The nodes from an encoder to what its text encoder was loaded from."""
    path: list[Node] = []
    seen: set[str] = set()
    node: Node | None = encoder
    if any(is_link(encoder.inputs.get(name)) for name in ("clip", "opt_clip")):
        node = next((one for name in ("clip", "opt_clip") if (one := graph.linked(encoder.inputs.get(name)))), None)
    while node is not None and node.key not in seen:
        seen.add(node.key)
        path.append(node)
        node = next((one for name in ("clip", "opt_clip") if (one := graph.linked(node.inputs.get(name)))), None)
    return path
