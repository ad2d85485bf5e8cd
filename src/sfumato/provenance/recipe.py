"""What a picture's file says of how it was drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from sfumato.diffusion.options import FIELDS, checked, read_value
from sfumato.diffusion.sample import find_sampler
from sfumato.diffusion.sigma_schedules import find_schedule
from sfumato.errors import SfumatoError
from sfumato.settings.settings import Options


@dataclass
class Recipe:
    """`program` drew the picture; `rules` are its habits that are followed, `lost` is what cannot be honoured.

    `strength` is None for a picture from words alone; `source` names the picture that it was drawn on, if the file
    does.
    """

    program: str
    prompt: str = ""
    negative: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    strength: float | None = None
    source: str | None = None
    model: str | None = None
    model_hash: str | None = None
    rules: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def to_options(self) -> Options:
        return cast(Options, {name: value for name, value in self.options.items() if value is not None})

    def sampler(self, name: str, schedule: str | None) -> None:
        """Take sampler and schedule by the names of any program; what is unknown is lost."""
        for option, value, find in (
            ("sampler", name, lambda name: find_sampler(name).name),
            ("schedule", schedule, lambda name: find_schedule(name).name),
        ):
            if value is None:
                continue
            try:
                self.options[option] = find(value)
            except SfumatoError:
                self.lost.append(f"{option} {value!r} is not known here; the usual one is taken")

    def tune(self, field: str, text: str) -> None:
        """Take an option of the sampler or its schedule, by its name in pictures' settings; what has none loses it."""
        sampler = find_sampler(self.options.get("sampler", "euler"))
        schedule = find_schedule(self.options.get("schedule", sampler.schedule))
        option = next(name for name, known in FIELDS.items() if known == field).split()[-1]
        try:
            taken = checked({option: read_value(text)}, sampler.options | schedule.options, sampler.label)
        except SfumatoError as error:
            self.lost.append(f"{field} ({error})")
        else:
            self.options.setdefault("sampler_options", {}).update(taken)

    def number(self, option: str, value: Any, kind: type) -> None:
        """Take a number that a file has as one or as text; what is none is lost."""
        try:
            self.options[option] = kind(value)
        except (TypeError, ValueError):
            self.lost.append(f"{option} {value!r} is no number")
