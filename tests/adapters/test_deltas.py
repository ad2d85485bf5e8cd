"""Every kind of difference, against the weights that LyCORIS makes of the same layers."""

from __future__ import annotations

import runpy
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sfumato.adapters.components import by_layer, differences, holds_differences
from sfumato.adapters.deltas import Decomposed, Delta, Full

KINDS = load_file(Path(__file__).with_name("lycoris_kinds.safetensors"))
CASES = defaultdict(dict)
for key, value in KINDS.items():
    case, _, rest = key.partition("/")
    CASES[case][rest] = value


def read(tensors: dict[str, Tensor]) -> dict[str, Delta]:
    layers, others = by_layer(tensors)
    assert not others and len(layers) == 1
    ((name, parts),) = layers.items()
    return differences(name, parts, tensors.__getitem__)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("case", CASES)
def test_weights_are_those_of_lycoris(case: str, dtype: torch.dtype) -> None:
    held, tensors = CASES[case], {}
    for name, value in held.items():
        if name.startswith("layer."):
            tensors[name] = value if name.endswith(("alpha", "on_input")) else value.to(dtype)
    assert holds_differences({name: tuple(value.shape) for name, value in tensors.items()})
    delta = read(tensors)["weight"]
    for strength in (1.0, 0.6):
        if strength != 1 and ("dora" in case or "rescaled" in case):
            continue  # as in the web UIs the whole difference is scaled, see below
        merged = held["weight"] + delta.delta(held["weight"], strength)
        room = 2e-6 if dtype == torch.float32 else 0.05 if dtype == torch.bfloat16 else 0.5
        assert (merged - held[f"merged {strength}"]).abs().max() < room * held[f"merged {strength}"].abs().max()


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("boft")])
def test_strength_is_a_factor_of_the_difference(case: str) -> None:
    held = CASES[case]
    delta = read({name: value for name, value in held.items() if name.startswith("layer.")})["weight"]
    assert delta.linear
    torch.testing.assert_close(delta.delta(held["weight"], -0.3), -0.3 * delta.delta(held["weight"]))


def test_alpha_scales_by_the_rank_and_may_be_missing_or_no_number() -> None:
    up, down, weight = torch.randn(4, 2), torch.randn(2, 3), torch.zeros(4, 3)
    factors = {"a.lora_up.weight": up, "a.lora_down.weight": down}
    for more, scale in (({}, 1.0), ({"a.alpha": torch.tensor(float("nan"))}, 1.0), ({"a.alpha": torch.tensor(1)}, 0.5)):
        torch.testing.assert_close(read(factors | more)["weight"].delta(weight), scale * up @ down)
    a1, b1, a2, b2 = (torch.randn(shape) for shape in ((4, 2), (2, 3)) * 2)
    loha = {"a.hada_w1_a": a1, "a.hada_w1_b": b1, "a.hada_w2_a": a2, "a.hada_w2_b": b2, "a.alpha": torch.tensor(4.0)}
    torch.testing.assert_close(read(loha)["weight"].delta(weight), 2 * (a1 @ b1) * (a2 @ b2))
    w1, w2 = torch.randn(2, 1), torch.randn(2, 3)
    lokr = {"a.lokr_w1": w1, "a.lokr_w2": w2, "a.alpha": torch.tensor(99.0)}
    torch.testing.assert_close(read(lokr)["weight"].delta(weight), torch.kron(w1, w2))


def test_full_differences_have_a_bias() -> None:
    found = read({"a.diff": torch.ones(2, 3), "a.diff_b": torch.full((2,), 2.0)})
    assert torch.equal(found["weight"].delta(torch.zeros(2, 3), 0.5), torch.full((2, 3), 0.5))
    assert torch.equal(found["bias"].delta(torch.zeros(2), 0.5), torch.ones(2))
    assert read({"a.w_norm": torch.ones(2), "a.b_norm": torch.ones(2)}).keys() == {"weight", "bias"}


def test_sparse_rests_are_added() -> None:
    tensors = {
        "a.lora_up.weight": torch.ones(2, 1), "a.lora_down.weight": torch.ones(1, 2),
        "a.bias_indices": torch.tensor([[0, 1], [0, 1]]), "a.bias_values": torch.tensor([5.0, 7.0]),
        "a.bias_size": torch.tensor([2, 2]),
    }  # fmt: skip
    assert read(tensors)["weight"].delta(torch.zeros(2, 2)).tolist() == [[6, 1], [1, 8]]


def test_rows_have_the_lengths_that_dora_gives_them() -> None:
    weight = torch.randn(4, 3)
    changed = weight + Decomposed(Full(torch.randn(4, 3)), torch.tensor([1.0, 2.0, 3.0, 4.0])).delta(weight)
    torch.testing.assert_close(changed.norm(dim=1), torch.tensor([1.0, 2.0, 3.0, 4.0]))


def test_older_glora_has_its_factors_the_other_way_round() -> None:
    held = CASES["glora"]
    new = {name: value for name, value in held.items() if name.startswith("layer.")}
    old = dict(new)
    for a, b in (("a1", "a2"), ("b1", "b2")):
        old[f"layer.{a}.weight"], old[f"layer.{b}.weight"] = new[f"layer.{b}.weight"], new[f"layer.{a}.weight"]
    weight = held["weight"]
    torch.testing.assert_close(read(old)["weight"].delta(weight), read(new)["weight"].delta(weight))


def test_the_reference_is_what_lycoris_computes() -> None:
    pytest.importorskip("lycoris")
    script = runpy.run_path(str(Path(__file__).with_name("lycoris_kinds.py")))
    torch.manual_seed(0)
    for name, value in script["computed"]():
        torch.testing.assert_close(KINDS[name], value, rtol=1e-4, atol=1e-5)
