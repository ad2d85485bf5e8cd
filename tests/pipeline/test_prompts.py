"""Prompts in the tasks: what a network is told at which noise level, by which seed, and what the picture says of it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sfumato
from sfumato.api import StableDiffusion
from sfumato.diffusion.cond import Cond, ScheduledCond
from sfumato.diffusion.driver import drive
from sfumato.diffusion.guidance import Estimate, Guidance, Guide, composed, constant_guide
from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.pipeline.prompts import encode_prompts
from sfumato.pipeline.sampling import SamplingRun
from sfumato.provenance import infotext
from sfumato.settings.settings import Settings
from sfumato.text.prompt import emphasis
from sfumato.text.prompt.template import expand

SMALL = {"width": 64, "height": 64}
LEVELS = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0], dtype=torch.float64)


@pytest.fixture(scope="module")
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


def settings(sd: StableDiffusion, prompt: str, negative: str = "", **options: object) -> Settings:
    return Settings.of(sd.spec, prompt, negative, **SMALL | {"seed": 1, "steps": 4, "cfg": 3.0} | options)


def told(sd: StableDiffusion, prompt: str, **options: object) -> list[str]:
    """Which of some words the network is told at each step."""
    course = encode_prompts(sd, settings(sd, prompt, **options), LEVELS).branches[0][0]
    words = ("a", "b", "c", "a b")
    known = {word: sd.encode([word])[0].tokens for word in words}
    steps = [course.at(level).tokens for level in LEVELS[:-1].tolist()]
    return [next(word for word in words if torch.allclose(known[word], tokens, atol=1e-5)) for tokens in steps]


def test_a_prompt_without_syntax_is_told_as_ever(sd: StableDiffusion) -> None:
    words = encode_prompts(sd, settings(sd, "a cat, a dog", "a bird"), LEVELS)
    prompt, negative = sd.encode(["a cat, a dog", "a bird"])
    assert torch.equal(words.branches[0][0].at(3).tokens, prompt.tokens)
    assert torch.equal(words.negative.at(3).tokens, negative.tokens)
    assert words.caption == "a cat, a dog"


def test_editing_and_alternation_follow_the_steps(sd: StableDiffusion) -> None:
    assert told(sd, "[a:b:0.5]") == ["a", "a", "b", "b"]
    assert told(sd, "[a:b:1]") == ["a", "b", "b", "b"]
    assert told(sd, "[a|b|c]") == ["a", "b", "c", "a"]
    assert told(sd, "a[ b::0.3]") == ["a b", "a", "a", "a"]
    assert told(sd, "[a:[b|c]:2]") == ["a", "a", "b", "c"]


def test_what_is_told_depends_on_the_noise_level_alone(sd: StableDiffusion) -> None:
    """Calls between the steps, twice a step, above the first level and below the last are all at their step."""
    conds = tuple(sd.encode(["a", "b", "c", "a b"]))
    course = ScheduledCond(tuple(LEVELS[:-1].tolist()), conds)
    for level, step in ((9, 0), (8, 0), (5, 0), (4, 1), (4 + 1e-6, 1), (3.9, 1), (2.1, 1), (2, 2), (1, 3), (0.01, 3)):
        assert course.at(level) is conds[step]


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "dpm_2", "dpmpp_sde", "ddim", "plms", "unipc"])
def test_every_sampler_is_told_all_steps_in_their_order(sd: StableDiffusion, sampler: str) -> None:
    one = settings(sd, "a", steps=6, sampler=sampler)
    run = SamplingRun.of(sd, one)
    conds = tuple(Cond(torch.zeros(1, 1, 1)) for _ in range(6))
    course = ScheduledCond(tuple(run.sigmas[:-1].tolist()), conds)
    steps: list[int] = []

    def guide(x: torch.Tensor, sigma: float) -> Estimate:
        steps.append([cond is course.at(sigma) for cond in conds].index(True))
        yield from ()
        return x / 2

    list(drive([run.job(Guidance(lambda: guide), one)]))
    assert sorted(steps) == steps and set(steps) == set(range(6))


def test_prompts_are_composed_by_their_weights() -> None:
    """Liu et al. 2022, equation 11, by hand."""
    x, n, p, q = (torch.full((1, 1, 2, 2), value) for value in (0.0, 1.0, 3.0, 11.0))

    def answer(guide: Guide) -> torch.Tensor:
        steps = guide(x, 1.0)
        with pytest.raises(StopIteration) as stop:
            next(steps)
        return stop.value.value

    assert torch.equal(
        answer(composed([(constant_guide(p), 1.0), (constant_guide(q), 0.5)], constant_guide(n))),
        torch.full_like(x, 1 + 2 + 5),
    )
    assert torch.equal(answer(composed([(constant_guide(p), -1.0)], constant_guide(n))), torch.full_like(x, -1))
    alone = constant_guide(p)
    assert composed([(alone, 1.0)], constant_guide(n)) is alone


def test_and_draws_between_its_prompts(sd: StableDiffusion) -> None:
    first = sd.txt2img("a", seed=1, steps=2, **SMALL).images[0].tobytes()
    assert sd.txt2img("a AND b :0", seed=1, steps=2, **SMALL).images[0].tobytes() == first
    assert sd.txt2img("a AND b", seed=1, steps=2, **SMALL).images[0].tobytes() != first
    words = encode_prompts(sd, settings(sd, "a AND b :0.5", "a AND b"), LEVELS)
    assert [weight for _, weight in words.branches] == [1.0, 0.5]
    assert torch.equal(words.negative.at(1).tokens, sd.encode(["a AND b"])[0].tokens)


def test_the_negative_prompt_is_edited_too(sd: StableDiffusion) -> None:
    words = encode_prompts(sd, settings(sd, "a", "[b:c:0.5]"), LEVELS)
    (b, c) = sd.encode(["b", "c"])
    assert torch.allclose(words.negative.at(8).tokens, b.tokens) and torch.allclose(
        words.negative.at(1).tokens, c.tokens
    )


def test_emphasis_is_selectable(sd: StableDiffusion) -> None:
    for kind in ("a1111", "plain", "comfy", "none"):
        words = encode_prompts(sd, settings(sd, "a (cat:1.6)", emphasis=kind), LEVELS)
        (expected,) = sd.encode([emphasis.read("a (cat:1.6)")[0]], emphasis=kind)
        assert torch.allclose(words.branches[0][0].at(1).tokens, expected.tokens, atol=1e-6)
    text = sd.txt2img("a (cat:1.6)", seed=1, steps=1, emphasis="comfy", **SMALL).infotexts[0]
    assert infotext.parse(text)[2]["Emphasis"] == "ComfyUI"
    assert "Emphasis" not in sd.txt2img("a (cat:1.6)", seed=1, steps=1, **SMALL).infotexts[0]


def test_plain_syntax_draws_the_marks(sd: StableDiffusion) -> None:
    text = "[a|b] (c) AND {d|e} __f__ <lora:g:1>"
    words = encode_prompts(sd, settings(sd, text, prompt_syntax="plain"), LEVELS)
    assert torch.equal(words.branches[0][0].at(1).tokens, sd.encode([text, ""])[0].tokens)
    result = sd.txt2img(text, seed=1, steps=1, prompt_syntax="plain", **SMALL)
    prompt, _, fields = infotext.parse(result.infotexts[0])
    assert prompt == text and fields["Prompt syntax"] == "plain" and "Template" not in fields


def test_an_adapter_that_is_not_there_fails(sd: StableDiffusion) -> None:
    for prompt, negative in (("a [<lora:fur:0.7>:3]", ""), ("a", "embedding:bad-hands")):
        with pytest.raises(SfumatoError, match=r"no adapter .*; take it out.*, or write") as failure:
            sd.txt2img(prompt, negative, steps=1, **SMALL)
        assert "\n" not in str(failure.value)
    sd.txt2img("a \\<lora:fur:0.7>", steps=1, **SMALL)


def test_what_is_odd_about_a_prompt_is_said(sd: StableDiffusion) -> None:
    with pytest.warns(SfumatoWarning, match=r"the prompt at '\(hat': '\(' is never closed"):
        sd.txt2img("a (hat", steps=1, **SMALL)


def test_each_picture_has_its_own_words(sd: StableDiffusion, tmp_path: Path) -> None:
    (tmp_path / "animal.txt").write_text("cat\ndog\nbird\n")
    template = "a {red|blue|green} __animal__"
    options = SMALL | {"steps": 1, "wildcards": tmp_path}
    three = sd.txt2img(template, "{a|b|c}", seed=5, n=3, **options)
    for k in range(3):
        prompt, negative, fields = infotext.parse(three.infotexts[k])
        assert prompt == expand(template, 5 + k, tmp_path)
        assert negative == expand("{a|b|c}", f"{5 + k} negative")
        assert (fields["Template"], fields["Negative Template"]) == (template, "{a|b|c}")
        alone = sd.txt2img(template, "{a|b|c}", seed=5 + k, **options)
        assert alone.infotexts[0] == three.infotexts[k]
        assert alone.images[0].tobytes() == three.images[k].tobytes()
        again = sd.txt2img(prompt, negative, seed=5 + k, steps=1, **SMALL)
        assert again.images[0].tobytes() == three.images[k].tobytes()
    assert len({text.split("\n")[0] for text in three.infotexts}) > 1


def test_variations_keep_the_words_of_their_seed(sd: StableDiffusion) -> None:
    result = sd.txt2img("{a|b|c|d|e|f}", seed=3, n=3, steps=1, variation_seed=9, variation_strength=0.1, **SMALL)
    assert len({infotext.parse(text)[0] for text in result.infotexts}) == 1


def test_styles_come_first(sd: StableDiffusion, tmp_path: Path) -> None:
    path = tmp_path / "styles.csv"
    path.write_text('name,prompt,negative_prompt\nink,"{prompt}, {ink|oil}",colour\n')
    result = sd.txt2img("a cat", seed=1, steps=1, styles=("ink",), styles_file=path, **SMALL)
    prompt, negative, fields = infotext.parse(result.infotexts[0])
    assert prompt in ("a cat, ink", "a cat, oil") and negative == "colour"
    assert fields["Template"] == "a cat, {ink|oil}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"emphasis": "loud"}, "unknown emphasis 'loud'; choose one of a1111, plain, comfy, none"),
        ({"prompt_syntax": "midjourney"}, "unknown prompt_syntax"),
        ({"styles": "ink"}, "give names in brackets"),
        ({"styles": ("ink",), "styles_file": "/none.csv"}, "no styles file at /none.csv"),
        ({"wildcards": "/none"}, "/none is no folder with wildcard files"),
    ],
)
def test_bad_options(sd: StableDiffusion, options: dict, said: str) -> None:
    with pytest.raises(SfumatoError, match=said):
        sd.stream("a __animal__", **options)


def test_emoji_alone_is_a_prompt(sd: StableDiffusion) -> None:
    assert sd.txt2img("🍎", seed=1, steps=1, **SMALL).images[0].getbbox() is not None


def test_settings_of_a_picture_without_chance_are_the_settings(sd: StableDiffusion) -> None:
    one = settings(sd, "a cat")
    assert one.of_picture(0) == one
    assert replace(one, prompt="{a}").of_picture(0).prompt == "{a}"
