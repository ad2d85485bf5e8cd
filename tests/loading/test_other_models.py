"""Models of other kinds are named for what they are, and refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sfumato.checkpoint.checkpoint import Checkpoint, Stored
from sfumato.loading.detect import identify

# What they are called, and below it some names of each of their files, of which one suffices.
FILES = """
a Flux model
    model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale
    double_blocks.0.img_attn.qkv.weight img_in.weight final_layer.linear.weight
    single_transformer_blocks.0.proj_mlp.weight transformer_blocks.0.attn.add_q_proj.weight x_embedder.weight
    double_stream_modulation_img.lin.weight double_blocks.0.img_attn.qkv.weight
    double_stream_modulation_img.linear.weight transformer_blocks.0.attn.add_q_proj.weight
a Chroma model
    distilled_guidance_layer.layers.0.in_layer.weight double_blocks.0.img_attn.qkv.weight
    distilled_guidance_layer.layers.0.linear_1.weight transformer_blocks.0.attn.add_q_proj.weight
a Hunyuan video model
    txt_in.individual_token_refiner.blocks.0.norm1.weight double_blocks.0.img_attn_qkv.weight
    context_embedder.token_refiner.refiner_blocks.0.norm1.weight transformer_blocks.0.attn.add_q_proj.weight
a Hunyuan-DiT model
    mlp_t5.0.weight extra_embedder.0.weight blocks.0.attn1.Wqkv.weight
    text_embedder.linear_1.weight time_extra_emb.extra_embedder.linear_1.weight blocks.0.attn1.norm_q.weight
a Hunyuan image model
    byt5_in.fc1.weight double_blocks.0.img_attn_qkv.weight txt_in.individual_token_refiner.blocks.0.norm1.weight
a Wan video model
    blocks.0.cross_attn.norm_k.weight head.modulation patch_embedding.weight
    condition_embedder.time_embedder.linear_1.weight blocks.0.attn2.norm_k.weight scale_shift_table
an LTX video model
    model.diffusion_model.adaln_single.linear.weight model.diffusion_model.patchify_proj.weight
    time_embed.emb.timestep_embedder.linear_1.weight time_embed.linear.weight caption_projection.linear_1.weight
a PixArt model
    t_block.1.weight x_embedder.proj.weight blocks.0.scale_shift_table
    adaln_single.linear.weight pos_embed.proj.weight caption_projection.linear_1.weight
a Sana model
    blocks.0.mlp.inverted_conv.conv.weight attention_y_norm.weight t_block.1.weight
    transformer_blocks.0.ff.conv_inverted.weight caption_norm.weight time_embed.linear.weight
a Stable Cascade model
    clip_txt_mapper.weight clf.1.weight down_blocks.0.0.channelwise.0.weight
    clip_mapper.weight clf.1.weight down_blocks.1.0.channelwise.0.weight effnet_mapper.0.weight
a Wuerstchen model
    cond_mapper.0.weight projection.weight blocks.0.channelwise.0.weight
    clip_mapper.weight effnet_mappers.0.weight down_blocks.0.0.channelwise.0.weight
a DeepFloyd IF model
    add_embedding.pool.positional_embedding add_embedding.norm1.weight encoder_hid_proj.weight
    encoder_pooling.1.positional_embedding encoder_proj.weight input_blocks.0.0.weight
a Kandinsky model
    add_embedding.text_proj.weight add_embedding.text_norm.weight add_embedding.image_proj.weight
    add_embedding.image_norm.weight encoder_hid_proj.image_embeds.weight down_blocks.0.resnets.0.conv1.weight
    add_time_condition.attention_pooling.k_proj.weight encoder_hid_proj.projection_linear.weight
    visual_transformer_blocks.0.self_attention.to_query.weight
    prd_embedding embedding_proj.weight proj_to_clip_embeddings.weight clip_mean
an AuraFlow model
    double_layers.0.attn.w1q.weight positional_encoding cond_seq_linear.weight
    joint_transformer_blocks.0.attn.add_q_proj.weight register_tokens
a HiDream model
    caption_projection.0.linear.weight double_stream_blocks.0.block.attn.to_q.weight
    caption_projection.0.linear.weight double_stream_blocks.0.block.attn1.to_q.weight
a Qwen-Image model
    txt_norm.weight img_in.weight transformer_blocks.0.img_mlp.net.0.proj.weight
a Lumina model
    cap_embedder.0.weight cap_embedder.1.weight noise_refiner.0.attention.qkv.weight
    time_caption_embed.caption_embedder.0.weight noise_refiner.0.attn.to_q.weight
    time_caption_embed.caption_embedder.0.weight layers.0.attn1.to_q.weight
a Z-Image model
    cap_embedder.0.weight cap_embedder.1.weight cap_pad_token noise_refiner.0.attention.qkv.weight
a Mochi video model
    t5_yproj.weight blocks.0.attn.qkv_x.weight
a CogVideoX model
    patch_embed.text_proj.weight transformer_blocks.0.norm1.linear.weight time_embedding.linear_1.weight
a CogView model
    transformer_blocks.0.norm1.linear.weight time_condition_embed.condition_embedder.linear_1.weight
a Cosmos model
    blocks.block0.blocks.0.block.attn.to_q.0.weight
an OmniGen model
    time_caption_embed.timestep_embedder.linear_1.bias ref_image_refiner.0.attn.to_q.weight
a Stable Audio model
    model.model.transformer.rotary_pos_emb.inv_freq
