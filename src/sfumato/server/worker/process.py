"""The worker itself: `python -m sfumato.server.worker.process`, with commands on its standard input.

It ends when its input does, so that it never outlives the server.
"""

from __future__ import annotations

import base64
import io
import json
import os
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from sfumato.api import StableDiffusion
from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.files import atomic_write
from sfumato.images.files import encode
from sfumato.pipeline.events import Picture, Progress, WordMaps
from sfumato.provenance.credentials import Credentials
from sfumato.server.jobs.inputs import Inputs
from sfumato.server.jobs.job import JobRequest, SavedPicture
from sfumato.server.kinds import KINDS, find_kind
from sfumato.server.kinds.base import Report
from sfumato.server.kinds.draw import DRAWN
from sfumato.server.worker.engine import Ended, Engine
from sfumato.server.worker.file_names import write_numbered
from sfumato.server.worker.messages import packed, read_message
from sfumato.server.worker.models import Models
from sfumato.server.worker.questions import QUESTIONS

BEAT = 1.0  # seconds between signs of life
PREVIEW_EVERY = 0.25  # seconds between two previews of a job
PREVIEW_SIDE = 512  # pixels of a preview's longer side at most
Message = Mapping[str, Any]
Send = Callable[[bytes], object]


@dataclass
class _Running:
    """A running job: the number of its pictures that were finished before, and the time of its last preview."""

    model: str
    offset: int
    shown: float = 0.0
    report: dict[str, Any] | None = None


class Worker:
    """Takes commands, works on jobs, and reports what happens."""

    def __init__(
        self, models: Models, inputs: Inputs, outputs: Path, exact: bool, send: Send, safety: str | None = None,
        credentials: Credentials | None = None,
    ):  # fmt: skip
        self.models, self.inputs, self.outputs = models, inputs, outputs
        self._safety, self._credentials = safety, credentials
        self.engine = Engine(exact)
        self._send, self._lock = send, threading.Lock()
        self._running: dict[str, _Running] = {}
        self.commands: queue.SimpleQueue[Message] = queue.SimpleQueue()

    @classmethod
    def of(cls, settings: Mapping[str, Any], send: Send) -> Worker:
        """Returns a worker with the settings of `worker_settings`. `send` gets each of its messages as bytes."""
        models = Models(settings["device"], settings["dtype"], settings["memory"])
        key = settings["credentials"]
        return cls(
            models, Inputs(Path(settings["inputs"])), Path(settings["outputs"]), settings["exact"], send,
            settings["safety"], Credentials(*map(Path, key)) if key else None,
        )  # fmt: skip

    def say(self, message: Message, payload: bytes = b"") -> None:
        """Sends a message; any thread may call this."""
        with self._lock:
            self._send(packed(message, payload))

    def model(self, name: str) -> StableDiffusion:
        """Returns a loaded model by name; the models of running jobs stay loaded."""
        before = self.models.names
        if name not in before:
            self.say({"say": "loading", "model": name})
        model = self.models.get(name, {one.model for one in self._running.values()})
        if self.models.names != before:
            self.say({"say": "models", "models": self.models.names, "bytes": self.models.bytes})
        return model

    def run(self) -> None:
        """Works until it is told to stop."""
        self.say({"say": "ready", "device": str(self.models.device)})
        while True:
            with suppress(queue.Empty):
                while True:
                    command = self.commands.get(block=not self.engine.jobs)
                    if command["do"] == "stop":
                        return
                    self._obey(command)
                    if self.engine.jobs and self.commands.empty():
                        break
            for job, event in self.engine.round():
                self._tell(job, event)

    def _obey(self, command: Message) -> None:
        match command["do"]:
            case "start":
                self._start(command["job"], JobRequest.of(command["request"]), command["done"])
            case "drop":
                self.engine.drop(command["job"])
                self._running.pop(command["job"], None)
            case "load":
                try:
                    self.model(command["model"])
                except SfumatoError as error:
                    self.say({"say": "not loaded", "model": command["model"], "error": str(error)})
            case "answer":
                self._answer(command)
            case "unload":
                self.models.unload({one.model for one in self._running.values()})
                for kind in KINDS.values():
                    kind.forget()
                self.say({"say": "models", "models": self.models.names, "bytes": self.models.bytes})

    def _answer(self, command: Message) -> None:
        said: dict[str, Any] = {"say": "answer", "question": command["question"]}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SfumatoWarning)  # drawing says them again
                said["answer"] = QUESTIONS[command["what"]](self.model(command["model"]), command["said"])
        except Exception as error:
            said["error"] = str(error)
        self.say(said)

    def _start(self, job: str, request: JobRequest, done: int) -> None:
        self._running[job] = _Running(request.model, done)
        if self._safety is not None and request.kind in (*DRAWN, "graph"):
            request = request.but(options={**request.options, "safety": self._safety})
        try:
            self.engine.add(job, find_kind(request.kind).begin(request, self, done))
        except Exception as error:
            self._end(job, error)

    def _tell(self, job: str, event: Progress | Picture | Report | Ended) -> None:
        running = self._running.get(job)
        if running is None:
            return
        try:
            match event:
                case Progress():
                    self._progress(job, running, event)
                case Picture():
                    saved = self._save(job, running, event)
                    self.say({"say": "picture", "job": job, "picture": asdict(saved)})
                case Report(data=data, final=True):
                    running.report = {**(running.report or {}), **data}
                case Report(data=data):
                    self.say({"say": "report", "job": job, "data": dict(data)})
                case Ended(error=error):
                    self._end(job, error)
        except Exception as error:  # a picture that cannot be written ends its job, not the worker
            self.engine.drop(job)
            self._end(job, error)

    def _progress(self, job: str, running: _Running, event: Progress) -> None:
        payload, now = b"", time.monotonic()
        step = {"picture": running.offset + event.picture, "step": event.step, "steps": event.steps}
        if event.attention is not None:
            said = {"attention": {**step, **_maps(event.attention)}}
            running.report = said  # the last step's is what stays
            self.say({"say": "report", "job": job, "data": said})
        if event.attention is not None or now - running.shown >= PREVIEW_EVERY:
            running.shown, payload = now, _jpeg(event.preview())
        self.say({"say": "progress", "job": job, **step}, payload)

    def _save(self, job: str, running: _Running, event: Picture) -> SavedPicture:
        index = running.offset + event.index
        content = encode(event.image, ".png", event.infotext, event.texts)
        if self._credentials is not None:
            content = self._credentials.signed(content, ".png")
        if event.name is None:
            file = f"{date.today():%Y-%m-%d}/{job}-{index}.png"
            with atomic_write(self.outputs / file) as target:
                target.write(content)
        else:
            file = write_numbered(self.outputs, event.name, content)
        width, height = event.image.size
        return SavedPicture(
            index=index, file=file, seed=event.seed, infotext=event.infotext, width=width, height=height,
            score=event.score,
        )  # fmt: skip

    def _end(self, job: str, error: Exception | None) -> None:
        running = self._running.pop(job)
        if error is None:
            self.say({"say": "done", "job": job, "report": running.report or {}})
            return
        ours = isinstance(error, SfumatoError)
        text = str(error) if ours else f"{type(error).__name__}: {error}"
        self.say({"say": "failed", "job": job, "error": text, "bad_input": ours})


