"""Words that bring a scene prior a thing that it does not remember."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import sfumato
from sfumato import StableDiffusion
from sfumato.errors import SfumatoError
from sfumato.nets.prior import ScenePrior, Understood
from sfumato.settings.settings import Settings

SIZE: dict[str, Any] = {"width": 64, "height": 64, "steps": 2, "seed": 5}
LIKE, SHOWN = "star", "red apple"
TEMPLATES = (
    "{}", "a {}", "two {}", "a blue {}", "a small {} at the top", "a {} and a cat", "a dog left of a {}",
    "three {} on a blue background", "a {}, 3d render", "a house above a {}, flat", "{} upside down",
)  # fmt: skip


@pytest.fixture(scope="module")
def sd() -> StableDiffusion:
    return sfumato.load()


@pytest.fixture(scope="module")
def prior(sd: StableDiffusion) -> ScenePrior:
    assert sd.prior is not None
    return sd.prior


@pytest.fixture(scope="module")
def concept(sd: StableDiffusion, prior: ScenePrior) -> int:
    return prior.understand(sd.encode.words(SHOWN)).things[0].concept


@pytest.fixture(scope="module")
def file(sd: StableDiffusion, prior: ScenePrior, concept: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedding that is read like one thing and shows another."""
    encode, memory = sd.encode, prior.memory
    styles = torch.arange(memory.known.shape[1])
    path = tmp_path_factory.mktemp("new") / "gizmo.safetensors"
    ids = encode.tokenizer.encode(LIKE)
    save_file({
        "emb_params": encode.towers[0].text_model.embeddings.token_embedding.weight[ids].detach().clone(),
        "thing_codes": memory(torch.full_like(styles, concept), styles),
        "thing_known": memory.known[concept].float().clone(),
    }, path)  # fmt: skip
    return path


def drawn(model: StableDiffusion, prompt: str) -> np.ndarray:
    return np.asarray(model.txt2img(prompt, **SIZE).images[0])


def apart(found: Understood, concept: int) -> tuple[object, ...]:
    """All that is understood, with one number for the concept in question."""
    things = [(0 if one.concept == concept else one.concept, one.tint, one.group) for one in found.things]
    return things, found.arrangement, found.place, found.style, found.ground


@pytest.mark.parametrize("template", TEMPLATES)
def test_it_is_read_in_sentences_like_the_word_it_was_made_of(
    template: str, sd: StableDiffusion, prior: ScenePrior, file: Path
) -> None:
    with sd.adapters.using(file):
        encode = sd.encode.with_embeddings(sd.adapters.words(Settings.of(sd.spec, "a gizmo")))
    new = len(prior.memory.known)
    like = prior.understand(sd.encode.words(LIKE)).things[0].concept
    found = prior.understand(encode.words(template.format("gizmo")))
    assert new in [one.concept for one in found.things]
    assert apart(found, new) == apart(prior.understand(sd.encode.words(template.format(LIKE))), like)


def test_it_is_drawn_as_its_code_says(sd: StableDiffusion, file: Path) -> None:
    plain = drawn(sd, "a gizmo")
    with sd.adapters.using(file):
        assert np.array_equal(drawn(sd, "gizmo"), drawn(sd, SHOWN))
        assert np.array_equal(drawn(sd, "(gizmo:1.0)"), drawn(sd, SHOWN))
    assert np.array_equal(drawn(sd, "a gizmo"), plain), "and forgotten again"


def test_a_thing_for_another_prior_is_refused(sd: StableDiffusion, file: Path, tmp_path: Path, model: str) -> None:
    tensors = {"emb_params": torch.ones(1, sd.encode.towers[0].cfg.hidden_size),
               "thing_codes": torch.ones(2, 3), "thing_known": torch.ones(2)}  # fmt: skip
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(SfumatoError, match="holds a thing for a scene prior of another size than that of"):
        sd.adapters.add(tmp_path / "other.safetensors")
    with pytest.raises(SfumatoError, match="holds a thing for a scene prior"):
        sfumato.load(model).adapters.add(file)
