"""Which weights of a model the layers of an adapter's file are, whichever trainer named them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain

from sfumato.checkpoint.keymap import Rule
from sfumato.families import family
from sfumato.families.layouts import ldm_unet
from sfumato.spec import Spec

TEXTS = ("text", "text_2", "text_3")
# What trainers put before the names of the network that draws, dots written as underscores.
DENOISER = (
    "lora_unet_", "lora_transformer_", "lycoris_unet_", "lycoris_transformer_", "lycoris_", "unet_", "transformer_",
    "diffusion_model_", "model_diffusion_model_", "lora_unet_diffusion_model_", "base_model_model_", "lora_", "",
)  # fmt: skip
# And before those of the text encoders, in the order of `TEXTS`.
ENCODERS = (
    ("lora_te1_", "lora_te_", "lycoris_te1_", "lycoris_te_", "text_encoder_", "lycoris_text_encoder_",
     "clip_l_transformer_", "text_encoders_clip_l_transformer_", "clip_h_transformer_",
     "text_encoders_clip_h_transformer_"),
    ("lora_te2_", "lycoris_te2_", "text_encoder_2_", "lycoris_text_encoder_2_", "clip_g_transformer_",
     "text_encoders_clip_g_transformer_"),
    ("lora_te3_", "lycoris_te3_", "text_encoder_3_", "t5xxl_transformer_", "text_encoders_t5xxl_transformer_"),
)  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """A tensor of a model as an adapter's file means it: `rule` joins it of parameters of ours, in `part`.

    `block` is that of a U-Net, see `blocks`; empty where there is none.
    """

    part: str
    rule: Rule
    shape: tuple[int, ...]
    block: str = ""

    @property
    def name(self) -> str:
        """The name of our module, or of the first where a file means several as one."""
        return self.rule.ours[0].rpartition(".")[0]


@dataclass(frozen=True)
class LayerNames:
    """The layers of a model by part and by every name that files have for them."""

    spec: Spec
    tables: dict[str, dict[str, Layer]] = field(repr=False)
    prefixes: dict[str, tuple[str, ...]] = field(repr=False)

    def find(self, name: str, tensor: str) -> Layer | None:
        """The layer of this name whose "weight" or "bias" is meant; None where the model has none."""
        name = name.replace(".", "_")
        for part, prefixes in self.prefixes.items():
            for prefix in prefixes:
                if name.startswith(prefix):
                    found = self.tables[part].get(f"{name[len(prefix) :]}.{tensor}")
                    if found is not None:
                        return found
        return None


@lru_cache(maxsize=32)
def layer_names(spec: Spec) -> LayerNames:
    """The names of all layers that adapters change: of the network that draws, and of the text encoders."""
    model = family(spec.family)
    networks = model.build(spec)
    parts = [part for part in (model.denoiser, *TEXTS) if part in networks]
    towers = [part for part in parts if part in TEXTS]
    tables: dict[str, dict[str, Layer]] = {}
    prefixes: dict[str, tuple[str, ...]] = {}
    for part in parts:
        state = {name: tensor.to("meta") for name, tensor in networks[part].state_dict().items()}
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        in_unet = ldm_unet.blocks(spec.unet) if part == "unet" else {}
        blocks = {name: _block(name, in_unet) if in_unet else "" for name in state}
        table = {
            _plain(name): Layer(part, Rule((name,), (name,)), shape, blocks[name]) for name, shape in shapes.items()
        }
        before = {model.denoiser: DENOISER, **dict(zip(TEXTS, ENCODERS, strict=True))}[part]
        if towers == [part]:  # whatever its number, it is the only one
            before = (*chain(*ENCODERS), "")
        for layout in model.layouts.values():
            theirs = layout.prefixes[part]
            before += (theirs.replace(".", "_").replace("/", "_"),)
            for rule in layout.rules(spec, part, state):
                (joined,) = rule.transform.to_theirs([state[name] for name in rule.ours])
                for name in _names(rule.theirs[0].removeprefix(theirs)):
                    table.setdefault(name, Layer(part, rule, tuple(joined.shape), blocks[rule.ours[0]]))
        tables[part], prefixes[part] = table, tuple(sorted(set(before), key=len, reverse=True))
    return LayerNames(spec, tables, prefixes)


def _block(name: str, in_unet: Mapping[str, str]) -> str:
    """The block of a U-Net that a tensor is in, such as "IN04", "MID" or "OUT03"; "BASE" is what is in none."""
    while name and name not in in_unet:
        name = name.rpartition(".")[0]
    side, _, rest = in_unet.get(name, "").partition(".")
    if side == "middle_block":
        return "MID"
    number = rest.partition(".")[0]
    return {"input_blocks": f"IN{number:0>2}", "output_blocks": f"OUT{number:0>2}"}.get(side, "BASE")


def _plain(name: str) -> str:
    module, _, tensor = name.rpartition(".")
    return f"{module.replace('.', '_')}.{tensor}"


def _names(name: str) -> Iterator[str]:
    """A tensor's name in a table; torch's own attention joins three layers in `in_proj_weight`."""
    if name.endswith(("in_proj_weight", "in_proj_bias")):
        name = name.replace("in_proj_", "in_proj.")
    yield _plain(name)
