"""/txt2img and /img2img."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from secrets import randbelow
from typing import Any

from fastapi import APIRouter

from sfumato.server.dialects.a1111.alwayson import always_on
from sfumato.server.dialects.a1111.bodies import DrawBody, DrawReply, Img2ImgBody, Txt2ImgBody
from sfumato.server.dialects.a1111.common import asked_of
from sfumato.server.dialects.a1111.img2img import img2img
from sfumato.server.dialects.a1111.options import overridden
from sfumato.server.dialects.a1111.pictures import sent
from sfumato.server.dialects.a1111.replies import Drawn, info, ordered, parameters
from sfumato.server.dialects.a1111.scripts import find_script
from sfumato.server.dialects.a1111.scripts.base import Plan
from sfumato.server.dialects.a1111.state import A1111, StateOf
from sfumato.server.dialects.a1111.txt2img import txt2img
from sfumato.server.dialects.base import UserOf
from sfumato.server.jobs.job import Job, JobRequest
from sfumato.settings.checks import check_whole
from sfumato.settings.settings import MAX_SEED

MAX_BATCHES = 1000
router = APIRouter(prefix="/sdapi/v1", tags=["a1111"])


@router.post("/txt2img")
async def draw_from_words(body: Txt2ImgBody, state: StateOf, user: UserOf) -> DrawReply:
    """Draw pictures from words. The reply comes when they are finished."""
    return await _reply(body, state, user)


@router.post("/img2img")
async def draw_from_pictures(body: Img2ImgBody, state: StateOf, user: UserOf) -> DrawReply:
    """Change a picture, or with a mask a part of it. The reply comes when it is finished."""
    told = await _reply(body, state, user)
    if not body.include_init_images:
        told.parameters |= {"init_images": None, "mask": None}
    return told


async def _reply(body: DrawBody, state: A1111, user: str) -> DrawReply:
    options = await state.queue.in_background(state.options.get, user)
    plan = await state.queue.in_background(_planned, body, state, options)
    jobs = await state.calls.run(user, plan.requests, body.force_task_id)
    format_ = overridden(options, body.overrides, state.files)["samples_format"]
    pictures = await state.queue.in_background(_pictures, state, plan, jobs, format_)
    told = info(pictures, body, plan.first)
    images = [one.image for one in pictures] if body.send_images is not False else []
    return DrawReply(images=images, parameters=parameters(body, pictures, plan.first), info=told)


def _planned(body: DrawBody, state: A1111, options: Mapping[str, Any]) -> Plan:
    for name in _drawn_by_chance(body):
        body = body.changed(**{name: randbelow(2**32)})
    check_whole("n_iter", 1 if body.n_iter is None else body.n_iter, 1, MAX_BATCHES)
    script = find_script(body)
    if script is not None:
        return script.plan(body, lambda cell: _requests(cell, state, options)[0])
    requests, after = _requests(body, state, options)
    return Plan([*requests, *after])


def _requests(
    body: DrawBody, state: A1111, options: Mapping[str, Any]
) -> tuple[list[JobRequest], Sequence[JobRequest]]:
    """The jobs of a body without a script that changes it, and those whose pictures come after theirs."""
    asked = asked_of(body, options, state.files, state.queue.inputs, state.queue.desk.spec)
    added = always_on(body, asked)
    body = added.body
    if isinstance(body, Txt2ImgBody):
        found = [txt2img(body, asked, added.options)]
    else:
        assert isinstance(body, Img2ImgBody)
        found = [one.but(how={**one.how, **added.how}) for one in img2img(body, asked, added.options)]
    return _each_batch(found, body.n_iter or 1, body.batch_size or 1), added.after


def _drawn_by_chance(body: DrawBody) -> list[str]:
    """The seeds that nobody chose, which all pictures of a call count on from."""
    named = {"seed": body.infotext is None or body.said("seed"), "subseed": bool(body.subseed_strength)}
    return [name for name, wanted in named.items() if wanted and getattr(body, name) in (None, -1)]


def _each_batch(requests: Sequence[JobRequest], batches: int, size: int) -> list[JobRequest]:
    """The requests once for each batch, with seeds that count on through all of them."""
    found = list[JobRequest]()
    for request in (one for one in requests for _ in range(batches)):
        options = dict(request.options)
        counts = "variation_seed" if options.get("variation_strength") else "seed"
        options[counts] = (options.setdefault(counts, randbelow(2**32)) + len(found) * size) % MAX_SEED
        found.append(request.but(options=options))
    return found


def _pictures(state: A1111, plan: Plan, jobs: Sequence[Job | None], samples_format: str) -> list[Drawn]:
    outputs = state.queue.config.outputs
    files = [[(outputs / one.file, one.infotext) for one in ordered(job)] for job in jobs]
    if plan.sheets is not None:
        return plan.sheets(files)
    return [Drawn(sent(path, text, samples_format), text) for job in files for path, text in job]
