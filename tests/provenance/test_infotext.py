"""The settings text: what we write, we read back, and so does a reader by others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sd_parsers import ParserManager

from sfumato.images.files import save
from sfumato.provenance.infotext import parse, write

FIELDS = {
    "Steps": 20,
    "Sampler": "DPM++ 2M",
    "Schedule type": "Karras",
    "CFG scale": 7.0,
    "Seed": 4294967295,
    "Size": "128x128",
    "Model": "emoji, small: v1",
    "Clip skip": None,
    "Version": "sfumato 0.1",
}

lines = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=30).map(str.strip)
prompts = st.lists(lines, max_size=3).map("\n".join).map(str.strip).filter(lambda text: "Negative prompt:" not in text)
names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_ /-]{0,8}[A-Za-z0-9_/-]", fullmatch=True)
values = st.text(st.characters(codec="utf-8"), max_size=20)


def test_the_form_is_that_of_the_community() -> None:
    assert write("a red heart", "blurry", FIELDS) == (
        "a red heart\nNegative prompt: blurry\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 4294967295, Size: 128x128, "
        'Model: "emoji, small: v1", Version: sfumato 0.1'
    )


def test_empty_prompts_keep_their_places() -> None:
    fields = {"Steps": "1", "Seed": "2", "Size": "8x8"}
    for prompt, negative in [("", ""), ("", "n"), ("p", ""), ("p\nq", "n\nm")]:
        assert parse(write(prompt, negative, fields)) == (prompt, negative, fields)


@given(prompts, prompts, st.dictionaries(names, values, min_size=3, max_size=6))
def test_round_trip(prompt: str, negative: str, fields: dict[str, str]) -> None:
    assert parse(write(prompt, negative, fields)) == (prompt, negative, fields)


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    parse(text)


def test_a_text_without_fields_is_a_prompt() -> None:
    assert parse("a cat\nsitting: there") == ("a cat\nsitting: there", "", {})


def test_a_web_ui_text_is_read() -> None:
    text = (
        "cat, (best:1.2)\nsecond line\nNegative prompt: bad,\nworse\n"
        "Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 1, Size: 512x768, "
        'Lora hashes: "a: 1f, b: 2e", Version: v1.9.4'
    )
    prompt, negative, fields = parse(text)
    assert (prompt, negative) == ("cat, (best:1.2)\nsecond line", "bad,\nworse")
    assert fields["CFG scale"] == "7.5" and fields["Lora hashes"] == "a: 1f, b: 2e" and fields["Version"] == "v1.9.4"


@pytest.mark.parametrize("name", ["", "x", "a,b", "a:b", " lead", "trail ", "new\nline"])
def test_unreadable_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="infotext field"):
        write("p", "", {name: 1})


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("prompt", ["a red heart, (flat:1.2)", "หัวใจสีแดง 红色的心 ❤️"])
def test_sd_parsers_reads_our_pictures(tmp_path, suffix: str, prompt: str) -> None:
    path = tmp_path / f"picture{suffix}"
    save(Image.new("RGB", (16, 16), "red"), path, write(prompt, "blurry, grey", FIELDS))
    found = ParserManager().parse(path)
    sampler = found.samplers[0]
    assert [str(p.value) for p in found.prompts] == [prompt]
    assert [str(p.value) for p in found.negative_prompts] == ["blurry, grey"]
    assert sampler.name == "DPM++ 2M"
    expected = {"steps": "20", "cfg_scale": "7", "seed": "4294967295", "scheduler": "Karras"}
    assert {name: sampler.parameters[name] for name in expected} == expected
    assert found.metadata["Size"] == "128x128"
