"""The best of many pictures, and what a picture shows."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sfumato
from sfumato.api import StableDiffusion
from sfumato.data.emoji.captions import LANGUAGES
from sfumato.errors import SfumatoError
from sfumato.pipeline.events import Picture, Progress
from sfumato.provenance import infotext
from sfumato.tasks.interrogate import interrogate, read_captions
from sfumato.text.emoji_names import names

SMALL = {"steps": 2, "seed": 3, "width": 32, "height": 32, "watermark": False}


@pytest.fixture(scope="module")
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


@pytest.fixture(scope="module")
def heart() -> Image.Image:
    """A red heart on white, as a drawing program makes it."""
    y, x = np.mgrid[1.5:-1.5:64j, -1.5:1.5:64j]
    inside = (x**2 + y**2 - 1) ** 3 - x**2 * y**3 < 0
    return Image.fromarray(np.where(inside[..., None], [221, 46, 68], 255).astype(np.uint8))


def test_the_best_of_many_are_those_with_the_highest_scores(sd) -> None:
    every = [sd.txt2img("a red heart", **SMALL | {"seed": seed}, best_of=1) for seed in range(3, 8)]
    ranked = sorted(every, key=lambda result: -result.scores[0])
    best = sd.txt2img("a red heart", **SMALL, best_of=5, n=2)
    assert best.seeds == [result.seeds[0] for result in ranked[:2]]
    assert best.scores == [result.scores[0] for result in ranked[:2]] == sorted(best.scores, reverse=True)
    assert best.images == [result.images[0] for result in ranked[:2]]
    assert best.images[0] == sd.txt2img("a red heart", **SMALL | {"seed": best.seeds[0]}).images[0]
    facts = infotext.parse(best.infotexts[0])[2]
    assert (facts["Best of"], facts["CLIP score"]) == ("5", f"{best.scores[0]:g}")


def test_steps_are_streamed_and_the_best_come_last(sd) -> None:
    events = list(sd.stream("a red heart", **SMALL, best_of=3))
    assert [type(event) for event in events] == [Progress] * 6 + [Picture]
    assert {event.picture for event in events[:6]} == {0, 1, 2} and events[-1].index == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"best_of": 2, "n": 3}, "best_of is 2, but n is 3"),
        ({"best_of": 0}, "best_of is 0"),
        ({"best_of": "4"}, "best_of is '4'"),
        ({"best_of": 2, "prompt": " "}, "without a prompt there is no best picture"),
    ],
)
def test_what_has_no_best_is_refused(sd, options: dict, words: str) -> None:
    with pytest.raises(SfumatoError, match=words):
        sd.stream(**{"prompt": "a cat"} | SMALL | options)


def test_a_picture_is_named_in_six_languages(sd, heart: Image.Image) -> None:
    found = sd.interrogate(heart)
    assert len(found) == 5 and "heart" in found[0].caption
    assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)
    assert any("心" in match.caption for match in sd.interrogate(heart, language="zh"))


def test_own_captions_in_any_order_and_twice(sd, heart: Image.Image) -> None:
    captions = ["a dog", "a red heart", "a dog", "a blue car"]
    first, *rest = sd.interrogate(heart, captions, top=9)
    assert first.caption == "a red heart" and len(rest) == 2
    assert sd.interrogate(heart, captions[::-1], top=9)[0] == first


@pytest.mark.parametrize(
    ("captions", "top", "words"),
    [
        ([], 5, "there are 0 captions"),
        (["a", " "], 5, "texts that are not empty"),
        ("a dog", 5, "a list of texts"),
        (["a", 5], 5, "a list of texts"),
        (["a"], 0, "top is 0"),
        (["a"], True, "top is True"),
    ],
)
def test_captions_that_are_none(sd, heart: Image.Image, captions: object, top: object, words: str) -> None:
    with pytest.raises(SfumatoError, match=words):
        interrogate(sd.perceptor, heart, captions, top)


def test_names_ship_in_every_language() -> None:
    for language in LANGUAGES:
        known = names(language)
        assert 1500 < len(known) == len(set(known)) <= 1580 and all(name.strip() == name for name in known)
    assert {"red heart", "rocket"} < set(names())
    with pytest.raises(SfumatoError, match=r"unknown language 'fr'; .*choose one of en, th"):
        names("fr")


def test_a_file_of_captions(tmp_path: Path) -> None:
    file = tmp_path / "captions.txt"
    file.write_bytes("\ufeffa dog\r\n\n  ein Hund \n".encode())
    assert read_captions(file) == ["a dog", "ein Hund"]
    for content, words in ((b"\n \n", "holds no captions"), (b"\xff\xfe\x00", "is no text in UTF-8")):
        file.write_bytes(content)
        with pytest.raises(SfumatoError, match=words):
            read_captions(file)
    with pytest.raises(SfumatoError):
        read_captions(tmp_path / "none.txt")


def test_the_command(run, heart: Image.Image, tmp_path: Path) -> None:
    heart.save(tmp_path / "heart.png")
    (tmp_path / "list.txt").write_text("a blue car\na red heart\n")
    shown = run("interrogate", "heart.png", "--captions", "list.txt", "--top", 1)
    assert shown.exit_code == 0 and shown.stdout.split(None, 1)[1] == "a red heart\n"
    said = json.loads(run("interrogate", "heart.png", "--json", "--top", 2).stdout)
    assert said["file"] == "heart.png" and "heart" in said["captions"][0]["caption"]
    for words in (("none.png",), ("heart.png", "--language", "fr"), ("heart.png", "--perceptor", "."), ("list.txt",)):
        bad = run("interrogate", *words)
        assert bad.exit_code == 2 and len(bad.stderr.splitlines()) == 1, words


def test_the_command_line_keeps_the_best(run, model: str) -> None:
    draws = ("txt2img", "a red heart", "--model", model, "--steps", 1, "--size", "32x32", "--seed", 3)
    said = json.loads(run(*draws, "--best-of", 4, "-n", 2, "--out", "hearts/", "--json").stdout)
    assert len(said["files"]) == 2 and said["scores"] == sorted(said["scores"], reverse=True)
    assert "CLIP score: " in said["infotexts"][0] and said["settings"]["best_of"] == 4
    assert run(*draws, "--best-of", 1, "-n", 2, "--out", "hearts/").exit_code == 2
