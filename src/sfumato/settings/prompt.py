"""The options about words: how prompts are read, and where wildcards and styles lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from sfumato.errors import SfumatoError
from sfumato.text.encode import EMPHASES, Emphasis
from sfumato.text.prompt.styles import apply_styles, find_styles
from sfumato.text.prompt.syntax import SYNTAXES, WITH_CHANCE, Syntax
from sfumato.text.prompt.template import expand
from sfumato.user_config import folder

LABELS = {"plain": "No norm", "comfy": "ComfyUI", "none": "Ignore"}  # of emphasis; "Original" goes without saying


class WordOptions(TypedDict, total=False):
    """How prompts are read; docs/prompts.md has the whole language.

    `prompt_syntax` "plain" draws brackets and all other marks as they stand, "a1111" reads them as AUTOMATIC1111's web
    UI does, "a1111-1.5" as its versions before 1.6, "comfyui" and "invokeai" as those. `emphasis` says what weights
    do, see `text.encode.weigh`. `wildcards` is the folder of the files that `__name__` stands for, `styles`
    are names in `styles_file`; by default both lie in sfumato's configuration (`wildcards/`, `styles.csv`).
    """

    prompt_syntax: str | None
    emphasis: str | None
    wildcards: str | Path | None
    styles: tuple[str, ...] | None
    styles_file: str | Path | None


@dataclass(frozen=True, kw_only=True)
class WordSettings:
    """`WordOptions` filled in, but for styles, which the prompts have already."""

    prompt_syntax: Syntax = "a1111"
    emphasis: Emphasis = "a1111"
    wildcards: str | None = None

    def check_words(self) -> None:
        """Raises SfumatoError for the first that cannot be honoured."""
        for name, value, known in (
            ("prompt syntax", self.prompt_syntax, SYNTAXES),
            ("emphasis", self.emphasis, EMPHASES),
        ):
            if value not in known:
                raise SfumatoError(f"unknown {name} {value!r}; choose one of {', '.join(known)}")

    def without_chance(self, prompt: str, seed: int | str) -> str:
        """What the seed draws from a prompt with choices and wildcards. Raises SfumatoError as `template.expand`."""
        if self.prompt_syntax not in WITH_CHANCE:
            return prompt
        return expand(prompt, seed, wildcard_folder(self.wildcards))

    def word_facts(self) -> Mapping[str, object]:
        """As web UIs name them; None for what goes without saying."""
        return {
            "Emphasis": LABELS.get(self.emphasis),
            "Prompt syntax": None if self.prompt_syntax == "a1111" else self.prompt_syntax,
        }


def wildcard_folder(given: str | None) -> Path | None:
    """The folder that is given; else the user's own, if it is there."""
    own = folder("config") / "wildcards"
    return Path(given) if given is not None else own if own.is_dir() else None


def styled(prompt: str, negative: str, options: dict[str, Any]) -> tuple[str, str]:
    """Both prompts with the styles that options name, which are taken out of the options. Raises SfumatoError."""
    names, path = options.pop("styles", ()), options.pop("styles_file", folder("config") / "styles.csv")
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise SfumatoError(f"styles is {names!r}; give names of styles, such as ('ink',)")
    return apply_styles(prompt, negative, find_styles(names, Path(path))) if names else (prompt, negative)
