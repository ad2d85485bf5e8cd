"""Merging files: every tensor by its formula, whatever layout and precision it lies in."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.families import family
from sfumato.loading.load import load_parts
from sfumato.merging.blocks import Blocks
from sfumato.merging.merge import merge
from sfumato.merging.recipe import MODELS, RECIPE, RECIPE_FILE
from sfumato.spec import Spec
from sfumato.text.tokenizer import CLIPTokenizer
from tiny import WORDS
from tiny.models import TINY, Model, random_model


@pytest.fixture(scope="module", autouse=True)
def few_words() -> Iterator[None]:
    """CLIP's own vocabulary, which single files leave unsaid, is that of the tiny models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CLIPTokenizer, "openai", lambda: WORDS)
        yield


@pytest.fixture(scope="module")
def models() -> list[Model]:
    return [random_model(TINY, seed) for seed in range(3)]


@pytest.fixture
def files(models: list[Model], write: Callable[..., Path]) -> list[Path]:
    return [write(model.original(), f"{name}.safetensors") for name, model in zip("abc", models, strict=True)]


def weights(path: Path) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in load_file(path).items() if tensor.is_floating_point() and name != "betas"}


def test_a_weighted_sum_is_one_of_every_tensor(files: list[Path], tmp_path: Path) -> None:
    a, b, out = weights(files[0]), weights(files[1]), tmp_path / "out.safetensors"
    merged = merge(files[:2], out, weights=0.25)
    result = weights(out)
    assert result.keys() == a.keys() and merged.tensors > 200
    assert all(torch.equal(result[name], a[name] * 0.75 + b[name] * 0.25) for name in a)
    assert load_file(out).keys() == load_file(files[0]).keys()


def test_a_difference_is_added(files: list[Path], tmp_path: Path) -> None:
    a, b, c = map(weights, files)
    merge(files, tmp_path / "out.safetensors", method="difference", weights=0.5)
    result = weights(tmp_path / "out.safetensors")
    assert all(torch.equal(result[name], a[name] + 0.5 * (b[name] - c[name])) for name in a)


def test_layouts_and_precisions_may_differ(
    models: list[Model], save: Callable[..., Path], write: Callable[..., Path], tmp_path: Path
) -> None:
    folder = save(models[0], "folder")
    half = write(models[1].original(torch.float16), "half.safetensors")
    merge([folder, half], tmp_path / "one.safetensors", weights=0.5, dtype=torch.float32)
    merge([half, folder], tmp_path / "two", weights=0.5)
    one, two = load_parts(tmp_path / "one.safetensors").networks, load_parts(tmp_path / "two").networks
    for part, network in models[0].networks.items():
        for name, tensor in network.state_dict().items():
            other = models[1].networks[part].state_dict()[name].half().float()
            assert torch.equal(one[part].state_dict()[name], tensor * 0.5 + other * 0.5)
            assert torch.equal(two[part].state_dict()[name], (tensor * 0.5 + other * 0.5).half().float())
    assert json.loads((tmp_path / "two" / RECIPE_FILE).read_text())["method"] == "sum"


def test_blocks_have_weights_of_their_own(files: list[Path], tmp_path: Path) -> None:
    a, b, out = weights(files[0]), weights(files[1]), tmp_path / "out.safetensors"
    merge(files[:2], out, weights=0.5, blocks="IN00-IN01=0,OUT=1,M00=0.25,unet.*.attn2.*=0.75,text=0.125")
    result = weights(out)
    seen = set()
    for name in a:
        block = name.removeprefix("model.diffusion_model.").split(".")[0]
        number = name.removeprefix("model.diffusion_model.input_blocks.").split(".")[0]
        weight = {"output_blocks": 1.0, "middle_block": 0.25, "cond_stage_model": 0.125}.get(block, 0.5)
        weight = 0.0 if number in ("0", "1") else weight
        weight = 0.75 if "attn2" in name else weight
        seen.add(weight)
        assert torch.equal(result[name], a[name] * (1 - weight) + b[name] * weight), name
    assert seen == {0.0, 0.125, 0.25, 0.5, 0.75, 1.0}


