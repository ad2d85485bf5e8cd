"""The bot's commands and buttons, without a service."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
from PIL import Image

from bot_stand_ins.studio import Studio, png
from sfumato.bot.core import Bot, Message, mean_of
from sfumato.bot.limits import HOUR, Blocklist, Ledger, Limits
from sfumato.bot.words import OPTIONS, read
from sfumato.errors import SfumatoError


class Screen:
    """A place that remembers what was shown."""

    sign = "!"

    def __init__(self) -> None:
        self.shown: list[Message] = []

    async def show(self, message: Message) -> None:
        self.shown.append(message)

    @property
    def last(self) -> Message:
        return self.shown[-1]


@pytest.fixture
def studio() -> Studio:
    return Studio()


@pytest.fixture
def bot(studio: Studio) -> Bot:
    return Bot(studio, watch=0.001, seed=lambda: 77)  # type: ignore[arg-type]


def say(bot: Bot, name: str, text: str = "", *pictures: bytes, user: str = "ada") -> Screen:
    screen = Screen()
    asyncio.run(bot.command(name, text, user, screen, pictures))
    return screen


def press(bot: Bot, screen: Screen, label: str, user: str = "ada") -> Screen:
    pressed = Screen()
    action = next(one.action for one in screen.last.buttons if one.label == label)
    asyncio.run(bot.press(action, user, pressed))
    return pressed


def test_a_prompt_is_seen_through(bot: Bot, studio: Studio) -> None:
    screen = say(bot, "imagine", "a cat  on a mat --n 2 --size 512x256 --no dogs, text --cfg 4.5 —seed 9")
    assert studio.requests == [
        {"prompt": "a cat on a mat", "negative": "dogs, text",
         "options": {"n": 2, "cfg": 4.5, "seed": 9, "width": 512, "height": 256}}
    ]  # fmt: skip
    assert [one.text for one in screen.shown[:2]] == ["Waiting, 2 before it", "Drawing, 50%, about 3 s left"]
    assert [one.label for one in screen.shown[0].buttons] == ["Cancel"]
    assert screen.last.text == "a cat on a mat\nseed 9, 10" and len(screen.last.pictures) == 2
    assert [one.label for one in screen.last.buttons] == ["V1", "V2", "U1", "U2", "Again"]


def test_buttons_vary_enlarge_and_draw_again(bot: Bot, studio: Studio) -> None:
    screen = say(bot, "imagine", "a cat --n 2 --seed 9 --steps 5 --private")
    varied = press(bot, screen, "V2")
    assert studio.requests[-1]["options"] == {
        "n": 4, "seed": 10, "steps": 5, "variation_strength": 0.35, "variation_seed": 77
    }  # fmt: skip
    assert len(varied.last.pictures) == 4 and all(one.private for one in varied.shown)
    larger = press(bot, screen, "U1")
    assert studio.requests[-1]["kind"] == "upscale" and studio.requests[-1]["how"] == {"scale": 2.0}
    assert studio.requests[-1]["pictures"]["image"] == png()
    assert [one.label for one in larger.last.buttons] == ["U1", "Again"]
    press(bot, screen, "Again")
    assert studio.requests[-1]["options"] == {"n": 2, "seed": 77, "steps": 5}


def test_pictures_are_drawn_on_blended_and_described(bot: Bot, studio: Studio) -> None:
    say(bot, "imagine", "a cat --strength 0.4", png("red"))
    assert studio.requests[-1]["kind"] == "img2img" and studio.requests[-1]["how"] == {"strength": 0.4}
    say(bot, "blend", "a cat", png("red", 128), png("blue"))
    request = studio.requests[-1]
    mean = Image.open(io.BytesIO(request["pictures"]["image"]))
    assert mean.size == (128, 128) and mean.getpixel((5, 5)) == pytest.approx((127, 0, 127), abs=1)
    assert request["how"] == {"strength": 0.6}
    assert say(bot, "describe", "", png()).last.text == "a cat (0.91)"
    assert "2 to 5 pictures, not 1" in say(bot, "blend", "", png()).last.text
    assert "one picture, not 0" in say(bot, "describe").last.text
    with pytest.raises(SfumatoError, match="no picture that can be read"):
        mean_of([png(), b"no picture"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no prompt"),
        ("a cat --stepz 3", "did you mean 'steps'"),
        ("a cat --steps many", "whole number"),
        ("a cat --size big", "512x768"),
        ("a cat --steps 900", "900 steps are too many here; ask for 60"),
        ("a cat --n 9", "9 pictures are too many"),
        ("a cat --n 0", "0 pictures cannot be drawn"),
        ("a cat --size 4000x4000", "pixels are too many"),
        ("a cat --sampler nonsense", "unknown sampler"),
        ("a" * 3000, "at most 2000"),
    ],
)
def test_what_is_wrong_is_said(bot: Bot, studio: Studio, text: str, says: str) -> None:
    screen = say(bot, "imagine", text)
    assert len(screen.shown) == 1 and screen.last.text.startswith("Not done: ") and says in screen.last.text
    assert not studio.requests
    bot.ledger.begin("ada", bot.ledger.limits.hourly)  # nothing was counted


def test_only_who_asked_cancels(bot: Bot, studio: Studio) -> None:
    studio.stuck = True
    screen, other, own = Screen(), Screen(), Screen()

    async def all_of_it() -> None:
        asked = asyncio.create_task(bot.command("imagine", "a cat", "ada", screen))
        while not screen.shown:
            await asyncio.sleep(0.001)
        action = screen.last.buttons[0].action
        await bot.press(action, "eve", other)
        await bot.command("queue", "", "ada", own)
        await bot.press(action, "ada", own)
        await asked

    asyncio.run(all_of_it())
    assert "only the person who asked" in other.last.text
    assert own.shown[0].text == "Jobs of this bot that are not done: 1, of them yours: 1.\na cat: Waiting, 2 before it"
    assert screen.last.text == "Cancelled."


@pytest.mark.parametrize("action", ["", "v", "z.1.0", "v.../../etc.0", "v.1.-1", "v.1.x"])
def test_buttons_that_are_not_ours(bot: Bot, action: str) -> None:
    screen = Screen()
    asyncio.run(bot.press(action, "ada", screen))
    assert "not known here" in screen.last.text or "no job" in screen.last.text


def test_limits_of_a_person() -> None:
    now = [0.0]
    ledger = Ledger(Limits(hourly=3, at_once=2), lambda: now[0])
    ledger.begin("ada", 1)
    ledger.begin("ada", 1)
    with pytest.raises(SfumatoError, match="2 of your jobs"):
        ledger.begin("ada", 1)
    ledger.begin("eve", 3)
    ledger.end("ada")
    with pytest.raises(SfumatoError, match="3 pictures an hour; come back in 60 min"):
        ledger.begin("ada", 2)
    now[0] = HOUR
    ledger.begin("ada", 3)


class Strict:
    def prompt(self, user: str, text: str) -> str | None:
        return None

    def picture(self, user: str, png: bytes) -> str | None:
        return "this picture is not shown here"


def test_moderation(studio: Studio) -> None:
    blocked = Blocklist(["# a comment", "grey cat", "ÉVIL", ""])
    for text in ("a Grey  CAT", "evil", "an e\u0301vil thing", "ｅｖｉｌ", "ev\u200bil"):
        assert blocked.prompt("ada", text), text
    assert not blocked.prompt("ada", "a devilish grey caterpillar") and not Blocklist([]).prompt("ada", "")
    made = Bot(studio, moderation=blocked, watch=0.001)  # type: ignore[arg-type]
    assert "not drawn here" in say(made, "imagine", "a dog --no evil").last.text and not studio.requests
    strict = Bot(studio, moderation=Strict(), watch=0.001)  # type: ignore[arg-type]
    screen = say(strict, "imagine", "a dog")
    assert "not shown here" in screen.last.text and not screen.last.pictures


def test_options_are_told(bot: Bot) -> None:
    text = say(bot, "help").last.text
    assert "!imagine PROMPT: " in text and "/imagine" not in text
    assert all(f"--{name} " in text for name in OPTIONS)
    values: dict[str, Any] = read("x --private --model emoji").given
    assert values == {"private": True, "model": "emoji"} and not read("x --private off").private
