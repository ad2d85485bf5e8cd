"""Builds the captioned emoji set from openly licensed artwork on npm.

For each style the folder holds `images-<style>.npy` (uint8 RGBA (N, S, S, 4), straight alpha) and `images-<style>.json`
(the hex code of each row), and beside them `concepts.json`, `holdout.json` and the licences. `manifest.json` is written
last: a folder without it is half built, and building again finishes it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sfumato.data.emoji import npm
from sfumato.data.emoji.captions import LANGUAGES, STYLES, Concept
from sfumato.data.emoji.npm import Package
from sfumato.errors import SfumatoError
from sfumato.files import atomic_write, check_writable

FORMAT = 1
MANIFEST = "manifest.json"
HOLDOUT_SHARE = 0.02
MAX_SIZE = 512

PACKAGES = {
    "3d": Package(
        "@lobehub/fluent-emoji-3d",
        "1.1.0",
        "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
    ),
    "flat": Package(
        "@iconify-json/fluent-emoji-flat",
        "1.2.6",
        "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
    ),
    "gradient": Package(
        "@iconify-json/fluent-emoji",
        "1.2.7",
        "sha512-D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
    ),
    "noto": Package(
        "@iconify-json/noto",
        "1.2.9",
        "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
    ),
    "blob": Package(
        "@iconify-json/noto-v1",
        "1.2.5",
        "sha512-/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
    ),
    "twemoji": Package(
        "@iconify-json/twemoji",
        "1.2.5",
        "sha512-uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
    ),
    "cldr": Package(
        "cldr-annotations-full",
        "48.2.0",
        "sha512-DV7A+rEcgUSNTRsVGNGqBZRmAkGfwhGHO5Q1dRwzBoBnVrHWp804JP7/QJdEc66iHmx3+zLWVIMCFLm0lW7PUQ==",
    ),
    "emojibase": Package(
        "emojibase-data",
        "17.0.0",
        "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    ),
    "emojilib": Package(
        "emojilib",
        "4.0.3",
        "sha512-KbWiYre9aRSaPbHrHZIz9zmoM+21LAsK1VFJtnTh1VCtWE/rNMDviGhQTmselFl95dhqtGlY22iH0leG5BuW0g==",
    ),
}

# Two icon sets carry no table from code to icon name; they name their icons like these.
NAME_TABLES = {"flat": ("flat",), "gradient": ("flat",), "noto": ("noto",), "blob": ("noto",), "twemoji": ("twemoji",)}

# Unicode's groups that are no pictures of things here: skin and hair swatches, and flags.
LEFT_OUT_GROUPS = ("component", "flags")

Progress = Callable[[int, int, str], None]


def build_emoji(
    out: str | Path, *, cache: str | Path | None = None, size: int = 128, progress: Progress | None = None
) -> Path:
    """Builds the captioned set in the folder `out`, or finishes a half-built one. Returns `out`.

    `cache` is the folder that keeps the npm archives (None: `npm.default_cache()`). `size` is the edge of the pictures
    in pixels, 8 to 512. `progress(done, total, what)` is called after every package and every picture. Raises
    SfumatoError if `out` holds another set, if a package cannot be downloaded or is not the pinned one, and if a
    picture cannot be drawn.
    """
    out, cache = Path(out), Path(cache) if cache is not None else npm.default_cache()
    report: Progress = progress or (lambda done, total, what: None)
    if not 8 <= size <= MAX_SIZE:
        raise SfumatoError(f"size is {size}, expected 8 to {MAX_SIZE} pixels; 128 is the trained size")
    if _finished(out, size):
        return out
    check_writable(out)
    archives = {}
    for done, (key, package) in enumerate(PACKAGES.items()):
        report(done, len(PACKAGES), f"fetch {package}")
        archives[key] = npm.fetch(package, cache)

    report(0, 1, "read names and pictures")
    concepts = _concepts(archives)
    sources = _pictures(archives, {concept.hex for concept in concepts})
    drawn = set().union(*sources.values())
    concepts = [concept for concept in concepts if concept.hex in drawn]
    order = [concept.hex for concept in concepts]

    total = sum(map(len, sources.values()))
    done = 0
    for style, source in sources.items():
        codes = [code for code in order if code in source]
        for row in _build_style(out, style, codes, source, size):
            report(done + row, total, f"draw {style}")
        done += len(codes)

    write_json(out / "concepts.json", [asdict(concept) for concept in concepts])
    write(out / "holdout.json", _resource("holdout.json"))
    write(out / "LICENSES.md", _resource("LICENSES.md"))
    for key in ("cldr", "emojibase", "emojilib"):
        (text,) = npm.read(archives[key], lambda path: path == "LICENSE").values()
        write(out / f"LICENSE-{key}.txt", text)
    _write_manifest(out, size)
    return out


def choose_holdout(pictures: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Chooses the concepts and the single pictures that training never sees, from the hex codes of each style.

    A hash of its own name decides each case, so adding pictures never changes another case. A picture is held out only
    if its concept keeps a picture in another style. The result is committed as `holdout.json`, which the builder
    copies.
    """
    styles_of = defaultdict(list)
    for style, codes in pictures.items():
        for code in codes:
            styles_of[code].append(style)
    concepts = {code for code in styles_of if _chance(f"concept/{code}") < HOLDOUT_SHARE}
    singles = []
    for code in styles_of.keys() - concepts:
        chosen = [f"{style}/{code}" for style in styles_of[code] if _chance(f"{style}/{code}") < HOLDOUT_SHARE]
        if len(chosen) < len(styles_of[code]):
            singles += chosen
    return {"concepts": sorted(concepts), "pictures": sorted(singles)}


