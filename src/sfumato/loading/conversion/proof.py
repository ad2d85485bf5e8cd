"""Reading a conversion's result back: it must be the input, tensor by tensor, or nothing is written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.checkpoint.open import REMAINDER, open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.loading.conversion.account import Account, Row, Source, bytes_of, identical
from sfumato.loading.load import Plan, compare, require_complete
from sfumato.loading.resolve import resolve
from sfumato.spec import Spec

Progress = Callable[[int, int, str], None]


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


def prove(account: Account, draft: Path, steps: Progress) -> list[Row]:
    """Read the result back: the rows with what lies on disk. Raises SfumatoError where that is not the input."""
    with open_checkpoint(draft) as result:
        layout, plan = check_read_back(account, result)
        back = replace(account.source, checkpoint=result, layout=layout, plan=plan, dtype=None)
        errors = _round_trip(account.source, back)
        rows = []
        for row in account.rows:
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


def measure(account: Account, draft: Path, steps: Progress) -> list[Row]:
    """Read a quantised result back: the rows with what its weights lost. Raises SfumatoError where one is missing."""
    rows = []
    with open_checkpoint(draft) as result:
        check_read_back(account, result)
        for row in account.rows:
            inner = "" if row.name is None else row.name.removeprefix(f"{REMAINDER}/")
            stored = result.tensors.get(inner, result.remainder.get(inner))
            entry = account.entries.get(inner, account.remainder.get(inner))
            if stored is None or entry is None:
                rows.append(row)
                continue
            after, before = stored.read(), entry.make()
            kind, lost = stored.kind, _rounding(before, after)
            rows.append(replace(row, shape=stored.shape, dtype=kind, sha256=_sha256(after), error=lost))
            stored.release()
            steps(entry.nbytes, 0, "proving")
    return rows


def check_read_back(account: Account, result: Checkpoint) -> tuple[str, Plan]:
    """The layout of what was written, and how its tensors compare with the model's; their values are not read.

    Raises SfumatoError where it is not read as the model that was meant, whole.
    """
    written = resolve(result)
    if lost := _difference(_computed(account.spec), _computed(written.spec)):
        raise SfumatoError(f"the layout {written.layout} cannot say that this model has {lost}; nothing was written")
    plan = compare(written)
    require_complete(result, written.family, plan)
    return written.layout, plan


def _round_trip(source: Source, back: Source) -> dict[str, float]:
    """Rounding errors of the input's tensors by name, after comparing each with the result mapped back to it."""
    errors: dict[str, float] = {}
    for (part, _), (origin, _) in source.params.items():
        if origin.theirs[0] in errors or any((part, name) not in back.params for name in origin.ours):
            continue
        ours = [back.ours(rule)[i] for rule, i in (back.params[part, name] for name in origin.ours)]
        again = origin.transform.to_theirs(ours)
        for known, stored, tensor in zip(origin.theirs, source.stored(origin), again, strict=True):
            before = stored.read()
            if not identical(before.to(tensor.dtype), tensor):
                name = source.plan.match.names[known]
                raise SfumatoError(f"{name} does not come back from what was written; check the disk, try again")
            errors[known] = errors[source.plan.match.names[known]] = _rounding(before, tensor)
            stored.release()
    return errors


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


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(bytes_of(tensor).numpy().data).hexdigest()


def _rounding(before: Tensor, after: Tensor) -> float:
    if before.dtype == after.dtype or not before.numel():
        return 0.0
    largest = before.float().abs().max().item()
    return (before.float() - after.float()).abs().max().item() / largest if largest else 0.0
