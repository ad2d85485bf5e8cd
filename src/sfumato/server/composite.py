"""Names for models that are assembled from several files, or loaded with other settings than their file says."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from sfumato.errors import SfumatoError

MARK = "parts:"


@dataclass(frozen=True)
class Composite:
    """A model by the name of its file, with the parts that replace or complete it; see `sfumato.load`.

    `name` says it in one text, which the server takes wherever it takes a model's name.
    """

    model: str
    vae: str | None = None
    text_encoders: tuple[str, ...] = ()
    prediction: str | None = None
    zero_snr: bool | None = None

    @property
    def further(self) -> dict[str, Any]:
        """The parts besides the model, as keywords of `sfumato.load`."""
        given = asdict(self)
        return {name: value for name, value in given.items() if name != "model" and value not in (None, ())}

    @property
    def name(self) -> str:
        """The name as one text; that of the model itself if no other part is given."""
        return MARK + json.dumps({"model": self.model, **self.further}) if self.further else self.model

    @classmethod
    def of(cls, name: str) -> Self:
        """Reads a name. Raises SfumatoError for one that begins like those of `name` but is not one of them."""
        if not name.startswith(MARK):
            return cls(name)
        try:
            said = json.loads(name.removeprefix(MARK))
            said["text_encoders"] = tuple(said.get("text_encoders", ()))
            known = {one.name for one in fields(cls)}
            if not isinstance(said["model"], str) or not said.keys() <= known:
                raise ValueError
            return cls(**said)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise SfumatoError(f"{name[:120]!r} names no model; give the name of one") from None


def with_encoders(parts: Composite, *names: str) -> Composite:
    """The model with the named text encoders; a model that is put together already has those of all its loaders."""
    return parts if set(names) <= set(parts.text_encoders) else replace(parts, text_encoders=tuple(names))
