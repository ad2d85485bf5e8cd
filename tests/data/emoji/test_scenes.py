from dataclasses import replace
from itertools import pairwise
from random import Random

import numpy as np
import pytest
import torch

from sfumato.data.emoji.captions import COLOURS, LANGUAGES
from sfumato.data.emoji.cutout import Cutout
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.noun_scenes import KINDS, NounScene, NounScenes, PlacedNoun
from sfumato.data.emoji.nouns import TINTS, nouns
from sfumato.data.emoji.scene_captions import PATTERNS, caption, prompt
from sfumato.errors import SfumatoError
from sfumato.evaluate.emoji.attributes import colour_of as name_of

BLUE, RED = (next(colour for colour in COLOURS if colour.name == name) for name in ("blue", "red"))
NOUN = {noun.names["en"]: noun for noun in nouns()}


def some(data: EmojiData, count: int = 120) -> list[NounScene]:
    scenes = NounScenes(data)
    return [scenes[number] for number in range(count)]


def placed(name: str, **changes) -> PlacedNoun:
    return replace(PlacedNoun(0, NOUN[name], None, None, (0, 0, 8, 8), 0), **changes)


def test_a_scene_is_a_function_of_set_seed_and_number(shapes):
    scenes, again = NounScenes(shapes, 3), NounScenes(shapes, 3)
    later = [again[number] for number in reversed(range(20))][::-1]
    assert [scenes[number] for number in range(20)] == later
    assert torch.equal(scenes.draw(later[7]).picture, again.draw(later[7]).picture)
    assert scenes[7] != NounScenes(shapes, 4)[7]


def test_masks_boxes_and_depth_are_those_of_the_picture(shapes):
    scenes = NounScenes(shapes)
    for scene in some(shapes):
        drawn = scenes.draw(scene)
        assert drawn.picture.shape == (3, 32, 32) and drawn.picture.abs().max() <= 1
        assert drawn.masks.sum(0).max() == 1, "a pixel shows one object"
        assert torch.equal(drawn.depth > 0, drawn.masks.any(0))
        outside = torch.ones(32, 32, dtype=torch.bool)
        nearest = max(thing.order for thing in scene.objects) + 1
        for thing, mask in zip(scene.objects, drawn.masks, strict=True):
            left, top, right, bottom = thing.box
            outside[top:bottom, left:right] = False
            rows, columns = torch.nonzero(mask, as_tuple=True)
            assert len(rows) and (drawn.depth[mask] == (thing.order + 1) / nearest).all()
            assert left <= columns.min() and columns.max() < right and top <= rows.min() and rows.max() < bottom
            if thing.order + 1 == nearest:
                assert columns.max() - columns.min() + 1 >= right - left - 2, "nothing hides a part of it"
        ground = ((drawn.picture[:, outside] + 1) * 127.5).round()
        assert (ground == torch.tensor(scene.rgb)[:, None]).all()


