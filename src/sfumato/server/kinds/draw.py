"""The tasks of the library as kinds of requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from PIL import Image

from sfumato.errors import SfumatoError, unknown
from sfumato.hub.local_models import locate
from sfumato.images.files import on_white
from sfumato.images.inputs import split_image_and_mask
from sfumato.loading.upscalers import load_upscaler
from sfumato.server.jobs.inputs import Inputs
from sfumato.server.jobs.job import JobRequest
from sfumato.server.kinds.base import Begun, Bench, Desk, Kind
from sfumato.settings.control import Control
from sfumato.settings.image_prompt import ImagePrompt
from sfumato.settings.option import options_in
from sfumato.settings.settings import MAX_SEED, Settings
from sfumato.settings.task_options import (
    Depth2ImgOptions,
    Img2ImgOptions,
    InpaintOptions,
    InterpolateOptions,
    OutpaintOptions,
    UpscaleOptions,
)
from sfumato.tasks.depth2img import Depth2ImgRequest
from sfumato.tasks.img2img import Img2ImgRequest
from sfumato.tasks.inpaint import InpaintRequest
from sfumato.tasks.interpolate import InterpolateRequest
from sfumato.tasks.outpaint import OutpaintMargins, OutpaintRequest
from sfumato.tasks.request import Request
from sfumato.tasks.txt2img import Txt2ImgRequest
from sfumato.tasks.upscale import UpscaleRequest

Given = dict[str, Any]
STEERED = {"control": Control, "ip_adapter": ImagePrompt}  # options that hold networks with pictures


@dataclass(frozen=True)
class Form:
    """How a task's request is made: of the pictures it takes, and of the groups of its own options.

    `make` gets what all requests have, the pictures by name, and the own options.
    """

    make: Callable[[Given, Mapping[str, Image.Image], Given], Request]
    pictures: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    groups: tuple[type, ...] = ()
    further: tuple[str, ...] = ()


def _txt2img(given: Given, pictures: Mapping[str, Image.Image], how: Given) -> Request:
    if not isinstance(how.get("attention", False), bool):
        raise SfumatoError(f"attention is {how['attention']!r}; give true or false")
    return Txt2ImgRequest(**how, **given)


def _inpaint(given: Given, pictures: Mapping[str, Image.Image], how: Given) -> Request:
    image, mask = split_image_and_mask(pictures["image"], pictures.get("mask"))
    return InpaintRequest(image=image, mask=mask, how=InpaintOptions(**how), **given)


def _outpaint(given: Given, pictures: Mapping[str, Image.Image], how: Given) -> Request:
    own = {name: how.pop(name) for name in options_in(OutpaintOptions) if name in how}
    OutpaintOptions(**own)
    return OutpaintRequest(image=_rgb(pictures)["image"], margins=OutpaintMargins(**how), **own, **given)


def _upscale(given: Given, pictures: Mapping[str, Image.Image], how: Given) -> Request:
    if isinstance(how.get("upscaler"), str):
        how["upscaler"] = load_upscaler(locate(how["upscaler"], "upscaler")[0])
    return UpscaleRequest(image=_rgb(pictures)["image"], how=UpscaleOptions(**how), **given)


def _interpolate(given: Given, pictures: Mapping[str, Image.Image], how: Given) -> Request:
    del given["prompt"]
    asdict(InterpolateOptions(**{name: how[name] for name in options_in(InterpolateOptions) if name in how}))
    return InterpolateRequest(**how, **given)


def _rgb(pictures: Mapping[str, Image.Image]) -> Given:
    return {name: on_white(image) for name, image in pictures.items()}


DRAWN: dict[str, Form] = {
    "txt2img": Form(_txt2img, further=("attention",)),
    "img2img": Form(
        lambda given, pictures, how: Img2ImgRequest(**_rgb(pictures), **asdict(Img2ImgOptions(**how)), **given),
        ("image",), ("image",), (Img2ImgOptions,),
    ),
    "inpaint": Form(_inpaint, ("image", "mask"), ("image",), (InpaintOptions,)),
    "outpaint": Form(_outpaint, ("image",), ("image",), (OutpaintOptions, OutpaintMargins)),
    "upscale": Form(_upscale, ("image",), ("image",), (UpscaleOptions,)),
    "depth2img": Form(
        lambda given, pictures, how: Depth2ImgRequest(**_rgb(pictures), **asdict(Depth2ImgOptions(**how)), **given),
        ("image", "depth"), (), (Depth2ImgOptions,),
    ),
    "interpolate": Form(_interpolate, (), (), (InterpolateOptions,), ("prompts", "seeds")),
}  # fmt: skip


@dataclass(frozen=True)
class Draw(Kind):
    """A task of the library."""

    form: Form

    def checked(self, request: JobRequest, desk: Desk) -> JobRequest:
        settings = self._settings(request, desk)
        options = {**request.options, "seed": settings.seed}
        if settings.variation_seed is not None:
            options["variation_seed"] = settings.variation_seed
        return request.but(options=options)

    def size(self, request: JobRequest, desk: Desk) -> tuple[int, int]:
        settings = self._settings(request, desk)
        return settings.draws, settings.width * settings.height

    def _settings(self, request: JobRequest, desk: Desk) -> Settings:
        spec = desk.spec(request.model)
        refiner = None if request.refiner is None else desk.spec(request.refiner)
        made = self._request(request, desk.inputs)
        if isinstance(made, Txt2ImgRequest) and refiner is not None:
            return Settings.of(spec, made.prompt, made.negative, refiner=refiner, **made.options)
        return made.settings(spec)

    def begin(self, request: JobRequest, bench: Bench, done: int = 0) -> Begun:
        model = bench.model(request.model)
        made = self._request(remaining(request, done), bench.inputs)
        if request.refiner is not None and isinstance(made, Txt2ImgRequest):
            made = Txt2ImgRequest(**{**vars(made), "refiner": bench.model(request.refiner)})
        events = model.events(made)
        return Begun(events.drawing, events.max_rows)

    def _request(self, request: JobRequest, inputs: Inputs) -> Request:
        form, given = self.form, dict(request.pictures)
        for name in given:
            if name not in form.pictures:
                raise unknown(f"picture of {request.kind}", name, form.pictures or ("none",))
        for name in form.needed:
            if name not in given:
                raise SfumatoError(f"{request.kind} needs a picture {name!r}; send one")
        known = {name for group in form.groups for name in options_in(group)} | set(form.further)
        for name in request.how:
            if name not in known:
                raise unknown(f"option of {request.kind}", name, sorted(known))
        pictures = {name: inputs.open(one) for name, one in given.items()}
        everything: Given = {
            "prompt": request.prompt,
            "negative": request.negative,
            "options": _with_pictures(request.options, inputs),
        }
        return form.make(everything, pictures, dict(request.how))


def _with_pictures(options: Mapping[str, Any], inputs: Inputs) -> Given:
    """The options with pictures in place of their names, and what JSON says of networks that steer made of it."""
    found = {name: inputs.inserted(value) for name, value in options.items()}
    for name, one in STEERED.items():
        if isinstance(found.get(name), list):
            found[name] = [one(**each) if isinstance(each, dict) else each for each in found[name]]
    return found


def remaining(request: JobRequest, done: int) -> JobRequest:
    """The request for what follows the first `done` pictures, which are finished: fewer, with seeds that count on."""
    n, best_of = request.options.get("n") or 1, request.options.get("best_of")
    if done == 0 or best_of is not None or request.kind == "interpolate" or done >= n:
        return request
    options = {**request.options, "n": n - done}
    counts = "seed" if options.get("variation_seed") is None else "variation_seed"
    options[counts] = (options[counts] + done) % MAX_SEED
    return request.but(options=options)
