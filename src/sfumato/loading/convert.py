"""From one layout or precision to another, with proof: every tensor on both sides is accounted for by name.

What is written is read back before it gets its name. The table of the proof describes the result as it lies on disk,
and its tensors, mapped back to the names and shapes of the input, must be the input's, bit by bit, or rounded once
where another precision was asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.checkpoint import embedded_files
from sfumato.checkpoint.checkpoint import Checkpoint, Stored
from sfumato.checkpoint.formats import safetensors_file
from sfumato.checkpoint.formats.fp8 import EIGHTS
from sfumato.checkpoint.keymap import IDENTITY, Rule
from sfumato.checkpoint.open import REMAINDER, open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.families import Family
from sfumato.families.base import Layout
from sfumato.files import check_writable
from sfumato.loading.load import Plan, checked, compare, require_complete
from sfumato.loading.resolve import Overrides, opened_model, resolve
from sfumato.loading.save import MAX_FILE, Entry, folder_files, to_json, write_folder
from sfumato.spec import Prediction, Spec
from sfumato.text.t5_tokenizer import find_t5_tokenizer
from sfumato.text.tokenizer import CLIPTokenizer

INDEX = "model_index.json"
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "keep": None}
TYPE_KEYS = ("torch_dtype", "dtype")  # of a text encoder's config: wrong once the weights have another type
MARGIN = 1 << 20  # bytes that headers and file systems may take beyond the tensors

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Row:
    """A line of the proof: which tensors of the input (`source`) became which of the output (`name`), or why not.

    `shape`, `dtype` and `sha256` are those of the tensor as it was read back from the output. `error` is the largest
    rounding error, as a share of the tensor's largest value; 0 where nothing was rounded.
    """

    source: tuple[str, ...]
    name: str | None
    note: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    sha256: str = ""
    error: float = 0.0


@dataclass(frozen=True)
class Proof:
    """The table of a conversion, which has passed: `exact` says whether no value was rounded."""

    source: Path
    out: Path
    family: str
    layouts: tuple[str, str]
    rows: tuple[Row, ...]

    @property
    def exact(self) -> bool:
        return all(row.error == 0 for row in self.rows)

    def table(self) -> str:
        """Tab-separated lines under a line of column names."""
        head = ("input", "output", "shape", "dtype", "sha256", "largest relative rounding", "note")
        lines = [
            (" + ".join(row.source), row.name or "", "x".join(map(str, row.shape)), row.dtype, row.sha256,
             f"{row.error:.3g}", row.note)
            for row in self.rows
        ]  # fmt: skip
        return "".join("\t".join(line) + "\n" for line in (head, *lines))


@dataclass(frozen=True)
class _Source:
    """The input: the model it holds and where each of our parameters comes from."""

    checkpoint: Checkpoint
    family: Family
    layout: str
    spec: Spec
    plan: Plan
    ema: bool
    dtype: torch.dtype | None

    @cached_property
    def params(self) -> dict[tuple[str, str], tuple[Rule, int]]:
        """The rule that gives a parameter of ours, and the parameter's place in it."""
        return {
            (part, name): (rule, i)
            for part, rules in self.plan.keymap.parts.items()
            for rule in rules
            for i, name in enumerate(rule.ours)
        }

    def names(self, rule: Rule) -> list[str]:
        return [self.plan.match.names[name] for name in rule.theirs]

    def stored(self, rule: Rule) -> list[Stored]:
        return [self.checkpoint.tensors[name] for name in self.names(rule)]

    def type_of(self, rule: Rule) -> torch.dtype:
        """The type of what the rule gives. Raises SfumatoError where the input mixes types within it."""
        kinds = {stored.dtype for stored in self.stored(rule)}
        if self.dtype is None and len(kinds) > 1:
            names = ", ".join(self.names(rule))
            raise SfumatoError(f"{self.checkpoint.path} stores {names} in different types; give one with --dtype")
        return self.dtype or kinds.pop()

    def ours(self, rule: Rule) -> list[Tensor]:
        """The parameters that a rule gives, in the output's type."""
        names, dtype = self.names(rule), self.type_of(rule)
        tensors = [_cast(checked(one, name), dtype, name) for one, name in zip(self.stored(rule), names, strict=True)]
        return list(rule.transform.to_ours(tensors))


