"""What other packages bring: samplers, schedules and guides that their entry points name."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import entry_points

from sfumato.errors import warn

_asked: set[str] = set()


def brought(group: str) -> Iterator[tuple[str, object]]:
    """The name and the object of every entry point of a group (such as "sfumato.samplers"), the first time it is asked.

    One that cannot be loaded is a SfumatoWarning, so that a broken package does not keep the others from drawing.
    """
    if group in _asked:
        return
    _asked.add(group)
    for point in entry_points(group=group):
        try:
            yield point.name, point.load()
        except Exception as error:  # whatever a foreign package raises
            warn(f"{point.value}, which a package offers as {point.name} of {group}, cannot be loaded: {error}")


def checked_name(kind: str, name: object, taken: bool) -> str:
    """The name of something new. Raises ValueError for what is no plain word, and for one that is taken."""
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"the name of a {kind} is {name!r}; choose a plain word, such as my_{kind}")
    if taken:
        raise ValueError(f"there is a {kind} of the name {name} already; choose another")
    return name
