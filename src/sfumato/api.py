"""A loaded model: its networks, its text encoder and what can be done with them."""

from __future__ import annotations

import copy
import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import torch
from PIL import Image
from torch import Tensor

from sfumato.checkpoint.hashes import model_hash
from sfumato.diffusion.driver import Denoiser
from sfumato.diffusion.noise_schedule import Table, table_of
from sfumato.errors import SfumatoError
from sfumato.families.layouts.depth_net import DepthNetwork
from sfumato.files import read_bytes
from sfumato.images.inputs import PictureLike, load_image, split_image_and_mask
from sfumato.loading.upscalers import PixelUpscaler, load_upscaler
from sfumato.nets.prior import ScenePrior
from sfumato.nets.seamless import seamless
from sfumato.nets.vae import VAE
from sfumato.pipeline.latents import Picture, Progress, preview_colours
from sfumato.provenance.read import read
from sfumato.settings.settings import Options, Settings, Tiling, sized
from sfumato.spec import Spec
from sfumato.tasks.augment import SLIGHTLY, augment
from sfumato.tasks.compress import QUALITY, compress, decompress
from sfumato.tasks.depth2img import STRENGTH as DEPTH_STRENGTH
from sfumato.tasks.depth2img import depth2img
from sfumato.tasks.img2img import STRENGTH, Resize, img2img, natural_size
from sfumato.tasks.inpaint import InpaintOptions, Start, inpaint
from sfumato.tasks.interpolate import FRAMES, interpolate
from sfumato.tasks.outpaint import STEP, OutpaintMargins, outpaint
from sfumato.tasks.replay import replay
from sfumato.tasks.txt2img import txt2img
from sfumato.tasks.upscale import OVERLAP, UpscaleOptions, settings_of, upscale
from sfumato.text.emoji_names import names
from sfumato.text.encode import TextEncoder

if TYPE_CHECKING:
    from sfumato.evaluate.judge import Judge
    from sfumato.tasks.interrogate import Match
    from sfumato.tasks.tokens import Tokens


@dataclass(frozen=True, eq=False)
class Result:
    """What a task drew: pictures by rising seed, the seeds that draw them again, and their settings as text.

    With `best_of` the best is first, and there are scores.
    """

    images: list[Image.Image]
    seeds: list[int]
    infotexts: list[str]
    scores: list[float | None] = field(default_factory=list)


