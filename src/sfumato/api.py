"""The Python API: a loaded model with one method for each task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, Unpack

from PIL import Image

from sfumato.files import read_bytes
from sfumato.images.inputs import PictureLike, load_image, split_image_and_mask
from sfumato.images.resize import Resize
from sfumato.loading.upscalers import PixelUpscaler, load_upscaler
from sfumato.pipeline.events import Events, Picture
from sfumato.pipeline.load import load as load_model
from sfumato.pipeline.model import Model
from sfumato.provenance.read import read
from sfumato.settings.settings import Options, Settings
from sfumato.settings.task_options import InpaintOptions, Start, UpscaleOptions
from sfumato.tasks.augment import SLIGHTLY, augment
from sfumato.tasks.compress import QUALITY, compress, decompress
from sfumato.tasks.depth2img import STRENGTH as DEPTH_STRENGTH
from sfumato.tasks.depth2img import Depth2ImgRequest
from sfumato.tasks.grid import Axis, Grid
from sfumato.tasks.img2img import STRENGTH, Img2ImgRequest
from sfumato.tasks.inpaint import InpaintRequest
from sfumato.tasks.interpolate import FRAMES, InterpolateRequest
from sfumato.tasks.interrogate import Match, interrogate
from sfumato.tasks.outpaint import STEP, OutpaintMargins, OutpaintRequest
from sfumato.tasks.replay import replay
from sfumato.tasks.request import Request
from sfumato.tasks.tokens import Tokens, tokens
from sfumato.tasks.txt2img import Txt2ImgRequest
from sfumato.tasks.upscale import OVERLAP, UpscaleRequest
from sfumato.text.emoji_names import names

Loading = ParamSpec("Loading")


@dataclass(frozen=True, eq=False)
class Result:
    """What a task drew: pictures by rising seed, the seeds that draw them again, and their settings as text.

    With `best_of` the best is first, and there are scores.
    """

    images: list[Image.Image]
    seeds: list[int]
    infotexts: list[str]
    scores: list[float | None] = field(default_factory=list)


class StableDiffusion(Model):
    """A model ready to draw. Made by `sfumato.load`."""

    @classmethod
    def of(cls, model: Model) -> StableDiffusion:
        """The methods of this class for a model that `pipeline.load.load` gave."""
        result = cls.__new__(cls)
        vars(result).update(vars(model))
        return result

    def run(self, request: Request) -> Result:
        """Draw what a task's request asks for. Raises SfumatoError for an option that cannot be honoured."""
        return _collected(self.events(request))

    def events(self, request: Request) -> Events:
        """As `run`, step by step: yields every step (with a cheap preview) and every finished picture.

        Close the iterator to cancel. What cannot be honoured is raised at once and not at the first step.
        """
        return request.draw(self, request.settings(self.spec))

    def stream(
        self, prompt: str, negative: str = "", *, refiner: Model | None = None, **options: Unpack[Options]
    ) -> Events:
        """Draw pictures from words and yield every step and every finished picture; see `events` and `txt2img`."""
        return self.events(Txt2ImgRequest(prompt=prompt, negative=negative, refiner=refiner, options=options))

    def txt2img(
        self, prompt: str, negative: str = "", *, refiner: Model | None = None, **options: Unpack[Options]
    ) -> Result:
        """Draw pictures from words; see `Options`. A `refiner` finishes what this model began."""
        return self.run(Txt2ImgRequest(prompt=prompt, negative=negative, refiner=refiner, options=options))

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
        """Draw on top of a picture (or the picture in a file); see `tasks.img2img` and `Options`.

        Without a width or height the picture keeps its size, see `images.resize.natural_size`.
        """
        return self.run(
            Img2ImgRequest(
                prompt=prompt, negative=negative, options=options, image=load_image(image), strength=strength,
                resize=resize,
            )
        )  # fmt: skip

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
        """Draw part of a picture anew; see `tasks.inpaint` and `Options`.

        `mask` is white, or if it has transparency transparent, where to draw; without one, what is transparent in the
        picture is drawn. Without a width or height the picture is drawn at its own size, see
        `tasks.inpaint.drawn_size`.
        """
        how = InpaintOptions(strength, invert, grow, blur, start, only_masked, padding, soft)
        picture, where = split_image_and_mask(image, mask)
        return self.run(
            InpaintRequest(prompt=prompt, negative=negative, options=options, image=picture, mask=where, how=how)
        )

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
        """Draw a picture on by so many pixels on each side; see `tasks.outpaint` and `Options`.

        `width` and `height` are what the model draws at once, and by default its own size.
        """
        margins = OutpaintMargins(left, right, top, bottom)
        return self.run(
            OutpaintRequest(
                prompt=prompt, negative=negative, options=options, image=load_image(image), margins=margins,
                overlap=overlap, step=step,
            )
        )  # fmt: skip

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
        """Draw a picture (or the picture in a file) larger, of whatever size; see `UpscaleOptions`.

        `prompt` says what the picture shows. The x4 upscaler draws it four times as large by itself. Any other model
        draws over what an `upscaler` (or its file) or Lanczos' filter has made `scale` (2) times as large, with a
        `strength` of 0.3. Raises SfumatoError for a result of more than `images.files.MAX_PIXELS`.
        """
        image = load_image(image)
        if isinstance(upscaler, str | Path):
            upscaler = load_upscaler(upscaler, self.device)
        how = UpscaleOptions(scale, upscaler, strength, noise_level, overlap)
        return self.run(UpscaleRequest(prompt=prompt, negative=negative, options=options, image=image, how=how))

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
        return self.run(
            Depth2ImgRequest(
                prompt=prompt, negative=negative, options=options,
                image=None if image is None else load_image(image),
                depth=None if depth is None else load_image(depth, "the depth"),
                strength=strength, resize=resize,
            )
        )  # fmt: skip

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
        prompts = [prompts] if isinstance(prompts, str) else prompts
        return self.run(
            InterpolateRequest(
                prompts=prompts, negative=negative, options=options, seeds=seeds, frames=frames, loop=loop
            )
        )

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
        under = None if image is None else load_image(image)
        grid = Grid.of(self, [Axis.parse(axis) for axis in axes], prompt, negative, under, options)
        cells = list(grid.draw(self, under))
        return grid.sheet(cells), grid.table(cells)

    def tokens(self, prompt: str, **options: Unpack[Options]) -> Tokens:
        """How this model reads a prompt; see `tasks.tokens`."""
        return tokens(self, Settings.of(self.spec, prompt, **options))

    def interrogate(
        self, image: PictureLike, captions: Sequence[str] | None = None, *, top: int = 5, language: str = "en"
    ) -> list[Match]:
        """What a picture shows, by `perceptor`; see `tasks.interrogate`.

        Without `captions` the names that ship in a `language`, see `text.emoji_names`. Raises SfumatoError as they do.
        """
        return interrogate(self.perceptor, load_image(image), names(language) if captions is None else captions, top)

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


def _collected(events: Events) -> Result:
    with closing(events):
        pictures = [event for event in events if isinstance(event, Picture)]
    pictures.sort(key=lambda picture: picture.index)  # a sampler of adaptive steps finishes them in any order
    return Result(
        [picture.image for picture in pictures],
        [picture.seed for picture in pictures],
        [picture.infotext for picture in pictures],
        [picture.score for picture in pictures],
    )


def _facade(load: Callable[Loading, Model]) -> Callable[Loading, StableDiffusion]:
    @wraps(load)
    def wrapped(*args: Loading.args, **kwargs: Loading.kwargs) -> StableDiffusion:
        return StableDiffusion.of(load(*args, **kwargs))

    return wrapped


load = _facade(load_model)
load.__name__ = load.__qualname__ = "load"
