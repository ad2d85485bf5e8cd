"""Tiny stand-ins for the npm packages, so that the builder runs without a network."""

import base64
import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from sfumato.data.emoji import build as emoji
from sfumato.data.emoji.captions import LANGUAGES
from sfumato.data.emoji.dataset import EmojiData
from tiny.shapes import build_set

EMOJI = {"🚀": ("1F680", 5, "rocket"), "🍎": ("1F34E", 4, "red apple"), "❤️": ("2764-FE0F", 0, "red heart")}
GROUPS = {"0": "smileys-emotion", "4": "food-drink", "5": "travel-places", "9": "flags"}
CODES = {"1f680": "rocket", "1f34e": "red-apple", "2764": "red-heart", "1f3c1": "chequered-flag"}


def pack(path: Path, files: dict[str, bytes]) -> str:
    """Write a package archive and return its npm integrity."""
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def webp(colour: tuple[int, int, int, int], size: int = 32) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (size, size), colour).save(buffer, "WEBP", lossless=True, exact=True)
    return buffer.getvalue()


def iconify(fill: str, names: dict[str, str]) -> dict[str, bytes]:
    square = f'<path fill="{fill}" d="M0 0h16v32H0z"/>'
    icons = {name: {"body": square} for name in names.values() if name != "red-heart"}
    aliases = {"red-heart": {"parent": "rocket", "hFlip": True}}
    return {
        "icons.json": as_json({"icons": icons, "aliases": aliases, "width": 32, "height": 32}),
        "chars.json": as_json(names),
    }


def contents() -> dict[str, dict[str, bytes]]:
    entry = {"order": 1, "subgroup": 0}
    base = [
        {**entry, "emoji": char, "hexcode": code, "group": group, "tags": ["common", name.split()[-1] + "ish"]}
        for char, (code, group, name) in EMOJI.items()
    ]
    base.append({**entry, "emoji": "🏁", "hexcode": "1F3C1", "group": 9})
    cldr = {
        language: {
            char.replace("\ufe0f", ""): {"tts": [name if language == "en" else f"{name} {language}"], "default": [name]}
            for char, (_, _, name) in EMOJI.items()
        }
        for language in LANGUAGES
    }
    return {
        "3d": {"assets/1f680.webp": webp((255, 0, 0, 255)), "assets/2764-fe0f.webp": webp((0, 255, 0, 128))},
        "flat": iconify("#00f", CODES),
        "gradient": iconify("#0f0", CODES),
        "noto": iconify("#f00", CODES),
        "blob": iconify("#ff0", {"1f680": "rocket"}),
        "twemoji": iconify("#0ff", CODES),
        "cldr": {"LICENSE": b"unicode"}
        | {
            f"annotations/{language}/annotations.json": as_json({"annotations": {"annotations": table}})
            for language, table in cldr.items()
        },
        "emojibase": {
            "LICENSE": b"mit",
            "en/data.json": as_json(base),
            "meta/groups.json": as_json({"groups": GROUPS, "subgroups": {"0": "some"}}),
        },
        "emojilib": {"LICENSE": b"mit", "dist/emoji-en-US.json": as_json({"🚀": ["space_ship", ":D", "rocket"]})},
    }


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds every package, pinned to its fake contents; npm itself is out of reach."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # which would forbid to ask npm
    folder = tmp_path / "cache"
    folder.mkdir()
    packages = {}
    for key, files in contents().items():
        package = emoji.PACKAGES[key]
        packages[key] = replace(package, integrity=pack(folder / package.filename, files))
    monkeypatch.setattr(emoji, "PACKAGES", packages)
    monkeypatch.setenv("PATH", "")
    return folder


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> EmojiData:
    """32 things as coloured shapes; the first two are held out, two more in one style each."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    build_set(folder)
    return EmojiData(folder)


@pytest.fixture
def nothing_to_learn(tmp_path: Path) -> EmojiData:
    """A set in which no picture may be learned from."""
    build_set(tmp_path / "none")
    codes = json.loads((tmp_path / "none/images-3d.json").read_text())["hex"]
    held_out = tmp_path / "none/holdout.json"
    size = held_out.stat().st_size
    held_out.write_text(json.dumps({"concepts": codes, "pictures": []}))
    manifest = tmp_path / "none/manifest.json"
    manifest.write_text(manifest.read_text().replace(f'{{"bytes": {size}}}', f'{{"bytes": {held_out.stat().st_size}}}'))
    return EmojiData(tmp_path / "none")
