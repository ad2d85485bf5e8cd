"""The bot itself: turns commands and buttons into jobs, and jobs into messages. It knows no chat service."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from sfumato.bot.limits import Blocklist, Ledger, Limits, Moderation
from sfumato.bot.words import Asked, help_text, read
from sfumato.client import Client, ClientJob
from sfumato.errors import SfumatoError

VARIED = 0.35  # how far a variation goes
ENLARGED = 2.0
BLENDED = 0.6  # how far a blend goes from the mean of its pictures
MOST_BLENDED, SIDE = 5, 512
SEEDS = 2**32
CAPTIONS = 5
VARY, UPSCALE, REDRAW, CANCEL = "v", "u", "r", "x"


@dataclass(frozen=True)
class Button:
    """A button: the text on it, and the action that `Bot.press` gets when it is pressed."""

    label: str
    action: str


@dataclass(frozen=True)
class Message:
    """A message of the bot: text, PNG files, buttons. Only the person who asked sees a `private` one."""

    text: str
    pictures: tuple[bytes, ...] = ()
    buttons: tuple[Button, ...] = ()
    private: bool = False


class Place(Protocol):
    """The place where a command was given. It shows messages, each in place of the one before.

    Commands there begin with `sign`.
    """

    sign: str

    async def show(self, message: Message) -> None: ...


class Bot:
    """Answers commands with jobs of a server. `watch` is the number of seconds between two looks at a job."""

    def __init__(
        self,
        client: Client,
        limits: Limits | None = None,
        moderation: Moderation | None = None,
        watch: float = 1.0,
        seed: Callable[[], int] = lambda: random.randrange(SEEDS),
    ):
        self.client = client
        self.ledger = Ledger(limits or Limits())
        self.moderation = moderation or Blocklist(())
        self._watch, self._seed = watch, seed
        self._owners: dict[str, str] = {}  # of jobs that are not done

    async def command(
        self, name: str, text: str | Asked, user: str, place: Place, pictures: Sequence[bytes] = ()
    ) -> None:
        """Carries out a person's command. Errors are shown to the person, not raised."""
        private = False
        try:
            asked = text if isinstance(text, Asked) else read(text)
            private = asked.private
            match name:
                case "imagine":
                    await self._imagine(asked, user, place, pictures)
                case "blend":
                    await self._blend(asked, user, place, pictures)
                case "describe":
                    await self._describe(asked, user, place, pictures)
                case "queue":
                    await place.show(Message(await self._queue(user), private=True))
                case _:
                    await place.show(Message(help_text(place.sign), private=True))
        except SfumatoError as error:
            await place.show(Message(f"Not done: {error}", private=private))

    async def press(self, action: str, user: str, place: Place) -> None:
        """Carries out the action of a button that a person pressed. Errors are shown to the person, not raised."""
        try:
            do, job, index = _pressed(action)
            if do == CANCEL:
                await self._cancel(job, user, place)
                return
            made = await asyncio.to_thread(self.client.job, job)
            request, private = dict(made.request), "p" in action.partition(".")[0]
            if do == REDRAW:
                request["options"] = {**request["options"], "seed": self._seed()}
                await self._run(user, place, private, _again(request))
                return
            if not 0 <= index < len(made.pictures):
                raise SfumatoError(f"there is no picture {index + 1}; choose one of {len(made.pictures)}")
            picture = made.pictures[index]
            if do == VARY:
                options = {**request["options"], "seed": picture.seed, "variation_strength": VARIED}
                await self._run(user, place, private, _again(request) | {
                    "options": options | {"variation_seed": self._seed(), "n": min(4, self.ledger.limits.pictures)}
                })  # fmt: skip
                return
            file = await asyncio.to_thread(self.client.picture, picture)
            size = picture.width * picture.height * ENLARGED**2
            if size > 4 * self.ledger.limits.pixels:
                raise SfumatoError("this picture is large enough; it is not enlarged further here")
            await self._run(user, place, private, {
                "kind": "upscale", "prompt": request["prompt"], "negative": request["negative"],
                "model": request["model"], "pictures": {"image": file}, "how": {"scale": ENLARGED},
                "options": {"seed": picture.seed},
            })  # fmt: skip
        except SfumatoError as error:
            await place.show(Message(f"Not done: {error}", private=True))

    async def _imagine(self, asked: Asked, user: str, place: Place, pictures: Sequence[bytes]) -> None:
        if not asked.prompt:
            raise SfumatoError(f"there is no prompt; write what to draw, such as {place.sign}imagine a red heart")
        request: dict[str, Any] = {"options": asked.options()}
        if pictures:
            request |= {"kind": "img2img", "pictures": {"image": pictures[0]}, "how": _strength(asked)}
        await self._run(user, place, asked.private, _worded(asked) | request)

    async def _blend(self, asked: Asked, user: str, place: Place, pictures: Sequence[bytes]) -> None:
        if not 2 <= len(pictures) <= MOST_BLENDED:
            raise SfumatoError(
                f"blend takes 2 to {MOST_BLENDED} pictures, not {len(pictures)}; send them along with it"
            )
        image = await asyncio.to_thread(mean_of, pictures, asked.given.get("size"))
        request = {"kind": "img2img", "pictures": {"image": image}, "how": _strength(asked) or {"strength": BLENDED}}
        options = {name: value for name, value in asked.options().items() if name not in ("width", "height")}
        await self._run(user, place, asked.private, _worded(asked) | request | {"options": options})

    async def _describe(self, asked: Asked, user: str, place: Place, pictures: Sequence[bytes]) -> None:
        if len(pictures) != 1:
            raise SfumatoError(f"describe takes one picture, not {len(pictures)}; send it along with the command")
        request = {"kind": "interrogate", "pictures": {"image": pictures[0]}, "how": {"top": CAPTIONS}}
        await self._run(user, place, asked.private, request)

    async def _run(self, user: str, place: Place, private: bool, request: dict[str, Any]) -> None:
        """Checks and queues a job, shows how it stands until it ends, then shows its result."""
        options = request.setdefault("options", {})
        self.ledger.check(options)
        words = f"{request.get('prompt', '')}\n{request.get('negative', '')}"
        if (reason := self.moderation.prompt(user, words)) is not None:
            raise SfumatoError(reason)
        count = options.get("n", 1)
        self.ledger.begin(user, count)
        job = None
        try:
            job = await asyncio.to_thread(lambda: self.client.submit(**request))
            self._owners[job.id] = user
            await self._follow(job, user, place, private)
        finally:
            self.ledger.end(user, count if job is None else 0)
            if job is not None:
                self._owners.pop(job.id, None)

    async def _follow(self, job: ClientJob, user: str, place: Place, private: bool) -> None:
        shown = None
        stop = (Button("Cancel", f"{CANCEL}.{job.id}"),)
        while not job.ended:
            if (text := standing(job)) != shown:
                await place.show(Message(text, buttons=stop, private=private))
                shown = text
            await asyncio.sleep(self._watch)
            job = await asyncio.to_thread(self.client.job, job.id)
        if job.state == "failed":
            raise SfumatoError(job.error or "the server did not say why")
        if job.state == "cancelled":
            await place.show(Message("Cancelled.", private=private))
        elif job.kind == "interrogate":
            matches = job.report.get("matches", [])
            lines = [f"{one['caption']} ({one['score']:.2f})" for one in matches]
            await place.show(Message("\n".join(lines) or "No caption fits this picture.", private=private))
        else:
            files = [await asyncio.to_thread(self.client.picture, one) for one in job.pictures]
            for file in files:
                if (reason := self.moderation.picture(user, file)) is not None:
                    raise SfumatoError(reason)
            await place.show(Message(_caption(job), tuple(files), _buttons(job, private), private))

    async def _cancel(self, job: str, user: str, place: Place) -> None:
        if self._owners.get(job) != user:
            raise SfumatoError("only the person who asked for a picture can cancel it, and only before it is done")
        await asyncio.to_thread(self.client.cancel, job)  # whoever follows the job shows that it is cancelled

    async def _queue(self, user: str) -> str:
        own = [await asyncio.to_thread(self.client.job, job) for job, owner in self._owners.items() if owner == user]
        lines = [f"{one.request['prompt'][:60] or one.kind}: {standing(one)}" for one in own]
        head = f"Jobs of this bot that are not done: {len(self._owners)}, of them yours: {len(own)}."
        return "\n".join([head, *lines])


