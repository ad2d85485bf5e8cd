"""Pictures beside the words: IP-Adapters as users name them, and pictures that differ in what they are shown."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

import sfumato
from sfumato import ImagePrompt, StableDiffusion
from sfumato.errors import SfumatoError
from sfumato.nets.clip_vision import CLIPVision
from sfumato.nets.unet import UNet
from sfumato.spec import CLIPVisionConfig
from tiny.adapters import random_eye, random_ip_adapter

SIZE: dict[str, Any] = {"width": 32, "height": 32, "steps": 4, "seed": 3, "cfg": 3.0, "sampler": "euler"}


@pytest.fixture(scope="module")
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


@pytest.fixture(scope="module")
def files(sd: StableDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A web UI's folder with an IP-Adapter for the model, an image encoder, and two pictures."""
    folder = tmp_path_factory.mktemp("images")
    network, width = sd.loaded.network, sd.spec.unet.context_dim
    assert isinstance(network, UNet)
    for room in ("Stable-diffusion", "ipadapter", "clip_vision"):
        (folder / "models" / room).mkdir(parents=True)
    save_file(random_ip_adapter(network, width), folder / "models" / "ipadapter" / "plain.safetensors")
    save_file(random_eye(), folder / "models" / "clip_vision" / "eye.safetensors")
    for k, name in enumerate(("one", "two")):
        pixels = np.random.default_rng(k).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture(autouse=True)
def folders(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_MODELS", str(files))


def drawn(model: StableDiffusion, **options: Any) -> np.ndarray:
    return np.asarray(model.txt2img("a cat", **SIZE | options).images[0])


def test_a_picture_changes_what_is_drawn(sd: StableDiffusion, files: Path) -> None:
    plain = drawn(sd)
    one = drawn(sd, ip_adapter=[f"plain={files}/one.png"])
    assert not np.array_equal(one, plain)
    assert not np.array_equal(one, drawn(sd, ip_adapter=[f"plain={files}/two.png"]))
    assert np.array_equal(plain, drawn(sd, ip_adapter=[f"plain={files}/one.png,weight=0"]))
    assert np.array_equal(one, drawn(sd, ip_adapter=ImagePrompt("plain", Image.open(files / "one.png"))))
    given = (
        f"{files}/models/ipadapter/plain.safetensors={files}/one.png,encoder={files}/models/clip_vision/eye.safetensors"
    )
    assert np.array_equal(one, drawn(sd, ip_adapter=[given]))
    assert np.array_equal(plain, drawn(sd)), "nothing is left behind"


def test_when_and_how_strongly(sd: StableDiffusion, files: Path) -> None:
    whole, plain = drawn(sd, ip_adapter=[f"plain={files}/one.png"]), drawn(sd)
    half = drawn(sd, ip_adapter=[f"plain={files}/one.png,end=0.5"])
    late = drawn(sd, ip_adapter=[f"plain={files}/one.png,start=0.5"])
    weak = drawn(sd, ip_adapter=[f"plain={files}/one.png,weight=0.3"])
    for found in (half, late, weak):
        assert not np.array_equal(found, whole) and not np.array_equal(found, plain)


def test_two_adapters_add_up(sd: StableDiffusion, files: Path) -> None:
    both = drawn(sd, ip_adapter=[f"plain={files}/one.png,weight=0.5", f"plain={files}/two.png,weight=0"])
    assert np.array_equal(both, drawn(sd, ip_adapter=[f"plain={files}/one.png,weight=0.5"]))
    result = sd.txt2img("a cat", **SIZE, n=2, ip_adapter=[f"plain={files}/one.png"])
    assert 'IP-Adapter 0: "plain, picture one.png"' in result.infotexts[0]


def test_the_command_line_takes_it(run: Any, model: str, files: Path) -> None:
    size = ("--size", "32x32", "--steps", "1")
    found = run("txt2img", "a cat", "--model", model, *size, "--ip-adapter", f"plain={files}/one.png,weight=0.4")
    assert found.exit_code == 0, found.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plain", "give an adapter and a picture"),
        ("plain=/nowhere.png", "nowhere.png"),
        ("nothing=a.png", "no adapter 'nothing'"),
        ("plain=a.png,weight=x", "weight"),
        ("plain=a.png,start=0.9,end=0.1", "let it end later"),
    ],
)
def test_what_cannot_be_read(text: str, message: str, sd: StableDiffusion) -> None:
    with pytest.raises(SfumatoError, match=message):
        drawn(sd, ip_adapter=[text])


def test_an_encoder_of_other_sizes(sd: StableDiffusion, files: Path, tmp_path: Path) -> None:
    save_file(
        CLIPVision(CLIPVisionConfig(64, 64, 1, 1, 28, 14, projection_dim=16)).state_dict(), tmp_path / "e.safetensors"
    )
    with pytest.raises(SfumatoError, match="an image encoder of other sizes than"):
        drawn(sd, ip_adapter=[f"plain={files}/one.png,encoder={tmp_path}/e.safetensors"])


def test_what_was_added_is_seen_in_every_picture(sd: StableDiffusion, files: Path) -> None:
    asked = drawn(sd, ip_adapter=[f"plain={files}/one.png,weight=0.6"])
    name = sd.adapters.show("plain", files / "one.png", 0.6)
    try:
        assert name == "plain" and name in sd.adapters and "plain (ip-adapter) at 0.6" in repr(sd.adapters)
        result = sd.txt2img("a cat", **SIZE)
        assert np.array_equal(asked, np.asarray(result.images[0]))
        assert "IP-Adapter 0: " in result.infotexts[0] and "picture one.png" in result.infotexts[0]
    finally:
        sd.adapters.remove("plain")
    assert len(sd.adapters) == 0 and np.array_equal(drawn(sd), drawn(sd, ip_adapter=[]))
    with pytest.raises(SfumatoError, match="no adapter 'nothing'"):
        sd.adapters.show("nothing", files / "one.png")


def test_what_a_file_is_is_said(run: Any, files: Path) -> None:
    found = run("inspect", str(files / "models" / "ipadapter" / "plain.safetensors"))
    assert found.exit_code == 0 and "an IP-Adapter (plain)" in found.output, found.output
    assert "an IP-Adapter (plain)" in run("models").output
