"""The Python API: a loaded model with one method for each task."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, Self, Unpack, cast

import torch
from PIL import Image
from torch import Tensor

from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.files import read_bytes
from sfumato.images.inputs import PictureLike, load_image, split_image_and_mask
from sfumato.images.resize import Resize, fitted, natural_size
from sfumato.images.tensors import to_pixels
from sfumato.loading.upscalers import PixelUpscaler, load_upscaler
from sfumato.pipeline.events import Events, Picture
from sfumato.pipeline.guides import Wrap, find_guide
from sfumato.pipeline.latents import decode, encode
from sfumato.pipeline.load import beside_int8
from sfumato.pipeline.load import load as load_model
from sfumato.pipeline.model import Model
from sfumato.pipeline.prompts import embeds_of
from sfumato.pipeline.sampling import SamplingRun
from sfumato.pipeline.save import save_model
from sfumato.provenance.read import read
from sfumato.runtime.device import INT8, choose_device, choose_dtype
from sfumato.settings.image_prompt import ImagePromptSettings
from sfumato.settings.settings import MAX_SEED, Options, Settings
from sfumato.settings.task_options import InpaintOptions, Start, UpscaleOptions
from sfumato.settings.tensors import Tensors
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
from sfumato.tasks.result import Result
from sfumato.tasks.tokens import Tokens, tokens
from sfumato.tasks.txt2img import Txt2ImgRequest
from sfumato.tasks.upscale import OVERLAP, UpscaleRequest
from sfumato.text.emoji_names import names

Loading = ParamSpec("Loading")
Embeds = Cond | Tensor


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
        return request.draw(self, request.filled(self.spec))

    def stream(
        self,
        prompt: str = "",
        negative: str = "",
        *,
        refiner: Model | None = None,
        latents: Tensor | None = None, prompt_embeds: Embeds | None = None, negative_embeds: Embeds | None = None,
        attention: bool = False,
        **options: Unpack[Options],
    ) -> Events:  # fmt: skip
        """Draw pictures from words and yield every step and every finished picture; see `events` and `txt2img`.

        With `attention` every step has maps of where the picture attends to which word (`Progress.attention`).

        >>> import sfumato
        >>> for event in sfumato.load().stream("a red heart", seed=5, steps=2, width=128, height=128):
        ...     if isinstance(event, sfumato.Progress):
        ...         print(event.step, "of", event.steps, event.sigma > 0, event.x.shape == event.x0.shape)
        ...     else:
        ...         print("finished:", event.image.size, event.seed)
        1 of 2 True True
        2 of 2 True True
        finished: (128, 128) 5
        """
        tensors = Tensors.of(latents, prompt_embeds, negative_embeds)
        return self.events(
            Txt2ImgRequest(
                prompt=prompt, negative=negative, options=options, tensors=tensors, refiner=refiner,
                attention=attention,
            )
        )  # fmt: skip

    def txt2img(
        self,
        prompt: str | Sequence[str] = "",
        negative: str | Sequence[str] = "",
        *,
        refiner: Model | None = None,
        latents: Tensor | None = None, prompt_embeds: Embeds | None = None, negative_embeds: Embeds | None = None,
        **options: Unpack[Options],
    ) -> Result:  # fmt: skip
        """Draw pictures from words; see `Options`. A `refiner` finishes what this model began.

        Of several prompts `n` pictures each are drawn, with seeds that count on; there is one negative prompt for all,
        or as many. `latents` (1, C, h, w), or one row for each picture, are the first noise, of variance 1, in place of
        the seed's. `prompt_embeds` and `negative_embeds` are encoded prompts, as `encode_prompt` returns them, in place
        of texts. Raises SfumatoError for an option that cannot be honoured, and for tensors that do not fit the model.

        >>> import sfumato
        >>> sd = sfumato.load()
        >>> sd.txt2img(["a red heart", "a blue heart"], seed=5, steps=2, width=128, height=128).seeds
        [5, 6]
        """
        prompts, negatives = _texts(prompt, negative)
        given = Tensors.of(latents, prompt_embeds, negative_embeds)
        results, n = [], options.get("n") or 1
        for k, (one, other) in enumerate(zip(prompts, negatives, strict=True)):
            own = options if k == 0 or options.get("seed") in (None, -1) else _seed_later(options, k * n)
            tensors = given if len(prompts) == 1 else given.rows(k * n, n)
            request = Txt2ImgRequest(prompt=one, negative=other, options=own, tensors=tensors, refiner=refiner)
            results.append(self.run(request))
        return results[0] if len(results) == 1 else Result.joined(results)

    def img2img(
        self,
        image: PictureLike,
        prompt: str = "",
        negative: str = "",
        *,
        strength: float = STRENGTH,
        resize: Resize = "crop",
        latents: Tensor | None = None, prompt_embeds: Embeds | None = None, negative_embeds: Embeds | None = None,
        **options: Unpack[Options],
    ) -> Result:  # fmt: skip
        """Draw on top of a picture (or the picture in a file); see `tasks.img2img` and `Options`.

        Without a width or height the picture keeps its size, see `images.resize.natural_size`. Tensors are as in
        `txt2img`.
        """
        return self.run(
            Img2ImgRequest(
                prompt=prompt, negative=negative, options=options, image=load_image(image), strength=strength,
                resize=resize, tensors=Tensors.of(latents, prompt_embeds, negative_embeds),
            )
        )  # fmt: skip

    def variations(
        self,
        image: PictureLike,
        prompt: str = "",
        negative: str = "",
        *,
        noise_level: int = ImagePromptSettings.image_noise,
        **options: Unpack[Options],
    ) -> Result:
        """Draw variations of a picture (or the picture in a file) by a model of unCLIP; see `Options`.

        A higher `noise_level` (up to 999) lets them go further from the picture, `prompt` says where. Raises
        SfumatoError for a model of another kind.
        """
        options |= {"image_prompt": load_image(image), "image_noise": noise_level}
        return self.txt2img(prompt, negative, **options)

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
        latents: Tensor | None = None, prompt_embeds: Embeds | None = None, negative_embeds: Embeds | None = None,
        **options: Unpack[Options],
    ) -> Result:  # fmt: skip
        """Draw part of a picture anew; see `tasks.inpaint` and `Options`.

        `mask` is white, or if it has transparency transparent, where to draw; without one, what is transparent in the
        picture is drawn. Without a width or height the picture is drawn at its own size, see
        `tasks.inpaint.drawn_size`. Tensors are as in `txt2img`.
        """
        how = InpaintOptions(strength, invert, grow, blur, start, only_masked, padding, soft)
        picture, where = split_image_and_mask(image, mask)
        return self.run(
            InpaintRequest(
                prompt=prompt, negative=negative, options=options, image=picture, mask=where, how=how,
                tensors=Tensors.of(latents, prompt_embeds, negative_embeds),
            )
        )  # fmt: skip

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
        latents: Tensor | None = None, prompt_embeds: Embeds | None = None, negative_embeds: Embeds | None = None,
        **options: Unpack[Options],
    ) -> Result:  # fmt: skip
        """Draw pictures with the depth of a picture, or with a given `depth`; see `tasks.depth2img`.

        Tensors are as in `txt2img`.
        """
        return self.run(
            Depth2ImgRequest(
                prompt=prompt, negative=negative, options=options,
                image=None if image is None else load_image(image),
                depth=None if depth is None else load_image(depth, "the depth"),
                strength=strength, resize=resize, tensors=Tensors.of(latents, prompt_embeds, negative_embeds),
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
        hints: Sequence[PictureLike] = (),
    ) -> Result:
        """Draw a picture again from what its file says, whichever program drew it; see `tasks.replay`.

        `image` is the picture that it was drawn on, where it was; `from_words` says that there was none, whatever
        strength the file names; `refiner` goes on where the file says that one did. `hints` are the pictures of its
        ControlNets, in their order.
        """
        under = None if image is None else load_image(image)
        shown = [load_image(one, "the picture of a control") for one in hints]
        return _collected(replay(self, read(file), under, refiner=refiner, from_words=from_words, hints=shown)[1])

    def encode_prompt(self, prompt: str = "", negative: str = "", **options: Unpack[Options]) -> tuple[Cond, Cond]:
        """A prompt and a negative prompt as the network is told them: `prompt_embeds` and `negative_embeds`.

        Each is a `Cond`: `tokens` (1, L, D), and for models that have them `pooled` (1, P). What the embedded model is
        told depends on seed and size as well, as its prior lays the picture out: give the same of them here as when
        drawing. Raises SfumatoError for a prompt that changes over the steps, or that joins several by AND.

        >>> import sfumato
        >>> sd, options = sfumato.load(), {"seed": 5, "steps": 2, "width": 128, "height": 128}
        >>> embeds, negative = sd.encode_prompt("a red heart", **options)
        >>> drawn = sd.txt2img(prompt_embeds=embeds, negative_embeds=negative, **options)
        >>> drawn[0] == sd.txt2img("a red heart", **options)[0]
        True
        """
        settings = Settings.of(self.spec, prompt, negative, **options).of_picture(0)
        return embeds_of(self, settings, SamplingRun.of(self, settings).sigmas)

    def encode_image(self, image: PictureLike) -> Tensor:
        """The latents (1, C, h, w) of a picture in the network's units, float32; its sides are cut to whole latents."""
        picture = load_image(image)
        return encode(self.vae, to_pixels(fitted(picture, *natural_size(picture, self.spec), "crop")))

    def decode_latents(self, latents: Tensor) -> list[Image.Image]:
        """The pictures of latents (n, C, h, w), such as `Result.latents` or what `encode_image` returns.

        Raises SfumatoError for another shape, and for what is not finite.
        """
        channels = self.spec.vae.latent_channels
        if not isinstance(latents, Tensor) or latents.ndim != 4 or latents.shape[1] != channels:
            shape = tuple(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
            raise SfumatoError(f"latents is {shape}; give a tensor (n, {channels}, height, width)")
        return [decode(self.vae, row[None]) for row in latents.float()]

    def to(self, device: str | torch.device | None = None, dtype: str | torch.dtype | None = None) -> Self:
        """Move the model to a device ("cpu", "cuda", "mps"), or into another precision, in place; returns the model.

        `device` and `dtype` None leave that as it is. A torch.dtype alone may stand first, as with torch's modules.
        Pictures that are being drawn must be finished. Raises SfumatoError for what this machine does not have.

        >>> import sfumato
        >>> sfumato.load().to(dtype="bfloat16").dtype
        torch.bfloat16
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        where = None if device is None else choose_device(device)
        target = where or self.device
        if dtype is None:
            return super().to(where)
        result = super().to(where, beside_int8(target) if dtype == INT8 else choose_dtype(dtype, target))
        result.multiply_in_int8(dtype == INT8)
        return result

    def guided_by(self, *guides: str | Wrap) -> StableDiffusion:
        """This model, on the same weights, with further guides around those of the options; see docs/samplers.md.

        A guide is a function `(guide, positive, negative) -> guide`, or the name of one that `add_guide` or another
        package (entry point group `sfumato.guides`) offers. Raises SfumatoError for a name that nobody offers.
        """
        result = copy.copy(self)
        result.guides = (*self.guides, *map(find_guide, guides))
        return result

    def save(self, path: str | Path, dtype: str | torch.dtype | None = None) -> Path:
        """Write the model as it is now: a folder of diffusers' layout, or one .safetensors in the original layout.

        `dtype` is the precision of the files, by default that of the model. Returns the path. Raises SfumatoError for a
        path that is there already, for one file of a model with T5 (whose tokenizer only a folder has room for), and
        where it cannot be written.

        >>> import sfumato, tempfile
        >>> sfumato.load(sfumato.load().save(tempfile.mkdtemp() + "/mine"))
        <StableDiffusion 'mine': ..., float32 on cpu>
        """
        return save_model(self, Path(path), choose_dtype(dtype or self.dtype, self.device))

    def __repr__(self) -> str:
        return f"<StableDiffusion {self.name!r}: {self.spec.title}, {self.precision} on {self.device}>"

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


def _texts(prompt: str | Sequence[str], negative: str | Sequence[str]) -> tuple[list[str], list[str]]:
    """Prompts and as many negative ones. Raises SfumatoError for other numbers of them; texts are checked later."""
    prompts, negatives = ([*one] if isinstance(one, list | tuple) else [cast(str, one)] for one in (prompt, negative))
    if not prompts or len(negatives) not in (1, len(prompts)):
        have = f"{len(prompts)} prompts and {len(negatives)} negative ones"
        raise SfumatoError(f"there are {have}; give one negative prompt for all, or one for each")
    return prompts, negatives * len(prompts) if len(negatives) == 1 else negatives


def _seed_later(options: Options, pictures: int) -> Options:
    """The options of the prompt after so many pictures."""
    later = options.copy()
    if isinstance(seed := later.get("seed"), int):
        later["seed"] = (seed + pictures) % MAX_SEED
    return later


def _collected(events: Events) -> Result:
    with closing(events):
        return Result.of(event for event in events if isinstance(event, Picture))


def _facade(load: Callable[Loading, Model]) -> Callable[Loading, StableDiffusion]:
    @wraps(load)
    def wrapped(*args: Loading.args, **kwargs: Loading.kwargs) -> StableDiffusion:
        return StableDiffusion.of(load(*args, **kwargs))

    return wrapped


load = _facade(load_model)
load.__name__ = load.__qualname__ = "load"