def convert(
    source: str | Path,
    out: str | Path,
    layout: str,
    *,
    dtype: torch.dtype | None = None,
    ema: bool = False,
    variant: str | None = None,
    prediction: Prediction | None = None,
    zero_snr: bool | None = None,
    vae: str | Path | None = None,
    text_encoders: Sequence[str | Path] = (),
    tokenizer: str | Path | None = None,
    max_file_size: int = MAX_FILE,
    force: bool = False,
    progress: Progress = lambda done, total, what: None,
) -> Proof:
    """Write the model `source` as `out` in a layout: "original", one .safetensors, or "diffusers", a folder.

    `dtype` None keeps every tensor's type. `ema` takes the averaged weights in place of the plain ones. `variant`,
    `prediction`, `zero_snr`, `vae` and `text_encoders` are as in `load_parts`; `tokenizer` is the folder of the
    tokenizer of a single file whose vocabulary is not CLIP's own. `force` replaces an `out` that exists.
    `progress(bytes done, bytes in all, what)` may raise to stop.

    At most one tensor beyond the mapped input is in memory. `out` appears when it is whole and proved, or not at all.
    Raises SfumatoError when the input is not a complete model, when the output cannot be written, and naming the
    tensor when a value does not fit in `dtype`.
    """
    source, out = Path(source), Path(out)
    _check_places(source, out, layout, force)
    overrides = Overrides(variant, prediction, zero_snr)
    with opened_model(source, vae, text_encoders, overrides) as model:
        checkpoint, family, found, spec = model.checkpoint, model.family, model.layout, model.spec
        if layout not in family.layouts:
            raise SfumatoError(f"there is no layout {layout!r}; choose {' or '.join(family.layouts)}")
        plan = compare(model, ema)
        require_complete(checkpoint, family, plan)
        origin = _Source(checkpoint, family, found, spec, plan, ema, dtype)
        told = bool(model.given) or bool(overrides)
        whole = found == layout and model.components.keys() == model.given
        work = _Work(origin, layout, spec if whole else family.layouts[layout].fit(spec, checkpoint.known_shapes))
        work.account()
        files = _files(origin, None if tokenizer is None else CLIPTokenizer.from_folder(tokenizer), told)
        _check_space(out.parent, work.nbytes)
        with _beside(out) as draft:
            steps = _steps(2 * work.nbytes, progress)
            work.write(draft, files, max_file_size, steps)
            rows = work.prove(draft, steps)
            checkpoint.check_unchanged()
            _put(draft, out)
    return Proof(source, out, family.name, (found, layout), tuple(rows))


