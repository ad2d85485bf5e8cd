"""Downloading a release into the own models folder, once its licence is accepted."""

from __future__ import annotations

import difflib
import os
import re
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato import user_config as settings
from sfumato.checkpoint.hashes import sha256
from sfumato.checkpoint.open import choose_weights, read_json, shards
from sfumato.errors import SfumatoError
from sfumato.hub import licence_acceptance
from sfumato.hub.catalogue import RELEASES, Release, release
from sfumato.hub.licences import licence

if TYPE_CHECKING:
    from sfumato.hub.transfer import Remote

INDEX = "model_index.json"
SMALL = (".json", ".txt", ".model")
UNUSED = ("safety_checker",)

Progress = Callable[[str, int, int], None]


def wanted(name: str) -> Release:
    """The release to pull. Raises SfumatoError, naming those that there are, for any other name."""
    found = release(name)
    if found is not None:
        return found
    names = [one.name for one in RELEASES]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
    raise SfumatoError(f"there is no release {name!r}; {hint}")


def pull(
    name: str,
    layout: str | None = None,
    *,
    accept_licence: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> Path:
    """Download what is not there yet of a release and return its file, or in the diffusers layout its folder.

    `layout` None takes the one that is complete. `accept_licence` says that you accept the release's licence (see
    `hub.licence_text`), which is recorded; once for each release is enough. `progress(what, bytes, of how many)` is
    called while it downloads. An interrupted pull continues where it stopped.

    Raises SfumatoError offline, without the licence accepted, without room on the disk, when the hub cannot be reached
    or refuses, and when what it sends is not the release.
    """
    one = wanted(name)
    layout = layout or one.layout
    kinds = ("original",) if one.folder is None else ("original", "diffusers")
    if layout not in kinds:
        raise SfumatoError(f"{one.name} has no layout {layout!r}; choose {' or '.join(kinds)}")
    settings.forbid_offline(f"pulling {one.name}")
    if not licence_acceptance.accepted(one):
        if not accept_licence:
            raise SfumatoError(
                f"{one.name} comes under {licence(one.licence).title}, which you have not accepted; read "
                f"`sfumato licence {one.name}`, then pull with --accept-licence"
            )
        licence_acceptance.record(one)
    return _pull_file(one, progress) if layout == "original" else _pull_folder(one, progress)


def _pull_file(one: Release, progress: Progress) -> Path:
    from sfumato.hub.transfer import listing, pinned

    target = settings.own_models() / one.file.name
    if target.is_file() and sha256(target) == one.file.sha256:
        return target
    remote = pinned(listing(one.repository), one.file, one.repository)
    if target.exists() and not remote.is_at(target):
        raise SfumatoError(f"{target} is there and is not the released file; move it away and pull again")
    _fetch_all({remote: target}, progress)
    return target


def _pull_folder(one: Release, progress: Progress) -> Path:
    """The components that model_index.json names, which itself comes last: a folder that has it is whole."""
    from sfumato.hub.transfer import listing

    folder = settings.own_models() / one.name
    if (folder / INDEX).is_file():
        return folder
    repository = one.folder or one.repository
    files = listing(repository)

    def get(paths: Iterable[str]) -> None:
        missing = [path for path in paths if path not in files]
        if missing:
            raise SfumatoError(f"{repository} does not hold {missing[0]}, which it should; try later")
        _fetch_all({files[path]: folder / path for path in paths}, progress)

    staged = folder / f".{INDEX}"
    if INDEX not in files:
        raise SfumatoError(f"{repository} holds no {INDEX}; it is no diffusers folder")
    _fetch_all({files[INDEX]: staged}, progress)
    weights = {name: _weights_of(name, files) for name in _components(read_json(staged))}
    get([path for path in files if _is_small(path, weights)])
    large = [f"{name}/{file}" for name, chosen in weights.items() for file in _shards(folder / name, chosen)]
    get(large)
    os.replace(staged, folder / INDEX)
    return folder


def _components(index: dict[str, Any]) -> list[str]:
    """The subfolders that model_index.json names and that are of use."""
    return [
        name
        for name, entry in index.items()
        if isinstance(entry, list) and entry[:1] != [None] and name not in UNUSED and re.fullmatch(r"\w+", name)
    ]


def _weights_of(component: str, files: Iterable[str]) -> str | None:
    """The weight file that our reader would take, or the list of its shards; None for a component without weights."""
    inner = f"{component}/"
    return next(iter(choose_weights(path.removeprefix(inner) for path in files if path.startswith(inner))), None)


def _shards(component: Path, chosen: str | None) -> list[str]:
    if chosen is not None and chosen.endswith(".json"):
        return [path.name for path in shards(component / chosen)]
    return [] if chosen is None else [chosen]


def _is_small(path: str, weights: dict[str, str | None]) -> bool:
    """Configurations and vocabularies, and of the lists of shards the one that is needed."""
    component, _, name = path.partition("/")
    if component not in weights or "/" in name:
        return False
    return name == weights[component] if ".index." in name else name.endswith(SMALL)


def _fetch_all(targets: dict[Remote, Path], progress: Progress) -> None:
    """Fetch what is not there yet. Raises SfumatoError before the first byte where the disk has no room for it."""
    from sfumato.hub.transfer import fetch

    targets = {remote: target for remote, target in targets.items() if not remote.is_at(target)}
    total = sum(remote.size for remote in targets)
    _require_room(total - sum(_kept(remote.digest) for remote in targets))
    before = 0
    for remote, target in targets.items():
        fetch(remote, target, _parts(), partial(_report, progress, remote.name, before, total))
        before += remote.size


def _report(progress: Progress, name: str, before: int, total: int, done: int) -> None:
    progress(name, before + done, total)


def _parts() -> Path:
    return settings.own_models() / ".partial"


def _kept(digest: str) -> int:
    """Bytes that an earlier try left."""
    part = _parts() / digest
    return part.stat().st_size if part.exists() else 0


def _require_room(needed: int) -> None:
    home = settings.own_models()
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise SfumatoError(
            f"{home} needs {needed / 1e9:.2f} GB more, {free / 1e9:.2f} GB are free; make room or set SFUMATO_HOME"
        )
