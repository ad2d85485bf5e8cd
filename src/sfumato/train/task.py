"""What the training loop asks of a method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from PIL import Image
from torch import Tensor, nn

Batch = dict[str, Tensor]
ROWS = "rows"  # the entry of a batch that numbers its samples within their set


class Task(Protocol):
    """What a run trains.

    `validate`, `samples` and `export` are called while `networks` holds the averaged weights.
    """

    @property
    def networks(self) -> nn.Module:
        """The module whose parameters are trained."""

    def batch(self, step: int) -> Batch:
        """Returns the samples of a step on the CPU, tensors (B, ...) by name.

        It must be a pure function of the config's seed and of `step`, and may be called in a thread.
        """

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the scalar to minimise, and scalars to log. Torch's generators are seeded for the step."""

    def validate(self) -> dict[str, float]:
        """Returns figures on data that training does not see, by name."""

    def samples(self) -> Image.Image:
        """Returns a sheet of pictures to judge the run by."""

    def export(self, folder: Path) -> None:
        """Writes to `folder`, which may not be there yet, what the next stage or a user loads."""


class MethodTask(Task, Protocol):
    """A task that was built from a recipe."""

    @property
    def cfg(self) -> Any:
        """The recipe of the run, a dataclass with a `LoopConfig` named `loop`."""


@runtime_checkable
class NamesSamples(Protocol):
    """A task that can say which samples a batch consists of."""

    def batch_ids(self, step: int) -> Sequence[str | int]:
        """Returns names of the samples of `batch(step)`, such as their files, in order."""


@runtime_checkable
class DescribesData(Protocol):
    """A task that can say what it learns from, for the page of the run."""

    def data_summary(self) -> dict[str, object]:
        """Returns what there is to say of the data, by name."""


@runtime_checkable
class UsesFrozen(Protocol):
    """A task whose loss goes through a network that is not part of `networks`, such as one that an adapter changes."""

    @property
    def forwarded(self) -> nn.Module:
        """The network that the loss calls."""


@runtime_checkable
class FollowsSteps(Protocol):
    """A task in which something follows the weights, such as an average that the loss asks.

    What follows belongs to `networks`, so that checkpoints hold it; it does not learn.
    """

    def stepped(self) -> None:
        """Is called after every step, when the weights have changed."""


@runtime_checkable
class Prepares(Protocol):
    """A task with work to do before its first step, which a dry run leaves out."""

    def prepare(self) -> None:
        """Does the work, with a bar on stderr; what is done already is not done again."""


def batch_ids(task: Task, batch: Batch, step: int) -> list[str | int]:
    """Returns names or numbers of the samples of a batch, or nothing if neither task nor batch has them."""
    if isinstance(task, NamesSamples):
        return list(task.batch_ids(step))
    return batch[ROWS].tolist() if ROWS in batch else []