class StableDiffusion:
    """A model ready to draw. Made by `load`."""

    def __init__(
        self,
        spec: Spec,
        denoiser: Denoiser,
        vae: VAE,
        text: TextEncoder,
        path: Path,
        depth: DepthNetwork | None = None,
        prior: ScenePrior | None = None,
    ):
        self.spec = spec
        self.denoiser = denoiser
        self.vae = vae
        self.encode = text
        self.path = path
        self.depth = depth
        self.prior = prior
        self.tiling: Tiling | None = None

    @property
    def name(self) -> str:
        path = Path(os.path.abspath(self.path))  # "." has no name, and links keep theirs
        if path.parent.name == "snapshots":  # of the Hugging Face cache, where the folder's own name is a commit
            return path.parents[1].name.rpartition("--")[2]
        return path.stem if path.is_file() else path.name

    def seamless(self, tiling: Tiling | None) -> StableDiffusion:
        """This model, on the same weights, as one whose pictures tile in "x", "y" or "both"."""
        if tiling == self.tiling:
            return self
        axes = tiling in ("x", "both"), tiling in ("y", "both")
        _ = self.hash  # reads the file; once is enough for both
        result = copy.copy(self)
        result.tiling = tiling
        result.denoiser = replace(self.denoiser, network=seamless(self.denoiser.network, *axes))
        result.vae = seamless(self.vae, *axes)
        return result

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.network.parameters()).device

    @property
    def table(self) -> Table:
        return self.denoiser.table

    def table_for(self, width: int, height: int) -> Table:
        """The noise levels for a picture of this size in pixels; most models have the same for all."""
        if self.spec.noise.log_shift is None:
            return self.table
        patches = (width // self.spec.multiple) * (height // self.spec.multiple)
        return table_of(self.spec.prediction, self.spec.noise, patches)

    @cached_property
    def hash(self) -> str | None:
        """See `checkpoint.hashes.model_hash`."""
        return model_hash(self.path)

    @cached_property
    def preview_colours(self) -> Tensor:
        """See `pipeline.latents.preview_colours`."""
        return preview_colours(self.vae)

    @cached_property
    def judge(self) -> Judge:
        """The CLIP that ships, on this model's device: it scores how well pictures fit words, see `evaluate.judge`."""
        from sfumato.evaluate.judge import load_judge  # brings the trainer along, which drawing does without

        return load_judge(None, None, self.device)

    def stream(
        self, prompt: str, negative: str = "", *, refiner: StableDiffusion | None = None, **options: Unpack[Options]
    ) -> Generator[Progress | Picture, None, None]:
        """Draw pictures and yield every step (with a cheap preview) and every finished picture.

        A `refiner` finishes what this model began. Close the iterator to cancel. Raises SfumatoError for an option that
        cannot be honoured, at once and not at the first step.
        """
        if not isinstance(refiner, StableDiffusion | None):
            raise SfumatoError(f"the refiner is {refiner!r}; give a loaded model, such as sfumato.load(path)")
        settings = Settings.of(
            self.spec, prompt, negative, refiner=None if refiner is None else refiner.spec, **options
        )
        return txt2img(self, settings, refiner)

    def txt2img(
        self, prompt: str, negative: str = "", *, refiner: StableDiffusion | None = None, **options: Unpack[Options]
    ) -> Result:
        """Draw pictures from words; see `settings.settings.Options`, and `stream` for what is raised."""
        return _collected(self.stream(prompt, negative, refiner=refiner, **options))

    def img2img(
        self,
        image: PictureLike,
        prompt: str = "",
        negative: str = "",
        *,
        strength: float = STRENGTH,
        resize: Resize = "crop",
        **options: Unpack[Options],
    ) -> Result:
        """Draw on top of a picture (or the picture in a file); see `tasks.img2img` and `settings.settings.Options`.

        Without a width or height the picture keeps its size, see `tasks.img2img.natural_size`.
        """
        image = load_image(image)
        settings = Settings.of(self.spec, prompt, negative, **sized(options, *natural_size(image, self.spec)))
        return _collected(img2img(self, image, settings, strength, resize))

    def inpaint(
        self,
        image: PictureLike,
        prompt: str = "",
        negative: str = "",
        *,
        mask: PictureLike | None = None,
        strength: float = InpaintOptions.strength,
        start: Start = InpaintOptions.start,
        invert: bool = False,
        grow: int = 0,
        blur: int = InpaintOptions.blur,
        soft: bool = False,
        only_masked: bool = False,
        padding: int = InpaintOptions.padding,
        **options: Unpack[Options],
    ) -> Result:
        """Draw part of a picture anew; see `tasks.inpaint` and `settings.settings.Options`.

        `mask` is white, or if it has transparency transparent, where to draw; without one, what is transparent in the
        picture is drawn. Without a width or height the picture is drawn at its own size, see `InpaintOptions.size`.
        """
        how = InpaintOptions(strength, start, invert, grow, blur, soft, only_masked, padding)
        picture, where = split_image_and_mask(image, mask)
        settings = Settings.of(self.spec, prompt, negative, **sized(options, *how.size(self.spec, picture)))
        return _collected(inpaint(self, picture, where, settings, how))

    def outpaint(
        self,
        image: PictureLike,
        prompt: str = "",
        negative: str = "",
        *,
        left: int = 0,
        right: int = 0,
        top: int = 0,
        bottom: int = 0,
        overlap: int | None = None,
        step: float = STEP,
        **options: Unpack[Options],
    ) -> Result:
        """Draw a picture on by so many pixels on each side; see `tasks.outpaint` and `settings.settings.Options`.

        `width` and `height` are what the model draws at once, and by default its own size.
        """
        sides = OutpaintMargins(left, right, top, bottom)
        settings = Settings.of(self.spec, prompt, negative, **options)
        return _collected(outpaint(self, load_image(image), settings, sides, overlap, step))

    def upscale(
        self,
        image: PictureLike,
        prompt: str = "",
        negative: str = "",
        *,
        scale: float | None = None,
        upscaler: PixelUpscaler | str | Path | None = None,
        strength: float | None = None,
        noise_level: int | None = None,
        overlap: float = OVERLAP,
        **options: Unpack[Options],
    ) -> Result:
        """Draw a picture (or the picture in a file) larger, of whatever size; see `tasks.upscale.UpscaleOptions`.

        `prompt` says what the picture shows. The x4 upscaler draws it four times as large by itself. Any other model
        draws over what an `upscaler` (or its file) or Lanczos' filter has made `scale` (2) times as large, with a
        `strength` of 0.3. Raises SfumatoError as `stream`, and for a result of more than `picture.MAX_PIXELS`.
        """
        image = load_image(image)
        if isinstance(upscaler, str | Path):
            upscaler = load_upscaler(upscaler, self.device)
        enlarging = UpscaleOptions(scale, upscaler, strength, noise_level, overlap)
        settings = settings_of(self.spec, image, enlarging, prompt, negative, **options)
        return _collected(upscale(self, image, settings, enlarging))

    def depth2img(
        self,
        image: PictureLike | None,
        prompt: str = "",
        negative: str = "",
        *,
        depth: PictureLike | None = None,
        strength: float = DEPTH_STRENGTH,
        resize: Resize = "crop",
        **options: Unpack[Options],
    ) -> Result:
        """Draw pictures with the depth of a picture, or with a given `depth`; see `tasks.depth2img`."""
        start = None if image is None else load_image(image)
        given = None if depth is None else load_image(depth, "the depth")
        if (shape := start or given) is not None:
            options = sized(options, *natural_size(shape, self.spec))
        settings = Settings.of(self.spec, prompt, negative, **options)
        return _collected(depth2img(self, start, settings, given, strength, resize))

    def interpolate(
        self,
        prompts: Sequence[str],
        negative: str = "",
        *,
        seeds: Sequence[int] = (),
        frames: int = FRAMES,
        loop: bool = False,
        **options: Unpack[Options],
    ) -> Result:
        """Draw the frames of the way through prompts and seeds; see `tasks.interpolate`."""
        if isinstance(prompts, str):
            prompts = [prompts]
        settings = Settings.of(self.spec, prompts[0] if prompts else "", negative, **options)
        return _collected(interpolate(self, prompts, settings, seeds, frames, loop))

    def replay(
        self,
        file: str | Path,
        image: PictureLike | None = None,
        *,
        refiner: StableDiffusion | None = None,
        from_words: bool = False,
    ) -> Result:
        """Draw a picture again from what its file says, whichever program drew it; see `tasks.replay`.

        `image` is the picture that it was drawn on, where it was; `from_words` says that there was none, whatever
        strength the file names; `refiner` goes on where the file says that one did.
        """
        under = None if image is None else load_image(image)
        return _collected(replay(self, read(file), under, refiner=refiner, from_words=from_words)[1])

    def grid(
        self,
        prompt: str,
        negative: str = "",
        *axes: str,
        image: PictureLike | None = None,
        **options: Unpack[Options],
    ) -> tuple[Image.Image, dict[str, Any]]:
        """One picture under many settings, one to three `axes` such as "cfg=1..9:2": a sheet and its table.

        With an `image` the cells are drawn on top of it. See `tasks.grid`.
        """
        from sfumato.tasks.grid import Axis, Grid

        under = None if image is None else load_image(image)
        grid = Grid.of(self, [Axis.parse(axis) for axis in axes], prompt, negative, under, options)
        cells = list(grid.draw(self, under))
        return grid.sheet(cells), grid.table(cells)

    def tokens(self, prompt: str, **options: Unpack[Options]) -> Tokens:
        """How this model reads a prompt; see `tasks.tokens`."""
        from sfumato.tasks.tokens import tokens

        return tokens(self, Settings.of(self.spec, prompt, **options))

    def interrogate(
        self, image: PictureLike, captions: Sequence[str] | None = None, *, top: int = 5, language: str = "en"
    ) -> list[Match]:
        """What a picture shows, by `judge`; see `tasks.interrogate`.

        Without `captions` the names that ship in a `language`, see `text.emoji_names`. Raises SfumatoError as they do.
        """
        from sfumato.tasks.interrogate import interrogate

        return interrogate(self.judge, load_image(image), names(language) if captions is None else captions, top)

    def augment(
        self, source: str | Path, target: str | Path, *, strength: float = SLIGHTLY, **options: Unpack[Options]
    ) -> list[Path]:
        """Draw every picture of a folder slightly anew, into another; the new files. See `tasks.augment`."""
        events = augment(self, Path(source), Path(target), strength, options)
        return [path for event in events for path in event.paths]

    def compress(
        self, image: PictureLike, *, quality: float = QUALITY, size: int | None = None, prompt: str = ""
    ) -> bytes:
        """A picture as a small file that only this model opens; see `tasks.compress`."""
        return compress(self, load_image(image), quality, size, prompt)

    def decompress(self, data: bytes | str | Path, *, steps: int = 1, noise: float = 0.0, seed: int = 0) -> Image.Image:
        """The picture in such a file, or in its bytes; see `tasks.compress`."""
        content = data if isinstance(data, bytes) else read_bytes(data)
        return _collected(decompress(self, content, steps, noise, seed)).images[0]


def _collected(events: Generator[Progress | Picture, None, None]) -> Result:
    with closing(events):
        pictures = [event for event in events if isinstance(event, Picture)]
    pictures.sort(key=lambda picture: picture.index)  # a sampler of adaptive steps finishes them in any order
    return Result(
        [picture.image for picture in pictures],
        [picture.seed for picture in pictures],
        [picture.infotext for picture in pictures],
        [picture.score for picture in pictures],
    )
