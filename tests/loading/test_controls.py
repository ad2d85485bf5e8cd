"""ControlNets in the layouts of their authors, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sfumato.checkpoint.keymap import KeyMap, Rule
from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.families.layouts import controlnet as layout
from sfumato.families.layouts import ldm_unet
from sfumato.loading.controls import control_title, load_control
from sfumato.nets.controlnet import ControlNet, MMDiTControlNet, T2IAdapter
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.unet import UNet
from sfumato.spec import ControlNetConfig, MMDiTConfig, MMDiTControlConfig, T2IAdapterConfig, UNetConfig

ONE = UNetConfig(channels=(32, 64, 64, 64), blocks=1, depth=(1, 1, 1, 0), context_dim=16, heads=4)
THREE = MMDiTConfig(hidden=64, heads=1, depth=4, context_dim=24, pooled_dim=16, positions=8)
EIGHT = MMDiTControlConfig(replace(THREE, depth=2), 64, joint=False, own_patches=False, positions=False)
TWO = MMDiTControlConfig(
    replace(THREE, depth=2, pooled_dim=64), 64, joint=False, positions=False, chained=False, own_pooled=False
)


def filled(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network.eval()


def theirs(network: nn.Module, rules: list[Rule]) -> dict[str, Tensor]:
    named = KeyMap({"it": tuple(rules)}).to_theirs("it", network.state_dict())
    return {name: tensor.clone().contiguous() for name, tensor in named.items()}


def same(loaded: nn.Module, network: nn.Module) -> bool:
    ours, others = loaded.state_dict(), network.state_dict()
    return ours.keys() == others.keys() and all(torch.equal(ours[name], others[name]) for name in ours)


@pytest.mark.parametrize("prefix", ["control_model.", ""])
def test_original_controlnet(prefix: str, tmp_path: Path) -> None:
    cfg = ControlNetConfig(ONE)
    network = filled(ControlNet(cfg))
    tensors = theirs(network, layout.unet_rules(cfg, network.state_dict(), prefix))
    if prefix:  # a file of the training holds the model and its schedule too
        tensors |= {"betas": torch.zeros(3), "model.diffusion_model.out.2.bias": torch.zeros(4)}
    save_file(tensors, tmp_path / "one.safetensors")
    loaded = load_control(tmp_path / "one.safetensors", UNet(ONE))
    assert loaded.title == "a ControlNet" and same(loaded.network, network)


def test_pooled_ones_are_known_by_their_name(tmp_path: Path) -> None:
    cfg = ControlNetConfig(ONE)
    network = filled(ControlNet(cfg))
    path = tmp_path / "control_v11e_sd15_shuffle.safetensors"
    save_file(theirs(network, layout.unet_rules(cfg, network.state_dict(), "control_model.")), path)
    loaded = load_control(path, UNet(ONE)).network
    assert isinstance(loaded, ControlNet) and loaded.control.pooled


@pytest.mark.parametrize(
    "cfg",
    [
        T2IAdapterConfig((32, 64, 64, 64)),
        T2IAdapterConfig((32, 64, 64, 64), hint_channels=1),
        T2IAdapterConfig((32, 64, 64, 64), blocks=3, light=True),
    ],
    ids=["full", "grey", "light"],
)
def test_original_t2i_adapter(cfg: T2IAdapterConfig, tmp_path: Path) -> None:
    network = filled(T2IAdapter(cfg))
    save_file(theirs(network, layout.t2i_rules(cfg, network.state_dict(), "")), tmp_path / "one.safetensors")
    loaded = load_control(tmp_path / "one.safetensors", UNet(ONE))
    assert loaded.title == "a T2I-Adapter" and same(loaded.network, network)
    hint = torch.rand(1, 3, 64, 64)
    for mine, other in zip(loaded.network.prepare(hint), network.prepare(hint), strict=True):
        assert torch.allclose(mine, other, atol=1e-5)


def control_lora(base: UNet, rank: int = 3) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A file that changes the attention and a convolution of a copy, and the copy's changed weights by our names."""
    torch.manual_seed(3)
    cfg = ControlNetConfig(ONE)
    own = filled(ControlNet(cfg))
    tensors = {name: value for name, value in theirs(own, layout.unet_rules(cfg, own.state_dict(), "")).items()
               if name.startswith(("input_hint_block", "zero_convs", "middle_block_out"))}  # fmt: skip
    expected = {}
    for rule in ldm_unet.rules(ONE, base.state_dict(), ""):
        (name,), (other,) = rule.ours, rule.theirs
        if other.startswith("input_blocks.1.") and other.endswith(".weight") and base.state_dict()[name].ndim > 1:
            old = base.state_dict()[name]
            up, down = torch.randn(len(old), rank), torch.randn(rank, old[0].numel())
            layer = other.removesuffix(".weight")
            tensors |= {f"{layer}.up": up, f"{layer}.down": down.view(rank, *old.shape[1:])}
            expected[name] = old + (up @ down).view_as(old)
        elif other == "time_embed.0.bias":
            tensors[other] = expected[name] = torch.randn(128)
    return {**tensors, "lora_controlnet": torch.zeros(0)}, expected


