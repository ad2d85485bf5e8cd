"""Tensors in and out, several prompts, and models that are moved and written, from Python."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import sfumato
import tiny
from sfumato.api import StableDiffusion
from sfumato.diffusion.cond import Cond
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.provenance.read import read
from sfumato.settings.tensors import Tensors
from sfumato.tasks.outpaint import OutpaintMargins, OutpaintRequest

SMALL = {"steps": 2, "seed": 3, "width": 16, "height": 16, "sampler": "euler"}


@pytest.fixture
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


def noise(seed: int) -> Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_latents_are_the_first_noise(sd: StableDiffusion) -> None:
    alone = sd.txt2img("a cat", **SMALL | {"seed": 8})
    given = sd.txt2img("a cat", latents=noise(8), **SMALL)
    assert given[0] == alone[0]
    several = sd.txt2img("a cat", latents=torch.cat([noise(8), noise(9)]), n=2, **SMALL)
    assert np.abs(np.asarray(several[0], int) - np.asarray(alone[0], int)).max() <= 1
    assert several[1] == sd.txt2img("a cat", n=1, **SMALL | {"seed": 9})[0]


def test_what_is_given_is_said(sd: StableDiffusion, tmp_path: Path) -> None:
    embeds, _ = sd.encode_prompt("a cat")
    sd.txt2img(latents=noise(8), prompt_embeds=embeds, **SMALL).save(tmp_path / "a.png")
    assert {"Latents (given)", "Prompt embeds (given)"} <= set(read(tmp_path / "a.png").lost)


def test_latents_come_out_and_are_decoded(sd: StableDiffusion) -> None:
    drawn = sd.txt2img("a cat", n=2, watermark=False, **SMALL)
    assert drawn.latents.shape == (2, 4, 8, 8)
    assert sd.decode_latents(drawn.latents) == drawn.images
    assert sd.encode_image(drawn[0]).shape == (1, 4, 8, 8)
    for wrong in (drawn.latents[0], drawn.latents[:, :3], "a"):
        with pytest.raises(SfumatoError, match="give a tensor"):
            sd.decode_latents(wrong)


def test_a_second_pass_begins_with_the_given_noise_once(sd: StableDiffusion) -> None:
    options = SMALL | {"hires_scale": 2}
    given, alone = sd.txt2img("a cat", latents=noise(3), **options), sd.txt2img("a cat", **options)
    assert given[0] == alone[0]


@pytest.mark.parametrize("release", ["sd1", "sd2", "sdxl", "sd35_medium"])
def test_embeds_stand_for_prompts(release: str, tmp_path: Path) -> None:
    sd = sfumato.load(tiny.save(tmp_path / release, family(release)))
    options = {"steps": 2, "seed": 3, "width": 32, "height": 32}
    embeds, negative = sd.encode_prompt("a (red:1.3) heart", "a cat", **options)
    drawn = sd.txt2img(prompt_embeds=embeds, negative_embeds=negative, **options)
    assert drawn[0] == sd.txt2img("a (red:1.3) heart", "a cat", **options)[0]
    picture = drawn[0]
    on_top = sd.img2img(picture, prompt_embeds=embeds, negative="a cat", **options)
    assert on_top[0] == sd.img2img(picture, "a (red:1.3) heart", "a cat", **options)[0]


def test_tokens_alone_will_do_where_nothing_else_is_told(sd: StableDiffusion) -> None:
    embeds, _ = sd.encode_prompt("a cat")
    assert sd.txt2img(prompt_embeds=embeds.tokens, **SMALL)[0] == sd.txt2img("a cat", **SMALL)[0]
    assert isinstance(embeds, Cond) and embeds.tokens.shape[1:] == (77, 32)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"latents": torch.zeros(1, 4, 9, 8)}, r"shape \(1, 4, 9, 8\) a picture; this size needs \(1, 4, 8, 8\)"),
        ({"latents": torch.zeros(4, 8, 8)}, r"latents is a tensor \(4, 8, 8\)"),
        ({"latents": torch.zeros(1, 4, 8, 8, dtype=torch.int64)}, "give floating-point numbers"),
        ({"latents": torch.full((1, 4, 8, 8), torch.nan)}, "not finite"),
        ({"latents": torch.zeros(2, 4, 8, 8), "n": 3}, "has 2 rows for more pictures"),
        ({"latents": "noise"}, "latents is str"),
        ({"prompt_embeds": torch.zeros(1, 77, 33)}, r"tokens those of the shape \(1, 77, 33\), this model needs"),
        ({"prompt_embeds": torch.zeros(77, 32)}, "give floating-point numbers"),
        ({"prompt_embeds": Cond(torch.zeros(1, 77, 32), pooled=torch.zeros(1, 8))}, "pooled those of the shape"),
        ({"prompt_embeds": torch.zeros(1, 77, 32), "prompt": "a cat"}, "both a prompt and prompt_embeds"),
        ({"negative_embeds": torch.zeros(1, 77, 32), "negative": "a cat"}, "both a negative and negative_embeds"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(sd: StableDiffusion, tensors: dict, words: str) -> None:
    with pytest.raises(SfumatoError, match=words):
        sd.txt2img(**SMALL | tensors)


def test_what_a_prompt_is_more_than_one_encoding_of_is_refused(sd: StableDiffusion) -> None:
    for prompt in ("[a:b:0.5]", "a AND b"):
        with pytest.raises(SfumatoError, match="encode each of its texts alone"):
            sd.encode_prompt(prompt)


def test_tasks_of_several_pieces_refuse_tensors(sd: StableDiffusion) -> None:
    picture = sd.txt2img("a cat", **SMALL)[0]
    request = OutpaintRequest(image=picture, margins=OutpaintMargins(right=8), tensors=Tensors.of(noise(1)))
    with pytest.raises(SfumatoError, match="without tensors"):
        sd.run(request)


def test_several_prompts_at_once(sd: StableDiffusion) -> None:
    drawn = sd.txt2img(["a cat", "a dog"], ["blurry", "red"], n=2, **SMALL)
    assert drawn.seeds == [3, 4, 5, 6] and len(drawn.latents) == 4
    assert drawn[2:].images == sd.txt2img("a dog", "red", n=2, **SMALL | {"seed": 5}).images
    assert len(set(sd.txt2img(["a cat"] * 3, steps=1, width=16, height=16).seeds)) == 3
    rows = torch.cat([noise(7), noise(8)])
    assert sd.txt2img(["a cat", "a dog"], latents=rows, **SMALL)[1] == sd.txt2img("a dog", latents=noise(8), **SMALL)[0]
    for prompts, negatives in (([], ""), (["a cat", "a dog"], ["x"] * 3)):
        with pytest.raises(SfumatoError, match="give one negative prompt for all"):
            sd.txt2img(prompts, negatives, **SMALL)


def test_steps_are_told_with_their_tensors(sd: StableDiffusion) -> None:
    steps = [event for event in sd.stream("a cat", **SMALL) if isinstance(event, sfumato.Progress)]
    assert [step.step for step in steps] == [1, 2] and steps[0].sigma > steps[1].sigma > 0
    assert all(step.x.shape == step.x0.shape == (1, 4, 8, 8) for step in steps)
    # Euler's step from the first level to the second, by its formula.
    first, second = steps
    slope = (first.x - first.x0) / first.sigma
    assert torch.allclose(first.x + (second.sigma - first.sigma) * slope, second.x, atol=1e-4)


def test_a_model_says_what_it_is(sd: StableDiffusion) -> None:
    assert repr(sd) == "<StableDiffusion 'tiny': Stable Diffusion 1.x, float32 on cpu>"
    assert {"load", "Result", "pull", "models"} <= set(dir(sfumato))
    assert all(hasattr(sfumato, name) for name in dir(sfumato))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_moved_is_as_if_it_was_loaded_there(sd: StableDiffusion, model: str, dtype: torch.dtype) -> None:
    before = sd.txt2img("a cat", tiling="x", **SMALL)
    moved = sd.to("cpu", dtype)
    assert moved is sd and sd.dtype == dtype
    loaded = sfumato.load(model, dtype=dtype)
    for tiling in (None, "x"):
        assert sd.txt2img("a cat", tiling=tiling, **SMALL)[0] == loaded.txt2img("a cat", tiling=tiling, **SMALL)[0]
    assert sd.to(torch.float32).dtype == torch.float32
    back = sd.txt2img("a cat", tiling="x", **SMALL)
    assert np.abs(np.asarray(back[0], int) - np.asarray(before[0], int)).mean() < 4
    with pytest.raises(SfumatoError, match="cannot be used here"):
        sd.to("cuda:99")
    with pytest.raises(SfumatoError, match="unknown dtype"):
        sd.to(dtype="int4")


@pytest.mark.parametrize("release", ["sd1", "sd2", "sdxl", "sd2_depth"])
@pytest.mark.parametrize("name", ["mine", "mine.safetensors"])
def test_a_model_written_is_the_same_model(release: str, name: str, tmp_path: Path) -> None:
    sd = sfumato.load(tiny.save(tmp_path / release, family(release)))
    sd.denoiser.network.conv_out.weight.mul_(1.5)  # as it is now, not as it was loaded
    options = {"steps": 2, "seed": 3, "width": 32, "height": 32}
    assert sd.save(tmp_path / "new" / name) == tmp_path / "new" / name
    again = sfumato.load(tmp_path / "new" / name)
    assert again.txt2img("a cat", **options)[0] == sd.txt2img("a cat", **options)[0]
    assert [file.name for file in (tmp_path / "new").iterdir()] == [name]
    with pytest.raises(SfumatoError, match="is there already"):
        sd.save(tmp_path / "new" / name)


T5_WORDS = {
    "model": {
        "type": "Unigram", "unk_id": 2,
        "vocab": [["<pad>", 0], ["</s>", 0], ["<unk>", 0], ["\u2581a", -1], ["\u2581cat", -2]],
    },
    "added_tokens": [{"id": id, "special": True} for id in range(3)],
}  # fmt: skip


def test_a_model_with_t5_is_written_with_its_tokenizer(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "sd3", family("sd3_medium"))
    (tmp_path / "sd3" / "tokenizer_3").mkdir()
    (tmp_path / "sd3" / "tokenizer_3" / "tokenizer.json").write_text(json.dumps(T5_WORDS))
    sd = sfumato.load(folder)
    options = {"steps": 2, "seed": 3, "width": 32, "height": 32}
    again = sfumato.load(sd.save(tmp_path / "new"))
    assert again.encode.t5 is not None and again.encode.t5.tokenizer is not None
    assert again.txt2img("a cat", **options)[0] == sd.txt2img("a cat", **options)[0]
    with pytest.raises(SfumatoError, match="T5, whose tokenizer a single file has no room for; give a folder"):
        sd.save(tmp_path / "new.safetensors")


@pytest.mark.parametrize("word", ["callback", "callback_on_step_end", "callback_steps"])
def test_callbacks_are_pointed_to_events(sd: StableDiffusion, word: str) -> None:
    with pytest.raises(SfumatoError, match=r"unknown option .*sd.stream.* yields every step \(step, sigma, x, x0\)"):
        sd.txt2img("a cat", **{word: print})


def test_models_that_cannot_be_written_say_so(sd: StableDiffusion, tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match=r"give a folder, or a name that ends in \.safetensors"):
        sd.save(tmp_path / "a.ckpt")
    (tmp_path / "file").write_text("")
    with pytest.raises(SfumatoError, match="cannot write"):
        sd.save(tmp_path / "file" / "a")
