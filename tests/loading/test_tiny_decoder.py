"""Tiny decoders: in both layouts equal to diffusers' AutoencoderTiny, and what they are used for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file

import sfumato
from sfumato.errors import SfumatoError
from sfumato.families import sd1
from sfumato.loading.tiny_decoder import load_tiny_decoder
from sfumato.pipeline.events import Progress

CPU = torch.device("cpu")


def theirs(latent_channels: int = 4, stages: int = 4, width: int = 8) -> AutoencoderTiny:
    torch.manual_seed(0)
    blocks = (*[2] * (stages - 1), 1)
    return AutoencoderTiny(
        latent_channels=latent_channels, encoder_block_out_channels=(width,) * stages,
        decoder_block_out_channels=(width,) * stages, num_encoder_blocks=blocks[::-1], num_decoder_blocks=blocks,
    ).eval()  # fmt: skip


def author(network: AutoencoderTiny) -> dict[str, torch.Tensor]:
    """The decoder as TAESD's author numbers its layers, of which the first squeezes."""
    layers = network.decoder.layers.state_dict().items()
    return {"{}.{}".format(int(name.split(".", 1)[0]) + 1, name.split(".", 1)[1]): one for name, one in layers}


@pytest.fixture
def written(tmp_path: Path) -> dict[str, Path]:
    """The same decoder in every layout."""
    network, plain = theirs(), author(theirs())
    files = {
        "pth": tmp_path / "taesd_decoder.pth",
        "file": tmp_path / "a.safetensors",
        "both": tmp_path / "b.safetensors",
    }
    torch.save(plain, files["pth"])
    save_file(plain, files["file"])
    both = {f"taesd_decoder.{name}": one for name, one in plain.items()}
    save_file(both | {f"taesd_encoder.{name}": torch.zeros(1) for name in plain}, files["both"])
    network.save_pretrained(tmp_path / "folder")
    return files | {"folder": tmp_path / "folder"}


@pytest.mark.parametrize("layout", ["pth", "file", "both", "folder"])
@torch.no_grad()
def test_every_layout_decodes_as_diffusers_does(written: dict[str, Path], layout: str) -> None:
    ours = load_tiny_decoder(written[layout], sd1.SPEC, torch.float32, CPU)
    latents = 2 * torch.randn(2, 4, 6, 5)
    assert torch.allclose(ours(latents), theirs().decode(latents).sample, atol=1e-5)


def test_what_does_not_fit_is_refused(written: dict[str, Path], tmp_path: Path) -> None:
    other = replace(sd1.SPEC, vae=replace(sd1.SPEC.vae, latent_channels=16))
    with pytest.raises(SfumatoError, match=r"decodes 4 channels .* has 16 and 8: give"):
        load_tiny_decoder(written["file"], other, torch.float32, CPU)
    save_file({"conv_in.weight": torch.zeros(4, 4)}, tmp_path / "no.safetensors")
    with pytest.raises(SfumatoError, match=r"no\.safetensors is no tiny decoder .*; give such a file"):
        load_tiny_decoder(tmp_path / "no.safetensors", sd1.SPEC, torch.float32, CPU)
    half = dict(list(author(theirs()).items())[:-2])
    save_file(half, tmp_path / "half.safetensors")
    with pytest.raises(SfumatoError, match=r"half\.safetensors is no (whole|complete) tiny decoder"):
        load_tiny_decoder(tmp_path / "half.safetensors", sd1.SPEC, torch.float32, CPU)


def test_it_makes_previews_and_the_pictures_that_ask_for_it(tmp_path: Path) -> None:
    sd = sfumato.load()
    factor, channels = sd.spec.vae.factor, sd.spec.vae.latent_channels
    network = theirs(channels, factor.bit_length())
    save_file(author(network), tmp_path / "tiny.safetensors")
    with pytest.raises(SfumatoError, match="decoder is 'tiny', but the model was loaded without a tiny decoder"):
        sd.txt2img("a red heart", decoder="tiny", steps=1, seed=1)

    sd = sfumato.load(tiny_decoder=tmp_path / "tiny.safetensors")
    asked = {"steps": 1, "seed": 1, "width": 64, "height": 64, "watermark": False}
    progress = next(event for event in sd.stream("a red heart", **asked) if isinstance(event, Progress))
    plain = sd.txt2img("a red heart", **asked)
    tiny = sd.txt2img("a red heart", decoder="tiny", **asked)
    with torch.no_grad():
        expected = network.decode(plain.latents.float()).sample[0].clamp(-1, 1).permute(1, 2, 0) * 127.5 + 127.5
    assert np.abs(np.asarray(tiny.images[0], dtype=np.float32) - expected.numpy()).max() <= 1
    assert progress.preview().size == (64, 64)
    assert np.array_equal(np.asarray(progress.preview()), np.asarray(tiny.images[0])), "of the only step"
    assert plain.images[0].tobytes() == sfumato.load().txt2img("a red heart", **asked).images[0].tobytes()
    assert "VAE Decoder: TAESD" in tiny.infotexts[0]
