"""Fine-tuning of a model with a scene prior: drafts that lie as pictures do, words for what it does not know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from torch import Tensor

import sfumato
from sfumato.data.pictures.readers.find import OwnPictures
from sfumato.errors import SfumatoError
from sfumato.nets.layout import Region
from sfumato.pipeline.latents import autoencoding
from sfumato.pipeline.load import load
from sfumato.settings.settings import Settings
from sfumato.train.conditions import Conditions
from sfumato.train.config import LoopConfig
from sfumato.train.learnt import LoraOptions
from sfumato.train.loop import train
from sfumato.train.methods.dpo import DpoTask, DpoTraining
from sfumato.train.methods.dreambooth import DreamboothTask, DreamboothTraining, apart
from sfumato.train.methods.full import FullTask, FullTraining
from sfumato.train.methods.lora import LoraTask, LoraTraining

CPU, SIDE = torch.device("cpu"), 64
LOOP = LoopConfig(
    steps=2, batch=2, lr=1e-3, warmup=1, ema=0.0, lr_schedule="constant", validate_every=99, sample_every=99,
    precision="fp32",
)  # fmt: skip
pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of a gizmo: a cross in a ring, on white, one high and small and one wide."""
    folder = tmp_path_factory.mktemp("gizmos")
    for name, box in (("high", (24, 8, 40, 40)), ("wide", (4, 20, 60, 48))):
        picture = Image.new("RGB", (SIDE, SIDE), "white")
        pen = ImageDraw.Draw(picture)
        pen.ellipse(box, outline="purple", width=4)
        pen.line((box[0], box[1], box[2], box[3]), fill="green", width=4)
        picture.save(folder / f"{name}.png")
    return folder


def lora(things: Path, folder: Path, **more) -> LoraTask:
    data = {"resolution": SIDE, "default_caption": "a gizmo"}
    recipe = LoraTraining(loop=LOOP, rank=2, data=data, sheet_steps=1, name="gizmo", **more)
    return LoraTask(recipe, OwnPictures(things), folder, CPU)


def test_a_lora_brings_the_word_for_what_its_pictures_show(things: Path, tmp_path: Path) -> None:
    task = lora(things, tmp_path, word="gizmo", like="star")
    assert task.word is not None and task.word.word.thing is not None
    assert task.word.word.thing.known.tolist() == [1, 1, 0, 0, 0, 0] and task.word.styles == {0: 0, 1: 1}
    train(task, LOOP, tmp_path, record=task.cfg, device=CPU)
    file = tmp_path / "export" / "gizmo.safetensors"
    assert {"bundle_emb.gizmo.emb_params", "bundle_emb.gizmo.thing_codes"} < set(load_file(file))

    sd = sfumato.load()
    assert sd.prior is not None
    with sd.adapters.using(file):
        encode = sd.encode.with_embeddings(sd.adapters.words(Settings.of(sd.spec, "a gizmo")))
    (found,) = sd.prior.understand(encode.words("a gizmo")).things
    assert found.concept == len(sd.prior.memory.known), "a thing of its own"
    (plain,) = sd.prior.understand(sd.encode.words("a gizmo")).things
    assert plain.concept < len(sd.prior.memory.known)


def test_drafts_lie_as_the_pictures_do_and_each_has_its_own_code(things: Path, tmp_path: Path) -> None:
    task = lora(things, tmp_path, word="gizmo", like="star")
    samples = task.pictures.validation()
    high, wide = (task.draft(sample, 0) for sample in samples)
    assert isinstance(high, Region) and isinstance(wide, Region)
    assert high.height > 1.5 * high.width and wide.width > 1.5 * wide.height
    concat = task._conditions(samples).concat
    assert concat is not None
    own = (concat - torch.stack([task._latents(sample) for sample in samples])).square().mean()
    crossed = (concat - torch.stack([task._latents(sample) for sample in samples[::-1]])).square().mean()
    assert own < 0.6 * crossed


