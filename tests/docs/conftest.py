"""A folder in which the commands of README and docs find the files that they name."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

import tiny
from sfumato.cli.main import app
from sfumato.families import family
from sfumato.hub.local_models import embedded_model
from sfumato.loading.convert import convert
from sfumato.loading.load import load_parts
from sfumato.loading.save import save_folder
from sfumato.merging.loras import extract_lora
from sfumato.nets.controlnet import ControlNet
from sfumato.nets.rrdb import RRDBNet
from sfumato.nets.unet import UNet
from sfumato.spec import ControlNetConfig
from tiny.adapters import random_eye, random_ip_adapter

PICTURES = {
    "sketch.png": 256, "photo.png": 256, "photo.jpg": 256, "small.png": 64, "face.png": 256, "map.png": 256,
    "half.png": 128, "cat.png": 64, "photos/one.png": 64, "photos/two.png": 64,
}  # fmt: skip
TEXTS = {
    "words/animal.txt": "cat\ndog\n",
    "styles.csv": "name,prompt,negative_prompt\nink,ink drawing of {prompt},photo\n",
    "my-captions.txt": "a cat\na dog\n",
}
FAMILIES = {
    "v1-5": "sd1", "sdxl": "sdxl", "sdxl-refiner": "sdxl_refiner", "x4": "sd2_upscaler", "depth": "sd2_depth",
    "unclip": "sd2_unclip",
}  # fmt: skip


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, texts, and little models, made once."""
    folder = tmp_path_factory.mktemp("docs")
    for name, side in PICTURES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        picture = Image.new("RGB", (side, side), "white")
        ImageDraw.Draw(picture).ellipse((side // 8, side // 8, side * 3 // 4, side * 3 // 4), fill="red")
        picture.save(folder / name)
    mask = Image.new("L", (256, 256), 0)
    mask.paste(255, (128, 0, 256, 256))
    mask.save(folder / "mask.png")
    for name, text in TEXTS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for name in ("data/emoji", "runs"):
        (folder / name).mkdir(parents=True)
    _models(folder)
    drawn = folder / "picture.png"
    words = ["txt2img", "a red heart", "--seed", "1", "--steps", "2", "--size", "64x64", "--out", str(drawn)]
    assert CliRunner().invoke(app, words).exit_code == 0
    for name in ("somebodys.png", "their.png", "apple.png"):
        shutil.copy(drawn, folder / name)
    return folder


def _models(folder: Path) -> None:
    tiny.WORDS.save(folder / "models" / "words")
    for name, release in FAMILIES.items():
        spec = tiny.shrink(family(release).spec)
        networks = tiny.random_networks(family(release), spec)
        save_folder(folder / "models" / name, spec, networks, tokenizer_folder=folder / "models" / "words")
    convert(folder / "models" / "v1-5", folder / "v1-5.safetensors", "original")
    shutil.copy(folder / "v1-5.safetensors", folder / "v1-5-pruned.ckpt")
    for number, name in enumerate(("portrait", "anime"), 1):
        _tuned(folder / "v1-5.safetensors", folder / f"{name}.safetensors", number)
    extract_lora(folder / "anime.safetensors", folder / "v1-5.safetensors", folder / "style.safetensors", rank=8)
    _steering(folder / "models" / "v1-5", folder / "canny.safetensors")
    _seeing(folder / "models" / "v1-5", folder)
    torch.save(tiny.randomise(RRDBNet(3, 8, 4, 2, 2)).state_dict(), folder / "4x-esrgan.pth")


def _seeing(model: Path, folder: Path) -> None:
    """An IP-Adapter for a model, its image encoder, and an embedding for the model that ships."""
    network = load_parts(model).denoiser
    assert isinstance(network, UNet)
    save_file(random_ip_adapter(network, network.cfg.context_dim), folder / "plus.safetensors")
    save_file(random_eye(), folder / "image_encoder.safetensors")
    text = load_parts(embedded_model()).texts[0]
    vectors = text.text_model.embeddings.token_embedding.weight[5:7].detach().clone()
    save_file({"emb_params": vectors}, folder / "gizmo.safetensors")


def _steering(model: Path, target: Path) -> None:
    """A ControlNet for a model, under both names by which pages speak of it."""
    network = ControlNet(ControlNetConfig(load_parts(model).spec.unet))
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, target)
    shutil.copy(target, target.with_suffix(""))


def _tuned(source: Path, target: Path, number: int) -> None:
    """A model as if it had been trained on: the larger weights are others."""
    with safe_open(source, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    for tensor in tensors.values():
        if tensor.ndim > 1 and tensor.is_floating_point():
            tensor += 0.01 * number * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(number))
    save_file(tensors, target, metadata)


@pytest.fixture
def workplace(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a copy of all that, which is the working folder."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
