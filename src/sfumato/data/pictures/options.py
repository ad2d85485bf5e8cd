"""The options of a user's pictures: the table [data] of a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PIL import ImageColor

from sfumato.errors import SfumatoError


@dataclass(frozen=True)
class SubsetOptions:
    """How the pictures of one folder are used.

    Each comes `repeats` times an epoch, and its loss counts `weight` times. `regularisation` pictures keep what the
    model knew. With `flip` half of the samples are mirrored. `crop` cuts the middle, or at random one of eight places.
    A mask for the loss lies `beside` a picture (NAME_mask.png, white where the loss counts), or is its `alpha` channel.
    What is transparent gets the colour `background`, a name or #rrggbb.

    Captions: files with one of `caption_endings` lie beside the pictures; with `caption_lines` every line is a caption
    of its own. A picture without one has `default_caption`, and if that is empty is an error unless `caption_missing`
    allows it. Tags stand between `separator`s; `shuffle_tags` and the share `tag_dropout` change all but the first
    `keep_tags`, or but those before `keep_separator`; tags between `secondary_separator`s stay together. The share
    `caption_dropout` of captions is left empty. `prefix` and `suffix` are put around captions, and the words `trigger`
    in front of those that lack them.
    """

    repeats: int = 1
    weight: float = 1.0
    regularisation: bool = False
    flip: bool = False
    crop: Literal["center", "random"] = "center"
    masks: Literal["beside", "alpha", "none"] = "beside"
    background: str = "white"
    caption_endings: tuple[str, ...] = (".txt", ".caption", ".json")
    caption_lines: bool = False
    caption_missing: Literal["error", "allow"] = "error"
    default_caption: str = ""
    separator: str = ","
    shuffle_tags: bool = False
    keep_tags: int = 0
    keep_separator: str = ""
    secondary_separator: str = ""
    tag_dropout: float = 0.0
    caption_dropout: float = 0.0
    trigger: str = ""
    prefix: str = ""
    suffix: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.repeats <= 100_000:
            raise SfumatoError(f"repeats is {self.repeats}; expected a whole number from 1 to 100,000")
        if not 0 <= self.weight < float("inf"):
            raise SfumatoError(f"weight is {self.weight}; expected a number from 0")
        for name in ("tag_dropout", "caption_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise SfumatoError(f"{name} is {getattr(self, name)}; expected a share from 0 to 1")
        if self.keep_tags < 0:
            raise SfumatoError(f"keep_tags is {self.keep_tags}; expected a whole number from 0")
        if not self.separator.strip():
            raise SfumatoError("separator is empty; give what stands between tags, such as a comma")
        if bad := [ending for ending in self.caption_endings if not ending.startswith(".")]:
            raise SfumatoError(f"caption_endings has {bad[0]!r}; expected an ending such as .txt")
        try:
            ImageColor.getrgb(self.background)
        except ValueError:
            message = f"background is {self.background!r}; give a colour such as white or #808080"
            raise SfumatoError(message) from None

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour of what is transparent."""
        red, green, blue = ImageColor.getrgb(self.background)[:3]
        return red, green, blue


@dataclass(frozen=True)
class PictureOptions(SubsetOptions):
    """The table [data]: options of all pictures, and of the set as a whole.

    Batches have the sizes of aspect-ratio buckets with an area near `resolution` squared (0: the model's own), sides
    from `bucket_least` to `bucket_most` (0: half and twice the resolution) in steps of `bucket_step` (0: 64, or the
    model's own for a resolution below 256). Without `buckets` all are square. Only with `upscale` small pictures are
    enlarged. `held_out` pictures are kept from training, to measure on.

    `regularisation_folder` is a second set, whose losses count `regularisation_weight` times and whose captions are
    `regularisation_caption` where it has none. Of a table, `picture_column` and `caption_column` name what holds the
    pictures' files and the captions (empty: the usual names); of a saved data set `split` is read.
    """

    resolution: int = 0
    buckets: bool = True
    bucket_step: int = 0
    bucket_least: int = 0
    bucket_most: int = 0
    upscale: bool = False
    held_out: int = 0
    regularisation_folder: str = ""
    regularisation_weight: float = 1.0
    regularisation_caption: str = ""
    picture_column: str = ""
    caption_column: str = ""
    split: str = "train"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("resolution", "bucket_step", "bucket_least", "bucket_most", "held_out"):
            if getattr(self, name) < 0:
                raise SfumatoError(f"{name} is {getattr(self, name)}; expected a whole number from 0")
        if not 0 <= self.regularisation_weight < float("inf"):
            raise SfumatoError(f"regularisation_weight is {self.regularisation_weight}; expected a number from 0")
