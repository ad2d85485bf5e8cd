"""LoRAs out of models and out of LoRAs, against products and decompositions written out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from sfumato.adapters import lora
from sfumato.adapters.file import AdapterFile
from sfumato.adapters.merged import merged
from sfumato.adapters.use import Use
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.merging.lora_file import Targets
from sfumato.merging.loras import extract_lora, merge_loras, resize_lora
from sfumato.merging.low_rank import Limit, factors_of, fewer
from sfumato.text.tokenizer import CLIPTokenizer
from tiny import WORDS
from tiny.models import TINY, Model, random_model

GOLDEN = Path(__file__).parents[1] / "golden" / "lora"


@pytest.fixture(scope="module", autouse=True)
def few_words() -> Iterator[None]:
    """CLIP's own vocabulary, which single files leave unsaid, is that of the tiny models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CLIPTokenizer, "openai", lambda: WORDS)
        yield


@pytest.fixture(scope="module")
def base() -> Model:
    return random_model(TINY, 0)


@pytest.fixture
def files(base: Model, write: Callable[..., Path]) -> tuple[Path, Path]:
    """A model, and another whose linear layers and convolutions of U-Net and text encoder differ."""
    state = base.original()
    generator = torch.Generator().manual_seed(1)
    changed = {
        name: tensor + 0.05 * torch.randn(tensor.shape, generator=generator)
        if tensor.ndim >= 2 and tensor.is_floating_point() and not name.startswith("first") and "embedding" not in name
        else tensor
        for name, tensor in state.items()
    }
    return write(state, "base.safetensors"), write(changed, "tuned.safetensors")


def best(matrix: Tensor, rank: int) -> Tensor:
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    return ((u[:, :rank] * s[:rank]) @ v[:rank]).float()


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (20, 20)])
def test_a_matrix_is_cut_to_the_nearest_of_its_rank(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(matrix)
    for rank in (1, 5, 12):
        found = factors_of(matrix, Limit(rank))
        assert found is not None and found.up.shape == (shape[0], rank) and found.down.shape == (rank, shape[1])
        torch.testing.assert_close((found.up @ found.down).float(), best(matrix, rank), atol=1e-5, rtol=1e-5)
        assert found.kept == pytest.approx(singular[:rank].square().sum().item(), rel=1e-5)
    energies = singular.square().cumsum(0) / singular.square().sum()
    found = factors_of(matrix, Limit(energy=0.8))
    assert found is not None and found.up.shape[1] == int((energies < 0.8).sum()) + 1
    assert factors_of(torch.zeros(3, 4), Limit(2)) is None


@pytest.mark.parametrize(("rank", "to"), [(6, 3), (40, 7), (6, 6)])
def test_a_product_is_cut_without_making_it(rank: int, to: int) -> None:
    generator = torch.Generator().manual_seed(0)
    up, down = torch.randn(20, rank, generator=generator), torch.randn(rank, 30, generator=generator)
    found = fewer(up, down, Limit(to))
    assert found is not None
    torch.testing.assert_close((found.up @ found.down).float(), best(up @ down, to), atol=1e-4, rtol=1e-4)
    twice = fewer(torch.cat([up, up], 1), torch.cat([down, down]), Limit(energy=1.0))
    assert twice is not None and twice.up.shape[1] == min(rank, 20), "what adds nothing is dropped"


def test_a_lora_of_full_rank_is_the_whole_change(files: tuple[Path, Path], base: Model, tmp_path: Path) -> None:
    made = extract_lora(files[1], files[0], tmp_path / "lora.safetensors", rank=4096, dtype="float32")
    assert made.kept == pytest.approx(1) and made.layers > 60 and made.left_out == 0
    use = Use(AdapterFile.open(made.out), 1.0)
    assert not lora.read(use.file, TINY).strange
    tuned = load_file(files[1])
    keymap = family("sd1").keymap(TINY, "original", base.networks)
    for part in ("unet", "text"):
        network = merged(base.networks[part], part, [use], TINY)
        for name, tensor in keymap.to_theirs(part, network.state_dict()).items():
            torch.testing.assert_close(tensor, tuned[name], atol=1e-5, rtol=1e-4)


def test_every_layer_is_the_nearest_of_its_rank(files: tuple[Path, Path], tmp_path: Path) -> None:
    made = extract_lora(files[1], files[0], tmp_path / "lora.safetensors", rank=4, dtype="float32")
    found, before, after = load_file(made.out), load_file(files[0]), load_file(files[1])
    for name, theirs in (
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
         "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"),
        ("lora_unet_mid_block_resnets_0_conv1", "model.diffusion_model.middle_block.0.in_layers.2.weight"),
        ("lora_te_text_model_encoder_layers_1_mlp_fc1",
         "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc1.weight"),
    ):  # fmt: skip
        up, down = found[f"{name}.lora_up.weight"], found[f"{name}.lora_down.weight"]
        difference = after[theirs] - before[theirs]
        assert down.shape == (4, *difference.shape[1:]) and up.shape == (len(difference), 4, *[1] * (up.ndim - 2))
        assert found[f"{name}.alpha"].item() == 4
        expected = best(difference.flatten(1), 4)
        torch.testing.assert_close(up.flatten(1) @ down.flatten(1), expected, atol=1e-5, rtol=1e-4)
    assert 0 < made.kept < 0.9 and made.ranks == (4, 4)
    with safe_open(made.out, "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_network_dim"] == "4" and metadata["ss_base_model_version"] == "sd_v1"
    assert [one["name"] for one in json.loads(metadata["sd_merge_recipe"])["models"]] == [
        "tuned.safetensors", "base.safetensors",
    ]  # fmt: skip