def test_a_list_has_a_number_for_each_block(files: list[Path], tmp_path: Path) -> None:
    """The tiny U-Net has four blocks down, the middle and four up."""
    with pytest.raises(SfumatoError, match=r"there are 2 weights of blocks; this model has 9 blocks \(IN00 to OUT03\)"):
        merge(files[:2], tmp_path / "no.safetensors", blocks="0,1")
    merge(files[:2], tmp_path / "list.safetensors", blocks="0.5,0,0,0,0,0,1,1,1,1")
    merge(files[:2], tmp_path / "names.safetensors", blocks={"BASE": 0.5, "IN": 0, "MID": 0, "OUT": 1})
    one, two = weights(tmp_path / "list.safetensors"), weights(tmp_path / "names.safetensors")
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize(("name", "count"), [("sd1", 25), ("sdxl", 19), ("sd3_medium", 24)])
def test_the_blocks_of_releases(name: str, count: int) -> None:
    owner = family(name)
    parameters = [(part, key) for part, net in owner.build(owner.spec).items() for key in net.state_dict()]
    assert len(Blocks(owner, owner.spec, parameters).labels) == count


def test_only_some_parts_and_another_autoencoder(
    files: list[Path], models: list[Model], write: Callable[..., Path], tmp_path: Path
) -> None:
    a, b, c = map(weights, files)
    vae = write({name: one for name, one in c.items() if name.startswith("first_stage_model.")}, "vae.safetensors")
    merge(files[:2], tmp_path / "out.safetensors", weights=0.5, parts=["unet"], vae=vae)
    result = weights(tmp_path / "out.safetensors")
    for name in a:
        expected = {"model": (a[name] + b[name]) / 2, "first_stage_model": c[name]}.get(name.split(".")[0], a[name])
        assert torch.equal(result[name], expected), name


def test_a_denoiser_alone_is_merged_into_a_model(
    shrunk: Callable[[str], Spec], write: Callable[..., Path], tmp_path: Path
) -> None:
    a, b = (random_model(shrunk("sd1"), seed).original() for seed in range(2))
    first = write(a, "a.safetensors")
    alone = write({name: one for name, one in b.items() if name.startswith("model.")}, "unet.safetensors")
    with pytest.raises(SfumatoError, match=r"without the parts vae, text; merge what both have with --parts unet"):
        merge([first, alone], tmp_path / "out.safetensors")
    merge([first, alone], tmp_path / "out.safetensors", parts=["unet"], weights=1)
    result = weights(tmp_path / "out.safetensors")
    assert all(torch.equal(one, (b if name.startswith("model.") else a)[name]) for name, one in result.items())


def test_averaged_weights(models: list[Model], write: Callable[..., Path], tmp_path: Path) -> None:
    states = [model.original() for model in models[:2]]
    ema = {"model_ema." + name.removeprefix("model.").replace(".", ""): one for name, one in states[1].items()
           if name.startswith("model.diffusion_model.")}  # fmt: skip
    paths = [write(states[0] | ema, "a.safetensors"), write(states[0], "b.safetensors")]
    merge(paths, tmp_path / "plain.safetensors", weights=0)
    assert torch.equal(
        weights(tmp_path / "plain.safetensors")[(key := "model.diffusion_model.out.2.weight")], states[0][key]
    )
    merge(paths, tmp_path / "ema.safetensors", weights=0, ema=True)
    result = weights(tmp_path / "ema.safetensors")
    assert torch.equal(result[key], states[1][key]) and not any(name.startswith("model_ema") for name in result)
    with pytest.raises(SfumatoError, match="none of the models holds averaged"):
        merge([paths[1], paths[1]], tmp_path / "no.safetensors", ema=True)


