"""What an adapter's file is, in a form to print: its kind, the family it was made for, its rank, and its words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sfumato.adapters import ip_adapter, textual_inversion
from sfumato.adapters.components import by_layer
from sfumato.adapters.file import NAMED, kind_of
from sfumato.adapters.made_for import made_for
from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.checkpoint.open import open_file

WORDS = 8  # of a trainer's tags that are told
# What the components of a file's layers say its kind of difference is; the first that fits.
ALGORITHMS = (
    ("magnitude", "DoRA"), ("rows", "DoRA"), ("hada_w1_a", "LoHa"), ("lokr_w1", "LoKr"), ("lokr_w1_a", "LoKr"),
    ("glora_a1", "GLoRA"), ("oft_blocks", "OFT"), ("oft_vectors", "OFT"), ("boft_stages", "BOFT"),
    ("on_input", "IA3"), ("ia3", "IA3"),
    ("up", "LoRA"), ("diff", "a full difference"),
)  # fmt: skip
RANKED = {"down": 0, "hada_w1_b": 0, "lokr_w1_b": 0, "lokr_w2_b": 0, "glora_a2": 0}  # components, and the rank's axis


@dataclass(frozen=True)
class Description:
    """An adapter's file: its `kind` in words, the title of the `family` it was made for, the ranks of its layers, how
    many layers it has, and the words that its trainer gave it."""

    kind: str
    family: str | None
    ranks: tuple[int, ...]
    layers: int
    words: tuple[str, ...]
    metadata: Mapping[str, str]

    def __str__(self) -> str:
        ranks = f"{self.ranks[0]} to {self.ranks[-1]}" if len(self.ranks) > 1 else "".join(map(str, self.ranks))
        parts = [f"{self.kind} for {self.family}" if self.family else self.kind, f"rank {ranks}" if ranks else ""]
        return ", ".join(filter(None, (*parts, f"words: {', '.join(self.words)}" if self.words else "")))

    def record(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**asdict(self), "metadata": dict(self.metadata)}


def describe_file(path: Path) -> Description | None:
    """Describe an adapter's file by its header; None for what is none. Raises SfumatoError for what cannot be read."""
    if not path.is_file():
        return None
    if path.suffix.lower() in textual_inversion.PICTURES:
        return _embedding(path, {})
    with open_file(path) as checkpoint:
        return describe(checkpoint)


def _embedding(path: Path, metadata: Mapping[str, str]) -> Description:
    found = textual_inversion.read(path)
    count = f"{found.count} vectors" if found.count > 1 else "one vector"
    return Description(f"an embedding of {count}", None, (), 0, (found.name,), metadata)


def describe(checkpoint: Checkpoint) -> Description | None:
    """Describe an opened file; None for what is no adapter."""
    shapes, metadata = checkpoint.shapes, checkpoint.metadata
    kind = kind_of(shapes)
    if ip_adapter.is_ip_adapter(shapes):
        flavour, made, count = ip_adapter.described(shapes)
        return Description(f"an IP-Adapter ({flavour})", made, (), count, (), metadata)
    if kind is None:
        return None
    if kind == "embedding":
        return _embedding(checkpoint.path, metadata)
    if kind != "lora":
        return Description(NAMED[kind], None, (), 0, (), metadata)
    layers, _ = by_layer(shapes)
    held = {component for parts in layers.values() for component in parts}
    named = next((name for component, name in ALGORITHMS if component in held), "LoRA")
    if named == "OFT" and any(
        len(shapes[parts["oft_blocks"]]) == 4 for parts in layers.values() if "oft_blocks" in parts
    ):
        named = "BOFT"
    ranks = {shapes[parts[one]][axis] for parts in layers.values() for one, axis in RANKED.items() if one in parts}
    family = made_for(shapes, metadata)
    title = None if family is None else family.title
    return Description(named, title, tuple(sorted(ranks)), len(layers), trained_words(metadata), metadata)


def trained_words(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """The words that a trainer says call the adapter: its phrase, else the tags of most of its pictures."""
    phrase = metadata.get("modelspec.trigger_phrase", "").strip()
    if phrase:
        return (phrase,)
    try:
        folders = json.loads(metadata.get("ss_tag_frequency", "{}"))
    except (ValueError, RecursionError):
        return ()
    counts: Counter[str] = Counter()
    for tags in folders.values() if isinstance(folders, dict) else ():
        for tag, count in tags.items() if isinstance(tags, dict) else ():
            counts[tag.strip()] += count if isinstance(count, int) else 0
    return tuple(tag for tag, _ in counts.most_common(WORDS) if tag)
