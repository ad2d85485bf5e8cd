"""Joins the results of two runs, a denoiser of scenes and a reader of prompts, into one complete model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.data.protocol import Dataset
from sfumato.errors import SfumatoError
from sfumato.families import sd3
from sfumato.loading.exports import filled, load_vae, read_export
from sfumato.loading.save import save_folder
from sfumato.nets.clip import CLIPText
from sfumato.nets.composer import DETAIL_LEVELS, Composer
from sfumato.nets.lexicon import Lexicon
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.prior import ScenePrior
from sfumato.nets.reader import Reader
from sfumato.pipeline.load import load
from sfumato.pipeline.model import Model
from sfumato.spec import Defaults, MMDiTConfig, PriorConfig
from sfumato.typed import build

SCENES_FILE = "scenes.safetensors"  # what a run of `sfumato train scenes` exports
CODES_FILE = "codes.safetensors"  # what a run of `sfumato train codes` exports
RIDGE = 60.0  # against fitting the chance of some 1,400 pairs of pictures with 192 numbers each
MAX_FILE = 16 << 20
# Codes and vectors of tokens lose less than a thousandth of their variance by it, digits and what is packed nothing.
EIGHT_BITS = (
    "text_encoder/text_model.embeddings.token_embedding.weight",
    "prior/memory.codes",
    "prior/memory.known",
    *(f"prior/memory.details_{levels}" for levels in DETAIL_LEVELS),
    "prior/lexicon.entries",
    "prior/composer.basis.weight",
    "prior/composer.detail_basis",
)
STEPS, CFG, SAMPLER, SIGMA_SCHEDULE = 12, 1.5, "euler", "sgm_uniform"


def assemble(
    folder: Path,
    data: Dataset,
    drawing: Path,
    text: CLIPText,
    reader: Reader,
    lexicon: Lexicon,
    vae: Path | None = None,
) -> None:
    """Writes the folder of a model that reads prompts by `text`, `reader` and `lexicon`, and draws by the export
    `drawing`.

    `drawing` is the export folder of `sfumato train scenes`. `vae` is that of `sfumato train vae`; None takes the
    autoencoder that ships. `data` is the set whose pictures the model remembers. `folder` holds the tokenizer already.
    Weights are written as float16. Raises SfumatoError if an export is missing or has other sizes.
    """
    config, tensors = read_export(drawing, SCENES_FILE, "scenes")
    where = f"{drawing}/{SCENES_FILE}"
    transformer = MMDiT(build(MMDiTConfig, config["transformer"], where))
    filled(transformer, _part(tensors, "transformer"), where)
    sizes = build(PriorConfig, config["prior"], where)
    sizes = replace(sizes, text_dim=text.cfg.hidden_size, phrases=len(lexicon.entries))
    prior = ScenePrior(sizes)
    filled(prior.composer, _part(tensors, "composer"), where)
    filled(prior.reader, reader.state_dict(), "the reader")
    prior.lexicon.entries.copy_(lexicon.entries)
    remember(prior, data, tensors["codes"])
    autoencoder = load(None, "cpu", "float32").vae if vae is None else load_vae(vae)
    spec = replace(
        sd3.PRIOR,
        transformer=transformer.cfg,
        vae=autoencoder.cfg,
        text=replace(text.cfg, pooled="plain"),
        prior=sizes,
        defaults=Defaults(data.size, data.size, STEPS, CFG, SAMPLER, SIGMA_SCHEDULE),
    )
    networks = {"transformer": transformer, "vae": autoencoder, "text": text, "prior": prior}
    save_folder(folder, spec, networks, folder / "tokenizer", torch.float16, MAX_FILE, EIGHT_BITS)


def rewrite(folder: Path, model: Model, **changed: nn.Module) -> None:
    """Writes `model` to a folder with some networks exchanged.

    These are "transformer", "vae", "text" and "prior", and of its prior "reader" and "lexicon". The folder gets the
    model's tokenizer as well. Raises SfumatoError for a model without a prior.
    """
    if model.prior is None:
        raise SfumatoError(f"{model.path} has no scene prior; give a model that has one, such as emoji")
    prior = model.prior
    if "reader" in changed:
        prior.reader.load_state_dict(changed.pop("reader").state_dict())
    if "lexicon" in changed:
        prior = _with_lexicon(prior, changed.pop("lexicon"))
    model.encode.tokenizer.save(folder / "tokenizer")
    own = {"transformer": model.denoiser.network, "vae": model.vae, "text": model.encode.towers[0]}
    networks = own | {"prior": prior} | changed
    sizes: dict[str, Any] = {part: networks[part].cfg for part in ("transformer", "prior")}
    spec = replace(model.spec, **sizes)
    save_folder(folder, spec, networks, folder / "tokenizer", torch.float16, MAX_FILE, EIGHT_BITS)


def _with_lexicon(prior: ScenePrior, lexicon: nn.Module) -> ScenePrior:
    """Returns the prior with another lexicon, which may have another number of phrases."""
    own = {f"lexicon.{name}": value for name, value in lexicon.state_dict().items()}
    result = ScenePrior(replace(prior.cfg, phrases=len(own["lexicon.entries"])))
    result.load_state_dict(prior.state_dict() | own)
    return result.eval().requires_grad_(False)


def with_composer(prior: ScenePrior, composer: Composer, data: Dataset, codes: Tensor) -> ScenePrior:
    """Returns the prior with another composer, and with the details that this one reads: those of the codes (N, K + D)
    of the set's pictures."""
    cfg = prior.cfg
    result = ScenePrior(replace(cfg, detail=composer.cfg.detail))
    result.composer.load_state_dict(composer.state_dict())
    for part in ("reader", "lexicon"):
        result.get_submodule(part).load_state_dict(prior.get_submodule(part).state_dict())
    result.memory.codes.copy_(prior.memory.codes)
    result.memory.known.copy_(prior.memory.known)
    _remember_details(result, data, codes)
    return result.eval().requires_grad_(False)