def test_energy_chooses_a_rank_for_each_layer(files: tuple[Path, Path], tmp_path: Path) -> None:
    made = extract_lora(files[1], files[0], tmp_path / "lora.safetensors", energy=0.7, parts=["unet"])
    assert made.kept >= 0.7 and made.ranks[0] < made.ranks[1]
    assert not any("_te_" in name for name in load_file(made.out))
    both = extract_lora(files[1], files[0], tmp_path / "both.safetensors", energy=0.7, rank=8, parts=["unet"])
    assert both.ranks[1] == 8


def test_what_no_lora_holds_is_counted(base: Model, write: Callable[..., Path], tmp_path: Path) -> None:
    state = base.original()
    key, norm = "model.diffusion_model.out.2.weight", "model.diffusion_model.out.0.bias"
    files = write(state | {key: state[key] + 1, norm: state[norm] + 1}, "a.safetensors"), write(state, "b.safetensors")
    made = extract_lora(*files, tmp_path / "lora.safetensors", rank=1)
    assert (made.layers, made.left_out) == (1, 1)
    with pytest.raises(SfumatoError, match="no layer is changed"):
        extract_lora(files[1], files[1], tmp_path / "none.safetensors")
    assert not (tmp_path / "none.safetensors").exists()


@pytest.mark.parametrize("name", ["kohya_sd15_rank4_conv4", "kohya_sd15_rank4", "kohya_sd21_rank4", "kohya_sdxl_rank4"])
def test_names_are_those_of_kohyas_trainer(name: str) -> None:
    with gzip.open(GOLDEN / f"{name}.json.gz") as file:
        keys = json.load(file)["keys"]
    release = {"kohya_sd15": "sd1", "kohya_sd21": "sd2", "kohya_sdxl": "sdxl"}[name.split("_rank")[0]]
    ours = {target.name for target in Targets(family(release).spec).all}
    theirs = {key.split(".")[0] for key in keys}
    assert theirs and not {one for one in theirs - ours if not ("sd21" in name and "layers_23" in one)}


def random_lora(path: Path, write: Callable[..., Path], seed: int, names: dict[str, tuple[int, int]]) -> Path:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, (out, width) in names.items():
        state[f"{name}.lora_up.weight"] = torch.randn(out, 3 + seed, generator=generator)
        state[f"{name}.lora_down.weight"] = torch.randn(3 + seed, width, generator=generator)
        state[f"{name}.alpha"] = torch.tensor(2.0)
    return write(state, path.name)


Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
FC = "lora_te_text_model_encoder_layers_0_mlp_fc1"
PEFT = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


