"""ControlNets, control-LoRAs and T2I-Adapters from their files, for the model that they are to steer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.checkpoint.keymap import KeyMap, Rule, Shapes, holds, rename
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.families.layouts import controlnet as layout
from sfumato.loading.detect import identify
from sfumato.loading.load import Plan, checked, differences, fill
from sfumato.nets.controlled import Control, inner
from sfumato.nets.controlnet import ControlNet, MMDiTControlNet, T2IAdapter
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.unet import UNet
from sfumato.spec import UNetConfig

PREFIXES = ("control_model.", "controlnet.", "adapter.", "")
UNETS = {
    768: "Stable Diffusion 1.x",
    1024: "Stable Diffusion 2.x",
    2048: "Stable Diffusion XL",
}  # by their text's width
# The kinds of hints of ControlNet-Union, in the order of its authors; ProMax has the last two as well.
UNION_KINDS = ("openpose", "depth", "soft edge", "edges", "normal", "segmentation", "tile", "inpaint")


@dataclass(frozen=True, eq=False)
class ControlModel:
    """A network that steers another by a hint. `title` is a noun phrase.

    Of a transformer's: `shift` says whether its hint's latents are shifted as the model's own, `canny` whether its
    edges are as bright as its authors made them.
    """

    name: str
    title: str
    path: Path
    network: Control = field(repr=False)
    shift: bool = True
    canny: bool = False


@dataclass(frozen=True)
class _Found:
    """What a file holds: its kind, what stands before its names, and whether these are diffusers'."""

    kind: str
    prefix: str
    folder: bool


TITLES = {
    "unet": "a ControlNet",
    "lora": "a control-LoRA",
    "difference": "a ControlNet as the difference to its model",
    "union": "a ControlNet-Union",
    "t2i": "a T2I-Adapter",
    "mmdit": "a ControlNet for Stable Diffusion 3",
}


def control_title(shapes: Shapes) -> str | None:
    """What a file is, as a noun phrase, if it is one that `load_control` reads; else None."""
    found = _found(shapes)
    return None if found is None else TITLES[found.kind]


def _found(shapes: Shapes) -> _Found | None:
    prefix = next(one for one in PREFIXES if not one or holds(shapes, one))
    names = {name.removeprefix(prefix) for name in shapes if name.startswith(prefix)}
    if layout.LORA in shapes:
        return _Found("lora", prefix, False)
    if "pos_embed_input.proj.weight" in names:
        return _Found("mmdit", prefix, "transformer_blocks.0.attn.qkv.weight" not in names)
    if "task_embedding" in names:
        return _Found("union", prefix, f"{layout.FOLDER_HINT}.conv_in.weight" in names)
    if f"{layout.FOLDER_HINT}.conv_in.weight" in names:
        return _Found("unet", prefix, True)
    if f"{layout.HINT}.0.weight" in names:
        return _Found("difference" if layout.DIFFERENCE in shapes else "unet", prefix, False)
    if "body.0.resnets.0.block1.weight" in names:
        return _Found("t2i", prefix, True)
    if names & {"body.0.block1.weight", "body.0.body.0.block1.weight"}:
        return _Found("t2i", prefix, False)
    return None


