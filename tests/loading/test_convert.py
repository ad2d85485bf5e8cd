"""Every family goes from either layout to the other and back bit by bit; the result opens in diffusers."""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file
from torch import Tensor

from sfumato.checkpoint import embedded_files
from sfumato.checkpoint.formats import safetensors_file
from sfumato.checkpoint.open import open_checkpoint
from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.families import FAMILIES, Family
from sfumato.families import family as family_named
from sfumato.loading import save
from sfumato.loading.conversion import writing
from sfumato.loading.convert import Proof, convert
from sfumato.loading.inspect import inspect_checkpoint
from sfumato.loading.load import load_parts
from sfumato.spec import ID_WIDTH, Spec
from sfumato.text.tokenizer import CLIPTokenizer
from tiny import WORDS, random_networks, shrink, tensors, write_file

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
POSITIONS = torch.arange(77)[None]


@dataclass(frozen=True)
class Released:
    """A tiny model as its authors' code would write it, with all that stands beside the networks."""

    family: Family
    spec: Spec
    state: dict[str, Tensor]

    def write(self, path: Path, dtype: torch.dtype = torch.float32) -> Path:
        return write_file(path, {name: self.stored(tensor, dtype) for name, tensor in self.state.items()})

    @staticmethod
    def stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() and tensor.shape != (1000,) else tensor


def released(family: Family) -> Released:
    spec = shrink(family.spec)
    layout = family.layouts["original"]
    state = tensors(family, spec, random_networks(family, spec), "original")
    text = layout.prefixes["text"]
    state |= {f"{text}text_model.embeddings.position_ids": POSITIONS, **layout.buffers(spec)}
    return Released(family, spec, state)


@pytest.fixture(scope="module", autouse=True)
def few_words() -> Iterator[None]:
    """CLIP's own vocabulary, which single files leave unsaid, is that of the tiny models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CLIPTokenizer, "openai", lambda: WORDS)
        yield


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def every(request: pytest.FixtureRequest, few_words: None) -> Released:
    return released(request.param)


@dataclass(frozen=True)
class Converted:
    source: Path
    out: Path
    proof: Proof


@pytest.fixture(scope="module")
def folder(every: Released, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """The folder of a tiny model of every family."""
    place = tmp_path_factory.mktemp(every.family.name)
    source = every.write(place / "in.safetensors")
    return Converted(source, place / "out", convert(source, place / "out", "diffusers"))


@pytest.fixture(scope="module")
def sd1() -> Released:
    return released(family_named("sd1"))


@pytest.fixture(scope="module")
def sd2() -> Released:
    return released(family_named("sd2"))


def content(path: Path) -> dict[str, Tensor]:
    with open_checkpoint(path) as checkpoint:
        return {name: checkpoint.read(name).clone() for name in checkpoint.tensors}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype and tensor.shape == other[name].shape, name
        assert torch.equal(tensor.reshape(-1).view(torch.uint8), other[name].reshape(-1).view(torch.uint8)), name


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(text: str, run: Callable[[], object]) -> None:
    with pytest.raises(SfumatoError, match=text) as caught:
        run()
    assert "\n" not in str(caught.value)


def with_any_bits(state: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Zeros of both signs, subnormal numbers, the largest ones; every tensor in a type of its own."""
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for i, (name, tensor) in enumerate(state.items()):
        dtype = DTYPES[i % len(DTYPES)]
        wide = torch.int32 if dtype == torch.float32 else torch.int16
        limits = torch.iinfo(wide)
        bits = torch.randint(limits.min, limits.max, tensor.shape, dtype=wide, generator=generator).view(dtype)
        result[name] = torch.where(bits.isfinite(), bits, torch.tensor(-0.0, dtype=dtype))
    return result


def test_there_and_back_is_bit_identical(every: Released, tmp_path: Path) -> None:
    """All that a file holds, whatever the values and types; and of the folder every file, byte by byte."""
    state = with_any_bits(every.state, seed=len(every.state))
    proofs = [
        convert(write_file(tmp_path / "first.safetensors", state), tmp_path / "a", "diffusers"),
        convert(tmp_path / "a", tmp_path / "back.safetensors", "original"),
        convert(tmp_path / "back.safetensors", tmp_path / "b", "diffusers"),
    ]
    assert_same(state, content(tmp_path / "back.safetensors"))
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert all(proof.exact for proof in proofs)


