"""All options that every task understands, in the order in which a picture's settings have them."""

from __future__ import annotations

from sfumato.settings.adapters import AdapterSettings
from sfumato.settings.control import ControlSettings
from sfumato.settings.guidance import GuidanceSettings
from sfumato.settings.image_prompt import ImagePromptSettings
from sfumato.settings.option import Option, options_in
from sfumato.settings.picture import HiresSettings, PictureSettings, RefinerSettings, SizeConditioning
from sfumato.settings.prompt import StyleOptions, WordSettings
from sfumato.settings.sampling import SamplingSettings

GROUPS = (
    SamplingSettings,
    GuidanceSettings,
    WordSettings,
    StyleOptions,
    AdapterSettings,
    ControlSettings,
    ImagePromptSettings,
    PictureSettings,
    SizeConditioning,
    RefinerSettings,
    HiresSettings,
)
# What every picture's settings say; the other groups are those of one task, which says them itself.
DESCRIBED = tuple(group for group in GROUPS if group not in (StyleOptions, RefinerSettings, HiresSettings))
OPTIONS: dict[str, Option] = {name: one for group in GROUPS for name, one in options_in(group).items()}
# What other programs call the arguments that are no options; see `Option.also` for the options.
ARGUMENTS = {
    "negative_prompt": "negative",
    "init_image": "image",
    "init_images": "image",
    "input_image": "image",
    "mask_image": "mask",
    "denoising_strength": "strength",
    "image_strength": "strength",
    "output": "out",
    "outdir": "out",
    "ckpt": "model",
    "checkpoint": "model",
    "sd_model_checkpoint": "model",
    "torch_dtype": "dtype",
    "precision": "dtype",
}
