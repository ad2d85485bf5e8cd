"""Models of other kinds, which are named and not drawn with: known by names of tensors, or by a diffusers pipeline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sfumato.checkpoint.keymap import Shapes


@dataclass(frozen=True)
class OtherModel:
    """`title` is a noun phrase; `tensor` matches the name of one of its tensors from a dot, a slash or the start on.

    `pipeline` matches the beginning of the class that a diffusers folder names. Both are regular expressions, and
    match nothing where they are empty.
    """

    title: str
    tensor: str
    pipeline: str = ""


# Their U-Nets have all the names of one that is drawn with, and a few more: they are looked for first.
ALIKE = (
    OtherModel("Stable Video Diffusion", r"(time_stack|temporal_(transformer_blocks|res_block))\.", "StableVideo"),
    OtherModel("a ModelScope video model", r"(temp_convs|temopral_conv|transformer_in)\.", "(Text|Video)ToVideo"),
    OtherModel("GLIGEN, which is told where things are", r"position_net\.", "StableDiffusionGLIGEN"),
    OtherModel(
        "a Kandinsky model",
        r"add_embedding\.(image|text)_norm|encoder_hid_proj\.(image_embeds|text_proj|projection_linear)"
        r"|add_time_condition\.|visual_transformer_blocks\.|prd_embedding$",
        "Kandinsky",
    ),
    OtherModel("a DeepFloyd IF model", r"add_embedding\.(pool|norm1)\.|encoder_pooling\.1\.", "IF[A-Z]"),
    OtherModel("Kolors", r"encoder_hid_proj\.weight$", "Kolors"),
    OtherModel(
        "a Stable Diffusion that is shown a picture in place of words (image variations, Paint by Example)",
        r"cond_stage_model\.(mapper|final_ln)\.",
        "StableDiffusionImageVariation|PaintByExample",
    ),
    OtherModel("SUPIR", r"project_modules\.\d+\.zero_conv\."),
    OtherModel("Zero123, which turns an object that it is shown", r"cc_projection[./]", "Zero1(to3|23)"),
    OtherModel("Marigold", "", "Marigold"),
    OtherModel("LDM3D, which draws depth too", "", "StableDiffusionLDM3D"),
    OtherModel("the x2 upscaler of latents", "", "StableDiffusionLatentUpscale"),
)
# The most particular first: some have the parts of others and one more.
OTHERS = (
    OtherModel("Karlo, an unCLIP of pixels", "", "UnCLIP"),
    OtherModel(
        "a latent diffusion model of before Stable Diffusion",
        r"cond_stage_model\.transformer\.attn_layers\.|first_stage_model\.quantize\.",
        "LDM",
    ),
    OtherModel("a Chroma model", r"distilled_guidance_layer\.", "Chroma"),
    OtherModel("a Hunyuan image model", r"byt5_in\.", "HunyuanImage"),
    OtherModel(
        "a Hunyuan video model",
        r"(txt_in\.individual_token_refiner|context_embedder\.token_refiner)\.",
        "Hunyuan(Video|Skyreels)",
    ),
    OtherModel("a Hunyuan-DiT model", r"(mlp_t5\.0|time_extra_emb\.extra_embedder)\.", "HunyuanDiT"),
    OtherModel("a HiDream model", r"(double_stream_blocks\.0|caption_projection\.0\.linear)\.", "HiDream"),
    OtherModel("a Qwen-Image model", r"transformer_blocks\.0\.(img|txt)_mlp\.", "QwenImage"),
    OtherModel(
        "a Flux model",
        r"(double_blocks\.0\.img_attn|single_transformer_blocks\.0\.proj_mlp|double_stream_modulation_img)\.",
        "Flux|ReduxImage",
    ),
    OtherModel(
        "a Wan video model",
        r"(blocks\.0\.cross_attn\.norm_k|condition_embedder\.time_embedder\.linear_1)\.",
        "Wan|SkyReels",
    ),
    OtherModel("a Sana model", r"(blocks\.0\.mlp\.inverted_conv|transformer_blocks\.0\.ff\.conv_inverted)\.", "Sana"),
    OtherModel("an LTX video model", r"(patchify_proj|time_embed\.emb\.timestep_embedder\.linear_1)\.", "LTX"),
    OtherModel("a PixArt model", r"(t_block\.1|adaln_single\.linear)\.", "PixArt"),
    OtherModel(
        "a Stable Cascade model", r"(clip_txt_mapper|clip_txt_pooled_mapper|effnet_mapper\.0|clf\.1)\.", "StableCascade"
    ),
    OtherModel("a Wuerstchen model", r"channelwise\.0\.", "Wuerstchen"),
    OtherModel("an AuraFlow model", r"(double_layers|joint_transformer_blocks)\.0\.", "AuraFlow"),
    OtherModel("a Z-Image model", r"cap_pad_token$", "ZImage"),
    OtherModel("an OmniGen model", r"(ref_image_refiner|time_caption_embed\.timestep_embedder)\.", "OmniGen"),
    OtherModel("a Lumina model", r"(cap_embedder\.0|time_caption_embed\.caption_embedder)\.", "Lumina"),
    OtherModel("a Mochi video model", r"t5_yproj\.", "Mochi"),
    OtherModel("a CogVideoX model", r"patch_embed\.text_proj\.", "CogVideoX"),
    OtherModel("a CogView model", r"time_condition_embed\.condition_embedder\.", "CogView"),
    OtherModel("a Cosmos model", r"blocks\.block0\.blocks\.0\.", "Cosmos"),
    OtherModel("a Stable Audio model", r"transformer\.rotary_pos_emb\.", "StableAudio"),
    OtherModel("a DiT of the classes of ImageNet", r"(y_embedder|class_embedder)\.embedding_table\.", "DiT"),
    OtherModel("aMUSEd", r"mlm_layer\.", "Amused"),
    OtherModel("a UniDiffuser model", "", "UniDiffuser"),
    OtherModel("a diffusion model of pixels", "", "DDPM|DDIM|ScoreSde|KarrasVe|ConsistencyModel"),
    OtherModel("a video model", "", "AnimateDiff|Latte|Allegro|EasyAnimate|I2VGenXL|PIA"),
    OtherModel("a model of sound", "", "AudioLDM|MusicLDM|DanceDiffusion|AudioDiffusion|SpectrogramDiffusion"),
    OtherModel("a model of 3D shapes", "", "ShapE|Hunyuan3D"),
)


def of_pipeline(index: Mapping[str, Any]) -> OtherModel | None:
    """The model that a folder's model_index.json names by its class."""
    name = index.get("_class_name")
    if not isinstance(name, str):
        return None
    return next((one for one in ALIKE + OTHERS if one.pipeline and re.match(f"({one.pipeline})", name)), None)


def of_tensors(shapes: Shapes, among: tuple[OtherModel, ...]) -> OtherModel | None:
    """The first of these models that has a tensor of such a name."""
    names = "\n".join(shapes)
    return next((one for one in among if one.tensor and re.search(f"(^|[./])({one.tensor})", names, re.M)), None)
