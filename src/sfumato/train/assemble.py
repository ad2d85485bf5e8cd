"""Joins the results of two runs, a denoiser of scenes and a reader of prompts, into one complete model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sfumato.data.protocol import Dataset
from sfumato.families import sd3
from sfumato.loading.exports import filled, load_vae, read_export
from sfumato.loading.save import save_folder
from sfumato.nets.clip import CLIPText
from sfumato.nets.lexicon import Lexicon
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.prior import ScenePrior
from sfumato.nets.reader import Reader
from sfumato.pipeline.load import load
from sfumato.spec import Defaults, MMDiTConfig, PriorConfig
from sfumato.train.methods import scenes
from sfumato.typed import build

RIDGE = 60.0  # against fitting the chance of some 1,400 pairs of pictures with 192 numbers each
MAX_FILE = 16 << 20
# Codes lose less than a thousandth of their variance by it, what is known and digits nothing.
EIGHT_BITS = ("prior/memory.codes", "prior/memory.known", "prior/lexicon.entries")
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
    config, tensors = read_export(drawing, scenes.FILE, "scenes")
    where = f"{drawing}/{scenes.FILE}"
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


def remember(prior: ScenePrior, data: Dataset, codes: Tensor) -> None:
    """Fills the memory of a prior with the codes (N, K) of the training pictures, and with guesses for the gaps."""
    shape = prior.memory.codes.shape
    of_concept, known = torch.zeros(shape), torch.zeros(shape[:2], dtype=torch.bool)
    for number in data.splits["train"].tolist():
        place = data.subject(number), data.groups.index(data.group(number))
        of_concept[place], known[place] = codes[number], True
    prior.memory.codes.copy_(completed(of_concept, known))
    prior.memory.known.copy_(known)
    prior.eval().requires_grad_(False)


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
