"""Names, shapes and parameter counts of the released models, against the networks that we would build for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sfumato.checkpoint import diffusers_config
from sfumato.checkpoint.keymap import KeyMap, Rule
from sfumato.families import family, sd2, sdxl
from sfumato.families.layouts import controlnet, midas
from sfumato.families.layouts.open_clip import LOGIT_SCALE
from sfumato.families.ldm import DEPTH
from sfumato.nets.clip import CLIPText
from sfumato.nets.controlnet import ControlNet
from sfumato.nets.dpt import DPT
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.t5 import T5
from sfumato.nets.unet import UNet
from sfumato.nets.vae import VAE
from sfumato.spec import ControlNetConfig, Spec
from sfumato.verify.cases import Case, Result, counted, files, listed, read_json, stem, strangers, unsupported

Shapes = dict[str, tuple[int, ...]]


PART_NAMES = {"unet": "unet", "vae": "vae", "text": "text_encoder"}  # ours, the manifests'


@dataclass(frozen=True)
class Release:
    """Which of our specs a manifest of the original layout describes.

    `parts` are the manifest's names of our parts, and all that it lists; `unused` are tensors that it counts in a part
    and no network needs. `before` stands before a part's names in the layout, where the manifest only names the part.
    """

    spec: Spec
    parts: Mapping[str, str] = field(default_factory=lambda: PART_NAMES)
    unused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ema_only: bool = False
    before: str = ""


MMDIT = {"transformer": "mmdit", "vae": "vae"}  # the text encoders are in a manifest of their own
CONTROL = {"control": "control_model"}
OPEN_CLIP = {"text": (sd2.TEXT + LOGIT_SCALE,)}
ORIGINAL = {
    "sd1": Release(family("sd1").spec),
    "controlnet_sd15": Release(family("sd1").spec, PART_NAMES | CONTROL),
    "controlnet_sd21": Release(family("sd2").spec, PART_NAMES | CONTROL, unused=OPEN_CLIP),
    "sd1_model_ema": Release(family("sd1").spec, ema_only=True),
    "sd15_inpainting": Release(family("sd1_inpainting").spec),
    "sd20_base_sd21_base": Release(family("sd2").spec, unused=OPEN_CLIP),
    "sd21_v_768": Release(family("sd2").spec, unused=OPEN_CLIP),
    "sd2_inpainting": Release(family("sd2_inpainting").spec, unused=OPEN_CLIP),
    "sd2_depth": Release(
        family("sd2_depth").spec,
        {**PART_NAMES, "depth": "depth_model"},
        unused={**OPEN_CLIP, "depth": (f"{DEPTH}{midas.HEAD}weight", f"{DEPTH}{midas.HEAD}bias")},
    ),
    "sd2_x4_upscaler": Release(family("sd2_upscaler").spec, unused=OPEN_CLIP),
    "sdxl_base": Release(
        family("sdxl").spec,
        {"unet": "unet", "vae": "vae", "text": "embedder_0", "text_2": "embedder_1"},
        unused={"text_2": (sdxl.BIG_G + LOGIT_SCALE,)},
    ),
    "sdxl_refiner": Release(
        family("sdxl_refiner").spec,
        {"unet": "unet", "vae": "vae", "text": "embedder_0"},
        unused={"text": (sdxl.REFINER_BIG_G + LOGIT_SCALE,)},
    ),
    **{name: Release(family(name).spec, MMDIT) for name in ("sd3_medium", "sd35_medium", "sd35_large")},
    "sd3_text_encoders": Release(
        family("sd3_medium").spec,
        {"text": "clip_l", "text_2": "clip_g", "text_3": "t5xxl"},
        before="text_encoders.%s.transformer.",
    ),
}

# The classes of a folder's components that our networks read, and how.
COMPONENTS: Mapping[str, Callable[[dict[str, Any]], nn.Module]] = {
    "UNet2DConditionModel": lambda config: UNet(diffusers_config.unet_from(config)),
    "ControlNetModel": lambda config: ControlNet(_control_sizes(config)),
    "SD3Transformer2DModel": lambda config: MMDiT(diffusers_config.mmdit_from(config)),
    "DPTForDepthEstimation": lambda config: DPT(diffusers_config.dpt_from(config)),
    "T5EncoderModel": lambda config: T5(diffusers_config.t5_from(config)),
    "AutoencoderKL": lambda config: VAE(diffusers_config.vae_from(config)),
    "CLIPTextModel": lambda config: CLIPText(diffusers_config.clip_from(config)),
    "CLIPTextModelWithProjection": lambda config: CLIPText(diffusers_config.clip_from(config)),
}


def find(folder: Path) -> Iterator[Case]:
    layouts = {"original": _original, "diffusers": _component}
    yield from strangers(folder, layouts)
    for layout, compare in layouts.items():
        if not (folder / layout).is_dir():
            continue
        for path in files(folder / layout):
            name = f"manifests/{layout}/{stem(path)}"
            yield from listed(path, name, partial(_case, name, compare))


def _case(name: str, compare: Callable[[str, dict[str, Any]], Result], path: Path) -> Iterator[Case]:
    yield Case(name, partial(compare, stem(path), read_json(path)))


def _shapes(keys: Mapping[str, Any]) -> Shapes:
    return {name: tuple(shape) for name, (shape, _) in keys.items()}


def _compare(keymap: KeyMap, expected: Shapes, found: Shapes, not_ours: set[str], counts: dict[str, tuple]) -> Result:
    """Every tensor accounted for, nothing ignored but `not_ours`, and (our, their) parameter counts equal."""
    match = keymap.match(expected, found)
    wrong = [*match.missing, *match.left_over, *match.misshapen, *(set(match.ignored) ^ not_ours)]
    wrong += [f"{part}: {ours} parameters, not {theirs}" for part, (ours, theirs) in counts.items() if ours != theirs]
    return counted(len(wrong), len(found) + len(counts), "; ".join(sorted(wrong)[:3]))


def _original(name: str, manifest: dict[str, Any]) -> Result:
    if name not in ORIGINAL:
        raise unsupported(f"the original layout of {name}")
    release = ORIGINAL[name]
    owner = family(release.spec.family)
    networks = {part: network for part, network in owner.build(release.spec).items() if part in release.parts}
    if release.ema_only:
        networks = {owner.denoiser: networks[owner.denoiser]}
    keymap = owner.keymap(release.spec, "original", networks, ema=release.ema_only)
    if "control" in release.parts:
        networks["control"], rules = _control(release.spec)
        keymap = replace(keymap, parts={**keymap.parts, "control": rules})
    expected = {
        theirs: tuple(tensor.shape)
        for part, network in networks.items()
        for theirs, tensor in keymap.to_theirs(part, network.state_dict()).items()
    }
    found = _shapes(manifest["keys"] | manifest.get("legacy_extra_keys", {}))
    found = {_placed(key, release.before): shape for key, shape in found.items()}
    if release.ema_only:
        bookkeeping = {"model_ema.decay", "model_ema.num_updates"}
        plain = owner.keymap(release.spec, "original", networks).parts[owner.denoiser]
        averaged = keymap.parts[owner.denoiser]
        renamed = {a.theirs[0]: b.theirs[0] for a, b in zip(plain, averaged, strict=True)}
        wrong = {key for key in renamed | manifest["name_map"] if renamed.get(key) != manifest["name_map"].get(key)}
        found |= {f"renamed {key}": () for key in wrong}  # nothing expects these: each is one mismatch
        return _compare(keymap, expected, found, bookkeeping, {})
    unused = {name for names in release.unused.values() for name in names}
    ignored = (*manifest["persistent_buffers"], *manifest["legacy_extra_keys"])
    buffers = {_placed(key, release.before) for key in ignored} | unused
    counts = {
        part: (
            _count(network) + sum(prod(found.get(name, (0,))) for name in release.unused.get(part, ())),
            manifest["parameter_counts"][release.parts[part]],
        )
        for part, network in networks.items()
    }
    return _compare(keymap, expected, found, buffers - expected.keys(), counts)


def _control(spec: Spec) -> tuple[nn.Module, tuple[Rule, ...]]:
    """The ControlNet of a release, without memory, and its names beside the model that it was trained with."""
    sizes = ControlNetConfig(spec.unet)
    with torch.device("meta"):
        network = ControlNet(sizes)
    return network, tuple(controlnet.unet_rules(sizes, network.state_dict(), "control_model."))


def _control_sizes(config: dict[str, Any]) -> ControlNetConfig:
    hint = (3, *config["conditioning_embedding_out_channels"])
    others = {name: value for name, value in config.items() if not name.startswith(("_class", "conditioning"))}
    return ControlNetConfig(diffusers_config.unet_from(others), hint)


def _placed(key: str, before: str) -> str:
    part, _, name = key.partition(".")
    return before % part + name if before else key


def _component(name: str, manifest: dict[str, Any]) -> Result:
    """One folder of the diffusers layout, built from the values of its own config."""
    if manifest["class"] not in COMPONENTS:
        raise unsupported(f"the component {manifest['class']}")
    with torch.device("meta"):
        network = COMPONENTS[manifest["class"]](manifest["config_json"])
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    counts = {"component": (_count(network), manifest["total_parameters"])}
    found = _shapes(manifest["keys"])
    buffers = set(manifest["persistent_buffers"]) - expected.keys()
    return _compare(KeyMap({}, ignored=(r"encoder\.embed_tokens\.weight",)), expected, found, buffers, counts)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
