"""The types by which a family file declares a release."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.checkpoint.diffusers_config import Config
from sfumato.checkpoint.keymap import KeyMap, Rule, Shapes
from sfumato.errors import SfumatoError
from sfumato.spec import Prediction, Spec

# What releases of one family with the same names and shapes differ in.
RELEASE_FIELDS = ("variant", "title", "prediction", "discrete_timesteps", "zero_empty_negative", "defaults", "licence")
MAX_MADE = 10_000  # tensors; the largest models have 3,000
Rules = Callable[[Spec, str, Iterable[str]], list[Rule]]


@dataclass(frozen=True)
class Layout:
    """One way in which the models of a family are stored.

    `prefixes` is what the names of each part begin with. `recognise(shapes)` says whether a file is of this family and
    layout. `spec(checkpoint)` reads the model, and raises SfumatoError for what is not supported.
    `rules(spec, part, names)` maps the parameter names of a part; `ema` renames the U-Net's or transformer's tensors to
    the averaged ones, where the layout can hold them.

    For writing: `fit(spec, shapes)` is the same model as this layout keeps it, where one layout leaves out what is
    never read (2.x folders: the last text layer); `shapes` are those of this layout's tensors, as far as known.
    `configs(spec)` are the JSON files of a folder, named as in `Checkpoint.configs`, from which `spec` reads the model
    again (without what it advises, which is written for every family alike). `tokenizers` names the folder of each
    tokenizer and the text tower, by its field of Spec, that it belongs to. `buffers(spec)` are tensors besides the
    networks' that follow from the spec, in files of this layout. `carried` are folders of parts that take no part in
    drawing, which a conversion into the same layout keeps as they are.
    """

    prefixes: Mapping[str, str]
    recognise: Callable[[Shapes], bool]
    spec: Callable[[Checkpoint], Spec]
    rules: Rules
    ignored: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    ema: Callable[[str], str] | None = None
    fit: Callable[[Spec, Shapes], Spec] = lambda spec, shapes: spec
    configs: Callable[[Spec], dict[str, Config]] = lambda spec: {}
    tokenizers: Mapping[str, str] = field(default_factory=dict)
    buffers: Callable[[Spec], dict[str, Tensor]] = lambda spec: {}
    carried: tuple[str, ...] = ()


class _Building(TorchFunctionMode):
    """Skips random initial weights: on the meta device they are nothing, but cost the import of torch's compiler.

    Raises ValueError for more tensors than a network has: a file may state a million layers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        self.made += func is torch.empty
        if self.made > MAX_MADE:
            raise ValueError(f"more than {MAX_MADE} tensors")
        return func(*args, **kwargs)


@dataclass(frozen=True)
class Family:
    """A line of releases: its full-size model, its networks, and how its files are laid out.

    `networks(spec)` builds the modules by part name; `denoiser` is the part that draws, and that EMA weights exist of.
    `variants` are further releases with the same names and shapes, told apart by `Spec.variant`. A
    model may lack the parts `optional`; its networks are then without them.
    """

    spec: Spec
    networks: Callable[[Spec], dict[str, nn.Module]]
    layouts: Mapping[str, Layout]
    denoiser: str = "unet"
    optional: tuple[str, ...] = ()
    variants: tuple[Spec, ...] = ()

    @property
    def name(self) -> str:
        return self.spec.family

    @property
    def releases(self) -> tuple[Spec, ...]:
        """The release that a file without further word is taken for, then its variants."""
        return self.spec, *self.variants

    def varied(self, spec: Spec, variant: str) -> Spec:
        """The spec as the release of that name has it; sizes stay as they are, and so do noise levels that all share.

        Raises SfumatoError where there is no such release.
        """
        releases = {release.variant: release for release in self.releases}
        if release := releases.get(variant):
            before = releases.get(spec.variant, self.spec)
            if before.noise != release.noise:  # trained as another process, on latents scaled otherwise
                scaling = {name: getattr(release.vae, name) for name in ("scale", "shift", "mean", "std")}
                spec = replace(spec, noise=release.noise, vae=replace(spec.vae, **scaling))
            return replace(spec, **{name: getattr(release, name) for name in RELEASE_FIELDS})
        if not self.variants:
            raise SfumatoError(f"{self.spec.title} has no variants, not {variant!r} either; leave it out")
        known = " or ".join(release.variant for release in self.releases)
        raise SfumatoError(f"{self.spec.title} has no variant {variant!r}; choose {known}, or leave it out")

    def predicting(self, spec: Spec, prediction: Prediction) -> Spec:
        """The spec with another prediction, as the first release has it that predicts so, if there is one.

        Raises SfumatoError for what is no kind of prediction.
        """
        if prediction not in (known := get_args(Prediction)):
            raise SfumatoError(f"the prediction is {prediction!r}; choose {' or '.join(known)}")
        if spec.prediction == prediction:
            return spec
        named = (release.variant for release in self.variants and self.releases if release.prediction == prediction)
        variant = next(named, None)
        return replace(spec, prediction=prediction) if variant is None else self.varied(spec, variant)

    def is_described(self, checkpoint: Checkpoint) -> bool:
        """Returns whether a single file carries the JSON files of a folder of this family, which describe it fully."""
        config = f"{self.layouts['diffusers'].prefixes[self.denoiser]}config"
        return checkpoint.container != "folder" and {"model_index", config} <= checkpoint.configs.keys()

    def read(self, checkpoint: Checkpoint, layout: str) -> Spec:
        """The model that a file of this layout holds. Raises SfumatoError for what is not supported.

        A single file that carries a folder's JSON files is described by them: they say what shapes do not show.
        """
        folder, index = self.layouts["diffusers"], checkpoint.configs.get("model_index", {})
        if not self.is_described(checkpoint):
            return self.layouts[layout].spec(checkpoint)
        some = next(iter(checkpoint.tensors.values()))
        present = {f"{name}/": some for name, entry in index.items() if isinstance(entry, list) and any(entry)}
        return self.layouts[layout].fit(folder.spec(replace(checkpoint, tensors=present)), checkpoint.shapes)

    def build(self, spec: Spec) -> dict[str, nn.Module]:
        """The networks of a model, on the meta device: shapes without memory. Raises ValueError for absurd sizes."""
        with torch.device("meta"), _Building():
            return self.networks(spec)

    def keymap(self, spec: Spec, layout: str, networks: Mapping[str, nn.Module], ema: bool = False) -> KeyMap:
        """The map of a layout; with `ema`, of its averaged weights (only where the layout has an `ema`)."""
        chosen = self.layouts[layout]
        rules = {part: tuple(chosen.rules(spec, part, network.state_dict())) for part, network in networks.items()}
        result = KeyMap(rules, chosen.ignored, chosen.aliases)
        return result.renamed(self.denoiser, chosen.ema) if ema and chosen.ema else result

    def expected(self, spec: Spec, layout: str, ema: bool = False) -> dict[str, tuple[int, ...]]:
        """Every tensor that a complete file of this model holds, with its shape."""
        networks = self.build(spec)
        keymap = self.keymap(spec, layout, networks, ema)
        return {
            name: tuple(tensor.shape)
            for part, network in networks.items()
            for name, tensor in keymap.to_theirs(part, network.state_dict()).items()
        }


@dataclass(frozen=True)
class Known:
    """A model that is recognised but cannot be used yet; `recognise(shapes)` as in Layout."""

    title: str
    recognise: Callable[[Shapes], bool]