def test_what_captions_say_is_so(shapes):
    found = set()
    for scene in some(shapes, 300):
        found.add(scene.kind)
        middles = [
            ((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in (o.box for o in scene.objects)
        ]
        edges = [max(o.box[2] - o.box[0], o.box[3] - o.box[1]) for o in scene.objects]
        match scene.kind:
            case "one":
                (x, y) = middles[0]
                near = {"left": x < 12, "right": x > 20, "top": y < 12, "bottom": y > 20, None: 10 < x < 22}
                assert len(scene.objects) == 1 and near[scene.place]
            case "left" | "row":
                assert all(before[0] < after[0] - 6 for before, after in pairwise(middles))
            case "above":
                assert middles[0][1] < middles[1][1] - 6
            case "front":
                assert [thing.order for thing in scene.objects] == [1, 0]
            case "sizes":
                assert [thing.size for thing in scene.objects] == ["big", "small"] and edges[0] > 1.5 * edges[1]
            case "count":
                assert 2 <= len(scene.objects) <= 4
                assert len({(thing.picture, thing.colour and thing.colour.name) for thing in scene.objects}) == 1
        if scene.kind != "count":
            assert len({thing.noun.emoji for thing in scene.objects}) == len(scene.objects)
    assert found == set(KINDS)


def test_something_of_what_lies_behind_can_be_seen(shapes):
    scenes = NounScenes(shapes)
    for scene in some(shapes, 300):
        if scene.kind == "front":
            front, behind = scenes.draw(scene).masks
            assert front.any() and behind.any()


def test_held_out_pictures_never_take_part(shapes):
    used = {thing.picture for scene in some(shapes, 300) for thing in scene.objects}
    assert len(used) > 60 and {shapes.split(picture) for picture in used} == {"train"}


def test_a_tinted_object_has_the_colour_that_captions_name(shapes):
    scenes = NounScenes(shapes)
    tints = set()
    for scene in some(shapes):
        drawn = scenes.draw(scene)
        for thing, mask in zip(scene.objects, drawn.masks, strict=True):
            if thing.colour is not None:
                tints.add(thing.colour.name)
                shown = (drawn.picture[:, mask].median(1).values + 1) * 127.5
                assert COLOURS[int(name_of(shown[None]))].name == thing.colour.name
    assert tints == set(TINTS)


def test_a_tint_keeps_shading_and_other_hues():
    leaf, shade, body = (0, 160, 0, 255), (120, 0, 0, 255), (240, 0, 0, 255)
    cutout = Cutout(np.array([[leaf, shade, body, body, body]], np.uint8))
    tinted = cutout.tinted(BLUE).rgba[0, :, :3].astype(int)
    assert cutout.tintable and tuple(tinted[0]) == leaf[:3]
    assert (tinted[1:].argmax(1) == 2).all() and abs(tinted[2, 2] / tinted[1, 2] - 2) < 0.05
    grey = Cutout(np.full((2, 2, 4), 128, np.uint8))
    assert not grey.tintable


def test_a_named_background_stands_out_and_is_what_is_painted(shapes):
    scenes = NounScenes(shapes)
    for scene in some(shapes):
        if scene.background is None:
            assert scene.rgb == (255, 255, 255)
            continue
        assert all(
            low <= level <= high
            for low, level, high in zip(scene.background.low, scene.rgb, scene.background.high, strict=True)
        )
        shown = scenes.draw(scene)
        for mask in shown.masks:
            assert (shown.picture[:, mask].mean(1) * 127.5 + 127.5 - torch.tensor(scene.rgb)).norm() > 40


@pytest.mark.parametrize(
    ("language", "relation", "count", "one"),
    [
        (
            "en",
            "a blue car to the left of an apple, flat icon on a red background",
            "three blue stars, flat icon",
            "a small red key on the left, flat icon",
        ),
        (
            "th",
            "รถสีน้ำเงินอยู่ทางซ้ายของแอปเปิ้ล, ไอคอนแบบแบน บนพื้นหลังสีแดง",
            "ดาวสีน้ำเงิน 3 ดวง, ไอคอนแบบแบน",
            "กุญแจสีแดงขนาดเล็กทางซ้าย, ไอคอนแบบแบน",
        ),
        ("zh", "蓝色汽车在苹果左边，扁平图标，红色背景", "三颗蓝色星星，扁平图标", "左边的小的红色钥匙，扁平图标"),
        (
            "id",
            "mobil biru di sebelah kiri apel, ikon datar dengan latar belakang merah",
            "tiga bintang biru, ikon datar",
            "kunci merah kecil di kiri, ikon datar",
        ),
        (
            "uk",
            "автомобіль синього кольору ліворуч, яблуко праворуч, плаский значок на червоному тлі",
            "три зірки синього кольору, плаский значок",
            "ключ червоного кольору малого розміру ліворуч, плаский значок",
        ),
        (
            "ja",
            "りんごの左に青い自動車、フラットアイコン、赤の背景",
            "3個の青い星、フラットアイコン",
            "左に小さな赤い鍵、フラットアイコン",
        ),
    ],
)
def test_prompts_in_every_language(language: str, relation: str, count: str, one: str):
    white = (255, 255, 255)
    car, star = placed("car", colour=BLUE), placed("star", colour=BLUE)
    assert prompt(NounScene("left", "flat", (car, placed("apple")), None, RED, (230, 40, 40)), language) == relation
    assert prompt(NounScene("count", "flat", (star,) * 3, None, None, white), language) == count
    key = placed("key", colour=RED, size="small")
    assert prompt(NounScene("one", "flat", (key,), "left", None, white), language) == one


def test_two_of_a_ukrainian_noun_agree_with_it():
    assert [NOUN[name].counted("uk", 2) for name in ("pear", "car")] == ["дві груші", "два автомобілі"]
    assert NOUN["pear"].counted("uk", 4, BLUE) == "чотири груші синього кольору"


@pytest.mark.parametrize("language", LANGUAGES)
def test_captions_name_every_object_and_the_background_that_has_a_name(shapes, language: str):
    rng = Random(0)
    for scene in some(shapes):
        text = caption(scene, language, rng)
        assert "{" not in text
        if scene.kind != "count":
            for noun in (thing.noun for thing in scene.objects):
                assert any(word.names[language] in text for word in (noun, *noun.others))
        words = () if scene.background is None else (scene.background.words[language], scene.background.locative)
        assert not words or any(word in text for word in words)
    assert PATTERNS[language].keys() == PATTERNS["en"].keys()


def test_a_thing_goes_by_its_other_names_too():
    scene = NounScene("count", "flat", (placed("dog face"),) * 2, None, None, (255, 255, 255))
    texts = {caption(scene, "en", Random(k)) for k in range(60)}
    assert {"two dogs", "two dog faces"} <= texts


def test_every_noun_is_whole_and_its_own():
    assert len(nouns()) >= 100 and len({noun.hex for noun in nouns()}) == len(nouns())
    for language in LANGUAGES:
        names = [noun.names[language] for noun in nouns()]
        assert all(names) and len(set(names)) == len(names), language
    everything = [word for noun in nouns() for word in (noun, *noun.others)]
    assert all(noun.plural and all(noun.counters.values()) and " " in noun.two for noun in everything)


def test_a_set_without_things_to_compose_is_refused(nothing_to_learn):
    with pytest.raises(SfumatoError, match="too few things"):
        NounScenes(nothing_to_learn)
