"""Parts that come in files of their own: a VAE or a text encoder, told by keys and shapes and put in its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sfumato.checkpoint import diffusers_config
from sfumato.checkpoint.checkpoint import Checkpoint, Stored
from sfumato.checkpoint.keymap import KeyMap, Rule, Shapes, holds, rename
from sfumato.checkpoint.open import open_checkpoint
from sfumato.errors import SfumatoError, warn
from sfumato.families.layouts import clip_text, ldm_vae, open_clip, t5_text
from sfumato.loading.detect import identify
from sfumato.spec import CLIPTextConfig, CLIPVisionConfig, Spec, T5Config, VAEConfig

PartConfig = VAEConfig | CLIPTextConfig | T5Config


@dataclass(frozen=True)
class Kind:
    """One way in which a part is stored.

    `anchor` matches the name of a tensor that every such part has once; its first group is what stands before all names
    of the part. `sizes(shapes, "")`, `rules(config, names, "")` and `read(config.json, where)` are about names without
    it. `aliases` and `ignored` are as in KeyMap, for such names.
    """

    config: type[PartConfig]
    anchor: str
    sizes: Callable[[Shapes, str], PartConfig]
    rules: Callable[[Any, Iterable[str], str], list[Rule]]
    read: Callable[[diffusers_config.Config, str], PartConfig]
    aliases: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()


def _same(config: PartConfig, names: Iterable[str], prefix: str) -> list[Rule]:
    return rename(names, lambda name: prefix + name)


def _clip_sizes(shapes: Shapes, prefix: str) -> PartConfig:
    width = shapes.get(f"{prefix}text_projection.weight", (None,))[0]
    return replace(clip_text.sizes(shapes, prefix), projection_dim=width)


def _clip(config: diffusers_config.Config, where: str) -> PartConfig:
    nested = config.get("text_config")  # of a whole CLIP
    return diffusers_config.clip_from(nested or config, where)


_VAE_EXTRAS = (r"loss\..*", r"model_ema\..*")
_CLIP_EXTRAS = (r".*position_ids", r"logit_scale", r"(vision_model|visual_projection|visual)\..*", r"attn_mask")
_OLD_ATTENTION = tuple(
    (rf"(.*\.attentions\.0\.){old}\.(weight|bias)", rf"\1{new}.\2") for old, new in ldm_vae.OLD_ATTENTION.items()
)
KINDS = (
    Kind(
        VAEConfig,
        r"(.*)decoder\.mid\.block_1\.conv1\.weight",
        ldm_vae.sizes,
        ldm_vae.rules,
        diffusers_config.vae_from,
        ignored=_VAE_EXTRAS,
    ),
    Kind(
        VAEConfig,
        r"(.*)decoder\.mid_block\.resnets\.0\.conv1\.weight",
        ldm_vae.folder_sizes,
        _same,
        diffusers_config.vae_from,
        aliases=_OLD_ATTENTION,
        ignored=_VAE_EXTRAS,
    ),
    Kind(
        CLIPTextConfig,
        r"(.*?)(?:text_model\.)?embeddings\.token_embedding\.weight",
        _clip_sizes,
        _same,
        _clip,
        aliases=((r"((?:embeddings|encoder|final_layer_norm)\..*)", r"text_model.\1"),),
        ignored=(*_CLIP_EXTRAS, r"text_projection\.weight"),
    ),
    Kind(
        CLIPTextConfig,
        r"(.*)(?<!embeddings\.)token_embedding\.weight",
        open_clip.sizes,
        lambda config, names, prefix: open_clip.rules(names, prefix),
        _clip,
        ignored=(*_CLIP_EXTRAS, r"text_projection"),
    ),
    Kind(
        T5Config,
        r"(.*)(?:encoder\.block\.0\.layer\.0\.SelfAttention\.q|enc\.blk\.0\.attn_q)\.weight",
        t5_text.sizes,
        _same,
        diffusers_config.t5_from,
        aliases=t5_text.ALIASES,
        ignored=t5_text.IGNORED,
    ),
)


NOUNS = {VAEConfig: "VAE", CLIPTextConfig: "CLIP text encoder", T5Config: "T5 text encoder"}
TEXTS = (CLIPTextConfig, T5Config)


@dataclass(frozen=True)
class Component:
    """A part in a checkpoint: its tensors, named without the `prefix` that they share, and its `config.json` if any.

    `label` stands before its tensors' names where several files are read together.
    """

    checkpoint: Checkpoint
    kind: Kind
    prefix: str
    tensors: dict[str, Stored]
    config: PartConfig
    stated: diffusers_config.Config
    label: str

    def mapped(self, keymap: KeyMap, part: str, names: Iterable[str]) -> KeyMap:
        """The map of a model whose `part`, with these parameters, is this one."""
        rules = tuple(self.kind.rules(self.config, names, self.label))
        ignored = (re.escape(self.label) + pattern for pattern in self.kind.ignored)
        return replace(keymap, parts={**keymap.parts, part: rules}, ignored=(*keymap.ignored, *ignored))


@contextmanager
def opened(
    vae: str | Path | None, text_encoders: Iterable[str | Path]
) -> Iterator[tuple[Checkpoint | None, tuple[Checkpoint, ...]]]:
    """The files that a user names beside a model, open as long as the context lasts."""
    with ExitStack() as stack:
        first = None if vae is None else stack.enter_context(open_checkpoint(vae))
        yield first, tuple(stack.enter_context(open_checkpoint(path)) for path in text_encoders)


def find(checkpoint: Checkpoint) -> list[Component]:
    """Every VAE and text encoder in a checkpoint. Raises SfumatoError for one whose sizes cannot be read."""
    anchors = [(kind, re.fullmatch(kind.anchor, name)) for kind in KINDS for name in checkpoint.tensors]
    return [_found(checkpoint, kind, match[1]) for kind, match in anchors if match and match[1][-1:] in ("", ".", "/")]


def _found(checkpoint: Checkpoint, kind: Kind, prefix: str) -> Component:
    own = {name.removeprefix(prefix): one for name, one in checkpoint.tensors.items() if name.startswith(prefix)}
    canonical = KeyMap({}, aliases=kind.aliases).canonical
    tensors = {name if canonical(name) in own else canonical(name): stored for name, stored in own.items()}
    stated = checkpoint.configs.get(f"{prefix}config", {})
    try:
        if stated:
            config = kind.read(stated, f"{checkpoint.path}/{prefix}config.json")
        else:
            config = kind.sizes({name: stored.shape for name, stored in tensors.items()}, "")
    except (LookupError, ValueError) as error:
        text = f"holds a {NOUNS[kind.config]} whose sizes cannot be read ({error.args[0]}); it is not whole"
        raise SfumatoError(f"{checkpoint.path} {text}") from error
    return Component(checkpoint, kind, prefix, tensors, config, stated, f"{checkpoint.path.name}: ")


def assign(
    spec: Spec, slots: Iterable[str], vae: Checkpoint | None, text_encoders: Iterable[Checkpoint]
) -> dict[str, Component]:
    """The part of a model that each given checkpoint is, read as the model reads its own. `slots` are fields of Spec.

    Raises SfumatoError for a file that holds no such part, or one that does not fit, and says what would.
    """
    free = {slot: config for slot in slots if isinstance(config := getattr(spec, slot, None), PartConfig)}
    result: dict[str, Component] = {}
    for checkpoint, kinds in [*([(vae, (VAEConfig,))] if vae else []), *((one, TEXTS) for one in text_encoders)]:
        found = [part for part in find(checkpoint) if isinstance(part.config, kinds)]
        if not found:
            wanted = " or ".join(NOUNS[kind] for kind in kinds)
            raise SfumatoError(f"{checkpoint.path} is {identify(checkpoint).title}; a {wanted} is expected here")
        for part in found:
            slot = next((slot for slot, usual in free.items() if _fits(part, usual)), None)
            if slot is None:
                places = [_described(config) for config in free.values() if isinstance(config, kinds)]
                wanted = f"give {' or '.join(places)}" if places else "there is no further place for one"
                raise SfumatoError(
                    f"{checkpoint.path} is {_described(part.config)}, which does not fit {spec.title}; {wanted}"
                )
            result[slot] = replace(part, config=_with_release_settings(part, free.pop(slot)))
    if vae is not None:
        _warn_of_other_latents(vae, spec)
    return result


def _warn_of_other_latents(vae: Checkpoint, spec: Spec) -> None:
    """Say where a VAE comes in a whole model whose latents are scaled otherwise: pictures would lose their colours."""
    family = identify(vae).family
    scale = spec.vae.scale if family is None else family.spec.vae.scale
    if family is not None and scale != spec.vae.scale:
        warn(
            f"{vae.path} is {family.spec.title}, whose VAE was made for other latents (scaled by {scale}, those of "
            f"{spec.title} by {spec.vae.scale}); expect wrong colours"
        )


def elsewhere(checkpoint: Checkpoint, spec: Spec, prefixes: Mapping[str, str]) -> dict[str, Component]:
    """Parts that a single file holds, but under other names than its layout: they count as if they were given apart."""
    slots = [part for part in prefixes if not holds(checkpoint.tensors, prefixes[part])]
    free = {slot: config for slot in slots if isinstance(config := getattr(spec, slot, None), PartConfig)}
    if not free or checkpoint.container == "folder":
        return {}
    result: dict[str, Component] = {}
    for part in find(checkpoint):
        slot = next((slot for slot, usual in free.items() if _fits(part, usual)), None)
        if slot is not None and part.prefix and not part.prefix.startswith(tuple(prefixes.values())):
            config = _with_release_settings(part, free.pop(slot))
            result[slot] = replace(part, config=config, label=part.prefix)
    return result


def _fits(part: Component, usual: PartConfig) -> bool:
    if isinstance(part.config, VAEConfig):
        return isinstance(usual, VAEConfig) and _latents(part.config) == _latents(usual)
    return type(part.config) is type(usual) and part.config.hidden_size == usual.hidden_size


def _latents(config: VAEConfig) -> tuple[int, int, int]:
    return config.latent_channels, config.factor, config.in_channels


def _described(config: PartConfig, article: str = "a") -> str:
    if isinstance(config, VAEConfig):
        return f"{article} VAE ({config.latent_channels} channels, {config.factor} pixels a latent)"
    return f"{article} {NOUNS[type(config)]} ({config.hidden_size} wide)"


def _with_release_settings(part: Component, usual: PartConfig) -> PartConfig:
    """The part's sizes, read as the model reads the one that it replaces. Raises SfumatoError for other latents."""
    read = part.config
    if isinstance(read, VAEConfig) and isinstance(usual, VAEConfig):
        scale = part.stated.get("scaling_factor", usual.scale)
        if scale != usual.scale:
            text = f"is a VAE whose latents are scaled by {scale}, not by {usual.scale}"
            raise SfumatoError(f"{part.checkpoint.path} {text}; give one that was made for this model")
        return replace(read, scale=usual.scale, shift=usual.shift, mean=usual.mean, std=usual.std)
    if isinstance(read, CLIPTextConfig) and isinstance(usual, CLIPTextConfig):
        # Files in transformers' names may leave out a last layer that nothing reads.
        cut = part.kind.rules is _same and usual.normalised and read.layers < usual.layers
        projection = read.projection_dim or (usual.projection_dim if usual.pooled == "projected" else None)
        return replace(
            read,
            activation=usual.activation,
            pad_token_id=read.eos_token_id if usual.pad_token_id else 0,
            projection_dim=None if usual.projection_dim is None else projection,
            skip=1 if cut else usual.skip,
            normalised=usual.normalised,
            pooled=usual.pooled,
        )
    return read


