"""Maps of where a picture attends to which word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import sfumato
import tiny
from sfumato.api import StableDiffusion
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.sample import SAMPLERS
from sfumato.errors import SfumatoWarning
from sfumato.families import family
from sfumato.nets.attention_maps import LONGEST, AttentionMaps
from sfumato.nets.t5 import T5
from sfumato.pipeline.attention_words import words_named
from sfumato.pipeline.events import Picture, WordMaps
from sfumato.spec import T5Config
from sfumato.text.embeddings import Embedding
from sfumato.text.encode import T5Reader
from sfumato.text.prompt.emphasis import Span
from sfumato.text.t5_tokenizer import CharacterMap, T5Tokenizer

SMALL = {"steps": 3, "cfg": 5.0, "seed": 3, "width": 16, "height": 24, "watermark": False}


@pytest.fixture(scope="module")
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


def watched(sd: StableDiffusion, prompt: str, **options: object) -> tuple[list[WordMaps | None], list[Picture]]:
    """The maps of every step, and the pictures."""
    events = list(sd.stream(prompt, attention=True, **SMALL | options))
    pictures = [one for one in events if isinstance(one, Picture)]
    return [one.attention for one in events if isinstance(one, sfumato.Progress)], pictures


def test_each_thing_is_attended_to_where_it_is_drawn() -> None:
    maps, _ = watched(sfumato.load(), "a heart left of a rocket", width=256, height=256, seed=5, steps=2)
    assert maps[-1].words == ("heart", "rocket", "(ground)") and maps[-1].maps.shape == (3, 8, 8)
    columns = torch.linspace(0, 1, 8)
    heart, rocket = ((one.sum(0) * columns).sum() / one.sum() for one in maps[-1].maps[:2])
    assert heart < 0.48 and rocket > 0.52 and rocket - heart > 0.1


def test_things_are_called_by_the_prompts_own_words() -> None:
    sd = sfumato.load()
    for prompt, words in (("ракета над синім серцем", ("ракета", "синім серцем")), ("three cats", ("cats",)), ("", ())):
        maps, _ = watched(sd, prompt, steps=1, width=64, height=64)
        assert maps[0].words == (*words, "(ground)")


def test_the_picture_is_the_same_but_for_rounding_and_says_the_same(sd: StableDiffusion) -> None:
    plain = sd.txt2img("a cat", **SMALL)
    _, (picture,) = watched(sd, "a cat")
    assert np.abs(np.asarray(picture.image, int) - np.asarray(plain.images[0], int)).max() <= 1
    assert picture.infotext == plain.infotexts[0]
    assert all(one.attention is None for one in sd.stream("a cat", **SMALL) if isinstance(one, sfumato.Progress))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_reports_maps(sd: StableDiffusion, sampler: str) -> None:
    maps, _ = watched(sd, "a cat", sampler=sampler)
    assert maps and all(one is not None and one.words == ("a", "cat") for one in maps)


@pytest.mark.parametrize("options", [
    {"cfg": 1.0}, {"cfg_rescale": 0.5}, {"apg": True}, {"pag": 2.0}, {"tiling": "both"}, {"cfg_interval": "0%-40%"},
    {"n": 3}, {"token_merging": 0.5}, {"step_cache": "deepcache:2"}, {"hires_scale": 2.0, "hires_steps": 2},
], ids=str)  # fmt: skip
def test_every_step_has_maps_with_other_options(sd: StableDiffusion, options: dict) -> None:
    maps, pictures = watched(sd, "a cat", **options)
    assert len(maps) >= 3 * len(pictures) and None not in maps
    assert all(one.maps.isfinite().all() and one.maps.min() >= 0 and one.maps.max() <= 1 for one in maps)


def test_words_change_over_the_steps_and_the_first_of_several_prompts_is_watched(sd: StableDiffusion) -> None:
    maps, _ = watched(sd, "a [cat:tac:1], a")
    assert [one.words for one in maps] == [("a", "cat", "a"), ("a", "tac", "a"), ("a", "tac", "a")]
    assert watched(sd, "a cat AND taca")[0][0].words == ("a", "cat")


def test_attention_is_shared_among_all_tokens(sd: StableDiffusion) -> None:
    maps = AttentionMaps(sd.denoiser.network)
    maps.network(torch.randn(2, 4, 12, 8), torch.tensor([5.0, 900.0]), Cond(torch.randn(2, 77, 32)))
    shares = maps.take()
    assert (
        shares is not None and shares.shape == (77, 6, 4) and torch.allclose(shares.sum(0), torch.ones(6, 4), atol=1e-5)
    )
    alone = AttentionMaps(sd.denoiser.network)
    assert alone.take() is None
    with pytest.raises(ValueError, match="not in a Linear"):
        AttentionMaps(torch.nn.Linear(1, 1))
    assert not sd.denoiser.network._forward_pre_hooks and alone.network is not sd.denoiser.network


def test_large_maps_are_made_smaller(sd: StableDiffusion) -> None:
    maps = AttentionMaps(sd.denoiser.network)
    maps.network(torch.randn(1, 4, 80, 40), torch.tensor([5.0]), Cond(torch.randn(1, 77, 32)))
    assert max(maps.take().shape[1:]) <= LONGEST


def test_a_joint_attention(tmp_path: Path) -> None:
    with pytest.warns(SfumatoWarning, match="without T5's tokenizer"):
        sd = sfumato.load(tiny.save(tmp_path / "sd3", family("sd3_medium")))
    maps, _ = watched(sd, "a cat, a", width=128, height=64, steps=1, token_merging=0.5)
    assert maps[0].words == ("a", "cat", "a") and maps[0].maps.shape == (3, 4, 8)


def test_words_of_clip_and_t5_and_embeddings(sd: StableDiffusion) -> None:
    pieces = ["<pad>", "</s>", "<unk>", "▁a", "▁c", "at", ",", "▁"]
    words = T5Tokenizer([(piece, -1.0) for piece in pieces], 2, {0, 1, 2}, CharacterMap.parse(b""))
    network = T5(T5Config(vocab_size=8, hidden_size=8, intermediate_size=8, layers=1, heads=1, head_dim=8))
    sks = Embedding("sks", (torch.zeros(2, 32),))
    encode = replace(sd.encode, t5=T5Reader(8, 6, words, network)).with_embeddings([sks])
    named = words_named(encode, (Span("a cat, "), Span("sks", 1.2), Span(" a")), 2)
    assert named == [("a", [1, 154]), ("cat", [2, 155, 156]), ("<sks>", [4, 5]), ("a", [6, 158])]