def product(path: Path, name: str) -> Tensor:
    state = load_file(path)
    up, down = state[f"{name}.lora_up.weight"].float(), state[f"{name}.lora_down.weight"].float()
    return up.flatten(1) @ down.flatten(1) * (state[f"{name}.alpha"].item() / len(down))


def test_loras_are_joined_exactly_whatever_their_names(
    files: tuple[Path, Path], write: Callable[..., Path], tmp_path: Path
) -> None:
    one = random_lora(tmp_path / "one.safetensors", write, 0, {Q: (32, 32), FC: (128, 64)})
    two = random_lora(tmp_path / "two.safetensors", write, 1, {Q: (32, 32)})
    peft = {
        f"{PEFT}.lora_{new}.weight": load_file(two)[f"{Q}.lora_{old}.weight"]
        for old, new in (("up", "B"), ("down", "A"))
    }
    other = write(peft, "peft.safetensors")
    made = merge_loras(
        [f"{one}:0.5:0.25", f"{other}:-2"], tmp_path / "out.safetensors", model=files[0], dtype="float32"
    )
    expected = 0.25 * product(one, Q) - 2 * (peft[f"{PEFT}.lora_B.weight"] @ peft[f"{PEFT}.lora_A.weight"])
    torch.testing.assert_close(product(made.out, Q), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(product(made.out, FC), 0.5 * product(one, FC), atol=1e-4, rtol=1e-4)
    assert made.ranks == (3, 7) and made.kept == 1


def test_a_smaller_lora_is_the_nearest(files: tuple[Path, Path], write: Callable[..., Path], tmp_path: Path) -> None:
    one = random_lora(tmp_path / "one.safetensors", write, 3, {Q: (32, 32), FC: (128, 64)})
    made = resize_lora(one, tmp_path / "out.safetensors", rank=2, model=files[0], dtype="float32")
    for name in (Q, FC):
        torch.testing.assert_close(product(made.out, name), best(product(one, name), 2), atol=1e-4, rtol=1e-4)
    assert made.ranks == (2, 2) and 0 < made.kept < 1


def test_the_family_is_found_by_the_file(write: Callable[..., Path], tmp_path: Path) -> None:
    def full(seed: int, width: int) -> Path:
        return random_lora(tmp_path / f"{seed}.safetensors", write, seed, {Q: (width, width)})

    assert merge_loras([full(0, 320), full(1, 320)], tmp_path / "out.safetensors").family == "sd1"
    with pytest.raises(SfumatoError, match="was made for no model that is known here"):
        merge_loras([full(2, 36)], tmp_path / "no.safetensors")
    xl = "lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_q"
    other = random_lora(tmp_path / "xl.safetensors", write, 3, {xl: (640, 640)})
    with pytest.raises(SfumatoError, match=r"xl.safetensors was made for Stable Diffusion XL.*, .*0.safetensors"):
        merge_loras([full(0, 320), other], tmp_path / "no.safetensors")


def test_kinds_that_are_no_product_are_named(
    files: tuple[Path, Path], write: Callable[..., Path], tmp_path: Path
) -> None:
    one = random_lora(tmp_path / "one.safetensors", write, 0, {Q: (32, 32)})
    dora = write(load_file(one) | {f"{Q}.dora_scale": torch.ones(32, 1)}, "dora.safetensors")
    with pytest.raises(SfumatoError, match=r"no plain LoRA \(Decomposed, of .*to_q\); bake it into a model"):
        merge_loras([dora], tmp_path / "out.safetensors", model=files[0])


def test_bad_limits_and_places_are_said(files: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    for options, message in (
        ({"rank": 0}, "rank is 0"), ({"energy": 1.5}, "energy is 1.5"), ({"dtype": "int8"}, "unknown dtype 'int8'"),
        ({"parts": ["vae"]}, "no layer is changed"),
    ):  # fmt: skip
        with pytest.raises(SfumatoError, match=message):
            extract_lora(*files, out, **options)  # type: ignore[arg-type]
    with pytest.raises(SfumatoError, match=r"is no \.safetensors"):
        extract_lora(*files, tmp_path / "folder")
    out.write_bytes(b"mine")
    with pytest.raises(SfumatoError, match="exists; name another place"):
        extract_lora(*files, out)
    assert out.read_bytes() == b"mine"
