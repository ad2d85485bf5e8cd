"""Captions of single emoji in six languages, and the table of named colours.

All functions are pure; chance comes from the `random.Random` that the caller passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from sfumato.text.emoji_names import LANGUAGES as LANGUAGES

STYLES = ("3d", "flat", "gradient", "noto", "blob", "twemoji")

# English is what most prompts are written in; the others share the rest evenly.
LANGUAGE_WEIGHTS = (0.30, 0.14, 0.14, 0.14, 0.14, 0.14)

NAME_SHARE = 0.7
STYLE_SHARE = 0.85
BACKGROUND_SHARE = 0.5
CANONICAL_STYLE_SHARE = 0.75

# Keywords joined in one caption stay below this many characters, so that no caption grows past about 40 tokens.
KEYWORDS_LENGTH = 48


@dataclass(frozen=True)
class Concept:
    """One emoji in all its styles.

    `hex` is its code in lower case without FE0F, such as "1f680". `names` has its name in each language. `keywords` has
    words for it in each language, from the rarest in the set to the most common.
    """

    hex: str
    emoji: str
    group: str
    subgroup: str
    names: dict[str, str]
    keywords: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Colour:
    """A plain background colour: a box of 8-bit RGB values from `low` to `high`, and its name in each language.

    Ukrainian needs two forms: `words` has the neuter nominative ("синє тло"), `locative` the neuter locative ("на
    синьому тлі").
    """

    name: str
    low: tuple[int, int, int]
    high: tuple[int, int, int]
    words: dict[str, str]
    locative: str

    def sample(self, rng: Random) -> tuple[int, int, int]:
        """Returns an 8-bit RGB value, drawn evenly from the box of this colour."""
        r, g, b = (rng.randint(low, high) for low, high in zip(self.low, self.high, strict=True))
        return r, g, b


def _colour(low: int, high: int, words: str) -> Colour:
    en, th, zh, id, uk, locative, ja = words.split("/")
    (r0, g0, b0), (r1, g1, b1) = low.to_bytes(3), high.to_bytes(3)
    return Colour(
        en, (r0, g0, b0), (r1, g1, b1), {"en": en, "th": th, "zh": zh, "id": id, "uk": uk, "ja": ja}, locative
    )


# English, Thai, Chinese, Indonesian, Ukrainian (nominative, locative), Japanese.
COLOURS = (
    _colour(0xFFFFFF, 0xFFFFFF, "white/ขาว/白色/putih/біле/білому/白"),
    _colour(0x000000, 0x101010, "black/ดำ/黑色/hitam/чорне/чорному/黒"),
    _colour(0x787878, 0x8C8C8C, "grey/เทา/灰色/abu-abu/сіре/сірому/灰色"),
    _colour(0xD0D0D0, 0xDCDCDC, "light grey/เทาอ่อน/浅灰色/abu-abu muda/світло-сіре/світло-сірому/薄い灰色"),
    _colour(0xD81818, 0xF03838, "red/แดง/红色/merah/червоне/червоному/赤"),
    _colour(0x700000, 0x8C1818, "dark red/แดงเข้ม/深红色/merah tua/темно-червоне/темно-червоному/濃い赤"),
    _colour(0xF89CB4, 0xFFBCD0, "pink/ชมพู/粉色/merah muda/рожеве/рожевому/ピンク"),
    _colour(0xF88010, 0xFF9C28, "orange/ส้ม/橙色/oranye/помаранчеве/помаранчевому/オレンジ"),
    _colour(0xF8D800, 0xFFEC28, "yellow/เหลือง/黄色/kuning/жовте/жовтому/黄色"),
    _colour(0xFFF4A8, 0xFFFAC4, "light yellow/เหลืองอ่อน/浅黄色/kuning muda/світло-жовте/світло-жовтому/薄い黄色"),
    _colour(0x189830, 0x30B048, "green/เขียว/绿色/hijau/зелене/зеленому/緑"),
    _colour(0xA8E8A0, 0xC0F8B8, "light green/เขียวอ่อน/浅绿色/hijau muda/світло-зелене/світло-зеленому/黄緑"),
    _colour(0x004818, 0x186030, "dark green/เขียวเข้ม/深绿色/hijau tua/темно-зелене/темно-зеленому/濃い緑"),
    _colour(0x18B0A8, 0x38CCC4, "turquoise/ฟ้าอมเขียว/青绿色/pirus/бірюзове/бірюзовому/青緑"),
    _colour(0x1858D8, 0x3078F8, "blue/น้ำเงิน/蓝色/biru/синє/синьому/青"),
    _colour(0xA0D4F8, 0xBCE8FF, "light blue/ฟ้า/浅蓝色/biru muda/блакитне/блакитному/水色"),
    _colour(0x081850, 0x203078, "dark blue/น้ำเงินเข้ม/深蓝色/biru tua/темно-синє/темно-синьому/紺色"),
    _colour(0x7020A8, 0x9038C8, "purple/ม่วง/紫色/ungu/фіолетове/фіолетовому/紫"),
    _colour(0xD0B8F4, 0xE4CCFF, "lavender/ม่วงอ่อน/淡紫色/lavendel/лавандове/лавандовому/薄紫"),
    _colour(0x704018, 0x885430, "brown/น้ำตาล/棕色/cokelat/коричневе/коричневому/茶色"),
    _colour(0xF0E0C0, 0xFCECD4, "beige/เบจ/米色/krem/бежеве/бежевому/ベージュ"),
)

# The first word of each list is canonical: evaluation prompts use it, captions mostly.
STYLE_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "en": {
        "3d": ("3d render", "3d icon"),
        "flat": ("flat icon", "flat design"),
        "gradient": ("gradient icon", "gradient design"),
        "noto": ("noto emoji", "google emoji"),
        "blob": ("blob emoji", "google blob emoji"),
        "twemoji": ("twemoji", "twitter emoji"),
    },
    "th": {
        "3d": ("ภาพสามมิติ", "ภาพ 3d"),
        "flat": ("ไอคอนแบบแบน", "ภาพแบบแบน"),
        "gradient": ("ไอคอนไล่สี", "ภาพไล่สี"),
        "noto": ("อีโมจิ noto", "อีโมจิ google"),
        "blob": ("อีโมจิ blob", "อีโมจิ google blob"),
        "twemoji": ("twemoji", "อีโมจิ twitter"),
    },
    "zh": {
        "3d": ("3d渲染", "3d图标"),
        "flat": ("扁平图标", "扁平风格"),
        "gradient": ("渐变图标", "渐变风格"),
        "noto": ("noto表情", "google表情"),
        "blob": ("blob表情", "google blob表情"),
        "twemoji": ("twemoji", "twitter表情"),
    },
    "id": {
        "3d": ("render 3d", "ikon 3d"),
        "flat": ("ikon datar", "desain datar"),
        "gradient": ("ikon gradien", "desain gradien"),
        "noto": ("emoji noto", "emoji google"),
        "blob": ("emoji blob", "emoji google blob"),
        "twemoji": ("twemoji", "emoji twitter"),
    },
    "uk": {
        "3d": ("3d-рендер", "3d-значок"),
        "flat": ("плаский значок", "плаский дизайн"),
        "gradient": ("градієнтний значок", "градієнтний дизайн"),
        "noto": ("емодзі noto", "емодзі google"),
        "blob": ("емодзі blob", "емодзі google blob"),
        "twemoji": ("twemoji", "емодзі twitter"),
    },
    "ja": {
        "3d": ("3dレンダー", "3dアイコン"),
        "flat": ("フラットアイコン", "フラットデザイン"),
        "gradient": ("グラデーションアイコン", "グラデーション"),
        "noto": ("noto絵文字", "google絵文字"),
        "blob": ("blob絵文字", "google blob絵文字"),
        "twemoji": ("twemoji", "twitter絵文字"),
    },
}


@dataclass(frozen=True)
class _Grammar:
    """The sentence patterns of one language.

    {s} stands for the subject, {y} for the style, {p} for the phrase so far, {c} for the colour, {a} for the colour
    with the English article, and {l} for the colour in the Ukrainian locative.
    """

    comma: str
    plain: tuple[str, ...]
    styled: tuple[str, ...]
    background: tuple[str, ...]


_GRAMMARS = {
    "en": _Grammar(
        ", ",
        ("{s}", "{s}", "{s}", "picture of {s}"),
        ("{s}, {y}", "{s}, {y}", "{y} of {s}", "{y}, {s}", "{s} as a {y}"),
        ("{p} on {a} background", "{p}, {c} background", "{p} with {a} background", "{p} on {c}"),
    ),
    "th": _Grammar(
        ", ",
        ("{s}", "{s}", "{s}", "รูป{s}"),
        ("{s}, {y}", "{s}, {y}", "{y} {s}", "{y} รูป{s}", "{s} {y}"),
        ("{p} บนพื้นหลังสี{c}", "{p}, พื้นหลังสี{c}", "{p} พื้นหลังสี{c}"),
    ),
    "zh": _Grammar(
        "，",
        ("{s}", "{s}", "{s}", "{s}的图片"),
        ("{s}，{y}", "{s}，{y}", "{s}的{y}", "{y}，{s}"),
        ("{p}，{c}背景", "{c}背景上的{p}", "{p} {c}背景"),
    ),
    "id": _Grammar(
        ", ",
        ("{s}", "{s}", "{s}", "gambar {s}"),
        ("{s}, {y}", "{s}, {y}", "{y} {s}", "{y}, {s}"),
        ("{p} dengan latar belakang {c}", "{p}, latar belakang {c}", "{p} di latar {c}"),
    ),
    # A genitive ("рендер ракети") would need every name declined; these patterns all take the nominative.
    "uk": _Grammar(
        ", ",
        ("{s}", "{s}", "{s}", "зображення: {s}"),
        ("{s}, {y}", "{s}, {y}", "{y}: {s}", "{y}, {s}"),
        ("{p} на {l} тлі", "{p}, {c} тло", "{p} на {l} фоні"),
    ),
    "ja": _Grammar(
        "、",
        ("{s}", "{s}", "{s}", "{s}の絵"),
        ("{s}、{y}", "{s}、{y}", "{s}の{y}", "{y}、{s}"),
        ("{p}、{c}の背景", "{c}の背景に{p}", "{p} {c}背景"),
    ),
}


def language(rng: Random) -> str:
    """Draws the language of one caption by LANGUAGE_WEIGHTS."""
    return rng.choices(LANGUAGES, LANGUAGE_WEIGHTS)[0]


def background(rng: Random) -> Colour | None:
    """Draws a named background for half of the samples; None stands for white that the caption does not mention."""
    return rng.choice(COLOURS) if rng.random() < BACKGROUND_SHARE else None


def caption(concept: Concept, style: str, language: str, rng: Random, background: Colour | None = None) -> str:
    """Returns one way in which a person might ask for this picture; a given background is always named."""
    subject = _subject(concept, language, rng)
    return with_style_and_background(subject, style if rng.random() < STYLE_SHARE else None, language, rng, background)


def with_style_and_background(
    subject: str, style: str | None, language: str, rng: Random, background: Colour | None
) -> str:
    """Returns a caption of the subject with its style and its background, each unless it is None."""
    grammar = _GRAMMARS[language]
    if style is not None:
        phrase = rng.choice(grammar.styled).format(s=subject, y=_style_word(style, language, rng))
    else:
        phrase = rng.choice(grammar.plain).format(s=subject)
    return phrase if background is None else _on(rng.choice(grammar.background), phrase, background, language)


def prompt(concept: Concept, style: str, language: str) -> str:
    """Returns the canonical prompt for evaluation, the name and the style: "red apple, 3d render"."""
    return canonical(concept.names[language], style, language)


def canonical(subject: str, style: str, language: str, background: Colour | None = None) -> str:
    """Returns the subject with the canonical word for its style, and with its background if one is given."""
    grammar = _GRAMMARS[language]
    phrase = f"{subject}{grammar.comma}{STYLE_WORDS[language][style][0]}"
    return phrase if background is None else _on(grammar.background[0], phrase, background, language)


def _on(pattern: str, phrase: str, colour: Colour, language: str) -> str:
    word = colour.words[language]
    return pattern.format(p=phrase, c=word, l=colour.locative, a=with_article(word))


def _subject(concept: Concept, language: str, rng: Random) -> str:
    keywords = concept.keywords[language]
    name = concept.names[language]
    if keywords and rng.random() >= NAME_SHARE:
        count = min(rng.randint(1, 3), len(keywords))
        # A single common word ("face") would stand for hundreds of pictures, so it comes from the rarer half.
        pool = keywords[: (len(keywords) + 1) // 2] if count == 1 else keywords
        chosen = rng.sample(pool, count)
        while len(chosen) > 1 and sum(map(len, chosen)) > KEYWORDS_LENGTH:
            chosen.pop()
        return _GRAMMARS[language].comma.join(chosen)
    if language == "en" and concept.group != "symbols" and rng.random() < 0.4:
        return with_article(name)
    return name


def _style_word(style: str, language: str, rng: Random) -> str:
    canonical, *others = STYLE_WORDS[language][style]
    return rng.choice(others) if others and rng.random() >= CANONICAL_STYLE_SHARE else canonical


def with_article(name: str) -> str:
    """Puts an article before an English name; names that look plural, proper or like a label stay as they are."""
    words = name.split(" ")
    links = [i for i, word in enumerate(words) if word in ("with", "of", "in", "on", "and", "without")]
    head = words[links[0] - 1] if links and links[0] > 0 else words[-1]
    plural = head == "people" or (head.endswith("s") and not head.endswith(("ss", "us")))
    vowel = name[0] in "aeiou" and not name.startswith(("one", "un", "eu"))
    if plural or not name.replace(" ", "").replace("-", "").isalpha() or name != name.lower():
        return name
    return f"{'an' if vowel else 'a'} {name}"
