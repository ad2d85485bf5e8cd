"""What is on this machine and what there is to choose from, as the web UI lists it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from fastapi import APIRouter

from sfumato.diffusion.sample import SAMPLERS
from sfumato.diffusion.sampler_names import SAMPLER_NAMES, SCHEDULE_NAMES
from sfumato.runtime.device import choose_device, free_memory
from sfumato.server.dialects.a1111.alwayson import ALWAYS_ON, HARMLESS
from sfumato.server.dialects.a1111.local import LocalFile, file_name, title
from sfumato.server.dialects.a1111.scripts import SCRIPTS, scripts_of
from sfumato.server.dialects.a1111.scripts.base import Argument
from sfumato.server.dialects.a1111.state import A1111, StateOf
from sfumato.server.dialects.a1111.txt2img import FILTERS, LATENT_MODES
from sfumato.server.dialects.base import UserOf
from sfumato.text.prompt.styles import read_styles
from sfumato.user_config import folder

router = APIRouter(prefix="/sdapi/v1", tags=["a1111"])
Rows = list[dict[str, Any]]
Result = TypeVar("Result")


async def _of_kind(state: A1111, kind: str, row: Callable[[LocalFile], dict[str, Any]]) -> Rows:
    return [row(one) for one in await state.queue.in_background(state.files.of_kind, kind)]


@router.get("/samplers")
async def samplers() -> Rows:
    """List the samplers, by the web UI's names."""
    return [
        {"name": one.label, "aliases": [name, *one.aliases], "options": {"scheduler": SAMPLERS[name].schedule}}
        for name, one in SAMPLER_NAMES.items() if name in SAMPLERS
    ]  # fmt: skip


@router.get("/schedulers")
async def schedulers() -> Rows:
    """List the schedules of noise levels; automatic is the one that suits sampler and model."""
    rows: list[tuple[str, str, list[str]]] = [("automatic", "Automatic", [])]
    rows += [(name, one.label, [*one.aliases]) for name, one in SCHEDULE_NAMES.items()]
    return [
        {"name": name, "label": label, "aliases": aliases, "default_rho": 7.0 if name == "karras" else -1,
         "need_inner_model": False}
        for name, label, aliases in rows
    ]  # fmt: skip


@router.get("/upscalers")
async def upscalers(state: StateOf) -> Rows:
    """List the upscalers: filters, and the networks on the server's machine."""
    empty = {"model_name": None, "model_path": None, "model_url": None, "scale": 4.0}
    found = await _of_kind(state, "upscaler", lambda one: {**empty, "name": one.name, "model_name": file_name(one)})
    return [{**empty, "name": name} for name in FILTERS] + found


@router.get("/latent-upscale-modes")
async def latent_modes() -> Rows:
    """List the ways to enlarge latents; all of them are bilinear here."""
    return [{"name": name} for name in LATENT_MODES]


@router.get("/sd-models")
async def checkpoints(state: StateOf) -> Rows:
    """List the checkpoints on the server's machine."""
    return await _of_kind(state, "model", lambda one: {
        "title": title(one), "model_name": one.name, "hash": one.sha256 and one.sha256[:10], "sha256": one.sha256,
        "filename": file_name(one), "config": None,
    })  # fmt: skip


def _module(one: LocalFile) -> dict[str, Any]:
    return {"model_name": file_name(one), "filename": file_name(one)}


@router.get("/sd-vae")
async def vaes(state: StateOf) -> Rows:
    """List the VAEs on the server's machine."""
    return await _of_kind(state, "vae", _module)


@router.get("/sd-modules")
async def modules(state: StateOf) -> Rows:
    """List the VAEs and text encoders on the server's machine, as Forge does."""
    return await _of_kind(state, "vae", _module) + await _of_kind(state, "text encoder", _module)


@router.get("/loras")
async def loras(state: StateOf) -> Rows:
    """List the LoRAs on the server's machine; prompts use them as <lora:NAME:WEIGHT>."""
    return await _of_kind(state, "lora", lambda one: {
        "name": one.name, "alias": one.name, "path": file_name(one), "metadata": {},
    })  # fmt: skip


@router.get("/embeddings")
async def embeddings(state: StateOf) -> dict[str, dict[str, Any]]:
    """List the embeddings on the server's machine; prompts use them by name."""
    found = await state.queue.in_background(state.files.embeddings)
    return {"loaded": found, "skipped": {}}


@router.get("/hypernetworks")
async def hypernetworks(state: StateOf) -> Rows:
    """List the hypernetworks on the server's machine; prompts use them as <hypernet:NAME:WEIGHT>."""
    return await _of_kind(state, "hypernetwork", lambda one: {"name": one.name, "path": file_name(one)})


