"""Scales that clients send by habit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sfumato.server.config import Config
from sfumato.server.desk import Desk
from sfumato.server.jobs.inputs import Inputs
from sfumato.server.strong_guidance import tamed


@pytest.mark.parametrize(("scale", "own", "projected"), [(7, 1.5, True), (4, 1.5, False), (None, 1.5, False),
                                                         (12, 7.5, False), (7, 1.0, True)])  # fmt: skip
def test_only_models_for_weak_guidance_are_tamed(
    tmp_path: Path, scale: float | None, own: float, projected: bool
) -> None:
    spec = Desk(Inputs(tmp_path), Config(folder=tmp_path)).spec("emoji")
    spec = replace(spec, defaults=replace(spec.defaults, cfg=own))
    assert bool(tamed(scale, spec)) is projected
