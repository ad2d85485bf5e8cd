"""Starts, stops and continues trainings, and brings what they leave into the models' folder."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.files import atomic_write
from sfumato.hub.local_models import ROOMS, found
from sfumato.images.inputs import load_rgba
from sfumato.server.trainings.training import RECORD, Training, run_of, state_of
from sfumato.user_config import own_models

NICE = 10  # drawing goes first
LOCK = "running.lock"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}


class Trainings:
    """The trainings in a folder, of which one runs at a time.

    A trainer's process holds the lock of the folder, so that a server that starts anew knows of it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._turn = threading.Lock()
        self._watched: str | None = None  # the training whose end a thread waits for

    def of(self, user: str) -> list[Training]:
        """The trainings of a user, newest first."""
        found = [Training.read(path.parent) for path in self.folder.glob(f"*/{RECORD}")]
        return sorted((one for one in found if one.user == user), key=lambda one: -one.created)

    def get(self, training: str, user: str) -> Training:
        """A training of a user. Raises KeyError where that user has none of this id."""
        for one in self.of(user):
            if one.id == training:
                return one
        raise KeyError(training)

    def place(self, training: str) -> Path:
        """The folder of a training."""
        return self.folder / training

    def running(self) -> str | None:
        """The id of the training whose process lives, or whose end is about to be written down."""
        with self._turn, self._lock() as (handle, free):
            return self._watched if free else _held(handle)[0]

    def begin(self, training: Training, pictures: Sequence[tuple[Path, str]]) -> Training:
        """Starts a training of pictures, each with its caption. Raises SfumatoError for what cannot be begun."""
        if NAME.fullmatch(training.name) is None:
            raise SfumatoError(f"{training.name[:60]!r} is no name for it; use letters, digits, _ and -, at most 60")
        if training.name in _taken(result := training.how.result):
            raise SfumatoError(f"there is a {result} called {training.name!r} already; choose another name")
        self._check_free()
        training = replace(training, id=uuid.uuid4().hex, created=time.time(), pictures=len(pictures))
        folder = self.place(training.id)
        (folder / "pictures").mkdir(parents=True)
        for k, (path, caption) in enumerate(pictures):
            target = folder / "pictures" / f"{k:04d}"
            _copy(path, target)
            target.with_suffix(".txt").write_text(caption, encoding="utf-8")
        training.write(folder)
        self._start(training)
        return training

    def resume(self, training: Training) -> None:
        """Goes on with a training that was stopped, or that failed. Raises SfumatoError where one runs."""
        self._check_free()
        self._start(training)

    def stop(self, training: str) -> None:
        """Has a training end after its step, with a checkpoint from which it can go on."""
        with self._turn, self._lock() as (handle, free):
            if not free and (held := _held(handle))[0] == training:
                with suppress(ProcessLookupError):
                    os.kill(held[1], signal.SIGTERM)

    def close(self) -> None:
        """Has the training that runs end; it goes on when it is asked to."""
        if (training := self.running()) is not None:
            self.stop(training)

    def forget(self, training: Training) -> None:
        """Removes a training and its files; a finished result stays. Raises SfumatoError for one that runs."""
        if self.running() == training.id:
            raise SfumatoError("this training runs; stop it first")
        shutil.rmtree(self.place(training.id))

    def _check_free(self) -> None:
        if (other := self.running()) is not None:
            name = Training.read(self.place(other)).name
            raise SfumatoError(f"the training of {name!r} runs, and there is one at a time; stop it, or wait for it")

    def _start(self, training: Training) -> None:
        folder = self.place(training.id)
        with self._turn, self._lock() as (handle, free):
            if not free:
                raise SfumatoError("another training began just now, and there is one at a time; wait for it")
            replace(training, ended=None).write(folder)
            with (folder / "output.log").open("ab") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "sfumato", *training.command(folder)],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, pass_fds=(handle,),
                    env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "SFUMATO_CONFINED": "1", "NO_COLOR": "1"},
                )  # fmt: skip
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{training.id} {process.pid}".encode(), 0)
            self._watched = training.id
        threading.Thread(target=self._wait, args=(process, training.id), daemon=True).start()

    def _wait(self, process: subprocess.Popen[bytes], training: str) -> None:
        ended = process.wait()
        folder = self.place(training)
        replace(Training.read(folder), ended=ended).write(folder)
        with self._turn:
            self._watched = None
        self.settle(Training.read(folder))

    def settle(self, training: Training) -> Training:
        """Brings the result of a training that is done to where the models are listed, once."""
        folder = self.place(training.id)
        if training.file is not None or state_of(training, folder, self.running() == training.id) != "done":
            return training
        with self._turn:
            training = Training.read(folder)
            source = _exported(run_of(folder) / "export")
            if training.file is not None or source is None:
                return training
            try:
                training = replace(training, file=_placed(source, training.name, training.how.result), problem="")
            except (OSError, SfumatoError) as error:
                training = replace(training, problem=f"the result cannot be put among the models: {error}")
            training.write(folder)
        return training

    @contextmanager
    def _lock(self) -> Iterator[tuple[int, bool]]:
        """The open file of the lock, and whether no trainer holds it; if so it is held until the end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            free = False
        else:
            free = True
        try:
            yield handle, free
        finally:
            os.close(handle)  # a trainer that was started meanwhile goes on holding it


def _held(handle: int) -> tuple[str, int]:
    """Which training the lock's file names, and the number of its process."""
    training, _, process = os.pread(handle, 200, 0).decode().partition(" ")
    return training, int(process)


def _copy(path: Path, target: Path) -> None:
    """Copies a picture whose name has no ending to one that has, as PNG where the kind is not common."""
    with Image.open(path) as image:
        suffix = SUFFIXES.get(image.format or "")
    if suffix is None:
        load_rgba(path).save(target.with_suffix(".png"))
    else:
        shutil.copyfile(path, target.with_suffix(suffix))


def _exported(export: Path) -> Path | None:
    """What a run has exported: a whole model's folder, or one file of weights."""
    if (export / "model_index.json").is_file():
        return export
    return next((path for suffix in ("safetensors", "pt") for path in export.glob(f"*.{suffix}")), None)


def _taken(kind: str) -> set[str]:
    """The names that files and folders of a kind have on this machine."""
    return {one.name for one in found() if one.kind == kind}


def _placed(source: Path, name: str, kind: str) -> str:
    """Copies a result to where the models are listed, and returns the name that it has there, which is a new one."""
    taken = _taken(kind)
    name = next(one for one in (name, *(f"{name}-{k}" for k in range(2, 10_000))) if one not in taken)
    room = own_models() / next(room for room, held in ROOMS.items() if held == kind)
    room.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        part = room / f".{name}.part"  # a name that no list shows
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part)
        part.rename(room / name)
        return name
    with source.open("rb") as content, atomic_write(room / f"{name}{source.suffix}") as file:
        shutil.copyfileobj(content, file)
    return name
