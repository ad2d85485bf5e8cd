"""The words that adapters bring: embeddings by themselves, and those inside LoRAs' files."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from sfumato.adapters import textual_inversion
from sfumato.adapters.file import AdapterFile
from sfumato.adapters.use import Use
from sfumato.spec import Spec
from sfumato.text.embeddings import Embedding


def embeddings(uses: Iterable[Use], spec: Spec) -> tuple[Embedding, ...]:
    """All words that uses bring to the text encoders of a model; of equal ones the last counts.

    Raises SfumatoError for vectors of another family, or a file that cannot be read.
    """
    found: dict[str, Embedding] = {}
    for use in uses:
        for one in _words(use.file, use.word, spec):
            found[one.name.lower()] = one
    return tuple(found.values())


@lru_cache(maxsize=64)
def _words(file: AdapterFile, word: str, spec: Spec) -> tuple[Embedding, ...]:
    if file.kind == "embedding":
        held = [textual_inversion.read(file.path, word or file.name)]
    elif file.kind == "lora":
        with file.checkpoint() as checkpoint:
            held = textual_inversion.bundled(checkpoint)
    else:
        held = []
    towers = [tower.hidden_size for tower in (spec.text, spec.text_2) if tower is not None]
    t5 = None if spec.text_3 is None else spec.text_3.hidden_size
    codes = None if spec.prior is None else (spec.prior.styles, spec.prior.code + sum(spec.prior.detail))
    return tuple(one.fitted(towers, t5, spec.title, codes) for one in held)
