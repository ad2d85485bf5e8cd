"""One graph at work, as nodes see it."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sfumato.api import StableDiffusion
from sfumato.diffusion.driver import Answer, Row
from sfumato.pipeline.events import Picture, Progress
from sfumato.server.composite import Composite
from sfumato.server.kinds.base import Bench, Report

Result = TypeVar("Result")
Making = Generator[list[Row] | Progress | Picture | Report, list[Answer] | None, Result]
"""A node at work: it asks for rows of networks, tells how it goes on, and returns its outputs."""


@dataclass
class Run:
    """What nodes are given to work with.

    `parts` is the model that the graph's loaders name, put together. `options` hold for all that is shown. Of the
    pictures that are shown, counted in `shown`, the first `done` are finished from before. `texts` go into the file of
    every picture that is shown.
    """

    bench: Bench
    parts: Composite | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    done: int = 0
    shown: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)

    def model(self, parts: Composite) -> StableDiffusion:
        """A loaded model. Raises SfumatoError as `sfumato.load`."""
        return self.bench.model(parts.name)
