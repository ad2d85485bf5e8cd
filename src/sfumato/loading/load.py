"""From a checkpoint to networks: built without memory, mapped by name, every tensor accounted for."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import cast

import torch
from torch import Tensor, nn

from sfumato.checkpoint.checkpoint import Checkpoint, Stored, WeightFile, quote
from sfumato.checkpoint.formats.fp8 import EIGHTS
from sfumato.checkpoint.keymap import KeyMap, Match, Rule, holds
from sfumato.errors import SfumatoError
from sfumato.families import family as family_named
from sfumato.families.base import Family
from sfumato.families.layouts.depth_net import DepthNetwork
from sfumato.loading.components import lacking
from sfumato.loading.resolve import Overrides, Resolved, opened_model
from sfumato.loading.streaming import Source, streams
from sfumato.nets.clip import CLIPText
from sfumato.nets.clip_vision import CLIPVision
from sfumato.nets.prior import ScenePrior
from sfumato.nets.unclip import VectorStatistics
from sfumato.nets.vae import VAE
from sfumato.spec import CLIPTextConfig, Prediction, Spec
from sfumato.text.tokenizer import CLIPTokenizer

SHOWN = 10  # names listed in an error
NOTHING: Mapping[str, int] = MappingProxyType({})
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Report:
    """What was read: where from, in which layout, which tensors were not needed, and which parts not wanted."""

    path: Path
    layout: str
    container: str
    ema: bool
    dtypes: tuple[torch.dtype, ...]
    ignored: tuple[str, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parts:
    """A model's networks in evaluation mode, its spec, and its tokenizer if the checkpoint brings one.

    A folder brings it in the folder `tokenizer_folder`, a single file that was made of one as files in its header.
    `files` are those that weights may be views of.
    """

    spec: Spec
    networks: dict[str, nn.Module] = field(repr=False)
    tokenizer_folder: Path | None
    tokenizer_files: Mapping[str, bytes] = field(repr=False)
    report: Report
    files: tuple[WeightFile, ...] = field(default=(), repr=False)

    def tokenizer(self) -> CLIPTokenizer | None:
        """CLIP's tokenizer as the checkpoint brings it. Raises SfumatoError for a broken one."""
        if self.tokenizer_folder is not None:
            return CLIPTokenizer.from_folder(self.tokenizer_folder)
        return CLIPTokenizer.from_files(self.tokenizer_files, self.report.path) if self.tokenizer_files else None

    @property
    def unet(self) -> nn.Module:
        return self.networks["unet"]

    @property
    def denoiser(self) -> nn.Module:
        """The network that draws: a U-Net or a transformer."""
        return self.networks[family_named(self.spec.family).denoiser]

    @property
    def vae(self) -> VAE:
        return cast(VAE, self.networks["vae"])

    @property
    def text(self) -> CLIPText:
        return cast(CLIPText, self.networks["text"])

    @property
    def depth(self) -> DepthNetwork | None:
        return cast("DepthNetwork | None", self.networks.get("depth"))

    @property
    def prior(self) -> ScenePrior | None:
        return cast("ScenePrior | None", self.networks.get("prior"))

    @property
    def image(self) -> CLIPVision | None:
        return cast("CLIPVision | None", self.networks.get("image"))

    @property
    def statistics(self) -> VectorStatistics | None:
        return cast("VectorStatistics | None", self.networks.get("statistics"))

    @property
    def texts(self) -> tuple[CLIPText, ...]:
        """Every text tower, in the order in which their outputs are laid side by side."""
        return tuple(network for network in self.networks.values() if isinstance(network, CLIPText))