def test_the_proof_tells_of_every_tensor_on_both_sides(folder: Converted) -> None:
    rows = folder.proof.rows
    assert {name for row in rows for name in row.source} == content(folder.source).keys()
    written = content(folder.out)
    with open_checkpoint(folder.out) as checkpoint:
        written |= {f"sfumato.safetensors/{name}": one.read().clone() for name, one in checkpoint.remainder.items()}
    assert {row.name for row in rows if row.name} == written.keys()
    for row in rows:
        if row.name is None:
            assert row.note.startswith("left out: ")
            continue
        tensor = written[row.name]
        assert row.sha256 == hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy().data).hexdigest()
        assert (row.shape, row.dtype) == (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
    lines = folder.proof.table().splitlines()
    assert len(lines) == len(rows) + 1 and {line.count("\t") for line in lines} == {6}


def test_inspect_says_the_same_of_both(folder: Converted) -> None:
    one, other = inspect_checkpoint(folder.source), inspect_checkpoint(folder.out)
    assert (one.family, one.problem, one.parts.keys()) == (other.family, None, other.parts.keys())
    changed = {part for part, counts in one.parts.items() if counts["parameters"] != other.parts[part]["parameters"]}
    assert changed <= {"text"}  # whose last layer 2.x folders leave out


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).abs().max() < 2e-5 * theirs.abs().max().clamp(min=1))


@torch.no_grad()
def test_the_result_opens_in_diffusers_and_computes_the_same(folder: Converted) -> None:
    index = json.loads((folder.out / "model_index.json").read_text())
    # T5's tokenizer is not ours, and a depth network of ours is not theirs.
    lacking = {name: None for name, entry in index.items() if entry in ([None, None], ["sfumato", "DepthNet"])}
    pipeline = DiffusionPipeline.from_pretrained(folder.out, **lacking)
    parts = load_parts(folder.source)
    ids = torch.arange(2 * 77).reshape(2, 77)
    ids[:, 20:] = WORDS.eos_token_id
    theirs = [getattr(pipeline, name, None) for name in ("text_encoder", "text_encoder_2")]
    for ours, tower in zip(parts.texts, [tower for tower in theirs if tower is not None], strict=True):
        states = tower(ids, output_hidden_states=True)
        expected = states.last_hidden_state if ours.cfg.normalised else states.hidden_states[-ours.cfg.skip]
        assert close(ours(ids).read(), expected)
    z = noise(1, parts.spec.vae.latent_channels, 4, 4)
    assert close(parts.vae.decode(z), pipeline.vae.decode(z).sample)
    t = torch.tensor([3, 700])
    if parts.spec.transformer is not None:
        cfg = parts.spec.transformer
        x, tokens, pooled = noise(2, cfg.in_channels, 8, 8), noise(2, 9, cfg.context_dim), noise(2, cfg.pooled_dim)
        expected = pipeline.transformer(x, tokens, pooled, t).sample
        assert close(parts.networks["transformer"](x, t, Cond(tokens, pooled)), expected)
        return
    cfg = parts.spec.unet
    x, tokens = noise(2, cfg.in_channels, 8, 8), noise(2, 9, cfg.context_dim)
    cond, added = Cond(tokens), {}
    if cfg.classes is not None:
        cond = Cond(tokens, ids=torch.tensor([[20.0], [100.0]]))
        added = {"class_labels": torch.tensor([20, 100])}
    if parts.image is not None:
        cond = Cond(tokens, noise(2, cfg.vector_dim))
        added = {"class_labels": cond.pooled}
    elif cfg.vector_dim is not None:
        pooled = noise(2, parts.texts[-1].cfg.projection_dim)
        numbers = (cfg.vector_dim - pooled.shape[1]) // ID_WIDTH
        cond = Cond(tokens, pooled, torch.full((2, numbers), 64.0))
        added = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": cond.ids}}
    assert close(parts.unet(x, t, cond), pipeline.unet(x, t, tokens, **added).sample)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_rounding_is_stated(sd2: Released, tmp_path: Path, dtype: torch.dtype) -> None:
    source = sd2.write(tmp_path / "in.safetensors")
    proof = convert(source, tmp_path / "out", "diffusers", dtype=dtype)
    unit = torch.finfo(dtype).eps / 2
    assert not proof.exact and 0.1 * unit < max(row.error for row in proof.rows) <= unit
    networks = load_parts(tmp_path / "out", dtype=None).networks
    for part, network in load_parts(source).networks.items():
        rounded = networks[part].state_dict()
        for name, tensor in rounded.items():
            assert torch.equal(tensor, network.state_dict()[name].to(dtype))
    # A larger type loses nothing, and says so.
    assert convert(tmp_path / "out", tmp_path / "up.safetensors", "original", dtype=torch.float32).exact


