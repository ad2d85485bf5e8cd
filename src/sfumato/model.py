"""A loaded model: its networks, its text encoder and what can be done with them."""

from __future__ import annotations

import copy
import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import torch
from PIL import Image
from torch import Tensor

from sfumato.data.names import names
from sfumato.diffusion.drive import Denoiser
from sfumato.diffusion.schedule import Table, table_of
from sfumato.errors import SfumatoError, warn
from sfumato.families.depth_net import DepthNetwork
from sfumato.files import read_bytes
from sfumato.hub.shelf import EMBEDDED, embedded_model, find, release_of
from sfumato.nets.seamless import seamless
from sfumato.nets.t5 import T5
from sfumato.nets.vae import VAE
from sfumato.provenance.given import PictureLike, masked, picture_of
from sfumato.replay.read import read
from sfumato.runtime.device import choose_device, choose_dtype, memory_for
from sfumato.spec import Prediction, Spec
from sfumato.tasks.augment import SLIGHTLY, augment
from sfumato.tasks.compress import QUALITY, compress, decompress
from sfumato.tasks.depth2img import STRENGTH as DEPTH_STRENGTH
from sfumato.tasks.depth2img import depth2img
from sfumato.tasks.img2img import STRENGTH, Resize, img2img, natural_size
from sfumato.tasks.inpaint import Inpainting, Start, inpaint
from sfumato.tasks.interpolate import FRAMES, interpolate
from sfumato.tasks.outpaint import STEP, Sides, outpaint
from sfumato.tasks.picture import Picture, Progress, preview_colours
from sfumato.tasks.replay import replay
from sfumato.tasks.settings import Options, Settings, Tiling, sized
from sfumato.tasks.txt2img import txt2img
from sfumato.tasks.upscale import OVERLAP, Enlarging, settings_of, upscale
from sfumato.text.encode import MAX_T5, T5Reader, TextEncoder
from sfumato.text.t5_tokenizer import T5Tokenizer, find_t5_tokenizer
from sfumato.text.tokenizer import CLIPTokenizer
from sfumato.weights.hashes import model_hash
from sfumato.weights.load import Parts, load_parts
from sfumato.weights.upscalers import PixelUpscaler, load_upscaler

if TYPE_CHECKING:
    from sfumato.evaluate.judge import Judge
    from sfumato.tasks.interrogate import Match


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
    ):
        self.spec = spec
        self.denoiser = denoiser
        self.vae = vae
        self.encode = text
        self.path = path
        self.depth = depth
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
        """See `weights.hashes.model_hash`."""
        return model_hash(self.path)

    @cached_property
    def preview_colours(self) -> Tensor:
        """See `tasks.picture.preview_colours`."""
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
        """Draw pictures from words; see `tasks.settings.Options`, and `stream` for what is raised."""
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
        """Draw on top of a picture (or the picture in a file); see `tasks.img2img` and `tasks.settings.Options`.

        Without a width or height the picture keeps its size, see `tasks.img2img.natural_size`.
        """
        image = picture_of(image)
        settings = Settings.of(self.spec, prompt, negative, **sized(options, *natural_size(image, self.spec)))
        return _collected(img2img(self, image, settings, strength, resize))

    def inpaint(
        self,
        image: PictureLike,
        prompt: str = "",
        negative: str = "",
        *,
        mask: PictureLike | None = None,
        strength: float = Inpainting.strength,
        start: Start = Inpainting.start,
        invert: bool = False,
        grow: int = 0,
        blur: int = Inpainting.blur,
        soft: bool = False,
        only_masked: bool = False,
        padding: int = Inpainting.padding,
        **options: Unpack[Options],
    ) -> Result:
        """Draw part of a picture anew; see `tasks.inpaint` and `tasks.settings.Options`.

        `mask` is white, or if it has transparency transparent, where to draw; without one, what is transparent in the
        picture is drawn. Without a width or height the picture is drawn at its own size, see `Inpainting.size`.
        """
        how = Inpainting(strength, start, invert, grow, blur, soft, only_masked, padding)
        picture, where = masked(image, mask)
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
        """Draw a picture on by so many pixels on each side; see `tasks.outpaint` and `tasks.settings.Options`.

        `width` and `height` are what the model draws at once, and by default its own size.
        """
        sides = Sides(left, right, top, bottom)
        settings = Settings.of(self.spec, prompt, negative, **options)
        return _collected(outpaint(self, picture_of(image), settings, sides, overlap, step))

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
        """Draw a picture (or the picture in a file) larger, of whatever size; see `tasks.upscale.Enlarging`.

        `prompt` says what the picture shows. The x4 upscaler draws it four times as large by itself. Any other model
        draws over what an `upscaler` (or its file) or Lanczos' filter has made `scale` (2) times as large, with a
        `strength` of 0.3. Raises SfumatoError as `stream`, and for a result of more than `picture.MAX_PIXELS`.
        """
        image = picture_of(image)
        if isinstance(upscaler, str | Path):
            upscaler = load_upscaler(upscaler, self.device)
        enlarging = Enlarging(scale, upscaler, strength, noise_level, overlap)
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
        start = None if image is None else picture_of(image)
        given = None if depth is None else picture_of(depth, "the depth")
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

    def replay(self, file: str | Path, image: PictureLike | None = None) -> Result:
        """Draw a picture again from what its file says, whichever program drew it; see `tasks.replay`.

        `image` is the picture that it was drawn on, where it was.
        """
        return _collected(replay(self, read(file), None if image is None else picture_of(image))[1])

    def interrogate(
        self, image: PictureLike, captions: Sequence[str] | None = None, *, top: int = 5, language: str = "en"
    ) -> list[Match]:
        """What a picture shows, by `judge`; see `tasks.interrogate`.

        Without `captions` the names that ship in a `language`, see `data.names`. Raises SfumatoError as they do.
        """
        from sfumato.tasks.interrogate import interrogate

        return interrogate(self.judge, picture_of(image), names(language) if captions is None else captions, top)

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
        return compress(self, picture_of(image), quality, size, prompt)

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


