"""What a picture's file says of how it was drawn."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from sfumato.diffusion.options import FIELDS, checked, read_value
from sfumato.diffusion.options import Option as SamplerOption
from sfumato.diffusion.sample import SAMPLERS, Sampler, find_sampler
from sfumato.diffusion.sampler_names import schedule_name, split_sampler_name
from sfumato.diffusion.sigma_schedules import find_schedule
from sfumato.errors import SfumatoError
from sfumato.settings.control import Control
from sfumato.settings.keywords import Options
from sfumato.settings.kinds import Number, Switch, Whole
from sfumato.settings.option import Option
from sfumato.settings.table import OPTIONS

LARGEST = 2**64  # of a number in a file; seeds are less
MAX_STEPS = 1000  # of a list; no model knows more times
SHOWN = 60  # characters of a value that a message shows

Numbers = Mapping[str, tuple[str, type]]
"""Which of a program's names is which option, and whether that is whole."""

_NUMBER = re.compile(r"\s*([+-]?\d{1,20})(\.\d{0,20})?(e[+-]?\d{1,3})?\s*", re.IGNORECASE)
_SIZE = re.compile(r"\s*\(?\s*(\d{1,6})\s*[xX×,]\s*(\d{1,6})\s*\)?(?:\s*\(.{0,40}\))?\s*")


@dataclass
class Recipe:
    """`program` drew the picture; `rules` are its habits that are followed, `lost` is what cannot be honoured.

    `strength` is None for a picture from words alone; `source` names the picture that it was drawn on, if the file
    does. `refiner` is the model that went on: after the share `switch_at` of the training times (an option), or after
    the step `switch_step`. `levels` (first, last) are the places in the list of noise levels between which the picture
    was drawn, from words alone, where that is not all of the list; the last step then goes to 0. `controls` steered it,
    by pictures that files do not hold. `loras` are adapters that were used besides those of the prompt, as the option
    `lora` has them; those that are not here are lost. `hashes` are the fields of hashes by which adapters that the
    prompt names can be found, as web UIs write them.
    """

    program: str
    prompt: str = ""
    negative: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    strength: float | None = None
    source: str | None = None
    model: str | None = None
    model_hash: str | None = None
    refiner: str | None = None
    switch_step: int | None = None
    levels: tuple[int, int] | None = None
    controls: list[Control] = field(default_factory=list)
    loras: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    rules: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def to_options(self) -> Options:
        return cast(Options, {name: value for name, value in self.options.items() if value is not None})

    def sampler(self, name: str, schedule: str | None) -> None:
        """Take sampler and schedule by the names of any program, also where the first ends in the second.

        What is unknown is lost.
        """
        name, ending = name.strip().removeprefix("sample_"), None
        try:
            self.options["sampler"], ending, cfg_pp = split_sampler_name(name)
            self.options |= {"cfg_pp": True} if cfg_pp else {}
        except SfumatoError:
            self._unknown("sampler", name)
        if (schedule := schedule or ending) is not None:
            try:
                self.options["schedule"] = schedule_name(schedule)
            except SfumatoError:
                self._unknown("schedule", schedule)

    def _unknown(self, option: str, name: str) -> None:
        self.lost.append(f"{option} {name[:SHOWN]!r} is not known here; the usual one is taken")

    def tune(self, field: str, text: str) -> None:
        """Take an option of the sampler or its schedule, by its name in pictures' settings; what has none loses it."""
        option = next(name for name, known in FIELDS.items() if known == field).split()[-1]
        sampler, known = self._tunable()
        try:
            taken = checked({option: read_value(text)}, known, sampler.label)
        except SfumatoError as error:
            self.lost.append(f"{field} ({error})")
        else:
            self.options.setdefault("sampler_options", {}).update(taken)

    def option(self, name: str, value: Any) -> None:
        """Take one of the inputs of a program's sampler, by our name, if it is an option and not at its default."""
        known = self._tunable()[1].get(name)
        if known is None or value is None:
            return
        try:
            taken = known.checked(value)
        except SfumatoError as error:
            self.lost.append(str(error))
        else:
            if taken != known.default:
                self.options.setdefault("sampler_options", {})[name] = taken

    def _tunable(self) -> tuple[Sampler, Mapping[str, SamplerOption]]:
        sampler = find_sampler(self.options.get("sampler", "euler"))
        schedule = find_schedule(self.options.get("schedule", sampler.schedule))
        return sampler, sampler.options | schedule.options

    def number(self, option: str, value: Any, kind: type) -> None:
        """Take a number that a file has as one or as text; what is none, or out of all bounds, is lost."""
        number = number_in(value)
        if number is None or (kind is int and number != int(number)):
            self.lost.append(f"{option} {shown(value)!r} is no number")
        elif option.endswith("seed") and number == -1:
            self.lost.append(f"{option} {number:g}: it was drawn, and the file does not say which")
        else:
            self.options[option] = kind(number)

    def take(self, option: Option, text: str) -> None:
        """Take an option as its field in a picture's settings says it, and with it the switch that it needs.

        What says none is lost.
        """
        if isinstance(option.kind, Whole | Number):
            self.number(option.name, text, int if isinstance(option.kind, Whole) else float)
        else:
            try:
                self.options[option.name] = option.read(text)
            except ValueError:
                self.lost.append(f"{option.infotext} {shown(text)!r} is none")
        if option.needs is not None and isinstance(OPTIONS[option.needs].kind, Switch):
            self.options[option.needs] = True

    def numbers(self, data: Mapping[str, Any], table: Numbers) -> None:
        """Take what a file says under a program's own names; what it leaves out or says as nothing stays open."""
        for name, (option, kind) in table.items():
            if data.get(name) not in (None, ""):
                self.number(option, data[name], kind)

    def add_lora(self, name: str, on_text: float, on_model: float) -> None:
        """An adapter with its strengths on the text encoder and on the network that draws."""
        if on_text or on_model:
            self.loras.append(f"{name}:te={on_text:g}:unet={on_model:g}")
            self.rules.append(f"LoRA {name}, strength {on_model:g}")

    def size(self, text: object) -> None:
        """Take a size that is written as "512x768", "512 x 768" or "(512, 768)"; what is none is lost."""
        if (pair := size_in(text)) is not None:
            self.options["width"], self.options["height"] = pair
        else:
            self.lost.append(f"size {shown(text)!r} is none")

    def rest(self, data: Mapping[str, Any], known: Mapping[str, Any] | set[str] | tuple[str, ...]) -> None:
        """What a file says besides is lost; what it says as nothing is nothing."""
        nothing: tuple[object, ...] = (None, "", "None", "none", "null", False, "False", "false", 0, [], {})
        unread = [name for name in data if name not in known and data[name] not in nothing]
        self.lost += [f"{name} ({shown(data[name])})" for name in unread]

    def second_pass(self, taken: int, total: int) -> None:
        """A second pass of the last `taken` steps of a list of `total`."""
        if total > MAX_STEPS:
            self.lost.append(f"the second pass took the last {taken} of {total} steps; a list has at most {MAX_STEPS}")
            taken, total = max(1, round(taken * MAX_STEPS / total)), MAX_STEPS
        self.options |= {"hires_steps": total, "hires_strength": taken / total}
        self.rules.append(f"second pass: the last {taken} of {total} steps")

    def random_steps(self) -> bool:
        """Whether the sampler adds noise on the way."""
        return SAMPLERS[self.options["sampler"]].kind != "ODE" if "sampler" in self.options else False


