"""The options as keywords of Python's functions, made of the table; `keywords.pyi` is what type checkers read of it.

`tools/keywords.py` writes that file after a change of the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from sfumato.diffusion.options import Value
from sfumato.settings.control import Control
from sfumato.settings.image_prompt import ImagePrompt
from sfumato.settings.table import OPTIONS

_TYPES: dict[str, Any] = {
    "Mapping": Mapping, "Sequence": Sequence, "Path": Path, "Value": Value, "Control": Control,
    "ImagePrompt": ImagePrompt, "Any": Any,
}  # fmt: skip
Options = TypedDict(  # type: ignore[misc]
    "Options",
    {name: eval(f"{one.kind.hint} | None", _TYPES) for name, one in OPTIONS.items()},  # type: ignore[misc]
    total=False,
)
Options.__doc__ = "What a user may say about a picture, whatever the task; None, or nothing, is the default."
