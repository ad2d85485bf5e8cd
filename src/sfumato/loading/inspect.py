"""What a checkpoint is, in a form to print."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.checkpoint.formats.fp8 import EIGHTS
from sfumato.checkpoint.keymap import Match
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.loading import evidence
from sfumato.loading.components import opened
from sfumato.loading.detect import identify
from sfumato.loading.load import FLOATS, compare, has_ema
from sfumato.loading.resolve import NONE, Overrides, resolve
from sfumato.spec import Spec


@dataclass(frozen=True)
class Inspection:
    """`problem` says in one line why it cannot be loaded; None when it can. `parts` counts tensors and parameters.

    `stated` is what it says of itself besides its tensors' shapes. `carried` are the files of a folder that a single
    file written by sfumato has in its header.
    """

    path: str
    what: str
    family: str | None
    layout: str | None
    container: str
    bytes: int
    dtypes: dict[str, int]
    parts: dict[str, dict[str, int]]
    ema: bool = False
    problem: str | None = None
    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    spec: Spec | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    carried: list[str] = field(default_factory=list)
    stated: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)


def inspect_checkpoint(
    path: str | Path,
    vae: str | Path | None = None,
    text_encoders: Sequence[str | Path] = (),
    overrides: Overrides = NONE,
) -> Inspection:
    """Describe a model file or folder, with parts given apart as in `load_parts`; only headers are read.

    Raises SfumatoError when it cannot be opened. What opens but cannot be loaded is described with its `problem`.
    """
    with open_checkpoint(path) as checkpoint, opened(vae, text_encoders) as apart:
        identity = identify(checkpoint)
        kinds = Counter(stored.kind for stored in checkpoint.tensors.values())
        common: dict[str, Any] = {
            "path": str(path),
            "what": identity.title,
            "container": checkpoint.container,
            "bytes": checkpoint.size,
            "dtypes": dict(kinds.most_common()),
            "metadata": dict(sorted(checkpoint.metadata.items())),
            "carried": sorted(checkpoint.embedded_files),
            "stated": [str(one) for one in evidence.statements(checkpoint)],
        }
        if identity.family is None or identity.layout is None:
            parts = {"all": _count(checkpoint, list(checkpoint.tensors))}
            return Inspection(
                **common, family=None, layout=None, parts=parts, problem=f"it is {identity.title}; {identity.advice}"
            )
        family, layout = identity.family, identity.layout
        common |= {"family": family.name, "layout": layout, "ema": has_ema(checkpoint, family, layout)}
        try:
            model = resolve(checkpoint, *apart, overrides)
            plan = compare(model)
        except SfumatoError as error:
            groups = {
                part: [name for name in checkpoint.tensors if name.startswith(prefix)]
                for part, prefix in family.layouts[layout].prefixes.items()
            }
            return Inspection(
                **common, parts={part: _count(checkpoint, names) for part, names in groups.items()}, problem=str(error)
            )
        checkpoint, spec = model.checkpoint, model.spec
        match = plan.match
        parts = {
            part: _count(
                checkpoint, [match.names[name] for rule in rules for name in rule.theirs if name in match.names]
            )
            for part, rules in plan.keymap.parts.items()
        }
        return Inspection(
            **common,
            parts=parts,
            problem=_problem(match, {name: checkpoint.tensors[name].dtype for name in match.names.values()}),
            missing=match.missing,
            left_over=match.left_over,
            misshapen=match.misshapen,
            ignored=match.ignored,
            spec=spec,
        )


def _problem(match: Match, dtypes: dict[str, torch.dtype]) -> str | None:
    if match.complete:
        whole = [f"{name} is {dtype}" for name, dtype in dtypes.items() if dtype not in FLOATS + EIGHTS]
        return f"{whole[0]}; floating-point weights are expected" if whole else None
    return (
        f"{len(match.missing)} tensors are missing, {len(match.left_over)} left over, "
        f"{len(match.misshapen)} of another shape"
    )


def _count(checkpoint: Checkpoint, names: list[str]) -> dict[str, int]:
    parameters = sum(math.prod(checkpoint.tensors[name].shape) for name in names)
    return {"tensors": len(names), "parameters": parameters}
