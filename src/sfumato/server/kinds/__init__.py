"""What the server can be asked for: how a request of each kind is checked, and how it is drawn."""

from __future__ import annotations

from sfumato.errors import unknown
from sfumato.server.kinds.base import Kind
from sfumato.server.kinds.compress import Compress
from sfumato.server.kinds.draw import DRAWN, Draw
from sfumato.server.kinds.enlarge import Enlarge
from sfumato.server.kinds.graph.kind import Graph
from sfumato.server.kinds.hint import Hint
from sfumato.server.kinds.interrogate import Interrogate

KINDS: dict[str, Kind] = {name: Draw(form) for name, form in DRAWN.items()}
KINDS |= {"compress": Compress(), "enlarge": Enlarge(), "graph": Graph(), "hint": Hint(), "interrogate": Interrogate()}


def find_kind(name: str) -> Kind:
    """The kind of that name. Raises SfumatoError for a name that is none."""
    if name not in KINDS:
        raise unknown("kind of request", name, KINDS)
    return KINDS[name]