@router.get("/face-restorers")
async def face_restorers() -> Rows:
    """List the face restorers: there are none here."""
    return []


@router.get("/realesrgan-models")
async def realesrgan_models(state: StateOf) -> Rows:
    """List the networks that enlarge pictures."""
    return await _of_kind(state, "upscaler", lambda one: {"name": one.name, "path": file_name(one), "scale": 4})


@router.get("/prompt-styles")
async def prompt_styles(state: StateOf) -> Rows:
    """List the styles in styles.csv."""
    path = folder("config") / "styles.csv"
    found = await state.queue.in_background(lambda: read_styles(path) if path.exists() else {})
    return [{"name": name, "prompt": one.prompt, "negative_prompt": one.negative} for name, one in found.items()]


@router.get("/extensions")
async def extensions() -> Rows:
    """List the web UI's extensions: there are none here."""
    return []


@router.get("/artist-categories")
@router.get("/artists")
async def artists() -> Rows:
    """List the artists, as old versions of the web UI did."""
    return []


@router.get("/scripts")
async def scripts() -> dict[str, list[str]]:
    """List the scripts that requests may choose, and those that they may add."""
    names = {kind: [one.name for one in scripts_of(kind == "img2img")] for kind in ("txt2img", "img2img")}
    return {kind: [*found, *ALWAYS_ON, *HARMLESS] for kind, found in names.items()}


@router.get("/script-info")
async def script_info() -> Rows:
    """List the arguments of the scripts that requests may choose."""
    return [
        {"name": one.name, "is_alwayson": False, "is_img2img": img2img,
         "args": list(map(_told, one.arguments(img2img)))}
        for img2img in (False, True) for one in SCRIPTS if one in scripts_of(img2img)
    ]  # fmt: skip


def _told(one: Argument) -> dict[str, Any]:
    return {**vars(one), "choices": None if one.choices is None else list(one.choices)}


@router.get("/options")
async def get_options(state: StateOf, user: UserOf) -> dict[str, Any]:
    """Get the user's settings."""
    return await state.queue.in_background(state.options.get, user)


@router.post("/options")
async def set_options(values: dict[str, Any], state: StateOf, user: UserOf) -> None:
    """Change settings; keys that cannot be set are ignored, so a client may send the whole object back."""
    await state.queue.in_background(state.options.set, user, values)


@router.get("/cmd-flags")
async def cmd_flags(state: StateOf) -> dict[str, Any]:
    """Get the command line options of the server that clients ask for."""
    config = state.queue.config
    return {
        "api": True, "listen": config.host not in ("127.0.0.1", "localhost", "::1"), "port": config.port,
        "api_auth": None, "nowebui": False, "device_id": None, "api_server_stop": False,
    }  # fmt: skip


@router.get("/memory")
async def memory(state: StateOf) -> dict[str, dict[str, Any]]:
    """Get the memory that is free and in use, in bytes."""
    return await state.queue.in_background(_memory)


def _memory() -> dict[str, dict[str, Any]]:
    import torch

    total, free = _ram()
    ram = {"free": free, "used": total - free, "total": total} if total else {"error": "unavailable"}
    device = choose_device(None)
    if device.type != "cuda":
        return {"ram": ram, "cuda": {"error": "unavailable"}}
    free, total = torch.cuda.mem_get_info(device)
    return {"ram": ram, "cuda": {"system": {"free": free, "used": total - free, "total": total}}}


def _ram() -> tuple[int, int]:
    """All bytes of memory and those that are free, 0 where nobody says."""
    import torch

    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemTotal"].split()[0]) * 1024, free_memory(torch.device("cpu")) or 0
    except (OSError, KeyError, ValueError):
        return 0, 0


@router.post("/refresh-checkpoints")
@router.post("/refresh-vae")
@router.post("/refresh-loras")
@router.post("/refresh-embeddings")
async def refresh(state: StateOf) -> None:
    """Read the model folders again."""
    state.files.refresh()


@router.post("/unload-checkpoint")
async def unload(state: StateOf) -> dict[str, Any]:
    """Unload models that no running job needs."""
    await state.queue.command({"do": "unload"})
    return {}


@router.post("/reload-checkpoint")
async def reload(state: StateOf, user: UserOf) -> dict[str, Any]:
    """Load the checkpoint of the user's settings."""
    options = await state.queue.in_background(state.options.get, user)
    model = await state.queue.in_background(state.files.find, options["sd_model_checkpoint"])
    await state.queue.command({"do": "load", "model": model.name})
    return {}
