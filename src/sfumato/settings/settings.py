"""What decides a picture besides the model: the options filled in and checked."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Unpack

from sfumato.diffusion.options import checked as checked_of
from sfumato.diffusion.sample import SAMPLERS, find_sampler
from sfumato.diffusion.sampler_names import schedule_name, split_sampler_name
from sfumato.diffusion.sigma_schedules import find_schedule
from sfumato.errors import OptionError, SfumatoError
from sfumato.settings.adapters import AdapterSettings
from sfumato.settings.control import ControlSettings
from sfumato.settings.guidance import CFG_PP_SCALE, GuidanceSettings, has_no_cfg_pp
from sfumato.settings.image_prompt import ImagePromptSettings
from sfumato.settings.keywords import Options
from sfumato.settings.kinds import MAX_SEED
from sfumato.settings.option import MODEL, checked, unknown_option
from sfumato.settings.picture import (
    SWITCH_AT,
    HiresSettings,
    Pair,
    PictureSettings,
    RefinerSettings,
    SizeConditioning,
    Tiling,
)
from sfumato.settings.prompt import WordSettings, styled
from sfumato.settings.sampling import MAX_PICTURES, MAX_SCALE, SamplingSettings
from sfumato.settings.speed import SpeedSettings
from sfumato.settings.table import ARGUMENTS, OPTIONS, OTHER_WAYS
from sfumato.settings.tensors import NO_TENSORS, Tensors
from sfumato.spec import Spec
from sfumato.text.prompt.syntax import WITH_CHANCE
from sfumato.text.prompt.template import expand

WITH_CFG_PP = [one.name for one in SAMPLERS.values() if one.cfg_pp]

__all__ = ["MAX_PICTURES", "MAX_SCALE", "MAX_SEED", "Options", "Pair", "Settings", "Tiling", "sized"]


@dataclass(frozen=True)
class Settings(
    HiresSettings,
    RefinerSettings,
    SizeConditioning,
    PictureSettings,
    SpeedSettings,
    ImagePromptSettings,
    ControlSettings,
    AdapterSettings,
    WordSettings,
    GuidanceSettings,
    SamplingSettings,
):
    """The options of a picture filled in and checked, with its prompts. Made by `Settings.of`."""

    prompt: str
    negative: str
    tensors: Tensors = field(default=NO_TENSORS, compare=False)

    @property
    def draws(self) -> int:
        """How many pictures are drawn, of which `n` are kept."""
        return self.best_of or self.n

    def seeds(self, picture: int) -> tuple[int, int | None]:
        """The seed and the variation seed of a picture, counted from 0; after the last seed comes 0."""
        if self.variation_seed is None:
            return (self.seed + picture) % MAX_SEED, None
        return self.seed, (self.variation_seed + picture) % MAX_SEED

    def of_picture(self, picture: int) -> Settings:
        """The settings of one picture, counted from 0: its own seeds, and the words that chance gives it.

        The words of a seed are always the same. Raises SfumatoError for wildcards that cannot be read.
        """
        seed, variation_seed = self.seeds(picture)
        tensors = self.tensors.of_picture(picture)
        one = replace(self, seed=seed, variation_seed=variation_seed, tensors=tensors)
        if self.prompt_syntax not in WITH_CHANCE:
            return one

        def words(text: str | None, chance: int | str) -> Any:
            return text and expand(text, chance, self.wildcard_folder)

        again = words(self.hires_prompt, seed), words(self.hires_negative, f"{seed} negative")
        prompt, negative = words(self.prompt, seed), words(self.negative, f"{seed} negative")
        return replace(one, prompt=prompt, negative=negative, hires_prompt=again[0], hires_negative=again[1])

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
            if name not in OPTIONS:
                raise OptionError(
                    f"unknown option {name!r}; {unknown_option(name, OPTIONS, ARGUMENTS, (), OTHER_WAYS)}"
                )
        _check_texts(prompt, negative)
        if "styles" in given or "styles_file" in given:
            prompt, negative = styled(prompt, negative, given)
        for name in ("seed", "variation_seed") if given.get("variation_strength") else ("seed",):
            if given.get(name, -1) == -1:
                given[name] = secrets.randbelow(2**32)
        checked(OPTIONS, {name: given[name] for name in ("sampler", "schedule") if name in given}, spec)
        defaults = _defaults(spec, given, refiner)
        given |= {**_sampling(spec, given), **_second_sampling(spec, given)}
        given = checked(OPTIONS, given, spec)
        _check_needs(given, defaults)
        settings = cls(prompt, negative, **defaults | given)
        settings._check(spec)
        settings.check_guidance(spec)
        settings._check_hires(spec)
        settings.check_conditioning(spec, refiner)
        if settings.switch_at is not None and refiner is None:
            raise OptionError("`switch_at` needs a refiner to switch to; give one, or leave `switch_at` out")
        return settings

    def _check(self, spec: Spec) -> None:
        if self.cfg_pp and not SAMPLERS[self.sampler].cfg_pp:
            raise has_no_cfg_pp(SAMPLERS[self.sampler].label, WITH_CFG_PP)
        if self.best_of is not None and self.best_of < self.n:
            raise OptionError(f"`best_of` is {self.best_of}, but `n` is {self.n}; draw at least as many as are kept")
        if self.best_of is not None and self.aesthetic is None and not self.prompt.strip():
            raise SfumatoError("without a prompt there is no best picture; say in words what to draw")

        if self.image_prompt is not None and spec.image is None:
            raise OptionError(f"{spec.title} draws no variations of a picture; leave `image_prompt` out")

    def _check_hires(self, spec: Spec) -> None:
        if self.hires_scale is None:
            return
        for name in ("hires_steps", "hires_schedule"):
            if getattr(self, name) is not None and self.sigmas is not None:
                raise OptionError(f"a list of `sigmas` is that of both passes; leave `{name}` out")
        if self.cfg_pp and not SAMPLERS[self.hires_sampler or self.sampler].cfg_pp:
            raise has_no_cfg_pp(SAMPLERS[self.hires_sampler or self.sampler].label, WITH_CFG_PP)
        if max(self.second_size(spec)) > spec.max_side:
            size = "x".join(map(str, self.second_size(spec)))
            most = f"{spec.title} draws at most {spec.max_side} a side"
            raise OptionError(f"the second pass would draw {size}; {most}, so choose a smaller `hires_scale`")

    def second_size(self, spec: Spec) -> Pair:
        """Width and height of the second pass, the nearest that the model can draw."""
        step, scale = spec.multiple, self.hires_scale or 1
        return round(scale * self.width / step) * step, round(scale * self.height / step) * step

    def second_pass(self, spec: Spec) -> Settings:
        """The settings of the second pass: its own size, steps, sampler, schedule and prompts, else those of the first.

        Embeds that stand for a prompt count only where the second pass has no prompt of its own.
        """
        width, height = self.second_size(spec)
        own = {"prompt_embeds": self.hires_prompt, "negative_embeds": self.hires_negative}
        tensors = replace(self.tensors, **{name: None for name, text in own.items() if text is not None})
        return replace(
            self, width=width, height=height, steps=self.hires_steps or self.steps, tensors=tensors,
            sampler=self.hires_sampler or self.sampler, schedule=self.hires_schedule or self.schedule,
            prompt=self.hires_prompt or self.prompt, negative=self.hires_negative or self.negative,
        )  # fmt: skip


def _sampling(spec: Spec, given: Mapping[str, Any]) -> dict[str, Any]:
    """Sampler, schedule, their options and the steps, from what was given of them. Raises SfumatoError."""
    found: dict[str, Any] = {}
    advised, named = spec.defaults, given.get("schedule")
    sampler = find_sampler(advised.sampler)
    if "sampler" in given:
        name, ending, cfg_pp = split_sampler_name(given["sampler"])
        sampler = SAMPLERS[name]
        if ending is not None and named is not None and schedule_name(named) != ending:
            raise OptionError(
                f"`sampler` {given['sampler']!r} ends in the schedule {ending}, but `schedule` is {named!r}; give one"
            )
        named = named or ending
        if cfg_pp:
            found["cfg_pp"] = True
    # Schedules made for levels without end crowd at the wrong end of a flow's.
    suits = advised.schedule if "sampler" not in given or spec.prediction == "flow" else sampler.schedule
    schedule = find_schedule(suits if named is None else named, xl="original_size" in spec.micro_conditioning)
    known, spaced = sampler.options | schedule.options, f" on the schedule {schedule.label}"
    if "sigmas" in given:
        found["sigmas"] = OPTIONS["sigmas"].checked(given["sigmas"])
        steps = len(found["sigmas"]) - 1
        if named is not None or given.get("steps", steps) != steps:
            raise OptionError(f"{steps + 1} `sigmas` are {steps} `steps` of no `schedule`; leave those two out")
        found["steps"], known, spaced = steps, sampler.options, ""
    options = checked_of(given.get("sampler_options", {}), known, f"{sampler.label}{spaced}")
    return {**found, "sampler": sampler.name, "schedule": schedule.name, "sampler_options": options}


def _second_sampling(spec: Spec, given: Mapping[str, Any]) -> dict[str, Any]:
    """The second pass's own sampler and schedule, if it has any; a schedule in the sampler's name counts.

    Where nobody chose a schedule, a sampler of the second pass has the one that suits it. Raises SfumatoError.
    """
    if "hires_sampler" not in given:
        return {}
    name, ending, _ = split_sampler_name(given["hires_sampler"])
    chosen, both = given.get("hires_schedule"), ("schedule", "sigmas")
    if ending is not None and chosen is not None and schedule_name(chosen) != ending:
        raise OptionError(
            f"`hires_sampler` {given['hires_sampler']!r} ends in the schedule {ending}, but `hires_schedule` is "
            f"{chosen!r}; give one"
        )
    suits = None if spec.prediction == "flow" or any(one in given for one in both) else SAMPLERS[name].schedule
    schedule = chosen or ending or suits
    return {"hires_sampler": name} | ({} if schedule is None else {"hires_schedule": schedule})


def _defaults(spec: Spec, given: Mapping[str, Any], refiner: Spec | None) -> dict[str, Any]:
    """What the options are that nobody gave, where that is not the same for all models."""
    own = [name for name, one in OPTIONS.items() if one.default is MODEL]
    defaults: dict[str, Any] = {name: getattr(spec.defaults, name) for name in own}
    if given.get("cfg_pp") or ("sampler" in given and split_sampler_name(given["sampler"])[2]):
        defaults["cfg"] = CFG_PP_SCALE
    if refiner is not None:
        defaults["switch_at"] = SWITCH_AT
    return defaults


def _check_needs(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raises OptionError for an option that changes nothing, because another that it needs is not given."""
    for name in given:
        needed = OPTIONS[name].needs
        if needed is not None and needed not in given and not defaults.get(needed, OPTIONS[needed].default):
            raise OptionError(f"`{name}` without `{needed}` changes nothing; give `{needed}` as well")


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


def _plain(value: Any) -> Any:
    """Numbers of numpy or torch as those of Python, also inside lists, arrays and mappings, of which the first two
    become tuples; all else as it is."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value
