"""The script "SD upscale": a picture enlarged, and drawn over in windows."""

from __future__ import annotations

from sfumato.server.dialects.a1111.bodies import DrawBody
from sfumato.server.dialects.a1111.scripts.base import Argument, Plan, Requests, Script, argument
from sfumato.server.dialects.a1111.txt2img import FILTERS
from sfumato.settings.checks import check_number
from sfumato.settings.task_options import MAX_SCALE

WINDOW = 512  # pixels; the script gives the overlap in pixels of such a window


class SdUpscale(Script):
    """Arguments: a text for people, the overlap in pixels, the upscaler (its name or its place in the list), scale."""

    name = "sd upscale"
    txt2img = False

    def arguments(self, img2img: bool) -> list[Argument]:
        return [
            Argument("", ""), Argument("Tile overlap", 64, 0, 256, 16),
            Argument("Upscaler", "None", choices=FILTERS), Argument("Scale Factor", 2.0, 1.0, 4.0, 0.05),
        ]  # fmt: skip

    def plan(self, body: DrawBody, requests: Requests) -> Plan:
        values = body.script_args or []
        chosen = argument(values, 2, "None")
        if isinstance(chosen, int):
            chosen = FILTERS[chosen] if 0 <= chosen < len(FILTERS) else str(chosen)
        overlap, scale = argument(values, 1, 64), argument(values, 3, 2.0)
        check_number("Tile overlap", overlap, 0, WINDOW / 2, 64)
        check_number("Scale Factor", scale, 1, MAX_SCALE, 2)
        how = {"scale": scale, "overlap": overlap / WINDOW}
        if chosen not in FILTERS:
            how["upscaler"] = chosen
        found = []
        for request in requests(body):
            options = {name: value for name, value in request.options.items() if name not in ("width", "height")}
            own = {**how, "strength": request.how["strength"]}
            found.append(request.but(kind="upscale", how=own, options=options))
        return Plan(found)
