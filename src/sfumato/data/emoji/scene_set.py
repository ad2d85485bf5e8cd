"""Scenes on disk for other trainers: pictures, masks, depth, captions and boxes.

The folder holds `set.json` (what the set is made of) and for each thousand scenes two files. `scenes-NNNNN.npz` has
`pictures` uint8 (N, S, S, 3), `labels` uint8 (N, S, S) (0 is the background, k + 1 the visible pixels of thing k) and
`depth` uint8 (N, S, S) (0 is far, 255 near). `scenes-NNNNN.jsonl` has a line for each scene. The licences are copied
along. `manifest.json` is written last: a folder without it is half built, and building again finishes it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from sfumato.data.emoji import scene_captions
from sfumato.data.emoji.build import MANIFEST, digests, write, write_json
from sfumato.data.emoji.captions import LANGUAGES
from sfumato.data.emoji.dataset import EmojiData
from sfumato.data.emoji.noun_scenes import NounScene, NounScenes, PlacedNoun
from sfumato.data.emoji.scenes import Drawn
from sfumato.errors import SfumatoError
from sfumato.files import atomic_write, check_writable

FORMAT = 1
SETTINGS = "set.json"
SHARD = 1000
CAPTIONS = 3


def build_scenes(
    out: str | Path, data: EmojiData, count: int, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Writes the first `count` scenes of a seed to the folder `out`, or finishes a half-built set. Returns `out`.

    `progress(done, total)` is called before each scene with the number of scenes so far, and after each shard. Raises
    SfumatoError if `out` holds another set.
    """
    out, report = Path(out), progress or (lambda done, total: None)
    if count < 1:
        raise SfumatoError(f"count is {count}; expected a whole number from 1")
    settings = {
        "format": FORMAT,
        "size": data.size,
        "count": count,
        "seed": seed,
        "emoji": digests(data.path, [MANIFEST])[MANIFEST]["sha256"],
    }
    check_writable(out)
    _write_settings(out / SETTINGS, settings)
    if (out / MANIFEST).is_file():
        return out
    scenes = NounScenes(data, seed)
    names = [SETTINGS]
    for start in range(0, count, SHARD):
        numbers = range(start, min(start + SHARD, count))
        arrays, lines = (out / f"scenes-{start // SHARD:05d}.{suffix}" for suffix in ("npz", "jsonl"))
        # The lines are written after the arrays: where they are, the shard is complete.
        if not lines.is_file():
            _write_shard(arrays, lines, scenes, numbers, lambda done: report(done, count))
        names += [arrays.name, lines.name]
        report(numbers.stop, count)
    for licence in sorted(data.path.glob("LICENSE*")):
        shutil.copyfile(licence, out / licence.name)
        names.append(licence.name)
    write_json(out / MANIFEST, settings | {"files": digests(out, names)})
    return out


class SceneSet:
    """Reads a set that `sfumato data build scenes` made. Raises SfumatoError if the folder is not a complete set."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / MANIFEST).is_file():
            raise SfumatoError(
                f"{self.path} is not a complete set of scenes (no {MANIFEST}); "
                f"run `sfumato data build scenes {self.path}`"
            )
        try:
            manifest = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
            self.size, self._count, files = manifest["size"], manifest["count"], manifest["files"]
            for name, expected in files.items():
                if (self.path / name).stat().st_size != expected["bytes"]:
                    raise SfumatoError(f"{self.path / name} is damaged; delete it and {MANIFEST}, then build again")
            self.entries: list[dict[str, Any]] = [
                json.loads(line)
                for name in sorted(files)
                if name.endswith(".jsonl")
                for line in (self.path / name).read_text(encoding="utf-8").splitlines()
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SfumatoError(f"{self.path} is damaged ({error}); delete the folder and build it again") from error
        self._shard = lru_cache(2)(self._read)

    def __len__(self) -> int:
        return self._count

    def drawn(self, i: int) -> Drawn:
        """Returns picture, masks and depth of scene i; `entries[i]` describes it."""
        shard, row = divmod(i, SHARD)
        pictures, labels, depth = self._shard(shard)
        objects = torch.arange(1, len(self.entries[i]["objects"]) + 1)
        return Drawn(
            torch.from_numpy(pictures[row]).movedim(-1, 0).float() / 127.5 - 1,
            torch.from_numpy(labels[row]) == objects[:, None, None],
            torch.from_numpy(depth[row]).float() / 255,
        )

    def _read(self, shard: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        with np.load(self.path / f"scenes-{shard:05d}.npz", allow_pickle=False) as arrays:
            return arrays["pictures"], arrays["labels"], arrays["depth"]


def _write_settings(path: Path, settings: dict[str, Any]) -> None:
    """Writes what the folder will hold. Raises SfumatoError if it holds another set already."""
    if not path.is_file():
        write_json(path, settings)
    elif json.loads(path.read_text(encoding="utf-8")) != settings:
        raise SfumatoError(f"{path.parent} holds another set of scenes; choose another folder, or delete this one")


def _write_shard(arrays: Path, lines: Path, scenes: NounScenes, numbers: range, report: Callable[[int], None]) -> None:
    side = scenes.data.size
    pictures = np.empty((len(numbers), side, side, 3), np.uint8)
    labels, depth = (np.empty((len(numbers), side, side), np.uint8) for _ in range(2))
    entries = []
    for row, number in enumerate(numbers):
        report(number)
        scene = scenes[number]
        drawn = scenes.draw(scene)
        pictures[row] = ((drawn.picture + 1) * 127.5).round().byte().movedim(0, -1).numpy()
        order = torch.arange(1, len(scene.objects) + 1)[:, None, None]
        labels[row] = (drawn.masks * order).sum(0).byte().numpy()
        depth[row] = (drawn.depth * 255).round().byte().numpy()
        entries.append(json.dumps(_entry(scene, number), ensure_ascii=False))
    with atomic_write(arrays) as file:
        np.savez_compressed(file, pictures=pictures, labels=labels, depth=depth)
    write(lines, "".join(f"{entry}\n" for entry in entries).encode())


def _entry(scene: NounScene, number: int) -> dict[str, Any]:
    rng = Random(number)
    return {
        "number": number,
        "kind": scene.kind,
        "style": scene.style,
        "background": scene.background and scene.background.name,
        "rgb": scene.rgb,
        "objects": [_object(placed) for placed in scene.objects],
        "prompt": {language: scene_captions.prompt(scene, language) for language in LANGUAGES},
        "captions": {
            language: [scene_captions.caption(scene, language, rng) for _ in range(CAPTIONS)] for language in LANGUAGES
        },
    }


def _object(placed: PlacedNoun) -> dict[str, Any]:
    return {
        "emoji": placed.noun.emoji,
        "name": placed.noun.names["en"],
        "colour": placed.colour and placed.colour.name,
        "size": placed.size,
        "box": placed.box,
        "order": placed.order,
    }
