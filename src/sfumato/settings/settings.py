"""What decides a picture besides the model: every option once, its default, and what it may be."""

from __future__ import annotations

import difflib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Unpack, get_args

import numpy as np

from sfumato.diffusion.lookup import find
from sfumato.diffusion.options import Value, checked
from sfumato.diffusion.rng import SOURCES, Source
from sfumato.diffusion.sample import find_sampler
from sfumato.diffusion.sigma_schedules import find_schedule
from sfumato.errors import SfumatoError
from sfumato.settings.checks import check_number, check_whole, is_number, is_whole
from sfumato.settings.guidance import CFG_PP_SCALE, MAX_SCALE, GuidanceOptions, GuidanceSettings
from sfumato.settings.prompt import WordOptions, WordSettings, styled
from sfumato.spec import MAX_SIDE, Spec

MAX_PICTURES = 10_000
MAX_SEED = 2**64  # seeds are below it, as torch takes them; a negative one stands for itself plus this number
MAX_SCORE = 10.0
SWITCH_AT = 0.8  # the XL refiner is trained on the last fifth of the times (Podell et al. 2023, section 2.5)

HIRES_STRENGTH = 0.5
MAX_HIRES = 8.0

Pair = tuple[int, int]
Tiling = Literal["x", "y", "both"]


class Options(GuidanceOptions, WordOptions, total=False):
    """What a user may say about a picture, whatever the task. None, or nothing, is the model's own default.

    See `GuidanceOptions` for those about guidance, `WordOptions` for how prompts are read.

    `sampler_options` are those of the sampler and of its schedule, such as {"eta": 0.5, "rho": 5} (`sfumato samplers`
    lists them). `sigmas` are noise levels that fall to 0, in place of steps and schedule.

    `width` and `height` are pixels. A `seed` of None or -1 is drawn; picture k of `n` has seed + k. Seeds go to
    2^64 - 1 and then begin at 0 again; other negative ones, to -2^63, mean what they mean to torch. `clip_skip` 1 is
    the last layer of the text encoder. With `best_of` so many are drawn, and the `n` kept
    that a CLIP (the perceptor that ships) finds to fit the prompt best. `watermark` marks pictures invisibly.

    `variation_strength` from 0 to 1 turns the first noise that far towards that of `variation_seed` (by default drawn);
    picture k then has variation_seed + k, and all have the one seed.

    `rng` is where noise comes from: "cpu", or "nv", the numbers that CUDA draws and that most pictures of web UIs have.

    `tiling` "x", "y" or "both" draws pictures whose opposite edges fit together. `hires_scale` draws a second time, so
    many times as wide and high, on top of the first, with `hires_strength` (0.5) and `hires_steps` (`steps`), after
    `hires_upscaler` has enlarged the latents ("latent") or the pixels ("lanczos", or the file of a pixel upscaler).

    XL is told the `original_size` (width, height) of a picture in its training data, the `crop` (left, top) that was
    cut off it and the `target_size`, its refiner an `aesthetic_score` up to 10; by default a whole picture of the drawn
    size. A refiner goes on with the latents after the share `switch_at` of the noise schedule: of the training times,
    from the last to the first, not of the steps, as diffusers' denoising_end and denoising_start.
    """

    steps: int | None
    seed: int | None
    width: int | None
    height: int | None
    sampler: str | None
    schedule: str | None
    sampler_options: Mapping[str, Value] | None
    sigmas: Sequence[float] | None
    clip_skip: int | None
    n: int
    best_of: int | None
    watermark: bool
    variation_seed: int | None
    variation_strength: float | None
    rng: str | None
    tiling: str | None
    hires_scale: float | None
    hires_strength: float | None
    hires_steps: int | None
    hires_upscaler: str | None
    original_size: Pair | None
    crop: Pair | None
    target_size: Pair | None
    aesthetic_score: float | None
    switch_at: float | None


