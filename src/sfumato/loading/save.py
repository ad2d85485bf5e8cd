"""Writing a model as the folder of a diffusers pipeline."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.checkpoint.formats import safetensors_file
from sfumato.checkpoint.open import DEFAULTS
from sfumato.errors import SfumatoError
from sfumato.families import Family, family
from sfumato.files import atomic_write
from sfumato.spec import CLIPTextConfig, Spec
from sfumato.text.tokenizer import CLIPTokenizer

DIFFUSERS = "0.29.0"  # the first whose folders may hold any of our families
MAX_FILE = 10 * 10**9  # bytes; diffusers' own limit
DENOISERS = ("unet", "transformer")
ENTRY = 256  # bytes that the header of a file may take for one tensor


@dataclass(frozen=True)
class Entry:
    """A tensor to be written; `make` reads or computes its values when their turn comes."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Tensor]

    @property
    def nbytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def save_folder(
    path: str | Path,
    spec: Spec,
    networks: Mapping[str, nn.Module],
    tokenizer_folder: str | Path | CLIPTokenizer | None = None,
    dtype: torch.dtype = torch.float32,
    max_file_size: int = MAX_FILE,
    in_eight_bits: Container[str] = (),
    t5_tokenizer: Path | None = None,
) -> None:
    """Write a model of any family that diffusers (and `load_parts`) opens.

    `tokenizer_folder` may be a tokenizer itself, None stands for CLIP's own; `t5_tokenizer` is the file of T5's.
    `dtype` is that of the files, but for the tensors `in_eight_bits` (by their names in this layout), which are stored
    as float8_e4m3fn. Weights beyond `max_file_size` bytes are split over several files. model_index.json is written
    last, so that a half-written folder is not taken for a model. Raises SfumatoError when the folder cannot be written,
    the model cannot be said in this layout, or a weight does not fit in `dtype`.
    """
    owner = family(spec.family)
    layout = owner.layouts["diffusers"]
    spec = layout.fit(spec, {})
    if isinstance(tokenizer_folder, CLIPTokenizer):
        tokenizer = tokenizer_folder
    else:
        tokenizer = CLIPTokenizer.openai() if tokenizer_folder is None else CLIPTokenizer.from_folder(tokenizer_folder)
    files = folder_files(owner, spec, tokenizer, t5_tokenizer)
    meta = owner.build(spec)
    keymap = owner.keymap(spec, "diffusers", meta)
    entries: dict[str, Entry] = {}
    for part, network in networks.items():
        state = network.state_dict()
        kept = {name: state[name] for name in meta[part].state_dict()}
        for name, tensor in keymap.to_theirs(part, kept).items():
            stored = torch.float8_e4m3fn if name in in_eight_bits else dtype
            entries[name] = Entry(tuple(tensor.shape), stored, partial(_cast, name, tensor, stored))
    write_folder(Path(path), entries, files, max_file_size)


def folder_files(
    owner: Family, spec: Spec, tokenizer: CLIPTokenizer, t5_tokenizer: Path | None = None
) -> dict[str, bytes]:
    """The JSON and tokenizer files of a diffusers folder, by their path in it; `spec` is as the layout keeps it.

    `tokenizer` serves every CLIP tower, each with its own padding. T5's cannot be made; `t5_tokenizer` is its file.
    """
    layout = owner.layouts["diffusers"]
    configs = {name: dict(config) for name, config in layout.configs(spec).items()}
    result: dict[str, bytes] = {}
    for folder, part in layout.tokenizers.items():
        config = getattr(spec, part)
        if isinstance(config, CLIPTextConfig):
            ends = config.pad_token_id == config.eos_token_id  # a tokenizer that is smaller has them at other ids
            files = tokenizer.files(tokenizer.eos_token_id if ends else config.pad_token_id)
            result |= {f"{folder}/{name}": content for name, content in files.items()}
        elif t5_tokenizer is None:
            configs["model_index"][folder] = [None, None]
        else:
            result[f"{folder}/{t5_tokenizer.name}"] = t5_tokenizer.read_bytes()
            result[f"{folder}/tokenizer_config.json"] = to_json({"tokenizer_class": "T5Tokenizer"})
    configs["model_index"]["_diffusers_version"] = DIFFUSERS
    result |= {f"{name}.json": to_json(config) for name, config in configs.items()}
    return result | {DEFAULTS: to_json(dataclasses.asdict(spec.defaults))}


def write_folder(
    path: Path,
    entries: Mapping[str, Entry],
    files: Mapping[str, bytes],
    max_file_size: int,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the tensors of every component (`unet/conv_in.weight`) and the other files of a folder.

    `metadata` are those of the model, such as a merge's recipe; they stand in the headers of what draws.
    """
    index = json.loads(files["model_index.json"])
    components: dict[str, dict[str, Entry]] = {}
    for name, entry in entries.items():
        folder, _, own = name.partition("/")
        components.setdefault(folder, {})[own] = entry
    for folder, component in components.items():
        named = {*index.get(folder, ())} & {"transformers", "StableDiffusionSafetyChecker"}
        stem = "model" if named else "diffusion_pytorch_model"
        said = dict(metadata or {}) if folder in DENOISERS else {}
        _write_component(path / folder, stem, component, max_file_size, {"format": "pt"} | said)
    for name, content in sorted(files.items(), key=lambda item: item[0] == "model_index.json"):
        with atomic_write(path / name) as file:
            file.write(content)


def to_json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def _write_component(
    folder: Path, stem: str, entries: Mapping[str, Entry], max_file_size: int, metadata: Mapping[str, str]
) -> None:
    shards = _split(entries, max_file_size)
    count = len(shards)
    names = [f"{stem}-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    if count == 1:
        names = [f"{stem}.safetensors"]
    for name, shard in zip(names, shards, strict=True):
        heads = {key: (entries[key].shape, entries[key].dtype) for key in shard}
        safetensors_file.write(folder / name, heads, lambda key: entries[key].make(), dict(metadata))
    if count > 1:
        places = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        total = sum(entry.nbytes for entry in entries.values())
        with atomic_write(folder / f"{stem}.safetensors.index.json") as file:
            file.write(to_json({"metadata": {"total_size": total}, "weight_map": places}))


def _split(entries: Mapping[str, Entry], limit: int) -> list[list[str]]:
    """Names in order, cut into runs whose files stay below the limit with their headers."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, entry in entries.items():
        size = entry.nbytes + ENTRY
        if size > limit:
            raise SfumatoError(
                f"the weight {name} takes {entry.nbytes} bytes, more than a file may ({limit}); raise the limit"
            )
        if filled + size > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _cast(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    tensor = tensor.detach().to("cpu", dtype)
    seen = tensor.half() if dtype.itemsize == 1 else tensor
    if tensor.numel() and not torch.stack(torch.aminmax(seen)).isfinite().all():
        raise SfumatoError(f"the weight {name} is not finite in {dtype}; nothing usable can be written")
    return tensor
