"""The options that several commands understand, the same in each of them.

They come in groups, most of them made of the tables in `settings/`. A command takes a group as one keyword-only
parameter, and `command` spreads it into the options that it stands for:

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
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

import typer

from sfumato.cli.from_table import BASIC, EMBEDDED, FromTable, completion, embedded_defaults, flag, parameters, values
from sfumato.cli.status import status
from sfumato.errors import SfumatoError
from sfumato.runtime.threads import MAX_THREADS
from sfumato.settings.option import options_in
from sfumato.settings.picture import HiresSettings, Pair, RefinerSettings
from sfumato.settings.prompt import WordSettings
from sfumato.settings.table import GROUPS, OPTIONS

if TYPE_CHECKING:
    from sfumato.api import StableDiffusion
    from sfumato.cli.output import Destination
    from sfumato.spec import Prediction as Kind

DRAWING = tuple(group for group in GROUPS if group not in (RefinerSettings, HiresSettings))

MACHINE, OUTPUT = "Model and machine", "Output"
_machine = partial(typer.Option, rich_help_panel=MACHINE)
_output = partial(typer.Option, rich_help_panel=OUTPUT)


def model_names() -> list[str]:
    """The models on this machine."""
    from sfumato.hub.local_models import models

    return [one.name for one in models() if one.path is not None]


Negative = Annotated[
    str, typer.Option(help="What to keep out of the picture.", show_default=False, rich_help_panel=WordSettings.PANEL)
]
Model = Annotated[
    str | None,
    typer.Option(
        help="A checkpoint file (.safetensors, .ckpt), a diffusers folder, or the name of one on this machine, such as "
        "sd1.5 (`sfumato models` lists them). Default: the embedded model.",
        rich_help_panel=BASIC,
        autocompletion=completion(model_names),
    ),
]
Variant = Annotated[
    str | None,
    _machine(
        help="Which release a single file is, where several have the same tensors: base or turbo of XL and 3.5 large, "
        "base or 768-v of 2.x; an unknown name lists them."
    ),
]
Prediction = Annotated[
    str | None,
    _machine(
        metavar="KIND",
        help="What the network predicts, where its file does not say so or says it wrongly: eps, v, x0, flow or edm.",
    ),
]
ZeroSnr = Annotated[
    bool | None,
    _machine(
        "--zero-snr/--no-zero-snr",
        help="The noise levels of training end, or do not end, at pure noise (zero terminal SNR).",
        show_default=False,
    ),
]
Vae = Annotated[
    str | None,
    _machine("--vae", metavar="FILE|FOLDER", help="An autoencoder that replaces the model's, or that it lacks."),
]
TinyDecoder = Annotated[
    str | None,
    _machine("--tiny-decoder", metavar="FILE", help="A TAESD decoder, for previews and `--decoder tiny`."),
]
TextEncoders = Annotated[
    list[str] | None,
    _machine(
        "--text-encoder",
        metavar="FILE|FOLDER",
        help="A text encoder (CLIP-L, CLIP-G, T5) that replaces the model's, or that it lacks. May be repeated.",
    ),
]
T5File = Annotated[
    str | None,
    _machine(
        "--t5-tokenizer",
        metavar="FILE",
        help="T5's spiece.model or tokenizer.json, for a model of 3 or 3.5 that brings none.",
    ),
]
T5Length = Annotated[
    int | None, _machine("--t5-length", help="Tokens that T5 reads at least. Default: 256. The original code has 77.")
]
TiledVae = Annotated[
    bool | None,
    _machine(
        "--tiled-vae/--no-tiled-vae",
        help="Put pictures through the autoencoder in tiles, in less memory and more time. Default: only large ones.",
    ),
]
Memory = Annotated[
    str | None,
    _machine(
        metavar="SIZE",
        help="What drawing may take, such as 4G: what does not fit stays in the model's file and is read layer by "
        "layer. `sfumato inspect FILE --plan --memory 4G` prints the plan.",
    ),
]
Device = Annotated[str | None, _machine(help="cpu, cuda, cuda:1, mps. Default: a GPU where there is one.")]
Dtype = Annotated[
    str | None,
    _machine(
        help="float32, float16, bfloat16, int8 (processors with AVX-512 VNNI), or auto: the fastest of the exact ones. "
        "Default: float16 on CUDA and float32 elsewhere.",
    ),
]
Threads = Annotated[
    int | None,
    _machine(
        min=1,
        max=MAX_THREADS,
        help="Processor threads. Default: two for a small network, and for others as many as torch takes.",
    ),
]
Steps = Annotated[int | None, flag(OPTIONS["steps"])]
Seed = Annotated[int | None, flag(OPTIONS["seed"])]
Cfg = Annotated[float | None, flag(OPTIONS["cfg"])]
SamplerName = Annotated[str | None, flag(OPTIONS["sampler"])]
ScheduleName = Annotated[str | None, flag(OPTIONS["schedule"])]
_OWN = embedded_defaults()
_OWN_SIZE = f"; {_OWN['width']}x{_OWN['height']} for {EMBEDDED}" if _OWN else ""
Size = Annotated[
    str | None,
    typer.Option(
        metavar="WxH",
        help=f"Width and height in pixels, such as 512x768. Default: the model's own{_OWN_SIZE}.",
        rich_help_panel=BASIC,
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|FOLDER",
        help="For one picture a .png, .jpg or .webp file; for several a folder, or a name with {seed}, {name} (of the "
        "picture given) or {number}; - prints the picture. Default: sfumato-SEED.png here.",
        rich_help_panel=BASIC,
    ),
]
Overwrite = Annotated[bool, _output("--overwrite", help="Replace files that exist. Default: they are never replaced.")]
Quiet = Annotated[bool, _output("-q", "--quiet", help="Say nothing on stderr but errors.")]
Verbose = Annotated[bool, _output("-v", "--verbose", help="Say what is loaded, and how long it takes.")]
Json = Annotated[bool, _output("--json", help="Print one JSON object instead of the names of the files.")]


@dataclass(frozen=True)
class Loading:
    """Which model, and where it runs."""

    model: Model = None
    variant: Variant = None
    prediction: Prediction = None
    zero_snr: ZeroSnr = None
    vae: Vae = None
    tiny_decoder: TinyDecoder = None
    text_encoder: TextEncoders = None
    t5_tokenizer: T5File = None
    t5_length: T5Length = None
    tiled_vae: TiledVae = None
    memory: Memory = None
    device: Device = None
    dtype: Dtype = None
    threads: Threads = None
    quiet: Quiet = False
    verbose: Verbose = False

    @property
    def named(self) -> str:
        """What the model is called in messages."""
        return self.model or "the embedded model"

    def load(self) -> StableDiffusion:
        """Load the model, and set the number of threads. Raises SfumatoError as `sfumato.load`."""
        import torch

        import sfumato
        from sfumato.pipeline.load import faster_in_bfloat16
        from sfumato.runtime.threads import fitting_threads

        if self.threads:
            torch.set_num_threads(self.threads)
        sd = sfumato.load(
            self.model, self.device, self.dtype, variant=self.variant,
            prediction=cast("Kind | None", self.prediction), zero_snr=self.zero_snr, vae=self.vae,
            text_encoders=self.text_encoder or (), t5_tokenizer=self.t5_tokenizer, t5_length=self.t5_length,
            tiled_vae=self.tiled_vae, tiny_decoder=self.tiny_decoder, memory=self.memory,
        )  # fmt: skip
        parameters = sum(weight.numel() for weight in sd.denoiser.network.parameters())
        if not self.threads and sd.device.type == "cpu":
            torch.set_num_threads(fitting_threads(parameters, torch.get_num_threads()))
        where = f"{sd.device}, {sd.precision}, {torch.get_num_threads()} threads"
        status.loaded(f"{sd.name} ({sd.spec.title}; {where})")
        if self.dtype is None and faster_in_bfloat16(parameters, sd.device):
            status.say("note: --dtype auto draws nearly the same pictures here sooner, in less memory (bfloat16)")
        return sd


class Redrawing(FromTable):
    """What decides a picture whose size follows from another's; see `settings.table`."""

    groups = DRAWING

    def __init__(self, negative: str = "", **given: Any):
        super().__init__(**given)
        self.negative = negative

    @classmethod
    def parameters(cls) -> list[inspect.Parameter]:
        return [keyword("negative", "", Negative), *super().parameters()]

    @property
    def n(self) -> int:
        """How many pictures are asked for."""
        return self.options.get("n", 1)

    @property
    def said(self) -> bool:
        """Whether anything was given."""
        return bool(self.options or self.negative)