def standing(job: ClientJob) -> str:
    """Returns how a job stands, as a sentence."""
    left = "" if job.seconds_left is None else f", about {max(1, round(job.seconds_left))} s left"
    if job.state == "queued":
        return f"Waiting, {job.position or 0} before it{left}"
    return f"Drawing, {5 * round(20 * job.progress)}%{left}"


def mean_of(pictures: Sequence[bytes], size: tuple[int, int] | None = None) -> bytes:
    """Returns a PNG file with the mean of several pictures' pixels, after all are resized to `size` (width, height).

    Without `size`, that is the size of the first picture, at most SIDE pixels a side. Raises SfumatoError for a file
    that is no picture, or too large a one.
    """
    try:
        opened = [Image.open(io.BytesIO(one)) for one in pictures]
        if any(one.width * one.height > 64 * SIDE * SIDE for one in opened):
            raise SfumatoError(f"a picture is too large to blend; send ones of {8 * SIDE} pixels a side at most")
        if size is None:
            scale = min(1.0, SIDE / max(opened[0].size))
            size = max(64, 8 * round(scale * opened[0].width / 8)), max(64, 8 * round(scale * opened[0].height / 8))
        found = opened[0].convert("RGB").resize(size)
        for number, one in enumerate(opened[1:], 2):
            found = Image.blend(found, one.convert("RGB").resize(size), 1 / number)
    except (OSError, ValueError) as error:
        raise SfumatoError("one of these is no picture that can be read; send PNG, JPEG or WebP") from error
    file = io.BytesIO()
    found.save(file, "PNG")
    return file.getvalue()


