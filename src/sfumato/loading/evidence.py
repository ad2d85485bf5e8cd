"""What a checkpoint says of itself besides its tensors' shapes: marker tensors, metadata, a `.yaml` beside the file.

Several releases have the same tensors, and differ in what the network predicts. Whoever trained or merged a model may
have written it down: as empty tensors with a telling name, in the header (the modelspec of Stability AI and kohya's
scripts), or in the configuration file that the web UI reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.errors import SfumatoError, warn
from sfumato.families import Family
from sfumato.files import read_bytes
from sfumato.spec import NoiseSchedule, Prediction, Spec

MAX_SIGMA = 1e4
MAX_SAID = 1000  # letters of a statement in the metadata
MAX_YAML = 1 << 20  # bytes; such files have a few thousand
SIDES = range(256, 2049)  # pixels that a model may have been trained on
PREDICTIONS: dict[str, Prediction] = {
    **dict.fromkeys(("eps", "epsilon", "noise"), "eps"),
    **dict.fromkeys(("v", "vpred", "v_pred", "v_prediction", "velocity"), "v"),
    **dict.fromkeys(("x0", "sample"), "x0"),
    **dict.fromkeys(("flow", "rf", "rectified_flow", "flow_matching"), "flow"),
}
ARCHITECTURES = {
    "stable-diffusion-v1": ("sd1", None),
    "stable-diffusion-v2-512": ("sd2", "base"),
    "stable-diffusion-v2-768-v": ("sd2", "768-v"),
    "stable-diffusion-xl-v1-base": ("sdxl", None),
    "stable-diffusion-xl-v1-refiner": ("sdxl_refiner", None),
}
# The same as kohya's scripts name what they train.
BASE_VERSIONS = {
    "sd_v1": ("sd1", None),
    "sd_v2": ("sd2", "base"),
    "sd_v2_768_v": ("sd2", "768-v"),
    "sdxl_base_v1-0": ("sdxl", None),
}
# Of the web UI's configurations, which are YAML: what is predicted, and the rescaled noise levels.
COMMENT = re.compile(r"(?:^|[ \t])#.*", re.M)
PARAMETERIZATION = re.compile(r"(?:^|[\s{,])parameterization[ \t]*:[ \t]*[\"']?(eps|v|x0)\b")
SCALING = re.compile(r"\b(Eps|V)Scaling\b")
ZERO_SNR = re.compile(
    r"(?:^|[\s{,])(?:zero_snr|zero_terminal_snr|use_zero_snr|ztsnr|rescale_betas_zero_snr)[ \t]*:[ \t]*true\b", re.I
)
# What latent-diffusion's code predicts where its configuration does not say: the noise.
LATENT_DIFFUSION = re.compile(r"\bldm\.models\.diffusion\.ddpm\w*\.Latent\w*Diffusion\b")


@dataclass(frozen=True)
class Statement:
    """One thing that a checkpoint says; `source` says where. `variant` is a release's.

    `sides` are those of a picture in pixels. `levels` are the least and the greatest noise level of a network that
    knows all between them, as in Karras et al. 2022.
    """

    source: str
    prediction: Prediction | None = None
    zero_snr: bool | None = None
    variant: str | None = None
    family: str | None = None
    sides: tuple[int, int] | None = None
    levels: tuple[float, float] | None = None

    def __str__(self) -> str:
        said = [
            f"predicts {self.prediction}" if self.prediction else "",
            "zero terminal SNR" if self.zero_snr else "",
            " ".join(filter(None, (self.family, self.variant))),
            "{}x{} pixels".format(*self.sides) if self.sides else "",
            "noise levels from {:g} to {:g}".format(*self.levels) if self.levels else "",
        ]
        return f"{', '.join(filter(None, said))} ({self.source})"


def statements(checkpoint: Checkpoint) -> list[Statement]:
    """All that a single file says of itself, the most trustworthy first. Raises SfumatoError for an odd `.yaml`."""
    if checkpoint.container == "folder":  # its JSON files say it all
        return []
    return [*_markers(checkpoint), *_metadata(checkpoint.metadata), *_yaml(checkpoint.path)]


def _markers(checkpoint: Checkpoint) -> Iterator[Statement]:
    if "v_pred" in checkpoint.tensors:
        yield Statement("the tensor v_pred", prediction="v")
    if "ztsnr" in checkpoint.tensors:
        yield Statement("the tensor ztsnr", zero_snr=True)
    if "edm_vpred.sigma_max" in checkpoint.tensors:
        ends = [_number(checkpoint, f"edm_vpred.sigma_{end}", usual) for end, usual in (("min", 0.002), ("max", 120.0))]
        yield Statement("the tensor edm_vpred.sigma_max", prediction="v", levels=(ends[0], ends[1]))
    if {"edm_mean", "edm_std"} <= checkpoint.tensors.keys():
        yield Statement("the tensors edm_mean and edm_std", family="sdxl", variant="playground-2.5")


def _number(checkpoint: Checkpoint, name: str, usual: float) -> float:
    """The number that a marker tensor holds. Raises SfumatoError for one that is no noise level."""
    stored = checkpoint.tensors.get(name)
    if stored is None or stored.nbytes == 0:
        return usual
    value = float(stored.read().flatten()[0])
    if not 0 < value < MAX_SIGMA:
        raise SfumatoError(f"{checkpoint.path} says in {name} that a noise level is {value}; it is broken")
    return value


def _metadata(metadata: dict[str, str]) -> Iterator[Statement]:
    said = {name: value.strip().lower() for name, value in metadata.items() if len(value) < MAX_SAID}
    for name in ("modelspec.prediction_type", "prediction_type"):
        prediction = PREDICTIONS.get(said.get(name, "").replace("-", "_"))
        if prediction is not None:
            yield Statement(name, prediction=prediction)
    if said.get("ss_v_parameterization") == "true":
        yield Statement("ss_v_parameterization", prediction="v")
    if said.get("ss_zero_terminal_snr") == "true":
        yield Statement("ss_zero_terminal_snr", zero_snr=True)
    named = (
        ("modelspec.architecture", ARCHITECTURES, said.get("modelspec.architecture", "").split("/")[0]),
        ("ss_base_model_version", BASE_VERSIONS, said.get("ss_base_model_version", "")),
    )
    for name, releases, value in named:
        if value in releases:
            family, variant = releases[value]
            yield Statement(name, family=family, variant=variant)
    size = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", said.get("modelspec.resolution", ""))
    if size:
        yield Statement("modelspec.resolution", sides=(int(size[1]), int(size[2] or size[1])))


def _yaml(path: Path) -> Iterator[Statement]:
    for beside in (path.with_suffix(".yaml"), path.with_suffix(".yml")):
        if not beside.is_file():
            continue
        text = COMMENT.sub("", read_bytes(beside, MAX_YAML).decode("utf-8-sig", "replace"))
        found = PARAMETERIZATION.search(text) or SCALING.search(text)
        if found or LATENT_DIFFUSION.search(text):
            yield Statement(beside.name, prediction=PREDICTIONS[found[1].lower()] if found else "eps")
        if ZERO_SNR.search(text):
            yield Statement(beside.name, zero_snr=True)
        elif found is None and not LATENT_DIFFUSION.search(text):
            warn(f"{beside} says nothing that is known here of what {path.name} predicts; it is not used")


def apply(spec: Spec, family: Family, stated: list[Statement], path: Path) -> Spec:
    """The spec as the statements have it; of two that contradict each other the first counts, which a warning says."""
    for one in stated:
        # What is said of "sd2" is also said of its inpainting model.
        if one.family is not None and one.family != family.name and not family.name.startswith(f"{one.family}_"):
            warn(f"{path} says in {one.source} that it is another model, but its tensors are {family.spec.title}'s")
    stated = [one for one in stated if one.family in (None, family.name)]
    variant, prediction, levels, zero_snr, sides = (
        _first(stated, field, path) for field in ("variant", "prediction", "levels", "zero_snr", "sides")
    )
    if variant in {release.variant for release in family.releases}:
        spec = family.varied(spec, variant)
    if prediction is not None:
        spec = family.predicting(spec, prediction)
    if levels is not None:
        noise = NoiseSchedule(kind="karras", start=levels[0], end=levels[1])
        sampling = replace(spec.defaults, sampler="dpmpp_2m", schedule="karras")
        spec = replace(spec, noise=noise, discrete_timesteps=False, defaults=sampling)
    if zero_snr:
        spec = with_zero_snr(spec, True)
    if sides is not None and all(side in SIDES and side % spec.multiple == 0 for side in sides):
        spec = replace(spec, defaults=replace(spec.defaults, width=sides[0], height=sides[1]))
    return spec


def _first(stated: list[Statement], field: str, path: Path) -> Any:
    """The first statement's value of a field, None without one; a warning where a later one has another."""
    known = [(one.source, value) for one in stated if (value := getattr(one, field)) is not None]
    for source, value in known[1:]:
        if value != known[0][1]:
            said = f"{field} is {known[0][1]} by {known[0][0]}, but {value} by {source}"
            warn(f"{path} contradicts itself: the {said}; the first is taken")
    return known[0][1] if known else None


def with_zero_snr(spec: Spec, zero: bool) -> Spec:
    """The spec with noise levels that end, or do not end, at pure noise. Raises SfumatoError for a flow.

    Where they do, times are spaced from the last step on (Lin et al. 2023, section 3.3), which others leave out.
    """
    if spec.prediction not in ("eps", "v", "x0"):
        raise SfumatoError(f"{spec.title} predicts {spec.prediction!r}, which has no zero terminal SNR; leave it out")
    if spec.noise.zero_terminal_snr == zero:
        return spec
    schedule = "trailing" if zero else spec.defaults.schedule
    return replace(
        spec,
        noise=replace(spec.noise, zero_terminal_snr=zero),
        defaults=replace(spec.defaults, schedule=schedule),
    )
