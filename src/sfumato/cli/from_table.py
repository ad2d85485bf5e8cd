"""Options of the command line made of the tables in `settings/`: their names, help, defaults and what they mean."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar

import typer

from sfumato.diffusion.options import Value, read_value
from sfumato.errors import OptionError, SfumatoError
from sfumato.settings.kinds import Assignments, Named, Number, Switch, Whole
from sfumato.settings.option import Option, options_in, plain_number
from sfumato.settings.table import OPTIONS
from sfumato.settings.task_options import TASK_OPTIONS
from sfumato.user_config import shipped

BASIC = "What everybody needs"
EMBEDDED = "emoji"
_OWN_DEFAULTS = shipped(EMBEDDED) / "sfumato.json"


@cache
def embedded_defaults() -> Mapping[str, Any]:
    """The defaults of the embedded model, from its own file; nothing where that is not there."""
    try:
        return json.loads(_OWN_DEFAULTS.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def flag(one: Option) -> Any:
    """What typer is told of an option: its names, help with range and default, and which values complete it."""
    own = embedded_defaults().get(one.name)
    again = "May be repeated." if one.kind.repeated else ""
    range_of = f"{one.kind.range}." if one.kind.range else ""
    said = (one.help, range_of, again, one.default_text("" if own is None else f"{plain_number(own)} for {EMBEDDED}"))
    return typer.Option(
        *_names(one),
        help=_in_flags(" ".join(filter(None, said))),
        metavar=None if isinstance(one.kind, Switch) else one.kind.metavar,
        show_default=False,
        rich_help_panel=BASIC if one.basic else one.panel,
        autocompletion=completion(one.kind.names) if isinstance(one.kind, Named) else None,
    )


def _in_flags(text: str) -> str:
    """A help text with the options that it names between backquotes as the command line has them."""
    return re.sub(r"`(\w+)`", lambda match: "--" + match[1].replace("_", "-"), text)


def _names(one: Option) -> tuple[str, ...]:
    if isinstance(one.kind, Switch) and one.default is True:
        return tuple(f"{name}/--no-{name.lstrip('-')}" for name in one.flags)
    return one.flags


def completion(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """What a shell is offered for the beginning of a value: the names that begin so."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def type_of(one: Option) -> Any:
    """The type that typer reads an option as; None is for what is not given."""
    if one.kind.repeated:
        return list[str] | None
    kinds = ((Switch, bool), (Whole, int), (Number, float))
    return next((kind for known, kind in kinds if isinstance(one.kind, known)), str) | None


def value_of(one: Option, given: Any) -> Any:
    """What the words of the command line say of an option. Raises OptionError."""
    if isinstance(one.kind, Assignments):
        return dict(map(parse_setting, given))
    if not isinstance(given, str):
        return given
    try:
        return one.kind.read(given)
    except ValueError as error:
        raise OptionError(str(error).replace("{name}", f"`{one.name}`", 1)) from None


def parameters(options: Iterable[Option]) -> list[inspect.Parameter]:
    """The options as parameters of a command's function."""
    return [
        inspect.Parameter(
            one.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[type_of(one), flag(one)]
        )
        for one in options
        if one.flags
    ]


def values(options: Mapping[str, Option], given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, as Python has them. Raises OptionError."""
    return {name: value_of(options[name], value) for name, value in given.items() if value not in (None, [])}


class FromTable:
    """The options of some groups as a command takes them; `options` are those that were given."""

    groups: ClassVar[tuple[type, ...]] = ()

    def __init__(self, **given: Any):
        self.options: Any = values(self.known(), given)

    @classmethod
    def known(cls) -> dict[str, Option]:
        """The options of the groups."""
        return {name: one for group in cls.groups for name, one in options_in(group).items()}

    @classmethod
    def parameters(cls) -> list[inspect.Parameter]:
        """Those that the command line has, as parameters of a command's function."""
        return parameters(cls.known().values())


def parse_setting(text: str) -> tuple[str, Value]:
    """Name and value of 'eta=0.5', a number where it reads as one. Raises SfumatoError."""
    name, mark, value = (part.strip() for part in text.partition("="))
    if not (name and mark and value):
        raise SfumatoError(f"--set has {text!r}; give a name and a value, such as eta=0.5")
    return name, read_value(value)


def flags_of(options: Mapping[str, Option]) -> dict[str, str]:
    """What the command line calls each option, for messages."""
    return {name: one.flags[-1] for name, one in options.items() if one.flags}


FLAGS = {
    **flags_of(TASK_OPTIONS),
    **flags_of(OPTIONS),
    "width": "the width of --size",
    "height": "the height of --size",
}
