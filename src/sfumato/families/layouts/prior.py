"""A scene prior in files: its tensors have our own names in every layout, behind a prefix."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from sfumato.checkpoint.keymap import Shapes
from sfumato.nets.composer import DETAIL_LEVELS
from sfumato.nets.packed import per_float
from sfumato.spec import PriorConfig
from sfumato.typed import build

CLASS = "ScenePrior"
MARK = "memory.codes"  # a tensor that only a prior has


def sizes(shapes: Shapes, prefix: str) -> PriorConfig:
    """The sizes of a prior from the shapes of its tensors; its heads, which shapes do not show, are the usual ones.

    Raises LookupError when they are not those of a prior.
    """
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    concepts, styles, code = own[MARK]
    grounds, attributes = own["composer.ground_token.weight"]
    (channels,) = own["composer.unknown"]
    reader, text = own["reader.from_state.weight"]
    return PriorConfig(
        concepts=concepts,
        styles=styles,
        code=code,
        detail=tuple(
            per_float(levels) * own[name][-1] for levels in DETAIL_LEVELS if (name := f"memory.details_{levels}") in own
        ),
        attributes=attributes,
        latent_channels=channels,
        side=round((own["composer.basis.weight"][0] / channels) ** 0.5),
        tints=own["composer.tint_token.weight"][0],
        grounds=grounds - 1,
        text_dim=text,
        reader=reader,
        phrases=own["lexicon.entries"][0],
        reader_layers=len({match[1] for name in own if (match := re.match(r"reader\.layers\.(\d+)\.", name))}),
    )


def config_to(cfg: PriorConfig) -> dict[str, Any]:
    """The prior's config.json in a folder."""
    return {"_class_name": CLASS} | dataclasses.asdict(cfg)


def config_from(config: Mapping[str, Any], where: str) -> PriorConfig:
    """What a prior's config.json states. Raises SfumatoError for what is none."""
    return build(PriorConfig, {key: value for key, value in config.items() if not key.startswith("_")}, where)
