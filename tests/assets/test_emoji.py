"""The model that ships: its size, its papers, and that diffusers draws the same pictures with it."""

from __future__ import annotations

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.api import StableDiffusion
from sfumato.data.captions import LANGUAGES
from sfumato.hub.local_models import embedded_model
from sfumato.loading.convert import convert
from sfumato.loading.inspect import inspect_checkpoint

MIB = 1 << 20


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return sfumato.load(device="cpu")


def test_weights_fit_in_24_mib_and_files_in_16() -> None:
    sizes = [path.stat().st_size for path in embedded_model().rglob("*") if path.is_file()]
    assert sum(sizes) <= 24 * MIB
    assert max(sizes) <= 16 * MIB


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
    red, blue = (np.asarray(image, dtype=float)[32:96, 32:96].mean((0, 1)) for image in images)
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
    red, green, blue = np.asarray(image, dtype=float)[40:88, 40:88].mean((0, 1))
    assert red > green + 25 and red > blue + 25


def test_diffusers_draws_the_same_picture(model: StableDiffusion) -> None:
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(embedded_model(), torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="leading", steps_offset=1, set_alpha_to_one=False, clip_sample=False
    )
    spec, prompt = model.spec, "pizza, flat icon"
    side = spec.defaults.width // spec.vae.factor
    noise = torch.randn((1, spec.vae.latent_channels, side, side), generator=torch.Generator().manual_seed(11))
    theirs = pipeline(
        prompt, latents=noise, num_inference_steps=20, guidance_scale=4.0,
        height=spec.defaults.height, width=spec.defaults.width,
    ).images[0]  # fmt: skip
    ours = model.txt2img(prompt, seed=11, steps=20, cfg=4.0, sampler="ddim", watermark=False).images[0]
    assert difference(ours, theirs) <= 2


def difference(a: Image.Image, b: Image.Image) -> int:
    """Largest difference of two pictures, in levels of 255."""
    return int(np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max())


def test_model_folder_is_complete() -> None:
    folder = embedded_model()
    assert isinstance(folder, Path)
    for name in ("model_index.json", "unet/config.json", "vae/config.json", "tokenizer/vocab.json"):
        assert (folder / name).is_file()


def test_a_single_file_of_it_is_the_same_model(tmp_path: Path) -> None:
    """What its tensors do not show travels in the header: heads, groups, schedule, prediction, scale, vocabulary."""
    file, folder, before = tmp_path / "em.safetensors", tmp_path / "em", embedded_model()
    convert(before, file, "original")
    convert(file, folder, "diffusers")
    written = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert len(written) == 13
    for name in written:
        assert (folder / name).read_bytes() == (before / name).read_bytes()
    models = [sfumato.load(path) for path in (before, file, folder)]
    assert models[0].spec == models[1].spec == models[2].spec
    images = [model.txt2img("a red heart", steps=2, seed=5).images[0].tobytes() for model in models]
    assert images[0] == images[1] == images[2]
    assert "tokenizer/vocab.json" in inspect_checkpoint(file).carried
