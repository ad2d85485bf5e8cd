"""Files of LoRAs and their kin, under the names that trainers and programs of others have for layers.

"kohya" writes what kohya's sd-scripts write: `lora_unet_` and `lora_te_` before names in which dots are underscores.
1.x and 2.x are named as in diffusers' folders, later releases as in their original files; of a product that those keep
of query, key and value in one, the three differences are joined in one of three times the rank. "peft" writes the names
that diffusers and peft read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save
from torch import Tensor

from sfumato.adapters.components import ENDINGS
from sfumato.adapters.layer_names import TEXTS
from sfumato.adapters.learned import Difference, Differences, Shape
from sfumato.checkpoint.keymap import Rule
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.files import atomic_write
from sfumato.spec import Spec

Layout = Literal["kohya", "peft"]
FOLDERS = {"text": "text_encoder", "text_2": "text_encoder_2", "text_3": "text_encoder_3"}
ALONE = "lora_transformer_"  # before names of diffusers, for what cannot be joined as original files are
# The first ending that files may have for a component is the one that is written.
ENDING = {component: ending for ending, component in reversed(ENDINGS.items())}
LEGACY = slice(1 << 20, (1 << 20) + (1 << 16))  # the bytes of which the web UI's older hash is made


def tensors(spec: Spec, parts: Mapping[str, Differences], layout: Layout, dtype: torch.dtype) -> dict[str, Tensor]:
    """Returns the tensors of a file that holds the differences of a model's parts, on the CPU.

    Raises SfumatoError for kinds of differences that the layout has no names for.
    """
    result: dict[str, Tensor] = {}
    for part, differences in parts.items():
        held = dict(differences.by_path())
        if layout == "peft":
            result |= _peft(FOLDERS.get(part, part), held)
        elif part in TEXTS or _named_as_in_folders(spec):
            result |= _own_names(_prefix(spec, part), held)
        else:
            result |= _original_names(spec, part, held)
    return {name: value.to("cpu", dtype).contiguous() for name, value in result.items()}


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes a file with both hashes by which web UIs know a LoRA, of the tensors (`sshs_model_hash`) and the older."""
    plain = save(dict(tensors), dict(metadata))
    data = 8 + int.from_bytes(plain[:8], "little")
    hashes = {
        "sshs_model_hash": hashlib.sha256(plain[data:]).hexdigest(),
        "sshs_legacy_hash": hashlib.sha256(plain[LEGACY]).hexdigest()[:8],
    }
    with atomic_write(path) as file:
        file.write(save(dict(tensors), {**metadata, **hashes}))


def described(shape: Shape) -> dict[str, str]:
    """Returns what kohya's files say of the network: its module, rank, alpha, and arguments as JSON."""
    plain = shape.kind == "lora"
    given: dict[str, str] = {} if plain else {"algo": "lora" if shape.kind == "dora" else shape.kind}
    if shape.kind == "dora":
        given["dora_wd"] = "True"
    if shape.conv_rank:
        given |= {"conv_dim": str(shape.conv_rank), "conv_alpha": f"{shape.conv_alpha or shape.conv_rank:g}"}
    return {
        "ss_network_module": "networks.lora" if plain else "lycoris.kohya",
        "ss_network_dim": str(shape.rank),
        "ss_network_alpha": f"{shape.alpha or shape.rank:g}",
        "ss_network_args": json.dumps(given),
    }


def _prefix(spec: Spec, part: str) -> str:
    """What kohya's names of a part begin with; a text encoder that is the only one has no number."""
    if part not in TEXTS:
        return "lora_unet_"
    alone = spec.text_2 is None and spec.text_3 is None
    return "lora_te_" if alone else f"lora_te{1 + TEXTS.index(part)}_"


def _named_as_in_folders(spec: Spec) -> bool:
    """Whether kohya names the layers of the network that draws as diffusers does, as for 1.x and 2.x."""
    return spec.transformer is None and spec.unet.vector_dim is None


def _own_names(prefix: str, held: Mapping[str, Difference]) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    for path, difference in held.items():
        result |= _named(prefix + path.replace(".", "_"), difference.components())
    return result


def _peft(folder: str, held: Mapping[str, Difference]) -> dict[str, Tensor]:
    """Names of peft, which takes alpha for the rank where nothing is said; so the scale is in the factors."""
    result: dict[str, Tensor] = {}
    for path, difference in held.items():
        if difference.kind != "lora":
            raise SfumatoError(f"peft's layout is for LoRA, not for {difference.kind}; choose layout 'kohya'")
        up, down = difference.get_parameter("up").detach(), difference.get_parameter("down").detach()
        result[f"{folder}.{path}.lora_A.weight"] = down
        result[f"{folder}.{path}.lora_B.weight"] = up * (difference.alpha / difference.rank)
    return result


def _original_names(spec: Spec, part: str, held: Mapping[str, Difference]) -> dict[str, Tensor]:
    layout = family(spec.family).layouts["original"]
    state = family(spec.family).build(spec)[part].state_dict()
    before = layout.prefixes[part]
    result: dict[str, Tensor] = {}
    for rule in layout.rules(spec, part, state):
        paths = [name.removesuffix(".weight") for name in rule.ours]
        some = {path: held[path] for path in paths if path in held}
        if not some:
            continue
        name = rule.theirs[0].removeprefix(before).removesuffix(".weight").replace(".", "_")
        if rule.transform.name == "identity" and len(paths) == 1:
            result |= _named(f"lora_unet_{name}", some[paths[0]].components())
        elif all(one.kind == "lora" for one in some.values()):
            rows = {path: len(state[name]) for path, name in zip(paths, rule.ours, strict=True)}
            result |= _named(f"lora_unet_{name}", _joined(rule, some, rows))
        else:
            result |= _own_names(ALONE, some)
    return result


def _named(layer: str, components: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{layer}.{ENDING[component]}": value for component, value in components.items()}


def _joined(rule: Rule, some: Mapping[str, Difference], rows: Mapping[str, int]) -> dict[str, Tensor]:
    """One LoRA of what is one product in theirs and several in ours, of so many `rows` each.

    Each keeps its own columns of `up` and its own rows of `down`.
    """
    rank = sum(one.rank for one in some.values())
    ups, downs, start = [], [], 0
    for path, height in rows.items():
        up = torch.zeros(height, rank)
        if path in some:
            one = some[path]
            own, down = (one.get_parameter(name).detach().float().cpu().flatten(1) for name in ("up", "down"))
            up[:, start : start + one.rank] = own * (one.alpha / one.rank)
            downs.append(down)
            start += one.rank
        ups.append(up)
    (up,) = rule.transform.to_theirs(ups)
    return {"up": up, "down": torch.cat(downs), "alpha": torch.tensor(float(rank))}
