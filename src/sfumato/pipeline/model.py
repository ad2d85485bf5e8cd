"""A loaded model: its networks and their sizes, and views of them that a request may ask for."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.adapters.merged import hyped, merged
from sfumato.adapters.unmerged import unmerged
from sfumato.adapters.use import Use
from sfumato.adapters.words import embeddings
from sfumato.checkpoint.checkpoint import WeightFile
from sfumato.checkpoint.hashes import model_hash
from sfumato.diffusion.driver import Denoiser
from sfumato.diffusion.noise_schedule import Table, table_of
from sfumato.errors import OptionError, SfumatoError
from sfumato.families import family
from sfumato.families.layouts.depth_net import DepthNetwork
from sfumato.loading.controls import ControlModel
from sfumato.loading.safety import SafetyCheck
from sfumato.loading.streaming import is_streamed
from sfumato.nets.clip_vision import CLIPVision
from sfumato.nets.controlled import Control, Controlled
from sfumato.nets.controlnet import MMDiTControlNet
from sfumato.nets.int8 import use_int8, uses_int8
from sfumato.nets.ip_adapter import with_image_prompts
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.perturbed import without_layers, without_self_attention
from sfumato.nets.prior import ScenePrior
from sfumato.nets.seamless import seamless
from sfumato.nets.tiny_decoder import TinyDecoder
from sfumato.nets.token_merging import with_token_merging
from sfumato.nets.unclip import VectorStatistics
from sfumato.nets.unet import UNet
from sfumato.nets.vae import VAE, with_tiny_decoder
from sfumato.pipeline.adapter_memory import CopyFits
from sfumato.pipeline.adapters import Adapters
from sfumato.pipeline.clip_scorer import PERCEPTOR, ClipScorer, load_scorer
from sfumato.pipeline.controls import ControlFile, LoadedControls
from sfumato.pipeline.guides import Wrap
from sfumato.pipeline.image_prompts import ImagePromptFile, LoadedImagePrompts
from sfumato.pipeline.image_prompts import Loaded as LoadedImage
from sfumato.pipeline.latents import preview, preview_colours, tiny_preview
from sfumato.runtime.device import INT8
from sfumato.settings.settings import Pair, Settings, Tiling
from sfumato.spec import Spec
from sfumato.text.encode import TextEncoder

MAX_VIEWS = 16  # that are kept; each costs its modules, and no weights
MAX_ADAPTED = 2  # sets of adapters whose networks are kept; each costs the weights that they change


@dataclass(frozen=True)
class View:
    """Names what a request changes about a model's networks. Equal views are the same networks, so they share batches.

    `tiling` draws pictures whose opposite edges fit together. `without_layers` are blocks of a transformer that are
    left out (skip-layer guidance), `without_self_attention` names of modules whose self-attention is the identity
    (perturbed-attention guidance). `merging` is the share of places that self-attentions merge, `decoder` "tiny" where
    the tiny decoder makes the pictures. `adapters` are LoRAs and the like, whose differences are added to the weights
    of the network, hypernetworks before its attentions. `slots` are LoRAs that are added at run time, to the rows of a
    batch whose conditioning asks for them (see `nets.adapted`). `controls` are the networks that steer it by hints,
    `images` the IP-Adapters by which it sees pictures; which hints and pictures, and how strongly, is said by
    conditioning.
    """

    adapters: tuple[Use, ...] = ()
    slots: tuple[Use, ...] = ()
    tiling: Tiling | None = None
    without_layers: tuple[int, ...] = ()
    without_self_attention: tuple[str, ...] = ()
    merging: float = 0.0
    decoder: str = "full"
    controls: tuple[ControlFile, ...] = ()
    images: tuple[ImagePromptFile, ...] = ()

    @property
    def weights(self) -> tuple[tuple[Use, ...], tuple[Use, ...], tuple[ControlFile, ...]]:
        """What of it costs weights of its own."""
        return self.adapters, self.slots, self.controls


class Model:
    """A loaded model, without a task of its own. Made by `pipeline.load.load`.

    `encode` reads prompts, `depth` sees the depth of a picture for a network that is conditioned on it, `prior` lays
    out what a prompt leaves open, `image` sees the picture that a network of unCLIP varies, `path` is where the model
    was loaded from. `planned` is the size of pictures that a limit of memory was planned for. `safety_checker`, None
    unless it is set, blanks pictures that it finds unsafe.
    """

    def __init__(
        self,
        spec: Spec,
        denoiser: Denoiser,
        vae: VAE,
        text: TextEncoder,
        path: Path,
        depth: DepthNetwork | None = None,
        prior: ScenePrior | None = None,
        files: Sequence[WeightFile] = (),
        image: CLIPVision | None = None,
        statistics: VectorStatistics | None = None,
    ):
        self.spec = spec
        self.denoiser = denoiser
        self.vae = vae
        self.encode = text
        self.path = path
        self.depth = depth
        self.prior = prior
        self.files = files
        self.image, self.statistics = image, statistics
        self.planned: Pair | None = None
        self.guides: tuple[tuple[str, Wrap], ...] = ()
        self.safety_checker: SafetyCheck | None = None
        self.key = View()
        self.adapters = Adapters(spec)
        self._shared = _Shared(spec, denoiser, vae, text, path)

    @property
    def name(self) -> str:
        path = Path(os.path.abspath(self.path))  # "." has no name, and links keep theirs
        if path.parent.name == "snapshots":  # of the Hugging Face cache, where the folder's own name is a commit
            return path.parents[1].name.rpartition("--")[2]
        return path.stem if path.is_file() else path.name

    def view(self, key: View) -> Self:
        """This model, on the same weights, with its networks changed as `key` says.

        Raises ValueError for a module without self-attention, and for layers of a network that is no transformer.
        """
        if key == self.key:
            return self
        result = copy.copy(self)
        result.key = key
        result.denoiser, result.vae, result.encode = self._shared.networks(key)
        return result

    def for_request(self, settings: Settings) -> Self:
        """This model as a request asks for it: for pictures that tile, with its adapters and controls.

        Adapters that all its pictures share are merged into the weights; the others are added at run time, so that the
        pictures share calls of the network. Raises SfumatoError for an adapter or a control that is not here or does
        not fit.
        """
        merged, slots = self.adapters.divided(settings, self._shared.copy_fits)
        controls = tuple(ControlFile.find(one) for one in settings.control)
        images = tuple(ImagePromptFile.find(one) for one in self.adapters.image_prompts(settings))
        key = replace(self.key, tiling=settings.tiling, adapters=merged, slots=slots)
        key = replace(key, merging=settings.token_merging, decoder=settings.decoder)
        return self.view(replace(key, controls=controls, images=images))

    def following(self, settings: Settings) -> Self:
        """This model as one that goes on where another leaves off, with the adapters that were added to it alone."""
        result = copy.copy(self)
        result.adapters = self.adapters.alone()
        return result.for_request(replace(settings, control=(), ip_adapter=()))

    def for_picture(self, one: Settings) -> Self:
        """This model with the adapters of one picture of a request, whose words may be other than its neighbours'."""
        uses = self.adapters.uses(one)
        drawing = {use for use in uses if use.changes_network}
        if set(self.key.adapters) <= drawing <= {*self.key.adapters, *self.key.slots}:
            result = copy.copy(self)
        else:
            merged, slots = self.adapters.divide([uses], self._shared.copy_fits)
            result = copy.copy(self.view(replace(self.key, adapters=merged, slots=slots)))
        result.encode = self._shared.encoder(uses)
        return result

    @property
    def controls(self) -> tuple[ControlModel, ...]:
        """The networks that steer this view."""
        return self._shared.controls(self.key)

    @property
    def images(self) -> tuple[LoadedImage, ...]:
        """The IP-Adapters of this view."""
        return self._shared.images(self.key)

    @property
    def loaded(self) -> Denoiser:
        """Returns the denoiser as it was loaded, without what this view changes."""
        return self._shared.made[View()].denoiser

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.network.parameters()).device

    def check_files(self) -> None:
        """Raise SfumatoError when a file that weights may be views of was written into since it was loaded."""
        for file in self.files:
            file.check_in_place()

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the network that draws."""
        return next(self.denoiser.network.parameters()).dtype

    @property
    def precision(self) -> str:
        """What messages call the precision of the network that draws, such as "float32" or "int8 and bfloat16"."""
        kind = str(self.dtype).removeprefix("torch.")
        return f"{INT8} and {kind}" if uses_int8(self.denoiser.network) else kind

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Every network by the name of its part; changing one in place changes all views of the model."""
        denoiser, vae, encode = self._shared.made[View()]
        texts = dict(zip(("text", "text_2"), encode.towers, strict=False))
        t5 = encode.t5.network if encode.t5 is not None else None
        drawing = {family(self.spec.family).denoiser: denoiser.network, "vae": vae}
        parts = {**drawing, **texts, "text_3": t5, "depth": self.depth, "prior": self.prior}
        parts |= {"image": self.image, "statistics": self.statistics}
        return {part: network for part, network in parts.items() if network is not None}

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move all networks to a device, or into a precision, in place; returns the model.

        A prior and the text tower that it reads stay in float32, as when they are loaded. Raises SfumatoError for a
        model that was loaded within a limit of memory, whose weights stay in their file.
        """
        if any(is_streamed(network) for network in self.networks.values()):
            raise SfumatoError(f"{self.name} was loaded with `memory`, so it cannot be moved; load it again instead")
        for part, network in self.networks.items():
            exact = self.spec.prior is not None and part not in (family(self.spec.family).denoiser, "vae")
            network.to(device=device, dtype=None if exact else dtype)
        for name in ("in_full", "in_range"):
            vars(self.vae).pop(name, None)
        if self.tiny_decoder is not None:
            self.tiny_decoder.to(device=device, dtype=dtype)
        self._shared.moved()
        self.denoiser, self.vae, self.encode = self._shared.networks(self.key)
        return self

    def multiply_in_int8(self, on: bool) -> None:
        """Let the network that draws multiply in 8 bits, or no longer, in place; see `nets.int8`."""
        use_int8(self.networks[family(self.spec.family).denoiser], on)
        self._shared.moved()

    @property
    def table(self) -> Table:
        return self.denoiser.table

    def table_for(self, width: int, height: int) -> Table:
        """Returns the noise levels for a picture of this size in pixels; most models have the same for all."""
        if self.spec.noise.log_shift is None:
            return self.table
        patches = (width // self.spec.multiple) * (height // self.spec.multiple)
        return table_of(self.spec.prediction, self.spec.noise, patches)

    @property
    def hash(self) -> str | None:
        """See `checkpoint.hashes.model_hash`."""
        return self._shared.hash

    @property
    def preview_colours(self) -> Tensor:
        """See `latents.preview_colours`."""
        return self._shared.preview_colours

    @property
    def tiny_decoder(self) -> TinyDecoder | None:
        """The decoder of previews, and of pictures with `decoder="tiny"`; all views have it."""
        return self._shared.tiny

    @tiny_decoder.setter
    def tiny_decoder(self, tiny: TinyDecoder | None) -> None:
        self._shared.tiny = tiny
        self._shared.moved()

    def preview(self, latents: Tensor) -> Image.Image:
        """Returns a rough picture of latents (1, C, h, w): of the tiny decoder, or with a pixel for every place."""
        tiny = self.tiny_decoder
        return preview(latents, self.preview_colours) if tiny is None else tiny_preview(latents, tiny)

    @property
    def perceptor(self) -> ClipScorer:
        """The CLIP that ships for drawing, on this model's device: it scores how well pictures fit words."""
        return self._shared.perceptor


