"""Which model a checkpoint is, all that shows it taken together: family, layout, sizes, and parts given apart."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.checkpoint.keymap import holds
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.families import Family
from sfumato.families import family as family_named
from sfumato.loading import evidence
from sfumato.loading.components import Component, assign, elsewhere, merge, opened
from sfumato.loading.detect import identify
from sfumato.spec import Prediction, Spec


@dataclass(frozen=True)
class Overrides:
    """What a user says of a model; None leaves it to the file.

    `variant` is a release of those with the same tensors, `prediction` what the network predicts, `zero_snr` whether
    its noise levels end at pure noise (zero terminal SNR). `spec` overrules all that is read from the file.
    """

    variant: str | None = None
    prediction: Prediction | None = None
    zero_snr: bool | None = None
    spec: Spec | None = None

    def __bool__(self) -> bool:
        return self != NONE


NONE = Overrides()


@dataclass(frozen=True)
class Resolved:
    """A checkpoint whose model is known; `components` are the parts that came apart or under names of their own."""

    checkpoint: Checkpoint
    family: Family
    layout: str
    spec: Spec
    components: Mapping[str, Component]
    given: frozenset[str]

    @property
    def prefixes(self) -> Mapping[str, str]:
        return self.family.layouts[self.layout].prefixes


@contextmanager
def opened_model(
    path: str | Path,
    vae: str | Path | None = None,
    text_encoders: Iterable[str | Path] = (),
    overrides: Overrides = NONE,
) -> Iterator[Resolved]:
    """Open a model and the parts given apart, and resolve it; the files are open as long as the context lasts.

    Raises SfumatoError for what cannot be opened or is no model, and for parts that do not fit.
    """
    with open_checkpoint(path) as checkpoint, opened(vae, text_encoders) as apart:
        yield resolve(checkpoint, *apart, overrides)


def resolve(
    checkpoint: Checkpoint,
    vae: Checkpoint | None = None,
    text_encoders: Iterable[Checkpoint] = (),
    overrides: Overrides = NONE,
) -> Resolved:
    """The model that a checkpoint is. Raises SfumatoError for one that is none, and for parts that do not fit."""
    family, layout = identify(checkpoint).require(checkpoint)
    spec = overrides.spec
    if spec is None:
        spec = family.read(checkpoint, layout)
        if not family.is_described(checkpoint):
            spec = evidence.apply(spec, family, evidence.statements(checkpoint), checkpoint.path)
    if overrides.variant is not None:
        spec = family.varied(spec, overrides.variant)
    if overrides.prediction is not None:
        spec = family.predicting(spec, overrides.prediction)
    if overrides.zero_snr is not None:
        spec = evidence.with_zero_snr(spec, overrides.zero_snr)
    if spec.family != family.name:
        wanted = family_named(spec.family).spec.title
        raise SfumatoError(f"{checkpoint.path} is {family.spec.title}, not {wanted}; give a file of that family")
    prefixes = family.layouts[layout].prefixes
    given = assign(spec, prefixes, vae, text_encoders)
    components = {**elsewhere(checkpoint, spec, prefixes), **given}
    checkpoint, spec = merge(checkpoint, spec, prefixes, components)
    _check_heads(spec, checkpoint.path, {part for part in prefixes if holds(checkpoint.shapes, prefixes[part])})
    return Resolved(checkpoint, family, layout, spec, components, frozenset(given))


def _check_heads(spec: Spec, path: Path, present: Container[str]) -> None:
    """Raises SfumatoError for widths that the heads of a network do not divide, which only drawing would show.

    Of text encoders only those that are `present` count: the sizes of others are guesses.
    """
    found = {name: getattr(spec, name) for name in ("text", "text_2") if name in present}
    texts = {name: one for name, one in found.items() if one is not None}
    widths = [(f"text encoder ({name})", one.hidden_size, one.heads) for name, one in texts.items()]
    if spec.transformer is None:
        unet = spec.unet
        attending = [width for width, depth in zip(unet.channels, unet.depth, strict=True) if depth]
        widths += [("U-Net", width, unet.heads_at(width)) for width in attending]
    for what, width, heads in widths:
        if not heads or width % heads:
            raise SfumatoError(f"{path} has a {what} of {width} channels for {heads} heads, which do not divide them")
