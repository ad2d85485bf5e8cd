"""The options about what is drawn besides one picture at one size: how many, variations, tiling, a second pass, XL."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar, Literal, get_args

from sfumato.errors import OptionError
from sfumato.settings.kinds import Choice, Number, Switch, Text, TwoNumbers, Whole, Words
from sfumato.settings.option import option
from sfumato.settings.sampling import MAX_PICTURES, SAMPLER, SCHEDULE, SEEDS
from sfumato.spec import MAX_SIDE, Spec

MAX_SCORE = 10.0
MAX_HIRES = 8.0
HIRES_STRENGTH = 0.5
OWN_CHECKER = "model"
SWITCH_AT = 0.8  # the XL refiner is trained on the last fifth of the times (Podell et al. 2023, section 2.5)

Pair = tuple[int, int]
Tiling = Literal["x", "y", "both"]
Source = Literal["cpu", "nv"]


@dataclass(frozen=True, kw_only=True)
class PictureSettings:
    """How many pictures are drawn, from which noise, and what they are marked with."""

    PANEL: ClassVar[str] = "Pictures"

    n: int = option(
        1, Whole(1, MAX_PICTURES), "How many pictures.", flags=("-n", "--number"),
        also=("num_images_per_prompt", "batch_size", "batch_count", "n_iter", "num_images", "num_samples"),
    )  # fmt: skip
    best_of: int | None = option(
        None, Whole(1, MAX_PICTURES), "Draw so many, and keep those that the embedded CLIP finds nearest to the prompt."
    )
    aesthetic: str | None = option(
        None, Text("FILE"), "Keep those of `best_of` that this aesthetic predictor of LAION's likes best.",
        needs="best_of",
    )  # fmt: skip
    clip_vision: str | None = option(
        None, Text("FILE"), "The image encoder that the aesthetic predictor reads, CLIP ViT-L/14 for most.",
        needs="aesthetic", absent="the one in the folder clip_vision that fits",
    )  # fmt: skip
    rng: Source = option(
        "cpu", Choice(get_args(Source), {"gpu": "nv", "cuda": "nv"}), "Where noise comes from; nv: the numbers that an "
        "NVIDIA GPU would draw, as most pictures of web UIs have.", "RNG", always=True,
        words={"cpu": "CPU", "nv": "NV"}, also=("randn_source",),
    )  # fmt: skip
    watermark: bool = option(True, Switch(), "Mark pictures invisibly as generated.", "Watermark")
    safety: str | None = option(
        None, Text("FILE|FOLDER"), "Blank pictures that this safety checker of 1.x finds unsafe; "
        f"{OWN_CHECKER}: the one in the model's own folder.", absent="none is checked",
        also=("safety_checker", "enable_safety_checker"),
    )  # fmt: skip
    tiling: Tiling | None = option(
        None, Choice(get_args(Tiling)), "Draw pictures whose opposite edges fit together.", "Tiling",
        words={"both": "True"}, also=("seamless", "tile"),
    )  # fmt: skip
    variation_seed: int | None = option(
        None, SEEDS, "Turn the noise of the seed towards that of this one; of the next picture towards the next.",
        "Variation seed", needs="variation_strength", absent="drawn at random", also=("subseed",),
    )  # fmt: skip
    variation_strength: float = option(
        0.0, Number(0, 1, 0.2), "How far to vary the picture of the seed; 1 is another picture.",
        "Variation seed strength", also=("subseed_strength",),
    )  # fmt: skip
    seed_resize: Pair | None = option(
        None, TwoNumbers(1, MAX_SIDE, (512, 512)), "Begin with the noise of a picture of this size and the same seed, "
        "in the middle.", "Seed resize from", also=("seed_resize_from",),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SizeConditioning:
    """What XL is told of its training pictures' sizes; by default a whole picture of the drawn size."""

    PANEL: ClassVar[str] = "XL"

    original_size: Pair | None = option(
        None, TwoNumbers(1, MAX_SIDE, (1024, 1024)), "The size of the imagined original.", "Original size",
        absent="the drawn size",
    )  # fmt: skip
    crop: Pair | None = option(
        None, TwoNumbers(0, MAX_SIDE, (0, 128), ",", "X,Y"), "What is cut off the original at its left and top.",
        "Crop", absent="0,0", also=("crops_coords_top_left",),
    )  # fmt: skip
    target_size: Pair | None = option(
        None, TwoNumbers(1, MAX_SIDE, (1024, 1024)), "The size that it is told to draw.", "Target size",
        absent="the drawn size",
    )  # fmt: skip
    aesthetic_score: float | None = option(
        None, Number(0, MAX_SCORE, 6), "The refiner: how good a picture it shall make.", "Aesthetic score", absent="6"
    )

    def check_conditioning(self, spec: Spec, refiner: Spec | None) -> None:
        """Raises OptionError for what neither model is conditioned on."""
        known = {*spec.micro_conditioning, *(() if refiner is None else refiner.micro_conditioning)}
        for name in (one.name for one in fields(SizeConditioning)):
            if getattr(self, name) is not None and name not in known:
                raise OptionError(f"{spec.title} is not conditioned on `{name}`; leave it out")


