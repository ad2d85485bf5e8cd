"""Stable Diffusion 1.1 to 1.5 (CompVis and Runway, 2022): CLIP ViT-L/14 text, noise prediction, 512 pixels."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from torch import nn

from sfumato.errors import SfumatoError
from sfumato.families import clip_text, ldm_unet, ldm_vae
from sfumato.families.base import Family, Layout
from sfumato.nets.clip import CLIPText
from sfumato.nets.unet import UNet
from sfumato.nets.vae import VAE
from sfumato.spec import Spec
from sfumato.weights import configs
from sfumato.weights.checkpoint import Checkpoint
from sfumato.weights.keymap import Rule, Shapes, rename, width

SPEC = Spec(family="sd1", title="Stable Diffusion 1.x", licence="CreativeML Open RAIL-M")

ORIGINAL = {"unet": "model.diffusion_model.", "vae": "first_stage_model.", "text": "cond_stage_model.transformer."}
FOLDER = {"unet": "unet/", "vae": "vae/", "text": "text_encoder/"}

# Registered by the original's training code beside the networks: its noise schedule.
SCHEDULE_BUFFERS = (
    r"(betas|alphas_cumprod|alphas_cumprod_prev|sqrt_alphas_cumprod|sqrt_one_minus_alphas_cumprod"
    r"|log_one_minus_alphas_cumprod|sqrt_recip_alphas_cumprod|sqrt_recipm1_alphas_cumprod|posterior_variance"
    r"|posterior_log_variance_clipped|posterior_mean_coef1|posterior_mean_coef2|lvlb_weights|logvar)"
)


def networks(spec: Spec) -> dict[str, nn.Module]:
    return {"unet": UNet(spec.unet), "vae": VAE(spec.vae), "text": CLIPText(spec.text)}


def original_rules(spec: Spec, part: str, names: Iterable[str]) -> list[Rule]:
    if part == "unet":
        return ldm_unet.rules(spec.unet, names, ORIGINAL[part])
    if part == "vae":
        return ldm_vae.rules(spec.vae, names, ORIGINAL[part])
    return rename(names, lambda name: ORIGINAL[part] + name)


def folder_rules(spec: Spec, part: str, names: Iterable[str]) -> list[Rule]:
    return rename(names, lambda name: FOLDER[part] + name)


def is_original(shapes: Shapes) -> bool:
    """The U-Net takes plain latents, its context is CLIP-L's (or, without it, of that width)."""
    first = shapes.get("model.diffusion_model.input_blocks.0.0.weight", ())
    latent = width(shapes, "first_stage_model.post_quant_conv") or 4
    text = shapes.get("cond_stage_model.transformer.text_model.final_layer_norm.weight") or shapes.get(
        "cond_stage_model.transformer.final_layer_norm.weight", (768,)
    )
    cross = (shape[1:] for name, shape in shapes.items() if re.fullmatch(r"model\.diff.*\.attn2\.to_k\.weight", name))
    context = next(cross, (0,))
    foreign = ("conditioner.", "cond_stage_model.model.", "control_model.", "model.diffusion_model.label_emb")
    plain = not any(name.startswith(foreign) for name in shapes)
    return plain and len(first) == 4 and first[1] == latent and context == text[:1]


def is_folder(shapes: Shapes) -> bool:
    """As `is_original`; 2.x folders differ in projecting by linear layers, not by 1x1 convolutions."""
    first, projection = (
        shapes.get("unet/conv_in.weight", ()),
        shapes.get("unet/mid_block.attentions.0.proj_in.weight", ()),
    )
    latent = width(shapes, "vae/post_quant_conv") or 4
    foreign = ("text_encoder_2/", "unet/class_embedding.", "unet/add_embedding.", "image_encoder/", "controlnet/")
    plain = not any(name.startswith(foreign) for name in shapes)
    return plain and len(first) == 4 and first[1] == latent and len(projection) == 4


