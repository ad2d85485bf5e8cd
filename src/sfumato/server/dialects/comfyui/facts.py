"""What clients are told of nodes, files and the machine."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, HTTPException

from sfumato import __version__
from sfumato.server.dialects.base import QueueOf, UserOf
from sfumato.server.dialects.comfyui.uploads import Uploads
from sfumato.server.jobs.inputs import MAX_BYTES
from sfumato.server.kinds.graph.table import NODES, Node, Sent, files
from sfumato.server.queue import Queue

router = APIRouter()
only_old = APIRouter()
LIKE = "0.3.60"  # the version of ComfyUI whose API this is
# Its names of the folders of models, with the kinds of files in them.
FOLDERS: dict[str, tuple[str, ...]] = {
    "checkpoints": ("model",), "diffusion_models": ("model",), "vae": ("vae",), "text_encoders": ("text encoder",),
    "clip_vision": ("image encoder",), "loras": ("lora",), "controlnet": ("controlnet",),
    "embeddings": ("embedding",), "hypernetworks": ("hypernetwork",), "upscale_models": ("upscaler",),
}  # fmt: skip


def _told(node: Node, sent: Mapping[str, str]) -> dict[str, Any]:
    """What is said of a node, with the names of the pictures that a user sent."""
    told = node.told()
    for name, one in node.inputs.items():
        if isinstance(one.widget, Sent):
            told["input"]["required"][name][0] = sorted(sent)
    return told


def _all_told(queue: Queue, user: str) -> dict[str, Any]:
    sent = Uploads(queue.config.folder).all(user)
    return {name: _told(node, sent) for name, node in NODES.items()}


@router.get("/object_info")
async def nodes(queue: QueueOf, user: UserOf) -> dict[str, Any]:
    """List all nodes, with their inputs and outputs."""
    return await queue.in_background(_all_told, queue, user)


@router.get("/object_info/{name}")
async def one_node(name: str, queue: QueueOf, user: UserOf) -> dict[str, Any]:
    """Get one node; an empty object if it is unknown."""
    if name not in NODES:
        return {}
    sent = Uploads(queue.config.folder).all(user)
    return {name: await queue.in_background(_told, NODES[name], sent)}


@router.get("/system_stats")
async def machine(queue: QueueOf) -> dict[str, Any]:
    """Describe the machine and its devices."""
    memory = _memory()
    devices = [
        {
            "name": link.device or "starting", "type": (link.device or "cpu").partition(":")[0], "index": number,
            "vram_total": memory[0], "vram_free": memory[1], "torch_vram_total": link.bytes, "torch_vram_free": 0,
        }
        for number, link in enumerate(queue.links)
    ]  # fmt: skip
    return {
        "system": {
            "os": sys.platform, "ram_total": memory[0], "ram_free": memory[1], "comfyui_version": LIKE,
            "sfumato_version": __version__, "python_version": platform.python_version(),
            "pytorch_version": version("torch"), "embedded_python": False, "argv": [],
        },
        "devices": devices,
    }  # fmt: skip


def _memory() -> tuple[int, int]:
    """Bytes of memory in all, and free; 0 where that is not known."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        total, free = (1024 * int(lines[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        return 0, 0
    return total, free


@router.get("/embeddings")
async def embeddings(queue: QueueOf) -> list[str]:
    """List the names of embeddings, as prompts use them."""
    names = await queue.in_background(files, "embedding")
    return [name.rpartition(".")[0] or name for name in names]


@only_old.get("/models")
async def folders() -> list[str]:
    """The folders of models."""
    return list(FOLDERS)


@router.get("/models/{folder}")
async def in_folder(folder: str, queue: QueueOf) -> list[str]:
    """List the files in a folder of models."""
    if folder not in FOLDERS:
        raise HTTPException(404, f"there is no folder {folder[:40]!r}; there are {', '.join(FOLDERS)}")
    return list(await queue.in_background(files, *FOLDERS[folder]))


@router.get("/extensions")
async def extensions() -> list[str]:
    """List extensions of the page: there are none."""
    return []


@router.get("/features")
async def features() -> dict[str, Any]:
    """List further features of this server."""
    return dict(FEATURES)


FEATURES = {"supports_preview_metadata": False, "max_upload_size": MAX_BYTES}


@router.get("/settings")
async def settings() -> dict[str, Any]:
    """Get settings of the page: none are stored here."""
    return {}


@router.get("/users")
async def users() -> dict[str, Any]:
    """Say where the page stores its settings."""
    return {"storage": "server", "migrated": True}
