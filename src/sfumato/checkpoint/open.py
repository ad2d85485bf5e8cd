"""Opening a model file or folder: what it is is found from its content, never from its name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Any

from sfumato.checkpoint import embedded_files, variant
from sfumato.checkpoint.checkpoint import Checkpoint, Stored, WeightFile
from sfumato.checkpoint.formats import fp8, gguf_file, nf4, safetensors_file, svdquant, torch_file
from sfumato.errors import SfumatoError

MAX_JSON = 16 << 20
INDEX = "model_index.json"
REMAINDER = "sfumato.safetensors"  # beside model_index.json, see Checkpoint.remainder
DEFAULTS = "sfumato.json"  # beside model_index.json: what a folder of ours says that diffusers has no place for

# What people hand in by mistake, by its first bytes.
FOREIGN_FILES = (
    (
        b"version https://git-lfs",
        "is a Git LFS pointer, not the weights; run `git lfs pull` or download the file itself",
    ),
    (b"<", "is a web page, not weights; the download failed or needs a login, download it again"),
    (b"\x89HDF", "is an HDF5 file, which holds no PyTorch weights; give a .safetensors, a .ckpt or a diffusers folder"),
    (b"\x89PNG", "is a picture, not a model; give a .safetensors, a .ckpt or a diffusers folder"),
    (b"\x1f\x8b", "is a gzip archive; unpack it and give the model inside"),
    (b"7z\xbc\xaf", "is a 7z archive; unpack it and give the model inside"),
    (b"Rar!", "is a rar archive; unpack it and give the model inside"),
)

# How diffusers and transformers name the weights of a component: `bf16` in model.bf16.safetensors is a variant.
WEIGHT_NAME = re.compile(
    r"(?:diffusion_pytorch_model|model|pytorch_model)"
    r"(?:\.(?P<variant>[\w-]+?))??\.(?P<ending>safetensors|bin)(?:\.index(?:\.(?P<of_index>[\w-]+))?\.json)?"
)
SHARD_INDEX = re.compile(r"\.index(\.[\w-]+)?\.json$")
SHARD = re.compile(r"-\d{5}-of-\d{5}\b")


# A denoiser alone, by its last layer and a tensor that only it has beside that; and what stands before its names in a
# complete checkpoint of its layout.
DENOISERS = (
    ("out.2.weight", "input_blocks.0.0.weight", "model.diffusion_model."),
    ("final_layer.linear.weight", "joint_blocks.0.x_block.attn.qkv.weight", "model.diffusion_model."),
    ("diffusion_model.out.2.weight", "diffusion_model.input_blocks.0.0.weight", "model."),
    ("diffusion_model.final_layer.linear.weight", "diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "model."),
    ("conv_out.weight", "down_blocks.0.resnets.0.conv1.weight", "unet/"),
    ("proj_out.weight", "transformer_blocks.0.norm1_context.linear.weight", "transformer/"),
)


# What stands before all names of a model that was saved inside something else, whatever a trainer calls that, and what
# the names then go on with.
WRAPPED = re.compile(
    r"((?:[\w-]{1,40}\.){0,4}?)(?:model\.diffusion_model|first_stage_model|cond_stage_model|conditioner)\."
)
MAX_SHARDS = 1000
MAX_SEEN = 2000  # entries of a folder that are looked at for an error
COMPONENTS = (
    "unet", "transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3", "tokenizer", "tokenizer_2",
    "tokenizer_3", "scheduler",
)  # fmt: skip
# Files of weights for other programs, and files that may be a whole model, by how their names end.
FOREIGN_WEIGHTS = {
    ".msgpack": "Flax", ".onnx": "ONNX", ".xml": "OpenVINO", ".mlmodelc": "Core ML", ".mlpackage": "Core ML",
    ".engine": "TensorRT", ".plan": "TensorRT", ".h5": "TensorFlow", ".tflite": "TensorFlow",
}  # fmt: skip
MODEL_FILES = (".safetensors", ".ckpt", ".gguf", ".pt", ".pth", ".bin")
PLAIN = re.compile(r"((state_dict|module|model)\.)*")
COMPONENT = r"^(unet|transformer|vae|text_encoder(?:_[23])?)\."


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a model: a `.safetensors`, a GGUF, a file of `torch.save`, or a diffusers folder (or one component of it).

    Only headers are read; nothing in the file is executed. Raises SfumatoError, with one line that names the cause, for
    whatever is not an ordinary, whole checkpoint. A U-Net or transformer alone has the names that it would have in a
    complete checkpoint, and a variant is opened together with its base (see `checkpoint.variant`).
    """
    path = Path(path)
    if path.name == INDEX and path.is_file():
        path = path.parent
    try:
        if path.is_dir():
            checkpoint = _open_folder(path)
        else:
            checkpoint = _open_shards(path) if SHARD_INDEX.search(path.name) else _with_base(open_file(path))
    except OSError as error:
        raise SfumatoError(f"cannot read {path}: {error.strerror}; give the path of a model") from error
    checkpoint.tensors = _with_folders(_unwrapped(checkpoint.tensors))
    for *anchors, prefix in DENOISERS:
        if all(anchor in checkpoint.tensors for anchor in anchors):
            checkpoint.tensors = {prefix + name: stored for name, stored in checkpoint.tensors.items()}
            checkpoint.configs = {prefix + name: config for name, config in checkpoint.configs.items()}
    return checkpoint


