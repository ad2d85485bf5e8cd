"""IP-Adapters equal diffusers', from the files that their authors write; rows differ in strength."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sfumato.adapters import ip_adapter
from sfumato.checkpoint.open import open_checkpoint
from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.nets.clip_vision import ImageStates
from sfumato.nets.ip_adapter import IPAdapter, cross_attentions, with_image_prompts
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.unet import UNet
from sfumato.spec import MMDiTConfig, UNetConfig

diffusers = pytest.importorskip("diffusers")
TEXT, POOLED, VECTOR, HIDDEN, PATCHES = 48, 20, 24, 80, 9
SMALL = UNetConfig(channels=(32, 64), depth=(1, 2), blocks=1, context_dim=TEXT, heads=4, middle_depth=2)


@pytest.fixture(scope="module")
def theirs() -> torch.nn.Module:
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, down_block_types=["CrossAttnDownBlock2D"] * 2,
        up_block_types=["CrossAttnUpBlock2D"] * 2, transformer_layers_per_block=[1, 2], cross_attention_dim=TEXT,
        attention_head_dim=4, mid_block_type="UNetMidBlock2DCrossAttn",
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def ours(theirs: torch.nn.Module) -> UNet:
    network = UNet(SMALL).eval().requires_grad_(False)
    network.load_state_dict(theirs.state_dict())
    return network


def widths(network: UNet) -> list[int]:
    return [layer.attn2.to_q.in_features for layer in cross_attentions(network)]


def a_file(kind: str, network: UNet, seed: int = 0) -> dict[str, Tensor]:
    """The tensors of an IP-Adapter of a kind."""
    torch.manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape) / shape[-1] ** 0.5

    if kind == "plain":
        parts = {"proj.weight": noise(4 * TEXT, VECTOR), "proj.bias": noise(4 * TEXT)}
        parts |= {"norm.weight": 1 + noise(TEXT), "norm.bias": noise(TEXT)}
    elif kind == "full":
        parts = {"proj.0.weight": noise(HIDDEN, HIDDEN), "proj.0.bias": noise(HIDDEN),
                 "proj.2.weight": noise(TEXT, HIDDEN), "proj.2.bias": noise(TEXT),
                 "proj.3.weight": 1 + noise(TEXT), "proj.3.bias": noise(TEXT)}  # fmt: skip
    else:
        wide, inner = 96, 128
        parts = {"latents": noise(1, 5, wide), "proj_in.weight": noise(wide, HIDDEN), "proj_in.bias": noise(wide),
                 "proj_out.weight": noise(TEXT, wide), "proj_out.bias": noise(TEXT),
                 "norm_out.weight": 1 + noise(TEXT), "norm_out.bias": noise(TEXT)}  # fmt: skip
        for i in range(4):
            for norm in ("0.norm1", "0.norm2", "1.0"):
                parts |= {f"layers.{i}.{norm}.weight": 1 + noise(wide), f"layers.{i}.{norm}.bias": noise(wide)}
            parts |= {f"layers.{i}.0.to_q.weight": noise(inner, wide), f"layers.{i}.0.to_kv.weight": noise(256, wide),
                      f"layers.{i}.0.to_out.weight": noise(wide, inner), f"layers.{i}.1.1.weight": noise(384, wide),
                      f"layers.{i}.1.3.weight": noise(wide, 4 * wide)}  # fmt: skip
    tensors = {f"image_proj.{name}": one for name, one in parts.items()}
    for place, width in enumerate(widths(network)):
        for side in "kv":
            tensors[f"ip_adapter.{2 * place + 1}.to_{side}_ip.weight"] = noise(width, TEXT)
    return tensors


def nested(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """As .bin files keep it, and as diffusers takes it."""
    found: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, one in tensors.items():
        part, _, rest = name.partition(".")
        found[part][rest] = one
    return found


def loaded(path: Path, network: UNet) -> IPAdapter:
    with open_checkpoint(path) as checkpoint:
        return ip_adapter.read(checkpoint, network, "1.5")


def seen(seed: int, rows: int = 1) -> ImageStates:
    generator = torch.Generator().manual_seed(seed)
    hidden = tuple(torch.randn(rows, PATCHES, HIDDEN, generator=generator) for _ in range(3))
    return ImageStates(hidden, torch.randn(rows, VECTOR, generator=generator))


GENERATOR = torch.Generator().manual_seed(1)
X, TOKENS = torch.randn(2, 4, 8, 8, generator=GENERATOR), torch.randn(2, 7, TEXT, generator=GENERATOR)
T = torch.tensor([20, 700])


@pytest.mark.parametrize("kinds", [("plain",), ("full",), ("plus",), ("plain", "plus")])
@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_it_equals_diffusers(
    kinds: tuple[str, ...], ending: str, theirs: torch.nn.Module, ours: UNet, tmp_path: Path, write: Callable[..., Path]
) -> None:
    adapters, embeds, tokens, strengths, files = [], [], [], [0.7, 0.4][: len(kinds)], []
    for k, kind in enumerate(kinds):
        tensors, picture = a_file(kind, ours, k), seen(k, 2)
        path = tmp_path / f"{kind}.bin"
        if ending == "bin":
            torch.save(nested(tensors), path)
        adapter = loaded(path if ending == "bin" else write(tensors, f"{kind}.safetensors"), ours)
        with torch.no_grad():
            tokens.append(adapter.tokens(picture, picture)[0])
        adapters.append((adapter, tokens[-1].shape[1]))
        embeds.append((picture.vector if kind == "plain" else picture.hidden[-2])[:, None])
        files.append(nested(tensors))
    view = with_image_prompts(ours, adapters)
    theirs._load_ip_adapter_weights(files, low_cpu_mem_usage=False)
    try:
        for processor in theirs.attn_processors.values():
            if hasattr(processor, "scale"):
                processor.scale = strengths
        with torch.no_grad():
            reference = theirs(X, T, TOKENS, added_cond_kwargs={"image_embeds": embeds}).sample
            cond = Cond(TOKENS, image_tokens=torch.cat(tokens, 1), image_strengths=torch.tensor([strengths] * 2))
            torch.testing.assert_close(view(X, T, cond), reference, atol=2e-5, rtol=1e-4)
            assert not torch.allclose(ours(X, T, Cond(TOKENS)), reference, atol=1e-3)
    finally:
        theirs.encoder_hid_proj = None
        theirs.config.encoder_hid_dim_type = None
        theirs.set_default_attn_processor()


@pytest.mark.parametrize("kind", ["plain", "full", "plus"])
def test_it_equals_diffusers_on_xl(kind: str, tmp_path: Path, write: Callable[..., Path]) -> None:
    """Whose finest level does not look at text, so that files count other layers, and which is told sizes."""
    torch.manual_seed(0)
    theirs = diffusers.UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"], transformer_layers_per_block=[1, 2],
        cross_attention_dim=TEXT, attention_head_dim=4, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=POOLED + 6 * 256,
    ).eval()  # fmt: skip
    sizes = replace(SMALL, depth=(0, 2), linear_projection=True, vector_dim=POOLED + 6 * 256)
    ours = UNet(sizes).eval().requires_grad_(False)
    ours.load_state_dict(theirs.state_dict())
    tensors, picture = a_file(kind, ours), seen(0, 2)
    adapter = loaded(write(tensors), ours)
    with torch.no_grad():
        tokens = adapter.tokens(picture, picture)[0]
    theirs._load_ip_adapter_weights([nested(tensors)], low_cpu_mem_usage=False)
    for processor in theirs.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [0.6]
    pooled, ids = torch.randn(2, POOLED, generator=torch.Generator().manual_seed(2)), torch.tensor([[64.0] * 6] * 2)
    image = (picture.vector if kind == "plain" else picture.hidden[-2])[:, None]
    with torch.no_grad():
        added = {"image_embeds": [image], "text_embeds": pooled, "time_ids": ids}
        reference = theirs(X, T, TOKENS, added_cond_kwargs=added).sample
        cond = Cond(TOKENS, pooled, ids, image_tokens=tokens, image_strengths=torch.tensor([[0.6]] * 2))
        view = with_image_prompts(ours, [(adapter, tokens.shape[1])])
        torch.testing.assert_close(view(X, T, cond), reference, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["plain", "plus"])
def test_rows_may_differ(kind: str, ours: UNet, write: Callable[..., Path]) -> None:
    adapter = loaded(write(a_file(kind, ours)), ours)
    one, none = adapter.tokens(seen(3), seen(4))
    view = with_image_prompts(ours, [(adapter, one.shape[1])])

    def cond(tokens: Tensor, rows: slice, *strengths: float) -> Cond:
        return Cond(TOKENS[rows], image_tokens=tokens, image_strengths=torch.tensor(strengths)[:, None])

    both = view(X, T, cond(torch.cat([one, none]), slice(None), 0.8, 0.3))
    first = view(X[:1], T[:1], cond(one, slice(0, 1), 0.8))
    second = view(X[1:], T[1:], cond(none, slice(1, 2), 0.3))
    torch.testing.assert_close(both, torch.cat([first, second]), atol=1e-5, rtol=1e-5)
    plain = ours(X, T, Cond(TOKENS))
    torch.testing.assert_close(view(X, T, cond(torch.cat([one, none]), slice(None), 0, 0)), plain)
    assert not torch.allclose(both, plain, atol=1e-3)


def test_none_is_a_vector_of_zeros(ours: UNet, write: Callable[..., Path]) -> None:
    adapter = loaded(write(a_file("plain", ours)), ours)
    _, none = adapter.tokens(seen(0), seen(1))
    zeros = ImageStates((), torch.zeros(1, VECTOR))
    assert torch.equal(none, adapter.image_proj(zeros))
    plus = loaded(write(a_file("plus", ours)), ours)
    assert torch.equal(plus.tokens(seen(0), seen(1))[1], plus.image_proj(seen(1)))


def test_nothing_is_left_behind(ours: UNet, write: Callable[..., Path]) -> None:
    before = {name: one.clone() for name, one in ours.state_dict().items()}
    adapter = loaded(write(a_file("plain", ours)), ours)
    view = with_image_prompts(ours, [(adapter, 4)])
    kept = {id(one) for one in [*ours.parameters(), *adapter.parameters()]}
    assert all(id(one) in kept for one in view.parameters())
    assert all(torch.equal(one, before[name]) for name, one in ours.state_dict().items())


def test_others_are_named(ours: UNet, write: Callable[..., Path]) -> None:
    tensors = a_file("plain", ours)
    fewer = {name: one for name, one in tensors.items() if not name.startswith("ip_adapter.1.")}
    with pytest.raises(SfumatoError, match=r"was made for .* \(\d+ cross-attentions\); this model is 1.5 \("):
        loaded(write(fewer), ours)
    with pytest.raises(SfumatoError, match="no whole IP-Adapter"):
        loaded(write({name: one for name, one in tensors.items() if name != "image_proj.norm.bias"}), ours)
    with pytest.raises(SfumatoError, match="FaceID, which needs a recogniser of faces"):
        loaded(write(tensors | {"ip_adapter.0.to_q_lora.down.weight": torch.ones(2, 2)}), ours)
    with pytest.raises(SfumatoError, match="is no IP-Adapter"):
        loaded(write({"a": torch.ones(2)}), ours)
    transformer = MMDiT(MMDiTConfig(hidden=64, heads=1, depth=1, positions=8))
    with open_checkpoint(write(tensors)) as checkpoint, pytest.raises(SfumatoError, match="for a U-Net"):
        ip_adapter.read(checkpoint, transformer, "3.5")