def _located(name: str | Path, kind: str = "model") -> tuple[Path, str | None]:
    """The file or folder that a path or a name means, and the variant of an official file, which cannot say it."""
    try:
        path = Path(name).expanduser()
        if name != "" and path.exists():
            release = release_of(path)
            return path, release.variant if release else None
    except (TypeError, ValueError, RuntimeError, OSError):  # no path, the home of nobody, too long a name
        pass
    if not isinstance(name, str) or not name.strip() or os.path.isabs(name):
        raise SfumatoError(f"no model at {str(name)!r}; give a checkpoint file or folder, or '{EMBEDDED}'")
    found = find(name, kind)
    return found.path, found.release.variant if found.release and found.path.is_file() else None


def load(
    name_or_path: str | Path | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    prediction: Prediction | None = None,
    variant: str | None = None,
    vae: str | Path | None = None,
    text_encoders: str | Path | Sequence[str | Path] = (),
    t5_tokenizer: str | Path | None = None,
    t5_length: int | None = None,
    tiled_vae: bool | None = None,
) -> StableDiffusion:
    """Load a model: a checkpoint file, a diffusers folder, the name of one (see `hub.shelf.find`), or the embedded one.

    A name is looked up on this machine; nothing is downloaded.

    `device` None takes a GPU where there is one; `dtype` None means float16 on CUDA and float32 elsewhere. `variant`
    names the release where a single file cannot say it, since others have the same tensors: "base" (512 pixels) or
    "768-v" of 2.x, "base" or "turbo" of XL and 3.5 large; else official files are known by hash, or name and size, and
    all others taken for the larger and slower one. `prediction` overrules what the network is taken to predict ("eps",
    "v" ...). `vae` and `text_encoders` name such parts alone: they replace those of the model, or complete a file
    without them. `t5_tokenizer` is the spiece.model or tokenizer.json for a model of 3 or 3.5 that brings none (in
    `tokenizer_3`, or beside its file); without it T5 is not used, and SfumatoWarning says so. `t5_length` is how many
    tokens T5 reads at least: 256 as in diffusers by default, 77 in the original code. `tiled_vae` puts all pictures
    through the autoencoder in tiles, or none; else those above `tasks.picture.TILED_ABOVE`. Raises SfumatoError for a
    file that is missing, broken or no Stable Diffusion model, for a part that does not fit or that nothing gives, and
    for a variant that its family does not have.
    """
    if name_or_path is None or name_or_path == EMBEDDED:
        path = embedded_model()
    else:
        path, known = _located(name_or_path)
        variant = known if variant is None else variant
    where = choose_device(device)
    if isinstance(text_encoders, str | Path):
        text_encoders = (text_encoders,)
    encoders = [_located(one, "text encoder")[0] for one in text_encoders]
    beside = (found for one in (path, *encoders) if (found := find_t5_tokenizer(one)) is not None)
    pieces = next(beside, None) if t5_tokenizer is None else Path(t5_tokenizer)
    with memory_for(f"to load {path}; load it as float16 or close other programs"):
        parts = load_parts(
            path, dtype=choose_dtype(dtype, where), device=where, prediction=prediction, variant=variant,
            vae=None if vae is None else _located(vae, "vae")[0], text_encoders=encoders,
            without=("text_3",) if pieces is None else (),
        )  # fmt: skip
    if parts.spec.text_3 is None and (t5_tokenizer is not None or t5_length is not None):
        raise SfumatoError(f"{parts.spec.title} does not read T5; leave its tokenizer and length out")
    if t5_length is not None and parts.spec.text_3 is not None:
        if type(t5_length) is not int or not 1 <= t5_length <= MAX_T5:
            raise SfumatoError(f"T5's length is {t5_length!r}; choose 1 to {MAX_T5} tokens, such as 77 or 256")
        t5 = replace(parts.spec.text_3, length=t5_length)
        parts = replace(parts, spec=replace(parts.spec, text_3=t5))
    parts.vae.tiled = tiled_vae
    return assemble(parts, T5Tokenizer.from_file(pieces) if pieces is not None and "text_3" in parts.networks else None)