def test_what_does_not_fit_a_type_is_named(sd2: Released, tmp_path: Path) -> None:
    name = "model.diffusion_model.input_blocks.0.0.weight"
    state = dict(sd2.state)
    state[name] = state[name].clone()
    state[name].view(-1)[5] = 1e5
    source = write_file(tmp_path / "in.safetensors", state)
    refused(rf"{name} holds 1e\+05, which does not fit in torch.float16", lambda: convert(
        source, tmp_path / "out", "diffusers", dtype=torch.float16
    ))  # fmt: skip
    assert list(tmp_path.iterdir()) == [source]
    convert(source, tmp_path / "out", "diffusers", dtype=torch.bfloat16)


def test_averaged_weights(sd1: Released, tmp_path: Path) -> None:
    layout = sd1.family.layouts["original"]
    prefix = layout.prefixes["unet"]
    averaged = {layout.ema(name): tensor + 1 for name, tensor in sd1.state.items() if name.startswith(prefix)}
    averaged["model_ema.decay"] = torch.tensor(0.9999)
    source = write_file(tmp_path / "in.safetensors", sd1.state | averaged)
    plain, other = (convert(source, tmp_path / str(ema), "diffusers", ema=ema) for ema in (False, True))
    weights = [load_parts(tmp_path / str(ema)).unet.conv_in.weight for ema in (False, True)]
    assert torch.equal(weights[0] + 1, weights[1])
    left = [{row.source[0] for row in proof.rows if row.name is None} for proof in (plain, other)]
    assert left[0] >= averaged.keys()
    assert left[1] >= {name for name in sd1.state if name.startswith(prefix)} | {"model_ema.decay"}


def test_what_a_folder_has_no_place_for_comes_back(sd2: Released, tmp_path: Path) -> None:
    text = sd2.family.layouts["original"].prefixes["text"]
    others = {f"{text}logit_scale": torch.tensor(4.6), "betas": torch.linspace(0, 1, 1000)}
    source = write_file(tmp_path / "in.safetensors", sd2.state | others)
    proof = convert(source, tmp_path / "out", "diffusers")
    notes = {row.source[0]: row.note for row in proof.rows if row.source}
    assert notes["alphas_cumprod"] == "left out: follows from the noise schedule"
    assert notes["betas"].startswith("kept") and notes[f"{text}logit_scale"].startswith("kept")
    convert(tmp_path / "out", tmp_path / "back.safetensors", "original")
    assert_same(content(source), content(tmp_path / "back.safetensors"))
    # Without what was kept, the unread layer is made of zeros, and the pictures are the same.
    (tmp_path / "out/sfumato.safetensors").unlink()
    again = convert(tmp_path / "out", tmp_path / "again.safetensors", "original")
    assert {row.note for row in again.rows if not row.source} == {
        "made: never read", "made: follows from the noise schedule",
    }  # fmt: skip
    ids = torch.arange(77)[None]
    read = [load_parts(tmp_path / name).text(ids).read() for name in ("in.safetensors", "again.safetensors")]
    assert torch.equal(*read)


