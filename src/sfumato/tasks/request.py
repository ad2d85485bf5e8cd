"""The request types of tasks, which the Python API and the command line build; each task adds its own fields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any

from sfumato.errors import SfumatoError
from sfumato.pipeline.events import Events
from sfumato.pipeline.model import Model
from sfumato.settings.settings import Options, Settings
from sfumato.settings.tensors import NO_TENSORS, Tensors
from sfumato.spec import Spec


@dataclass(frozen=True, kw_only=True, eq=False)
class Request(ABC):
    """Prompts and options for any model, and tensors that stand for prompts or seeds."""

    prompt: str = ""
    negative: str = ""
    options: Options = field(default_factory=Options)
    tensors: Tensors = NO_TENSORS

    def filled(self, spec: Spec) -> Settings:
        """As `settings`, with the tensors. Raises SfumatoError for a text and a tensor that both stand for a prompt."""
        self.tensors.check_prompts(self.prompt, self.negative)
        return replace(self.settings(spec), tensors=self.tensors)

    def settings(self, spec: Spec) -> Settings:
        """Fills in the options for a model and checks them. Raises SfumatoError as `Settings.of`."""
        return Settings.of(spec, self.prompt, self.negative, **self.options)

    @abstractmethod
    def draw(self, model: Model, settings: Settings) -> Events:
        """Yields steps and finished pictures, given what `settings` returned for this model."""

    def record(self) -> dict[str, Any]:
        """Returns the task's own settings, for JSON."""
        return {}


def refuse(settings: Settings, task: str, **changed: object) -> None:
    """Raises SfumatoError for options that a `task` does not honour: those whose value is not the one given here."""
    named = [name for name, default in changed.items() if getattr(settings, name) != default]
    if named:
        raise SfumatoError(f"{task} without {' and '.join(named)}; leave {'it' if len(named) == 1 else 'them'} out")
