"""Little models of the releases that work from a picture, as folders."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sfumato.families import family
from sfumato.spec import CLIPTextConfig, DPTConfig, Spec, UNetConfig, VAEConfig
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.weights.save import save_folder

WORDS = CLIPTokenizer.train(["a cat"] * 2, 516)
DEPTH = DPTConfig(
    stem=16, stages=(32, 64, 96), depths=(1, 1, 1), groups=8, positions=4, hidden=32, intermediate=48, layers=4,
    heads=2, neck=(32, 64, 24, 40), fusion=16,
)  # fmt: skip


def small(release: Spec, unet: UNetConfig) -> Spec:
    text = CLIPTextConfig(
        vocab_size=WORDS.vocab_size,
        hidden_size=32,
        intermediate_size=64,
        layers=2,
        heads=2,
        activation="gelu",
        bos_token_id=WORDS.bos_token_id,
        eos_token_id=WORDS.eos_token_id,
        pad_token_id=0,
    )
    return replace(
        release,
        unet=replace(unet, blocks=1, context_dim=32, linear_projection=True),
        vae=VAEConfig(channels=(32,) * len(release.vae.channels), blocks=1, scale=release.vae.scale),
        text=text,
        depth=None if release.depth is None else DEPTH,
    )


def saved(spec: Spec, folder: Path) -> Path:
    torch.manual_seed(0)
    WORDS.save(folder / "words")
    networks = family(spec.family).networks(spec)
    if "depth" in networks:
        for parameter in networks["depth"].parameters():  # the usual start sees no depth at all
            torch.nn.init.normal_(parameter, std=0.3)
    save_folder(folder / spec.family, spec, networks, tokenizer_folder=folder / "words")
    return folder / spec.family


@pytest.fixture(scope="session")
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    release = family("sd2_upscaler").spec
    unet = replace(release.unet, channels=(32, 64, 64), depth=(0, 1, 1), cross_only=(False, True, False), heads=2)
    return saved(small(release, unet), tmp_path_factory.mktemp("upscaler"))


@pytest.fixture(scope="session")
def depth_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    release = family("sd2_depth").spec
    unet = replace(release.unet, channels=(32, 64), depth=(1, 0), heads=None, head_dim=32)
    return saved(small(release, unet), tmp_path_factory.mktemp("depth"))
