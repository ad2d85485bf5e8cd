"""Pixel upscalers from their files: networks of the ESRGAN kind are ours, others are left to spandrel where it is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.checkpoint.keymap import Shapes, rename
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.loading.detect import identify
from sfumato.loading.load import checked, fill_alone
from sfumato.nets.rrdb import RRDBNet
from sfumato.nets.srvgg import SRVGGNetCompact
from sfumato.runtime.device import choose_device, choose_dtype

WRAPPERS = ("params_ema.", "params.", "")  # of a training's file the averaged weights
FOREIGN_HALO = 32
# Convolutions of an RRDBNet reach 15 pixels further with every block, but what a block adds counts for a fifth of a
# fifth: with random weights a pixel 32 places away weighs 1e-13 of the nearest, far below float32's rounding.
RRDB_HALO = 32

Layout = Callable[[str], str]
"""From our name of a parameter to the file's."""


@dataclass(frozen=True, eq=False)
class PixelUpscaler:
    """A network that makes (B, 3, scale h, scale w) of pictures (B, 3, h, w) in [0, 1].

    `halo` is how many pixels around a place count for it; sides must be multiples of `multiple`.
    """

    name: str
    network: Callable[[Tensor], Tensor] = field(repr=False)
    scale: int
    halo: int
    device: torch.device
    dtype: torch.dtype
    multiple: int = 1


