"""From one layout or precision to another, with proof: every tensor on both sides is accounted for by name.

What is written is read back before it gets its name. The table of the proof describes the result as it lies on disk,
and its tensors, mapped back to the names and shapes of the input, must be the input's, bit by bit, or rounded once
where another precision was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from sfumato.errors import unknown
from sfumato.loading.conversion.account import Account, Row, Source
from sfumato.loading.conversion.proof import Proof, measure, prove
from sfumato.loading.conversion.quantised import KINDS
from sfumato.loading.conversion.writing import (
    Progress,
    check_places,
    check_space,
    draft_beside,
    folder_files_of,
    put,
    steps_of,
    write,
)
from sfumato.loading.load import compare, require_complete
from sfumato.loading.resolve import Overrides, opened_model
from sfumato.loading.save import MAX_FILE
from sfumato.spec import Prediction
from sfumato.text.tokenizer import CLIPTokenizer

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "keep": None}

__all__ = ["DTYPES", "Proof", "Row", "convert"]


def convert(
    source: str | Path,
    out: str | Path,
    layout: str,
    *,
    dtype: torch.dtype | None = None,
    ema: bool = False,
    variant: str | None = None,
    prediction: Prediction | None = None,
    zero_snr: bool | None = None,
    vae: str | Path | None = None,
    text_encoders: Sequence[str | Path] = (),
    tokenizer: str | Path | None = None,
    quantise: str | None = None,
    max_file_size: int = MAX_FILE,
    force: bool = False,
    progress: Progress = lambda done, total, what: None,
) -> Proof:
    """Write the model `source` as `out` in a layout: "original", one .safetensors, or "diffusers", a folder.

    `dtype` None keeps every tensor's type. `ema` takes the averaged weights in place of the plain ones. `variant`,
    `prediction`, `zero_snr`, `vae` and `text_encoders` are as in `load_parts`; `tokenizer` is the folder of the
    tokenizer of a single file whose vocabulary is not CLIP's own. `quantise` ("fp8", "int8", "svdq-int4") stores the
    large weights of what draws in fewer bits; the proof then says how much each of them lost. `force` replaces an `out`
    that exists. `progress(bytes done, bytes in all, what)` may raise to stop.

    At most one tensor beyond the mapped input is in memory. `out` appears when it is whole and proved, or not at all.
    Raises SfumatoError when the input is not a complete model, when the output cannot be written, and naming the
    tensor when a value does not fit in `dtype`.
    """
    if quantise is not None and quantise not in KINDS:
        raise unknown("kind of quantisation", quantise, KINDS)
    source, out = Path(source), Path(out)
    check_places(source, out, layout, force)
    overrides = Overrides(variant, prediction, zero_snr)
    with opened_model(source, vae, text_encoders, overrides) as model:
        checkpoint, family, found, spec = model.checkpoint, model.family, model.layout, model.spec
        if layout not in family.layouts:
            raise unknown("layout", layout, family.layouts)
        plan = compare(model, ema)
        require_complete(checkpoint, family, plan)
        origin = Source(checkpoint, family, found, spec, plan, ema, dtype)
        told = bool(model.given) or bool(overrides)
        whole = found == layout and model.components.keys() == model.given
        account = Account(origin, layout, spec if whole else family.layouts[layout].fit(spec, checkpoint.known_shapes))
        account.fill()
        if quantise is not None:
            account.quantise(quantise)
        clip = None if tokenizer is None else CLIPTokenizer.from_folder(tokenizer)
        files = folder_files_of(origin, clip, told, carries=layout == found)
        check_space(out.parent, account.nbytes)
        with draft_beside(out) as draft:
            steps = steps_of(2 * account.nbytes, progress)
            write(account, draft, files, max_file_size, steps)
            rows = (prove if quantise is None else measure)(account, draft, steps)
            checkpoint.check_unchanged()
            put(draft, out)
    return Proof(source, out, family.name, (found, layout), tuple(rows))
