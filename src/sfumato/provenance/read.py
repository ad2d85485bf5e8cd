"""The recipe of a picture, whichever program drew it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sfumato.errors import SfumatoError
from sfumato.files import read_bytes
from sfumato.provenance import infotext
from sfumato.provenance.embedded import Embedded, json_object, mended
from sfumato.provenance.readers import (
    a1111,
    comfyui,
    draw_things,
    easy_diffusion,
    fooocus,
    invokeai,
    novelai,
    swarmui,
)
from sfumato.provenance.recipe import Recipe

MAX_FILE = 1 << 26
MOST_LOST = 60  # losses that are named
# A reader returns None for a file that is not its program's. ComfyUI's comes after those whose files hold a graph too.
READERS: tuple[Callable[[Embedded], Recipe | None], ...] = (
    swarmui.read,
    invokeai.read,
    novelai.read,
    comfyui.read,
    easy_diffusion.read,
    draw_things.read,
    fooocus.read,
)
# Where infotexts lie: the first is a prompt at least, the others must have fields.
_INFOTEXTS = ("parameters", "UserComment", "comment", "the pixels")
# Names that cameras and editors write; what they say is never of how a picture was drawn.
_PLAIN = ("Software", "Make", "Model", "DateTime", "Artist", "Copyright", "OffsetTime", "exif:", "date:", "filename:")


def read(path: str | Path) -> Recipe:
    """The recipe in a picture, or in a text or JSON file of settings (infotext, workflow in ComfyUI's API format).

    Raises SfumatoError for a file that cannot be read, and for one that says nothing of how it was drawn, or says it
    in a form that is not known here.
    """
    path = Path(path)
    found = _of_text(path) if path.suffix.lower() in (".txt", ".json") else Embedded.of_picture(path)
    own = found.texts.get("parameters", "")
    if infotext.parse(own)[2].get("Version", "").startswith(a1111.OURS):
        return checked(a1111.read(own))  # also where a graph that this program drew lies beside it
    for reader in READERS:
        try:
            recipe = reader(found)
        except SfumatoError as error:
            raise SfumatoError(f"{path}: {error}") from None
        if recipe is not None:
            return checked(recipe)
    for name in _INFOTEXTS:
        text = found.texts.get(name, "")
        if text.strip() and json_object(text) is None and (name == "parameters" or infotext.parse(text)[2]):
            if not infotext.parse(text)[2]:
                _refuse_json(path, name, text)
            return checked(a1111.read(text))
    raise _unknown(path, found)


def checked(recipe: Recipe) -> Recipe:
    """A recipe, with a word where its two prompts are the same."""
    same = recipe.prompt.strip() and recipe.prompt.strip() == recipe.negative.strip()
    if same and recipe.options.get("cfg", 7) != 1:
        recipe.lost.append("prompt and negative prompt are the same, so that guidance leads nowhere")
    if len(recipe.lost) > MOST_LOST:
        recipe.lost[MOST_LOST:] = [f"and {len(recipe.lost) - MOST_LOST:,} more that cannot be honoured"]
    return recipe


def _of_text(path: Path) -> Embedded:
    """A file of settings, as if a picture held it."""
    raw = read_bytes(path, MAX_FILE)
    try:
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:
        raise SfumatoError(f"cannot read {path}: it is no text in UTF-8") from None
    if not text.strip():
        raise _silent(path)
    if path.suffix.lower() == ".json" and json_object(text) is None:
        _refuse_json(path, "the file", text)
        raise SfumatoError(f"the settings in {path} are no JSON object; expected those of ComfyUI or InvokeAI")
    return Embedded({"parameters": mended(text)})


def _refuse_json(path: Path, name: str, text: str) -> None:
    """Raise SfumatoError for JSON that is broken; text that is none passes."""
    start = text.lstrip()[:2]
    if start[:1] == "{" and start[1:] in ('"', "}", "\n", "\r", " ", ""):
        raise SfumatoError(f"the settings in {path} ({name}) are damaged: JSON that does not end or is broken")
    if start in ("[{", "[[", '["'):
        raise SfumatoError(f"the settings in {path} ({name}) are no JSON object; expected those of a program")


def _unknown(path: Path, found: Embedded) -> SfumatoError:
    """What there was instead of settings."""
    names = [name for name, text in found.texts.items() if not name.startswith(_PLAIN) and text.strip()]
    if not names:
        return _silent(path)
    for name in ("prompt", "workflow", *_INFOTEXTS):
        if name in found.texts and name not in found.objects:
            _refuse_json(path, name, found.texts[name])
    keys = {name: ", ".join(list(one)[:6]) or "nothing in it" for name, one in found.objects.items()}
    if keys:
        listed = "; ".join(f"{name} (JSON with {some})" for name, some in keys.items())
        return SfumatoError(f"the settings in {path} are in a form that is not known here: {listed[:300]}")
    listed = ", ".join(names)[:200]
    return SfumatoError(f"{path} has texts, but none that says in a known form how it was drawn: {listed}")


def _silent(path: Path) -> SfumatoError:
    return SfumatoError(
        f"{path} says nothing of how it was drawn; programs that pass pictures on often remove it. "
        "Give the file as it was saved, or its settings as a .txt file"
    )