class _Networks(NamedTuple):
    """What of a model's parts a view changes."""

    denoiser: Denoiser
    vae: VAE
    encode: TextEncoder


def _steering(control: ControlModel, tiling: Tiling | None) -> Control:
    """The network of a control, for pictures that tile if they do; a transformer's sees edges all the same."""
    if tiling is None or isinstance(control.network, MMDiTControlNet):
        return control.network
    return seamless(control.network, tiling in ("x", "both"), tiling in ("y", "both"))


class _Shared:
    """Holds what all views of a model share; each part is made when it is first asked for."""

    def __init__(self, spec: Spec, denoiser: Denoiser, vae: VAE, encode: TextEncoder, path: Path):
        self.spec, self.path = spec, path
        self.made: dict[View, _Networks] = {View(): _Networks(denoiser, vae, encode)}
        self.encoders: dict[tuple[Use, ...], TextEncoder] = {(): encode}
        self.copy_fits = CopyFits(denoiser.network, family(spec.family).denoiser, spec)
        self.tiny: TinyDecoder | None = None
        self._controls = LoadedControls()
        self._images = LoadedImagePrompts()

    def controls(self, key: View) -> tuple[ControlModel, ...]:
        """The networks that steer a view, loaded for the network as it was loaded itself."""
        return tuple(self._controls.get(file, self.made[View()].denoiser.network) for file in key.controls)

    def images(self, key: View) -> tuple[LoadedImage, ...]:
        """The IP-Adapters of a view, loaded for the network as it was loaded itself."""
        base = self.made[View()].denoiser.network
        return tuple(self._images.get(file, base, self.spec.title) for file in key.images)

    def networks(self, key: View) -> _Networks:
        """Denoiser, autoencoder and text encoder of a view, the same objects for equal keys."""
        if key not in self.made:
            self._make_room(key)
            self.made[key] = self._make(key)
        return self.made[key]

    def _make_room(self, key: View) -> None:
        """Forget the oldest views where there are too many, or too many sets of adapters beside that of `key`."""
        if len(self.made) > MAX_VIEWS:
            self.made.pop(next(one for one in self.made if one != View()))
        own = key.weights
        others = [one for one in dict.fromkeys(one.weights for one in self.made) if any(one)]
        others = [one for one in others if one not in ((key.adapters, (), ()), (key.adapters, key.slots, ()), own)]
        gone = others[: max(0, len(others) - MAX_ADAPTED + 1)] if any(own) else []
        self.made = {one: made for one, made in self.made.items() if one.weights not in gone}

    def encoder(self, uses: tuple[Use, ...]) -> TextEncoder:
        """The text encoder with adapters added, the same object for equal changes of it; the last few are kept."""
        plain = tuple(Use(use.file, use.text_strength, word=use.word) for use in uses if use.changes_text)
        if plain not in self.encoders:
            while len(self.encoders) > MAX_ADAPTED:
                self.encoders.pop(next(one for one in self.encoders if one))
            self.encoders[plain] = self._encoder(plain)
        return self.encoders[plain]

    def _encoder(self, uses: tuple[Use, ...]) -> TextEncoder:
        encode = self.encoders[()]
        towers = zip(("text", "text_2"), encode.towers, strict=False)
        changed = tuple(merged(tower, part, uses, self.spec) for part, tower in towers)
        t5 = encode.t5
        if t5 is not None and t5.network is not None:
            t5 = replace(t5, network=merged(t5.network, "text_3", uses, self.spec))
        return replace(encode, towers=changed, t5=t5).with_embeddings(embeddings(uses, self.spec))

    def moved(self) -> None:
        """Forget what was made of the networks as they were."""
        self.made, self.encoders = {View(): self.made[View()]}, {(): self.encoders[()]}
        self.copy_fits.forget()
        self._controls.clear()
        self._images.clear()
        for name in ("preview_colours", "perceptor"):
            vars(self).pop(name, None)

    def required_tiny(self) -> TinyDecoder:
        """The tiny decoder. Raises OptionError where none was loaded."""
        if self.tiny is None:
            give = 'load the model with one, such as `tiny_decoder="taesd_decoder.safetensors"`'
            raise OptionError(f"`decoder` is 'tiny', but the model was loaded without a tiny decoder; {give}")
        return self.tiny

    def _make(self, key: View) -> _Networks:
        adapted = View(adapters=key.adapters, slots=key.slots)
        if key == adapted:
            return self._adapted(key)
        denoiser, vae, encode = self.networks(adapted)
        network = denoiser.network
        if key.without_layers:
            if not isinstance(network, MMDiT):
                raise ValueError("only layers of a transformer can be left out")
            network = without_layers(network, key.without_layers)
        if key.without_self_attention:
            network = without_self_attention(network, key.without_self_attention)
        if key.decoder == "tiny":
            vae = with_tiny_decoder(vae, self.required_tiny())
        if key.merging:
            network = with_token_merging(network, key.merging)
        if key.tiling is not None:
            axes = key.tiling in ("x", "both"), key.tiling in ("y", "both")
            network, vae = seamless(network, *axes), seamless(vae, *axes)
        if key.images and isinstance(network, UNet):
            network = with_image_prompts(network, [(one.adapter, one.count) for one in self.images(key)])
        if key.controls:
            network = Controlled(network, [_steering(one, key.tiling) for one in self.controls(key)])
        return _Networks(replace(denoiser, network=network), vae, encode)

    def _adapted(self, key: View) -> _Networks:
        """The networks with adapters added, whose other weights are those that were loaded."""
        denoiser, vae, _ = self.made[View()]
        drawing, base = family(self.spec.family).denoiser, denoiser.network
        if key.slots:
            loras = tuple(use for use in key.adapters if use.changes_weights)
            network = unmerged(self.networks(View(loras)).denoiser.network, base, drawing, key.slots, self.spec)
        else:
            network = merged(base, drawing, key.adapters, self.spec)
        network = hyped(network, key.adapters)
        return _Networks(replace(denoiser, network=network), vae, self.encoder(key.adapters))

    @cached_property
    def hash(self) -> str | None:
        return model_hash(self.path)

    @cached_property
    def preview_colours(self) -> Tensor:
        return preview_colours(self.made[View()].vae)

    @cached_property
    def perceptor(self) -> ClipScorer:
        return load_scorer(PERCEPTOR, next(self.made[View()].denoiser.network.parameters()).device)