def test_an_inpainting_model_takes_from_its_base(
    models: list[Model], write: Callable[..., Path], tmp_path: Path
) -> None:
    spec = replace(family("sd1_inpainting").spec, unet=replace(TINY.unet, in_channels=9), vae=TINY.vae, text=TINY.text)
    inpainting = random_model(spec, 5).original()
    paths = [write(inpainting, "inpaint.safetensors")]
    paths += [write(model.original(), f"{i}.safetensors") for i, model in enumerate(models[:2])]
    merge(paths, tmp_path / "out.safetensors", method="difference", weights=1)
    key, result = "model.diffusion_model.input_blocks.0.0.weight", weights(tmp_path / "out.safetensors")
    b, c = (model.original()[key] for model in models[:2])
    assert torch.equal(result[key][:, :4], inpainting[key][:, :4] + 1.0 * (b - c))
    assert torch.equal(result[key][:, 4:], inpainting[key][:, 4:])
    with pytest.raises(SfumatoError, match="only models of one kind can be merged"):
        merge(paths[1::-1], tmp_path / "no.safetensors")


def test_2x_folders_lack_a_layer_that_nothing_reads(
    shrunk: Callable[[str], Spec], save: Callable[..., Path], write: Callable[..., Path], tmp_path: Path
) -> None:
    one, two = (random_model(shrunk("sd2"), seed) for seed in range(2))
    single, folder = write(one.original(), "a.safetensors"), save(two, "b")
    merge([single, folder], tmp_path / "out.safetensors", weights=1)
    result, a = weights(tmp_path / "out.safetensors"), one.original()
    last = [name for name in a if ".resblocks.1." in name]
    assert last and all(torch.equal(result[name], a[name]) for name in last)
    unet = "model.diffusion_model.out.2.weight"
    assert torch.equal(result[unet], two.original()[unet])


