"""Stable Diffusion, whole: `sfumato.load()` gives a model that draws."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfumato.errors import SfumatoError

if TYPE_CHECKING:
    from sfumato.model import load

__all__ = ["SfumatoError", "__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import what needs torch only when it is asked for (PEP 562): the command line's help should not wait for it."""
    if name == "load":
        from sfumato.model import load

        return load
    raise AttributeError(f"module 'sfumato' has no attribute {name!r}")