def load_parts(
    path: str | Path,
    *,
    dtype: torch.dtype | None = torch.float32,
    device: torch.device | str = "cpu",
    ema: bool = False,
    spec: Spec | None = None,
    prediction: Prediction | None = None,
    zero_snr: bool | None = None,
    variant: str | None = None,
    vae: str | Path | None = None,
    text_encoders: Sequence[str | Path] = (),
    without: tuple[str, ...] = (),
    streamed: Mapping[str, int] = NOTHING,
) -> Parts:
    """Load a complete model from a single file or a diffusers folder, and files of parts that it lacks.

    `dtype` None keeps each tensor as stored (of 8 bits as float16). Otherwise a prior and the text tower that it reads
    are in float32 all the same: they are small, and what they decide must not hang on rounding. `ema` takes the
    averaged weights of files that hold both. `vae` and `text_encoders` name files or folders of single parts, which
    replace those of the model, or complete a file that lacks them. `spec` overrules what is read from the file (sizes
    that shapes do not show, such as a number of heads), `variant` which release it is of those with the same shapes,
    `prediction` what the network predicts, `zero_snr` whether its noise levels end at pure noise. Parts named in
    `without` are left in the file. A tensor that needs no conversion stays a view of the file, so that loading takes
    the size of the result and little more. Large weights of parts named in `streamed` are read, and unpacked, whenever
    they are used; so many bytes of the file as it says are kept in memory then, the others are let go of.

    Raises SfumatoError when the file is not a complete model: every tensor that is missing, left over, of another shape
    or not finite is named. So is a part that is missing whole, and one given apart that does not fit.
    """
    with opened_model(path, vae, text_encoders, Overrides(variant, prediction, zero_snr, spec)) as model:
        checkpoint, family, layout, spec = model.checkpoint, model.family, model.layout, model.spec
        plan = compare(model, ema)
        require_complete(checkpoint, family, plan)
        networks, match = {part: net for part, net in plan.networks.items() if part not in without}, plan.match
        for part, network in networks.items():
            reads = spec.prior is not None and part not in (family.denoiser, "vae")
            kind, where = torch.float32 if reads and dtype else dtype, torch.device(device)
            fill(network, part, plan, checkpoint, kind, where, streamed.get(part))
        checkpoint.check_unchanged()
        used = [checkpoint.tensors[name] for name in match.names.values()]
        tokenizers = (checkpoint.path / name for name in family.layouts[layout].tokenizers)
        in_header = (
            checkpoint.embedded_files_in(name)
            for name, part in family.layouts["diffusers"].tokenizers.items()
            if isinstance(getattr(spec, part), CLIPTextConfig)
        )
        return Parts(
            spec,
            networks,
            next((folder for folder in tokenizers if folder.is_dir()), None),
            next(filter(None, in_header), {}),
            Report(
                path=checkpoint.path,
                layout=layout,
                container=checkpoint.container,
                ema=ema,
                dtypes=tuple(sorted({stored.dtype for stored in used}, key=str)),
                ignored=tuple(match.ignored),
                left_out=tuple(part for part in plan.networks if part in without),
            ),
            tuple({stored.file.path: stored.file for stored in used}.values()),
        )


def _build(family: Family, spec: Spec, checkpoint: Checkpoint) -> dict[str, nn.Module]:
    try:
        return family.build(spec)
    except (ValueError, RuntimeError, ArithmeticError) as error:  # torch refuses sizes that do not divide
        raise SfumatoError(
            f"{checkpoint.path} states sizes that fit no network: {str(error).splitlines()[0]}"
        ) from error


@dataclass(frozen=True)
class Plan:
    """Networks on the meta device, the map to fill them by, and how the file's tensors compare with it."""

    networks: dict[str, nn.Module]
    keymap: KeyMap
    match: Match


def has_ema(checkpoint: Checkpoint, family: Family, layout: str) -> bool:
    """Whether the file holds averaged weights beside the plain ones."""
    rename, prefix = family.layouts[layout].ema, family.layouts[layout].prefixes[family.denoiser]
    return rename is not None and any(
        rename(name) in checkpoint.tensors for name in checkpoint.tensors if name.startswith(prefix)
    )


def compare(model: Resolved, ema: bool = False, without: Container[str] = ()) -> Plan:
    """Account for every tensor of a model's file and of the parts given apart; those of parts `without` are ignored.

    Raises SfumatoError when a whole part is missing that the family needs, and when averaged weights are asked for but
    not there.
    """
    checkpoint, family, layout, spec = model.checkpoint, model.family, model.layout, model.spec
    given = model.components
    if ema and not has_ema(checkpoint, family, layout):
        raise SfumatoError(f"{checkpoint.path} holds no averaged (EMA) weights; load it without asking for them")
    networks = _build(family, spec, checkpoint)
    prefixes = family.layouts[layout].prefixes
    missing = [part for part in networks if part not in given and not holds(checkpoint.tensors, prefixes[part])]
    missing += [part for part in networks if part in without]
    if needed := [part for part in missing if part not in family.optional and part not in without]:
        raise lacking(checkpoint.path, [getattr(spec, part) for part in needed])
    networks = {part: network for part, network in networks.items() if part not in missing}
    keymap = family.keymap(spec, layout, networks, ema)
    for part in given.keys() & networks.keys():
        keymap = given[part].mapped(keymap, part, networks[part].state_dict())
    expected = {
        name: tuple(tensor.shape)
        for part, network in networks.items()
        for name, tensor in keymap.to_theirs(part, network.state_dict()).items()
    }
    for name, stored in checkpoint.tensors.items():
        shape = expected.get(keymap.canonical(name), stored.shape)
        # GGUF leaves out dimensions of 1; and a convolution of 1x1 is at times written as the matrix that it is.
        if shape != stored.shape and stored.stride is None and _without_ones(stored.shape) == _without_ones(shape):
            checkpoint.tensors[name] = replace(stored, shape=shape)
    unread = [prefixes[part] for part in prefixes if part in without]
    unread += [found.label for part, found in given.items() if part in without]
    if ema:  # the plain weights of the denoiser stand beside the averaged ones and are not needed
        unread.append(prefixes[family.denoiser])
    keymap = replace(keymap, ignored=(*keymap.ignored, *(re.escape(prefix) + ".*" for prefix in unread)))
    return Plan(networks, keymap, _lenient(keymap.match(expected, checkpoint.shapes), model))


