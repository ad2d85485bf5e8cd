"""Brackets that weigh, where groups lie within groups, each with a factor or a weight of its own."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.text.prompt.emphasis import Span, Spans
from sfumato.text.prompt.tree import within


@dataclass
class _Group:
    """An open bracket, until it is closed; one that never is stays the text `mark`."""

    mark: str
    closed: bool = False
    factor: float = 1.0
    weight: float | None = None  # in place of the weights around it


class Weighing:
    """Collects words and groups; the time that it takes grows with their number, however deep they nest."""

    def __init__(self) -> None:
        self._parts: list[str | _Group | None] = []  # None ends the innermost group
        self._open: list[_Group] = []

    def words(self, text: str) -> None:
        """Text inside the innermost open group."""
        self._parts.append(text)

    def open(self, mark: str) -> None:
        """Begin a group."""
        self._open.append(_Group(mark))
        self._parts.append(self._open[-1])

    def close(self, factor: float = 1.0, weight: float | None = None) -> bool:
        """End the innermost group with what it multiplies by, or a weight instead; False where none is open."""
        if not self._open:
            return False
        group = self._open.pop()
        group.closed, group.factor, group.weight = True, factor, weight
        self._parts.append(None)
        return True

    def weighed(self, text: str, factor: float) -> None:
        """Text in a group of its own."""
        self.open("")
        self.words(text)
        self.close(factor)

    def spans(self) -> Spans:
        """All words with their weights, neighbours of one weight as one."""
        weights = [1.0]
        found: list[tuple[list[str], float]] = []
        for part in self._parts:
            if part is None:
                weights.pop()
                continue
            if isinstance(part, _Group) and part.closed:
                weights.append(within(weights[-1] * part.factor if part.weight is None else part.weight))
                continue
            text = part.mark if isinstance(part, _Group) else part
            if found and found[-1][1] == weights[-1]:
                found[-1][0].append(text)
            elif text:
                found.append(([text], weights[-1]))
        return tuple(Span("".join(texts), weight) for texts, weight in found) or (Span(""),)
