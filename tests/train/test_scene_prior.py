"""The denoiser of things in places and the reader of prompts, on the tiny set, and the model that the two become."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import sfumato
from sfumato.data.emoji.captions import COLOURS, STYLES
from sfumato.data.emoji.concept_scenes import ConceptScenes
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.nouns import TINTS
from sfumato.data.protocol import Prompt, RequestedThing
from sfumato.loading.exports import VAE_FILE, write_export
from sfumato.nets.layout import Group
from sfumato.nets.prior import Named, Understood
from sfumato.spec import MMDiTConfig, VAEConfig
from sfumato.train.assemble import SCENES_FILE, completed, read_codes, remembered
from sfumato.train.codes import Codes
from sfumato.train.config import LoopConfig
from sfumato.train.latents import cached, scene_latents
from sfumato.train.loop import train
from sfumato.train.methods.codes import CANONICAL, GREEN, CodesTask, CodesTraining
from sfumato.train.methods.reader import ReaderTask, ReaderTraining, misread
from sfumato.train.methods.scenes import SceneTask, SceneTraining
from sfumato.train.methods.vae import VAETask, VAETraining
from sfumato.train.task import Task
from sfumato.train.text_tower import TowerSize

CPU = torch.device("cpu")
LOOP = LoopConfig(steps=6, batch=8, lr=4e-3, warmup=2, log_every=3, validate_every=100, sample_every=100, ema=0.9)
DRAWING = SceneTraining(
    LOOP, MMDiTConfig(patch=2, hidden=32, heads=2, depth=2, positions=8, qk_norm=True), scenes=24, held_out=4,
    sheet_steps=2,
)  # fmt: skip
CODES = CodesTraining(LOOP, code=16, detail=(8, 6, 10), pictures=12, held_out=4)
READING = ReaderTraining(
    replace(LOOP, batch=16), TowerSize(vocab_size=700, width=32, layers=1, heads=2, max_length=48), corpus=300, tests=3
)


def run(task: Task, recipe, folder: Path, steps: int) -> dict[str, float]:
    loop = replace(recipe.loop, steps=steps, lr_schedule="constant")
    return train(task, loop, folder, record=recipe, device=CPU).metrics


@pytest.fixture(scope="module")
def latents(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("latents")


@pytest.fixture(scope="module")
def vae(emoji: EmojiData):
    recipe = VAETraining(LOOP, VAEConfig(latent_channels=4, channels=(8, 8), blocks=1, groups=1), crop=16, held_out=4)
    return VAETask(recipe, emoji).networks.eval()


@pytest.fixture(scope="module")
def codes(emoji: EmojiData, vae, latents: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("codes")
    run(CodesTask(CODES, emoji, vae, latents, CPU), CODES, folder, 3)
    return folder / "export"


@pytest.fixture(scope="module")
def scene_task(emoji: EmojiData, vae, codes: Path, latents: Path) -> Callable[[], SceneTask]:
    return lambda: SceneTask(DRAWING, emoji, vae, *read_codes(codes), latents, CPU)


@pytest.fixture(scope="module")
def drawing(scene_task, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawing")
    run(scene_task(), DRAWING, folder, 6)
    return folder / "export"


def test_all_learn(emoji, vae, latents, scene_task, tmp_path):
    cuts = CodesTask(CODES, emoji, vae, latents, CPU)
    before = cuts.validate()["alpha"]
    assert run(cuts, CODES, tmp_path / "codes", 60)["val/alpha"] < 0.8 * before
    first = run(scene_task(), DRAWING, tmp_path / "a", 1)["val/single"]
    assert run(scene_task(), DRAWING, tmp_path / "b", 40)["val/single"] < 0.9 * first
    reads = ReaderTask(READING, emoji, tmp_path / "c")
    batch = reads.batch(0)
    before = reads.loss(batch)[0].item()
    run(reads, READING, tmp_path / "c", 30)
    assert reads.loss(batch)[0].item() < 0.9 * before


def test_an_interrupted_run_goes_on_exactly(scene_task, tmp_path):
    for name, parts in (("whole", (4,)), ("parts", (2, 4))):
        for steps in parts:
            run(scene_task(), DRAWING, tmp_path / name, steps)
    whole, parts = (load_file(tmp_path / name / "export" / SCENES_FILE) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)


def test_labels_say_what_was_composed(emoji, vae, latents):
    found = scene_latents(latents, emoji, vae, 24, 4242)
    again = scene_latents(latents, emoji, vae, 24, 4242)
    assert all(torch.equal(found[name], again[name]) for name in found)
    assert found["latents"].shape == (24, 4, 16, 16)
    composed = ConceptScenes(emoji, 4242)
    for row in range(24):
        scene, present = composed[row], found["group"][row] >= 0
        assert found["picture"][row, present].tolist() == [placed.picture for placed in scene.objects]
        assert found["group"][row, present].tolist() == [placed.group for placed in scene.objects]
        tints = [placed.colour and placed.colour.name for placed in scene.objects]
        assert [(None, *TINTS)[tint] for tint in found["tint"][row, present]] == tints
        spots = [(s.x, s.y, s.side, s.angle, s.mirrored) for s in (placed.spot for placed in scene.objects)]
        torch.testing.assert_close(found["spot"][row, present], torch.tensor(spots))
        ground = scene.asked.ground
        assert int(found["ground"][row]) == (COLOURS.index(ground) if ground else len(COLOURS))


def test_a_code_brings_its_picture_back(emoji, vae, latents):
    x = cached(latents, emoji.alone(CANONICAL, GREEN), vae).float()
    train_numbers = emoji.splits["train"]
    codes = Codes.of(x, train_numbers, 64)
    back = (codes.codes @ codes.basis.T + codes.mean).view_as(x)
    error = (back - x)[train_numbers].square().mean() / x[train_numbers].var()
    assert error < 0.05 and CANONICAL.side < 1
    assert torch.equal(codes.codes, codes.codes.to(torch.float8_e4m3fn).float()), "the memory keeps eight bits"


def test_guesses_fill_the_styles_that_are_lacking():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(40, 1, 6, generator=generator).repeat(1, 3, 1) * torch.tensor([1.0, 2.0, -1.0])[:, None] * 20
    known = torch.ones(40, 3, dtype=torch.bool)
    known[:4, 1], known[5] = False, False
    found = completed(codes * known[..., None], known)
    assert torch.equal(found[known], codes[known]) and (found[5] == 0).all()
    assert (found[:4, 1] - codes[:4, 1]).square().mean() < 0.02 * codes.square().mean()


def test_the_two_runs_become_a_model_that_loads_and_draws(emoji, vae, latents, drawing, tmp_path):
    write_export(tmp_path / "vae" / VAE_FILE, vae, dataclasses.asdict(vae.cfg))
    task = ReaderTask(READING, emoji, tmp_path / "run", scenes=drawing, vae=tmp_path / "vae")
    run(task, READING, tmp_path / "run", 4)
    made = sfumato.load(tmp_path / "run" / "export", device="cpu")
    assert made.spec.family == "sd3_prior" and made.prior is not None
    known = {(emoji.concept_index(int(i)), STYLES.index(emoji.style(int(i)))) for i in emoji.splits["train"]}
    assert {tuple(place) for place in (made.prior.memory.known > 0).nonzero().tolist()} == known
    stored = load_file(drawing / SCENES_FILE)
    number = int(emoji.splits["train"][0])
    place = emoji.concept_index(number), STYLES.index(emoji.style(number))
    codes = stored["codes"][number, : CODES.code]
    assert (made.prior.memory.codes[place] - codes).square().mean() < 0.01 * codes.square().mean(), "eight bits"
    assert made.txt2img("a red circle", width=32, height=32, steps=2).images[0].size == (32, 32)
    whole = str(tmp_path / "run" / "export")
    run(ReaderTask(READING, emoji, tmp_path / "more", init=whole), READING, tmp_path / "more", 2)
    more = sfumato.load(tmp_path / "more" / "export", device="cpu")
    assert torch.equal(more.prior.memory.codes, made.prior.memory.codes) and more.prior.lexicon.entries.any()
    assert more.prior.cfg.phrases == len(more.prior.lexicon.entries)
    assert not torch.equal(more.prior.reader.queries, made.prior.reader.queries)
    known = remembered(made.prior, emoji)
    drawing_on = SceneTask(DRAWING, emoji, made.vae, made.prior.composer, known, latents, CPU, made)
    run(drawing_on, DRAWING, tmp_path / "drawing-on", 2)
    drawn = sfumato.load(tmp_path / "drawing-on" / "export", device="cpu")
    assert torch.equal(drawn.prior.memory.codes, made.prior.memory.codes)
    assert not torch.equal(drawn.denoiser.network.proj_out.weight, made.denoiser.network.proj_out.weight)


def test_new_details_and_fewer_blocks_go_into_a_model(emoji, vae, latents, drawing, tmp_path):
    write_export(tmp_path / "vae" / VAE_FILE, vae, dataclasses.asdict(vae.cfg))
    run(
        ReaderTask(READING, emoji, tmp_path / "run", scenes=drawing, vae=tmp_path / "vae"), READING, tmp_path / "run", 1
    )
    whole = sfumato.load(tmp_path / "run" / "export", device="cpu")
    known = remembered(whole.prior, emoji)[:, : CODES.code]
    finer = replace(CODES, detail=(8, 12, 40))
    run(CodesTask(finer, emoji, whole.vae, latents, CPU, known), finer, tmp_path / "codes", 1)
    composer, codes = read_codes(tmp_path / "codes" / "export")
    shorter = replace(DRAWING, transformer=replace(DRAWING.transformer, depth=1))
    task = SceneTask(shorter, emoji, whole.vae, composer, codes, latents, CPU, whole)
    run(task, shorter, tmp_path / "finer", 2)
    made = sfumato.load(tmp_path / "finer" / "export", device="cpu")
    assert made.prior.cfg.detail == (8, 12, 40) and made.spec.transformer.depth == 1
    assert torch.equal(made.prior.memory.codes, whole.prior.memory.codes)
    numbers = emoji.splits["train"]
    x = cached(latents, emoji.alone(CANONICAL, GREEN), vae).float()
    errors = []
    for model in (whole, made):
        back = model.prior.composer.alone(remembered(model.prior, emoji))
        errors.append((back - x)[numbers].square().mean())
    assert errors[1] < 0.8 * errors[0], "details say what codes leave out"
    assert made.txt2img("a red circle", width=32, height=32, steps=1).images[0].size == (32, 32)


def test_what_is_misread_is_named():
    thing, other = RequestedThing(3, 2, 1, "small"), RequestedThing(4)
    asked = Prompt("", (thing, other), "left", None, None, 5, (3, 7))

    def read(first: int = 3, ground: int = 5, **group) -> set[str]:
        named = Named(first, 1, Group(**({"count": 2, "size": "small"} | group))), Named(4)
        return misread(Understood(named, "left", None, None, ground), asked, 22)

    assert not read() and not read(first=7), "equally right"
    assert read(first=4) == {"first", "concept"} and read(ground=21) == {"ground"}
    assert read(count=1, size=None, pose="tilted") == {"count", "size", "pose"}
    alone = misread(Understood((Named(3, 1, Group(2, "small")),), "one", "left", 0, 5), asked, 22)
    assert alone == {"arrangement", "place", "style", "count"}
    nothing = Prompt("", (), fitting=(0,))
    assert misread(Understood((), "one", None, None, 22), nothing, 22) == {"first"}
