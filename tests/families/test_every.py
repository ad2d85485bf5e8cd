"""Every family on a complete tiny model: both layouts load to the same networks, and words become a picture."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sfumato.diffusion.drive import Denoiser
from sfumato.diffusion.schedule import NoiseTable, training_sigmas
from sfumato.families import FAMILIES, Family
from sfumato.model import StableDiffusion
from sfumato.nets.unet import ID_WIDTH
from sfumato.spec import CLIPTextConfig, DPTConfig, Spec, VAEConfig
from sfumato.text.encode import TextEncoder
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.weights.load import load_parts

DEPTH = DPTConfig(
    stem=32, stages=(128, 128, 128), depths=(1, 1, 1), positions=2, hidden=64, intermediate=64, layers=4, heads=1,
    neck=(128, 128, 32, 32), fusion=32,
)  # fmt: skip
SCORES = {"original_size": 2, "crop": 2, "target_size": 2, "aesthetic_score": 1}


def tiny(spec: Spec) -> Spec:
    """The release with small networks: the same features, a vocabulary of 600."""

    def tower(text: CLIPTextConfig) -> CLIPTextConfig:
        pad = min(text.pad_token_id, 599)
        small = replace(text, vocab_size=600, hidden_size=64, intermediate_size=128, layers=3, heads=1)
        width = None if text.projection_dim is None else 32
        return replace(small, bos_token_id=598, eos_token_id=599, pad_token_id=pad, projection_dim=width)

    towers = 1 + (spec.text_2 is not None)
    numbers = sum(SCORES[name] for name in spec.ids)
    unet = replace(
        spec.unet,
        channels=(32, 64),
        depth=(1, 1) if spec.unet.cross_only else (0, 1),
        middle_depth=1,
        blocks=1,
        cross_only=spec.unet.cross_only[-2:],  # the last level looks at itself
        context_dim=64 * towers,
        vector_dim=32 + numbers * ID_WIDTH if spec.ids else None,
    )
    return replace(
        spec,
        unet=unet,
        vae=VAEConfig(channels=(32, 64), blocks=1, scale=spec.vae.scale),
        text=tower(spec.text),
        text_2=None if spec.text_2 is None else tower(spec.text_2),
        depth=None if spec.depth is None else DEPTH,
    )


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.train(["a red heart", "a blue cat"] * 9, 600)


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


def write(family: Family, path: Path) -> dict[str, torch.nn.Module]:
    """A single file of a tiny model with random weights; returns its networks."""
    spec = tiny(family.spec)
    torch.manual_seed(0)
    networks = family.networks(spec)
    keymap = family.keymap(spec, "original", networks)
    state = {}
    for part, network in networks.items():
        state |= keymap.to_theirs(part, network.state_dict())
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return networks


def test_words_become_a_picture(family: Family, tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    networks = write(family, path)
    parts = load_parts(path)
    assert parts.spec == tiny(family.spec)
    for part, network in networks.items():
        loaded = parts.networks[part].state_dict()
        assert all(torch.equal(tensor, loaded[name]) for name, tensor in network.state_dict().items())
    spec = parts.spec
    denoiser = Denoiser(parts.unet, spec.prediction, NoiseTable(training_sigmas(spec.noise)), spec.quantised)
    text = TextEncoder(tokenizer, parts.texts, pooled=bool(spec.ids))
    model = StableDiffusion(spec, denoiser, parts.vae, text, path)
    options = {"steps": 2, "seed": 3, "watermark": False}
    if spec.low_res is None:
        draw = partial(model.txt2img, width=32, height=16)
    else:
        draw = partial(model.upscale, Image.linear_gradient("L").resize((16, 8)))
    three = draw(prompt="a red heart", n=3, **options)
    single = draw(prompt="a red heart", negative="a cat", **{**options, "seed": 4})
    again = draw(prompt="a red heart", **{**options, "seed": 4})
    assert [image.size for image in three.images] == [(32, 16)] * 3
    second, alone, other = (np.asarray(image, int) for image in (three.images[1], again.images[0], single.images[0]))
    assert np.abs(second - alone).max() <= 1  # a batch rounds otherwise than one row
    assert (alone != other).any()


def test_a_prediction_that_no_file_states_can_be_given(tmp_path: Path) -> None:
    sd2 = next(family for family in FAMILIES if family.name == "sd2")
    write(sd2, tmp_path / "model.safetensors")
    specs = [load_parts(tmp_path / "model.safetensors", prediction=given).spec for given in (None, "eps")]
    assert [(spec.prediction, spec.defaults.width) for spec in specs] == [("v", 768), ("eps", 512)]