def _unwrapped(tensors: dict[str, Stored]) -> dict[str, Stored]:
    """The tensors without what a trainer's wrapper puts before the names of a whole model."""
    wrappers = {match[1] for name in tensors if (match := WRAPPED.match(name))}
    if len(wrappers) > 1:  # several models: the plain one, where the others are averages, teachers and the like
        wrappers = {one for one in wrappers if PLAIN.fullmatch(one)}
    wrapper = wrappers.pop() if len(wrappers) == 1 else ""
    return {name.removeprefix(wrapper): stored for name, stored in tensors.items()}


def _with_folders(tensors: dict[str, Stored]) -> dict[str, Stored]:
    """Names of a pipeline that was saved as one file (`unet.conv_in.weight`), as those of the folder."""
    if "unet.conv_in.weight" not in tensors and "transformer.pos_embed.proj.weight" not in tensors:
        return tensors
    return {re.sub(COMPONENT, r"\1/", name): stored for name, stored in tensors.items()}


def _with_base(checkpoint: Checkpoint) -> Checkpoint:
    """A variant as the whole model; what is none as it is."""
    try:
        header = variant.Header.of(checkpoint)
        if header is None:
            return checkpoint
        base = _open_folder(header.find(checkpoint.path))
        try:
            return variant.merged(checkpoint, header, base)
        except BaseException:
            base.close()
            raise
    except BaseException:
        checkpoint.close()
        raise


def open_file(path: Path) -> Checkpoint:
    """Open a file of tensors as it is, whatever they are of. Raises SfumatoError as `open_checkpoint`."""
    file = WeightFile(path)
    try:
        container, parse = _format(file)
        tensors, metadata = parse(file)
        tensors = fp8.values(file, nf4.values(file, svdquant.values(file, tensors, metadata)))
        files, metadata = embedded_files.unpack(metadata, path)
        configs = embedded_files.configs(files, path)
    except BaseException:
        file.close()
        raise
    return Checkpoint(path, container, tensors, [file], metadata, configs, files)


def _format(file: WeightFile) -> tuple[str, Callable[[WeightFile], tuple[dict[str, Stored], dict[str, str]]]]:
    start = file.read(0, 64)
    if safetensors_file.looks_like(start):  # first: the length of a header may begin like a pickle
        return "safetensors", safetensors_file.parse
    if start.startswith(gguf_file.MAGIC):
        return "gguf", gguf_file.parse
    for magic, what in FOREIGN_FILES:
        if start.startswith(magic):
            raise file.error(what)
    if torch_file.is_zip(start):
        return "torch", torch_file.parse_zip
    if torch_file.is_pickle(start):
        return "torch", torch_file.parse_legacy
    if file.path.suffix == ".json" or start.lstrip().startswith(b"{"):
        raise file.error("is a configuration, not weights; give the folder that it lies in, or a model file")
    raise file.error("is no model file that is known here; give a .safetensors, a .ckpt or a diffusers folder")


def _open_folder(path: Path) -> Checkpoint:
    """The components that model_index.json names or that lie there, or the folder itself as the only component."""
    result = Checkpoint(path, "folder", {}, [])
    try:
        index = _index_of(path)
        if index is not None:
            result.configs["model_index"] = index
            if (path / DEFAULTS).is_file():
                result.configs["defaults"] = read_json(path / DEFAULTS)
            if (path / REMAINDER).is_file():
                rest = open_file(path / REMAINDER)
                result.files += rest.files
                result.remainder = rest.tensors
            for name, entry in index.items():
                folder = path / name
                named = isinstance(entry, list) and len(entry) == 2 and entry[0] is not None
                if named and Path(name).name == name and folder.is_dir():
                    _add_component(result, folder, f"{name}/")
        else:
            _add_component(result, path, "")
        if not result.tensors:
            raise SfumatoError(f"{path} {_instead_of_weights(path)}")
    except BaseException:
        result.close()
        raise
    return result