def test_control_lora_changes_a_copy_of_the_model(tmp_path: Path) -> None:
    base = filled(UNet(ONE))
    tensors, expected = control_lora(base)
    save_file(tensors, tmp_path / "lora.safetensors")
    loaded = load_control(tmp_path / "lora.safetensors", base)
    assert loaded.title == "a control-LoRA" and len(expected) > 8
    state = loaded.network.state_dict()
    for name, tensor in base.state_dict().items():
        if name in state:
            assert torch.allclose(state[name], expected.get(name, tensor), atol=1e-5), name
    unchanged = "down_blocks.1.resnets.0.conv1.weight"
    assert state[unchanged].data_ptr() == base.state_dict()[unchanged].data_ptr()
    save_file({**tensors, "input_blocks.99.weight": torch.zeros(1)}, tmp_path / "more.safetensors")
    with pytest.raises(SfumatoError, match=r"1 left over \(input_blocks\.99\.weight\)"):
        load_control(tmp_path / "more.safetensors", base)


def test_a_difference_is_added_to_the_model(tmp_path: Path) -> None:
    base, cfg = filled(UNet(ONE)), ControlNetConfig(ONE)
    torch.manual_seed(5)
    change = filled(ControlNet(cfg))
    tensors = theirs(change, layout.unet_rules(cfg, change.state_dict(), "control_model."))
    save_file({**tensors, "difference": torch.zeros(0)}, tmp_path / "one.safetensors")
    state = load_control(tmp_path / "one.safetensors", base).network.state_dict()
    for name, tensor in change.state_dict().items():
        assert torch.equal(state[name], base.state_dict().get(name, torch.zeros(())) + tensor), name


@pytest.mark.parametrize("cfg", [EIGHT, TWO], ids=["8b", "2b"])
@torch.no_grad()
def test_controlnets_of_35_in_their_authors_layout(cfg: MMDiTControlConfig, tmp_path: Path) -> None:
    base, network = filled(MMDiT(THREE)), filled(MMDiTControlNet(cfg))
    tensors = theirs(network, layout.mmdit_rules(cfg, network.state_dict(), ""))
    tensors["control_type"] = torch.tensor([1], dtype=torch.int32)
    if cfg is EIGHT:
        tensors["pos_embed.proj.weight"] = torch.zeros(64, 16, 2, 2)  # there, and never read
    save_file(tensors, tmp_path / "one.safetensors")
    loaded = load_control(tmp_path / "one.safetensors", base)
    assert same(loaded.network, network) and loaded.network.control == cfg
    assert loaded.shift and loaded.canny is (cfg is EIGHT)

    x, t, cond = torch.randn(1, 16, 8, 8), torch.tensor([300.0]), Cond(torch.randn(1, 3, 24), torch.randn(1, 16))
    hint = torch.randn(1, 16, 8, 8)
    text = base.time_text_embed.text_embedder
    made = loaded.network(x, t, cond, loaded.network.prepare(hint), base.pos_embed, text)
    # As the authors' own code goes.
    tokens = base.pos_embed(x) if cfg is EIGHT else network.pos_embed(x)
    tokens = tokens + network.pos_embed_input(hint)
    vector = network.time_text_embed(t, cond.pooled if cfg is EIGHT else text(cond.pooled))
    for residual, block, out in zip(made, network.transformer_blocks, network.controlnet_blocks, strict=True):
        result = block(tokens, vector)
        assert torch.allclose(residual, out(result), atol=1e-5)
        tokens = result if cfg is EIGHT else tokens


def test_what_is_not_whole_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    cfg = ControlNetConfig(ONE)
    network = filled(ControlNet(cfg))
    tensors = theirs(network, layout.unet_rules(cfg, network.state_dict(), ""))
    del tensors["zero_convs.2.0.bias"]
    save_file(tensors, tmp_path / "one.safetensors")
    with pytest.raises(SfumatoError, match=r"no whole one: 1 missing \(zero_convs\.2\.0\.bias\)"):
        load_control(tmp_path / "one.safetensors", UNet(ONE))
    save_file({"bias": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(SfumatoError, match="give a ControlNet or a T2I-Adapter"):
        load_control(tmp_path / "other.safetensors", UNet(ONE))
    assert control_title({"bias": (3,)}) is None
