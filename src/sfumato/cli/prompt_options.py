"""The options about words, a section of their own in every command that draws."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sfumato.settings.settings import Options

_option = partial(typer.Option, rich_help_panel="Words")

PromptSyntax = Annotated[
    str | None,
    _option(
        metavar="a1111|a1111-1.5|comfyui|invokeai|plain",
        help="Whose rules (brackets) and other marks follow, or plain: all is drawn as it stands; else a1111.",
    ),
]
EmphasisName = Annotated[
    str | None,
    _option("--emphasis", metavar="a1111|plain|comfy|none", help="What the weight of a word does; else a1111."),
]
Wildcards = Annotated[
    str | None, _option(metavar="FOLDER", help="Where the files lie that __name__ in a prompt takes a line from.")
]
Styles = Annotated[
    list[str] | None, _option("--style", metavar="NAME", help="Add a style from the styles file. May be repeated.")
]
StylesFile = Annotated[
    str | None, _option("--styles-file", metavar="FILE", help="A styles.csv as web UIs have it; else that of sfumato.")
]


@dataclass(frozen=True)
class Wording:
    """How prompts are read; see `settings.prompt.WordOptions`."""

    prompt_syntax: PromptSyntax = None
    emphasis: EmphasisName = None
    style: Styles = None
    styles_file: StylesFile = None
    wildcards: Wildcards = None

    def word_options(self) -> Options:
        return {
            "prompt_syntax": self.prompt_syntax,
            "emphasis": self.emphasis,
            "styles": tuple(self.style) if self.style else None,
            "styles_file": self.styles_file,
            "wildcards": self.wildcards,
        }
