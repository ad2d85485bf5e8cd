"""ComfyUI's API: graphs are queued, and a web socket tells how they go on."""

from __future__ import annotations

from fastapi import APIRouter

from sfumato.server.dialects.base import Dialect
from sfumato.server.dialects.comfyui import facts, pictures, prompts, socket
from sfumato.server.dialects.comfyui.faults import fault

router = APIRouter(tags=["ComfyUI"])
NEWER = APIRouter(prefix="/api", include_in_schema=False)  # where newer clients call the same
for one in (prompts, pictures, facts):
    router.include_router(one.router)
    NEWER.include_router(one.router)
router.include_router(facts.only_old)
router.include_router(socket.router)
router.include_router(NEWER)

PATHS = (
    "/prompt", "/history", "/queue", "/interrupt", "/free", "/upload/", "/view", "/object_info", "/system_stats",
    "/embeddings", "/models", "/extensions", "/features", "/settings", "/users", "/ws",
)  # fmt: skip
PREFIXES = (*PATHS, *(f"/api{path}" for path in PATHS if path not in ("/models", "/ws")), "/api/models/")
COMFYUI = Dialect("comfyui", router, PREFIXES, lambda status, message: {"error": fault(message), "node_errors": {}})
