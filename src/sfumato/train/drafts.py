"""Drafts of composed scenes, made once from the codes of their things and kept, as latents are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sfumato.data.protocol import TrainingSet
from sfumato.nets.composer import Composer, Things
from sfumato.nets.vae import VAE
from sfumato.pipeline.latents import autoencoding
from sfumato.seeding import stream
from sfumato.train.cache import add_weights
from sfumato.train.latents import identity
from sfumato.train.precision import bf16_pays
from sfumato.train.preparation import Tensors, prepared

CUTOUTS, DRAFTS = 64, 256  # in a file
DRAFT_ERROR = 0.13  # root mean square error of the embedded model's drafts


class Drafter:
    """Makes the drafts of scenes whose things are pictures of a set with the `codes` (N, K + D).

    In the share `blur` of scenes details are left out. Files are kept in `folder` under names that hash all that drafts
    are made from.
    """

    def __init__(self, folder: Path, data: TrainingSet, vae: VAE, composer: Composer, codes: Tensor, blur: float):
        self._folder, self._composer, self._codes, self._blur = folder, composer, codes, blur
        vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # known to torch, not to its types
        self._autoencoding, self._device = autoencoding(vae), next(vae.parameters()).device
        frozen = {name: one for name, one in composer.state_dict().items() if not name.endswith("_token.weight")}
        digest = hashlib.sha256()
        add_weights(digest, frozen | {"codes": codes})
        self._made_from = identity(data, vae, digest.hexdigest())
        self._cutouts: Tensor | None = None

    def things(self, rows: Mapping[str, Tensor]) -> Things:
        """Returns what the composer is told of labelled scenes."""
        present = rows["group"] >= 0
        return Things(
            self._codes[rows["picture"]] * present[..., None], rows["tint"], rows["spot"], present, rows["ground"]
        )

    def drafts(self, name: str, rows: Mapping[str, Tensor], side: int) -> Tensor:
        """Returns the drafts (N, C, side, side), float16, of N labelled scenes; `name` says which ones they are."""

        def make(numbers: range) -> Tensors:
            part = {label: value[numbers.start : numbers.stop] for label, value in rows.items() if label != "latents"}
            each = [{label: value[n : n + 1] for label, value in part.items()} for n in range(len(numbers))]
            return {"drafts": torch.cat([self._draft(row, n, side) for row, n in zip(each, numbers, strict=True)])}

        place = self._folder / f"drafts-{name}-{self._made_from}"
        return prepared(place, len(rows["picture"]), make, DRAFTS, f"draft {name}")["drafts"]

    @torch.no_grad()
    def _draft(self, rows: Mapping[str, Tensor], number: int, side: int) -> Tensor:
        blurred = bool(stream(0, "blur", number).random() < self._blur)
        things, cut = self.things(rows), None
        with torch.autocast(self._device.type, torch.bfloat16, enabled=bf16_pays(self._device)):
            if blurred:
                things.codes[..., self._composer.cfg.code :] = 0
            else:
                if self._cutouts is None:
                    self._cutouts = self._cut()
                cut = [self._cutouts[rows["picture"][0, things.present[0]]].to(self._device).float() / 255]
            draft = self._composer.drafted(things.to(self._device), side, side, self._autoencoding, None, cut)
        return draft.half().cpu()

    def _cut(self) -> Tensor:
        """Returns the things of all pictures as the codes bring them back, uint8 RGBA (N, 4, S, S), premultiplied."""

        def make(numbers: range) -> Tensors:
            codes = self._codes[numbers.start : numbers.stop].to(self._device)
            cut = [self._composer.cut_out(part, self._autoencoding) for part in codes.split(16)]
            return {"cutouts": (255 * torch.cat(cut)).round().clamp(0, 255).byte()}

        place = self._folder / f"cutouts-{self._made_from}"
        return prepared(place, len(self._codes), make, CUTOUTS, "cut out things")["cutouts"]
