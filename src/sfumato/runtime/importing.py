"""A quicker import of torch.

Importing torch makes half a million objects that stay. Python's collector of cycles goes through them again and again
meanwhile, a quarter of the time of the import, and at times while pictures are drawn. This module imports no torch.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


@contextmanager
def _collecting_later() -> Iterator[None]:
    """Keep the collector still, and let it pass by all objects that are there in the end, for ever."""
    runs = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if runs:
            gc.freeze()
            gc.enable()


class _QuickTorch(MetaPathFinder):
    """Finds torch where Python would, and lets it be imported without the collector."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "torch":
            return None
        found = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((one for one in found if one is not None), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            with _collecting_later():
                execute(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def import_torch_quickly() -> None:
    """Let torch be imported, later and by whomever, in less time. Does nothing where that is arranged or too late."""
    if "torch" not in sys.modules and not any(isinstance(finder, _QuickTorch) for finder in sys.meta_path):
        sys.meta_path.insert(0, _QuickTorch())