def assemble(
    parts: Parts, t5_tokenizer: T5Tokenizer | None = None, tokenizer: CLIPTokenizer | None = None
) -> StableDiffusion:
    """A model of its loaded parts; `tokenizer` None takes the one that they bring, or CLIP's own.

    Raises SfumatoError for a tokenizer that does not fit. SfumatoWarning says where T5 is missing.
    """
    spec, path = parts.spec, parts.report.path
    brought = parts.tokenizer() if tokenizer is None else tokenizer
    tokenizer = brought or CLIPTokenizer.openai()
    if tokenizer.vocab_size > spec.text.vocab_size:
        whose = "its tokenizer" if brought else "CLIP's own tokenizer (the model brings none)"
        many = f"{tokenizer.vocab_size} symbols, its text encoder only {spec.text.vocab_size}"
        raise SfumatoError(f"{path} does not fit together: {whose} has {many}; give the model with its own tokenizer")
    text = TextEncoder(tokenizer, parts.texts, _t5_reader(parts, t5_tokenizer))
    denoiser = Denoiser(parts.denoiser, spec.prediction, table_of(spec.prediction, spec.noise), spec.quantised)
    return StableDiffusion(spec, denoiser, parts.vae, text, path, parts.depth)


def _t5_reader(parts: Parts, tokenizer: T5Tokenizer | None) -> T5Reader | None:
    """T5, or where only the model lacks it what stands for it; None for families without."""
    spec, path, network = parts.spec, parts.report.path, parts.networks.get("text_3")
    sizes = spec.text_3
    if sizes is None or spec.transformer is None:
        return None
    if tokenizer is not None and tokenizer.vocab_size > sizes.vocab_size:
        many = f"{tokenizer.vocab_size} pieces, its T5 only {sizes.vocab_size}"
        raise SfumatoError(f"{path} does not fit together: the T5 tokenizer has {many}; give the one of the same model")
    if not isinstance(network, T5) or tokenizer is None:
        held = network is not None or "text_3" in parts.report.left_out
        which = "T5's tokenizer (spiece.model)" if held else "the text encoder T5"
        lost = "what a prompt says beyond 77 tokens, and words to be written in the picture, will be followed less"
        warn(f"{path} comes without {which}: {lost}")
        return T5Reader(spec.transformer.context_dim, sizes.length)
    return T5Reader(spec.transformer.context_dim, sizes.length, tokenizer, network)