def _chance(name: str) -> float:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _finished(out: Path, size: int) -> bool:
    manifest = out / MANIFEST
    if not manifest.is_file():
        return False
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
        kind = (found["format"], found["size"], found["packages"])
    except (ValueError, KeyError, TypeError) as error:
        raise SfumatoError(f"{manifest} is damaged ({error}); delete it and build again") from error
    if kind != (FORMAT, size, _package_names()):
        raise SfumatoError(f"{out} holds another set ({found['size']} px); choose another folder")
    return True


def _package_names() -> list[str]:
    return [str(package) for package in PACKAGES.values()]


# Names and keywords


def _concepts(archives: Mapping[str, Path]) -> list[Concept]:
    """Returns the emoji with names in all languages but flags, skin tones and components, in Unicode's order."""
    cldr = {}
    for language in LANGUAGES:
        table = _member_json(archives["cldr"], f"annotations/{language}/annotations.json")
        cldr[language] = table["annotations"]["annotations"]
    emojibase = _member_json(archives["emojibase"], "en/data.json")
    groups = _member_json(archives["emojibase"], "meta/groups.json")
    emojilib = {
        _bare(emoji): tags for emoji, tags in _member_json(archives["emojilib"], "dist/emoji-en-US.json").items()
    }
    concepts = []
    for entry in sorted(emojibase, key=lambda entry: entry.get("order", 0)):
        emoji = _bare(entry["emoji"])
        group = groups["groups"].get(str(entry.get("group")))
        if group is None or group in LEFT_OUT_GROUPS or not all(emoji in cldr[language] for language in LANGUAGES):
            continue
        names = {language: cldr[language][emoji]["tts"][0] for language in LANGUAGES}
        tags = {language: cldr[language][emoji].get("default", []) for language in LANGUAGES}
        tags["en"] = [*tags["en"], *entry.get("tags", []), *emojilib.get(emoji, [])]
        keywords = {language: _keywords(tags[language], names[language]) for language in LANGUAGES}
        subgroup = groups["subgroups"][str(entry["subgroup"])]
        concepts.append(Concept(_hex(entry["hexcode"]), entry["emoji"], group, subgroup, names, keywords))
    return _rarest_first(concepts)


def _keywords(tags: Iterable[str], name: str) -> tuple[str, ...]:
    """Returns the tags as words, without repeats, copies of the name and emoticons such as ":D"."""
    words: dict[str, str] = {}
    for tag in tags:
        word = " ".join(tag.replace("_", " ").split())
        if sum(map(str.isalpha, word)) * 2 > len(word) and word.casefold() != name.casefold():
            words.setdefault(word.casefold(), word)
    return tuple(words.values())


def _rarest_first(concepts: list[Concept]) -> list[Concept]:
    counts = {language: Counter(word for c in concepts for word in c.keywords[language]) for language in LANGUAGES}

    def ordered(language: str, words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(words, key=lambda word: (counts[language][word], word)))

    return [replace(c, keywords={lang: ordered(lang, words) for lang, words in c.keywords.items()}) for c in concepts]


def _bare(emoji: str) -> str:
    return emoji.replace("\ufe0f", "")


def _hex(code: str) -> str:
    return code.lower().replace("-fe0f", "")


# Pictures


