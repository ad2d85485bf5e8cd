"""The safety checker of Stable Diffusion 1.x from its file or folder, or from the folder of a model that has one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from sfumato.checkpoint.keymap import rename
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError
from sfumato.families.layouts import clip_vision
from sfumato.loading.image_encoders import ImageEncoder
from sfumato.loading.load import fill_alone
from sfumato.nets.safety_checker import SafetyChecker
from sfumato.runtime.device import choose_device, choose_dtype

FOLDER = "safety_checker"  # in a model's folder
CONCEPTS = ("concept_embeds", "special_care_embeds")
_OLD, _NEW = "vision_model.vision_model.", "vision_model."  # before the tower's names, up to transformers 4 and after


@dataclass(frozen=True, eq=False)
class SafetyCheck:
    """Says whether a picture is unsafe. `name` is that of the checker's file or folder."""

    name: str
    network: SafetyChecker

    @torch.no_grad()
    def __call__(self, image: Image.Image) -> bool:
        """Whether an RGB picture is unsafe."""
        x = ImageEncoder(self.network.vision).prepared(image)
        return bool(self.network(x.to(self.network.concept_embeds))[0])


def load_safety_checker(
    path: str | Path, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None
) -> SafetyCheck:
    """Load a safety checker: its own file or folder, or the folder of a model of 1.x with a `safety_checker` in it.

    Nothing in the file is executed. Called with an RGB picture, the result says whether it is unsafe. Raises
    SfumatoError for a file that is broken, not whole, or no safety checker.
    """
    where, path = choose_device(device), Path(path).expanduser()
    if (path / FOLDER).is_dir():
        path = path / FOLDER
    with open_checkpoint(path) as checkpoint:
        own = {name: one for name, one in checkpoint.tensors.items() if not name.endswith("position_ids")}
        prefix = _OLD if any(name.startswith(_OLD) for name in own) else _NEW
        shapes = {name.replace(_OLD, _NEW, 1): one.shape for name, one in own.items()}
        if not {*CONCEPTS, clip_vision.ANCHOR} <= shapes.keys():
            raise SfumatoError(
                f"{path} is no safety checker; give its file or folder, or the folder of a model of 1.x that has one"
            )
        try:
            cfg = clip_vision.sizes(shapes, "", True, checkpoint.configs.get("config", {}))
            with torch.device("meta"):
                network = SafetyChecker(cfg, *(shapes[name][0] for name in CONCEPTS))
        except (LookupError, ValueError, TypeError, RuntimeError) as error:
            raise SfumatoError(f"{path} holds no whole safety checker; download it again") from error
        rules = rename(network.state_dict(), lambda name: name.removeprefix("vision.").replace(_NEW, prefix, 1))
        whole = replace(checkpoint, tensors=own)
        fill_alone(network, rules, whole, "safety checker", choose_dtype(dtype, where), where)
    return SafetyCheck(path.stem, network)
