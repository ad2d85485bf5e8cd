"""Tiny pipelines with random weights, made and written by diffusers and transformers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from transformers import CLIPTokenizer as TheirTokenizer

import sfumato
from sfumato.api import StableDiffusion
from sfumato.diffusion.rng import NoiseStream
from sfumato.text.tokenizer import CLIPTokenizer

SEED, SIDE = 3, 32
WIDTH = 32  # of a text tower


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TheirTokenizer:
    """Of a vocabulary of 600, which pads with the end token."""
    folder = tmp_path_factory.mktemp("words")
    CLIPTokenizer.train(["a red heart", "a blue cat"] * 9, 600).save(folder)
    return TheirTokenizer.from_pretrained(folder)


@pytest.fixture(scope="session")
def open_tokenizer(tokenizer: TheirTokenizer, tmp_path_factory: pytest.TempPathFactory) -> TheirTokenizer:
    """The same that pads with token 0, as those beside OpenCLIP's towers do."""
    folder = tmp_path_factory.mktemp("words")
    tokenizer.save_pretrained(folder)
    return TheirTokenizer.from_pretrained(folder, pad_token="!")


@pytest.fixture(scope="session")
def tower(tokenizer: TheirTokenizer) -> Callable[..., CLIPTextModel]:
    """`tower()` is a CLIP text encoder, with `projected` one that also returns a projected vector."""

    def make(projected: bool = False, activation: str = "gelu") -> CLIPTextModel:
        config = CLIPTextConfig(
            vocab_size=600,
            hidden_size=WIDTH,
            intermediate_size=64,
            projection_dim=WIDTH,
            num_hidden_layers=3,
            num_attention_heads=2,
            hidden_act=activation,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=0 if projected else tokenizer.pad_token_id,
        )
        return _lively((CLIPTextModelWithProjection if projected else CLIPTextModel)(config))

    return make


@pytest.fixture(scope="session")
def unet() -> Callable[..., UNet2DConditionModel]:
    """`unet(context, ...)` takes settings of UNet2DConditionModel over those of a network of two levels."""

    def make(context: int, **settings: object) -> UNet2DConditionModel:
        base = {
            "sample_size": SIDE // 2,
            "block_out_channels": (32, 64),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": context,
            "attention_head_dim": 2,
        }
        return _lively(UNet2DConditionModel(**base | settings))

    return make


@pytest.fixture(scope="session")
def autoencoder() -> Callable[..., AutoencoderKL]:
    """A latent is two pixels wide; `autoencoder(latent_channels=16 ...)` takes settings of AutoencoderKL."""

    def make(**settings: object) -> AutoencoderKL:
        base = {
            "block_out_channels": (32, 32),
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "sample_size": SIDE,
        }
        return AutoencoderKL(**base | settings).eval()

    return make


def _lively(network: torch.nn.Module) -> torch.nn.Module:
    """With larger weights than networks begin with, so that words, sizes and times show in the picture."""
    with torch.no_grad():
        for weight in network.parameters():
            if weight.dim() > 1:
                weight *= 1.5
    return network.eval()


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[DiffusionPipeline], StableDiffusion]:
    """A pipeline as we open it, from the folder that it wrote."""

    def write(pipeline: DiffusionPipeline) -> StableDiffusion:
        pipeline.set_progress_bar_config(disable=True)
        folder = tmp_path / f"model-{len(list(tmp_path.iterdir()))}"
        pipeline.save_pretrained(folder)
        return sfumato.load(folder, device="cpu")

    return write


@pytest.fixture
def first_noise() -> Callable[[StableDiffusion], Tensor]:
    """The unit noise that we begin the picture of `SEED` with, SIDE x SIDE pixels."""

    def draw(model: StableDiffusion) -> Tensor:
        vae = model.spec.vae
        return NoiseStream(SEED, (1, vae.latent_channels, SIDE // vae.factor, SIDE // vae.factor), "cpu").normal()

    return draw


@pytest.fixture
def apart() -> Callable[[Image.Image, Image.Image], int]:
    """The largest difference of two pictures, in levels of 255."""
    return lambda ours, theirs: int(np.abs(np.asarray(ours).astype(int) - np.asarray(theirs).astype(int)).max())
