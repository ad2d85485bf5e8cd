"""What the page asks for besides jobs: its files, options, how words and files are read, the gallery, trainings."""

from __future__ import annotations

from fastapi import APIRouter

from sfumato.server.dialects.base import Dialect
from sfumato.server.dialects.page import animation, gallery, memory, options, reading, site, trainings

router = APIRouter()
for _part in (options, memory, reading, gallery, animation, trainings):
    router.include_router(_part.router, prefix="/api", tags=["sfumato"])
router.include_router(site.router)

PAGE = Dialect("page", router, ("/web/",), lambda status, message: {"error": message})
