"""What pictures' settings say of adapters, and how these are found again when a picture is drawn again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from sfumato.adapters.file import tensors_sha256
from sfumato.adapters.textual_inversion import HASH
from sfumato.adapters.use import Use
from sfumato.errors import SfumatoError
from sfumato.hub.local_adapters import find_adapter
from sfumato.settings.settings import Settings
from sfumato.settings.table import OPTIONS
from sfumato.text.prompt.syntax import WITH_CHANCE
from sfumato.text.prompt.tree import Adapter

LORA_HASH = 12  # digits, as the web UIs have them
HASHES = {"Lora hashes": "lora", "Hypernet hashes": "hypernetwork", "TI hashes": "embedding"}
"""The fields by which adapters that prompts name are found, and the kind of each."""
# The fields for what prompts of other languages cannot name, by kinds of tags.
FIELDS = {"lora": OPTIONS["lora"].infotext, "hypernet": OPTIONS["hypernetwork"].infotext}


def tag(use: Use) -> Adapter:
    """A use as prompts have it, such as `<lora:style:0.8>`."""
    text = use.network if use.text is None else use.text
    strengths = (f"{use.network:g}",) if text == use.network else (f"{text:g}", f"{use.network:g}")
    weighed = ",".join(f"{block}={value:g}" for block, value in use.blocks)
    more = [f"lbw={weighed}"] * bool(weighed) + [f"during={use.during}"] * bool(use.during)
    return Adapter("lora" if use.changes_weights else "hypernet", use.file.name, (*strengths, *more))


def described(one: Settings, unsaid: Iterable[Use]) -> tuple[str, dict[str, object]]:
    """The prompt and the fields that say what a picture is drawn with: `unsaid` is what its own prompt does not name.

    A language of prompts that has tags gets them at the prompt's end, as users of web UIs write them.
    """
    tags = [tag(use) for use in unsaid]
    if one.prompt_syntax in WITH_CHANCE:
        return " ".join(filter(None, (one.prompt.rstrip(), *map(str, tags)))), {}
    fields: dict[str, object] = {}
    for kind, field in FIELDS.items():
        of_kind = [":".join((each.name, *each.options)) for each in tags if each.kind == kind]
        fields[str(field)] = ", ".join(of_kind) or None
    return one.prompt, fields


def hashes(one: Settings, uses: Iterable[Use]) -> dict[str, str | None]:
    """The fields by which others find a picture's adapters, as web UIs have them: names with digits of hashes."""
    uses, said = tuple(uses), f"{one.prompt}\n{one.negative}".lower()
    named: dict[str, Mapping[str, str]] = {
        "Lora hashes": {use.file.name: tensors_sha256(use.file)[:LORA_HASH] for use in uses if use.changes_weights},
        "TI hashes": {use.word: use.file.sha256[:HASH] for use in uses if use.word and use.word.lower() in said},
        "Hypernet hashes": {use.file.name: use.file.sha256[:HASH] for use in uses if use.file.kind == "hypernetwork"},
    }
    return {field: ", ".join(f"{name}: {value}" for name, value in each.items()) or None
            for field, each in named.items()}  # fmt: skip


def found_again(
    prompt: str, negative: str, said: Mapping[str, str], known: Callable[[str], bool]
) -> tuple[str, str, list[str]]:
    """A prompt and a negative prompt with the names that adapters' files have here, and what was found by hash alone.

    LoRAs and hypernetworks are named in tags, embeddings by their words. `said` are the fields of the picture's
    settings. `known` says whether a name needs no search.
    """
    notes, texts = [], [prompt, negative]
    for field, kind in HASHES.items():
        for name, digits in re.findall(r"\s*([^,]+?): *([0-9a-fA-F]{8,64})(?:,|$)", said.get(field, "")):
            place = rf"(?<!\w){re.escape(name)}(?!\w)" if kind == "embedding" else rf"(?<=:){re.escape(name)}(?=[:>])"
            parts = [re.split(place, text) for text in texts]
            if known(name) or all(len(each) == 1 for each in parts):
                continue
            try:
                find_adapter(name, (kind,))
            except SfumatoError:
                try:
                    here = find_adapter(digits, (kind,)).stem
                except SfumatoError:
                    continue  # the request will say that it is not here
                texts = [here.join(each) for each in parts]
                notes.append(f"{kind} {name}: found by its hash, as {here}")
    return texts[0], texts[1], notes