def _open_shards(index: Path) -> Checkpoint:
    """The files that an index lists, as a folder of its own."""
    result = Checkpoint(index, "folder", {}, [])
    try:
        _add_component(result, index.parent, "", index)
    except BaseException:
        result.close()
        raise
    return result


def _index_of(folder: Path) -> dict[str, Any] | None:
    """What model_index.json says; where it is missing, the components that lie there. None for a component itself."""
    if (folder / INDEX).is_file():
        return read_json(folder / INDEX)
    if not any((folder / denoiser).is_dir() for denoiser in ("unet", "transformer")):
        return None
    return {name: ["", ""] for name in COMPONENTS if (folder / name).is_dir()}


def _instead_of_weights(folder: Path) -> str:
    """What a folder without weights in a known place holds, and what to do, for an error."""
    found = sorted(islice(chain(folder.glob("*"), folder.glob("*/*")), MAX_SEEN))
    for ending, program in FOREIGN_WEIGHTS.items():
        if any(path.suffix == ending for path in found):
            return f"holds weights for {program}, which are not read; fetch its .safetensors files"
    models = [path.name for path in found if path.parent == folder and path.suffix in MODEL_FILES]
    if models:
        listed = ", ".join(models[:3]) + (" or another of them" if len(models) > 3 else "")
        return f"is no diffusers folder, but holds models; give the path of one: {listed}"
    return "holds no weights; give a model file or a diffusers folder (with model_index.json)"


def choose_weights(names: Iterable[str]) -> list[str]:
    """Of the files of a component, the one with its weights or the index of its shards; [] where there is none.

    Of several variants the plain one is taken, else fp16, else the only one that is there; of two formats safetensors.
    Several others are all returned: which is meant cannot be known.
    """
    found: dict[str, dict[str, str]] = {"safetensors": {}, "bin": {}}
    for name in sorted(names):
        match = None if SHARD.search(name) else WEIGHT_NAME.fullmatch(name)
        if match is not None:
            found[match["ending"]].setdefault(match["variant"] or match["of_index"] or "", name)
    for variants in filter(None, found.values()):
        known = [variants[variant] for variant in ("", "fp16") if variant in variants]
        return known[:1] or list(variants.values())
    return []


def find_weights(folder: Path) -> Path | None:
    """The file of weights of a component, or the index of its shards; None where there is none.

    Raises SfumatoError where several variants are there of which none is the usual one.
    """
    found = choose_weights(path.name for path in folder.iterdir() if path.is_file())
    if len(found) > 1:
        raise SfumatoError(f"{folder} holds {' and '.join(found)}; keep one of them there, which is then read")
    return folder / found[0] if found else None


def _add_component(result: Checkpoint, folder: Path, prefix: str, weights: Path | None = None) -> None:
    """Add the JSON files and tensors of a component; `weights` is the file of these or their index, if it is known."""
    for config in ("config.json", "scheduler_config.json"):
        if (folder / config).is_file():
            result.configs[prefix + config.removesuffix(".json")] = read_json(folder / config)
    found = weights or find_weights(folder)
    if found is None:
        return
    for path in shards(found) if found.suffix == ".json" else [found]:
        if not path.is_file():
            raise SfumatoError(f"{folder} lacks {path.name}, which {found.name} lists; fetch the whole folder")
        part = open_file(path)
        result.files += part.files
        result.metadata |= part.metadata
        for name, stored in part.tensors.items():
            if prefix + name in result.tensors:
                raise SfumatoError(f"{folder} holds the tensor {name} in two files; it is broken, download it again")
            result.tensors[prefix + name] = stored


def shards(index: Path) -> list[Path]:
    """The files that an index lists, which must lie beside it."""
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(
        isinstance(name, str) and Path(name).name == name for name in names.values()
    ):
        raise SfumatoError(f"{index} does not list weight files beside it; download it again")
    files = sorted(set(names.values()))
    if len(files) > MAX_SHARDS:
        raise SfumatoError(f"{index} lists {len(files)} files, at most {MAX_SHARDS} are read; this is no model")
    return [index.parent / name for name in files]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of bounded size. Raises SfumatoError."""
    file = WeightFile(path)
    try:
        if file.size > MAX_JSON:
            raise file.error(f"is {file.size} bytes long, at most {MAX_JSON} are read; it is no configuration")
        value = json.loads(file.read(0, file.size).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise file.error("is not valid JSON; download it again") from error
    finally:
        file.close()
    if not isinstance(value, dict):
        raise file.error("is not a JSON object; download it again")
    return value
