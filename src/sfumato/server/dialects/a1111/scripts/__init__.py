"""The web UI's scripts that are here."""

from __future__ import annotations

from fastapi import HTTPException

from sfumato.server.dialects.a1111.bodies import DrawBody, Img2ImgBody
from sfumato.server.dialects.a1111.scripts.base import Script
from sfumato.server.dialects.a1111.scripts.enlarge import SdUpscale
from sfumato.server.dialects.a1111.scripts.matrix import PromptMatrix
from sfumato.server.dialects.a1111.scripts.plot import Plot

SCRIPTS: tuple[Script, ...] = (PromptMatrix(), Plot(), SdUpscale())


def scripts_of(img2img: bool) -> list[Script]:
    """The scripts that /img2img or /txt2img may choose."""
    return [one for one in SCRIPTS if (one.img2img if img2img else one.txt2img)]


def find_script(body: DrawBody) -> Script | None:
    """The script that a body chooses, None for none. Raises HTTPException 422 for one that is not here."""
    name = (body.script_name or "").strip().lower()
    if name in ("", "none"):
        return None
    here = scripts_of(isinstance(body, Img2ImgBody))
    found = next((one for one in here if one.name == name), None)
    if found is None:
        known = ", ".join(one.name for one in here)
        raise HTTPException(422, f"Script {name[:80]!r} not found: choose one of {known}")
    return found
