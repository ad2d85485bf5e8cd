"""Limits for each person, and words that nobody may use."""

from __future__ import annotations

import re
import time
import unicodedata
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sfumato.errors import SfumatoError
from sfumato.files import read_text

HOUR = 3600.0


@dataclass(frozen=True)
class Limits:
    """The limits: for a person, pictures per hour and jobs at once; for a job, pictures, pixels of each, and steps."""

    hourly: int = 60
    at_once: int = 2
    pictures: int = 4
    pixels: int = 1024 * 1024
    steps: int = 60


class Ledger:
    """Counts what each person asked for lately. `clock` returns seconds."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic):
        self.limits, self._clock = limits, clock
        self._drawn: dict[str, deque[float]] = defaultdict(deque)
        self._running: dict[str, int] = defaultdict(int)

    def check(self, options: dict[str, Any]) -> None:
        """Raises SfumatoError if one job asks for too much."""
        width, height = options.get("width", 0), options.get("height", 0)
        if options.get("n", 1) < 1:
            raise SfumatoError(f"{options['n']} pictures cannot be drawn; ask for 1 to {self.limits.pictures}")
        for what, asked, most in (
            ("pictures", options.get("n", 1), self.limits.pictures),
            ("steps", options.get("steps", 0), self.limits.steps),
            ("pixels", width * height, self.limits.pixels),
        ):
            if asked > most:
                raise SfumatoError(f"{asked} {what} are too many here; ask for {most} at most")

    def begin(self, user: str, pictures: int) -> None:
        """Counts a new job of a person. Raises SfumatoError if the person then has too many jobs or pictures."""
        times, now = self._drawn[user], self._clock()
        while times and now - times[0] >= HOUR:
            times.popleft()
        if self._running[user] >= self.limits.at_once:
            raise SfumatoError(f"{self._running[user]} of your jobs are not done; wait for one, or cancel it")
        if len(times) + pictures > self.limits.hourly:
            wait = max(1, round((HOUR - (now - times[0])) / 60)) if times else 60
            raise SfumatoError(f"you may draw {self.limits.hourly} pictures an hour; come back in {wait} min")
        times.extend([now] * pictures)
        self._running[user] += 1

    def end(self, user: str, refused: int = 0) -> None:
        """Counts the end of a person's job; the number of pictures that were `refused` is given back."""
        self._running[user] -= 1
        for _ in range(refused):
            self._drawn[user].pop()


class Moderation(Protocol):
    """The operator's own checks of prompts and pictures. Each method returns why it refuses, or None."""

    def prompt(self, user: str, text: str) -> str | None: ...

    def picture(self, user: str, png: bytes) -> str | None: ...


class Blocklist:
    """Refuses prompts that contain a word or phrase of a list; case, accents and width of letters do not matter."""

    def __init__(self, phrases: Iterable[str]):
        plain = [_plain(phrase) for phrase in phrases if phrase.strip() and not phrase.startswith("#")]
        found = "|".join(re.escape(phrase) for phrase in plain)
        self._found = re.compile(rf"(?<!\w)(?:{found})(?!\w)") if plain else None

    @classmethod
    def of(cls, path: Path) -> Blocklist:
        """Returns the list in a file with one phrase per line. Raises SfumatoError if it cannot be read."""
        return cls(read_text(path).splitlines())

    def prompt(self, user: str, text: str) -> str | None:
        if self._found is not None and self._found.search(_plain(text)):
            return "this prompt has words that are not drawn here"
        return None

    def picture(self, user: str, png: bytes) -> str | None:
        return None


def _plain(text: str) -> str:
    parts = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(c for c in parts if unicodedata.category(c) not in ("Mn", "Cf")).split())
