"""Handles the high guidance scales that many clients always send, for models made for weak guidance."""

from __future__ import annotations

from typing import Any

from sfumato.spec import Spec

GENTLE = 2.0  # a model's own guidance scale, up to which it was made for weak guidance
NORM = 1.5  # the length of a projected step at which 7 draws on the embedded model about what its own scale does


def tamed(scale: float | None, spec: Spec) -> dict[str, Any]:
    """Returns the options that project guidance (`apg`) for a scale so far above the model's own that pictures break.

    Many clients send 7 or 8, the usual scale of models without distillation, even if their user chose none.
    """
    too_strong = scale is not None and spec.defaults.cfg <= GENTLE and scale > 2 * GENTLE
    return {"apg": True, "apg_norm": NORM} if too_strong else {}
