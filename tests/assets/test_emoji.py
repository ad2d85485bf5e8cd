"""The model that ships: its size, its papers, that it reads prompts, and that diffusers computes the same with it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.api import StableDiffusion
from sfumato.data.emoji.captions import LANGUAGES
from sfumato.data.emoji.everyday import concept_names
from sfumato.diffusion.cond import Cond
from sfumato.hub.local_models import embedded_model
from sfumato.loading.convert import convert
from sfumato.loading.inspect import inspect_checkpoint
from sfumato.pipeline.latents import autoencoding

MIB = 1 << 20


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return sfumato.load(device="cpu")


def test_weights_fit_in_32_mib_and_files_in_16() -> None:
    sizes = [path.stat().st_size for path in embedded_model().rglob("*") if path.is_file()]
    assert sum(sizes) <= 32 * MIB
    assert max(sizes) <= 16 * MIB
    assets = [*embedded_model().parent.rglob("*.safetensors")]
    assert sum(path.stat().st_size for path in assets) <= 40 * MIB, "all networks that ship"


def test_card_names_data_licences_and_limits() -> None:
    card = (embedded_model() / "README.md").read_text(encoding="utf-8")
    for word in ("Fluent Emoji", "MIT", "Noto", "Apache-2.0", "Twemoji", "CC-BY-4.0", "Unicode", "Limits", "remembers"):
        assert word in card


def test_same_seed_gives_the_same_bytes(model: StableDiffusion) -> None:
    first, second = (model.txt2img("red heart", seed=3, steps=4).images[0] for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_a_batch_holds_its_single_pictures(model: StableDiffusion) -> None:
    batch = model.txt2img("rocket, flat icon", seed=7, steps=4, n=3)
    for k, image in enumerate(batch.images):
        single = model.txt2img("rocket, flat icon", seed=7 + k, steps=4, watermark=False).images[0]
        again = model.txt2img("rocket, flat icon", seed=7, steps=4, n=3, watermark=False).images[k]
        assert difference(single, again) <= 1
        assert batch.seeds[k] == 7 + k and image.size == single.size


def test_the_prompt_decides_the_picture(model: StableDiffusion) -> None:
    images = [model.txt2img(f"{colour} heart", seed=1, watermark=False).images[0] for colour in ("red", "blue")]
    red, blue = (np.asarray(image, dtype=float)[96:160, 96:160].mean((0, 1)) for image in images)
    assert red[0] > red[2] + 50 and blue[2] > blue[0] + 50


RED_HEART = {
    "en": "red heart",
    "th": "หัวใจสีแดง",
    "zh": "红心",
    "id": "hati merah",
    "uk": "червоне серце",
    "ja": "赤いハート",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_reaches_the_picture(model: StableDiffusion, language: str) -> None:
    image = model.txt2img(RED_HEART[language], seed=1, watermark=False).images[0]
    red, green, blue = np.asarray(image, dtype=float)[96:160, 96:160].mean((0, 1))
    assert red > green + 25 and red > blue + 25


def test_diffusers_computes_the_same(model: StableDiffusion) -> None:
    """Its transformer and its autoencoder, opened by diffusers, give our numbers; a prior it does not know."""
    generator = torch.Generator().manual_seed(0)
    x, t = torch.randn(2, 16, 16, 16, generator=generator), torch.tensor([300.0, 900.0])
    assert model.prior is not None
    drawing = autoencoding(model.vae)
    conds = [model.prior(model.encode.words(text), Random(1), 16, 16, drawing) for text in ("a red apple", "two cats")]
    cond = Cond.cat(conds)
    theirs = diffusers.SD3Transformer2DModel.from_pretrained(embedded_model(), subfolder="transformer")
    with torch.no_grad():
        expected = theirs(
            torch.cat([x, cond.concat], 1),
            encoder_hidden_states=cond.tokens,
            pooled_projections=cond.pooled,
            timestep=t,
        ).sample
        found = model.denoiser.network(x, t, cond)
        decoded = diffusers.AutoencoderKL.from_pretrained(embedded_model(), subfolder="vae").decode(x).sample
    assert (found - expected).abs().max() < 2e-4 * expected.abs().max()
    with torch.no_grad():
        assert (model.vae.decode(x) - decoded).abs().max() < 2e-4 * decoded.abs().max()


@pytest.mark.parametrize(
    ("prompt", "concepts", "arrangement"),
    [
        ("could you draw me a banana", ["banana"], "one"),
        ("a dog to the right of a cat", ["cat", "dog"], "left"),
        ("three rockets on a dark blue background", ["rocket"], "one"),
        ("pizza", ["pizza"], "one"),
        # As people write to larger models.
        ("a cute kitten, watercolor, 4k, trending on artstation", ["cat"], "one"),
        ("oil painting of a sunflower in the style of van gogh", ["sunflower"], "one"),
        ("a robot, concept art, by greg rutkowski, unreal engine", ["robot"], "one"),
        ("cyberpunk samurai cat, neon lights, highly detailed, artstation", ["cat"], "one"),
        ("wolf howling at the moon", ["wolf", "moon"], "left"),
        ("a frog on a mushroom", ["frog", "mushroom"], "above"),
        ("梵高风格的向日葵", ["sunflower"], "one"),
        ("キツネの肖像画、油絵", ["fox"], "one"),
    ],
)
def test_prompts_are_read(model: StableDiffusion, prompt: str, concepts: list[str], arrangement: str) -> None:
    assert model.prior is not None
    found = model.prior.understand(model.encode.words(prompt))
    names = concept_names()
    assert found.arrangement == arrangement and len(found.things) == len(concepts)
    for thing, concept in zip(found.things, concepts, strict=True):
        assert concept in names[thing.concept] and thing.group.count == (3 if "three" in prompt else 1)


def test_what_names_nothing_is_told_as_nothing(model: StableDiffusion) -> None:
    assert model.prior is not None
    for prompt in ("", "blurry, low quality"):
        assert model.prior.understand(model.encode.words(prompt)).things == ()


def difference(a: Image.Image, b: Image.Image) -> int:
    """Largest difference of two pictures, in levels of 255."""
    return int(np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max())


def test_model_folder_is_complete() -> None:
    folder = embedded_model()
    assert isinstance(folder, Path)
    for name in (
        "model_index.json",
        "transformer/config.json",
        "prior/config.json",
        "vae/config.json",
        "tokenizer/vocab.json",
    ):
        assert (folder / name).is_file()


def test_a_single_file_of_it_is_the_same_model(tmp_path: Path) -> None:
    """What its tensors do not show travels in the header: heads, groups, schedule, prediction, scale, vocabulary."""
    file, folder, before = tmp_path / "em.safetensors", tmp_path / "em", embedded_model()
    convert(before, file, "original")
    convert(file, folder, "diffusers")
    written = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert len(written) == 15
    for name in written:
        assert (folder / name).read_bytes() == (before / name).read_bytes()
    models = [sfumato.load(path) for path in (before, file, folder)]
    assert models[0].spec == models[1].spec == models[2].spec
    images = [model.txt2img("a red heart", steps=2, seed=5).images[0].tobytes() for model in models]
    assert images[0] == images[1] == images[2]
    assert "tokenizer/vocab.json" in inspect_checkpoint(file).carried
