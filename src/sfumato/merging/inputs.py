"""The models that are merged: opened, known by name and hash, and sure to fit together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sfumato.checkpoint.hashes import hashed_file, sha256
from sfumato.checkpoint.keymap import holds
from sfumato.errors import SfumatoError, unknown, warn
from sfumato.hub.local_models import locate
from sfumato.loading.conversion.account import Source
from sfumato.loading.load import checked, compare, has_ema, require_complete
from sfumato.loading.resolve import Overrides, Resolved, opened_model

Parameter = tuple[str, str]  # the part of a model, and the name that its parameter has here
CONV_IN = "conv_in.weight"  # of a U-Net: inpainting models have more input channels


@dataclass(frozen=True)
class Input:
    """An opened model; `given` are its parts that were given apart."""

    source: Source
    name: str
    sha256: str | None
    given: frozenset[str]

    @property
    def title(self) -> str:
        return self.source.spec.title

    def shapes(self) -> dict[Parameter, tuple[int, ...]]:
        """All parameters of its networks."""
        networks = self.source.plan.networks
        return {
            (part, name): tuple(tensor.shape)
            for part, network in networks.items()
            for name, tensor in network.state_dict().items()
        }

    def read(self, parameter: Parameter) -> Tensor:
        """A parameter as it is stored: a view of the file, or a copy. Raises SfumatoError for what is not finite."""
        rule, i = self.source.params[parameter]
        names, stored = self.source.names(rule), self.source.stored(rule)
        return rule.transform.to_ours([checked(one, name) for one, name in zip(stored, names, strict=True)])[i]

    def release(self, parameter: Parameter) -> None:
        """Let go of the memory of what `read` gave, which must be used no more."""
        for one in self.source.stored(self.source.params[parameter][0]):
            one.release()

    def never_read(self) -> set[Parameter]:
        """Parameters that no picture depends on, and that some layouts therefore leave out."""
        family, spec = self.source.family, self.source.spec
        fitted = family.layouts["diffusers"].fit(spec, {})
        if fitted == spec:
            return set()
        kept = {(part, name) for part, network in family.build(fitted).items() for name in network.state_dict()}
        return self.shapes().keys() - kept


@contextmanager
def opened_inputs(
    models: Sequence[str | Path],
    *,
    parts: Sequence[str] | None = None,
    vae: str | Path | None = None,
    text_encoders: Sequence[str | Path] = (),
    ema: bool = False,
    dtype: torch.dtype | None = None,
) -> Iterator[list[Input]]:
    """Open models by path or name. The first is A: it must be complete, if need be with the parts given apart.

    Of the others only the `parts` count, all parts for None. `ema` takes the averaged weights of each that has them.
    `dtype` is that of the result, None for A's own.

    Raises SfumatoError for what cannot be opened, is not complete, or does not fit A.
    """
    with ExitStack() as stack:
        inputs: list[Input] = []
        for model in models:
            path, variant = locate(model)
            apart = (None, ()) if inputs else (vae, text_encoders)
            resolved = stack.enter_context(opened_model(path, *apart, Overrides(variant)))
            averaged = ema and has_ema(resolved.checkpoint, resolved.family, resolved.layout)
            plan = compare(resolved, averaged, _unwanted(inputs[0], resolved, parts) if inputs else ())
            origin = resolved.checkpoint, resolved.family, resolved.layout, resolved.spec
            file = hashed_file(path)
            digest = sha256(file) if file else None
            inputs.append(Input(Source(*origin, plan, averaged, dtype), path.name, digest, resolved.given))
            if len(inputs) > 1:
                _check_fits(inputs[0], inputs[-1], parts)
                continue
            require_complete(resolved.checkpoint, resolved.family, plan)
            if strange := [part for part in parts or () if part not in plan.networks]:
                raise unknown("part", strange[0], plan.networks)
        if ema and not any(one.source.ema for one in inputs):
            raise SfumatoError("none of the models holds averaged (EMA) weights; merge them without --ema")
        yield inputs


def _unwanted(first: Input, model: Resolved, parts: Sequence[str] | None) -> set[str]:
    """The parts of a further model that do not count. Raises SfumatoError where it lacks one that does."""
    mine = set(first.source.plan.networks)
    wanted = mine if parts is None else mine & {*parts}
    own = {
        part for part, prefix in model.prefixes.items()
        if part in model.components or holds(model.checkpoint.tensors, prefix)
    }  # fmt: skip
    path = model.checkpoint.path
    if lacking := [part for part in first.source.plan.networks if part in wanted - own]:
        both = ",".join(part for part in first.source.plan.networks if part in wanted & own)
        advice = f"merge what both have with --parts {both}" if both else "give a complete model"
        raise SfumatoError(f"{path} is {model.spec.title} without the parts {', '.join(lacking)}; {advice}")
    return {*model.prefixes} - wanted


def _check_fits(first: Input, other: Input, parts: Sequence[str] | None) -> None:
    """Raises SfumatoError unless every parameter of A that is merged has its counterpart."""
    path, mine, theirs = other.source.checkpoint.path, first.shapes(), other.shapes()
    wanted = {key for key in mine if parts is None or key[0] in parts}
    missing = sorted(wanted - theirs.keys() - first.never_read())
    sizes = [key for key in sorted(wanted & theirs.keys()) if not fits(key, mine[key], theirs[key])]
    family = f"{path} is {other.title}, and {first.source.checkpoint.path} is {first.title}"
    if missing or sizes:
        shown = ", ".join(".".join(key) for key in (missing or sizes)[:3])
        how = f"{len(missing)} of its tensors are missing there" if missing else f"{len(sizes)} have other sizes"
        if first.title == other.title:
            family = f"{path} and {first.source.checkpoint.path} are both {first.title}, but not of one size"
        raise SfumatoError(f"{family}: {how} ({shown} ...); only models of one kind can be merged")
    require_complete(other.source.checkpoint, other.source.family, other.source.plan)
    if other.source.spec.prediction != first.source.spec.prediction:
        warn(
            f"{path} predicts {other.source.spec.prediction}, {first.source.checkpoint.path} "
            f"{first.source.spec.prediction}; the result is read as the latter, and only a difference of two "
            "models that predict alike makes sense"
        )


def fits(parameter: Parameter, mine: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    """Whether a tensor can be merged into A's: it has its shape, or fewer of the channels that a U-Net begins with."""
    if parameter == ("unet", CONV_IN) and len(theirs) == len(mine):
        return theirs[1] <= mine[1] and theirs[0] == mine[0] and theirs[2:] == mine[2:]
    return mine == theirs
