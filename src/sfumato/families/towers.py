"""The text towers of a release: where each layout keeps them, and how their sizes are read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from sfumato.checkpoint import diffusers_config
from sfumato.checkpoint.keymap import Rule, Shapes, rename
from sfumato.families.layouts import clip_text, open_clip
from sfumato.spec import CLIPTextConfig, Spec

# What a whole CLIP has beside its text tower; the projection is read where the network has one.
REST_OF_CLIP = (
    r"(text_model\.)?"
    r"(logit_scale|logit_bias|attn_mask|text_projection(\.weight)?|(vision_model|visual|visual_projection)\..*)"
)


@dataclass(frozen=True)
class Tower:
    """A text tower of a release.

    `part` is the name of its network and of its field of Spec; `original` and `folder` are what the names of its
    tensors begin with in the two layouts. `open_clip`: the original layout has OpenCLIP's names, not transformers'.
    """

    part: str
    original: str
    folder: str
    open_clip: bool = False

    def config(self, spec: Spec) -> CLIPTextConfig:
        """Its sizes in a model. Raises LookupError for a Spec without it."""
        config = getattr(spec, self.part)
        if not isinstance(config, CLIPTextConfig):
            raise LookupError(f"{spec.family} has no {self.part}")
        return config

    def sizes(self, shapes: Shapes, release: Spec) -> CLIPTextConfig:
        """Sizes from the shapes of an original file, the rest from the release.

        Some files leave out what nothing reads: the last layer of 2.x' tower and its projection.
        """
        read, usual = (open_clip if self.open_clip else clip_text).sizes(shapes, self.original), self.config(release)
        if usual.pooled == "projected" and read.projection_dim is None:  # it is read, and will be named as missing
            read = replace(read, projection_dim=usual.projection_dim)
        cut = usual.pooled is None and _is_cut(read, usual, f"{self.original}{open_clip.LOGIT_SCALE}" in shapes)
        skip = 1 if cut else usual.skip
        return replace(_with_release_padding(usual, read), activation=usual.activation, skip=skip)

    def rules(self, names: Iterable[str]) -> list[Rule]:
        if self.open_clip:
            return open_clip.rules(names, self.original)
        return rename(names, lambda name: self.original + name)

    def from_folder(self, config: diffusers_config.Config, where: str, release: Spec) -> CLIPTextConfig:
        """Sizes from a folder's JSON file, the rest from the release."""
        read, usual = diffusers_config.clip_from(config, where), self.config(release)
        # 2.x folders leave out the last layer, which nothing reads: they hold what is read as the last one.
        skip = 1 if usual.normalised else usual.skip
        return replace(_with_release_padding(usual, read), skip=skip)

    def folder_sizes(self, shapes: Shapes, release: Spec) -> CLIPTextConfig:
        """Returns the sizes from a folder's tensors, where their JSON file is missing."""
        read, usual = clip_text.sizes(shapes, self.folder), self.config(release)
        skip = 1 if usual.normalised else usual.skip
        return replace(_with_release_padding(usual, read), activation=usual.activation, skip=skip)

    def fit_folder(self, config: CLIPTextConfig) -> CLIPTextConfig:
        """The tower as a folder keeps it: what is read and normed is its last layer, and 2.x has no projection."""
        if not config.normalised or config.skip == 1:
            return config
        return replace(config, layers=config.layers - config.skip + 1, skip=1, projection_dim=None)

    def fit_original(self, config: CLIPTextConfig, shapes: Shapes, release: Spec) -> CLIPTextConfig:
        """The tower with the layers that follow the one that is read, as its own code builds it."""
        usual = self.config(release)
        if not config.normalised or config.skip == usual.skip:
            return config
        layers = config.layers - config.skip + usual.skip
        width = shapes.get(self.original + open_clip.PROJECTION, (0, config.hidden_size))[1]
        return replace(config, layers=layers, skip=usual.skip, projection_dim=config.projection_dim or width)


def _is_cut(read: CLIPTextConfig, usual: CLIPTextConfig, logit_scale: bool) -> bool:
    """Returns whether a tower in OpenCLIP's names ends with the layer that is read, as one converted from a folder.

    At a release's size the number of layers tells; else that the conversion lost the projection and CLIP's scale too.
    """
    if usual.skip == 1 or read.layers >= usual.layers:
        return False
    known = usual.normalised and read.projection_dim is None and not logit_scale
    return known or (read.hidden_size == usual.hidden_size and read.layers == usual.layers - usual.skip + 1)


def _with_release_padding(usual: CLIPTextConfig, read: CLIPTextConfig) -> CLIPTextConfig:
    """Adds what no layout states: the padding token of the release, and which of the states it reads."""
    pad = read.eos_token_id if usual.pad_token_id == usual.eos_token_id else usual.pad_token_id
    return replace(read, normalised=usual.normalised, pooled=read.pooled or usual.pooled, pad_token_id=pad)


def with_inner_name(prefix: str) -> tuple[str, str]:
    """Some files were written by a transformers without the inner name `text_model`."""
    return rf"{re.escape(prefix)}((?!text_model\.).*)", rf"{prefix}text_model.\1"


def canonical_clip_name(name: str, towers: tuple[Tower, ...]) -> str:
    """The name of a text tower's tensor, with the inner name that some files leave out."""
    for tower in towers:
        own = name.removeprefix(tower.original)
        if not tower.open_clip and own != name and not own.startswith(("text_model.", "text_projection.")):
            return f"{tower.original}text_model.{own}"
    return name
