"""Weights that stay in their file are the same weights, and take no memory when nothing uses them."""

import copy

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import sfumato
from sfumato.cli.main import app
from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.loading import streaming
from sfumato.loading.budget import LIBRARY, Part, fit, parse_memory
from sfumato.loading.load import load_parts
from sfumato.loading.memory import memory_plan
from sfumato.loading.streaming import StreamedWeight, is_streamed

ALL = {"unet": 0, "vae": 0, "text": 0}


@pytest.fixture(autouse=True)
def small_weights_too(monkeypatch):
    monkeypatch.setattr(streaming, "LARGE", 100)


def streamed_weights(network: nn.Module) -> dict[str, StreamedWeight]:
    return {name: one for name, one in network.named_parameters() if isinstance(one, StreamedWeight)}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, None], ids=str)
def test_the_same_weights(tiny, write, dtype):
    path = write(tiny.original(torch.float16))
    plain, streamed = load_parts(path, dtype=dtype), load_parts(path, dtype=dtype, streamed=ALL)
    for part, network in streamed.networks.items():
        assert is_streamed(network) and not is_streamed(plain.networks[part])
        for name, weight in network.state_dict().items():
            expected = plain.networks[part].state_dict()[name]
            assert weight.shape == expected.shape and weight.dtype == expected.dtype == (dtype or torch.float16)
            assert torch.equal(weight + 0, expected)


def test_the_same_steps(tiny, write):
    path = write(tiny.original(torch.float16))
    plain, streamed = load_parts(path), load_parts(path, streamed={"unet": 100_000, "vae": 0})
    z = torch.randn(1, plain.spec.vae.latent_channels, 8, 8)
    assert torch.equal(streamed.vae.decode(z), plain.vae.decode(z))
    assert torch.equal(streamed.vae.in_range.decode(z), plain.vae.in_range.decode(z))
    assert not is_streamed(streamed.text)
    kept = [one.source.stored[0].kept for one in streamed_weights(streamed.unet).values()]
    assert any(kept) and not all(kept)


def test_a_streamed_weight_is_not_changed(tiny, write):
    network = load_parts(write(tiny.original()), streamed=ALL).unet
    weight = next(iter(streamed_weights(network).values()))
    with pytest.raises(RuntimeError, match="cannot be changed"):
        weight.mul_(2)
    with pytest.raises(RuntimeError, match="cannot be changed"):
        weight.data = torch.zeros(1)
    assert type(copy.deepcopy(weight)) is nn.Parameter


def test_numbers_that_are_none_are_found_when_they_are_read(tiny, write):
    tensors = tiny.original()
    name = max((n for n in tensors if n.startswith("model.diffusion_model.")), key=lambda n: tensors[n].numel())
    tensors[name] = torch.full_like(tensors[name], torch.nan)
    network = load_parts(write(tensors), streamed=ALL).unet
    with pytest.raises(SfumatoError, match="not finite; download it again"):
        for weight in network.parameters():
            weight + 0


def test_the_embedded_model_draws_the_same_picture():
    asked = {"seed": 3, "steps": 2, "width": 128, "height": 128}
    plain = sfumato.load()
    small = sfumato.load(memory=_least(plain.path))
    assert is_streamed(small.denoiser.network) and small.adapters.merge is False
    assert small.txt2img("a red heart", **asked).images[0] == plain.txt2img("a red heart", **asked).images[0]
    with pytest.warns(SfumatoWarning, match="memory was planned for pictures of 256x256"):
        small.stream("a red heart", seed=3, steps=1, width=320, height=320)
    with pytest.raises(SfumatoError, match="cannot be moved"):
        small.to(dtype=torch.float16)


def _least(path) -> int:
    """A limit that a model just keeps to: what is said of one that it cannot."""
    with pytest.raises(SfumatoError, match=r"takes at least .* give it more memory") as caught:
        memory_plan(path, memory="1M")
    return parse_memory(str(caught.value).split("at least ")[1].split(",")[0]) + 10**7


def test_what_is_kept_and_what_is_streamed():
    parts = {"unet": Part(1000, 500, 10), "vae": Part(200, 200, 10), "text": Part(300, 300, 10)}

    def fitted(room: int):
        return fit(parts, 100, lambda tile: 100 if tile is None else tile // 10, LIBRARY + 160 + room, "it").streamed

    assert fitted(1500) == {}
    assert fitted(1250) == {"text": 50}
    assert fitted(750) == {"unet": 500, "text": 50}
    assert fitted(400) == {"unet": 400, "vae": 0, "text": 0}
    tight = fit(parts, 10, lambda tile: 100 if tile is None else tile // 10, LIBRARY + 100, "it")
    assert tight.tile == 512 and tight.peak == tight.memory
    with pytest.raises(SfumatoError, match=r"it takes at least 0\.\d+ GB"):
        fit(parts, 100, lambda tile: 100, LIBRARY, "it")


@pytest.mark.parametrize(
    ("text", "size"),
    [("4G", 4 * 10**9), ("4.5 GB", 45 * 10**8), ("800m", 8 * 10**8), ("2GiB", 2 << 30), (17, 17), ("3e", None),
     ("", None), ("-1G", None), ("G", None), (True, None)],
)  # fmt: skip
def test_sizes(text, size):
    if size is not None:
        assert parse_memory(text) == size
        return
    with pytest.raises(SfumatoError, match="give a size such as 4G or 800M"):
        parse_memory(text)


def test_the_plan_is_printed(tiny, write):
    path = str(write(tiny.original(torch.float16)))
    whole = CliRunner().invoke(app, ["inspect", path, "--plan", "--memory", "100G"])
    assert "unet        loaded" in whole.stdout and "decoding    whole" in whole.stdout
    least = CliRunner().invoke(app, ["inspect", path, "--plan", "--memory", "1M"])
    assert least.exit_code != 0 and "give it more memory" in least.output
    alone = CliRunner().invoke(app, ["inspect", path, "--memory", "4G"])
    assert alone.exit_code != 0 and "add --plan" in alone.output
