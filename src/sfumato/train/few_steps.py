"""What the methods share that teach a model to draw in few steps."""

from __future__ import annotations

from sfumato.settings.settings import Options, Settings, sized
from sfumato.spec import Spec

SHEET_STEPS = (1, 2, 4)
SCHEDULE = "trailing"  # from the noisiest level, in even times: the levels of 1, 2 and 4 steps are among those of 8


def few_steps(spec: Spec, steps: int) -> Options:
    """Returns the options by which such a model draws: consistency sampling, without guidance unless it is told it."""
    cfg = spec.defaults.cfg if spec.embeds_guidance else 1.0
    return {"steps": steps, "cfg": cfg, "sampler": "lcm", "schedule": SCHEDULE}


def sheet_settings(spec: Spec, width: int, height: int) -> list[Settings]:
    """Returns the settings of the rows of a sheet, each with other steps, for pictures of this size in pixels."""
    return [Settings.of(spec, "-", **sized(few_steps(spec, steps), width, height)) for steps in SHEET_STEPS]
