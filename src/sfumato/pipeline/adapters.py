"""The adapters of a model: those that were added to it, and those that a request names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from sfumato.adapters import lora
from sfumato.adapters.file import AdapterFile
from sfumato.adapters.use import Use
from sfumato.errors import SfumatoError
from sfumato.hub.local_adapters import find_adapter
from sfumato.settings.adapters import read_lora
from sfumato.settings.settings import Settings
from sfumato.spec import Spec
from sfumato.text.prompt.syntax import parsed

LORAS = ("lora", "lyco")  # kinds of tags in prompts that mean the same


class Adapters:
    """What a model draws every picture with, besides what a request asks for: a collection of `Use`, by name.

    All views and copies of a model share it. Nothing here changes the model's own weights: without an adapter it is
    what it was, bit for bit.
    """

    def __init__(self, spec: Spec):
        self.spec = spec
        self._uses: dict[str, Use] = {}

    def add(
        self, adapter: str | Path, weight: float = 1.0, text_weight: float | None = None, name: str | None = None,
        *, strict: bool = True,
    ) -> AdapterFile:  # fmt: skip
        """Use an adapter's file, or one of the model folders by its name, in every picture from now on.

        `weight` is its strength, `text_weight` that for the text encoders (None: the same). Of what is added twice
        under the same name the last counts. `strict` False takes what fits of a file that fits in part. Raises
        SfumatoError for what is not here, is no adapter or does not fit.
        """
        file = _opened(str(adapter), name)
        lora.read(file, self.spec).check(self.spec, partial=not strict)
        self._uses[file.name] = Use(file, weight, text_weight)
        return file

    def remove(self, name: str) -> None:
        """Use an adapter no more. Raises SfumatoError for a name that is not used."""
        if name not in self._uses:
            raise SfumatoError(f"no adapter {name!r} is used; {self._listed()}")
        del self._uses[name]

    def clear(self) -> None:
        """Use none of them any more."""
        self._uses.clear()

    @contextmanager
    def using(
        self, adapter: str | Path, weight: float = 1.0, text_weight: float | None = None, *, strict: bool = True
    ) -> Iterator[AdapterFile]:
        """Use an adapter while the context lasts; see `add`. What was used before is used again after it."""
        before = dict(self._uses)
        try:
            yield self.add(adapter, weight, text_weight, strict=strict)
        finally:
            self._uses = before

    def uses(self, one: Settings) -> tuple[Use, ...]:
        """What a picture of these settings is drawn with: what was added, what options and what the prompt ask for.

        Who asks for one that was added asks for it at another strength. Raises SfumatoError as `add`.
        """
        added, result = dict(self._uses), list[Use]()
        asked = [(read_lora(text), "take it out") for text in one.lora]
        for tag in parsed(one.prompt_syntax, one.prompt).adapters if "<" in one.prompt else ():
            if tag.kind in LORAS:
                asked.append((tag, f"take it out of the prompt, or write \\{tag} to have it read as words"))
        for tag, fix in asked:
            if tag.name in self._uses:
                added.pop(tag.name, None)
                file = self._uses[tag.name].file
            else:
                file = _opened(tag.name, None, fix)
                lora.read(file, self.spec).check(self.spec, one.lora_partial)
            result.append(Use(file, tag.network_weight, tag.text_weight))
        uses = (*added.values(), *result)
        return tuple(replace(use, text=None) if use.text == use.network else use for use in uses)

    def _listed(self) -> str:
        return f"there are {', '.join(self._uses)}" if self._uses else "there are none"

    def __iter__(self) -> Iterator[Use]:
        return iter(tuple(self._uses.values()))

    def __len__(self) -> int:
        return len(self._uses)

    def __contains__(self, name: object) -> bool:
        return name in self._uses

    def __repr__(self) -> str:
        listed = (f"{use.file.name} ({use.file.kind}) at {use.network:g}" for use in self)
        return f"<Adapters: {', '.join(listed) or 'none'}>"


def _opened(name: str, called: str | None = None, else_do: str = "") -> AdapterFile:
    path = find_adapter(name, "lora", else_do)
    status = path.stat()
    return _open(path, called, (status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=256)
def _open(path: Path, called: str | None, state: tuple[int, int]) -> AdapterFile:
    """The file, which is opened again when its `state` has changed."""
    return AdapterFile.open(path, called)
