"""Pixel upscalers: what their files are told to be, and what the networks make of pictures."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import tiny
from sfumato.errors import SfumatoError
from sfumato.loading.upscalers import load_upscaler
from sfumato.nets.rrdb import RRDBNet
from sfumato.nets.srvgg import SRVGGNetCompact
from sfumato.pipeline import pixel_upscaling as pixels
from sfumato.pipeline.pixel_upscaling import enlarged, resized

State = dict[str, Tensor]


def old_names(state: State, blocks: int, doublings: int) -> State:
    """The names of the first ESRGAN files, where layers are numbered, activations and enlargements included."""
    numbers = {"conv_first": "0", "conv_body": f"1.sub.{blocks}", "conv_up1": "3", "conv_up2": "6", "conv_up3": "9"}
    numbers["conv_hr"], numbers["conv_last"] = {0: ("2", "4"), 1: ("5", "7"), 2: ("8", "10"), 3: ("11", "13")}[
        doublings
    ]
    result = {}
    for name, tensor in state.items():
        layer, kind = name.rsplit(".", 1)
        inner = re.sub(r"body\.(\d+)\.rdb(\d)\.(conv\d)", r"1.sub.\1.RDB\2.\3.0", layer)
        result[f"model.{numbers.get(layer, inner)}.{kind}"] = tensor
    return result


def middle_names(state: State) -> State:
    """The names of ESRGAN's own later code."""
    words = (("conv_body", "trunk_conv"), ("body.", "RRDB_trunk."), ("rdb", "RDB"))
    words += (("conv_up", "upconv"), ("conv_hr", "HRconv"))
    result = {}
    for name, tensor in state.items():
        for ours, theirs in words:
            name = name.replace(ours, theirs)
        result[name] = tensor
    return result


def reference(state: State, x: Tensor, blocks: int, doublings: int) -> Tensor:
    """ESRGAN from the list of layers in its paper, on the numbered names."""

    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, state[f"model.{name}.weight"], state[f"model.{name}.bias"], padding=1)

    def dense(name: str, x: Tensor) -> Tensor:
        x1 = F.leaky_relu(conv(f"{name}.conv1.0", x), 0.2)
        x2 = F.leaky_relu(conv(f"{name}.conv2.0", torch.cat((x, x1), 1)), 0.2)
        x3 = F.leaky_relu(conv(f"{name}.conv3.0", torch.cat((x, x1, x2), 1)), 0.2)
        x4 = F.leaky_relu(conv(f"{name}.conv4.0", torch.cat((x, x1, x2, x3), 1)), 0.2)
        return conv(f"{name}.conv5.0", torch.cat((x, x1, x2, x3, x4), 1)) * 0.2 + x

    first = h = conv("0", x)
    for i in range(blocks):
        h = dense(f"1.sub.{i}.RDB3", dense(f"1.sub.{i}.RDB2", dense(f"1.sub.{i}.RDB1", h))) * 0.2 + h
    h = first + conv(f"1.sub.{blocks}", h)
    for i in range(doublings):
        h = F.leaky_relu(conv(str(3 * i + 3), h.repeat_interleave(2, 2).repeat_interleave(2, 3)), 0.2)
    return conv(str(3 * doublings + 4), F.leaky_relu(conv(str(3 * doublings + 2), h), 0.2))


def rrdb(doublings: int = 2, unshuffle: int = 1, blocks: int = 2) -> State:
    network = RRDBNet(3, 8, 4, blocks, doublings, unshuffle)
    tiny.randomise(network).conv_last.bias.fill_(0.5)  # colours around grey
    return network.state_dict()


def saved(path: Path, state: State, wrapper: str | None = None) -> Path:
    if path.suffix == ".safetensors":
        return tiny.write_file(path, state)
    torch.save({wrapper: state} if wrapper else state, path)
    return path


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("doublings", [0, 1, 2, 3])
def test_every_layout_of_names_is_the_network_of_the_paper(doublings: int, tmp_path: Path) -> None:
    state, x = rrdb(doublings), torch.rand(1, 3, 7, 9)
    old = old_names(state, 2, doublings)
    expected = reference(old, x, 2, doublings)
    files = {
        "new.pth": ("params_ema", state),
        "plain.pth": ("params", state),
        "bare.safetensors": (None, state),
        "old.pth": (None, old),
        "middle.pth": (None, middle_names(state)),
    }
    for name, (wrapper, tensors) in files.items():
        upscaler = load_upscaler(saved(tmp_path / name, tensors, wrapper), "cpu")
        assert upscaler.scale == 2**doublings and upscaler.name == Path(name).stem
        assert (upscaler.network(x) - expected).abs().max() <= 1e-5 * expected.abs().max(), name


@pytest.mark.parametrize(("unshuffle", "scale"), [(2, 2), (4, 1)])
def test_networks_that_begin_with_fewer_places(unshuffle: int, scale: int, tmp_path: Path) -> None:
    state, x = rrdb(2, unshuffle), torch.rand(1, 3, 8, 12)
    upscaler = load_upscaler(saved(tmp_path / "net.pth", state, "params_ema"), "cpu")
    expected = reference(old_names(state, 2, 2), F.pixel_unshuffle(x, unshuffle), 2, 2)
    assert (upscaler.scale, upscaler.multiple) == (scale, unshuffle)
    assert torch.allclose(upscaler.network(x), expected, atol=1e-5 * expected.abs().max().item())
    assert enlarged(picture(9, 7), upscaler).size == (9 * scale, 7 * scale)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_compact(scale: int, tmp_path: Path) -> None:
    state = tiny.randomise(SRVGGNetCompact(3, 8, 3, scale)).state_dict()
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, 1, 1), nn.PReLU(num_parameters=8)]
    for _ in range(3):
        layers += [nn.Conv2d(8, 8, 3, 1, 1), nn.PReLU(num_parameters=8)]
    theirs = nn.Sequential(*layers, nn.Conv2d(8, 3 * scale**2, 3, 1, 1), nn.PixelShuffle(scale))
    theirs.load_state_dict({name.removeprefix("body."): tensor for name, tensor in state.items()})
    x = torch.rand(1, 3, 6, 5)
    expected = theirs(x) + x.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    upscaler = load_upscaler(saved(tmp_path / "net.pth", state, "params"), "cpu")
    assert upscaler.scale == scale
    assert torch.allclose(upscaler.network(x), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["rrdb", "compact"])