def _maps(attention: WordMaps) -> dict[str, Any]:
    """Word maps for JSON: of each word its mean share of the attention, and its map, a byte a place, in base64.

    The largest share of a map is 255.
    """
    maps = attention.maps.float()
    top = maps.amax((1, 2), keepdim=True).clamp(min=1e-9)
    rows = (255 * maps / top).round().byte().flatten(1).numpy()
    return {
        "words": attention.words, "shares": [round(share, 4) for share in maps.mean((1, 2)).tolist()],
        "height": maps.shape[1], "width": maps.shape[2],
        "maps": [base64.b64encode(row.tobytes()).decode() for row in rows],
    }  # fmt: skip


def _jpeg(image: Image.Image) -> bytes:
    scale = PREVIEW_SIDE / max(image.size)
    if scale < 1:
        image = image.resize((round(scale * image.width), round(scale * image.height)))
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=80)
    return file.getvalue()


def beat(worker: Worker) -> None:
    """Gives signs of life for ever."""
    while True:
        worker.say({"say": "alive"})
        time.sleep(BEAT)


def _listen(worker: Worker, commands: BinaryIO) -> None:
    while (message := read_message(commands)) is not None:
        worker.commands.put(message[0])
    os._exit(0)  # the server is gone: whatever is being drawn has nobody to go to


def main() -> None:
    """Runs a worker with the settings on the command line, a JSON object."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything prints goes to the log and not among the messages

    def send(message: bytes) -> None:
        out.write(message)
        out.flush()

    worker = Worker.of(json.loads(sys.argv[1]), send)
    for work, more in ((_listen, (worker, sys.stdin.buffer)), (beat, (worker,))):
        threading.Thread(target=work, args=more, daemon=True).start()
    with suppress(BrokenPipeError):  # the server is gone
        worker.run()


if __name__ == "__main__":
    main()