def load_upscaler(
    path: str | Path, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None
) -> PixelUpscaler:
    """Load a file of an ESRGAN (RRDB, in any of its three layouts of names), a compact SRVGG, or what spandrel knows.

    Nothing in the file is executed. Raises SfumatoError for a file that is broken, not whole, or no such network.
    """
    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    with open_checkpoint(path) as checkpoint:
        prefix = next(one for one in WRAPPERS if any(name.startswith(one) for name in checkpoint.tensors))
        own = {name.removeprefix(prefix): one for name, one in checkpoint.tensors.items() if name.startswith(prefix)}
        checkpoint = replace(checkpoint, tensors=own)
        name = checkpoint.path.stem
        found = _rrdb(checkpoint) or _compact(checkpoint)
        if found is None:
            return _foreign(checkpoint, name, where)
        network, layout = found
        rules = rename(network.state_dict(), layout)
        fill_alone(network, rules, checkpoint, "upscaler of the ESRGAN kind", precision, where)
        if isinstance(network, RRDBNet):
            scale = 2 ** len(network.doublings) // network.unshuffle
            return PixelUpscaler(name, network, scale, _reach(network), where, precision, network.unshuffle)
        return PixelUpscaler(name, network, network.scale, len(network.body) // 2 + 1, where, precision)


def _reach(network: RRDBNet) -> int:
    reach = 15 * len(network.body) + 3 + len(network.doublings)
    return min(reach, RRDB_HALO) * network.unshuffle


def _same(name: str) -> str:
    return name


def _of_esrgan(name: str) -> str:
    """As the authors of ESRGAN named the layers at last."""
    name = re.sub(r"^body\.(\d+)\.rdb", r"RRDB_trunk.\1.RDB", name)
    return name.replace("conv_body", "trunk_conv").replace("conv_up", "upconv").replace("conv_hr", "HRconv")


def _by_place(blocks: int, doublings: int) -> Layout:
    """As the first files number the layers of one long sequence."""
    places = {"conv_first": "0", "conv_body": f"1.sub.{blocks}"}
    places |= {f"conv_up{i}": f"{3 * i}" for i in range(1, doublings + 1)}
    places |= {"conv_hr": f"{3 * doublings + 2}", "conv_last": f"{3 * doublings + 4}"}

    def named(name: str) -> str:
        if block := re.fullmatch(r"body\.(\d+)\.rdb(\d)\.(conv\d)\.(\w+)", name):
            return "model.1.sub.{}.RDB{}.{}.0.{}".format(*block.groups())
        layer, _, kind = name.rpartition(".")
        return f"model.{places[layer]}.{kind}"

    return named


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different numbers stand where the pattern has its group."""
    return len({match[1] for name in shapes if (match := re.match(pattern, name))})


def _rrdb(checkpoint: Checkpoint) -> tuple[RRDBNet, Layout] | None:
    """The network that the shapes tell, on the meta device, and how its file names it. None for another network."""
    shapes = checkpoint.shapes
    layout: Layout = _same
    if "body.0.rdb1.conv1.weight" in shapes:
        blocks, doublings = _count(shapes, r"body\.(\d+)\."), _count(shapes, r"conv_up(\d)\.")
    elif "RRDB_trunk.0.RDB1.conv1.weight" in shapes:
        blocks, doublings, layout = _count(shapes, r"RRDB_trunk\.(\d+)\."), _count(shapes, r"upconv(\d)\."), _of_esrgan
    elif "model.1.sub.0.RDB1.conv1.0.weight" in shapes:
        blocks = _count(shapes, r"model\.1\.sub\.(\d+)\.RDB")
        doublings = _count(shapes, r"model\.(\d+)\.weight") - 3  # the first layer and the last two
        layout = _by_place(blocks, doublings)
    else:
        return None
    try:
        width, seen = shapes[layout("conv_first.weight")][:2]
        channels = shapes[layout("conv_last.weight")][0]
        growth = shapes[layout("body.0.rdb1.conv1.weight")][0]
    except (LookupError, ValueError) as error:
        raise SfumatoError(f"{checkpoint.path} is no whole upscaler of the ESRGAN kind; download it again") from error
    unshuffle = math.isqrt(seen // max(channels, 1))
    if channels != 3 or seen != channels * unshuffle**2 or unshuffle not in (1, 2, 4) or unshuffle > 2**doublings:
        raise SfumatoError(
            f"{checkpoint.path} is an ESRGAN from {seen} channels to {channels}; one from and to 3 colours is expected"
        )
    with torch.device("meta"):
        return RRDBNet(channels, width, growth, blocks, doublings, unshuffle), layout


def _compact(checkpoint: Checkpoint) -> tuple[SRVGGNetCompact, Layout] | None:
    shapes = checkpoint.shapes
    first, rectifier = shapes.get("body.0.weight", ()), shapes.get("body.1.weight", ())
    if len(first) != 4 or len(rectifier) != 1:
        return None
    last = _count(shapes, r"body\.(\d+)\.weight") - 1
    out = shapes.get(f"body.{last}.weight", (0,))[0]
    scale = math.isqrt(out // 3)
    if last < 2 or last % 2 or first[1] != 3 or not scale or out != 3 * scale**2:
        raise SfumatoError(f"{checkpoint.path} is no whole compact upscaler for 3 colours; download it again")
    with torch.device("meta"):
        return SRVGGNetCompact(3, first[0], last // 2 - 1, scale), _same


def _foreign(checkpoint: Checkpoint, name: str, device: torch.device) -> PixelUpscaler:
    """What spandrel makes of the tensors, in float32, which every network can."""
    identity = identify(checkpoint)
    if identity.family is not None:
        raise SfumatoError(f"{checkpoint.path} is {identity.title}; give it as the model, and here a pixel upscaler")
    try:
        import spandrel
    except ImportError:
        advice = "ESRGAN and compact (SRVGG) upscalers are read here, many others after `pip install spandrel`"
        raise SfumatoError(f"{checkpoint.path} is {identity.title}; {advice}") from None
    state = {key: checked(stored, key) for key, stored in checkpoint.tensors.items()}
    try:
        found = spandrel.ModelLoader(device=device).load_from_state_dict(state)
    except Exception as error:  # a class of its own for what it does not know, any for a file that is broken
        raise SfumatoError(f"{checkpoint.path} is no upscaler that spandrel knows; give another one") from error
    if not isinstance(found, spandrel.ImageModelDescriptor) or found.input_channels != 3:
        raise SfumatoError(f"{checkpoint.path} is no upscaler of pictures in 3 colours; give another one")
    found = found.to(device).eval()
    return PixelUpscaler(name, found, found.scale, FOREIGN_HALO, device, torch.float32)
