"""Writes the settings of one picture as the text that its file carries."""

from __future__ import annotations

from collections.abc import Mapping

from sfumato import __version__
from sfumato.checkpoint.hashes import model_hash
from sfumato.pipeline import unclip
from sfumato.pipeline.adapter_text import described, hashes
from sfumato.pipeline.model import Model
from sfumato.provenance import infotext
from sfumato.settings.option import written
from sfumato.settings.settings import Settings
from sfumato.settings.table import DESCRIBED, OPTIONS

LAST_BEFORE_MODEL = OPTIONS["width"].infotext


def describe(model: Model, one: Settings, metadata: Mapping[str, object]) -> str:
    """Returns the settings of one picture in the syntax of web UIs, with the `metadata` of a task."""
    fields: dict[str, object] = {}
    for group in DESCRIBED:
        for name, value in written(group, one, model.spec.defaults).items():
            fields[name] = value
            if name == LAST_BEFORE_MODEL:
                fields |= {"Model hash": model.hash, "Model": model.name}
    for number, (control, loaded) in enumerate(zip(one.control, model.controls, strict=True)):
        digest = model_hash(loaded.path)
        fields[f"ControlNet {number}"] = control.written(f"{loaded.name} [{digest}]" if digest else loaded.name)
    for number, (seen, file) in enumerate(zip(model.adapters.image_prompts(one), model.key.images, strict=True)):
        fields[f"IP-Adapter {number}"] = seen.written(file.path.stem)
    fields["Image prompt"] = unclip.described(one)
    prompt, said = described(one, model.adapters.unsaid(one))
    guides = ", ".join(name for name, _ in model.guides if name) or None
    fields |= {
        **said,
        **hashes(one, model.adapters.uses(one)),
        **one.tensors.facts(),
        "Guides": guides,
        **metadata,
        "Version": f"sfumato {__version__}",
    }
    return infotext.write(prompt, one.negative, fields)
