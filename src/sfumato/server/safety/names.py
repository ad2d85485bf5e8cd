"""Requests name files by what they are called on this machine, never by paths."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sfumato.errors import SfumatoError, shortened
from sfumato.hub.licence_acceptance import accepted
from sfumato.hub.local_adapters import find_adapter
from sfumato.hub.local_models import EMBEDDED, find, in_model_folders, release_of
from sfumato.server.composite import Composite
from sfumato.server.jobs.inputs import is_input
from sfumato.server.jobs.job import JobRequest
from sfumato.settings.adapters import read_lora
from sfumato.settings.picture import OWN_CHECKER
from sfumato.text.prompt.syntax import parsed

LISTED = "give the name of one on this machine, without its folder (GET /api/models lists them)"
_PATH = re.compile(r"[\x00-\x1f\\]|^[/~]|^[A-Za-z]:|(?:^|/)\.\.?(?:/|$)|//")
_TAGS = {"lora": "lora", "lyco": "lora", "hypernet": "hypernetwork", "embedding": "embedding"}


class Forbidden(SfumatoError):
    """A request for something that no client may do."""


def named_file(what: str, name: object, kind: str) -> Path:
    """Returns the file in the model folders that a client's name means; `what` is the option, for messages.

    Raises SfumatoError for a path, for a value that is no name, and if there is no such file.
    """
    if not isinstance(name, str) or not name.strip() or len(name) > 255 or _PATH.search(name):
        raise SfumatoError(f"{what} is {shortened(name)}, which is no name; {LISTED}")
    path = find(name, kind).path if kind in ("model", "upscaler") else find_adapter(name, (kind,))
    if not in_model_folders(path):
        raise SfumatoError(f"{what} is {shortened(name)}, which is not in a model folder; {LISTED}")
    return path


def _model(what: str, value: object) -> Iterator[Path]:
    if not isinstance(value, str):
        yield named_file(what, value, "model")
        return
    parts = Composite.of(value)
    if parts.model != EMBEDDED:
        yield named_file(what, parts.model, "model")
    if parts.vae is not None:
        yield named_file(f"the VAE of {what}", parts.vae, "vae")
    for one in parts.text_encoders:
        yield named_file(f"a text encoder of {what}", one, "text encoder")


def _kind(kind: str, *words: str) -> Callable[[str, object], Iterator[Path]]:
    """Returns a check for names of files of a kind; `words` are values that name no file."""

    def check(what: str, value: object) -> Iterator[Path]:
        if not (isinstance(value, str) and value.lower() in words):
            yield named_file(what, value, kind)

    return check


def _several(kind: str, with_weight: bool) -> Callable[[str, object], Iterator[Path]]:
    def check(what: str, value: object) -> Iterator[Path]:
        for one in [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else ():
            try:
                name = read_lora(one).name if with_weight and isinstance(one, str) else one
            except ValueError as error:
                raise SfumatoError(str(error).replace("{name}", what)) from None
            yield named_file(what, name, kind)

    return check


def _picture(what: str, value: object) -> Iterator[Path]:
    if not is_input(value):
        raise SfumatoError(f"{what} is {shortened(value)}; send a picture, not the name of a file")
    return iter(())


def _operators(what: str, value: object) -> Iterator[Path]:
    raise Forbidden(f"{what} names a file of the server, which is not for clients to choose; leave it out")


def _checker(what: str, value: object) -> Iterator[Path]:
    return iter(()) if value == OWN_CHECKER else _operators(what, value)


def _each(table: Mapping[str, Callable[[str, object], Iterator[Path]]]) -> Callable[[str, object], Iterator[Path]]:
    """Returns a check for lists of objects, such as controls; `table` has a check for each key that names a file."""

    def check(what: str, value: object) -> Iterator[Path]:
        for one in value if isinstance(value, list | tuple) else [value]:
            if not isinstance(one, Mapping):
                raise SfumatoError(f"{what} is {shortened(value)}; give a list of objects, each with model and image")
            for name, check in table.items():
                if one.get(name) is not None:
                    yield from check(f"{what}.{name}", one[name])

    return check


HOLDS: dict[str, Callable[[str, object], Iterator[Path]]] = {
    "lora": _several("lora", True),
    "hypernetwork": _several("hypernetwork", True),
    "embedding": _several("embedding", False),
    "control": _each({"model": _kind("controlnet"), "depth_model": _model, "image": _picture}),
    "ip_adapter": _each({"model": _kind("ip-adapter"), "encoder": _kind("image encoder"), "image": _picture}),
    "image_prompt": _picture,
    "clip_vision": _kind("image encoder"),
    "hires_upscaler": _kind("upscaler", "latent", "lanczos"),
    "upscaler": _kind("upscaler", "lanczos", "nearest", "bicubic", "bilinear"),
    "safety": _checker,
    "aesthetic": _operators,
    "wildcards": _operators,
    "styles_file": _operators,
}
"""The options that hold names of files or pictures, and what checks each of them."""


def check_names(request: JobRequest, licences: bool = False) -> None:
    """Raises SfumatoError if a request names a file in any other way than by its name in the model folders.

    With `licences`, raises Forbidden for a model whose licence was not accepted on this machine.
    """
    for path in _named(request):
        if licences and (known := release_of(path)) is not None and not accepted(known):
            raise Forbidden(
                f"the licence of {known.title} was not accepted on this machine; "
                f"whoever runs the server accepts it by `sfumato pull {known.name}`"
            )


def _named(request: JobRequest) -> Iterator[Path]:
    yield from _model("model", request.model)
    if request.refiner is not None:
        yield from _model("refiner", request.refiner)
    for given in (request.options, request.how):
        for name, check in HOLDS.items():
            if given.get(name) is not None:
                yield from check(name, given[name])
    for name, picture in request.pictures.items():
        yield from _picture(f"the picture {name}", picture)
    yield from _in_prompts(request)


def _in_prompts(request: JobRequest) -> Iterator[Path]:
    """Yields the files that tags such as <lora:NAME> name. Tags that come from wildcards are checked by the worker."""
    syntax = request.options.get("prompt_syntax") or "a1111"
    prompts: list[Any] = [request.prompt, request.negative]
    prompts += [request.options.get(name) for name in ("hires_prompt", "hires_negative")]
    if isinstance(further := request.how.get("prompts"), list | tuple):
        prompts += further
    for text in prompts:
        if not isinstance(text, str) or not isinstance(syntax, str) or not ("<" in text or "embedding:" in text):
            continue
        for tag in parsed(syntax, text).adapters:
            if _PATH.search(tag.name):
                yield named_file(f"{tag.kind} in the prompt", tag.name, _TAGS[tag.kind])
