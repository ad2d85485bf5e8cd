"""Hypernetworks: read from files of every structure, and put before the attentions of a view."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.adapters.hypernetwork import check, is_hypernetwork, read
from sfumato.checkpoint.open import open_checkpoint
from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.nets.hypernetwork import ACTIVATIONS, Hypernetwork, attention_widths, with_hypernetworks
from sfumato.nets.unet import Attention, UNet
from sfumato.spec import UNetConfig

SMALL = UNetConfig(channels=(32, 64), depth=(1, 1), blocks=1, context_dim=48, heads=4)


def module_of(width: int, structure: tuple[int, ...], activation: str | None, **flags: bool) -> nn.Sequential:
    """Layers by the rule that the web UI's files follow, with all that has a number."""
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(pairwise(structure)):
        layers.append(nn.Linear(width * before, width * after))
        last = i == len(structure) - 2
        if activation not in (None, "linear") and (not last or flags.get("activate_output", True)):
            layers.append(ACTIVATIONS[activation or ""]())
        if flags.get("is_layer_norm"):
            layers.append(nn.LayerNorm(width * after))
        if flags.get("use_dropout") and (
            i < len(structure) - 3 or (flags.get("last_layer_dropout") and i < len(structure) - 2)
        ):
            layers.append(nn.Dropout(0.3))
    return nn.Sequential(*layers).eval()


def saved(path: Path, modules: dict[int, tuple[nn.Sequential, nn.Sequential]], **said: Any) -> Path:
    """A file as the web UI writes it."""
    record: dict[Any, Any] = {"step": 10, "name": "x", "sd_checkpoint": None, **said}
    for width, pair in modules.items():
        record[width] = tuple({f"linear.{name}": one for name, one in part.state_dict().items()} for part in pair)
    torch.save(record, path)
    return path


def loaded(path: Path) -> Hypernetwork:
    with open_checkpoint(path) as checkpoint:
        assert is_hypernetwork(checkpoint.tensors)
        return read(checkpoint)


@pytest.mark.parametrize("structure", [(1, 1), (1, 2, 1), (1, 2, 2, 1), (1, 3, 2, 2, 1)])
@pytest.mark.parametrize("flags", [
    {},
    {"activate_output": False},
    {"is_layer_norm": True},
    {"use_dropout": True},
    {"use_dropout": True, "last_layer_dropout": True, "is_layer_norm": True, "activate_output": False},
])  # fmt: skip
def test_every_structure(structure: tuple[int, ...], flags: dict[str, bool], tmp_path: Path) -> None:
    torch.manual_seed(0)
    pair = module_of(8, structure, "mish", **flags), module_of(8, structure, "mish", **flags)
    said = {"activation_func": "mish", "layer_structure": list(structure), **flags}
    found = loaded(saved(tmp_path / "h.pt", {8: pair}, **said))
    c = torch.randn(2, 3, 8)
    assert found.widths == (8,)
    torch.testing.assert_close(found.keys["8"](c), pair[0](c))
    torch.testing.assert_close(found.values["8"](c), pair[1](c))


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation(name: str, tmp_path: Path) -> None:
    pair = module_of(4, (1, 2, 1), name), module_of(4, (1, 2, 1), name)
    found, c = loaded(saved(tmp_path / "h.pt", {4: pair}, activation_func=name)), torch.randn(1, 2, 4)
    torch.testing.assert_close(found.keys["4"](c), pair[0](c))
    if name == "swish":
        assert torch.equal(ACTIVATIONS[name]()(c), F.hardswish(c))


def test_the_oldest_files(tmp_path: Path) -> None:
    pair = module_of(4, (1, 2, 1), None), module_of(4, (1, 2, 1), None)
    record = {4: tuple({f"linear{int(name[0]) + 1}{name[1:]}": one for name, one in part.state_dict().items()}
                       for part in pair)}  # fmt: skip
    torch.save(record, tmp_path / "h.pt")
    found, c = loaded(tmp_path / "h.pt"), torch.randn(1, 2, 4)
    torch.testing.assert_close(found.values["4"](c), pair[1](c))


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(SMALL).eval().requires_grad_(False)


def hypernetwork(*widths: int, seed: int = 0) -> Hypernetwork:
    torch.manual_seed(seed)
    keys, values = ({width: module_of(width, (1, 2, 1), "relu") for width in widths} for _ in range(2))
    return Hypernetwork(keys, values).requires_grad_(False)


