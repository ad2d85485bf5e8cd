"""Stable Diffusion, whole: `sfumato.load()` gives a model that draws."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from sfumato.errors import SfumatoError
from sfumato.runtime.importing import import_torch_quickly
from sfumato.runtime.threads import wait_passively

# Before anything imports torch.
wait_passively()
import_torch_quickly()

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion, load
    from sfumato.diffusion.sample import add_sampler
    from sfumato.diffusion.sigma_schedules import add_sigma_schedule
    from sfumato.hub.local_models import models
    from sfumato.hub.pull import pull
    from sfumato.loading.safety import load_safety_checker
    from sfumato.merging.loras import extract_lora, merge_loras, resize_lora
    from sfumato.merging.merge import merge
    from sfumato.pipeline.aesthetic import load_aesthetic
    from sfumato.pipeline.events import Picture, Progress
    from sfumato.pipeline.guides import add_guide
    from sfumato.settings.control import Control
    from sfumato.settings.image_prompt import ImagePrompt
    from sfumato.tasks.result import Result

__all__ = [
    "Control",
    "ImagePrompt",
    "Picture",
    "Progress",
    "Result",
    "SfumatoError",
    "StableDiffusion",
    "__version__",
    "add_guide",
    "add_sampler",
    "add_sigma_schedule",
    "extract_lora",
    "load",
    "load_aesthetic",
    "load_safety_checker",
    "merge",
    "merge_loras",
    "models",
    "pull",
    "resize_lora",
]
_HOMES = {
    "Control": "sfumato.settings.control",
    "ImagePrompt": "sfumato.settings.image_prompt",
    "Picture": "sfumato.pipeline.events",
    "Progress": "sfumato.pipeline.events",
    "Result": "sfumato.tasks.result",
    "StableDiffusion": "sfumato.api",
    "add_guide": "sfumato.pipeline.guides",
    "add_sampler": "sfumato.diffusion.sample",
    "add_sigma_schedule": "sfumato.diffusion.sigma_schedules",
    "extract_lora": "sfumato.merging.loras",
    "load": "sfumato.api",
    "load_aesthetic": "sfumato.pipeline.aesthetic",
    "load_safety_checker": "sfumato.loading.safety",
    "merge": "sfumato.merging.merge",
    "merge_loras": "sfumato.merging.loras",
    "models": "sfumato.hub.local_models",
    "pull": "sfumato.hub.pull",
    "resize_lora": "sfumato.merging.loras",
}
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import what needs torch only when it is asked for (PEP 562): the command line's help should not wait for it."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sfumato' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What a user may want, also what is not imported yet."""
    return sorted(__all__)
