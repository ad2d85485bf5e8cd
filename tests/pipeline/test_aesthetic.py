"""Aesthetic predictors: the layouts in which they were published, and pictures chosen by them."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import sfumato
from sfumato.errors import SfumatoError
from sfumato.loading.image_encoders import load_image_encoder
from sfumato.provenance import infotext
from tiny.adapters import EYE, random_eye

SMALL: dict[str, Any] = {"steps": 1, "seed": 3, "width": 32, "height": 32, "watermark": False}
P = EYE.projection_dim or 0


def plain() -> nn.Module:
    """As the first predictor."""
    return nn.Linear(P, 1)


def mlp() -> nn.Module:
    """As the improved one: linear layers and dropout, nothing between the last two."""
    layers = (nn.Linear(P, 9), nn.Dropout(), nn.Linear(9, 7), nn.Dropout(), nn.Linear(7, 5), nn.Linear(5, 1))
    return nn.Sequential(OrderedDict(layers=nn.Sequential(*layers)))


def rectified() -> nn.Module:
    """As the improved one with ReLU."""
    layers = (nn.Linear(P, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 1))
    return nn.Sequential(OrderedDict(layers=nn.Sequential(*layers)))


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))


@pytest.fixture
def folder(tmp_path: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A web UI's folder with an image encoder, a picture and a predictor."""
    (tmp_path / "models" / "clip_vision").mkdir(parents=True)
    (tmp_path / "models" / "Stable-diffusion").mkdir()
    save_file(random_eye(), tmp_path / "models" / "clip_vision" / "eye.safetensors")
    picture.save(tmp_path / "one.png")
    torch.manual_seed(0)
    torch.save(mlp().state_dict(), tmp_path / "liking.pth")
    monkeypatch.setenv("SFUMATO_MODELS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("kind", [plain, mlp, rectified])
def test_a_score_is_that_of_the_published_network(kind: Any, folder: Path, picture: Image.Image) -> None:
    torch.manual_seed(1)
    theirs = kind().eval()
    torch.save(theirs.state_dict(), folder / "theirs.pth")
    scorer = sfumato.load_aesthetic(folder / "theirs.pth", "eye", "cpu")
    vector = load_image_encoder(folder / "models/clip_vision/eye.safetensors", "cpu")(picture).vector
    with torch.no_grad():
        expected = theirs(vector / vector.norm(dim=1, keepdim=True)).item()
    assert scorer(picture) == pytest.approx(expected, abs=1e-6)
    assert sfumato.load_aesthetic(folder / "theirs.pth", device="cpu")(picture) == scorer(picture), "found by its sizes"


def test_what_is_no_predictor(folder: Path) -> None:
    torch.save(nn.Linear(P, 2).state_dict(), folder / "two.pth")
    with pytest.raises(SfumatoError, match="no aesthetic predictor; give a file of LAION's"):
        sfumato.load_aesthetic(folder / "two.pth", "eye")
    torch.save(nn.Linear(P + 1, 1).state_dict(), folder / "wide.pth")
    with pytest.raises(SfumatoError, match=f"reads vectors of {P + 1} numbers, and eye gives {P}"):
        sfumato.load_aesthetic(folder / "wide.pth", "eye")
    with pytest.raises(SfumatoError, match=f"vectors of {P + 1} numbers, and the folder clip_vision"):
        sfumato.load_aesthetic(folder / "wide.pth")
    torch.save({"layers.0.weight": torch.zeros(3, P), "layers.2.weight": torch.zeros(1, 3)}, folder / "half.pth")
    with pytest.raises(SfumatoError, match=r"no complete aesthetic predictor: 2 missing \(layers.0.bias"):
        sfumato.load_aesthetic(folder / "half.pth", "eye")


def test_the_best_are_those_that_it_likes_best(model: str, folder: Path) -> None:
    sd, liking = sfumato.load(model, "cpu"), sfumato.load_aesthetic(folder / "liking.pth", device="cpu")
    every = sd.txt2img("", **SMALL, n=4)
    scores = [round(liking(image), 4) for image in every.images]
    best = sd.txt2img("", **SMALL, best_of=4, n=2, aesthetic=str(folder / "liking.pth"), clip_vision="eye")
    order = sorted(range(4), key=lambda k: -scores[k])[:2]
    assert best.seeds == [every.seeds[k] for k in order] and best.scores == [scores[k] for k in order]
    facts = infotext.parse(best.infotexts[0])[2]
    assert (facts["Aesthetic predictor"], facts["Predicted score"]) == ("liking", f"{best.scores[0]:g}")
    assert "CLIP score" not in facts
    with pytest.raises(SfumatoError, match="give best_of as well"):
        sd.txt2img("", **SMALL, aesthetic="liking.pth")


def test_the_command_line_sorts_pictures(run: Any, folder: Path) -> None:
    Image.new("RGB", (30, 30), "red").save(folder / "two.png")
    given = [str(folder / "one.png"), str(folder / "two.png"), "--aesthetic", str(folder / "liking.pth")]
    found = run("score", *given, "--json", "--device", "cpu")
    assert found.exit_code == 0, found.output
    scores = json.loads(found.stdout)["scores"]
    assert {Path(one["file"]).name for one in scores} == {"one.png", "two.png"}
    assert scores[0]["score"] >= scores[1]["score"]
    first = run("score", *given, "--device", "cpu").stdout.splitlines()[0]
    assert first == f"{scores[0]['score']:.3f}  {scores[0]['file']}"
    assert "there is no adapter 'nowhere'" in run("score", *given, "--clip-vision", "nowhere").output