def load_control(
    path: str | Path, base: nn.Module, device: torch.device | str = "cpu", dtype: torch.dtype | None = torch.float32
) -> ControlModel:
    """Load the ControlNet, control-LoRA or T2I-Adapter of a file or folder, for the network `base` that draws.

    A control-LoRA shares the weights of `base` that it leaves as they are, and so must not outlive a change of them.
    Nothing in the file is executed. Raises SfumatoError for a file that is broken, not whole, no such network, or made
    for another model.
    """
    drawing = inner(base)
    with open_checkpoint(path) as checkpoint:
        found = _found(checkpoint.shapes)
        if found is None:
            raise SfumatoError(f"{checkpoint.path} is {identify(checkpoint).title}; give a ControlNet or a T2I-Adapter")
        title = TITLES[found.kind]
        if isinstance(drawing, MMDiT) != (found.kind == "mmdit") or not isinstance(drawing, MMDiT | UNet):
            what = "a transformer (Stable Diffusion 3)" if isinstance(drawing, MMDiT) else "a U-Net"
            raise SfumatoError(f"{checkpoint.path} is {title}, and this model draws with {what}; give one made for it")
        try:
            network, rules = _built(checkpoint, found, drawing)
        except (LookupError, ValueError) as error:
            text = f"is {title}, but its sizes cannot be read ({error.args[0]}); it is not whole"
            raise SfumatoError(f"{checkpoint.path} {text}") from error
        _check_fit(checkpoint.path, title, network, drawing)
        if found.kind in ("lora", "difference"):
            _change_copy(network, rules, checkpoint, found, drawing, dtype, torch.device(device))
        else:
            _load(network, _keymap(network, rules, found.prefix), checkpoint, title, dtype, torch.device(device))
        checkpoint.check_unchanged()
        return ControlModel(_name(checkpoint.path), title, checkpoint.path, network, **_told(checkpoint, network))


def _name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _built(checkpoint: Checkpoint, found: _Found, base: nn.Module) -> tuple[Control, list[Rule]]:
    """The network on the meta device, and how its file names its tensors."""
    shapes, prefix, stated = checkpoint.shapes, found.prefix, checkpoint.configs.get("config", {})
    with torch.device("meta"):
        if isinstance(base, MMDiT):
            sizes = layout.mmdit_sizes(shapes, prefix, base.cfg)
            zero = found.folder and stated.get("force_zeros_for_pooled_projection", sizes.joint) is True
            network: Control = MMDiTControlNet(replace(sizes, zero_pooled=zero))
            names = network.state_dict()
            plain = rename(names, lambda name: prefix + name)
            return network, plain if found.folder else layout.mmdit_rules(sizes, names, prefix)
        assert isinstance(base, UNet)
        if found.kind == "t2i":
            adapter = layout.t2i_sizes(shapes, prefix, found.folder)
            network = T2IAdapter(adapter)
            names = network.state_dict()
            plain = rename(names, lambda name: prefix + name)
            return network, plain if found.folder else layout.t2i_rules(adapter, names, prefix)
        if found.kind == "lora":
            cfg = layout.lora_sizes(shapes, prefix, base.cfg)
        else:
            cfg = layout.unet_sizes(shapes, prefix, base.cfg, found.folder)
        pooled = stated.get("global_pool_conditions", "shuffle" in _name(checkpoint.path).lower()) is True
        network = ControlNet(replace(cfg, pooled=pooled))
        names = network.state_dict()
        plain = rename(names, lambda name: prefix + name)
        return network, plain if found.folder else layout.unet_rules(cfg, names, prefix)


def _check_fit(path: Path, title: str, network: Control, base: nn.Module) -> None:
    """Raise SfumatoError for a network that was made for another model than the one with `base`."""
    if isinstance(network, MMDiTControlNet):
        assert isinstance(base, MMDiT)
        made, own = network.control, base.cfg
        reads = made.transformer.context_dim if made.joint else own.context_dim
        if (made.width, reads) != (own.hidden, own.context_dim):
            sizes = f"a transformer of width {made.width} that reads {reads} numbers a token"
            this = f"this model's has width {own.hidden} and reads {own.context_dim}"
            raise SfumatoError(f"{path} is {title}, made for {sizes}; {this}")
        return
    assert isinstance(base, UNet)
    if isinstance(network, T2IAdapter):
        levels = network.control.channels
        maps = (*base.cfg.channels, base.cfg.channels[-1])[: len(levels)]
        if levels != maps:
            given = f"{'Stable Diffusion XL' if network.control.unshuffle == 16 else 'Stable Diffusion 1.x'} {levels}"
            raise SfumatoError(f"{path} is {title}, made for a U-Net of {given}; this model's has {base.cfg.channels}")
        return
    theirs, ours = network.cfg, base.cfg
    facts = ("channels", "blocks", "context_dim", "vector_dim")
    if any(getattr(theirs, fact) != getattr(ours, fact) for fact in facts):
        raise SfumatoError(f"{path} is {title}, made for {_line(theirs)}; this model is {_line(ours)}")


