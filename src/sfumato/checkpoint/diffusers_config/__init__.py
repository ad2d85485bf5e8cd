"""The JSON files of a diffusers folder, in both directions; what our networks do not implement is refused by name.

`X_from` reads what a file states, `X_to` is the file of a network of ours.
"""

from __future__ import annotations

from sfumato.checkpoint.diffusers_config.defaults import defaults_from
from sfumato.checkpoint.diffusers_config.depth import depth_from, depth_to, dpt_from, dpt_processor_to, dpt_to
from sfumato.checkpoint.diffusers_config.fields import Config, sample_size
from sfumato.checkpoint.diffusers_config.mmdit import mmdit_from, mmdit_to
from sfumato.checkpoint.diffusers_config.scheduler import noising_to, sampling_from, scheduler_from, scheduler_to
from sfumato.checkpoint.diffusers_config.text import POOLED, clip_from, clip_to, t5_from, t5_to
from sfumato.checkpoint.diffusers_config.unet import unet_from, unet_to, with_class_vector
from sfumato.checkpoint.diffusers_config.vae import vae_from, vae_to
from sfumato.checkpoint.diffusers_config.vision import clip_processor_to, clip_vision_from, clip_vision_to

__all__ = [
    "POOLED",
    "Config",
    "clip_from",
    "clip_processor_to",
    "clip_to",
    "clip_vision_from",
    "clip_vision_to",
    "defaults_from",
    "depth_from",
    "depth_to",
    "dpt_from",
    "dpt_processor_to",
    "dpt_to",
    "mmdit_from",
    "mmdit_to",
    "noising_to",
    "sample_size",
    "sampling_from",
    "scheduler_from",
    "scheduler_to",
    "t5_from",
    "t5_to",
    "unet_from",
    "unet_to",
    "vae_from",
    "vae_to",
    "with_class_vector",
]
