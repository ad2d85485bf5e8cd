"""From the name or path of a model to the licence that it comes under."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sfumato.errors import SfumatoError
from sfumato.hub.catalogue import RELEASES, release
from sfumato.hub.licences import EMBEDDED_LICENCE, LICENCES, Licence, licence
from sfumato.hub.local_models import EMBEDDED, embedded_model, release_of


@dataclass(frozen=True)
class Terms:
    """A licence and what it is the licence of; `note` says what is uncertain or particular about it."""

    title: str
    licence: Licence
    note: str = ""


def terms(name: str) -> Terms:
    """The terms of a release, of a model file or folder, or of a licence itself.

    Raises SfumatoError where there is no such thing, or it does not show what it is.
    """
    if name == EMBEDDED:
        return Terms("the model that ships with sfumato", licence(EMBEDDED_LICENCE))
    known = release(name)
    if known is not None:
        return Terms(known.title, licence(known.licence), known.note)
    if any(name in (one.id, one.title) for one in LICENCES):
        return Terms(licence(name).id, licence(name))
    path = Path(name).expanduser()
    if path.exists():
        return _of_file(path)
    names = ", ".join(one.name for one in RELEASES)
    raise SfumatoError(f"{name!r} is no release, licence or file; known are {EMBEDDED}, {names}")


def _of_file(path: Path) -> Terms:
    from sfumato.checkpoint.open import open_checkpoint
    from sfumato.loading.detect import identify

    if path.resolve() == embedded_model().resolve():
        return terms(EMBEDDED)
    known = release_of(path)
    if known is not None:
        return terms(known.name)
    with open_checkpoint(path) as checkpoint:
        identity = identify(checkpoint)
    if identity.family is None or not identity.family.spec.licence:
        raise SfumatoError(f"{path} is {identity.title}, whose licence it does not show; ask where it came from")
    spec = identity.family.spec
    return Terms(
        f"{path}, by its tensors {spec.title}",
        licence(spec.licence),
        "who trained this file may have added terms of their own; look where it came from",
    )