class Drawing(Redrawing):
    """What decides a picture, whatever the task."""

    def __init__(self, size: str | None = None, **given: Any):
        super().__init__(**given)
        if (pair := parse_pair("size", size)) is not None:
            self.options["width"], self.options["height"] = pair

    @classmethod
    def parameters(cls) -> list[inspect.Parameter]:
        return [keyword("size", None, Size), *super().parameters()]


class Refining(FromTable):
    """When a refiner goes on."""

    groups = (RefinerSettings,)


class Hires(FromTable):
    """The second, larger pass of txt2img."""

    groups = (HiresSettings,)


@dataclass(frozen=True)
class Saving:
    """Where pictures go, and what is printed."""

    out: Out = None
    overwrite: Overwrite = False
    as_json: Json = False

    def destination(self, n: int, sources: int = 1) -> Destination:
        """Where n pictures of each source go. Raises SfumatoError where they cannot."""
        from sfumato.cli.output import Destination

        destination = Destination.of(self.out, n, sources, self.overwrite)
        destination.check(self.as_json)
        return destination


def command(function: Callable[..., None]) -> Callable[..., None]:
    """The function as typer reads it: in place of each parameter that is a group, the group's options."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, tuple[Any, list[inspect.Parameter]]] = {
        name: (hint, _parameters(hint)) for name, hint in hints.items() if _is_group(hint)
    }
    shown = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in groups:
            shown += groups[parameter.name][1]
        else:
            shown.append(parameter.replace(annotation=hints[parameter.name]))

    @functools.wraps(function)
    def run(**given: Any) -> None:
        for name, (group, spread) in groups.items():
            own = {one.name: given.pop(one.name) for one in spread}
            given[name] = group(**(values(options_in(group), own) if _is_table(group) else own))
        # Before torch is imported, which takes a second or more.
        for one in given.values():
            if isinstance(one, Loading):
                status.begin(one.quiet, one.verbose)
                status.loading(one.named)
        function(**given)

    vars(run).pop("__wrapped__")  # typer shall see the options
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    vars(run)["__signature__"] = inspect.Signature(
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in shown]
    )
    return run


def _is_table(group: Any) -> bool:
    return dataclasses.is_dataclass(group) and bool(options_in(cast(type, group)))


def _is_group(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint) or (isinstance(hint, type) and issubclass(hint, FromTable))


def _parameters(group: Any) -> list[inspect.Parameter]:
    if issubclass(group, FromTable):
        return group.parameters()
    if _is_table(group):
        return parameters(options_in(group).values())
    hints = get_type_hints(group, include_extras=True)
    return [keyword(field.name, field.default, hints[field.name]) for field in dataclasses.fields(group)]


def keyword(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    """A parameter of a command's function."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def parse_pair(name: str, text: str | None) -> Pair | None:
    """Both numbers of 'WxH'; None of None. Raises SfumatoError."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9]{1,6})\s*[xX×]\s*([0-9]{1,6})\s*", text)
    if match is None:
        raise SfumatoError(f"the {name} is {text!r}; give width x height in pixels, such as 512x768")
    return int(match[1]), int(match[2])
