"""A complete model of the two runs that learn to draw and to read."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from sfumato.data.captions import STYLES
from sfumato.data.dataset import EmojiData
from sfumato.nets.prior import ScenePrior
from sfumato.spec import PriorConfig
from sfumato.train import reader, scene_ldm

RIDGE = 60.0  # against fitting the chance of some 1,400 pairs of pictures with 192 numbers each


def scene_prior(drawing: Path, reading: Path, data: EmojiData) -> ScenePrior:
    """The prior of the exports of both runs, its memory filled with the codes of the training pictures."""
    drawn, read = load_file(drawing / scene_ldm.FILE), load_file(reading / reader.FILE)
    cfg = PriorConfig(
        len(data.concepts),
        code=drawn["codes"].shape[1],
        latent_channels=len(drawn["composer.white"]),
        side=round((drawn["composer.basis.bias"].numel() / len(drawn["composer.white"])) ** 0.5),
        text_dim=read["reader.from_state.weight"].shape[1],
    )
    prior = ScenePrior(cfg)
    for part, weights in (("composer", drawn), ("reader", read)):
        own = {name.removeprefix(f"{part}."): value for name, value in weights.items() if name.startswith(f"{part}.")}
        getattr(prior, part).load_state_dict(own)
    codes = torch.zeros(cfg.concepts, cfg.styles, cfg.code)
    known = torch.zeros(cfg.concepts, cfg.styles, dtype=torch.bool)
    for number in data.splits["train"].tolist():
        place = data.concept_index(number), STYLES.index(data.style(number))
        codes[place], known[place] = drawn["codes"][number], True
    prior.memory.codes.copy_(completed(codes, known))
    prior.memory.known.copy_(known)
    return prior.eval().requires_grad_(False)


def completed(codes: Tensor, known: Tensor) -> Tensor:
    """Codes (C, S, K), with guesses for the styles that a concept lacks.

    From one style to another a linear map is fitted to the concepts that have both (ridge regression, Hoerl & Kennard
    1970). What several styles say is averaged, the surer ones counting more. A concept without any style stays zero.
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
