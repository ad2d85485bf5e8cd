"""Whether there is memory for the copy of weights that LoRAs are merged into."""

from __future__ import annotations

from torch import nn

from sfumato.adapters.merged import copied_bytes
from sfumato.adapters.use import Use
from sfumato.errors import warn
from sfumato.runtime.device import free_memory
from sfumato.spec import Spec

SHARE = 0.5  # of free memory, that the copy may take


class CopyFits:
    """Says of LoRAs whether the copy of a network's weights takes no more than `SHARE` of the memory that is free.

    What was decided once holds, so that the same request is always drawn in the same way.
    """

    def __init__(self, network: nn.Module, part: str, spec: Spec):
        self.network, self.part, self.spec = network, part, spec
        self.decided: dict[tuple[Use, ...], bool] = {}

    def __call__(self, uses: tuple[Use, ...]) -> bool:
        if uses and uses not in self.decided:
            self.decided[uses] = self._decide(uses)
        return not uses or self.decided[uses]

    def _decide(self, uses: tuple[Use, ...]) -> bool:
        size = copied_bytes(self.network, self.part, uses, self.spec)
        free = free_memory(next(self.network.parameters()).device)
        if free is None or size <= SHARE * free:
            return True
        named, sizes = (
            " and ".join(use.file.name for use in uses),
            f"{size / 1e9:.1f} GB of {free / 1e9:.1f} that are free",
        )
        warn(
            f"to merge {named} would copy {sizes}; it is added at every step instead, which takes longer "
            "(sd.adapters.merge = True merges)"
        )
        return False

    def forget(self) -> None:
        """Decide anew, as after the network has moved."""
        self.decided.clear()