class _Work:
    """What becomes of every tensor: `entries` are to be written, `rows` tell of each and of what is left out."""

    def __init__(self, source: _Source, layout: str, spec: Spec):
        self.source, self.layout, self.spec = source, layout, spec
        self.target: Layout = source.family.layouts[layout]
        built = source.plan.networks if spec == source.spec else source.family.build(spec)
        self.networks = {part: network for part, network in built.items() if part in source.plan.networks}
        self.keymap = source.family.keymap(spec, layout, self.networks)
        self.entries: dict[str, Entry] = {}
        self.remainder: dict[str, Entry] = {}
        self.rows: list[Row] = []

    @property
    def nbytes(self) -> int:
        return sum(entry.nbytes for entry in (*self.entries.values(), *self.remainder.values()))

    def account(self) -> None:
        """Give every tensor of both sides its row. Raises ValueError where a family's layouts do not fit together."""
        params = self.source.params
        used: set[Rule] = set()
        for part, rules in self.keymap.parts.items():
            shapes = self.networks[part].state_dict()
            for rule in rules:
                found = [params[part, name] for name in rule.ours if (part, name) in params]
                if len(found) not in (0, len(rule.ours)):
                    raise ValueError(f"the other layout has only some of {rule.ours}")
                metas = rule.transform.to_theirs([shapes[name] for name in rule.ours])
                if found:
                    used |= {origin for origin, _ in found}
                    self._convert(rule, found, [tuple(meta.shape) for meta in metas])
                else:
                    self._fill(rule, [tuple(meta.shape) for meta in metas])
        for origin in dict.fromkeys(origin for origin, _ in params.values()):
            if origin not in used:
                for name in self.source.names(origin):
                    self._keep(name, "never read")
        for name in self.source.plan.match.ignored:
            self._beside(name)
        carried = self.source.checkpoint.remainder if self.layout == self.source.layout else {}
        for name, stored in carried.items():
            self.remainder[name] = _raw(stored)
            self.rows.append(Row((f"{REMAINDER}/{name}",), f"{REMAINDER}/{name}", "kept"))
        if self.layout != self.source.layout:
            self._complete()

    def _convert(self, rule: Rule, found: list[tuple[Rule, int]], shapes: list[tuple[int, ...]]) -> None:
        origins = list(dict.fromkeys(origin for origin, _ in found))
        kinds = {self.source.type_of(origin) for origin in origins}
        names = [name for origin in origins for name in self.source.names(origin)]
        if len(kinds) > 1:
            raise SfumatoError(
                f"{self.source.checkpoint.path} stores {', '.join(names)} in different types; give one with --dtype"
            )
        changes = [t.name for t in (*(origin.transform for origin in origins), rule.transform) if t is not IDENTITY]

        def make(i: int) -> Tensor:
            made = {origin: self.source.ours(origin) for origin in origins}
            return rule.transform.to_theirs([made[origin][k] for origin, k in found])[i]

        dtype = kinds.pop()
        for i, (name, shape) in enumerate(zip(rule.theirs, shapes, strict=True)):
            self._add(name, Entry(shape, dtype, partial(make, i)), tuple(names), ", ".join(dict.fromkeys(changes)))

    def _fill(self, rule: Rule, shapes: list[tuple[int, ...]]) -> None:
        """Parameters that only this layout has and nothing reads: as they were, if the input tells, else zeros."""
        kept = self.source.checkpoint.remainder
        for name, shape in zip(rule.theirs, shapes, strict=True):
            if name in kept and kept[name].shape == shape:
                stored = kept[name]
                dtype = self.source.dtype or stored.dtype
                make = partial(_read_as, stored, dtype, name)
                self._add(name, Entry(shape, dtype, make), (f"{REMAINDER}/{name}",), "never read")
            else:
                dtype = self.source.dtype or next(iter(self.entries.values())).dtype
                self._add(name, Entry(shape, dtype, partial(torch.zeros, shape, dtype=dtype)), (), "made: never read")

    def _add(self, name: str, entry: Entry, source: tuple[str, ...], note: str) -> None:
        self.entries[name] = entry
        self.rows.append(Row(source, name, note))

    def _keep(self, name: str, why: str) -> None:
        """A tensor without a counterpart goes beside a folder, where the way back finds it."""
        stored = self.source.checkpoint.tensors[name]
        if self.layout == self.source.layout:
            self._add(name, _raw(stored), (name,), "kept")
        elif self.source.checkpoint.container == "folder":
            self.rows.append(Row((name,), None, f"left out: {why}"))
        else:
            self.remainder[name] = _raw(stored)
            self.rows.append(Row((name,), f"{REMAINDER}/{name}", f"kept: {why}"))

    def _beside(self, name: str) -> None:
        """What the input holds beside the model's parameters."""
        source = self.source.family.layouts[self.source.layout]
        stored = self.source.checkpoint.tensors[name]
        made = source.buffers(self.source.spec).get(name)
        prefix = source.prefixes[self.source.family.denoiser]
        known = self.source.plan.keymap.canonical(name)
        twin = self.source.checkpoint.tensors.get(self.source.plan.match.names.get(known, ""))
        if source.ema is not None and name.startswith(source.ema(prefix).split(".")[0] + "."):
            self.rows.append(Row((name,), None, "left out: an averaged weight, which --ema takes instead"))
        elif self.source.ema and name.startswith(prefix):
            self.rows.append(Row((name,), None, "left out: the averaged weight was taken"))
        elif twin is not None and _same(twin.read(), stored):
            self.rows.append(Row((name,), None, f"left out: the same as {known}"))
        elif "/" in name and not name.startswith(tuple(source.prefixes.values())):
            self.rows.append(Row((name,), None, "left out: no part of the model that sfumato reads"))
        elif self.layout != self.source.layout and made is not None and _same(made, stored):
            self.rows.append(Row((name,), None, "left out: follows from the noise schedule"))
        else:
            self._keep(name, "not read by this layout")

    def _complete(self) -> None:
        """What the other layout holds beside the parameters."""
        kept = self.source.checkpoint.remainder
        for name, stored in kept.items():
            if name not in self.entries:
                self._add(name, _raw(stored), (f"{REMAINDER}/{name}",), "kept")
        for name, tensor in self.target.buffers(self.spec).items():
            if name not in self.entries:
                entry = Entry(tuple(tensor.shape), tensor.dtype, partial(_itself, tensor))
                self._add(name, entry, (), "made: follows from the noise schedule")

    def write(self, draft: Path, files: Mapping[str, bytes], max_file_size: int, steps: Progress) -> None:
        entries = {name: _counted(name, entry, steps) for name, entry in self.entries.items()}
        if self.layout != "diffusers":
            metadata = {"format": "pt", **self.source.checkpoint.metadata, **embedded_files.pack(self._untold(files))}
            heads = {name: (entry.shape, entry.dtype) for name, entry in entries.items()}
            safetensors_file.write(draft, heads, lambda name: entries[name].make(), metadata)
            return
        write_folder(draft, entries, files, max_file_size)
        if self.remainder:
            heads = {name: (entry.shape, entry.dtype) for name, entry in self.remainder.items()}
            safetensors_file.write(draft / REMAINDER, heads, lambda name: self.remainder[name].make())

    def _untold(self, files: Mapping[str, bytes]) -> dict[str, bytes]:
        """The files for a header: none where tensors, and the habits of the release, tell the whole model."""
        layouts, carried = self.source.family.layouts, _without_clip(files)
        file = self.source.checkpoint.files[0]
        tensors = {name: Stored(file, 0, entry.shape, entry.dtype) for name, entry in self.entries.items()}
        if any(_component(name) in layouts["diffusers"].tokenizers for name in carried):
            return carried
        try:
            shown = layouts[self.layout].spec(Checkpoint(file.path, "safetensors", tensors, []))
        except SfumatoError:  # sizes that no release has
            return carried
        return {} if shown == self.spec else carried

    def prove(self, draft: Path, steps: Progress) -> list[Row]:
        """Read the result back: the rows with what lies on disk. Raises SfumatoError where that is not the input."""
        with open_checkpoint(draft) as result:
            written = resolve(result)
            family, layout, read = written.family, written.layout, written.spec
            if lost := _difference(_computed(self.spec), _computed(read)):
                raise SfumatoError(f"the layout {layout} cannot say that this model has {lost}; nothing was written")
            plan = compare(written)
            require_complete(result, family, plan)
            back = replace(self.source, checkpoint=result, layout=layout, plan=plan, dtype=None)
            errors = self._round_trip(back)
            rows = []
            for row in self.rows:
                if row.name is None:
                    rows.append(row)
                    continue
                inner = row.name.removeprefix(f"{REMAINDER}/")
                stored = result.tensors[inner] if inner == row.name else result.remainder[inner]
                error = max((errors.get(name, 0.0) for name in row.source), default=0.0)
                kind = str(stored.dtype).removeprefix("torch.")
                rows.append(replace(row, shape=stored.shape, dtype=kind, sha256=_sha256(stored.read()), error=error))
                stored.release()
                steps(stored.nbytes, 0, "proving")
            return rows

    def _round_trip(self, back: _Source) -> dict[str, float]:
        """Rounding errors of the input's tensors by name, after comparing each with the result mapped back to it."""
        errors: dict[str, float] = {}
        for (part, _), (origin, _) in self.source.params.items():
            if origin.theirs[0] in errors or any((part, name) not in back.params for name in origin.ours):
                continue
            ours = [back.ours(rule)[i] for rule, i in (back.params[part, name] for name in origin.ours)]
            again = origin.transform.to_theirs(ours)
            for known, stored, tensor in zip(origin.theirs, self.source.stored(origin), again, strict=True):
                before = stored.read()
                if not _identical(before.to(tensor.dtype), tensor):
                    name = self.source.plan.match.names[known]
                    raise SfumatoError(f"{name} does not come back from what was written; check the disk, try again")
                errors[known] = errors[self.source.plan.match.names[known]] = _rounding(before, tensor)
                stored.release()
        return errors


