"""The options about adapters; an adapter is written as between the brackets of `<lora:style:0.8>`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, ClassVar

from sfumato.settings.kinds import Names, Switch
from sfumato.settings.option import option
from sfumato.text.prompt.tree import NUMBER, Adapter

OPTIONS = ("te", "unet", "lbw", "during", "step", "start", "stop")  # that an adapter may have by name


NO_ADAPTER = "none"


def read_lora(text: str) -> Adapter:
    """The adapter that a text such as "style:0.8" or "folder/style.safetensors:0.8:0.5" names. Raises ValueError."""
    parts = text.strip().split(":")
    options = [*takewhile(_is_option, reversed(parts[1:]))]
    parts = parts[: len(parts) - len(options)]  # of which a path may have several
    name = ":".join(parts)
    if not name or sum("=" not in one for one in options) > 2:
        raise ValueError(f"{{name}} is {text!r}; give a name or path with its strength, such as style:0.8")
    return Adapter("lora", name, tuple(reversed(options)))


def _is_option(text: str) -> bool:
    name, equals, _ = text.partition("=")
    return name in OPTIONS if equals else NUMBER.fullmatch(text) is not None


@dataclass(frozen=True)
class Files(Names):
    """Several adapters: files, or names of those in the model folders."""

    def checked(self, value: Any, spec: Any) -> tuple[str, ...]:
        return super().checked([value] if isinstance(value, str) else value, spec)

    def read(self, text: str) -> tuple[str, ...]:
        return tuple(one.strip() for one in text.split(", "))

    def written(self, value: Sequence[str]) -> str | None:
        return ", ".join(value) or None


@dataclass(frozen=True)
class Loras(Files):
    """Several adapters with their strengths; in a text the word `NO_ADAPTER` is none."""

    def read(self, text: str) -> tuple[str, ...]:
        return () if text.strip() == NO_ADAPTER else super().read(text)

    def checked(self, value: Any, spec: Any) -> tuple[str, ...]:
        texts = super().checked(value, spec)
        for text in texts:
            read_lora(text)
        return texts


def _unsaid(settings: object) -> Mapping[str, object]:
    """Nothing: whoever knows what is used besides writes it, as tags in the prompt where these can be."""
    return {}


@dataclass(frozen=True, kw_only=True)
class AdapterSettings:
    """Which adapters a picture is drawn with, besides those that its prompt and the model name."""

    PANEL: ClassVar[str] = "Adapters"

    lora: tuple[str, ...] = option(
        (), Loras("style:0.8", "NAME[:WEIGHT]"), "Draw with a LoRA or one of its kin, as <lora:NAME:WEIGHT> in a "
        "prompt: a file, or the name of one in the model folders.", "Lora", also=("loras",), write=_unsaid,
    )  # fmt: skip
    lora_partial: bool = option(
        False, Switch(), "Use what fits of a LoRA that fits the model only in part.", "Lora partial"
    )
    embedding: tuple[str, ...] = option(
        (), Files("easynegative"), "Know an embedding's word in prompts: a file, or the name of one in the model "
        "folders.", "Embedding", also=("embeddings", "textual_inversion"),
    )  # fmt: skip
    hypernetwork: tuple[str, ...] = option(
        (), Loras("anime:0.8", "NAME[:WEIGHT]"), "Draw with a hypernetwork, as <hypernet:NAME:WEIGHT> in a prompt: a "
        "file, or the name of one in the model folders.", "Hypernet", also=("hypernetworks",), write=_unsaid,
    )  # fmt: skip
