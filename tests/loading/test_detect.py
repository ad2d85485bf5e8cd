"""Every release and every stranger is named from names and shapes alone."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sfumato.checkpoint.checkpoint import Checkpoint, Stored
from sfumato.checkpoint.open import open_checkpoint
from sfumato.families import FAMILIES
from sfumato.loading.detect import identify

FILE = None  # nothing is read


def checkpoint(shapes: dict[str, tuple[int, ...]]) -> Checkpoint:
    stored = {name: Stored(FILE, 0, tuple(shape), torch.float32) for name, shape in shapes.items()}
    return Checkpoint(Path("model"), "safetensors", stored, [])


def manifest(path: Path, keys: str = "keys") -> dict[str, tuple[int, ...]]:
    return {name: shape for name, (shape, _) in json.loads(gzip.decompress(path.read_bytes()))[keys].items()}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("layout", ["original", "diffusers"])
def test_every_family_is_recognised(family, layout):
    identity = identify(checkpoint(family.expected(family.spec, layout)))
    assert (identity.family, identity.layout) == (family, layout)


@pytest.mark.parametrize("drop", ["first_stage_model.", "cond_stage_model."])
def test_sd1_without_a_part_is_still_sd1(golden, drop):
    shapes = manifest(golden / "manifests/original/sd1.json.gz")
    identity = identify(checkpoint({name: shape for name, shape in shapes.items() if not name.startswith(drop)}))
    assert identity.title == "Stable Diffusion 1.x"


ORIGINAL = {
    "sd1": "Stable Diffusion 1.x",
    "sd15_inpainting": "Stable Diffusion 1.5 inpainting",
    "sd20_base_sd21_base": "Stable Diffusion 2.x",
    "sd21_v_768": "Stable Diffusion 2.x",
    "sd2_inpainting": "Stable Diffusion 2.0 inpainting",
    "sd2_depth": "Stable Diffusion 2.0 depth",
    "sd2_x4_upscaler": "the Stable Diffusion x4 upscaler",
    "sdxl_base": "Stable Diffusion XL",
    "sdxl_refiner": "the Stable Diffusion XL refiner",
    "sd3_medium": "Stable Diffusion 3 medium",
    "sd35_medium": "Stable Diffusion 3.5 medium",
    "sd35_large": "Stable Diffusion 3.5 large",
    "sd3_text_encoders": "a CLIP text encoder alone",
    "controlnet_sd15": "a ControlNet",
    "controlnet_sd21": "a ControlNet",
}


@pytest.mark.parametrize("name", ORIGINAL)
def test_original_files(golden, name):
    assert identify(checkpoint(manifest(golden / f"manifests/original/{name}.json.gz"))).title == ORIGINAL[name]


FOLDERS = {
    "Stable Diffusion 1.x": {"unet": "sd1__unet", "vae": "sd1__vae", "text_encoder": "sd1__text_encoder"},
    "Stable Diffusion 1.5 inpainting": {
        "unet": "sd15_inpainting__unet",
        "vae": "sd1__vae",
        "text_encoder": "sd1__text_encoder",
    },
    "Stable Diffusion 2.x": {"unet": "sd21_base__unet", "vae": "sd21__vae", "text_encoder": "sd21__text_encoder"},
    "the Stable Diffusion x4 upscaler": {
        "unet": "sd2_x4_upscaler__unet",
        "vae": "sd2_x4_upscaler__vae",
        "text_encoder": "sd21__text_encoder",
    },
    "Stable Diffusion 2.0 depth": {
        "unet": "sd2_depth__unet",
        "vae": "sd21__vae",
        "text_encoder": "sd21__text_encoder",
        "depth_estimator": "sd2_depth__depth_estimator",
    },
    "Stable Diffusion XL": {
        "unet": "sdxl_base__unet",
        "vae": "sdxl__vae",
        "text_encoder": "sdxl__text_encoder",
        "text_encoder_2": "sdxl__text_encoder_2",
    },
    "Stable Diffusion 3 medium": {"transformer": "sd3_medium__transformer", "vae": "sd3__vae"},
    "Stable Diffusion 3.5 medium": {"transformer": "sd35_medium__transformer", "vae": "sd3__vae"},
    "Stable Diffusion 3.5 large": {"transformer": "sd35_large__transformer", "vae": "sd3__vae"},
}


@pytest.mark.parametrize("title", FOLDERS)
def test_folders(golden, title):
    shapes = {
        f"{part}/{name}": shape
        for part, file in FOLDERS[title].items()
        for name, shape in manifest(golden / f"manifests/diffusers/{file}.json.gz").items()
    }
    assert identify(checkpoint(shapes)).title == title


@pytest.mark.parametrize(
    ("component", "title"),
    [
        ("sd1__unet", "a U-Net alone"),
        ("sdxl_base__unet", "a U-Net alone"),
        ("sd1__vae", "a VAE alone"),
        ("sd1__text_encoder", "a CLIP text encoder alone"),
        ("sd3__text_encoder_3", "a T5 text encoder"),
        ("controlnet_sd15__controlnet", "a ControlNet"),
        ("sd2_depth__depth_estimator", "a depth network (DPT)"),
    ],
)
def test_single_components(golden, component, title):
    assert identify(checkpoint(manifest(golden / f"manifests/diffusers/{component}.json.gz"))).title == title


@pytest.mark.parametrize("name", ["kohya_sd15_rank4", "kohya_sd15_rank4_conv4", "kohya_sd21_rank4", "kohya_sdxl_rank4"])
def test_kohya_lora(golden, name):
    assert identify(checkpoint(manifest(golden / f"lora/{name}.json.gz"))).title == "a LoRA in kohya's layout"


@pytest.mark.parametrize("name", ["diffusers_peft_sd1_rank4", "diffusers_peft_sdxl_base_rank4"])
def test_peft_lora(golden, name):
    shapes = manifest(golden / f"lora/{name}.json.gz", "keys_peft_format")
    assert identify(checkpoint(shapes)).title == "a LoRA in the diffusers (peft) layout"


@pytest.mark.parametrize(
    ("file", "title"),
    [
        ("ti_a1111.pt", "a textual-inversion embedding"),
        ("ti_diffusers.safetensors", "a textual-inversion embedding"),
        ("ti_diffusers_1d.bin", "a textual-inversion embedding"),
        ("ti_kohya.safetensors", "a textual-inversion embedding"),
        ("ti_sdxl.safetensors", "a textual-inversion embedding"),
        ("hypernetwork_linear121.pt", "a hypernetwork"),
    ],
)
def test_embeddings_and_hypernetworks(golden, file, title):
    with open_checkpoint(golden / "embeddings" / file) as opened:
        assert identify(opened).title == title


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("body.0.rdb1.conv1.weight", "an upscaler of the ESRGAN kind"),
        ("params_ema.body.0.rdb1.conv1.weight", "an upscaler of the ESRGAN kind"),
        ("model.1.sub.0.RDB1.conv1.0.weight", "an upscaler of the ESRGAN kind"),
        ("layers.0.residual_group.blocks.0.norm1.weight", "an upscaler of the SwinIR kind"),
        ("lora_unet_down_blocks_0.hada_w1_a", "a LyCORIS adapter"),
        ("unet/down_blocks.0.resnets.0.conv1.weight", "a U-Net alone"),
        ("lora_unet_mid_block.lokr_w1", "a LyCORIS adapter"),
        ("lora_unet_mid_block.oft_blocks", "a LyCORIS adapter"),
        ("ip_adapter.1.to_k_ip.weight", "an IP-Adapter"),
        ("image_proj.proj.weight", "an IP-Adapter"),
        ("down_blocks.0.motion_modules.0.temporal_transformer.norm.weight", "a motion module of AnimateDiff"),
        ("body.0.block1.weight", "a T2I-Adapter"),
        ("adapter.body.0.resnets.0.block1.weight", "a T2I-Adapter"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "a Flux model"),
        ("single_transformer_blocks.0.proj_mlp.weight", "a Flux model"),
        ("txt_in.individual_token_refiner.blocks.0.norm1.weight", "a Hunyuan video model"),
        ("blocks.0.cross_attn.norm_k.weight", "a Wan video model"),
        ("mlp_t5.0.weight", "a Hunyuan-DiT model"),
        ("t_block.1.weight", "a PixArt model"),
        ("adaln_single.linear.weight", "a PixArt model"),
        ("clip_txt_mapper.weight", "a Stable Cascade model"),
        ("encoder_hid_proj.image_embeds.weight", "a Kandinsky model"),
        ("add_embedding.pool.positional_embedding", "a DeepFloyd IF model"),
        ("double_layers.0.attn.w1q.weight", "an AuraFlow model"),
        ("transformer_blocks.0.img_mlp.net.0.proj.weight", "a Qwen-Image model"),
        ("cap_embedder.0.weight", "a Lumina model"),
        ("model.diffusion_model.input_blocks.1.0.time_stack.emb_layers.1.weight", "Stable Video Diffusion"),
        ("model.layers.0.self_attn.q_proj.weight", "a language model"),
        ("transformer.h.0.attn.c_attn.weight", "a language model"),
        ("bert.encoder.layer.0.attention.self.query.weight", "a language model"),
        ("vision_model.embeddings.patch_embedding.weight", "a CLIP image encoder alone"),
        ("transformer.resblocks.0.attn.in_proj_weight", "a CLIP text encoder alone"),
        ("first_stage_model.decoder.mid.block_1.conv1.weight", "a VAE alone"),
        ("decoder.1.conv.0.weight", "a VAE of the tiny kind (TAESD)"),
        ("layer1.0.conv1.weight", "a model of an unknown kind"),
    ],
)
def test_strangers(name, title):
    identity = identify(checkpoint({name: (4, 4, 3, 3), "something.else": (4, 4)}))
    assert identity.title == title
    assert identity.family is None


def test_a_folder_of_xl_without_its_denoiser_is_told_so():
    folder = replace(checkpoint({"text_encoder_2/x": (4,)}), container="folder", configs={"model_index": {}})
    assert identify(folder).title == "a diffusers folder without the weights of its U-Net or transformer"


def test_what_is_known_and_not_supported_is_named():
    for channels, title in ((9, "a variant of Stable Diffusion XL"), (8, "an editing model of Stable Diffusion XL")):
        first = {"model.diffusion_model.input_blocks.0.0.weight": (320, channels, 3, 3)}
        assert identify(checkpoint({"conditioner.embedders.0.x": (4,)} | first)).title.startswith(title)


def test_a_file_of_nothing_is_unknown():
    assert identify(checkpoint({})).title == "a model of an unknown kind"
