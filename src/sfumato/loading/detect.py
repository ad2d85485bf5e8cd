"""What a file is, from the names and shapes of its tensors; the file's own name counts for nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sfumato.checkpoint.checkpoint import Checkpoint, quote
from sfumato.checkpoint.keymap import Shapes
from sfumato.errors import SfumatoError
from sfumato.families import FAMILIES, KNOWN, Family, other_models


@dataclass(frozen=True)
class Identity:
    """`title` is a noun phrase; `family` and `layout` are set for models that can be loaded."""

    title: str
    family: Family | None = None
    layout: str | None = None
    advice: str = "give a complete Stable Diffusion checkpoint"

    def require(self, checkpoint: Checkpoint) -> tuple[Family, str]:
        """Family and layout. Raises SfumatoError, saying what the file is, when it cannot be loaded as a model."""
        if self.family is None or self.layout is None:
            raise SfumatoError(f"{checkpoint.path} is {self.title}; {self.advice}")
        return self.family, self.layout


@dataclass(frozen=True)
class ForeignFormat:
    """Something that is no diffusion model on its own: `pattern` is found in one of its tensor names."""

    title: str
    pattern: str
    advice: str = Identity.advice
    test: Callable[[Shapes], bool] = lambda shapes: True


UNSUPPORTED = "it is not supported; `sfumato models` lists what is"
LORA = "it changes a model: give the model, and this with --lora"
EMBEDDING = "it is a word for a model: give the model, and this with --embedding"
HYPERNETWORK = "it changes a model: give the model, and this with --hypernetwork"
IP_ADAPTER = "it shows a model pictures: give the model, and this with --ip-adapter"
UNUSED = "it changes a model in a way that is not supported: give the model alone"
CONTROL = "it steers a model by a hint: give the model, and this with --control"
PART = "it is one part of a model: give the complete model"
VAE = "it is one part of a model: give a model, and this with --vae"
TEXT = "it is one part of a model: give a model, and this with --text-encoder"
NEEDLESS = "pictures are drawn without one: give the model"
PIXELS_ALONE = "it draws nothing and is not supported"
PIXELS = "it draws nothing by itself: give it to `sfumato upscale` with --upscaler"


def _is_word(name: str, shape: tuple[int, ...]) -> bool:
    return len(shape) <= 2 and not name.endswith((".weight", ".bias"))


# The most particular first: a LoRA's names contain those of the network it changes.
FOREIGN_FORMATS = (
    ForeignFormat("a control-LoRA", r"^lora_controlnet$", CONTROL),
    ForeignFormat("a LoRA in kohya's layout", r"^lora_\w+\.(lora_down|lora_up)\.weight$", LORA),
    ForeignFormat("a LoRA in the diffusers (peft) layout", r"\.lora(_A|_B|\.down|\.up)(\.\w+)?\.weight$", LORA),
    ForeignFormat("a LyCORIS adapter", r"\.(hada_w1_a|lokr_w1(_a)?|oft_(diag|blocks)|dora_scale)$", LORA),
    ForeignFormat("a hypernetwork", r"^\d+\.[01]\.linear\d?\.", HYPERNETWORK),
    ForeignFormat("a textual-inversion embedding", r"^(string_to_param\.|emb_params$|clip_[lg]$)", EMBEDDING),
    ForeignFormat(
        "a ControlNet",
        r"^(controlnet\.)?(control_model\.|controlnet_cond_embedding\.|input_hint_block\.|pos_embed_input\.)",
        CONTROL,
    ),
    ForeignFormat("an IP-Adapter", r"^(image_proj|ip_adapter)\.", IP_ADAPTER),
    ForeignFormat("a motion module of AnimateDiff", r"\.motion_modules\.\d+\.", UNUSED),
    ForeignFormat("a T2I-Adapter", r"^(adapter\.)?body\.\d+\.(block1|block2|in_conv|resnets\.\d+\.block1)\.", CONTROL),
    ForeignFormat(
        "an upscaler of the ESRGAN kind", r"(^|\.)(body\.\d+\.rdb1\.|RRDB_trunk\.|model\.1\.sub\.0\.RDB1\.)", PIXELS
    ),
    ForeignFormat("a compact upscaler (SRVGG)", r"^(params(_ema)?\.)?body\.0\.weight$", PIXELS),
    ForeignFormat("an upscaler of the SwinIR kind", r"(^|\.)layers\.\d+\.residual_group\.", PIXELS),
    ForeignFormat("a depth network (DPT)", r"^(dpt\.|depth_model\.|neck\.reassemble_stage\.)", PART),
    ForeignFormat(
        "the averaged weights of a model alone (model_ema.*)",
        r"^model_ema\.diffusion_model",
        "give the file that it was taken out of, which has the plain weights too",
        lambda shapes: not any(name.startswith("model.diffusion_model.") for name in shapes),
    ),
    ForeignFormat(
        "a U-Net of an unknown kind without its text encoder",
        r"^model\.diffusion_model\.input_blocks\.",
        test=lambda shapes: any(name.startswith("first_stage_model.") for name in shapes),
    ),
    ForeignFormat("a VQ autoencoder", r"^(vqvae\.|model\.)?quantize\.embedding", PART),
    ForeignFormat("a VAE alone", r"^((first_stage_model|vae)\.)?decoder\.(mid\.block_1|mid_block\.resnets\.0)\.", VAE),
    ForeignFormat("a VAE of the tiny kind (TAESD)", r"^(decoder|encoder)\.\d+\.conv\.0\.weight$", PART),
    ForeignFormat("a U-Net alone", r"^(unet[./]|diffusion_model\.)?(down_blocks|input_blocks)\.\d+\.", PART),
    ForeignFormat("a U-Net alone", r"^model\.diffusion_model\.input_blocks\.", PART),
    ForeignFormat("a safety checker", r"(^|[./])(concept_embeds|special_care_embeds)$", NEEDLESS),
    ForeignFormat("PhotoMaker", r"^id_encoder\.", UNUSED),
    ForeignFormat("a restorer of faces", r"^params_ema\.(ft_layers|quantize|stylegan_decoder)\.", PIXELS_ALONE),
    ForeignFormat("a segmentation network (SAM)", r"^mask_decoder\.", PIXELS_ALONE),
    ForeignFormat(
        "a CLIP image encoder alone",
        r"(^|\.)(vision_model|visual)\.",
        "it belongs to an IP-Adapter: give a model, and this with --ip-adapter ADAPTER=PICTURE,encoder=FILE",
        lambda shapes: not any("text_model." in name or "token_embedding." in name for name in shapes),
    ),
    ForeignFormat("a whole CLIP (text and image)", r"^(vision_model|visual)\.", TEXT),
    ForeignFormat("a CLIP text encoder alone", r"(^|\.)text_model\.encoder\.layers\.0\.", TEXT),
    ForeignFormat("a CLIP text encoder alone", r"(^|\.)transformer\.resblocks\.0\.attn\.", TEXT),
    ForeignFormat(
        "a T5 text encoder", r"(^|\.)(encoder\.block\.0\.layer\.0\.SelfAttention|enc\.blk\.0\.attn_q)\.", TEXT
    ),
    ForeignFormat(
        "a language model", r"(^|\.)(layers\.0\.self_attn\.q_proj|h\.0\.attn\.c_attn|encoder\.layer\.0\.attention)\."
    ),
    ForeignFormat("a language model", r"(^|\.)(lm_head\.weight|blk\.0\.attn_q\.|layers\.0\.attention\.wq\.)"),
    ForeignFormat(
        "a textual-inversion embedding",
        r"",
        EMBEDDING,
        lambda shapes: len(shapes) == 1 and all(_is_word(*item) for item in shapes.items()),
    ),
)


def identify(checkpoint: Checkpoint) -> Identity:
    """Name what a checkpoint is. Never fails: what nobody knows is an unknown model."""
    shapes = checkpoint.shapes
    index = checkpoint.configs.get("model_index", {})
    if other := other_models.of_pipeline(index) or other_models.of_tensors(shapes, other_models.ALIKE):
        return Identity(other.title, advice=UNSUPPORTED)
    for family in FAMILIES:
        for name, layout in family.layouts.items():
            if layout.recognise(shapes):
                return Identity(family.spec.title, family, name)
    folder = checkpoint.container == "folder" and "model_index" in checkpoint.configs
    if folder and not any(name.startswith(("unet/", "transformer/")) for name in shapes):
        advice = "fetch the whole folder"
        return Identity("a diffusers folder without the weights of its U-Net or transformer", advice=advice)
    # A ControlNet file may hold the model it was trained with, and is then still used as a ControlNet.
    if not any(name.startswith("control_model.") for name in shapes):
        for known in KNOWN:
            if known.recognise(shapes):
                return Identity(known.title, advice=UNSUPPORTED)
    if other := other_models.of_tensors(shapes, other_models.OTHERS):
        return Identity(other.title, advice=UNSUPPORTED)
    if folder:
        return Identity(f"a diffusers folder of an unknown kind ({quote(str(index.get('_class_name')))})")
    for foreign in FOREIGN_FORMATS:
        if any(re.search(foreign.pattern, name) for name in shapes) and foreign.test(shapes):
            return Identity(foreign.title, advice=foreign.advice)
    return Identity("a model of an unknown kind")
