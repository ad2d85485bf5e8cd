"""LoRA: files added to a small U-Net, merged and not, and the names of layers that trainers write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from sfumato.adapters.components import by_layer
from sfumato.adapters.file import AdapterFile
from sfumato.adapters.layer_names import layer_names
from sfumato.adapters.made_for import made_for
from sfumato.adapters.merged import merged
from sfumato.adapters.use import Use
from sfumato.diffusion.cond import Cond
from sfumato.families import family
from sfumato.families.layouts import ldm_unet
from sfumato.spec import Spec
from sfumato.verify.cases import Case, Result, close, counted, failed, listed, read_json, read_tensors, stem, strangers
from sfumato.verify.tiny import small_unet

INDEX = "tiny_lora.json"


def find(folder: Path) -> Iterator[Case]:
    known: set[str] = set()
    if (folder / INDEX).is_file():
        known.add(INDEX)
        yield from listed(folder / INDEX, "lora/tiny", lambda path: _tiny(folder, read_json(path), known))
    for path in sorted(folder.glob("*.json.gz")):
        known.add(path.name)
        yield from listed(path, f"lora/{stem(path)}", _names)
    yield from strangers(folder, known)


def _tiny(folder: Path, content: Mapping[str, Any], known: set[str]) -> Iterator[Case]:
    known |= {content["io"], "tiny_unet.safetensors"}
    tolerance = float(content["tolerance"].split()[0])
    yield Case("lora/tiny/base", partial(_drawn, folder, content, None, "base", tolerance))
    for name, entry in content["cases"].items():
        known.add(entry["lora_file"])
        yield Case(f"lora/tiny/{name}", partial(_drawn, folder, content, entry, name, tolerance))
        yield Case(f"lora/tiny/{name}/names", partial(_mapped, folder, content, entry["module_map"]))


def _model(folder: Path, content: Mapping[str, Any]) -> tuple[nn.Module, Spec]:
    unet = small_unet(read_tensors(folder / "tiny_unet.safetensors"), content["unet_config"])
    return unet, replace(family("sd1").spec, unet=unet.cfg)


def _drawn(
    folder: Path, content: Mapping[str, Any], entry: Mapping[str, Any] | None, name: str, tolerance: float
) -> Result:
    """The U-Net's output with a LoRA's file at its strength, or without any."""
    unet, spec = _model(folder, content)
    tensors = read_tensors(folder / content["io"])
    if entry is not None:
        use = Use(AdapterFile.open(folder / entry["lora_file"]), float(entry["multiplier"]))
        unet = merged(unet, "unet", (use,), spec)
    output = unet(tensors["in.x"], tensors["in.t"], Cond(tensors["in.context"]))
    return close([(output, tensors[f"out.{name}"])], tolerance)


def _mapped(folder: Path, content: Mapping[str, Any], modules: Mapping[str, str]) -> Result:
    """Which module of the original U-Net every name of a LoRA's layer means."""
    unet, spec = _model(folder, content)
    theirs = {
        rule.ours[0]: rule.theirs[0].removesuffix(".weight")
        for rule in ldm_unet.rules(spec.unet, unet.state_dict(), "")
    }
    known = layer_names(spec)
    found = {name: known.find(name, "weight") for name in modules}
    wrong = [name for name, layer in found.items() if layer is None or theirs[layer.rule.ours[0]] != modules[name]]
    return counted(len(wrong), len(modules), ", ".join(wrong[:3]))


def _names(path: Path) -> Iterator[Case]:
    content = read_json(path)
    for title in ("keys", "keys_peft_format", "keys_diffusers_format"):
        if title in content:
            shapes = {name: tuple(shape) for name, (shape, _) in content[title].items()}
            yield Case(f"lora/{stem(path)}/{title}", partial(_known, shapes))


def _known(shapes: Mapping[str, tuple[int, ...]]) -> Result:
    """Every layer of a full-size file is one of a family's, and of its shape."""
    spec = made_for(shapes, {})
    if spec is None:
        return failed("no family has these layers")
    layers, others = by_layer(shapes)
    known = layer_names(spec)
    lost = [name for name in layers if known.find(name, "weight") is None] + others
    return counted(len(lost), len(layers), ", ".join(lost[:3]))
