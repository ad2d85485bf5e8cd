"""The API of the ControlNet extension."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException
from pydantic import AliasChoices, Field

from sfumato.images.control.canny import HIGH, LOW
from sfumato.images.files import on_white
from sfumato.server.dialects.a1111.bodies import Body, Int
from sfumato.server.dialects.a1111.local import LocalFile
from sfumato.server.dialects.a1111.pictures import picture_of, sent
from sfumato.server.dialects.a1111.replies import ordered
from sfumato.server.dialects.a1111.state import A1111, StateOf
from sfumato.server.dialects.a1111.units import MODULE_NAMES, hint_of
from sfumato.server.dialects.base import UserOf
from sfumato.server.jobs.job import JobRequest
from sfumato.settings.control import HINTS

API_VERSION = 2
UNITS = 3
router = APIRouter(prefix="/controlnet", tags=["a1111"])


def named(model: LocalFile) -> str:
    """The name of a ControlNet in lists, with the first digits of its hash where that is known."""
    return f"{model.name} [{model.sha256[:8]}]" if model.sha256 else model.name


async def _models(state: A1111) -> list[str]:
    kinds = ("controlnet", "ip-adapter")
    return [named(one) for kind in kinds for one in await state.queue.in_background(state.files.of_kind, kind)]


@router.get("/version")
async def version() -> dict[str, int]:
    """Get the version of this API."""
    return {"version": API_VERSION}


@router.get("/settings")
async def settings() -> dict[str, int]:
    """Get the number of units on the extension's page; requests to this server may have more."""
    return {"control_net_unit_count": UNITS}


@router.get("/model_list")
async def model_list(state: StateOf, update: bool = True) -> dict[str, list[str]]:
    """List the ControlNets, T2I-Adapters and IP-Adapters on the server's machine."""
    if update:
        state.files.refresh()
    return {"model_list": await _models(state)}


@router.get("/module_list")
async def module_list(alias_names: bool = False) -> dict[str, Any]:
    """List the preprocessors, by the extension's names, or with `alias_names` by sfumato's."""
    names = [*HINTS] if alias_names else [*MODULE_NAMES]
    return {"module_list": names, "module_detail": {name: _detail(name) for name in names}}


def _detail(name: str) -> dict[str, Any]:
    if hint_of(name) != "canny":
        return {"model_free": False, "sliders": []}
    sliders: list[dict[str, Any] | None] = [None]
    for label, value in (("Canny Low Threshold", LOW), ("Canny High Threshold", HIGH)):
        sliders.append({"name": label, "min": 1, "max": 255, "value": value})
    return {"model_free": False, "sliders": sliders}


@router.get("/control_types")
async def control_types(state: StateOf) -> dict[str, dict[str, Any]]:
    """List preprocessors and networks by control type; every type has all networks here."""
    models = ["None", *await _models(state)]
    usual = models[min(1, len(models) - 1)]
    types = {
        hint.capitalize(): {
            "module_list": ["none", module], "model_list": models, "default_option": module, "default_model": usual
        }
        for module, hint in MODULE_NAMES.items() if module != "none"
    }  # fmt: skip
    everything = {
        "module_list": [*MODULE_NAMES],
        "model_list": models,
        "default_option": "none",
        "default_model": "None",
    }
    return {"control_types": {"All": everything, **types}}


class DetectBody(Body):
    """What a hint is to be made of; the older names of the fields are understood."""

    controlnet_module: str | None = "none"
    controlnet_input_images: list[str] | None = Field(
        None, validation_alias=AliasChoices("controlnet_input_images", "controlnet_images")
    )
    controlnet_processor_res: Int | None = -1
    controlnet_threshold_a: float | None = -1
    controlnet_threshold_b: float | None = -1
    controlnet_masks: list[str] | None = None
    low_vram: bool | None = False


@router.post("/detect")
async def detect(body: DetectBody, state: StateOf, user: UserOf) -> dict[str, Any]:
    """Make the hints that a ControlNet would get of pictures."""
    hint = hint_of(body.controlnet_module or "none")
    if not body.controlnet_input_images:
        raise HTTPException(422, "No image selected: send controlnet_input_images")
    if hint == "inpaint":
        raise HTTPException(422, "Module not supported: the hint of inpainting needs the task's own mask")
    how: dict[str, Any] = {"hint": hint}
    if (body.controlnet_processor_res or -1) > 0 and hint != "none":
        how["short"] = body.controlnet_processor_res
    if hint == "canny":
        given = {"low": body.controlnet_threshold_a, "high": body.controlnet_threshold_b}
        how |= {name: value for name, value in given.items() if value is not None and value >= 0}
    texts, inputs = body.controlnet_input_images, state.queue.inputs
    options = await state.queue.in_background(state.options.get, user)

    def asked() -> list[JobRequest]:
        model = state.files.find(options["sd_model_checkpoint"]).name
        names = [inputs.add(on_white(picture_of(text, "an input image"))) for text in texts]
        return [JobRequest(kind="hint", model=model, how=how, pictures={"image": name}) for name in names]

    jobs = await state.calls.run(user, await state.queue.in_background(asked))
    files = [state.queue.config.outputs / one.file for job in jobs for one in ordered(job)]
    images = await state.queue.in_background(lambda: [sent(path, "", "png") for path in files])
    return {"info": "Success", "images": images}


@router.post("/render_openpose_json")
async def render_poses() -> None:
    """Refuse: poses are not drawn here."""
    raise HTTPException(422, "poses are not drawn here; send a picture of the pose as the hint, with the module none")
