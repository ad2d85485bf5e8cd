"""The page and its files, which `make page` builds of web/ and which nothing outside of this server adds to."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

router = APIRouter(include_in_schema=False)
FOLDER = Path(str(resources.files("sfumato") / "server" / "web"))
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SAFE = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@router.get("/")
async def page() -> FileResponse:
    """Get the page."""
    return _file("index.html", "no-cache")


@router.get("/web/{name}")
async def part(name: str) -> FileResponse:
    """Get a file of the page; its name changes with its content."""
    return _file(name, "public, max-age=31536000, immutable")


def _file(name: str, kept: str) -> FileResponse:
    path = FOLDER / name
    if path.parent != FOLDER or path.suffix not in TYPES or not path.is_file():
        raise HTTPException(404, f"the page has no file {name[:64]!r}")
    return FileResponse(path, media_type=TYPES[path.suffix], headers={**SAFE, "Cache-Control": kept})
