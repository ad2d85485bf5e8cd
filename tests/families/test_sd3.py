"""3 and 3.5: the arrangements in which their files come, and what they are told apart by."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentencepiece import SentencePieceTrainer
from torch import Tensor

import sfumato
from sfumato.api import StableDiffusion
from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.families import family
from sfumato.loading.load import load_parts
from sfumato.pipeline.guidance import skipping
from sfumato.settings.settings import Settings
from sfumato.text.tokenizer import CLIPTokenizer
from tiny import WORDS, random_networks, shrink, tensors, write_file

MEDIUM = family("sd35_medium")
DRAW = {"steps": 2, "cfg": 3.0, "width": 32, "height": 16, "seed": 3, "watermark": False}
CLIPS = ("text_encoders.clip_l.", "text_encoders.clip_g.")
T5 = "text_encoders.t5xxl.transformer."


@pytest.fixture(scope="module")
def whole() -> dict[str, Tensor]:
    """All tensors of a tiny 3.5 medium with its three text encoders, as a single file holds them."""
    spec = shrink(MEDIUM.spec)
    return tensors(MEDIUM, spec, random_networks(MEDIUM, spec), "original")


@pytest.fixture(autouse=True)
def few_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """CLIP's own vocabulary, which single files leave unsaid, is that of the tiny models."""
    monkeypatch.setattr(CLIPTokenizer, "openai", lambda: WORDS)


@pytest.fixture
def spiece(tmp_path: Path) -> Iterator[Path]:
    """A T5 tokenizer, beside the files that a test writes."""
    path = tmp_path / "spiece.model"
    with path.open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter(["a red heart", "a blue cat"] * 20), model_writer=file, vocab_size=24,
            pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
        )  # fmt: skip
    yield path


@pytest.fixture
def file(whole: dict[str, Tensor], tmp_path: Path) -> Callable[..., Path]:
    """`file(without)`: the model as one file, without the tensors of these prefixes."""
    return lambda *without: write_file(
        tmp_path / "model.safetensors", {name: t for name, t in whole.items() if not name.startswith(without)}
    )


def picture(model: StableDiffusion, prompt: str = "a red heart", **options: object) -> np.ndarray:
    return np.asarray(model.txt2img(prompt, **DRAW | options).images[0], int)


@pytest.mark.parametrize("name", ["sd3_medium", "sd35_medium", "sd35_large"])
def test_a_file_states_the_sizes_of_its_release(name: str, tmp_path: Path) -> None:
    owner, spec = family(name), shrink(family(name).spec)
    state = tensors(owner, spec, random_networks(owner, spec), "original")
    path = write_file(tmp_path / "model.safetensors", state)
    assert load_parts(path).spec == spec


def test_a_file_without_text_encoders_says_what_to_give(file) -> None:
    with pytest.raises(
        SfumatoError, match=r"holds no CLIP text encoder .* and no CLIP .* give them with --text-encoder"
    ):
        sfumato.load(file("text_encoders."))


def test_without_t5_it_draws_and_says_once_what_is_lost(file, spiece: Path) -> None:
    with pytest.warns(SfumatoWarning, match="comes without the text encoder T5: .* beyond 77 tokens") as told:
        model = sfumato.load(file(T5), device="cpu")
        picture(model)
    assert len(told) == 1
    assert model.encode.t5 is not None and not model.encode.t5(["a red heart"]).any()


def test_without_its_tokenizer_t5_is_not_even_read(file, spiece: Path) -> None:
    beside = sfumato.load(file(), device="cpu")
    moved = spiece.rename(spiece.with_name("t5.model"))
    with pytest.warns(SfumatoWarning, match=r"comes without T5's tokenizer \(spiece.model\)"):
        model = sfumato.load(file(), device="cpu")
    assert model.encode.t5 is not None and model.encode.t5.network is None
    given = sfumato.load(file(), device="cpu", t5_tokenizer=moved)
    assert (picture(beside) != picture(model)).any()
    assert (picture(beside) == picture(given)).all()


def test_t5_in_8_bits_and_with_its_table_under_either_name(whole, spiece: Path, tmp_path: Path) -> None:
    small = {name: t.to(torch.float8_e4m3fn) if name.startswith(T5) else t for name, t in whole.items()}
    table = small.pop(f"{T5}shared.weight")
    pictures = []
    for names in (["shared"], ["encoder.embed_tokens"], ["shared", "encoder.embed_tokens"]):
        path = tmp_path / f"{len(pictures)}.safetensors"
        state = small | {f"{T5}{name}.weight": table for name in names}
        pictures.append(picture(sfumato.load(write_file(path, state), "cpu")))
    assert all((one == pictures[0]).all() for one in pictures)


def test_turbo_is_large_with_other_habits(tmp_path: Path) -> None:
    large = family("sd35_large")
    spec = shrink(large.spec)
    path = write_file(tmp_path / "model.safetensors", tensors(large, spec, random_networks(large, spec), "original"))
    plain, turbo = (load_parts(path, variant=name).spec for name in (None, "turbo"))
    assert (plain.defaults.steps, plain.defaults.cfg) == (28, 3.5)
    assert (turbo.defaults.steps, turbo.defaults.cfg, turbo.variant) == (4, 1.0, "turbo")
    assert replace(turbo, defaults=plain.defaults, variant=plain.variant, title=plain.title) == plain


def test_long_prompts_are_read_whole(file, spiece: Path) -> None:
    model = sfumato.load(file(), device="cpu")
    short, long = model.encode(["a red heart", "a blue cat " * 60])
    windows = -(-180 // model.encode.window)
    assert short.tokens.shape == long.tokens.shape
    assert long.tokens.shape[1] == 77 * windows + max(256, len(model.encode.t5.tokenizer.encode("a blue cat " * 60)))
    original = sfumato.load(file(), device="cpu", t5_length=77)
    assert original.encode(["a red heart"])[0].tokens.shape[1] == 2 * 77
    with pytest.raises(SfumatoError, match="T5's length is 0; choose 1 to 512"):
        sfumato.load(file(), device="cpu", t5_length=0)
    assert (picture(model, "a blue cat " * 60) != picture(model, "a blue cat " * 59)).any()


def test_sides_are_whole_patches_that_the_table_has_places_for() -> None:
    of = Settings.of
    for side, said in ((1000, "multiple of 16"), (6160, "from 16 to 6144")):
        with pytest.raises(SfumatoError, match=said):
            of(MEDIUM.spec, "a cat", width=side)
    assert of(MEDIUM.spec, "a cat", width=6144).width == 6144


def test_skip_layer_guidance_is_for_those_that_were_made_for_it() -> None:
    assert Settings.of(MEDIUM.spec, "a cat", slg=2.5).slg == 2.5
    with pytest.raises(SfumatoError, match="Stable Diffusion 3 medium has no skip-layer guidance"):
        Settings.of(family("sd3_medium").spec, "a cat", slg=2.5)
    skip = MEDIUM.spec.skip_layers
    sigmas = torch.linspace(1, 0, 41, dtype=torch.float64)
    assert skip is not None and skipping(skip, sigmas) == pytest.approx((sigmas[7].item(), sigmas[1].item()))
    assert skipping(skip, sigmas[-3:]) == (0.0, -1.0)


def test_another_sampler_keeps_the_flow_s_schedule() -> None:
    assert Settings.of(MEDIUM.spec, "a cat", sampler="dpmpp_2m").schedule == "discrete"
    assert Settings.of(family("sd1").spec, "a cat", sampler="dpmpp_2m").schedule == "karras"