@dataclass(frozen=True)
class Settings(GuidanceSettings, WordSettings):
    """`Options` filled in and checked, with the prompts. Made by `Settings.of`."""

    prompt: str
    negative: str
    steps: int
    cfg: float
    seed: int
    width: int
    height: int
    sampler: str
    schedule: str
    clip_skip: int
    n: int = 1
    watermark: bool = True
    best_of: int | None = None
    sampler_options: Mapping[str, Value] = field(default_factory=dict)
    sigmas: tuple[float, ...] | None = None
    variation_seed: int | None = None
    variation_strength: float = 0.0
    rng: Source = "cpu"
    tiling: Tiling | None = None
    hires_scale: float | None = None
    hires_strength: float = HIRES_STRENGTH
    hires_steps: int | None = None
    hires_upscaler: str = "latent"
    original_size: Pair | None = None
    crop: Pair | None = None
    target_size: Pair | None = None
    aesthetic_score: float | None = None
    switch_at: float | None = None

    @property
    def draws(self) -> int:
        """How many pictures are drawn, of which `n` are kept."""
        return self.best_of or self.n

    def seeds(self, picture: int) -> tuple[int, int | None]:
        """The seed and the variation seed of a picture, counted from 0."""
        if self.variation_seed is None:
            return (self.seed + picture) % MAX_SEED, None
        return self.seed, (self.variation_seed + picture) % MAX_SEED

    def of_picture(self, picture: int) -> Settings:
        """The settings of one picture, counted from 0: its own seeds, and the words that chance gives it.

        The words of a seed are always the same. Raises SfumatoError for wildcards that cannot be read.
        """
        seed, variation_seed = self.seeds(picture)
        prompt = self.without_chance(self.prompt, seed)
        negative = self.without_chance(self.negative, f"{seed} negative")
        return replace(self, prompt=prompt, negative=negative, seed=seed, variation_seed=variation_seed)

    @classmethod
    def of(
        cls, spec: Spec, prompt: str, negative: str = "", *, refiner: Spec | None = None, **options: Unpack[Options]
    ) -> Settings:
        """What the user gave; else the model's defaults, the schedule that suits a chosen sampler, a seed by chance.

        `refiner` is the model that is handed over to, `switch_at` None then its authors' share.
        Raises SfumatoError for the first option that is unknown or cannot be honoured.
        """
        given: dict[str, Any] = {name: _plain(value) for name, value in options.items() if value is not None}
        for name in given:
            if name not in Options.__annotations__:
                near = difflib.get_close_matches(name, Options.__annotations__, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(Options.__annotations__)}"
                raise SfumatoError(f"unknown option {name!r}; {hint}")
        _check_texts(prompt, negative)
        prompt, negative = styled(prompt, negative, given)
        if "wildcards" in given:
            given["wildcards"] = str(given["wildcards"])
        advised = spec.defaults
        sampler = find_sampler(given.get("sampler", advised.sampler))
        # Schedules made for levels without end crowd at the wrong end of a flow's.
        suits = advised.schedule if "sampler" not in given or spec.prediction == "flow" else sampler.schedule
        schedule = find_schedule(given.get("schedule", suits), xl="original_size" in spec.micro_conditioning)
        known, spaced = sampler.options | schedule.options, f" on the schedule {schedule.label}"
        if "sigmas" in given:
            given["sigmas"] = _own_levels(given)
            given["steps"], known, spaced = len(given["sigmas"]) - 1, sampler.options, ""
        defaults = {
            name: getattr(advised, name)
            for name in ("steps", "cfg", "width", "height", "clip_skip", "cfg_rescale", "slg")
        }
        if given.get("cfg_pp"):
            defaults["cfg"] = CFG_PP_SCALE
        if refiner is not None:
            defaults["switch_at"] = SWITCH_AT
        for name in ("seed", "variation_seed") if given.get("variation_strength") else ("seed",):
            if given.get(name, -1) == -1:
                given[name] = secrets.randbelow(2**32)
        for name in ("seed", "variation_seed"):
            if is_whole(given.get(name)) and -(2**63) <= given[name] < 0:
                given[name] += MAX_SEED
        settings = cls(
            **{"prompt": prompt, "negative": negative}
            | defaults
            | given
            | {
                "sampler": sampler.name,
                "schedule": schedule.name,
                "sampler_options": checked(given.get("sampler_options", {}), known, f"{sampler.label}{spaced}"),
                "rng": find("source of noise", given.get("rng", "cpu"), SOURCES),
            }
        )
        for name in ("hires_strength", "hires_steps", "hires_upscaler"):
            if name in given and "hires_scale" not in given:
                raise SfumatoError(f"{name} without hires_scale changes nothing; give hires_scale as well, such as 2")
        settings._check(spec)
        settings._check_hires(spec)
        settings._check_ids(spec, refiner)
        return settings

    def _check(self, spec: Spec) -> None:
        step, most = spec.multiple, spec.max_side
        for name, value in (("width", self.width), ("height", self.height)):
            if not is_whole(value) or value % step or not step <= value <= most:
                raise SfumatoError(f"{name} is {value!r}; choose a multiple of {step} from {step} to {most}")
        check_whole("steps", self.steps, 1, spec.noise.steps)
        check_number("the guidance scale", self.cfg, -MAX_SCALE, MAX_SCALE, 7.5)
        self.check_words()
        self.check_guidance(spec, find_sampler(self.sampler))
        check_whole("the seed", self.seed, 0, MAX_SEED - 1)
        check_number("the strength of the variation", self.variation_strength, 0, 1, 0.2)
        if self.variation_seed is not None:
            check_whole("the variation seed", self.variation_seed, 0, MAX_SEED - 1)
            if not self.variation_strength:
                raise SfumatoError("variation_seed without variation_strength changes nothing; give both, such as 0.2")
        check_whole("n", self.n, 1, MAX_PICTURES)
        if self.best_of is not None:
            check_whole("best_of", self.best_of, self.n, MAX_PICTURES)
            if not self.prompt.strip():
                raise SfumatoError("without a prompt there is no best picture; say in words what to draw")
        if not is_whole(self.clip_skip):
            raise SfumatoError(f"clip skip is {self.clip_skip!r}; choose a whole number, 1 for the last layer")
        if not isinstance(self.watermark, bool):
            raise SfumatoError(f"watermark is {self.watermark!r}; choose True or False")

    def _check_hires(self, spec: Spec) -> None:
        if self.tiling is not None and self.tiling not in get_args(Tiling):
            raise SfumatoError(f"tiling is {self.tiling!r}; choose one of {', '.join(get_args(Tiling))}")
        if self.hires_scale is None:
            return
        check_number("the scale of the second pass", self.hires_scale, 1, MAX_HIRES, 2)
        check_number("the strength of the second pass", self.hires_strength, 0, 1, HIRES_STRENGTH)
        if self.hires_steps is not None:
            if self.sigmas is not None:
                raise SfumatoError("a list of sigmas is that of both passes; leave hires_steps out")
            check_whole("the steps of the second pass", self.hires_steps, 1, spec.noise.steps)
        if not isinstance(self.hires_upscaler, str):
            raise SfumatoError(f"hires_upscaler is {self.hires_upscaler!r}; give latent, lanczos or a file")
        if max(self.second_size(spec)) > spec.max_side:
            size = "x".join(map(str, self.second_size(spec)))
            raise SfumatoError(f"the second pass would draw {size}; {spec.title} draws at most {spec.max_side} a side")

    def second_size(self, spec: Spec) -> Pair:
        """Width and height of the second pass, the nearest that the model can draw."""
        step, scale = spec.multiple, self.hires_scale or 1
        return round(scale * self.width / step) * step, round(scale * self.height / step) * step

    def _check_ids(self, spec: Spec, refiner: Spec | None) -> None:
        known = {*spec.micro_conditioning, *(() if refiner is None else refiner.micro_conditioning)}
        for name, value, least in (
            ("original_size", self.original_size, 1),
            ("target_size", self.target_size, 1),
            ("crop", self.crop, 0),
        ):
            if value is None:
                continue
            if name not in known:
                raise SfumatoError(f"{spec.title} is not conditioned on {name}; leave it out")
            if not isinstance(value, tuple) or len(value) != 2 or not all(map(is_whole, value)):
                raise SfumatoError(f"{name} is {value!r}; give two whole numbers, such as (1024, 1024)")
            if not least <= min(value) <= max(value) <= MAX_SIDE:
                raise SfumatoError(f"{name} is {value!r}; give two numbers from {least} to {MAX_SIDE}")
        if self.aesthetic_score is not None:
            if "aesthetic_score" not in known:
                raise SfumatoError(
                    f"{spec.title} is not conditioned on an aesthetic score (the XL refiner is); leave it out"
                )
            check_number("the aesthetic score", self.aesthetic_score, 0, MAX_SCORE, 6)
        if self.switch_at is not None:
            if refiner is None:
                raise SfumatoError("switch_at needs a refiner to switch to; give one, or leave switch_at out")
            if not is_number(self.switch_at) or not 0 < self.switch_at < 1:
                raise SfumatoError(f"switch_at is {self.switch_at!r}; choose a number between 0 and 1, such as 0.8")


