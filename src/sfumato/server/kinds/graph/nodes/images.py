"""Nodes about pictures: sent ones, saved ones, and what is done with their pixels."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from PIL import Image, ImageChops, ImageFilter, ImageOps

from sfumato.diffusion.driver import emitting
from sfumato.hub.local_models import EMBEDDED, locate
from sfumato.images.control.canny import canny as edges
from sfumato.images.drawn import DrawnImage
from sfumato.loading.upscalers import load_upscaler
from sfumato.pipeline.events import Picture, Progress
from sfumato.pipeline.pixel_upscaling import by_pixels
from sfumato.pipeline.safety import blanked, safety_check
from sfumato.provenance.watermark import mark
from sfumato.server.composite import Composite
from sfumato.server.kinds.graph.file_names import Prefix, filled
from sfumato.server.kinds.graph.pixels import FILTERS, check_batch, cycled, greys, scaled
from sfumato.server.kinds.graph.run import Making, Run
from sfumato.server.kinds.graph.table import Choice, Number, Sent, Switch, node
from sfumato.server.kinds.graph.values import Frame, Images, Mask, UpscalerRef
from sfumato.settings.settings import Settings

Side = Annotated[int, Number(0, 16384)]
Method = Annotated[str, Choice(tuple(FILTERS))]
Crop = Annotated[str, Choice(("disabled", "center"))]
Colour = Annotated[int, Number(0, 0xFFFFFF)]
Share = Annotated[float, Number(0.0, 1.0, 0.01)]
NO_MASK = 64  # pixels of the side of the empty mask of a picture without transparency


@node("LoadImage", "image")
def load(run: Run, image: Annotated[str, Sent()]) -> tuple[Images, Mask]:
    """A picture that was sent, and a mask of what is transparent in it."""
    found = run.bench.inputs.open(image)
    if found.mode == "RGBA":
        alpha = ImageOps.invert(found.getchannel("A"))
        return (Frame(found.convert("RGB")),), Mask.of(alpha)
    return (Frame(found),), Mask(torch.zeros(1, NO_MASK, NO_MASK))


@node("SaveImage", "image", ends=True)
def save(run: Run, images: Images, filename_prefix: Annotated[str, Prefix()] = "ComfyUI") -> Making[None]:
    """Keeps pictures in files whose names begin with the prefix."""
    yield from shown(run, images, filename_prefix)


@node("PreviewImage", "image", ends=True)
def preview(run: Run, images: Images) -> Making[None]:
    """Shows pictures."""
    yield from shown(run, images)


def shown(run: Run, images: Images, prefix: str | None = None) -> Making[None]:
    """Hands pictures on to whoever asked; drawn ones are marked as such unless the options say no.

    `prefix` begins the names of their files. With the option `safety` all go through that safety checker first,
    whatever they were made of.
    """
    for frame in images:
        image = frame.image
        if frame.text and run.options.get("watermark") is not False:
            image = mark(image)
        blank = _blank(run, frame)
        image = image if blank is None else blank
        index, run.shown = run.shown, run.shown + 1
        if index >= run.done:
            named = None if prefix is None else filled(prefix, *image.size)
            drawn = DrawnImage.of(image, frame.text)
            yield Picture(index - run.done, drawn, frame.seed, frame.text, name=named, texts=run.texts)


def _blank(run: Run, frame: Frame) -> Image.Image | None:
    """A black picture in place of one that may not be shown. Raises SfumatoError where the checker is not here."""
    if (wanted := run.options.get("safety")) is None:
        return None
    model = run.model(run.parts or Composite(EMBEDDED))
    check = safety_check(model, Settings.of(model.spec, "", safety=wanted))
    return None if check is None else blanked(check, frame.image, frame.seed)


@node("ImageScale", "image/upscaling")
def scale(
    image: Images,
    upscale_method: Method = "nearest-exact",
    width: Side = 512,
    height: Side = 512,
    crop: Crop = "disabled",
) -> Images:
    """Pictures at another size; a side of 0 follows from the other."""
    check_batch(len(image), width, height, "the scaled pictures") if width and height else None
    return tuple(scaled(frame, width, height, upscale_method, crop) for frame in image)


@node("ImageScaleBy", "image/upscaling")
def scale_by(
    image: Images, upscale_method: Method = "nearest-exact", scale_by: Annotated[float, Number(0.01, 8.0, 0.01)] = 1.0
) -> Images:
    """Pictures so many times as wide and high."""
    width, height = (max(1, round(scale_by * side)) for side in image[0].image.size)
    return scale(image, upscale_method, width, height)


@node("ImageScaleToTotalPixels", "image/upscaling")
def scale_to_pixels(
    image: Images,
    upscale_method: Method = "nearest-exact",
    megapixels: Annotated[float, Number(0.01, 16.0, 0.01)] = 1.0,
) -> Images:
    """Pictures with so many pixels in all."""
    width, height = image[0].image.size
    share = (megapixels * 1024 * 1024 / (width * height)) ** 0.5
    return scale_by(image, upscale_method, share)


@node("ImageCrop", "image/transform")
def crop(
    image: Images, width: Annotated[int, Number(1, 16384)] = 512, height: Annotated[int, Number(1, 16384)] = 512,
    x: Side = 0, y: Side = 0,
) -> Images:  # fmt: skip
    """A part of pictures."""
    result = []
    for frame in image:
        left, top = min(x, frame.image.width - 1), min(y, frame.image.height - 1)
        box = (left, top, min(left + width, frame.image.width), min(top + height, frame.image.height))
        result.append(frame.but(frame.image.crop(box)))
    return tuple(result)


@node("ImagePadForOutpaint", "image", "IMAGE", "MASK")
def pad(
    image: Images, left: Side = 0, top: Side = 0, right: Side = 0, bottom: Side = 0, feathering: Side = 40
) -> tuple[Images, Mask]:
    """Pictures with grey at their sides, and a mask of it that fades into them."""
    width, height = image[0].image.size
    check_batch(len(image), width + left + right, height + top + bottom, "the larger pictures")
    frames = []
    for frame in image:
        large = Image.new("RGB", (width + left + right, height + top + bottom), (127, 127, 127))
        large.paste(frame.image, (left, top))
        frames.append(frame.but(large))
    inner = torch.zeros(height, width)
    if feathering and feathering * 2 < min(width, height):
        rows, columns = (torch.arange(side, dtype=torch.float32) for side in (height, width))
        away = torch.full((height, width), float("inf"))
        for part, distance in (
            (top, rows[:, None]), (bottom, (height - 1 - rows)[:, None]), (left, columns[None]),
            (right, (width - 1 - columns)[None]),
        ):  # fmt: skip
            if part:
                away = away.minimum(distance)
        inner = ((feathering - away) / feathering).clamp(0, 1) ** 2
    whole = torch.ones(1, height + top + bottom, width + left + right)
    whole[0, top : top + height, left : left + width] = inner
    return tuple(frames), Mask(whole)


@node("ImageInvert", "image")
def invert(image: Images) -> Images:
    """Pictures with their colours inverted."""
    return tuple(frame.but(ImageOps.invert(frame.image)) for frame in image)


@node("ImageBatch", "image")
def batch(image1: Images, image2: Images) -> Images:
    """Two batches as one, the second brought to the size of the first."""
    width, height = image1[0].image.size
    check_batch(len(image1) + len(image2), width, height, "the batch")
    return (*image1, *(scaled(frame, width, height, "bilinear", "center") for frame in image2))


@node("RepeatImageBatch", "image/batch")
def repeat(image: Images, amount: Annotated[int, Number(1, 4096)] = 1) -> Images:
    """The batch several times."""
    check_batch(amount * len(image), *image[0].image.size, "the batch")
    return image * amount


@node("ImageFromBatch", "image/batch")
def from_batch(
    image: Images, batch_index: Annotated[int, Number(0, 4095)] = 0, length: Annotated[int, Number(1, 4096)] = 1
) -> Images:
    """Some pictures of a batch."""
    first = min(batch_index, len(image) - 1)
    return image[first : first + length]


@node("EmptyImage", "image")
def empty(
    width: Annotated[int, Number(1, 16384)] = 512, height: Annotated[int, Number(1, 16384)] = 512,
    batch_size: Annotated[int, Number(1, 4096)] = 1, color: Colour = 0,
) -> Images:  # fmt: skip
    """Pictures of one colour."""
    check_batch(batch_size, width, height, "the empty pictures")
    rgb = (color >> 16 & 255, color >> 8 & 255, color & 255)
    return (Frame(Image.new("RGB", (width, height), rgb)),) * batch_size


@node("ImageCompositeMasked", "image")
def composite(
    destination: Images, source: Images, x: Side = 0, y: Side = 0,
    resize_source: Annotated[bool, Switch()] = False, mask: Mask | None = None,
) -> Images:  # fmt: skip
    """Lays pictures over others at a place, where a mask is."""
    shares = None if mask is None else greys(mask)
    result = []
    for k, frame in enumerate(destination):
        over = cycled(k, source).image
        if resize_source:
            over = over.resize(frame.image.size, Image.Resampling.BILINEAR)
        share = None if shares is None else shares[k % len(shares)].resize(over.size, Image.Resampling.BILINEAR)
        image = frame.image.copy()
        image.paste(over, (x, y), share)
        result.append(frame.but(image))
    return tuple(result)


BLENDS = {
    "normal": lambda a, b: b,
    "multiply": ImageChops.multiply,
    "screen": ImageChops.screen,
    "overlay": ImageChops.overlay,
    "soft_light": ImageChops.soft_light,
    "difference": ImageChops.difference,
}


@node("ImageBlend", "image/postprocessing")
def blend(
    image1: Images,
    image2: Images,
    blend_factor: Share = 0.5,
    blend_mode: Annotated[str, Choice(tuple(BLENDS))] = "normal",
) -> Images:
    """Mixes pictures with others."""
    result = []
    for k, frame in enumerate(image1):
        other = scaled(cycled(k, image2), *frame.image.size, "bicubic", "center").image
        result.append(frame.but(Image.blend(frame.image, BLENDS[blend_mode](frame.image, other), blend_factor)))
    return tuple(result)


@node("ImageBlur", "image/postprocessing")
def blur(
    image: Images, blur_radius: Annotated[int, Number(1, 31)] = 1, sigma: Annotated[float, Number(0.1, 10.0, 0.1)] = 1.0
) -> Images:
    """Pictures out of focus."""
    return tuple(frame.but(frame.image.filter(ImageFilter.GaussianBlur(min(sigma, blur_radius)))) for frame in image)


@node("ImageUpscaleWithModel", "image/upscaling")
def upscale(upscale_model: UpscalerRef, image: Images) -> Making[Images]:
    """Pictures enlarged by a network, so many times as it was made for."""
    upscaler = load_upscaler(locate(upscale_model.name, "upscaler")[0])
    width, height = (upscaler.scale * side for side in image[0].image.size)
    check_batch(len(image), width, height, "the larger pictures")
    large: list[Any] = []

    def kept(event: object) -> list[Progress]:
        if isinstance(event, Progress):
            return [event]
        assert isinstance(event, Picture)
        large.append(event.image)
        return []

    for frame in image:
        yield from emitting(by_pixels(frame.image, upscaler).drawing, kept)
    return tuple(frame.but(one) for frame, one in zip(image, large, strict=True))


@node("GetImageSize", "image", "width", "height", "batch_size")
def size(image: Images) -> tuple[int, int, int]:
    """Width, height and number of pictures."""
    return (*image[0].image.size, len(image))


@node("LoadImageOutput", "image")
def load_output(run: Run, image: Annotated[str, Sent()]) -> tuple[Images, Mask]:
    """A picture that was drawn before."""
    return load(run, image)


@node("Canny", "image/preprocessors")
def canny(
    image: Images, low_threshold: Annotated[float, Number(0.01, 0.99, 0.01)] = 0.4,
    high_threshold: Annotated[float, Number(0.01, 0.99, 0.01)] = 0.8,
) -> Images:  # fmt: skip
    """The edges of pictures, white on black."""
    return tuple(frame.but(edges(frame.image, 255 * low_threshold, 255 * high_threshold)) for frame in image)
