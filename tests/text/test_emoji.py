"""Emoji in prompts as words."""

from pathlib import Path

import sfumato
from sfumato.text.emoji import spelled_out
from sfumato.text.emoji_names import emoji_names, names
from sfumato.text.tokenizer import CLIPTokenizer


def test_every_emoji_has_its_name() -> None:
    known = emoji_names()
    assert len(known) > 1500 and set(known.values()) == set(names())
    assert known["🍎"] == "red apple"


def test_emoji_become_words() -> None:
    assert spelled_out("two 🍎🍎!").split() == ["two", "red", "apple", "red", "apple", "!"]
    assert spelled_out("a red apple 1 # ☕ 猫") == "a red apple 1 #  hot beverage  猫"


def test_looks_do_not_matter() -> None:
    assert spelled_out("❤️").strip() == spelled_out("❤").strip() == "red heart"
    assert spelled_out("👍🏽").strip() == "thumbs up"
    pirate = "🏴\u200d☠\ufe0f"
    assert spelled_out("👩\u200d🚀").strip() == "woman astronaut" and "skull" in spelled_out(pirate)


def test_only_the_embedded_model_reads_names(tmp_path: Path) -> None:
    clip, ours = CLIPTokenizer.openai(), sfumato.load().encode.tokenizer
    assert clip.encode("🍎") != clip.encode("red apple")
    assert ours.encode("🍎") == ours.encode("red apple")
    ours.save(tmp_path)
    assert not CLIPTokenizer.from_folder(tmp_path).emoji and clip.emoji


def test_a_prompt_of_emoji_only_draws_the_thing() -> None:
    sd = sfumato.load()
    options = {"steps": 4, "seed": 3}
    assert sd.txt2img("🍎", **options).images == sd.txt2img("red apple", **options).images