def _worded(asked: Asked) -> dict[str, Any]:
    found: dict[str, Any] = {"prompt": asked.prompt, "negative": asked.given.get("no", "")}
    return found | ({"model": asked.given["model"]} if "model" in asked.given else {})


def _strength(asked: Asked) -> dict[str, Any]:
    return {"strength": asked.given["strength"]} if "strength" in asked.given else {}


def _again(request: dict[str, Any]) -> dict[str, Any]:
    """Returns the parts of a job's request that `Client.submit` takes."""
    names = ("kind", "prompt", "negative", "model", "options", "how", "pictures")
    return {name: request[name] for name in names}


def _caption(job: ClientJob) -> str:
    seeds = ", ".join(str(one.seed) for one in job.pictures)
    return f"{job.request['prompt'][:900]}\nseed {seeds}".strip()


def _buttons(job: ClientJob, private: bool) -> tuple[Button, ...]:
    """Returns buttons to vary and enlarge each picture; enlarged pictures are not varied, private jobs stay private."""
    mark = "p" if private else ""
    count = range(len(job.pictures))
    varied = [Button(f"V{k + 1}", f"{VARY}{mark}.{job.id}.{k}") for k in count if job.kind != "upscale"]
    larger = [Button(f"U{k + 1}", f"{UPSCALE}{mark}.{job.id}.{k}") for k in count]
    return (*varied, *larger, Button("Again", f"{REDRAW}{mark}.{job.id}"))


def _pressed(action: str) -> tuple[str, str, int]:
    """Returns what a button does, to which job and which picture. Raises SfumatoError for an unknown action."""
    do, _, rest = action.partition(".")
    job, _, index = rest.partition(".")
    if do.rstrip("p") not in (VARY, UPSCALE, REDRAW, CANCEL) or not job.isalnum() or not (index or "0").isdecimal():
        raise SfumatoError("this button is not known here; draw the picture again to get new buttons")
    return do.rstrip("p"), job, int(index or 0)