def test_tiles_make_what_the_whole_makes(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = rrdb() if kind == "rrdb" else tiny.randomise(SRVGGNetCompact(3, 8, 3, 4)).state_dict()
    upscaler = load_upscaler(saved(tmp_path / "net.pth", state), "cpu")
    image = picture(70, 20)
    whole = np.asarray(enlarged(image, upscaler), int)
    monkeypatch.setattr(pixels, "SIDE", 16)
    tiled = np.asarray(enlarged(image, upscaler), int)
    assert whole.shape == tiled.shape == (80, 280, 3) and whole.std() > 10
    assert np.abs(whole - tiled).max() <= 1  # rounding


def test_any_size_is_reached(tmp_path: Path) -> None:
    upscaler = load_upscaler(saved(tmp_path / "net.pth", rrdb(1)), "cpu")
    assert resized(picture(10, 6), 35, 21, upscaler).size == (35, 21)
    assert resized(picture(10, 6), 10, 6, upscaler).size == (10, 6)
    assert resized(picture(10, 6), 20, 12).size == (20, 12)
    once = load_upscaler(saved(tmp_path / "one.pth", rrdb(0)), "cpu")
    assert resized(picture(10, 6), 20, 12, once).size == (20, 12)


def test_half_precision_and_its_end(tmp_path: Path) -> None:
    state = rrdb()
    file = saved(tmp_path / "net.safetensors", {name: tensor.half() for name, tensor in state.items()})
    full, half = load_upscaler(file, "cpu"), load_upscaler(file, "cpu", "bfloat16")
    image = picture(12, 12)
    assert np.abs(np.asarray(enlarged(image, full), int) - np.asarray(enlarged(image, half), int)).max() <= 24
    loud = saved(tmp_path / "loud.pth", {name: 200 * tensor for name, tensor in state.items()})
    with pytest.raises(SfumatoError, match="load it as float32"):
        enlarged(image, load_upscaler(loud, "cpu", "float16"))


def without(state: State, *names: str) -> State:
    return {name: tensor for name, tensor in state.items() if name not in names}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: without(rrdb(), "conv_hr.bias"), "1 missing (conv_hr.bias)"),
        (lambda: without(rrdb(), "conv_first.weight"), "no whole upscaler of the ESRGAN kind"),
        (lambda: rrdb() | {"more.weight": torch.ones(2)}, "1 left over (more.weight)"),
        (lambda: rrdb() | {"conv_first.weight": torch.ones(8, 4, 3, 3)}, "from 4 channels to 3"),
        (lambda: rrdb() | {"conv_hr.bias": torch.full((8,), torch.nan)}, "not finite"),
        (lambda: {"body.0.weight": torch.ones(8, 3, 3, 3), "body.1.weight": torch.ones(8)}, "no whole compact"),
        (lambda: {"layers.0.residual_group.a": torch.ones(2, 2), "b": torch.ones(1)}, "pip install spandrel"),
    ],
)
def test_what_is_no_whole_upscaler_is_refused(
    make: Callable[[], State], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(SfumatoError, match=re.escape(message)) as caught:
        load_upscaler(saved(tmp_path / "net.pth", make()), "cpu")
    assert "\n" not in str(caught.value)


def test_models_that_draw_are_no_pixel_upscalers(model: str) -> None:
    with pytest.raises(SfumatoError, match=r"is Stable Diffusion 1\.x; give it as the model"):
        load_upscaler(model, "cpu")


class Descriptor:
    """As spandrel describes a network."""

    scale, input_channels = 3, 3

    def __init__(self, state: State):
        self.state = state

    def to(self, device: torch.device) -> "Descriptor":
        return self

    def eval(self) -> "Descriptor":
        return self

    def __call__(self, x: Tensor) -> Tensor:
        return self.state["gain"] * F.interpolate(x, scale_factor=3)


def test_others_are_left_to_spandrel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Loader:
        def __init__(self, device: torch.device):
            pass

        def load_from_state_dict(self, state: State) -> Descriptor:
            if "gain" not in state:
                raise RuntimeError("unsupported")
            return Descriptor(state)

    fake = SimpleNamespace(ModelLoader=Loader, ImageModelDescriptor=Descriptor)
    monkeypatch.setitem(sys.modules, "spandrel", fake)
    upscaler = load_upscaler(saved(tmp_path / "a.pth", {"gain": torch.ones(1), "b": torch.ones(1)}, "params"), "cpu")
    assert upscaler.scale == 3
    image = picture(5, 4)
    assert np.array_equal(enlarged(image, upscaler), np.asarray(image).repeat(3, 0).repeat(3, 1))
    with pytest.raises(SfumatoError, match="no upscaler that spandrel knows"):
        load_upscaler(saved(tmp_path / "b.pth", {"c": torch.ones(1), "d": torch.ones(1)}), "cpu")
