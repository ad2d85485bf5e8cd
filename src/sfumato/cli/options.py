"""The options that several commands understand, the same in each of them.

They come in groups. A command takes a group as one keyword-only parameter, and `command` spreads it into the options
that it stands for:

    @command
    def txt2img(prompt: Prompt, *, loading: Loading, drawing: Drawing, saving: Saving) -> None: ...
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

import typer

from sfumato.cli.guidance_options import Guiding
from sfumato.cli.prompt_options import Wording
from sfumato.diffusion.options import Value, read_value
from sfumato.errors import SfumatoError

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion
    from sfumato.settings.settings import Options, Pair
    from sfumato.spec import Prediction as Kind

Negative = Annotated[str, typer.Option(help="What to keep out of the picture.", show_default=False)]
Model = Annotated[
    str | None,
    typer.Option(
        help="A checkpoint file (.safetensors, .ckpt), a diffusers folder, or the name of one on this machine, such as "
        "sd1.5 (`sfumato models` lists them); else the embedded model."
    ),
]
Variant = Annotated[
    str | None,
    typer.Option(
        help="Which release a single file is, where several have the same tensors: base or turbo of XL and 3.5 large, "
        "base or 768-v of 2.x; an unknown name lists them."
    ),
]
Prediction = Annotated[
    str | None,
    typer.Option(
        metavar="KIND",
        help="What the network predicts, where its file does not say so or says it wrongly: eps, v, x0, flow or edm.",
    ),
]
ZeroSnr = Annotated[
    bool | None,
    typer.Option(
        "--zero-snr/--no-zero-snr",
        help="The noise levels of training end, or do not end, at pure noise (zero terminal SNR).",
        show_default=False,
    ),
]
Vae = Annotated[
    str | None,
    typer.Option("--vae", metavar="FILE|FOLDER", help="An autoencoder that replaces the model's, or that it lacks."),
]
TextEncoders = Annotated[
    list[str] | None,
    typer.Option(
        "--text-encoder",
        metavar="FILE|FOLDER",
        help="A text encoder (CLIP-L, CLIP-G, T5) that replaces the model's, or that it lacks. May be repeated.",
    ),
]
T5File = Annotated[
    str | None,
    typer.Option(
        "--t5-tokenizer",
        metavar="FILE",
        help="T5's spiece.model or tokenizer.json, for a model of 3 or 3.5 that brings none.",
    ),
]
T5Length = Annotated[
    int | None, typer.Option("--t5-length", help="Tokens that T5 reads at least; else 256. The original code has 77.")
]
TiledVae = Annotated[
    bool | None,
    typer.Option(
        "--tiled-vae/--no-tiled-vae",
        help="Put pictures through the autoencoder in tiles, in less memory and more time; else only large ones.",
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; else a GPU where there is one.")]
Dtype = Annotated[
    str | None, typer.Option(help="float32, float16 or bfloat16; else float16 on CUDA and float32 elsewhere.")
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Processor threads; else two for a small network, and for others as many as torch takes."),
]
Steps = Annotated[int | None, typer.Option(help="Sampling steps.")]
Seed = Annotated[
    int | None,
    typer.Option(help="Seed of the first picture, the next have the numbers after it; else drawn at random."),
]
VariationSeed = Annotated[
    int | None,
    typer.Option(help="Vary the picture of --seed towards that of this one, and the next ones; else drawn at random."),
]
VariationStrength = Annotated[
    float | None, typer.Option(help="How far to vary the picture of --seed, from 0 (not) to 1 (another picture).")
]
Rng = Annotated[
    str | None,
    typer.Option("--rng", help="Where noise comes from: cpu, or nv for the numbers that a GPU would draw; else cpu."),
]
TilingAxes = Annotated[
    str | None,
    typer.Option("--tiling", metavar="x|y|both", help="Draw pictures whose opposite edges fit together."),
]
SamplerName = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        help="euler, euler_ancestral, heun, ddim, plms, dpmpp_2m, dpmpp_2m_sde, dpmpp_sde, lcm and more, also by the "
        "names of web UIs ('Euler a'); `sfumato samplers` lists them all.",
    ),
]
ScheduleName = Annotated[
    str | None,
    typer.Option(
        "--schedule",
        help="discrete, karras, exponential, sgm_uniform, beta, simple and more, also by the "
        "names of web UIs; `sfumato samplers` lists them all.",
    ),
]
SamplerOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="An option of the sampler or its schedule, such as eta=0.5 (`sfumato samplers` lists them). May be "
        "repeated.",
    ),
]
Sigmas = Annotated[
    str | None,
    typer.Option(metavar="LIST", help="Noise levels in place of steps and schedule, such as 14.6,7,3,1,0.1,0."),
]
ClipSkip = Annotated[
    int | None, typer.Option(help="Layer of the text encoder to read, counted from the last, which is 1.")
]
OriginalSize = Annotated[
    str | None, typer.Option(metavar="WxH", help="XL: the size of the imagined original; else the drawn size.")
]
Crop = Annotated[
    str | None, typer.Option(metavar="X,Y", help="XL: what is cut off the original at its left and top; else 0,0.")
]
TargetSize = Annotated[
    str | None, typer.Option(metavar="WxH", help="XL: the size that it is told to draw; else the drawn size.")
]
AestheticScore = Annotated[
    float | None, typer.Option(help="XL's refiner: how good a picture it shall make, from 0 to 10; else 6.")
]
HiresScale = Annotated[
    float | None, typer.Option(help="Draw on top of the picture once more, so many times as wide and high.")
]
HiresStrength = Annotated[
    float | None, typer.Option(help="How much of it that second pass draws anew, from 0 to 1; else 0.5.")
]
HiresSteps = Annotated[int | None, typer.Option(help="Its sampling steps; else as many as --steps.")]
HiresUpscaler = Annotated[
    str | None,
    typer.Option(metavar="latent|lanczos|FILE", help="What enlarges for it; a file is a pixel upscaler. Else latent."),
]
Count = Annotated[int, typer.Option("-n", "--number", help="How many pictures.")]
BestOf = Annotated[
    int | None,
    typer.Option("--best-of", help="Draw so many and keep the -n that the embedded CLIP finds nearest to the prompt."),
]
Watermark = Annotated[bool, typer.Option("--watermark/--no-watermark", help="Mark pictures invisibly as generated.")]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Width and height in pixels, such as 512x768.")]
Out = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|FOLDER",
        help="For one picture a .png, .jpg or .webp file, replaced if it exists; or a folder, where nothing is ever "
        "replaced. Else sfumato-SEED.png here, under a new name if that exists.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the names of the files.")]


@dataclass(frozen=True)
class Loading:
    """Which model, and where it runs."""

    model: Model = None
    variant: Variant = None
    prediction: Prediction = None
    zero_snr: ZeroSnr = None
    vae: Vae = None
    text_encoder: TextEncoders = None
    t5_tokenizer: T5File = None
    t5_length: T5Length = None
    tiled_vae: TiledVae = None
    device: Device = None
    dtype: Dtype = None
    threads: Threads = None

    def load(self) -> StableDiffusion:
        """Load the model, and set the number of threads. Raises SfumatoError as `sfumato.load`."""
        import torch

        import sfumato
        from sfumato.runtime.threads import fitting_threads

        if self.threads:
            torch.set_num_threads(self.threads)
        sd = sfumato.load(
            self.model, self.device, self.dtype, variant=self.variant,
            prediction=cast("Kind | None", self.prediction), zero_snr=self.zero_snr, vae=self.vae,
            text_encoders=self.text_encoder or (), t5_tokenizer=self.t5_tokenizer, t5_length=self.t5_length,
            tiled_vae=self.tiled_vae,
        )  # fmt: skip
        if not self.threads and sd.device.type == "cpu":
            parameters = sum(weight.numel() for weight in sd.denoiser.network.parameters())
            torch.set_num_threads(fitting_threads(parameters, torch.get_num_threads()))
        return sd


@dataclass(frozen=True)
class Drawing(Guiding, Wording):
    """What decides a picture, whatever the task; see `settings.settings.Options`."""

    negative: Negative = ""
    steps: Steps = None
    seed: Seed = None
    variation_seed: VariationSeed = None
    variation_strength: VariationStrength = None
    rng: Rng = None
    tiling: TilingAxes = None
    sampler: SamplerName = None
    schedule: ScheduleName = None
    sampler_options: SamplerOptions = None
    sigmas: Sigmas = None
    clip_skip: ClipSkip = None
    original_size: OriginalSize = None
    crop: Crop = None
    target_size: TargetSize = None
    aesthetic_score: AestheticScore = None
    n: Count = 1
    best_of: BestOf = None
    watermark: Watermark = True

    def options(self) -> Options:
        """Raises SfumatoError for numbers that are none."""
        return {
            "steps": self.steps,
            "seed": self.seed,
            "variation_seed": self.variation_seed,
            "variation_strength": self.variation_strength,
            "rng": self.rng,
            "tiling": self.tiling,
            "sampler": self.sampler,
            "schedule": self.schedule,
            "sampler_options": dict(map(parse_setting, self.sampler_options or ())),
            "sigmas": parse_numbers("sigmas", self.sigmas),
            "clip_skip": self.clip_skip,
            "original_size": parse_pair("original size", self.original_size),
            "crop": parse_pair("crop", self.crop, ",", "left,top in pixels, such as 0,128"),
            "target_size": parse_pair("target size", self.target_size),
            "aesthetic_score": self.aesthetic_score,
            "n": self.n,
            "best_of": self.best_of,
            "watermark": self.watermark,
            **self.guidance_options(),
            **self.word_options(),
        }


@dataclass(frozen=True)
class Hires:
    """The second, larger pass of txt2img."""

    hires_scale: HiresScale = None
    hires_strength: HiresStrength = None
    hires_steps: HiresSteps = None
    hires_upscaler: HiresUpscaler = None


@dataclass(frozen=True)
class Saving:
    """Where pictures go, and what is printed."""

    out: Out = None
    as_json: Json = False


def command(function: Callable[..., None]) -> Callable[..., None]:
    """The function as typer reads it: in place of each parameter that is a group, the group's options."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in groups:
            parameters += _options(groups[parameter.name])
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))

    @functools.wraps(function)
    def run(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in dataclasses.fields(group)})
        function(**given)

    vars(run).pop("__wrapped__")  # typer shall see the options
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    vars(run)["__signature__"] = inspect.Signature(
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    return run


def _options(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(group)
    ]


def parse_pair(
    name: str, text: str | None, mark: str = "xX×", form: str = "width x height in pixels, such as 512x768"
) -> Pair | None:
    """Both numbers of 'WxH', or of what is written with another mark; None of None. Raises SfumatoError."""
    if text is None:
        return None
    match = re.fullmatch(rf"\s*([0-9]{{1,6}})\s*[{mark}]\s*([0-9]{{1,6}})\s*", text)
    if match is None:
        raise SfumatoError(f"the {name} is {text!r}; give {form}")
    return int(match[1]), int(match[2])


def parse_numbers(name: str, text: str | None) -> list[float] | None:
    """The numbers of '14.6, 7, 0'; None of None. Raises SfumatoError."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise SfumatoError(f"{name} are {text!r}; give numbers with commas between, such as 14.6,7,3,1,0.1,0") from None


def parse_setting(text: str) -> tuple[str, Value]:
    """Name and value of 'eta=0.5', a number where it reads as one. Raises SfumatoError."""
    name, mark, value = (part.strip() for part in text.partition("="))
    if not (name and mark and value):
        raise SfumatoError(f"--set has {text!r}; give a name and a value, such as eta=0.5")
    return name, read_value(value)


def with_size(options: Options, size: str | None) -> Options:
    """The options with the size that `--size` says, if it says one. Raises SfumatoError as `parse_pair`."""
    pair = parse_pair("size", size)
    return options if pair is None else {**options, "width": pair[0], "height": pair[1]}
