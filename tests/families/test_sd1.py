"""Names, shapes and counts of 1.x against the manifests of the original code and of diffusers."""

import gzip
import json
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
import torch

from sfumato.errors import SfumatoError
from sfumato.families import FAMILIES, family
from sfumato.families.layouts import clip_text, ldm_unet, ldm_vae
from sfumato.families.sd1 import ORIGINAL
from sfumato.spec import CLIPTextConfig, UNetConfig, VAEConfig

SD1 = family("sd1")
COUNTS = {"unet": 859_520_964, "vae": 83_653_863, "text": 123_060_480}


def manifest(golden: Path, name: str) -> dict:
    return json.loads(gzip.decompress((golden / "manifests" / f"{name}.json.gz").read_bytes()))


def shapes(manifest: dict) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, (shape, _) in manifest["keys"].items()}


def test_parameter_counts():
    networks = SD1.build(SD1.spec)
    assert {part: sum(p.numel() for p in network.parameters()) for part, network in networks.items()} == COUNTS
    assert all(tensor.is_meta for network in networks.values() for tensor in network.state_dict().values())


@pytest.mark.parametrize("item", FAMILIES, ids=lambda item: item.name)
def test_networks_hold_no_buffers_which_loading_could_not_fill(item):
    for network in item.build(item.spec).values():
        assert {name for name, _ in network.named_buffers()} <= network.state_dict().keys()


def test_original_layout_is_the_manifest(golden):
    reference = manifest(golden, "original/sd1")
    expected = SD1.expected(SD1.spec, "original")
    theirs = shapes(reference)
    assert expected == {name: shape for name, shape in theirs.items() if name not in reference["persistent_buffers"]}
    keymap = SD1.keymap(SD1.spec, "original", SD1.build(SD1.spec))
    legacy = {name: tuple(shape) for name, (shape, _) in reference["legacy_extra_keys"].items()}
    match = keymap.match(expected, theirs | legacy)
    assert match.complete
    assert set(match.ignored) == {*reference["persistent_buffers"], *legacy}


def test_averaged_names_are_the_manifest(golden):
    reference = manifest(golden, "original/sd1_model_ema")
    expected = SD1.expected(SD1.spec, "original", ema=True)
    averaged = {name: shape for name, shape in expected.items() if name.startswith("model_ema.")}
    counters = ("model_ema.decay", "model_ema.num_updates")
    assert averaged == {name: shape for name, shape in shapes(reference).items() if name not in counters}


def test_averaged_weights_may_stand_beside_the_plain_ones(golden):
    plain = SD1.expected(SD1.spec, "original")
    keymap = SD1.keymap(SD1.spec, "original", SD1.build(SD1.spec))
    assert keymap.match(plain, plain | shapes(manifest(golden, "original/sd1_model_ema"))).complete


@pytest.mark.parametrize("component", ["unet", "vae", "text_encoder"])
def test_folder_layout_is_the_manifest(golden, component):
    expected = SD1.expected(SD1.spec, "diffusers")
    own = {name.removeprefix(f"{component}/"): s for name, s in expected.items() if name.startswith(f"{component}/")}
    assert own == shapes(manifest(golden, f"diffusers/sd1__{component}"))
    assert (
        sum(prod(shape) for shape in own.values())
        == manifest(golden, f"diffusers/sd1__{component}")["total_parameters"]
    )


@pytest.mark.parametrize(
    "unet",
    [
        UNetConfig(),
        UNetConfig(channels=(32,), depth=(1,), blocks=1, context_dim=8),
        UNetConfig(channels=(32, 64, 96), depth=(0, 1, 2), blocks=3, context_dim=24, middle_depth=2),
        UNetConfig(in_channels=16, out_channels=16, channels=(64, 64), depth=(1, 1), linear_projection=True),
    ],
)
def test_unet_sizes_are_read_from_shapes(unet):
    spec = replace(SD1.spec, unet=unet)
    assert ldm_unet.sizes(SD1.expected(spec, "original"), ORIGINAL["unet"]) == unet


@pytest.mark.parametrize("vae", [VAEConfig(), VAEConfig(channels=(32, 64, 64, 96, 128), blocks=1, latent_channels=16)])
def test_vae_sizes_are_read_from_shapes(vae):
    assert ldm_vae.sizes(SD1.expected(replace(SD1.spec, vae=vae), "original"), ORIGINAL["vae"]) == vae


@pytest.mark.parametrize(
    "text",
    [
        CLIPTextConfig(),
        CLIPTextConfig(600, 32, 64, 3, 1, 20, bos_token_id=598, eos_token_id=599, pad_token_id=599),
    ],
)
def test_text_sizes_are_read_from_shapes(text):
    assert clip_text.sizes(SD1.expected(replace(SD1.spec, text=text), "original"), ORIGINAL["text"]) == text


def test_the_maps_invert_on_real_values():
    spec = replace(
        SD1.spec, unet=UNetConfig(channels=(32, 64), depth=(1, 0), context_dim=8), vae=VAEConfig(channels=(32, 64))
    )
    networks = {part: SD1.networks(spec)[part] for part in ("unet", "vae")}
    for layout in SD1.layouts:
        keymap = SD1.keymap(spec, layout, networks)
        for part, network in networks.items():
            state = network.state_dict()
            theirs = keymap.to_theirs(part, state)
            ours = keymap.to_ours(part, theirs.__getitem__)
            assert state.keys() == ours.keys()
            assert all(torch.equal(state[name], tensor) for name, tensor in ours.items())


def test_an_unknown_family_is_named():
    with pytest.raises(SfumatoError, match="no model family 'sd9'; known are sd1"):
        family("sd9")
