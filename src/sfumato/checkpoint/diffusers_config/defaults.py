"""The settings that a folder of ours advises, of sfumato.json."""

from __future__ import annotations

import dataclasses

from sfumato.checkpoint.diffusers_config.fields import Config, Fields
from sfumato.spec import Defaults


def defaults_from(config: Config, where: str, defaults: Defaults) -> Defaults:
    """The settings that a folder of ours advises; `defaults` for what it does not say."""
    fields = Fields(where, config)
    known = {field.name: getattr(defaults, field.name) for field in dataclasses.fields(Defaults)}
    for name in config:
        if name not in known:
            raise fields.wrong(name, f"one of {', '.join(known)}")
    for name, value in known.items():
        if isinstance(value, str):
            known[name] = fields.text(name, value)
        else:
            known[name] = (fields.number if isinstance(value, float) else fields.integer)(name, value)
    return Defaults(**known)