def drawn(network: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x, tokens = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 48, generator=generator)
    return network(x, torch.tensor([10, 500]), Cond(tokens))


def by_hand(unet: UNet, several: list[tuple[Hypernetwork, float]]) -> Tensor:
    """The same by hooks: keys and values of attentions get what their layers see through the hypernetworks."""
    hooks = []
    for name, module in unet.named_modules():
        if name.endswith((".to_k", ".to_v")):

            def changed(module: nn.Module, args: tuple[Tensor], side: str = name[-1]) -> Tensor:
                (c,) = args
                for one, strength in several:
                    layers = one.keys if side == "k" else one.values
                    if str(c.shape[-1]) in layers:
                        c = c + strength * layers[str(c.shape[-1])](c)
                return c

            hooks.append(module.register_forward_pre_hook(changed))
    try:
        return drawn(unet)
    finally:
        for hook in hooks:
            hook.remove()


def test_keys_and_values_see_it(unet: UNet) -> None:
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    plain = drawn(unet)
    one, other = hypernetwork(32, 48, 64), hypernetwork(48, seed=1)
    for several in ([(one, 0.8)], [(one, 0.8), (other, -0.5)]):
        torch.testing.assert_close(drawn(with_hypernetworks(unet, several)), by_hand(unet, several))
        assert not torch.allclose(drawn(with_hypernetworks(unet, several)), plain)
    assert torch.equal(drawn(with_hypernetworks(unet, [(one, 0.0)])), plain)
    assert torch.equal(drawn(unet), plain), "nothing is left behind"
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())


def test_a_view_shares_all_weights(unet: UNet) -> None:
    view = with_hypernetworks(unet, [(hypernetwork(48), 1.0)])
    kept = {id(one) for one in unet.parameters()}
    own = [name for name, one in view.named_parameters() if id(one) not in kept]
    assert own and all(".before." in name for name in own)


def test_those_of_other_families_are_named(unet: UNet) -> None:
    spec, where = replace(family("sd1").spec, unet=SMALL), Path("h.pt")
    check(hypernetwork(32, 48), spec, where)
    with pytest.raises(SfumatoError, match=r"h.pt does not fit .*1.x: it was made for 2.x; its layers .* 1024 wide"):
        check(hypernetwork(32, 1024), spec, where)
    with pytest.raises(SfumatoError, match=r"changes attentions of a U-Net; .*3.5.* has none"):
        check(hypernetwork(32), family("sd35_medium").spec, where)


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_the_widths_of_a_network_follow_from_its_sizes(name: str) -> None:
    spec = family(name).spec
    attentions = [one for one in family(name).build(spec)["unet"].modules() if isinstance(one, Attention)]
    assert {one.to_k.in_features for one in attentions} == attention_widths(spec.unet)


def broken(change: Callable[[dict[str, Tensor]], object], **said: Any) -> dict[Any, Any]:
    layers = {f"linear.{name}": one for name, one in module_of(4, (1, 2, 1), None).state_dict().items()}
    change(layers)
    return {4: (layers, dict(layers)), **said}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (broken(lambda layers: layers.pop("linear.0.weight")), "lacks weights of a layer"),
        (broken(lambda layers: layers.update({"linear.1.weight": torch.ones(4, 7)})), r"shape \(4, 7\) where 8"),
        (broken(lambda layers: [layers.pop("linear.1.weight"), layers.pop("linear.1.bias")]), "8 numbers of 4"),
        (broken(lambda layers: layers.update({"linear.0.bias": torch.ones(3)})), "it is broken"),
        (broken(lambda layers: None, activation_func="threshold"), "has the activation 'threshold'; known are celu"),
        ({4: ({"linear.0.weight": torch.ones(4, 4)}, {})}, "holds no whole hypernetwork"),
        ({"a": torch.ones(2, 2)}, "holds no whole hypernetwork"),
    ],
)
def test_what_is_broken(record: dict[Any, Any], message: str, tmp_path: Path) -> None:
    torch.save(record, tmp_path / "h.pt")
    with open_checkpoint(tmp_path / "h.pt") as checkpoint, pytest.raises(SfumatoError, match=message):
        read(checkpoint)
