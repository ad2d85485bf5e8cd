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
from sfumato.settings.speed import SpeedSettings

GROUPS = (
    SamplingSettings,
    GuidanceSettings,
    WordSettings,
    StyleOptions,
    AdapterSettings,
    ControlSettings,
    ImagePromptSettings,
    SpeedSettings,
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
_EVENTS = "`sd.stream(...)` takes the same options and yields every step (step, sigma, x, x0) and every picture"
# What other programs have an argument for and we another way.
OTHER_WAYS = {
    "callback": _EVENTS,
    "callback_steps": _EVENTS,
    "callback_on_step_end": _EVENTS,
    "callback_on_step_end_tensor_inputs": _EVENTS,
    "progress": _EVENTS,
    "output_type": "leave it out; a result has its pictures as `images` of PIL and as `latents`",
    "return_dict": "leave it out; a result has `images`, `seeds` and `latents`, and its items are pictures",
    "cross_attention_kwargs": '`lora="style:0.8"` draws with a LoRA at a strength',
}
