"""From a body of /img2img to requests: pictures drawn on top of pictures, and parts of them drawn anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException
from PIL import Image

from sfumato.images.files import on_white
from sfumato.images.resize import fitted, natural_size
from sfumato.server.dialects.a1111.bodies import Img2ImgBody
from sfumato.server.dialects.a1111.common import Asked, refuse, request_of
from sfumato.server.dialects.a1111.pictures import mask_of, picture_of
from sfumato.server.jobs.job import JobRequest

RESIZE = ("stretch", "crop", "pad", "stretch")  # latents of another size come from pixels of that size here
STARTS = ("fill", "original", "noise", "nothing")
STRENGTH = 0.75


def img2img(body: Img2ImgBody, asked: Asked, more: Mapping[str, Any]) -> list[JobRequest]:
    """A request for each picture that a body brings; `more` are options that scripts add.

    Raises SfumatoError, and HTTPException 404 for a body without pictures.
    """
    if not body.init_images:
        raise HTTPException(404, "Init image not found: send init_images, pictures in base64")
    if body.initial_noise_multiplier not in (None, 1):
        raise refuse("initial_noise_multiplier", "noise is not scaled here; send 1")
    if not 0 <= (body.resize_mode or 0) < len(RESIZE):
        raise refuse("resize_mode", f"it is {body.resize_mode}; send 0 (stretch), 1 (crop), 2 (fill) or 3 (latent)")
    images = [picture_of(text, "an init image") for text in body.init_images]
    if body.mask:
        return [inpaint(body, asked, image, more) for image in images]
    how = {"strength": strength_of(body), "resize": RESIZE[body.resize_mode or 0]}
    return [
        request_of(body, asked, "img2img", more, how=how, pictures={"image": asked.inputs.add(on_white(image))})
        for image in images
    ]


def strength_of(body: Img2ImgBody) -> float:
    """How much is drawn anew."""
    return STRENGTH if body.denoising_strength is None else body.denoising_strength


def inpaint(body: Img2ImgBody, asked: Asked, image: Image.Image, more: Mapping[str, Any]) -> JobRequest:
    """The request that draws what is white in the body's mask.

    A picture whose surroundings are not cut out is first brought to the size that is drawn, as in the web UI.
    """
    image, mask = on_white(image), mask_of(body.mask or "", body.mask_round is not False)
    if mask.size != image.size:
        mask = mask.resize(image.size, Image.Resampling.NEAREST)
    fill = body.inpainting_fill or 0
    if not 0 <= fill < len(STARTS):
        raise refuse("inpainting_fill", f"it is {fill}; send 0 (fill), 1 (original), 2 (latent noise) or 3 (nothing)")
    how = {
        "strength": strength_of(body), "start": STARTS[fill], "blur": _blur(body),
        "invert": bool(body.inpainting_mask_invert), "only_masked": body.inpaint_full_res is not False,
    }  # fmt: skip
    if how["only_masked"]:
        how["padding"] = body.inpaint_full_res_padding or 0
    request = request_of(body, asked, "inpaint", more)
    if not how["only_masked"]:
        natural = natural_size(image, asked.spec)
        size = request.options.get("width", natural[0]), request.options.get("height", natural[1])
        resize = RESIZE[body.resize_mode or 0]
        image = fitted(image, *size, resize)
        mask = fitted(mask.convert("RGB"), *size, resize, Image.Resampling.NEAREST).convert("L")
    pictures = {"image": asked.inputs.add(image), "mask": asked.inputs.add(mask)}
    return request.but(how={**how, **request.how}, pictures=pictures)


def _blur(body: Img2ImgBody) -> int:
    if body.mask_blur is not None:
        return body.mask_blur
    if body.mask_blur_x != body.mask_blur_y:
        raise refuse("mask_blur_x, mask_blur_y", "the soft edge is equal in both directions here; send mask_blur")
    return 4 if body.mask_blur_x is None else body.mask_blur_x