def test_without_a_word_a_draft_shows_what_the_prior_knows_where_the_picture_has_it(
    things: Path, tmp_path: Path
) -> None:
    task = lora(things, tmp_path)
    sample = replace(task.pictures.validation()[0], caption="a star")

    def busy(y: float) -> Tensor:
        """How much the upper and the lower half of a draft change whose things lie at a height."""
        told = Conditions(task.model, lambda sample, turn: Region(0.5, y, 0.4, 0.4))([sample]).concat
        assert told is not None
        return torch.stack([half.std((2, 3)).mean() for half in told.chunk(2, 2)])

    (high, below), (above, low) = busy(0.25), busy(0.75)
    assert high > 1.2 * below and low > 1.2 * above


def test_a_picture_of_latents_is_its_own_draft_with_errors_of_a_drafts_size(things: Path, tmp_path: Path) -> None:
    task = lora(things, tmp_path)
    (sample, other) = task.pictures.validation()
    latents = task._latents(sample).float()
    told = Conditions(task.model, lambda sample, turn: latents)
    first, again, later = (told([sample, other], [turn] * 2).concat for turn in (0, 0, 1))
    assert first is not None and again is not None and later is not None
    assert torch.equal(first, again) and not torch.equal(first, later)
    assert 0.1 < (first[0] - latents).square().mean().sqrt() < 0.16
    nameless = replace(sample, caption="")
    unknown = told([nameless]).concat
    assert unknown is not None and task.model.prior is not None
    assert torch.equal(unknown, task.model.prior.nothing(*unknown.shape[2:]).concat.to(unknown))


def test_dreambooth_takes_the_word_from_its_prompts_and_keeps_the_class_by_its_own_pictures(
    things: Path, tmp_path: Path
) -> None:
    assert apart("a sks dog", "a dog") == ("sks dog", "dog")
    recipe = DreamboothTraining(
        loop=LOOP, prompt="a zyx star", class_prompt="a star", class_pictures=2, class_steps=1, sheet_steps=1,
        lora=LoraOptions(rank=2), data={"resolution": SIDE},
    )  # fmt: skip
    task = DreamboothTask(recipe, OwnPictures(things), tmp_path, CPU)
    assert task.word is not None and task.word.word.name == "zyx star"
    kept = next(view for view in task.pictures.views() if view.regularisation)
    assert isinstance(task.draft(kept, 0), Tensor), "what the model drew is its own draft"
    for wrong in ({"lora": None}, {"class_prompt": ""}):
        with pytest.raises(SfumatoError, match="needs a word for the thing; give a table"):
            DreamboothTask(replace(recipe, **wrong), OwnPictures(things), tmp_path, CPU)


def test_both_pictures_of_a_pair_have_the_draft_of_their_caption(things: Path, tmp_path: Path) -> None:
    data = {"resolution": SIDE, "default_caption": "a star"}
    task = DpoTask(DpoTraining(loop=LOOP, rank=2, data=data), OwnPictures(things), tmp_path, CPU, things)
    (sample, _), model = task.pictures.validation(), task.model
    assert model.prior is not None
    (size,) = {edge // model.spec.vae.factor for edge in sample.size}
    words = model.encode.words("a star")
    drawn = model.prior(words, Random(sample.picture), size, size, autoencoding(model.vae)).concat
    assert torch.equal(task._conditions([sample]).concat, drawn)


def test_a_word_without_a_scene_prior_is_refused(released, things: Path, tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="leave out `word`, and have it in captions"):
        lora(things, tmp_path, model=released("sd1"), word="gizmo", like="star")


def test_a_model_that_learns_whole_remembers_its_pictures(things: Path, tmp_path: Path) -> None:
    data = {"resolution": SIDE, "default_caption": "a star, flat icon"}
    task = FullTask(FullTraining(loop=LOOP, data=data, sheet_steps=1), OwnPictures(things), tmp_path, CPU)
    base, prior = load("emoji", CPU, "float32"), task.model.prior
    assert base.prior is not None and prior is not None
    found = prior.understand(base.encode.words("a star, flat icon"))
    assert found.style is not None
    changed = (prior.memory.codes != base.prior.memory.codes).any(-1).nonzero().tolist()
    assert changed == [[found.things[0].concept, found.style]]
    task.export(tmp_path / "export")
    saved = load(str(tmp_path / "export"), CPU, "float32").prior
    assert saved is not None
    torch.testing.assert_close(saved.memory.codes, prior.memory.codes, atol=0.02, rtol=0.01)
