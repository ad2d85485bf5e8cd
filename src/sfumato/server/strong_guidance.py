"""Guidance scales that clients send by habit, for models that are made for weaker ones."""

from __future__ import annotations

from sfumato.spec import Spec

GENTLE = 2.0  # a model's own guidance scale, up to which it was made for weak guidance


def is_too_strong(scale: float | None, spec: Spec) -> bool:
    """Whether a scale is so far above the model's own that pictures break unless guidance is projected (`apg`).

    Clients send 7 or 8, the scale of models without distillation, also where their user chose none.
    """
    return scale is not None and spec.defaults.cfg <= GENTLE and scale > 2 * GENTLE
