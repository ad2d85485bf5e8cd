"""The script "Prompt matrix": a picture for every choice of the parts of a prompt between bars."""

from __future__ import annotations

from itertools import product
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.server.dialects.a1111.bodies import DrawBody
from sfumato.server.dialects.a1111.scripts.base import Argument, Plan, Requests, Script, argument
from sfumato.server.dialects.a1111.scripts.sheet import sheets

MAX_PARTS = 8
DELIMITERS = {"comma": ", ", "space": " "}


class PromptMatrix(Script):
    """Arguments: whether the parts stand first, a seed for each picture, which prompt, what stands between, margin."""

    name = "prompt matrix"

    def arguments(self, img2img: bool) -> list[Argument]:
        return [
            Argument("Put variable parts at start of prompt", False),
            Argument("Use different seed for each picture", False),
            Argument("Select prompt", "positive", choices=("positive", "negative")),
            Argument("Select joining char", "comma", choices=tuple(DELIMITERS)),
            Argument("Grid margins (px)", 0, 0, 500, 2),
        ]

    def plan(self, body: DrawBody, requests: Requests) -> Plan:
        first, seeds, which, joint = (
            argument(body.script_args or [], place, default)
            for place, default in enumerate((False, False, "positive", "comma"))
        )
        field = "negative_prompt" if which == "negative" else "prompt"
        always, *parts = (part.strip() for part in (getattr(body, field) or "").split("|"))
        if not 1 <= len(parts) <= MAX_PARTS:
            raise SfumatoError(f"a prompt matrix has 1 to {MAX_PARTS} parts after bars, not {len(parts)}; write a | b")
        found = []
        for number, chosen in enumerate(product(*([False, True] for _ in parts))):
            words = [part for part, used in zip(parts, reversed(chosen), strict=True) if used]
            text = DELIMITERS.get(str(joint), ", ").join([*words, always] if first else [always, *words])
            changed: dict[str, Any] = {field: text, "batch_size": 1, "n_iter": 1, "script_name": None}
            changed["seed"] = (body.seed or 0) + (number if seeds else 0)
            found += requests(body.changed(**changed))[:1]
        columns = (len(parts) + 1) // 2
        labels = [_labels(parts[:columns]), _labels(parts[columns:])]
        return Plan(found, sheets([axis for axis in labels if axis], lone=True), first=1)


def _labels(parts: list[str]) -> list[str]:
    """What each column or row has of these parts."""
    choices = product(*([False, True] for _ in parts))
    chosen = ([part for part, used in zip(parts, reversed(one), strict=True) if used] for one in choices)
    return [" + ".join(one) or "-" for one in chosen] if parts else []
