"""Tiny pipelines of 3 and 3.5 that diffusers wrote: opened by us they draw what diffusers' own code draws."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3ControlNetModel,
    SD3Transformer2DModel,
    StableDiffusion3ControlNetInpaintingPipeline,
    StableDiffusion3ControlNetPipeline,
    StableDiffusion3Pipeline,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from sfumato import Control
from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.pipeline.hints import Masked

PROMPT, NEGATIVE = "a red heart and so on", "a blue cat"
OURS = {"steps": 6, "cfg": 4.0, "seed": 3, "width": 32, "height": 32, "watermark": False}
THEIRS = {"num_inference_steps": 6, "guidance_scale": 4.0, "width": 32, "height": 32}
SPECIAL = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0)]
PIECES = ["▁a", "▁red", "▁blue", "▁heart", "▁cat", "▁", *"abcdehlort"]


@pytest.fixture
def sd3(tokenizer, open_tokenizer, tower, autoencoder) -> Callable[..., StableDiffusion3Pipeline]:
    """`sd3(transformer settings, scheduler settings)`; a latent is two pixels wide, a patch four."""

    def make(transformer: dict[str, object], scheduler: dict[str, object], t5: bool = True) -> StableDiffusion3Pipeline:
        torch.manual_seed(0)
        network = SD3Transformer2DModel(
            sample_size=16,
            num_layers=3,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=96,
            caption_projection_dim=32,
            pooled_projection_dim=64,
            out_channels=16,
            pos_embed_max_size=16,
            **transformer,
        )
        with torch.no_grad():
            for weight in network.parameters():
                if weight.dim() > 1:
                    weight *= 2
        words = T5Config(vocab_size=200, d_model=96, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
        words.feed_forward_proj, words.is_gated_act, words.dense_act_fn = "gated-gelu", True, "gelu_new"
        return StableDiffusion3Pipeline(
            transformer=network.eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(**scheduler),
            vae=autoencoder(
                latent_channels=16,
                scaling_factor=1.5,
                shift_factor=0.06,
                use_quant_conv=False,
                use_post_quant_conv=False,
            ),
            text_encoder=tower(True, "quick_gelu"),
            tokenizer=tokenizer,
            text_encoder_2=tower(True),
            tokenizer_2=open_tokenizer,
            text_encoder_3=T5EncoderModel(words).eval() if t5 else None,
            tokenizer_3=T5Tokenizer(vocab=SPECIAL + [(piece, -2.0) for piece in PIECES]) if t5 else None,
        )

    return make


NORMED = {"qk_norm": "rms_norm"}
KINDS = {
    "sd3_medium": ({}, {"shift": 3.0}),
    "sd35_medium": ({**NORMED, "dual_attention_layers": (0,)}, {"shift": 3.0}),
    "sd35_large": (NORMED, {"use_dynamic_shifting": True}),
}


@pytest.mark.parametrize("family", KINDS)
def test_every_kind_of_transformer(sd3, opened, first_noise, apart, family: str) -> None:
    pipeline = sd3(*KINDS[family])
    model = opened(pipeline)
    assert model.spec.family == family
    ours = model.txt2img(PROMPT, NEGATIVE, **OURS).images[0]
    theirs = pipeline(PROMPT, negative_prompt=NEGATIVE, latents=first_noise(model), **THEIRS).images[0]
    assert apart(ours, theirs) <= 2
    assert apart(ours, model.txt2img(NEGATIVE, PROMPT, **OURS).images[0]) > 10


def test_skip_layer_guidance(sd3, opened, first_noise, apart) -> None:
    pipeline = sd3(*KINDS["sd35_medium"])
    model = opened(pipeline)
    # The transformer is too small for the layers that are usually left out.
    model.spec = replace(model.spec, skip_layers=replace(model.spec.skip_layers, layers=(1,), end=0.5))
    ours = model.txt2img(PROMPT, NEGATIVE, slg=2.5, **OURS).images[0]
    theirs = pipeline(
        PROMPT,
        negative_prompt=NEGATIVE,
        latents=first_noise(model),
        skip_guidance_layers=[1],
        skip_layer_guidance_scale=2.5,
        skip_layer_guidance_start=0.01,
        skip_layer_guidance_stop=0.5,
        **THEIRS,
    ).images[0]
    assert apart(ours, theirs) <= 2
    assert apart(ours, model.txt2img(PROMPT, NEGATIVE, **OURS).images[0]) > 2


def test_without_t5_zeros_stand_in(sd3, opened, first_noise, apart) -> None:
    pipeline = sd3(*KINDS["sd3_medium"], t5=False)
    with pytest.warns(SfumatoWarning, match="comes without the text encoder T5: .* will be followed less"):
        model = opened(pipeline)
    ours = model.txt2img(PROMPT, NEGATIVE, **OURS).images[0]
    theirs = pipeline(PROMPT, negative_prompt=NEGATIVE, latents=first_noise(model), **THEIRS).images[0]
    assert apart(ours, theirs) <= 2


@pytest.mark.parametrize("joint", [True, False], ids=["InstantX", "Stability AI"])
def test_a_controlnet(sd3, opened, first_noise, apart, joint: bool, tmp_path: Path, monkeypatch) -> None:
    # Their hint's latents are drawn by chance.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    pipeline = sd3(*KINDS["sd3_medium"])
    model = opened(pipeline)
    torch.manual_seed(1)
    network = SD3ControlNetModel(
        sample_size=16, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=96 if joint else None, caption_projection_dim=32, pooled_projection_dim=64,
        pos_embed_max_size=16, pos_embed_type="sincos" if joint else None, use_pos_embed=joint,
        force_zeros_for_pooled_projection=joint,
    ).eval()  # fmt: skip
    for layer in (*network.controlnet_blocks, network.pos_embed_input.proj):
        torch.nn.init.normal_(layer.weight, std=0.3)
    network.save_pretrained(tmp_path / "edges")
    parts = {
        name: part for name, part in pipeline.components.items() if name not in ("image_encoder", "feature_extractor")
    }
    theirs = StableDiffusion3ControlNetPipeline(**parts, controlnet=network)
    theirs.set_progress_bar_config(disable=True)
    hint = Image.new("RGB", (32, 32), "black")
    hint.paste("white", (8, 4, 24, 12))
    options = {"controlnet_conditioning_scale": 0.7, "control_guidance_end": 0.7}
    picture = theirs(
        PROMPT, negative_prompt=NEGATIVE, control_image=hint, latents=first_noise(model), **options, **THEIRS
    ).images[0]
    control = Control(tmp_path / "edges", hint, weight=0.7, end=0.7)
    assert apart(model.txt2img(PROMPT, NEGATIVE, control=[control], **OURS).images[0], picture) <= 2
    assert apart(model.txt2img(PROMPT, NEGATIVE, **OURS).images[0], picture) > 10


def test_a_controlnet_for_inpainting(sd3, opened, first_noise, apart, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    pipeline = sd3(*KINDS["sd3_medium"])
    model = opened(pipeline)
    torch.manual_seed(1)
    network = SD3ControlNetModel(
        sample_size=16, num_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=96,
        caption_projection_dim=32, pooled_projection_dim=64, pos_embed_max_size=16, extra_conditioning_channels=1,
    ).eval()  # fmt: skip
    for layer in (*network.controlnet_blocks, network.pos_embed_input.proj):
        torch.nn.init.normal_(layer.weight, std=0.3)
    network.save_pretrained(tmp_path / "fill")
    theirs = StableDiffusion3ControlNetInpaintingPipeline(**pipeline.components, controlnet=network)
    theirs.set_progress_bar_config(disable=True)
    image, mask = Image.linear_gradient("L").resize((32, 32)).convert("RGB"), Image.new("L", (32, 32))
    mask.paste(255, (8, 4, 24, 20))
    picture = theirs(
        PROMPT, negative_prompt=NEGATIVE, control_image=image, control_mask=mask, latents=first_noise(model), **THEIRS
    ).images[0]
    places = torch.zeros(1, 1, 32, 32)
    places[..., 4:20, 8:24] = 1
    control = Control(tmp_path / "fill", Masked(image, places), hint="inpaint")
    assert apart(model.txt2img(PROMPT, NEGATIVE, control=[control], **OURS).images[0], picture) <= 2
    given = {"mask": mask, **OURS, "steps": 2}
    plain = model.inpaint(image, PROMPT, **given).images[0]
    assert model.inpaint(image, PROMPT, control=[f"{tmp_path / 'fill'},hint=inpaint"], **given).images[0] != plain
    with pytest.raises(SfumatoError, match="is for inpainting; give it there with hint=inpaint"):
        model.txt2img(PROMPT, control=[Control(tmp_path / "fill", image)], **OURS)
