"""Trains an IP-Adapter (Ye et al. 2023): a model is shown a picture beside the words, and draws what is like it.

A projection of what CLIP's vision tower says of a picture, and keys and values of its tokens for every cross-attention,
learn; they begin as the keys and values of the text. The pictures that are learnt are also those that are shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from sfumato.adapters.ip_adapter import written
from sfumato.data.pictures.protocol import Sample, SampleSource
from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.files import atomic_write
from sfumato.images.tensors import to_images
from sfumato.loading.image_encoders import load_image_encoder
from sfumato.nets.clip_vision import ImageStates
from sfumato.nets.ip_adapter import HEAD, ImageAttention, IPAdapter, Projection, Resampler, cross_attentions
from sfumato.nets.ip_adapter import with_image_prompts as seeing
from sfumato.nets.unet import UNet
from sfumato.pipeline.image_encoders import named_encoder
from sfumato.pipeline.model import Model
from sfumato.seeding import stream
from sfumato.spec import CLIPVisionConfig
from sfumato.train.cache import joined_hash, weights_hash
from sfumato.train.conditions import Conditions
from sfumato.train.fine_tuning import SHOWN, FineTuning, FineTuningTask, by_size
from sfumato.train.learnt import Precision, with_networks
from sfumato.train.sheet import sheet
from sfumato.train.steering import steered
from sfumato.train.task import Batch

WIDEST = 1280  # of a resampler, by default
DEPTH, WIDER = 4, 4  # layers of a resampler, and how much wider their inner products are


@dataclass(frozen=True, kw_only=True)
class IPAdapterTraining(FineTuning):
    """Recipe of an IP-Adapter, whose file is called `name`.

    `image_encoder` is a vision tower of CLIP: a file, a folder, or a name in the folder clip_vision of the model
    folders. The kind "plain" makes 4 tokens of its vector, "plus" makes `queries` tokens of all its patches, by a
    resampler of the width `hidden` (0: that of the text, at most 1280). Of samples with captions the share
    `image_dropout` is shown no picture, and of those whose caption is left out half, so that guidance knows both.
    """

    image_encoder: str
    name: str = "ip-adapter"
    kind: Literal["plain", "plus"] = "plain"
    queries: int = 16
    hidden: int = 0
    image_dropout: float = 0.05
    precision: Precision = "float16"

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise SfumatoError(f"queries is {self.queries}; expected a whole number from 1")
        if self.hidden < 0 or self.hidden % HEAD:
            raise SfumatoError(f"hidden is {self.hidden}; expected a multiple of {HEAD}, or 0")
        if not 0 <= self.image_dropout <= 1:
            raise SfumatoError(f"image_dropout is {self.image_dropout}; expected a share from 0 to 1")


def make(
    cfg: IPAdapterTraining, data: SampleSource, folder: Path, device: torch.device, *, model: str | None = None
) -> IPAdapterTask:
    """Returns the task of a run in `folder`; the inputs are described in `train.registry`."""
    return IPAdapterTask(replace(cfg, model=model or cfg.model), data, folder, device)


class Seeing:
    """An IP-Adapter that learns, and the model with it. Raises SfumatoError for a model without a U-Net."""

    def __init__(self, base: Model, cfg: IPAdapterTraining, eye: CLIPVisionConfig):
        self.cfg, network = cfg, base.denoiser.network
        if not isinstance(network, UNet):
            raise SfumatoError(f"{base.name} has no U-Net, whose attentions an IP-Adapter changes; give 1.x, 2.x or XL")
        self.adapter = fresh(network, cfg, eye).to(base.device).requires_grad_(True)
        self.networks = nn.ModuleDict({"adapter": self.adapter})
        count = self.adapter.count((eye.size // eye.patch) ** 2 + 1)
        self.model = with_networks(base, seeing(network, [(self.adapter, count)]), base.encode)

    def write(self, folder: Path, about: Mapping[str, str]) -> None:
        """Writes NAME.safetensors in the names of its authors."""
        tensors = written(self.adapter, getattr(torch, self.cfg.precision))
        with atomic_write(folder / f"{self.cfg.name}.safetensors") as file:
            file.write(save(tensors, {**about, "modelspec.title": self.cfg.name}))


def fresh(network: UNet, cfg: IPAdapterTraining, eye: CLIPVisionConfig) -> IPAdapter:
    """Returns an IP-Adapter for a U-Net that looks at tokens of a picture as the U-Net looks at those of text."""
    width = network.cfg.context_dim
    hidden = cfg.hidden or min(width // HEAD * HEAD or HEAD, WIDEST)
    projection: Projection | Resampler
    if cfg.kind == "plain":
        projection = Projection(eye.projection_dim or eye.hidden_size, width)
    else:
        projection = Resampler(eye.hidden_size, hidden, width, cfg.queries, DEPTH, hidden, WIDER * hidden)
        nn.init.normal_(projection.latents, std=hidden**-0.5)
    layers = []
    for place in cross_attentions(network):
        layer = ImageAttention(width, place.attn2.to_q.in_features)
        layer.to_k_ip.load_state_dict(place.attn2.to_k.state_dict())
        layer.to_v_ip.load_state_dict(place.attn2.to_v.state_dict())
        layers.append(layer)
    return IPAdapter(projection, layers)


class IPAdapterTask(FineTuningTask):
    """Trains an IP-Adapter, see `FineTuningTask`."""

    KIND = "ip-adapter"
    cfg: IPAdapterTraining
    learnt: Seeing

    def _learnt(self) -> Seeing:
        self._eye = load_image_encoder(named_encoder(self.cfg.image_encoder), self.device, "float32")
        self._eye_hash = weights_hash(self._eye.network)
        return Seeing(self.base, self.cfg, self._eye.network.cfg)

    def batch(self, step: int) -> Batch:
        """Returns what `FineTuningTask` does, and what of each row's picture is `seen`: a vector, or its patches."""
        samples, chance = self._samples(step), stream(self.cfg.loop.seed, "ip-adapter", step)
        shares = [self.cfg.image_dropout if sample.caption else 0.5 for sample in samples]
        hidden = [chance.random() < share for share in shares]
        seen = [self._seen(None if one else sample) for sample, one in zip(samples, hidden, strict=True)]
        return super().batch(step) | {"seen": torch.stack(seen).float()}

    def conditions(self, batch: Batch, made: Conditions | None = None) -> Cond:
        """Returns the conditioning of a batch's rows, with the tokens of what is seen."""
        return self._with_tokens(super().conditions(batch, made), batch["seen"])

    def _measured(self, samples: Sequence[Sample]) -> Cond:
        return self._with_tokens(super()._measured(samples), torch.stack([self._seen(one) for one in samples]).float())

    def _with_tokens(self, cond: Cond, seen: Tensor) -> Cond:
        seen = seen.to(self.device)
        tokens = self.learnt.adapter.image_proj(ImageStates((seen, seen), seen))
        return replace(cond, image_tokens=tokens, image_strengths=torch.ones(len(seen), 1, device=self.device))

    def _seen(self, sample: Sample | None) -> Tensor:
        """What the tower says of a sample's picture, or of none, as the projection takes it; float16 on the CPU."""
        shown = "nothing" if sample is None else self.pictures.key(sample)

        def made() -> dict[str, Tensor]:
            size = self._eye.network.cfg.size
            x = torch.zeros(1, 3, size, size)
            if sample is not None:
                x = self._eye.prepared(to_images(self.pictures.pixels(sample)[None])[0])
            states = self._eye.states(x)
            vector = states.vector if sample is not None else torch.zeros_like(states.vector)
            return {"seen": (vector if self.cfg.kind == "plain" else states.hidden[-2])[0].half()}

        return self.cache.tensors(joined_hash("seen", shown, self.cfg.kind, self._eye_hash), made)["seen"]

    @torch.no_grad()
    def samples(self) -> Image.Image:
        """Returns pictures, and what is drawn from their captions without them, with them, and from them alone."""
        shown = by_size(self.pictures.validation())[0][:SHOWN]
        rows = [torch.stack([self.pictures.pixels(sample) for sample in shown])]
        captions, numbers = [sample.caption for sample in shown], [sample.picture for sample in shown]
        seen, unseen = [self._seen(sample)[None].float() for sample in shown], self._seen(None)[None].float()

        def with_picture(place: int, cond: Cond) -> Cond:
            return self._with_tokens(cond, seen[place])

        def without(place: int, cond: Cond) -> Cond:
            return self._with_tokens(cond, unseen)

        for words, given in ((captions, None), (captions, with_picture), ([""] * len(shown), with_picture)):
            rows.append(
                steered(
                    self.base, self.model.denoiser, words, numbers, shown[0].size, self.cfg.sheet_steps, given,
                    negative=without,
                )
            )  # fmt: skip
        return sheet([row.cpu() for row in rows])
