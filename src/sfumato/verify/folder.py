"""Which cases a reference folder holds, and which of them a user asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from sfumato.errors import SfumatoError
from sfumato.verify import embeddings, lora, manifests, pictures, samplers, schedules, text, tiny, watermark
from sfumato.verify.cases import UNKNOWN, Case, failing, files

SELFTEST = "selftest"  # what ships of reference data
# A kind of case is a subfolder and the function that finds its cases. To add one, write its file and list it here.
KINDS: dict[str, Callable[[Path], Iterator[Case]]] = {
    "embeddings": embeddings.find,
    "lora": lora.find,
    "manifests": manifests.find,
    "pictures": pictures.find,
    "samplers": samplers.find,
    "schedules": schedules.find,
    "text": text.find,
    "tiny": tiny.find,
    "watermark": watermark.find,
}


def find_cases(root: Path, t5_tokenizer: Path | None = None) -> list[Case]:
    """Every case in a reference folder, sorted by subfolder; what nobody here knows is a case that fails.

    `t5_tokenizer` is the file that T5's ids are made by. Raises SfumatoError when `root` is no folder.
    """
    if not root.is_dir():
        raise SfumatoError(f"{root} is no folder; give a folder of reference data (with subfolders {', '.join(KINDS)})")
    kinds = KINDS | {"text": partial(text.find, t5_tokenizer=t5_tokenizer)}
    cases: list[Case] = []
    for entry in files(root):
        if entry.is_dir() and entry.name in KINDS:
            cases += kinds[entry.name](entry)
        elif entry.is_dir():
            unknown = sorted({path.name.split(".")[0] for path in files(entry)})
            cases += [failing(f"{entry.name}/{name}", UNKNOWN) for name in unknown]
        else:
            cases.append(failing(entry.name, UNKNOWN))
    return cases


def matches(path: str, pattern: str) -> bool:
    """A pattern is a glob on the whole path, or its leading part in whole names (`tiny/sd1`, not `tiny/sd`)."""
    return fnmatchcase(path, pattern) or f"{path}/".startswith(pattern.rstrip("/") + "/")


def _wanted(case: Case, pattern: str) -> bool:
    """`matches`, or the case stands in place of others that the pattern might have matched."""
    if matches(case.path, pattern):
        return True
    parts = case.path.split("/")
    above = "/".join(pattern.split("/")[: len(parts)])
    return case.stands_for_more and fnmatchcase(case.path, above)


def select(cases: Sequence[Case], only: Sequence[str] = (), without: Sequence[str] = ()) -> list[Case]:
    """The cases that match a pattern of `only` (all, if there is none) and none of `without`.

    Raises SfumatoError when a pattern of `only` matches nothing, or nothing is left.
    """
    for pattern in only:
        if not any(_wanted(case, pattern) for case in cases):
            raise SfumatoError(f"no case matches '{pattern}'; give a path such as tiny/sd1 or a glob such as */euler")
    chosen = [
        case
        for case in cases
        if (not only or any(_wanted(case, pattern) for pattern in only))
        and not any(matches(case.path, pattern) for pattern in without)
    ]
    if not chosen:
        raise SfumatoError("no case is selected; give a folder of reference data, or fewer patterns")
    return chosen