@dataclass(frozen=True, kw_only=True)
class RefinerSettings:
    """When a second model goes on with the latents of the first."""

    PANEL: ClassVar[str] = "XL"

    switch_at: float | None = option(
        None, Number(0, 1, SWITCH_AT, between=True), "After which share of the training times, counted from noise, the "
        "refiner goes on.", "Refiner switch at", absent=f"{SWITCH_AT:g} with a refiner",
        also=("denoising_end", "high_noise_frac", "refiner_switch_at", "refiner_switch"),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class HiresSettings:
    """The second, larger pass over a picture from words."""

    PANEL: ClassVar[str] = "Second, larger pass"

    hires_strength: float = option(
        HIRES_STRENGTH, Number(0, 1, HIRES_STRENGTH), "How much of the picture the second pass draws anew.",
        "Denoising strength", needs="hires_scale",
    )  # fmt: skip
    hires_scale: float | None = option(
        None, Number(1, MAX_HIRES, 2), "Draw on top of the picture once more, so many times as wide and high.",
        "Hires upscale", also=("hr_scale", "enable_hr", "hires_fix"),
    )  # fmt: skip
    hires_steps: int | None = option(
        None, Whole(1, lambda spec: spec.noise.steps), "Sampling steps of the second pass.", "Hires steps",
        needs="hires_scale", absent="as many as of the first", also=("hr_second_pass_steps",),
    )  # fmt: skip
    hires_upscaler: str = option(
        "latent", Text("latent|lanczos|FILE"), "What enlarges for it; a file is a pixel upscaler.", "Hires upscaler",
        needs="hires_scale", also=("hr_upscaler",),
    )  # fmt: skip
    hires_sampler: str | None = option(
        None, SAMPLER, "Sampler of the second pass.", "Hires sampler", needs="hires_scale", absent="that of the first",
        also=("hr_sampler_name", "hr_sampler"),
    )  # fmt: skip
    hires_schedule: str | None = option(
        None, SCHEDULE, "Schedule of the second pass.", "Hires schedule type", needs="hires_scale",
        absent="that of the first", also=("hr_scheduler",),
    )  # fmt: skip
    hires_prompt: str | None = option(
        None, Words(), "What the second pass draws.", "Hires prompt", needs="hires_scale", absent="the prompt",
        also=("hr_prompt",),
    )  # fmt: skip
    hires_negative: str | None = option(
        None, Words(), "The negative prompt of the second pass.", "Hires negative prompt", needs="hires_scale",
        absent="the negative prompt", also=("hr_negative_prompt",),
    )  # fmt: skip