def _files(source: _Source, tokenizer: CLIPTokenizer | None, told: bool) -> dict[str, bytes]:
    """The files of a folder that hold no weights: those of the input, or made from what is known of the model.

    `tokenizer` replaces the input's; `told` says that the input's own description of the model no longer holds.
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
    absent = {_component(prefix) for part, prefix in layout.prefixes.items() if part not in source.plan.networks}
    absent |= {folder for folder, part in layout.tokenizers.items() if part not in source.plan.networks}
    strange = {_component(name) for name in checkpoint.tensors if "/" in name}
    strange -= {_component(prefix) for prefix in layout.prefixes.values()}
    for component in (absent | strange) & entries.keys():
        entries[component] = [None, None]
        result = {name: content for name, content in result.items() if _component(name) != component}
    if source.dtype is not None:
        result = {name: _without_type(name, content) for name, content in result.items()}
    return result | {INDEX: to_json(entries)}


def _computed(spec: Spec) -> Spec:
    """What is computed with: without names, and with one way of saying how many heads there are."""
    unet, heads = spec.unet, {spec.unet.heads_at(width) for width in spec.unet.channels}
    unet = replace(unet, heads=heads.pop(), head_dim=None) if len(heads) == 1 else unet
    return replace(spec, unet=unet, variant="", title="", licence="")


def _difference(one: Any, other: Any, name: str = "") -> str | None:
    """The first field in which two records differ, in words."""
    for field in fields(one):
        mine, theirs, own = getattr(one, field.name), getattr(other, field.name), name + field.name
        if is_dataclass(mine) and is_dataclass(theirs):
            if inner := _difference(mine, theirs, f"{own}."):
                return inner
        elif mine != theirs:
            return f"{own} = {mine!r} (it would be read as {theirs!r})"
    return None


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


def _check_places(source: Path, out: Path, layout: str, force: bool) -> None:
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
        raise SfumatoError(f"{out} exists; name another place, or replace it with --force")
    check_writable(out.parent, out.name)


def _check_space(folder: Path, nbytes: int) -> None:
    present = next(path for path in (folder, *folder.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(present).free
    if free < nbytes + MARGIN:
        raise SfumatoError(f"{folder} has {free:,} bytes free, and {nbytes + MARGIN:,} are needed; make room")


@contextlib.contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A path of the name of `out` in a new hidden folder beside it, which goes with all that is left in it."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise SfumatoError(f"cannot write {out}: {error.strerror}; choose another place") from error
    try:
        yield hidden / out.name
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def _put(draft: Path, out: Path) -> None:
    """Give the result its name; what had it before goes away with the hidden folder."""
    try:
        if out.exists():
            out.rename(draft.parent / "before")
        draft.rename(out)
    except OSError as error:
        raise SfumatoError(f"cannot write {out}: {error.strerror}; choose another place") from error


def _steps(total: int, progress: Progress) -> Progress:
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


def _raw(stored: Stored) -> Entry:
    return Entry(stored.shape, stored.dtype, stored.read)


def _read_as(stored: Stored, dtype: torch.dtype, name: str) -> Tensor:
    return _cast(checked(stored, name), dtype, name)


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _cast(tensor: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    result = tensor.to(dtype)
    narrower = dtype not in EIGHTS and torch.finfo(dtype).max < torch.finfo(tensor.dtype).max
    if narrower and result.numel() and not torch.stack(torch.aminmax(result)).isfinite().all():
        largest = tensor.abs().max().item()
        raise SfumatoError(f"{name} holds {largest:.4g}, which does not fit in {dtype}; convert to another --dtype")
    return result


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _identical(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and torch.equal(_bytes(one), _bytes(other))


def _same(tensor: Tensor, stored: Stored) -> bool:
    return tensor.dtype == stored.dtype and tensor.shape == stored.shape and _identical(tensor, stored.read())


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(_bytes(tensor).numpy().data).hexdigest()


def _rounding(before: Tensor, after: Tensor) -> float:
    if before.dtype == after.dtype or not before.numel():
        return 0.0
    largest = before.float().abs().max().item()
    return (before.float() - after.float()).abs().max().item() / largest if largest else 0.0