def number_in(value: Any) -> int | float | None:
    """A finite number within bounds, or None; whole ones as int, so that no digit of a seed is lost."""
    if isinstance(value, str) and (match := _NUMBER.fullmatch(value)) is not None:
        value = int(match[1]) if match[2] in (None, ".") and match[3] is None else float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -LARGEST <= value <= LARGEST:
        return None  # NaN is neither less nor more
    return value


def size_in(value: object) -> tuple[int, int] | None:
    """Width and height in a text such as "512x768", "512 x 768 (portrait)" or "(512, 768)"."""
    match = _SIZE.fullmatch(value[:SHOWN]) if isinstance(value, str) else None
    return None if match is None else (int(match[1]), int(match[2]))


def base_name(path: object) -> str:
    """A model's name in the path that a program knew it by."""
    name = str(path).replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and suffix.lower() in ("safetensors", "ckpt", "pt", "pth", "bin", "sft", "gguf") else name


def shown(value: object) -> str:
    """A value in a message, cut short; lists and mappings by what is in them."""
    if isinstance(value, list | tuple | dict):
        value = repr(value) if len(value) < 20 else f"{len(value)} values"
    text = str(value) if not isinstance(value, int) or abs(value) < LARGEST else "a number of many digits"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def whole_list(steps: int, share: float) -> int:
    """How many steps the list has whose last `steps` are that share of it, as ComfyUI and hires passes count."""
    return max(steps, math.floor(steps / share)) if share > 0 else steps
