"""The API of AUTOMATIC1111's web UI and of its ControlNet extension, for the clients that know it."""

from __future__ import annotations

from fastapi import APIRouter

from sfumato.server.dialects.a1111 import controlnet, draw, extras, lists, login, progress, refused
from sfumato.server.dialects.a1111.replies import error
from sfumato.server.dialects.base import Dialect

router = APIRouter()
for _part in (draw, extras, progress, lists, refused, controlnet, login):
    router.include_router(_part.router)
router.include_router(progress.internal)

A1111_API = Dialect("a1111", router, ("/sdapi/", "/controlnet/", "/internal/", "/login"), error)