def read_codes(folder: Path) -> tuple[Composer, Tensor]:
    """Returns what `sfumato train codes` left in a folder: a composer whose bases, colours and cutter are known, and
    the codes (N, K + D) of all pictures. Raises SfumatoError for a folder without it."""
    config, tensors = read_export(folder, CODES_FILE, "codes")
    where = f"{folder}/{CODES_FILE}"
    composer = Composer(build(PriorConfig, config["prior"], where))
    codes = tensors.pop("codes")
    filled(composer, tensors, where)
    return composer, codes.float()


def remembered(prior: ScenePrior, data: Dataset) -> Tensor:
    """Returns the codes (N, K + D) that a prior has of all pictures of a set.

    Raises SfumatoError for a prior of another number of things or of groups.
    """
    known, expected = tuple(prior.memory.known.shape), (data.subjects, len(data.groups))
    if known != expected:
        raise SfumatoError(
            f"the model remembers {known[0]} things in {known[1]} groups, the data set has {expected[0]} in "
            f"{expected[1]}; give the data that the model was made of"
        )
    numbers, groups = range(len(data)), {group: place for place, group in enumerate(data.groups)}
    subject, group = [data.subject(i) for i in numbers], [groups[data.group(i)] for i in numbers]
    return prior.memory(torch.tensor(subject), torch.tensor(group))


def remember(prior: ScenePrior, data: Dataset, codes: Tensor) -> None:
    """Fills the memory of a prior with the codes (N, K + D) of the training pictures, and with guesses for the gaps.

    Details are not guessed: there they are zeros.
    """
    shape = prior.memory.codes.shape
    of_concept, known = torch.zeros(shape), torch.zeros(shape[:2], dtype=torch.bool)
    for number, place in _places(data):
        of_concept[place], known[place] = codes[number, : prior.cfg.code], True
    _remember_details(prior, data, codes)
    prior.memory.codes.copy_(completed(of_concept, known))
    prior.memory.known.copy_(known)
    prior.eval().requires_grad_(False)


def _remember_details(prior: ScenePrior, data: Dataset, codes: Tensor) -> None:
    if not prior.cfg.detail:
        return
    for number, place in _places(data):
        prior.memory.remember(place, codes[number, prior.cfg.code :])


def _places(data: Dataset) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yields the number of every training picture, and its place in the memory."""
    for number in data.splits["train"].tolist():
        yield number, (data.subject(number), data.groups.index(data.group(number)))


def completed(codes: Tensor, known: Tensor) -> Tensor:
    """Returns codes (C, S, K) of C concepts in S styles, with guesses where `known` (C, S) is false.

    From each style to each other a linear map is fitted to the concepts that have both (ridge regression, Hoerl &
    Kennard 1970). The guesses from several styles are averaged, weighted by how small the errors of their maps are. A
    concept that is known in no style stays zero.
    """
    result = codes.clone()
    for target in range(codes.shape[1]):
        lacking = known.any(1) & ~known[:, target]
        if not lacking.any():
            continue
        total, weights = torch.zeros(int(lacking.sum()), codes.shape[2]), torch.zeros(int(lacking.sum()), 1)
        for source in range(codes.shape[1]):
            both = known[:, source] & known[:, target]
            if source == target or both.sum() < 2:
                continue
            x, y = codes[both, source], codes[both, target]
            mean_x, mean_y = x.mean(0), y.mean(0)
            gram = (x - mean_x).T @ (x - mean_x)
            map_ = torch.linalg.solve(gram + RIDGE * torch.eye(len(gram)), (x - mean_x).T @ (y - mean_y))
            missed = (mean_y + (x - mean_x) @ map_ - y).square().mean()
            sure = known[lacking, source].float()[:, None] / missed.clamp(min=1e-6)
            total += sure * (mean_y + (codes[lacking, source] - mean_x) @ map_)
            weights += sure
        result[lacking, target] = total / weights.clamp(min=1e-12)
    return result


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Returns the tensors whose names begin with `name` and a dot, without that beginning."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
