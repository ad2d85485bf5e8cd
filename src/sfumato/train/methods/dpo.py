"""Direct preference optimisation of a diffusion model (Wallace et al. 2023): it learns from pairs of pictures, of which
people, or a measure, liked one more.

With e the error of the network's output on a noised picture and e' that of the model before training, a pair costs
-log sigmoid(-beta/2 ((e_chosen - e'_chosen) - (e_rejected - e'_rejected))): equation 14, with T omega(lambda) in beta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.data.pictures.protocol import CaptionedPictures, Sample, SampleSource
from sfumato.data.pictures.readers.find import OwnPictures
from sfumato.errors import SfumatoError
from sfumato.train.cache import EncodedPictures
from sfumato.train.conditions import Conditions
from sfumato.train.fine_tuning import RATIOS, FineTuning, FineTuningTask, by_size
from sfumato.train.learnt import Lora, LoraOptions
from sfumato.train.objective import validation_errors
from sfumato.train.pairs import check_pairs
from sfumato.train.precision import arithmetic
from sfumato.train.task import Batch


@dataclass(frozen=True, kw_only=True)
class DpoTraining(FineTuning, LoraOptions):
    """Recipe of a LoRA of a taste; see also `LoraOptions`.

    `beta` says how closely the model stays to what it was: the larger, the closer.
    """

    beta: float = 2000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.beta > 0:
            raise SfumatoError(f"beta is {self.beta}; expected a positive number, such as 2000")


def make(
    cfg: DpoTraining, data: SampleSource, folder: Path, device: torch.device, *, model: str | None = None,
    rejected: Path | None = None,
) -> DpoTask:  # fmt: skip
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    if rejected is None:
        raise SfumatoError(
            "give --rejected, a folder with the pictures that were liked less, called as those of --data"
        )
    return DpoTask(replace(cfg, model=model or cfg.model), data, folder, device, rejected)


class DpoTask(FineTuningTask):
    """Trains a model towards the pictures of `data` and away from those of `rejected`, see `FineTuningTask`.

    Raises SfumatoError unless both have pictures of the same names and sizes.
    """

    cfg: DpoTraining

    def __init__(self, cfg: DpoTraining, data: SampleSource, folder: Path, device: torch.device, rejected: Path):
        self._rejected_folder = rejected
        super().__init__(cfg, data, folder, device)
        self._rejected_latents = EncodedPictures(self.rejected, self.base.vae, self.cache)
        self._before = Conditions(self.base, self.draft)

    def draft(self, sample: Sample, turn: int) -> None:
        """See `FineTuningTask`: both pictures of a pair have the draft that the prior makes of their caption.

        With drafts of their own both would be drawn nearly without error, and little would be left to prefer.
        """

    def _learnt(self) -> Lora:
        return Lora(self.base, self.cfg)

    def _pictures(self, data: SampleSource, folder: Path) -> CaptionedPictures:
        chosen = super()._pictures(data, folder)
        self.rejected = self._opened(OwnPictures(self._rejected_folder), {**self.cfg.data, "caption_missing": "allow"})
        check_pairs(chosen, self.rejected, self._rejected_folder)
        return chosen

    def prepare(self) -> None:
        """See `FineTuningTask.prepare`."""
        super().prepare()
        self._rejected_latents.fill(self.cfg.loop.steps * self.cfg.loop.batch)

    def batch(self, step: int) -> Batch:
        """Returns what `FineTuningTask` does, and the `rejected` latents."""
        found = super().batch(step)
        return found | {"rejected": self.rejected_latents(self._samples(step))}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns the loss of pairs, and logs the share in which the chosen picture gained on the other."""
        pairs = [batch, batch | {"x0": batch["rejected"]}]
        objective, cond = self.cfg.objective, self.conditions(batch)
        own = [objective.errors(self.model.denoiser, one, cond) for one in pairs]
        with torch.no_grad():
            before = self.conditions(batch, self._before)
            theirs = [objective.errors(self.base.denoiser, one, before) for one in pairs]
        gained = (theirs[0] - own[0]) - (theirs[1] - own[1])
        losses = -F.logsigmoid(self.cfg.beta / 2 * gained) * batch["weight"]
        return losses.mean(), {"accuracy": (gained > 0).float().mean()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Returns the share of fixed pairs, at several noise levels, in which the chosen picture gained on the other.

        "gained" is by how much of the error, in the mean.
        """
        found: list[Tensor] = []
        for samples in by_size(self.pictures.validation()):
            own_cond, cond_before = self._conditions(samples), self._before(samples)
            asked = (self.model.denoiser, own_cond), (self.base.denoiser, cond_before)
            both = [each.to(self.device) for each in (self.latents(samples), self.rejected_latents(samples))]
            with arithmetic(self.cfg.loop, self.device):
                for ratio in RATIOS:
                    own, theirs = (
                        [validation_errors(denoiser, x0, cond, ratio).flatten(1).mean(1) for x0 in both]
                        for denoiser, cond in asked
                    )
                    found.append(((theirs[0] - own[0]) - (theirs[1] - own[1])) / (theirs[0] + theirs[1]))
        gained = torch.cat(found)
        return {"accuracy": (gained > 0).float().mean().item(), "gained": gained.mean().item()}

    def rejected_latents(self, samples: Sequence[Sample]) -> Tensor:
        """Returns the latents (B, C, h, w) of the other pictures of the samples' pairs, float32 on the CPU."""
        return torch.stack([self._rejected_latents(sample) for sample in samples]).float()