def _line(cfg: UNetConfig) -> str:
    known = UNETS.get(cfg.context_dim, "a U-Net")
    return f"{known} (channels {'-'.join(map(str, cfg.channels))}, text of width {cfg.context_dim})"


def _told(checkpoint: Checkpoint, network: Control) -> dict[str, bool]:
    """How the hint of a transformer's ControlNet is encoded; see `ControlModel`."""
    if not isinstance(network, MMDiTControlNet):
        return {}
    kind = checkpoint.tensors.get(layout.CONTROL_TYPE)
    eight_billions = not network.control.own_patches and network.control.own_pooled
    canny = kind is not None and round(kind.read().flatten()[0].item()) == layout.CANNY
    named = kind is None and "canny" in _name(checkpoint.path).lower()
    return {"shift": not network.control.zero_pooled, "canny": eight_billions and (canny or named)}


def _keymap(network: Control, rules: Iterable[Rule], prefix: str) -> KeyMap:
    ignored = [layout.CONTROL_TYPE]
    if prefix:  # a file of its training holds the model as well
        ignored.append(rf"(?!{re.escape(prefix)}).*")
    if isinstance(network, MMDiTControlNet) and not network.control.own_patches:
        ignored.append(r"(pos_embed|x_embedder)\..*")
    aliases = layout.SINGLE_ALIASES if isinstance(network, MMDiTControlNet) else ()
    return KeyMap({"network": tuple(rules)}, tuple(ignored), aliases)


def _load(
    network: Control,
    keymap: KeyMap,
    checkpoint: Checkpoint,
    title: str,
    dtype: torch.dtype | None,
    device: torch.device,
) -> None:
    expected = {name: tuple(like.shape) for name, like in keymap.to_theirs("network", network.state_dict()).items()}
    match = keymap.match(expected, checkpoint.shapes)
    if not match.complete:
        raise SfumatoError(f"{checkpoint.path} is {title}, but no whole one: {differences(match)}")
    fill(network, "network", Plan({"network": network}, keymap, match), checkpoint, dtype, device)


def _change_copy(
    network: Control,
    rules: list[Rule],
    checkpoint: Checkpoint,
    found: _Found,
    base: nn.Module,
    dtype: torch.dtype | None,
    device: torch.device,
) -> None:
    """Give a network the weights of `base` as its file changes them.

    A control-LoRA holds tensors of its own, two factors of a change (`.up`, `.down`), or nothing where the copy stays
    as it is. The other kind of file holds the difference to every tensor of the copy.
    """
    shared, stored = base.state_dict(), checkpoint.tensors
    used, wrong = {layout.LORA, layout.DIFFERENCE}, []
    state: dict[str, Tensor] = {}
    for rule in rules:
        (name,), (theirs,) = rule.ours, rule.theirs
        layer = theirs.removesuffix(".weight")
        factors = [f"{layer}.{side}" for side in ("up", "down")]
        shape, old = network.state_dict()[name].shape, shared.get(name)
        value: Tensor | None
        if theirs in stored:
            used.add(theirs)
            value = checked(stored[theirs], theirs)
            if found.kind == "difference" and old is not None and old.shape == value.shape:
                value = old.to(value.device, torch.float32) + value.float()
        elif old is not None and all(one in stored for one in factors):
            used.update(factors)
            up, down = (checked(stored[one], one).float().flatten(1) for one in factors)
            value = old.cpu().float() + (up @ down).view(old.shape) if up.shape[1] == len(down) else up
        else:
            value = old
        if value is None or value.shape != shape:
            wrong.append(theirs)
        else:
            state[name] = value.to(device, dtype or value.dtype)
    left = [name for name in stored if name not in used and not name.startswith("model.")]
    if wrong or left:
        lists = (("missing or of another shape", wrong), ("left over", left))
        text = "; ".join(f"{len(names)} {what} ({', '.join(names[:5])})" for what, names in lists if names)
        raise SfumatoError(f"{checkpoint.path} is {TITLES[found.kind]} that does not fit this model: {text}")
    network.load_state_dict(state, strict=True, assign=True)
    network.eval().requires_grad_(False)