Stable Video Diffusion
    model.diffusion_model.input_blocks.1.1.time_stack.0.attn1.to_q.weight model.diffusion_model.label_emb.0.0.weight
    unet/down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_q.weight
    down_blocks.0.attentions.0.temporal_transformer_blocks.0.attn1.to_q.weight
a ModelScope video model
    input_blocks.1.0.temopral_conv.conv1.0.weight input_blocks.0.0.weight
    unet/transformer_in.norm.weight unet/down_blocks.0.temp_convs.0.conv1.0.weight
GLIGEN, which is told where things are
    model.diffusion_model.position_net.null_positive_feature
a latent diffusion model of before Stable Diffusion
    model.diffusion_model.input_blocks.0.0.weight cond_stage_model.transformer.attn_layers.layers.0.0.weight
    model.diffusion_model.input_blocks.0.0.weight first_stage_model.quantize.embedding.weight
a Stable Diffusion that is shown a picture in place of words (image variations, Paint by Example)
    model.diffusion_model.input_blocks.0.0.weight cond_stage_model.mapper.resblocks.0.attn.c_qkv.weight
Kolors
    encoder_hid_proj.weight add_embedding.linear_1.weight
a DiT of the classes of ImageNet
    y_embedder.embedding_table.weight blocks.0.adaLN_modulation.1.weight x_embedder.proj.weight
    transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight pos_embed.proj.weight
SUPIR
    model.control_model.input_blocks.0.0.weight model.diffusion_model.project_modules.0.zero_conv.weight
"""
PIPELINES = """
a Flux model
    Flux Flux2
a PixArt model
    PixArtSigma
Stable Video Diffusion
    StableVideoDiffusion
a Stable Cascade model
    StableCascadeDecoder
a Wuerstchen model
    WuerstchenPrior
a DeepFloyd IF model
    IF
a Kandinsky model
    KandinskyV22
a Hunyuan-DiT model
    HunyuanDiT
an LTX video model
    LTX
a Wan video model
    Wan
a Qwen-Image model
    QwenImage
a Lumina model
    Lumina
an AuraFlow model
    AuraFlow
a HiDream model
    HiDreamImage
Kolors
    Kolors
a CogVideoX model
    CogVideoX
a Sana model
    Sana
Marigold
    MarigoldDepth
Zero123, which turns an object that it is shown
    Zero1to3StableDiffusion
LDM3D, which draws depth too
    StableDiffusionLDM3D
Karlo, an unCLIP of pixels
    UnCLIP
a Stable Diffusion that is shown a picture in place of words (image variations, Paint by Example)
    PaintByExample StableDiffusionImageVariation
a DiT of the classes of ImageNet
    DiT
a diffusion model of pixels
    DDPM ConsistencyModel
GLIGEN, which is told where things are
    StableDiffusionGLIGEN
a video model
    AnimateDiff
a UniDiffuser model
    UniDiffuser
a model of 3D shapes
    ShapE
a latent diffusion model of before Stable Diffusion
    LDMTextToImage
the x2 upscaler of latents
    StableDiffusionLatentUpscale
a Z-Image model
    ZImage
a Chroma model
    Chroma
a model of sound
    AudioLDM
aMUSEd
    Amused
"""


def listed(text: str) -> list[tuple[str, list[str]]]:
    """Titles, each with the words of every indented line below it."""
    found, title = [], ""
    for line in text.strip().splitlines():
        if line.startswith(" "):
            found.append((title, line.split()))
        else:
            title = line
    return found


def checkpoint(names: list[str], container: str = "safetensors", **configs: dict[str, object]) -> Checkpoint:
    stored = {name: Stored(None, 0, (4, 4), torch.float32) for name in names}
    return Checkpoint(Path("model"), container, stored, [], configs=configs)


@pytest.mark.parametrize(("title", "names"), listed(FILES))
def test_files_of_other_models(title: str, names: list[str]) -> None:
    identity = identify(checkpoint(names))
    assert (identity.title, identity.family) == (title, None)
    assert identity.advice == "it is not supported; `sfumato models` lists what is"


@pytest.mark.parametrize(("title", "names"), listed(PIPELINES))
def test_folders_of_other_models(title: str, names: list[str]) -> None:
    for name in names:
        for task in ("", "Img2Img"):
            index = {"_class_name": f"{name}{task}Pipeline"}
            assert identify(checkpoint(["transformer/a.weight"], "folder", model_index=index)).title == title


@pytest.mark.parametrize("class_name", ["MyPipeline", None, ["custom", "FluxPipeline"], "StableDiffusionPipeline"])
def test_other_classes_are_no_other_models(class_name: object) -> None:
    folder = checkpoint(["transformer/a.weight"], "folder", model_index={"_class_name": class_name})
    assert identify(folder).title.startswith("a diffusers folder of an unknown kind")


@pytest.mark.parametrize(
    ("name", "title", "advice"),
    [
        ("vision_model.embeddings.class_embedding", "a CLIP image encoder alone", "--ip-adapter"),
        ("special_care_embeds", "a safety checker", "give the model"),
        ("id_encoder.vision_model.embeddings.class_embedding", "PhotoMaker", "not supported"),
        ("params_ema.ft_layers.0.self_attn.in_proj_weight", "a restorer of faces", "not supported"),
        ("mask_decoder.iou_token.weight", "a segmentation network (SAM)", "not supported"),
        ("quantize.embedding.weight", "a VQ autoencoder", "give the complete model"),
        ("layer.weight", "a model of an unknown kind", "give a complete"),
    ],
)
def test_what_is_no_diffusion_model_at_all(name: str, title: str, advice: str) -> None:
    identity = identify(checkpoint([name]))
    assert identity.title == title
    assert advice in identity.advice