def _lenient(match: Match, model: Resolved) -> Match:
    """The match, with what lies outside all networks ignored; within a network every tensor must be known.

    Trainers and mergers leave marks, statistics and scalars of CLIP beside the networks, which nothing reads.
    """
    labels = (component.label for component in model.components.values())
    within = (*model.prefixes.values(), *labels)
    outside = [name for name in match.left_over if not name.startswith(within)]
    left_over = [name for name in match.left_over if name.startswith(within)]
    return replace(match, left_over=left_over, ignored=[*match.ignored, *outside])


def require_complete(checkpoint: Checkpoint, family: Family, plan: Plan) -> None:
    """Raise SfumatoError, with names, unless the file holds exactly the model's tensors."""
    if not plan.match.complete:
        raise SfumatoError(f"{checkpoint.path} is not a complete {family.spec.title}: {differences(plan.match)}")


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def differences(match: Match) -> str:
    """What a file lacks or has too much, for an error."""
    lists = (("missing", match.missing), ("left over", match.left_over), ("of another shape", match.misshapen))
    texts = []
    for what, names in lists:
        if names:
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            texts.append(f"{len(names)} {what} ({', '.join(quote(name)[1:-1] for name in names[:SHOWN])}{more})")
    return "; ".join(texts)


def fill(
    network: nn.Module,
    part: str,
    plan: Plan,
    checkpoint: Checkpoint,
    dtype: torch.dtype | None,
    device: torch.device,
    kept: int | None = None,
) -> None:
    """Give a network that was built on the meta device its parameters.

    Unless `kept` is None, large weights are streamed, of which so many bytes stay in memory (see `load_parts`).
    """
    state: dict[str, Tensor] = {}
    names = plan.match.names
    shapes = network.state_dict()
    for rule in plan.keymap.parts[part]:
        stored = [checkpoint.tensors[names[name]] for name in rule.theirs]
        if kept is not None and streams([shapes[name] for name in rule.ours]):
            size = sum(one.span for one in stored)
            source = Source(rule, stored, [names[name] for name in rule.theirs], checked, kept=size <= kept)
            kept -= min(size, kept)
            state |= source.weights([shapes[name] for name in rule.ours], dtype, device)
            continue
        raw = [checked(one, names[name]) for one, name in zip(stored, rule.theirs, strict=True)]
        tensors = [tensor.to(device, dtype or tensor.dtype) for tensor in rule.transform.to_ours(raw)]
        if dtype is not None and any(torch.finfo(dtype).max < torch.finfo(one.dtype).max for one in stored):
            for tensor in tensors:
                _require_finite(
                    tensor, f"{checkpoint.path}: {rule.theirs[0]} does not fit in {dtype}; load it as float32"
                )
        mapped = {tensor.untyped_storage().data_ptr() for tensor in raw}
        if not any(tensor.untyped_storage().data_ptr() in mapped for tensor in tensors):
            for one in stored:
                one.release()
        state |= zip(rule.ours, tensors, strict=True)
    network.load_state_dict(state, strict=True, assign=True)
    network.eval().requires_grad_(False)


def fill_alone(
    network: nn.Module, rules: Sequence[Rule], checkpoint: Checkpoint, what: str, dtype: torch.dtype | None,
    device: torch.device,
) -> None:  # fmt: skip
    """Give a network that was built on the meta device the parameters of a file of its own; `what` is a noun phrase.

    Raises SfumatoError for a file with other tensors than the rules name.
    """
    keymap = KeyMap({"network": tuple(rules)})
    expected = {name: tuple(one.shape) for name, one in keymap.to_theirs("network", network.state_dict()).items()}
    match = keymap.match(expected, checkpoint.shapes)
    if not match.complete:
        raise SfumatoError(f"{checkpoint.path} is no complete {what}: {differences(match)}")
    fill(network, "network", Plan({"network": network}, keymap, match), checkpoint, dtype, device)
    checkpoint.check_unchanged()


def checked(stored: Stored, name: str) -> Tensor:
    """The tensor, of 8 bits as float16. Raises SfumatoError unless it holds finite floating-point values."""
    if stored.dtype not in FLOATS + EIGHTS:
        raise SfumatoError(f"{stored.file.path} holds {name} as {stored.dtype}; floating-point weights are expected")
    tensor = stored.read().half() if stored.dtype in EIGHTS else stored.read()
    _require_finite(tensor, f"{stored.file.path} holds {name} with values that are not finite; download it again")
    return tensor


def _require_finite(tensor: Tensor, message: str) -> None:
    # The extremes are one pass without a temporary, 20 times as fast as torch.isfinite; NaN goes through both.
    if tensor.numel() and not torch.stack(torch.aminmax(tensor)).isfinite().all():
        raise SfumatoError(message)