def original_spec(checkpoint: Checkpoint) -> Spec:
    """The sizes of a single file; its habits are those of the release."""
    shapes = {_modern(name): shape for name, shape in checkpoint.shapes.items()}
    parts = {"unet": "U-Net", "vae": "VAE", "text": "text encoder"}
    lacking = [parts[part] for part, prefix in ORIGINAL.items() if not any(name.startswith(prefix) for name in shapes)]
    if lacking:
        raise SfumatoError(f"{checkpoint.path} holds no {' and no '.join(lacking)}; give a complete checkpoint")
    try:
        return Spec(
            family=SPEC.family,
            title=SPEC.title,
            unet=ldm_unet.sizes(shapes, ORIGINAL["unet"]),
            vae=ldm_vae.sizes(shapes, ORIGINAL["vae"]),
            text=clip_text.sizes(shapes, ORIGINAL["text"]),
            licence=SPEC.licence,
        )
    except (LookupError, ValueError) as error:
        text = f"looks like {SPEC.title}, but its sizes cannot be read ({error.args[0]}); it is not whole"
        raise SfumatoError(f"{checkpoint.path} {text}") from error


def folder_spec(checkpoint: Checkpoint) -> Spec:
    """The sizes and habits that a folder's JSON files state."""
    needed = ("unet/config", "vae/config", "text_encoder/config", "scheduler/scheduler_config")
    for name in needed:
        if name not in checkpoint.configs:
            raise SfumatoError(f"{checkpoint.path} holds no {name}.json; give a complete diffusers folder")
    where = {name: f"{checkpoint.path}/{name}.json" for name in needed}
    unet, vae, text, scheduler = (checkpoint.configs[name] for name in needed)
    prediction, noise = configs.scheduler_from(scheduler, where["scheduler/scheduler_config"])
    vae_config = configs.vae_from(vae, where["vae/config"])
    height, width = (side * vae_config.factor for side in configs.sample_size(unet, 64, where["unet/config"]))
    defaults = replace(SPEC.defaults, width=width, height=height)
    return Spec(
        family=SPEC.family,
        title=SPEC.title,
        unet=configs.unet_from(unet, where["unet/config"]),
        vae=vae_config,
        text=configs.clip_from(text, where["text_encoder/config"]),
        prediction=prediction,
        noise=noise,
        defaults=configs.habits_from(checkpoint.configs.get("habits", {}), defaults, f"{checkpoint.path}/sfumato.json"),
        licence=SPEC.licence,
    )


def _modern(name: str) -> str:
    """Some files were written by a transformers without the inner name `text_model`."""
    prefix = ORIGINAL["text"]
    bare = name.startswith(prefix) and not name.startswith(prefix + "text_model.")
    return f"{prefix}text_model.{name.removeprefix(prefix)}" if bare else name


FAMILY = Family(
    spec=SPEC,
    networks=networks,
    layouts={
        "original": Layout(
            prefixes=ORIGINAL,
            recognise=is_original,
            spec=original_spec,
            rules=original_rules,
            ignored=(SCHEDULE_BUFFERS, r"model_ema\..*", r".*\.position_ids", r"first_stage_model\.loss\..*"),
            aliases=(
                (r"cond_stage_model\.transformer\.((?!text_model\.).*)", r"cond_stage_model.transformer.text_model.\1"),
            ),
            # The averaging code drops "model." and every dot of a name.
            ema=lambda name: "model_ema." + name.removeprefix("model.").replace(".", ""),
        ),
        "diffusers": Layout(
            prefixes=FOLDER,
            recognise=is_folder,
            spec=folder_spec,
            rules=folder_rules,
            ignored=(r".*\.position_ids", r"safety_checker/.*"),
            aliases=(
                *(
                    (rf"(vae/.*\.attentions\.0\.){old}\.(weight|bias)", rf"\1{new}.\2")
                    for old, new in ldm_vae.OLD_ATTENTION.items()
                ),
                (r"text_encoder/((?!text_model\.).*)", r"text_encoder/text_model.\1"),
            ),
        ),
    },
)