def test_the_same_layout_keeps_what_stands_beside(sd2: Released, tmp_path: Path) -> None:
    source = sd2.write(tmp_path / "in.safetensors")
    convert(source, tmp_path / "half.safetensors", "original", dtype=torch.float16)
    half = content(tmp_path / "half.safetensors")
    assert_same({name: sd2.stored(tensor, torch.float16) for name, tensor in sd2.state.items()}, half)
    convert(source, tmp_path / "a", "diffusers")
    convert(tmp_path / "a", tmp_path / "b", "diffusers", max_file_size=2_000_000)
    assert len(list((tmp_path / "b/unet").glob("*.safetensors"))) > 1
    assert_same(content(tmp_path / "a"), content(tmp_path / "b"))


def test_a_single_file_remembers_what_shapes_do_not_show(sd2: Released, tmp_path: Path) -> None:
    convert(sd2.write(tmp_path / "in.safetensors"), tmp_path / "base", "diffusers", variant="base")
    convert(tmp_path / "base", tmp_path / "base.safetensors", "original")
    told = [load_parts(tmp_path / name).spec for name in ("in.safetensors", "base", "base.safetensors")]
    assert [(spec.prediction, spec.variant) for spec in told] == [("v", "768-v"), ("eps", "base"), ("eps", "base")]
    assert told[1].defaults == told[2].defaults


def test_a_release_that_shapes_and_habits_tell_whole_carries_nothing(sd1: Released, tmp_path: Path) -> None:
    convert(sd1.write(tmp_path / "in.safetensors"), tmp_path / "out", "diffusers")
    convert(tmp_path / "out", tmp_path / "back.safetensors", "original")
    assert inspect_checkpoint(tmp_path / "back.safetensors").carried == []
    config = tmp_path / "out/vae/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scaling_factor": 0.5}))
    convert(tmp_path / "out", tmp_path / "other.safetensors", "original")
    found = inspect_checkpoint(tmp_path / "other.safetensors")
    assert "vae/config.json" in found.carried and found.spec.vae.scale == 0.5


def test_a_setting_that_does_not_come_back_is_named(sd1: Released, tmp_path: Path, monkeypatch) -> None:
    def forgetting(*arguments: object) -> dict[str, bytes]:
        made = save.folder_files(*arguments)
        config = json.loads(made["unet/config.json"]) | {"attention_head_dim": 4}
        return made | {"unet/config.json": json.dumps(config).encode()}

    monkeypatch.setattr(writing, "folder_files", forgetting)
    source = sd1.write(tmp_path / "in.safetensors")
    refused("cannot say that this model has unet.heads = 8 .it would be read as 4.", lambda: convert(
        source, tmp_path / "out", "diffusers"
    ))  # fmt: skip
    assert list(tmp_path.iterdir()) == [source]


def test_stopping_leaves_nothing(sd1: Released, tmp_path: Path) -> None:
    source = sd1.write(tmp_path / "in.safetensors")
    for stage, layout, name in (("writing", "diffusers", "out"), ("proving", "original", "out.safetensors")):

        def stop(done: int, total: int, what: str, stage: str = stage) -> None:
            assert 0 <= done <= total
            if what == stage and done > total // 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            convert(source, tmp_path / name, layout, progress=stop)
        assert list(tmp_path.iterdir()) == [source]


def test_a_result_that_is_not_the_input_is_not_kept(sd1: Released, tmp_path: Path, monkeypatch) -> None:
    source = sd1.write(tmp_path / "in.safetensors")
    write = save.write_folder

    def damaging(path: Path, *others: object) -> None:
        write(path, *others)
        with (path / "unet/diffusion_pytorch_model.safetensors").open("r+b") as file:
            file.seek(-4, 2)
            file.write(b"\0\0\0\0")

    monkeypatch.setattr(writing, "write_folder", damaging)
    refused("does not come back", lambda: convert(source, tmp_path / "out", "diffusers"))
    assert list(tmp_path.iterdir()) == [source]


