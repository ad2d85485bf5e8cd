"""Leaves out the inner blocks of a network where they would answer nearly as they did before.

From one step to the next the inner blocks of a network change little. A network that is asked with a `Recall` runs its
first block. Then a `Rule` decides for each row: its inner blocks run, or what they returned for this row before is used
again. What is kept belongs to one picture under one conditioning (`Memory`), so rows of many pictures share a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sfumato.diffusion.cache_rules import Rule, difference


@dataclass(eq=False)
class Memory:
    """What is kept of one picture's questions under one conditioning, to one network.

    `inner` (1, ...) is what the inner blocks returned when they ran last, and `change` (1, ...) what the first block
    added then; `latest` is what it added at the last question. `drift` is the sum of the differences since the last
    run, `reused` the number of questions since.
    """

    rule: Rule
    inner: Tensor | None = None
    change: Tensor | None = None
    latest: Tensor | None = None
    drift: float = 0.0
    reused: int = 0
    _copies: dict[int, Memory] = field(default_factory=dict)

    def suffices(self, change: Tensor | None) -> bool:
        """Whether the inner blocks need not run."""
        return self.inner is not None and self.rule.reuses(self, change)

    def note(self, inner: Tensor | None, change: Tensor | None) -> None:
        """Keeps what a question brought: `inner` if the inner blocks ran."""
        if inner is not None:
            self.inner, self.change, self.drift, self.reused = inner, change, 0.0, 0
        else:
            self.drift += 0.0 if change is None else difference(change, self.latest)
            self.reused += 1
        self.latest = change

    def copy(self, k: int) -> Memory:
        """The memory of the k-th changed copy of the picture, where a network is asked about several at once."""
        return self if k == 0 else self._copies.setdefault(k, Memory(self.rule))


class Recall:
    """The memories of the rows of one call; a row without one has its inner blocks run."""

    def __init__(self, memories: Sequence[Memory | None]):
        self.memories = list(memories)

    def repeated(self, times: int) -> Recall:
        """The memories of a call in which every row comes so many times, one copy of all rows after the other."""
        return Recall([None if one is None else one.copy(k) for k in range(times) for one in self.memories])

    @property
    def measures(self) -> bool:
        """Whether any row's rule looks at the change of the first block."""
        return any(one is not None and one.rule.measures for one in self.memories)

    def inner(self, change: Tensor | None, run: Callable[..., Tensor], *given: Any) -> Tensor:
        """Returns what the inner blocks return, or returned before: (B, ...).

        `run(*given)` runs them. `given` are tensors of B rows, tuples of such, or None; it gets the rows only that must
        run. `change` (B, ...) is what the first block added to its input, if any rule measures.
        """
        measured = [None] * len(self.memories) if change is None else change.split(1)
        changes = [
            row if memory is not None and memory.rule.measures else None
            for memory, row in zip(self.memories, measured, strict=True)
        ]
        asked = [k for k, one in enumerate(self.memories) if one is None or not one.suffices(changes[k])]
        made: dict[int, Tensor] = {}
        if asked:
            rows = None if len(asked) == len(self.memories) else torch.tensor(asked)
            made = dict(zip(asked, run(*(_selected(each, rows) for each in given)).split(1), strict=True))
        answers = []
        for k, memory in enumerate(self.memories):
            if memory is not None:
                memory.note(made.get(k), changes[k])
            answers.append(made[k] if memory is None or memory.inner is None else memory.inner)
        return torch.cat(answers)


def _selected(given: Any, rows: Tensor | None) -> Any:
    if given is None or rows is None:
        return given
    if isinstance(given, tuple):
        return tuple(_selected(each, rows) for each in given)
    return given[rows.to(given.device)]
