"""The options about words: how prompts are read, where wildcards and styles lie; docs/prompts.md has the language."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from sfumato.settings.kinds import Choice, Names, Text
from sfumato.settings.option import checked, option, options_in
from sfumato.text.prompt.emphasis import EMPHASES, Emphasis
from sfumato.text.prompt.styles import apply_styles, find_styles
from sfumato.text.prompt.syntax import SYNTAXES, Syntax
from sfumato.user_config import folder


@dataclass(frozen=True, kw_only=True)
class WordSettings:
    """How prompts are read, but for styles, which are part of the prompts by then."""

    PANEL: ClassVar[str] = "Words"

    emphasis: Emphasis = option(
        "a1111", Choice(EMPHASES), "What the weight of a word does.", "Emphasis",
        words={"a1111": "Original", "plain": "No norm", "comfy": "ComfyUI", "none": "Ignore"},
    )  # fmt: skip
    prompt_syntax: Syntax = option(
        "a1111", Choice(SYNTAXES), "Whose rules brackets and other marks follow; plain: all is drawn as it stands.",
        "Prompt syntax",
    )  # fmt: skip
    wildcards: str | None = option(
        None, Text("FOLDER"), "Where the files lie that __name__ in a prompt takes a line from.",
        absent="wildcards/ in sfumato's configuration",
    )  # fmt: skip

    @property
    def wildcard_folder(self) -> Path | None:
        """The folder that is given; else the user's own, if it is there."""
        own = folder("config") / "wildcards"
        return Path(self.wildcards) if self.wildcards is not None else own if own.is_dir() else None


@dataclass(frozen=True, kw_only=True)
class StyleOptions:
    """Texts that are added to the prompts before anything else reads them."""

    PANEL: ClassVar[str] = "Words"

    styles: tuple[str, ...] = option(
        (), Names("ink"), "Add a style from the styles file.", flags=("--style",), also=("style",)
    )
    styles_file: str | None = option(
        None, Text("FILE"), "A styles.csv as web UIs have it.", absent="styles.csv in sfumato's configuration"
    )


def styled(prompt: str, negative: str, options: dict[str, Any]) -> tuple[str, str]:
    """Both prompts with the styles that options name, which are taken out of the options. Raises SfumatoError.

    Prompts that the options hold for a second pass have these styles afterwards, too.
    """
    known = options_in(StyleOptions)
    said = StyleOptions(**checked(known, {name: options.pop(name) for name in known if name in options}))
    if not said.styles:
        return prompt, negative
    path = folder("config") / "styles.csv" if said.styles_file is None else Path(said.styles_file)
    styles = find_styles(said.styles, path)
    for which, name in enumerate(("hires_prompt", "hires_negative")):
        if isinstance(text := options.get(name), str) and text.strip():
            options[name] = apply_styles(text, text, styles)[which]
    return apply_styles(prompt, negative, styles)
