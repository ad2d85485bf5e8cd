"""Words without meaning, so that a reader learns to ignore what it does not know."""

from __future__ import annotations

from random import Random

from sfumato.data.emoji.wording.lexicon import agree, loose

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
    """Returns a word that does not exist: "blorpy"; in Ukrainian with the "*" that marks an adjective."""
    begin, middle, end, end_held = _SPLIT[language]
    return rng.choice(begin) + rng.choice(middle) + rng.choice(end_held if held else end)


def pseudo_adjective(text: str, language: str, rng: Random, held: bool = False, gender: str = "m") -> str:
    """Returns the text with such a word as its adjective; in Ukrainian it agrees with the noun's `gender`."""
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
            return f"{agree(word.removesuffix('*'), gender)} {text}"
        case _:
            return f"{word} {text}"


# Onsets, vowels and closings of syllables; - is none.
_SYLLABLE_PARTS = {
    "en": (
        "b br c ch cl d dr f fl g gl h j k l m n p pl pr qu r s sc sh sp st str t th tr v w y",
        "a e i o u ai ea ee ie oo ou",
        "- - b ck d l ll m n nd ng nt p r rd s ss st t x",
    ),
    "id": (
        "b c d g h j k l m n p r s t w y ng ny kl pr tr sy",
        "a a e i o u ai au",
        "- - - k l m n ng p r s t h",
    ),
    "uk": (
        "б в г д ж з к л м н п р с т ф х ц ч ш бр вд гр зл кр пл пр ст",
        "а е и і о у я є ю",
        "- - в й к л м н р с т ть ш",
    ),
    "th": (
        "ก ข ค ง จ ช ซ ด ต ท น บ ป ผ พ ฟ ม ย ร ล ว ส ห อ",
        "า ี ู ะ อ ิ ุ ั",
        "ก ง ด น บ ม ย ว",
    ),
}
_SYLLABLES = {
    language: tuple([part.strip("-") for part in row.split()] for row in rows)
    for language, rows in _SYLLABLE_PARTS.items()
}
_KANA = ("あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわん", 0x60)
NOISE_WORD_SHARE = 0.55


def noise(language: str, rng: Random) -> str:
    """Returns a word that says nothing about a picture, either a real one or one without meaning."""
    if rng.random() < NOISE_WORD_SHARE:
        return rng.choice(loose(language)["noise"])
    return _gibberish(language, rng)


def _gibberish(language: str, rng: Random) -> str:
    if language == "zh":
        return "".join(rng.choices(loose("zh")["hanzi"][0], k=rng.randint(1, 3)))
    if language == "ja":
        kana, apart = _KANA
        shift = apart if rng.random() < 0.4 else 0
        return "".join(chr(ord(char) + shift) for char in rng.choices(kana, k=rng.randint(2, 4)))
    onsets, vowels, closings = _SYLLABLES[language]
    syllables = range(rng.randint(1, 3))
    return "".join(rng.choice(onsets) + rng.choice(vowels) + rng.choice(closings) for _ in syllables)


def pseudo_surface(language: str, rng: Random) -> str:
    """Returns a noun that does not exist, as `forms.surface_words` takes what lies behind things."""
    noun = _gibberish(language, rng)
    if language != "uk":
        return noun
    stem = noun.rstrip("аеиіоуяюєйьв") + rng.choice("бдзклмнпрст")
    return rng.choice((f"{stem}/{stem}і/{stem}ом/m", f"{stem}а/{stem}і/{stem}ою/f"))


def noisy(text: str, language: str, rng: Random) -> str:
    """Returns the text with such words before it, after it or both."""
    before, behind = rng.choice(((1, 0), (2, 0), (3, 0), (0, 1), (0, 2), (1, 1), (2, 1), (4, 0)))
    gap = rng.choice((" ", " ", ", ")) if language in ("en", "id", "uk") else rng.choice(("", "", " "))
    words = [noise(language, rng) for _ in range(before + behind)]
    return gap.join((*words[:before], text, *words[before:]))