def test_models_of_other_kinds_are_named(
    files: list[Path], shrunk: Callable[[str], Spec], write: Callable[..., Path], tmp_path: Path
) -> None:
    other = write(random_model(shrunk("sdxl"), 0).original(), "xl.safetensors")
    with pytest.raises(
        SfumatoError, match=r"xl.safetensors is Stable Diffusion XL, and .*a.safetensors is Stable Diff"
    ):
        merge([files[0], other], tmp_path / "out.safetensors", parts=["unet"])
    larger = replace(TINY, unet=replace(TINY.unet, channels=(64, 64)))
    size = write(random_model(larger, 0).original(), "large.safetensors")
    with pytest.raises(
        SfumatoError, match=r"are both Stable Diffusion 1.*, but not of one size: 2 of its tensors are missing"
    ):
        merge([files[0], size], tmp_path / "out.safetensors")
    broken = weights(files[1])
    del broken["model.diffusion_model.out.2.weight"]
    with pytest.raises(SfumatoError, match=r"is not a complete .*: 1 missing \(model.diffusion_model.out.2.weight"):
        merge([files[0], write(broken, "broken.safetensors")], tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists() and not list(tmp_path.glob(".*"))


def test_models_that_predict_otherwise_are_merged_with_a_word(
    files: list[Path], models: list[Model], write: Callable[..., Path], tmp_path: Path
) -> None:
    other = write(models[1].original() | {"v_pred": torch.zeros(0)}, "v.safetensors")
    with pytest.warns(SfumatoWarning, match="predicts v, .*a.safetensors eps"):
        merge([files[0], other], tmp_path / "out.safetensors")


def test_the_recipe_is_in_the_file(files: list[Path], tmp_path: Path) -> None:
    first, second = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    merge(files, first, method="dare-ties", density=0.3, seed=4, blocks="IN=0.5")
    merge([first, files[1]], second, method="slerp")
    with safe_open(second, "pt") as file:
        recipe, models = json.loads(file.metadata()[RECIPE]), json.loads(file.metadata()[MODELS])
    assert recipe["method"] == "slerp" and recipe["weights"] == [0.5]
    assert [one["name"] for one in recipe["models"]] == ["one.safetensors", "b.safetensors"]
    before = models[recipe["models"][0]["sha256"]][RECIPE]
    assert before["density"] == 0.3 and before["seed"] == 4 and before["blocks"] == "IN=0.5"
    assert {one["sha256"] for one in before["models"]} <= models.keys()


@pytest.mark.parametrize("method", ["dare", "dare-ties", "ties"])
def test_the_same_recipe_makes_the_same_bytes(files: list[Path], tmp_path: Path, method: str) -> None:
    paths = [tmp_path / f"{i}.safetensors" for i in range(2)]
    for path in paths:
        merge(files, path, method=method)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_nothing_is_overwritten_unless_asked(files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"mine")
    with pytest.raises(SfumatoError, match="exists; name another place, or replace it with --overwrite"):
        merge(files[:2], out)
    assert out.read_bytes() == b"mine"
    merge(files[:2], out, overwrite=True)
    assert weights(out)
    with pytest.raises(SfumatoError, match="is the input itself"):
        merge(files[:2], files[1], overwrite=True)


def test_a_value_that_does_not_fit_leaves_nothing(
    models: list[Model], write: Callable[..., Path], tmp_path: Path
) -> None:
    state = models[0].original()
    state["model.diffusion_model.out.2.weight"] = state["model.diffusion_model.out.2.weight"] + 60_000
    paths = [write(state, "a.safetensors"), write(state, "b.safetensors"), write(models[1].original(), "c.safetensors")]
    with pytest.raises(SfumatoError, match=r"out.2.weight holds .*, which does not fit in torch.float16"):
        merge(paths, tmp_path / "out.safetensors", method="difference", dtype=torch.float16)
    assert not (tmp_path / "out.safetensors").exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (1, {}, "the method sum takes 2 models, 1 are given"),
        (2, {"method": "difference"}, "takes 3 models, 2 are given: it is A"),
        (2, {"method": "avrage"}, "unknown method 'avrage'"),
        (2, {"weights": [0.1, 0.2]}, "weights are 2 numbers; sum of 2 models has one weight"),
        (3, {"method": "mean", "weights": [1, -1, 0]}, "add up to 0"),
        (2, {"density": 0.5}, "density has no meaning for the method sum"),
        (2, {"method": "ties", "density": 0.0}, "density is 0.0; give a share above 0"),
        (2, {"method": "dare", "seed": -1}, "seed is -1"),
        (2, {"blocks": "IN77=1"}, "the model has no block 'IN77'"),
        (2, {"blocks": "IN00=x"}, "the weight of block 'IN00' is 'x'; give a number"),
        (2, {"parts": ["unett"]}, "unknown part 'unett'; did you mean 'unet'?"),
        (2, {"method": "mean", "blocks": "IN=1"}, "blocks has no meaning for the method mean"),
        (1, {"loras": ["no-such-lora"]}, "there is no adapter 'no-such-lora'"),
        (1, {"loras": ["x"], "weights": 0.5}, "weights have no meaning for one model"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said(
    files: list[Path], tmp_path: Path, count: int, options: dict[str, object], message: str
) -> None:
    with pytest.raises(SfumatoError, match=message):
        merge(files[:count], tmp_path / "out.safetensors", **options)  # type: ignore[arg-type]


CHILD = """
import sys
from sfumato.merging.merge import merge
def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
merge(sys.argv[2:4], sys.argv[1], method=sys.argv[4])
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sum", "ties"])
def test_the_memory_is_that_of_tensors_not_of_files(write: Callable[..., Path], tmp_path: Path, method: str) -> None:
    """Two files of 420 MB, of which no tensor is larger than 17 MB, in less than a third of one of them."""
    wide = replace(TINY, unet=replace(TINY.unet, channels=(320, 480, 480), depth=(1, 1, 1)))
    random = torch.empty(1 << 22).normal_(0, 0.1)
    shapes = family("sd1").expected(wide, "original")
    state = {name: random[: math.prod(shape)].reshape(shape) for name, shape in shapes.items()}
    paths = [write(state, f"{name}.safetensors") for name in "ab"]
    assert paths[0].stat().st_size > 400e6
    command = [sys.executable, "-c", CHILD, tmp_path / "out.safetensors", *paths, method]
    used = int(subprocess.run(command, capture_output=True, check=True).stdout)
    assert used < paths[0].stat().st_size / 3