def _check_texts(prompt: object, negative: object) -> None:
    for name, text in (("prompt", prompt), ("negative prompt", negative)):
        if not isinstance(text, str):
            raise SfumatoError(f"the {name} is {text!r}; give one text in quotes")


def sized(options: Options, width: int, height: int) -> Options:
    """The options, with this size in pixels where they say none."""
    filled = options.copy()
    if filled.get("width") is None:
        filled["width"] = width
    if filled.get("height") is None:
        filled["height"] = height
    return filled


def _own_levels(given: Mapping[str, Any]) -> tuple[float, ...]:
    """The numbers in `sigmas`. Raises SfumatoError for what is none, and where other options decide levels too."""
    sigmas = given["sigmas"]
    if not isinstance(sigmas, tuple) or len(sigmas) < 2 or not all(map(is_number, sigmas)):
        raise SfumatoError(f"sigmas are {sigmas!r}; give two or more falling numbers that end in 0")
    if "schedule" in given or given.get("steps", len(sigmas) - 1) != len(sigmas) - 1:
        raise SfumatoError(f"{len(sigmas)} sigmas are {len(sigmas) - 1} steps of no schedule; leave those two out")
    return tuple(map(float, sigmas))


def _plain(value: Any) -> Any:
    """Numbers of numpy or torch as those of Python, also inside lists, arrays and mappings, of which the first two
    become tuples; all else as it is."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if getattr(value, "ndim", None) == 0:
        return value.item()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple | np.ndarray) else value
