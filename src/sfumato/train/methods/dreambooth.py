"""DreamBooth (Ruiz et al. 2022): a model learns a thing from a few pictures, and keeps what it knows of its class.

Prior preservation: the model first draws pictures of the class, "a dog" where the thing is "a sks dog", and learns on
these as well as on the thing's pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from sfumato.data.pictures.protocol import CaptionedPictures, SampleSource
from sfumato.errors import SfumatoError
from sfumato.files import atomic_write
from sfumato.images.tensors import to_images
from sfumato.pipeline.batch import Request, decoded, trajectories
from sfumato.train.fine_tuning import FineTuning, FineTuningTask, settings_for
from sfumato.train.learnt import Learnt, LoraOrWhole
from sfumato.train.new_thing import PicturedWord, pictured_word
from sfumato.train.preparation import shown


@dataclass(frozen=True, kw_only=True)
class DreamboothTraining(FineTuning, LoraOrWhole):
    """Recipe of DreamBooth; see also `LoraOrWhole`.

    `prompt` is what the pictures show, such as "a sks dog"; captions that lie beside them are read instead.
    `class_prompt` names the class, such as "a dog": `class_pictures` of it are drawn first, in `class_steps` steps (0:
    as many as the model advises), and their losses count `prior_weight` times.
    """

    prompt: str
    class_prompt: str = ""
    class_pictures: int = 100
    class_steps: int = 0
    prior_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prompt.strip():
            raise SfumatoError('prompt is empty; say what the pictures show, such as "a sks dog"')
        if self.class_prompt and self.class_pictures < 1:
            raise SfumatoError(f"class_pictures is {self.class_pictures}; expected a whole number from 1")


def make(
    cfg: DreamboothTraining, data: SampleSource, folder: Path, device: torch.device, *, model: str | None = None
) -> DreamboothTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return DreamboothTask(replace(cfg, model=model or cfg.model), data, folder, device)


class DreamboothTask(FineTuningTask):
    """Trains a model on a thing and on its class, see `FineTuningTask`."""

    cfg: DreamboothTraining

    def _word(self) -> PicturedWord | None:
        """For a model with a scene prior, what the prompt says in place of its class."""
        cfg, base = self.cfg, self.base
        if base.prior is None:
            return None
        thing, class_of_it = apart(cfg.prompt, cfg.class_prompt)
        if cfg.lora is None or not thing or not class_of_it:
            raise SfumatoError(
                f"{base.name} has a scene prior, which needs a word for the thing; give a table [lora], whose file "
                'brings the word, and both prompts, such as "a sks dog" and class_prompt "a dog"'
            )
        return pictured_word(base, thing, class_of_it, self.pictures)

    def _learnt(self) -> Learnt:
        return self.cfg.learnt(self.base, self.word)

    def _pictures(self, data: SampleSource, folder: Path) -> CaptionedPictures:
        """The pictures of the thing, and those of the class, which are drawn where they are not yet."""
        cfg = self.cfg
        options: dict[str, Any] = {"default_caption": cfg.prompt} | cfg.data
        if cfg.class_prompt:
            place = folder / "class"
            self._draw_class(place, cfg.data.get("resolution") or self.base.spec.defaults.width)
            options |= {
                "regularisation_folder": str(place),
                "regularisation_caption": cfg.class_prompt,
                "regularisation_weight": cfg.prior_weight,
            }
        return self._opened(data, options)

    def _draw_class(self, folder: Path, side: int) -> None:
        """Draws the pictures of the class that are not in `folder` yet, each by its number as the seed."""
        cfg, model = self.cfg, self.base
        settings = settings_for(model, side, side, cfg.class_steps)
        paths = [folder / f"{number:05d}.png" for number in range(cfg.class_pictures)]
        missing = [(number, path) for number, path in enumerate(paths) if not path.is_file()]
        for number, path in shown(missing, "draw the class"):
            latents = trajectories(model, [Request(cfg.class_prompt, number)], settings)[:, -1]
            _write(path, to_images(decoded(model.vae, latents))[0])


def _write(path: Path, picture: Image.Image) -> None:
    with atomic_write(path) as file:
        picture.save(file, "PNG")


def apart(prompt: str, class_prompt: str) -> tuple[str, str]:
    """Returns what is left of two prompts without the words that both begin with: "sks dog" and "dog"."""
    one, other = prompt.split(), class_prompt.split()
    same = next((k for k, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), len(other))
    return " ".join(one[same:]), " ".join(other[same:])
