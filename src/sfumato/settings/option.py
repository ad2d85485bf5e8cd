"""What an option is, said once: what it may be, its help, and its names in Python, on the command line and in files.

A group of options is a frozen dataclass whose fields are made by `option`. All else derives from these fields: the
checks, the keywords of the Python API, the options of the command line and their help, the fields of a picture's
settings written and read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from sfumato.errors import OptionError
from sfumato.settings.kinds import Kind

MODEL: Any = dataclasses.MISSING
"""The default of an option whose default is the model's own."""
_KEY = "option"


@dataclass(frozen=True, kw_only=True)
class Option:
    """An option of a request.

    `name` is its keyword in Python. `default` is what it is if nobody says, `MODEL` where the model decides and None
    where `absent` says in words what happens then. `infotext` is its name in a picture's settings, where it has one.
    It is written there unless it is the default, or `off`, or the option that it `needs` is off; with `always` also
    then. `words` are how values are written there that look otherwise in Python. `write` gives what is written from all
    settings, where more than the one value decides it; a mapping stands for several fields.

    `flags` are its names on the command line, by default --NAME; none where the command line says it otherwise. `also`
    are names that other programs have for it. `basic` ones stand first in the help, others under their `panel`.
    """

    name: str
    kind: Kind
    help: str
    default: Any = None
    absent: str = ""
    infotext: str | None = None
    needs: str | None = None
    always: bool = False
    off: Any = None
    words: Mapping[Any, str] = field(default_factory=dict)
    write: Callable[[Any], object] | None = None
    flags: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    basic: bool = False
    panel: str = ""

    def checked(self, value: object, spec: Any = None) -> Any:
        """The value as settings have it; `spec` is the model's, where ranges depend on it. Raises OptionError."""
        try:
            return self.kind.checked(value, spec)
        except ValueError as error:
            raise OptionError(str(error).replace("{name}", f"`{self.name}`", 1)) from None

    def default_text(self, example: str = "") -> str:
        """What it is if nobody says, in words; `example` is what the model's own default is for one."""
        if self.default is MODEL:
            return "Default: the model's own" + (f"; {example}." if example else ".")
        if self.absent:
            return f"Default: {self.absent}."
        if self.default is None or self.default is False or self.default == () or isinstance(self.default, type):
            return ""
        return f"Default: {'on' if self.default is True else plain_number(self.default)}."

    def written(self, settings: Any, model_default: object = None) -> Mapping[str, object]:
        """The fields of a picture's settings that say what this option is in `settings`."""
        value = getattr(settings, self.name)
        if value is None or (self.needs is not None and not getattr(settings, self.needs)):
            return {}
        if self.write is not None:
            shown = self.write(settings)
            if isinstance(shown, Mapping):
                return shown
            return {} if self.infotext is None else {self.infotext: shown}
        usual = model_default if self.default is MODEL else self.default
        silent = (self.off is not None and value == self.off == usual) or (self.default is not MODEL and value == usual)
        if self.infotext is None or (silent and not self.always and self.needs is None):
            return {}
        return {self.infotext: self.words[value] if value in self.words else self.kind.written(value)}

    def read(self, text: str) -> Any:
        """The value that `written` wrote. Raises ValueError for a text that says none."""
        for value, word in self.words.items():
            if text.lower() == word.lower():
                return value
        value = self.kind.read(text)
        return self.kind.checked(value, None)


def plain_number(value: object) -> object:
    """A number without a fraction that is 0; all else as it is."""
    return f"{value:g}" if isinstance(value, float) else value


def option(default: Any, kind: Kind, help: str, infotext: str | None = None, **more: Any) -> Any:
    """A field of a group of options; see `Option` for what `more` may say."""
    metadata = {_KEY: {"kind": kind, "help": help, "infotext": infotext, "default": default, **more}}
    if isinstance(default, type):  # what makes one, for those that could be changed
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def options_in(group: type) -> dict[str, Option]:
    """The options of a group by their names, in the order of its fields. A group's PANEL is that of its own options."""
    panels = {name: owner.PANEL for owner in reversed(group.__mro__) for name in vars(owner).get("__annotations__", ())
              if hasattr(owner, "PANEL")}  # fmt: skip
    found = {}
    for one in dataclasses.fields(group):
        if _KEY in one.metadata:
            said = {"panel": panels.get(one.name, ""), **one.metadata[_KEY]}
            said.setdefault("flags", ("--" + one.name.replace("_", "-"),))
            found[one.name] = Option(name=one.name, **said)
    return found


def written(group: type, settings: Any, model_defaults: object = None) -> dict[str, object]:
    """The fields of a picture's settings that say what the options of a group are, in their order."""
    fields: dict[str, object] = {}
    for one in options_in(group).values():
        fields.update(one.written(settings, getattr(model_defaults, one.name, None)))
    return fields


def checked(options: Mapping[str, Option], values: Mapping[str, Any], spec: Any = None) -> dict[str, Any]:
    """The values by their options' names, each as its option has it. Raises OptionError for the first that is unfit."""
    return {name: options[name].checked(value, spec) for name, value in values.items()}


def unknown_option(
    name: str,
    known: Mapping[str, Option],
    arguments: Mapping[str, str],
    others: Iterable[str],
    other_ways: Mapping[str, str] | None = None,
) -> str:
    """What to give instead of a keyword that is no option: its name here, or the nearest of all.

    `arguments` are other programs' names for what is no option, `others` the keywords besides the options,
    `other_ways` what to do instead of giving some keyword.
    """
    for one in known.values():
        if name in one.also:
            return f"here it is called `{one.name}`"
    if name in arguments:
        return f"here it is called `{arguments[name]}`"
    if other_ways and name in other_ways:
        return other_ways[name]
    near = get_close_matches(name, [*known, *others], 1)
    return f"did you mean `{near[0]}`?" if near else f"choose from {', '.join([*known, *others])}"
