"""A client of a running server's own API, for scripts and bots; it needs only Python's standard library."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from sfumato.errors import SfumatoError

ADDRESS = "http://127.0.0.1:7860"
ENDED = ("done", "failed", "cancelled")
POLL = 0.5  # seconds between two looks at a job that is waited for
Source = bytes | str | Path  # a picture: its file's bytes, its path, or the name that `send_picture` returned


class ServerError(SfumatoError):
    """The server refused a request. `status` is HTTP's, `retry_after` the seconds until a new try, if it said so."""

    def __init__(self, status: int, message: str, retry_after: float | None = None):
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


@dataclass(frozen=True, kw_only=True)
class JobPicture:
    """A finished picture of a job; its bytes are at `url`."""

    index: int
    seed: int
    infotext: str
    width: int
    height: int
    url: str
    score: float | None = None

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        return cls(**_known(cls, value))


@dataclass(frozen=True, kw_only=True)
class ClientJob:
    """The state of a job when the client asked for it.

    `state` is queued, running, done, failed or cancelled. `position` is the number of jobs before a waiting one,
    `progress` is from 0 to 1, `seconds_left` an estimate. Times are seconds since 1970.
    """

    id: str
    state: str
    kind: str
    request: Mapping[str, Any]
    created: float
    started: float | None = None
    finished: float | None = None
    error: str | None = None
    position: int | None = None
    progress: float = 0.0
    seconds_left: float | None = None
    pictures: tuple[JobPicture, ...] = ()
    report: Mapping[str, Any]

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        return cls(**{**_known(cls, value), "pictures": tuple(map(JobPicture.of, value["pictures"]))})

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True, kw_only=True)
class ServerModel:
    """A model on the server's machine."""

    name: str
    what: str
    kind: str
    loaded: bool
    family: str | None = None
    licence: str | None = None
    size: int | None = None

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Self:
        return cls(**_known(cls, value))


class Client:
    """A client of the server at `address`; `token` is the one that the server was started with, or "name:password".

    Every method raises ServerError if the server refuses, or does not answer within `timeout` seconds (status 0). The
    methods block until the reply comes; an asynchronous program should call them in a thread.
    """

    def __init__(self, address: str = ADDRESS, token: str | None = None, timeout: float = 60):
        self.address, self.timeout = address.rstrip("/"), timeout
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    def submit(
        self,
        prompt: str = "",
        *,
        kind: str = "txt2img",
        negative: str = "",
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
        how: Mapping[str, Any] | None = None,
        pictures: Mapping[str, Source] | None = None,
        priority: int = 0,
        key: str | None = None,
    ) -> ClientJob:
        """Asks for pictures and returns the job at once.

        `options` are the keywords of `sd.txt2img`, `how` the options of the kind alone, `pictures` its input pictures.
        The same request with the same `key` makes only one job, however often it is sent.
        """
        body: dict[str, Any] = {"kind": kind, "prompt": prompt, "negative": negative, "priority": priority}
        body |= {"options": dict(options or {}), "how": dict(how or {})}
        body["pictures"] = {name: _sent(source) for name, source in (pictures or {}).items()}
        if model is not None:
            body["model"] = model
        return ClientJob.of(self._json("POST", "/api/jobs", body, {} if key is None else {"Idempotency-Key": key}))

    def job(self, job: str) -> ClientJob:
        """Returns the state of a job."""
        return ClientJob.of(self._json("GET", f"/api/jobs/{job}"))

    def jobs(self, count: int = 50) -> list[ClientJob]:
        """Returns the newest jobs, newest first."""
        return [ClientJob.of(one) for one in self._json("GET", f"/api/jobs?count={count}")]

    def cancel(self, job: str) -> ClientJob:
        """Cancels a job; its finished pictures are kept."""
        return ClientJob.of(self._json("POST", f"/api/jobs/{job}/cancel"))

    def retry(self, job: str) -> ClientJob:
        """Queues a failed or cancelled job again."""
        return ClientJob.of(self._json("POST", f"/api/jobs/{job}/retry"))

    def wait(self, job: str, watch: Callable[[ClientJob], None] = lambda job: None) -> ClientJob:
        """Waits until a job is done and returns it; calls `watch` with the job's state again and again.

        Raises SfumatoError for a job that failed or was cancelled.
        """
        while not (found := self.job(job)).ended:
            watch(found)
            time.sleep(POLL)
        if found.state != "done":
            raise SfumatoError(f"the job {found.state}: {found.error}" if found.error else f"the job was {found.state}")
        return found

    def events(self, job: str) -> Iterator[Mapping[str, Any]]:
        """Yields the events of a job until it ends, as dictionaries; `event` is the name of each."""
        with self._open("GET", f"/api/jobs/{job}/events") as reply:
            for line in reply:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])

    def picture(self, picture: JobPicture) -> bytes:
        """Returns the PNG file of a finished picture; its settings are in the file."""
        with self._open("GET", picture.url) as reply:
            return bytes(reply.read())

    def draw(self, prompt: str = "", **request: Any) -> list[bytes]:
        """Asks for pictures as `submit` does, waits, and returns their PNG files."""
        return [self.picture(one) for one in self.wait(self.submit(prompt, **request).id).pictures]

    def send_picture(self, picture: Source) -> str:
        """Sends a picture once and returns its name, which several requests can use in place of the picture."""
        return str(self._json("POST", "/api/pictures", {"picture": _sent(picture)})["name"])

    def models(self) -> list[ServerModel]:
        """Returns the models on the server's machine."""
        return [ServerModel.of(one) for one in self._json("GET", "/api/models")]

    def _json(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        with self._open(method, path, body, headers) as reply:
            return json.load(reply)

    def _open(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        sent = {**self._headers, **(headers or {}), "Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, content, sent, method=method)
        try:
            return urllib.request.urlopen(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            with error:
                wait = error.headers.get("Retry-After")
                raise ServerError(error.code, _message(error), float(wait) if wait else None) from None
        except OSError as error:
            reason = getattr(error, "reason", error)
            message = f"no server answers at {self.address} ({reason}); start one with `sfumato serve`"
            if isinstance(reason, TimeoutError):
                message = f"{self.address} did not answer within {self.timeout:g} s; give a longer timeout"
            raise ServerError(0, message) from error


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, TypeError, LookupError, OSError):
        return f"the server answered {error.code} {error.reason}"


def _sent(source: Source) -> str:
    """Returns a picture in the form that requests have."""
    if isinstance(source, str) and source.startswith("input:"):
        return source
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    return base64.b64encode(content).decode()


def _known(cls: Any, value: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values that a class has fields for; a newer server may send more."""
    return {one.name: value[one.name] for one in fields(cls) if one.name in value}
