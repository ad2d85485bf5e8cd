"""Latents of single things and of composed scenes with all that is known of them, encoded once and kept in files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file, save
from torch import Tensor

from sfumato.data.emoji.captions import COLOURS, STYLES
from sfumato.data.emoji.concept_scenes import ConceptScene, ConceptScenes, PlacedConcept
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.nouns import TINTS
from sfumato.data.wording import Asked, Thing
from sfumato.files import atomic_write
from sfumato.nets.layout import ARRANGEMENTS, MAX_GROUPS, MAX_THINGS, PLACES, POSES, SIZES, Spot
from sfumato.nets.vae import VAE
from sfumato.train.latents import identity
from sfumato.train.loop import bf16_pays

SHARD = 512  # scenes in a file; of fewer, one file holds all
CANONICAL = Spot(0.5, 0.5, 0.92)  # where a thing lies in the picture that its code is made of
COLOUR_NAMES = tuple(colour.name for colour in COLOURS)
NO_GROUND = len(COLOURS)  # white that no word mentions
ABSENT = -1

Tensors = dict[str, Tensor]
Part = TypeVar("Part")


def canonical_latents(folder: Path, data: EmojiData, vae: VAE) -> Tensor:
    """Latents (N, C, h, w), float16, of every picture of the set: the thing alone on white, at CANONICAL."""
    path = folder / f"canonical-{identity(data, vae, CANONICAL)}.safetensors"
    if not path.is_file():
        scenes = ConceptScenes(data)
        alone = [_alone(data, number) for number in range(len(data))]
        latents = torch.cat([_encoded(vae, scenes, part) for part in _shown(_parts(alone, 64), "encode things")])
        with atomic_write(path) as file:
            file.write(save({"latents": latents}))
        return latents
    return load_file(path)["latents"]


def scene_latents(
    folder: Path, data: EmojiData, vae: VAE, count: int, seed: int, shards: Sequence[int] | None = None
) -> Tensors:
    """The first `count` scenes of a seed: `latents` (N, C, h, w) and what `labels` says of them.

    Files that are missing are made; with `shards` only those of these numbers, so that several processes can share the
    work.
    """
    place = folder / f"scenes-{identity(data, vae, seed, 'composed')}"
    scenes = ConceptScenes(data, seed)
    parts = []
    size = min(SHARD, count)
    for shard in _shown(range((count + size - 1) // size) if shards is None else shards, "encode scenes"):
        path = place / (f"{shard:05d}.safetensors" if size == SHARD else f"first-{size}.safetensors")
        if not path.is_file():
            layouts = [scenes[shard * size + k] for k in range(size)]
            latents = torch.cat([_encoded(vae, scenes, part) for part in _parts(layouts, 32)])
            with atomic_write(path) as file:
                file.write(save({"latents": latents} | labels(data, layouts)))
        parts.append(load_file(path))
    return {name: torch.cat([part[name] for part in parts])[:count] for name in parts[0]}


def labels(data: EmojiData, scenes: Sequence[ConceptScene]) -> Tensors:
    """What is known of N scenes.

    Of each of six things `picture`, `tint` (0 for none), `group` (all (N, 6), ABSENT where there are fewer) and `spot`
    (N, 6, 5): x, y, side, angle in degrees, mirrored. Of each of four groups `concept` (ABSENT where there are fewer),
    `count`, `size` and `pose` (0: not said), all (N, 4). Of the scene `arrangement`, `place` (0: not said), `style`,
    `ground` (NO_GROUND: not said), all (N,).
    """
    n = len(scenes)
    out = {name: torch.zeros(n, MAX_THINGS, dtype=torch.int64) for name in ("picture", "tint", "group")}
    out["group"] -= 1
    out["spot"] = torch.zeros(n, MAX_THINGS, 5)
    out |= {name: torch.zeros(n, MAX_GROUPS, dtype=torch.int64) for name in ("concept", "count", "size", "pose")}
    out["concept"] -= 1
    out |= {name: torch.zeros(n, dtype=torch.int64) for name in ("arrangement", "place", "style", "ground")}
    concepts = {concept.hex: k for k, concept in enumerate(data.concepts)}
    for i, scene in enumerate(scenes):
        for k, placed in enumerate(scene.objects):
            s = placed.spot
            out["picture"][i, k], out["group"][i, k] = placed.picture, placed.group
            out["tint"][i, k] = 1 + TINTS.index(placed.colour.name) if placed.colour else 0
            out["spot"][i, k] = torch.tensor([s.x, s.y, s.side, s.angle, float(s.mirrored)])
        for k, thing in enumerate(scene.asked.things):
            out["concept"][i, k], out["count"][i, k] = concepts[thing.concept.hex], thing.count
            out["size"][i, k] = 1 + SIZES.index(thing.size) if thing.size else 0
            out["pose"][i, k] = 1 + POSES.index(thing.pose) if thing.pose else 0
        asked = scene.asked
        out["arrangement"][i] = ARRANGEMENTS.index(asked.arrangement)
        out["place"][i] = 1 + PLACES.index(asked.place) if asked.place else 0
        out["style"][i] = STYLES.index(scene.style)
        out["ground"][i] = COLOUR_NAMES.index(asked.ground.name) if asked.ground else NO_GROUND
    return out


def _alone(data: EmojiData, number: int) -> ConceptScene:
    asked = Asked((Thing(data.concept(number)),), style=data.style(number))
    return ConceptScene(asked, data.style(number), (PlacedConcept(number, 0, None, CANONICAL),), (255, 255, 255))


def _parts(scenes: Sequence[ConceptScene], rows: int) -> list[Sequence[ConceptScene]]:
    return [scenes[start : start + rows] for start in range(0, len(scenes), rows)]


def _shown(parts: Sequence[Part], what: str) -> Iterable[Part]:
    """The same, with a bar on stderr: tens of thousands of pictures take minutes."""
    return track(parts, what, console=Console(stderr=True), transient=True)


@torch.no_grad()
def _encoded(vae: VAE, scenes: ConceptScenes, layouts: Sequence[ConceptScene]) -> Tensor:
    device = next(vae.parameters()).device
    x = torch.stack([scenes.draw(layout).picture for layout in layouts]).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16_pays(device)):
        means = [vae.encode(part.to(device)).float().chunk(2, 1)[0] for part in x.split(8)]
    return vae.to_latents(torch.cat(means)).half().cpu().contiguous()
