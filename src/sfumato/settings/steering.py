"""What options have in common that say a network, a picture and how strongly it steers: controls and image prompts."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from sfumato.errors import OptionError, SfumatoError
from sfumato.settings.kinds import Kind
from sfumato.settings.option import Option, options_in

MAX_WEIGHT = 10.0
_PART = re.compile(r",\s*(\w+)=([^,=]*)$")


class Steering(ABC):
    """A network that steers by a picture in a share of the steps: what a dataclass of options for one is made of."""

    KIND: ClassVar[str]  # of network, with its article
    start: float
    end: float

    def check_options(self) -> None:
        """Checks every option, and gives it the form that settings have. Raises SfumatoError."""
        for name, one in options_in(type(self)).items():
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, one.checked(value))
        if self.start > self.end:
            raise SfumatoError(f"{self.KIND} starts at {self.start:g} and ends at {self.end:g}; let it end later")

    def steers(self, step: int, steps: int) -> bool:
        """Whether it has any say in a step, counted from 0."""
        return step >= self.start * steps - 1e-9 and step + 1 <= self.end * steps + 1e-9

    @classmethod
    @abstractmethod
    def parse(cls, text: str) -> Self:
        """What "canny.safetensors=photo.png,weight=0.8" says. Raises ValueError or OptionError."""

    @classmethod
    def read_option(cls, one: Option, text: str) -> Any:
        """The value of an option that a text says. Raises OptionError."""
        try:
            return one.read(text)
        except ValueError as error:
            raise OptionError(str(error).replace("{name}", f"`{one.name}`", 1)) from None

    @classmethod
    def without_options(cls, text: str) -> tuple[str, dict[str, Any]]:
        """A text without the options that it ends in, such as ",weight=0.8", and these. Raises OptionError."""
        known = {name: one for name, one in options_in(cls).items() if name != "model"}
        said: dict[str, Any] = {}
        while (match := _PART.search(text)) and match[1] in known:
            text, said[match[1]] = text[: match.start()], cls.read_option(known[match[1]], match[2])
        return text, said


@dataclass(frozen=True)
class Several(Kind):
    """Several of one kind of `Steering`, each as such or as a text."""

    repeated = True
    one: ClassVar[type[Steering]]

    def checked(self, value: Any, spec: Any) -> tuple[Any, ...]:
        values = [value] if isinstance(value, str | self.one) else value
        if not isinstance(values, Sequence) or not all(isinstance(each, str | self.one) for each in values):
            give = f"give sfumato.{self.one.__name__}(model, picture), or several in a list"
            raise ValueError("{name} is " + f"{value!r}; {give}")
        return tuple(self.one.parse(each) if isinstance(each, str) else each for each in values)
