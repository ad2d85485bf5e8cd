"""Words that mean nothing, so that a reader learns to pass over what it does not know."""

from __future__ import annotations

from random import Random

# Beginnings, middles and ends of a word; the ends of held words are never those of training.
_PARTS: dict[str, tuple[str, str, str, str]] = {
    "en": (
        "bl br cl cr dr fl fr gl gr pl pr sk sl sm sn sp squ str sw thr tr tw v w z b d f g h j k l m n p r s t",
        "a e i o u oo ee ou ai ia eo",
        "rpy mby nky bbly xic rvish zzly dgy ndric lbish mpy vvy gglish rnic",
        "rfoid nquesque bblon ndiac mplic xoid rvane lquine",
    ),
    "id": (
        "b c d g j k l m n p r s t w y ny ng kr pr tr bl",
        "a i u e o ai au",
        "mbak lung ndar kut sem rop ngil pas bik tung",
        "rwik ngsul ftak zoma lquk pfen",
    ),
    "uk": (
        "б бл бр в г гр д др ж з к кв л м н п пр р с ст т тр ф х ц ч ш",
        "а о у и і е я ю",
        "рклявий* мбрастий* зьмастий* бдявий* шпатий* нґулий* лкавий* фринний*",
        "рдюкуватий* пчелистий* цмаркий* вґуристий*",
    ),
    "th": (
        "ก ค จ ช ด ต ท น บ ป พ ฟ ม ร ล ว ส ห",
        "า ู ี อ ะ",
        "บลุ้ง ปริง จ๊อบ มู่ง พลิ ตุ้ย ลุบ ฟริก",
        "กรื้ม ซว่อ ฉลู่ย ฮว้ง",
    ),
    "zh": ("布 格 卡 莫 洛 希 图 佩 鲁 扎", "比 噜 咕 嘟 啦 哩 唧", "噗 咔 嘣 呱 嘶", "呒 嗞 哔 嚓"),
    "ja": (
        "ぽ ぺ ぷ ぶ ぼ む も に ぬ ら り ろ が ご",
        "にゃ ぷる もよ ぐに らぽ びろ ずん",
        "りん ぽん むー っぽ ぐー ぴぴ",
        "ぞん べろ ぎゅる ぬー",
    ),
}
_SPLIT = {language: tuple(part.split() for part in parts) for language, parts in _PARTS.items()}


def pseudo_word(language: str, rng: Random, held: bool = False) -> str:
    """A word that is none: "blorpy"; in Ukrainian with the "*" of an adjective."""
    begin, middle, end, end_held = _SPLIT[language]
    return rng.choice(begin) + rng.choice(middle) + rng.choice(end_held if held else end)


def pseudo_adjective(text: str, language: str, rng: Random, held: bool = False) -> str:
    """The text with such a word where an adjective stands."""
    word = pseudo_word(language, rng, held)
    match language:
        case "th":
            return f"{text}{word}"
        case "id":
            return f"{text} {word}"
        case "zh":
            return f"{word}的{text}"
        case "ja":
            return f"{word}な{text}"
        case "uk":
            return f"{word.removesuffix('*')} {text}"
        case _:
            return f"{word} {text}"