def merge(
    checkpoint: Checkpoint, spec: Spec, prefixes: Mapping[str, str], parts: Mapping[str, Component]
) -> tuple[Checkpoint, Spec]:
    """One checkpoint, with its spec, of a model and of the parts given apart, which replace its own."""
    replaced = (*(prefixes[part] for part in parts), *(one.prefix for one in parts.values() if one.label == one.prefix))
    tensors = {name: stored for name, stored in checkpoint.tensors.items() if not name.startswith(replaced)}
    for found in parts.values():
        tensors |= {found.label + name: stored for name, stored in found.tensors.items()}
    apart = [found.checkpoint for found in parts.values() if found.label != found.prefix]
    files = [file for one in (checkpoint, *apart) for file in one.files]
    changes: dict[str, Any] = {part: found.config for part, found in parts.items()}
    return replace(checkpoint, tensors=tensors, files=files), replace(spec, **changes)


def lacking(path: Path, missing: Iterable[PartConfig | CLIPVisionConfig | None]) -> SfumatoError:
    """What to say of a checkpoint without these parts; None is one that cannot be given apart."""
    parts = list(missing)
    nouns = " and ".join(_lacks(config) for config in parts)
    advice = "give a complete checkpoint"
    if all(isinstance(config, PartConfig) for config in parts):
        flags = dict.fromkeys("--vae" if isinstance(config, VAEConfig) else "--text-encoder" for config in parts)
        advice = f"give {'it' if len(parts) == 1 else 'them'} with {' and '.join(flags)}"
    return SfumatoError(f"{path} holds {nouns}; {advice}")


def _lacks(config: PartConfig | CLIPVisionConfig | None) -> str:
    if isinstance(config, PartConfig):
        return _described(config, "no")
    return "no denoiser" if config is None else "no image encoder"
