"""Writing a conversion: its files, a draft beside the place where it shall lie, and at last its name."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sfumato.checkpoint import embedded_files
from sfumato.checkpoint.checkpoint import Checkpoint, Stored
from sfumato.checkpoint.formats import safetensors_file
from sfumato.checkpoint.open import REMAINDER
from sfumato.errors import SfumatoError
from sfumato.files import check_writable, hidden_folder
from sfumato.loading.conversion.account import Account, Source
from sfumato.loading.save import Entry, folder_files, to_json, write_folder
from sfumato.text.t5_tokenizer import find_t5_tokenizer
from sfumato.text.tokenizer import CLIPTokenizer

INDEX = "model_index.json"
TYPE_KEYS = ("torch_dtype", "dtype")  # of a text encoder's config: wrong once the weights have another type
MARGIN = 1 << 20  # bytes that headers and file systems may take beyond the tensors

Progress = Callable[[int, int, str], None]


def write(account: Account, draft: Path, files: Mapping[str, bytes], max_file_size: int, steps: Progress) -> None:
    entries = {name: _counted(name, entry, steps) for name, entry in account.written.items()}
    if account.layout != "diffusers":
        metadata = {
            "format": "pt",
            **account.metadata,
            **embedded_files.pack(_needed_in_header(account, files)),
        }
        heads = {name: (entry.shape, entry.dtype) for name, entry in entries.items()}
        safetensors_file.write(draft, heads, lambda name: entries[name].make(), metadata)
        return
    write_folder(draft, entries, files, max_file_size, account.metadata)
    if account.remainder:
        heads = {name: (entry.shape, entry.dtype) for name, entry in account.remainder.items()}
        safetensors_file.write(draft / REMAINDER, heads, lambda name: account.remainder[name].make())


def _needed_in_header(account: Account, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files for a header: none where the tensors, and what is known of the release, describe the whole model."""
    layouts, carried = account.source.family.layouts, _without_clip(files)
    file = account.source.checkpoint.files[0]
    tensors = {name: Stored(file, 0, entry.shape, entry.dtype) for name, entry in account.entries.items()}
    if any(_component(name) in layouts["diffusers"].tokenizers for name in carried):
        return carried
    try:
        shown = layouts[account.layout].spec(Checkpoint(file.path, "safetensors", tensors, []))
    except SfumatoError:  # sizes that no release has
        return carried
    return {} if shown == account.spec else carried


def folder_files_of(source: Source, tokenizer: CLIPTokenizer | None, told: bool, carries: bool) -> dict[str, bytes]:
    """The files of a folder that hold no weights: those of the input, or made from what is known of the model.

    `tokenizer` replaces the input's; `told` says that the input's own description of the model no longer holds,
    `carries` that the result keeps the input's folders of parts that take no part in drawing (`Layout.carried`).
    """
    checkpoint, layout = source.checkpoint, source.family.layouts["diffusers"]
    own, index = checkpoint.embedded_files, checkpoint.configs.get("model_index", {})
    if checkpoint.container == "folder":
        own = embedded_files.of_folder(checkpoint.path, index)
    clip, t5 = tokenizer or CLIPTokenizer.openai(), find_t5_tokenizer(checkpoint.path)
    made = folder_files(source.family, layout.fit(source.spec, {}), clip, t5)
    described, entries = (made, json.loads(made[INDEX])) if told or not index else (own, dict(index))
    result = {name: content for name, content in described.items() if _component(name) not in layout.tokenizers}
    for folder in layout.tokenizers:
        brought = [] if tokenizer else [name for name in own if _component(name) == folder]
        result |= {name: own[name] for name in brought}
        if brought:
            entries[folder] = index[folder]
        else:
            result |= {name: content for name, content in made.items() if _component(name) == folder}
    carried = {_component(name) for name in checkpoint.tensors if carries and name.startswith(layout.carried)}
    for folder in (*carried, *(["feature_extractor"] if carried else [])):
        entries[folder] = index.get(folder, [None, None])
        result |= {name: content for name, content in own.items() if _component(name) == folder}
    absent = {_component(prefix) for part, prefix in layout.prefixes.items() if part not in source.plan.networks}
    absent -= {_component(name) for name in layout.buffers(source.spec)}
    absent |= {folder for folder, part in layout.tokenizers.items() if part not in source.plan.networks}
    strange = {_component(name) for name in checkpoint.tensors if "/" in name}
    strange -= carried | {_component(prefix) for prefix in layout.prefixes.values()}
    for component in (absent | strange) & entries.keys():
        entries[component] = [None, None]
        result = {name: content for name, content in result.items() if _component(name) != component}
    if source.dtype is not None:
        result = {name: _without_type(name, content) for name, content in result.items()}
    return result | {INDEX: to_json(entries)}


def _component(name: str) -> str:
    return name.split("/")[0]


def _without_type(name: str, content: bytes) -> bytes:
    if not name.endswith("/config.json"):
        return content
    config: dict[str, Any] = json.loads(content)
    return to_json({key: value for key, value in config.items() if key not in TYPE_KEYS})


def _without_clip(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files without tokenizers that are CLIP's own, which every program that reads the result brings along."""
    symbols = json.loads(CLIPTokenizer.openai().files()["vocab.json"])
    plain = {
        name.split("/")[0]
        for name, content in files.items()
        if name.endswith("/vocab.json") and json.loads(content) == symbols
    }
    return {name: content for name, content in files.items() if name.split("/")[0] not in plain}


def check_places(source: Path, out: Path, layout: str, force: bool) -> None:
    here, there = source.resolve(), out.resolve()
    if here == there:
        raise SfumatoError(f"{out} is the input itself; name another place")
    if here in there.parents or there in here.parents:
        raise SfumatoError(f"{out} lies within the input or around it; name another place")
    if layout == "diffusers" and out.suffix == ".safetensors":
        raise SfumatoError(f"{out} is the name of a file, and the layout diffusers is a folder; name a folder")
    if layout == "original" and out.suffix != ".safetensors":
        raise SfumatoError(f"{out} is no .safetensors, which the layout original is written as; name one")
    if out.exists() and not force:
        raise SfumatoError(f"{out} exists; name another place, or replace it with --overwrite")
    check_writable(out.parent, out.name)


def check_space(folder: Path, nbytes: int) -> None:
    present = next(path for path in (folder, *folder.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(present).free
    if free < nbytes + MARGIN:
        raise SfumatoError(f"{folder} has {free:,} bytes free, and {nbytes + MARGIN:,} are needed; make room")


@contextlib.contextmanager
def draft_beside(out: Path) -> Iterator[Path]:
    """A path of the name of `out` in a new hidden folder beside it, which goes with all that is left in it."""
    with hidden_folder(out) as folder:
        yield folder / out.name


def put(draft: Path, out: Path) -> None:
    """Give the result its name; what had it before goes away with the hidden folder."""
    try:
        if out.exists():
            out.rename(draft.parent / "before")
        draft.rename(out)
    except OSError as error:
        raise SfumatoError(f"cannot write {out}: {error.strerror}; choose another place") from error


def steps_of(total: int, progress: Progress) -> Progress:
    done = 0

    def step(nbytes: int, _: int, what: str) -> None:
        nonlocal done
        done += nbytes
        progress(done, total, what)

    return step


def _counted(name: str, entry: Entry, steps: Progress) -> Entry:
    def make() -> Tensor:
        steps(entry.nbytes, 0, "writing")
        return entry.make()

    return replace(entry, make=make)