def test_places(sd1: Released, tmp_path: Path, monkeypatch) -> None:
    source = sd1.write(tmp_path / "in.safetensors")
    folder = tmp_path / "out"
    convert(source, folder, "diffusers")
    refused("exists; name another place", lambda: convert(source, folder, "diffusers"))
    (folder / "note.txt").write_text("mine")
    convert(source, folder, "diffusers", force=True)
    assert not (folder / "note.txt").exists() and load_parts(folder)
    refused("is the input itself", lambda: convert(source, source, "original", force=True))
    refused("lies within the input", lambda: convert(folder, folder / "new.safetensors", "original"))
    refused("name a folder", lambda: convert(source, tmp_path / "x.safetensors", "diffusers"))
    refused("is no .safetensors", lambda: convert(source, tmp_path / "x.ckpt", "original"))
    refused("unknown layout 'onnx'; choose one of original, diffusers", lambda: convert(source, tmp_path / "x", "onnx"))
    refused("cannot open", lambda: convert(tmp_path / "none", tmp_path / "x", "diffusers"))
    lost = "first_stage_model.decoder.conv_out.bias"
    state = {name: tensor for name, tensor in sd1.state.items() if name != lost}
    cut = write_file(tmp_path / "cut.safetensors", state)
    refused(f"is not a complete Stable Diffusion.*1 missing .{lost}", lambda: convert(cut, tmp_path / "x", "diffusers"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    refused("1 bytes free, and", lambda: convert(source, tmp_path / "x", "diffusers"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.safetensors", "in.safetensors", "out"]


def test_mixed_types_within_one_tensor_are_refused(sd2: Released, tmp_path: Path) -> None:
    convert(sd2.write(tmp_path / "in.safetensors"), tmp_path / "out", "diffusers")
    file = tmp_path / "out/text_encoder/model.safetensors"
    state = {name: tensor.clone() for name, tensor in load_file(file).items()}
    name = "text_model.encoder.layers.0.self_attn.k_proj.weight"
    write_file(file, state | {name: state[name].half()})
    refused(f"{name}.* in different types", lambda: convert(tmp_path / "out", tmp_path / "x.safetensors", "original"))
    convert(tmp_path / "out", tmp_path / "x.safetensors", "original", dtype=torch.float32)


def test_files_in_a_header(sd1: Released, tmp_path: Path) -> None:
    files = {"unet/config.json": b"{}", "tokenizer/vocab.json": b"\xff\0" * 5000, "sfumato.json": b'{"steps": 3}'}
    packed = embedded_files.pack(files) | {"format": "pt"}
    assert embedded_files.unpack(packed, tmp_path) == (files, {"format": "pt"})
    state = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in sd1.state.items()}
    zeros = b64encode(zlib.compress(bytes(16 << 20))).decode()
    for metadata, text in (
        ({"sfumato:../x.json": "{}"}, "odd name"),
        ({"sfumato:/etc/x.json": "{}"}, "odd name"),
        ({"sfumato.zlib:tokenizer/merges.txt": "AAAA"}, "broken or too long"),
        ({"sfumato.zlib:x.json": b64encode(zlib.compress(bytes(17 << 20))).decode()}, "broken or too long"),
        ({"sfumato:unet/config.json": "[1]"}, "no JSON object"),
        ({"sfumato:unet/config.json": "\ud800"}, "no text"),
        ({f"sfumato.zlib:x{i}.json": zeros for i in range(5)}, "over 67108864 bytes"),
    ):
        safetensors_file.write(tmp_path / "odd.safetensors", state, sd1.state.__getitem__, metadata)
        refused(text, lambda: open_checkpoint(tmp_path / "odd.safetensors"))


def test_a_recipe_and_metadata_survive_both_layouts(tmp_path: Path) -> None:
    owner = family_named("sd1")
    spec = shrink(owner.spec)
    state = tensors(owner, spec, random_networks(owner, spec), "original")
    said = {"modelspec.title": "Мій", "sd_merge_recipe": '{"type": "webui"}', "sd_merge_models": "{}"}
    source = write_file(tmp_path / "m.safetensors", state, said)
    convert(source, tmp_path / "folder", "diffusers", max_file_size=4_000_000)
    convert(tmp_path / "folder", tmp_path / "back.safetensors", "original")
    convert(tmp_path / "back.safetensors", tmp_path / "half.safetensors", "original", dtype=torch.float16)
    for name in ("folder", "back.safetensors", "half.safetensors"):
        assert said.items() <= inspect_checkpoint(tmp_path / name).metadata.items()