def _pictures(archives: Mapping[str, Path], known: set[str]) -> dict[str, dict[str, bytes]]:
    """Returns the WebP or SVG file of each known concept: style -> hex code -> bytes."""
    tables = {style: _member_json(archives[style], "chars.json") for style in ("flat", "noto", "twemoji")}
    files = npm.read(archives["3d"], lambda path: path.startswith("assets/") and path.endswith(".webp"))
    pictures = {"3d": {_hex(Path(path).stem): data for path, data in files.items()}}
    for style, table_names in NAME_TABLES.items():
        icons = _member_json(archives[style], "icons.json")
        names = {_hex(code): name for table in table_names for code, name in tables[table].items()}
        pictures[style] = {
            code: svg for code, name in names.items() if code in known and (svg := svg_of(icons, name)) is not None
        }
    return {style: {code: data for code, data in pictures[style].items() if code in known} for style in STYLES}


def svg_of(icons: Mapping[str, Any], name: str) -> bytes | None:
    """Returns an icon of an Iconify set as a square SVG file, following aliases and flips; None if it is missing."""
    flip = False
    while name in icons.get("aliases", {}):
        alias = icons["aliases"][name]
        flip ^= alias.get("hFlip", False)
        name = alias["parent"]
    icon = icons["icons"].get(name)
    if icon is None:
        return None
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    left, top = icon.get("left", 0), icon.get("top", 0)
    body = icon["body"]
    if flip:
        body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="16" height="16" '
        f'viewBox="{left} {top} {width} {height}">{body}</svg>'
    ).encode()


def draw_icon(data: bytes, size: int) -> np.ndarray:
    """Renders a WebP or SVG file as uint8 RGBA (size, size, 4), straight alpha."""
    if data.startswith(b"<svg"):
        import resvg_py

        data = bytes(resvg_py.svg_to_bytes(svg_string=data.decode(), width=size, height=size, skip_system_fonts=True))
    with Image.open(io.BytesIO(data)) as image:
        picture = image.convert("RGBA")
    if picture.size != (size, size):
        # Averaging straight alpha would mix in the colour of transparent pixels.
        picture = picture.convert("RGBa").resize((size, size), Image.Resampling.LANCZOS).convert("RGBA")
    return np.array(picture)


def _build_style(out: Path, style: str, codes: list[str], source: Mapping[str, bytes], size: int) -> Iterator[int]:
    """Draws and writes the pictures of one style unless that is done; yields the number that is finished."""
    array, index = out / f"images-{style}.npy", out / f"images-{style}.json"
    entry = {"style": style, "package": str(PACKAGES[style]), "size": size, "hex": codes}
    # The index is written after the pictures: where it matches, the pictures are complete.
    if array.is_file() and index.is_file() and json.loads(index.read_text(encoding="utf-8")) == entry:
        yield len(codes)
        return
    pictures = np.empty((len(codes), size, size, 4), np.uint8)
    for row, code in enumerate(codes):
        try:
            pictures[row] = draw_icon(source[code], size)
        except ImportError as error:
            raise SfumatoError("resvg-py is not installed, it draws the SVGs; pip install 'sfumato[train]'") from error
        except (OSError, ValueError) as error:
            raise SfumatoError(
                f"cannot draw {code} of {PACKAGES[style]} ({error}); delete the cache and retry"
            ) from error
        yield row + 1
    with atomic_write(array) as file:
        np.save(file, pictures)
    write_json(index, entry)


# Files


def _member_json(archive: Path, member: str) -> Any:
    files = npm.read(archive, lambda path: path == member)
    if member not in files:
        raise SfumatoError(f"{archive} has no {member}; delete it and build again")
    return json.loads(files[member])


def _resource(name: str) -> bytes:
    return (resources.files("sfumato.data.emoji") / name).read_bytes()


def write(path: Path, data: bytes) -> None:
    """Writes a whole file atomically."""
    with atomic_write(path) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as a JSON file, atomically."""
    write(path, json.dumps(value, ensure_ascii=False, indent=None).encode())


def _write_manifest(out: Path, size: int) -> None:
    names = ["concepts.json", "holdout.json", "LICENSES.md"]
    names += [f"LICENSE-{key}.txt" for key in ("cldr", "emojibase", "emojilib")]
    names += [f"images-{style}.{suffix}" for style in STYLES for suffix in ("npy", "json")]
    files = digests(out, names)
    write_json(out / MANIFEST, {"format": FORMAT, "size": size, "packages": _package_names(), "files": files})


def digests(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Returns the length and the SHA-256 of each file by its name, as manifests list them."""
    files = {}
    for name in names:
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files[name] = {"bytes": (folder / name).stat().st_size, "sha256": digest}
    return files
