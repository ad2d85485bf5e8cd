"""Reads the dataset_config of kohya's scripts: a TOML file of folders with options of their own.

Options stand in [general], in [[datasets]] or in [[datasets.subsets]]; the innermost counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sfumato.data.pictures.entry import Entry
from sfumato.data.pictures.options import PictureOptions
from sfumato.data.pictures.readers.folder import folder_entries
from sfumato.data.pictures.readers.table import table_entries
from sfumato.errors import SfumatoError, shortened, unknown, warn
from sfumato.files import read_toml
from sfumato.typed import build

OF_SUBSETS = {
    "num_repeats": "repeats", "is_reg": "regularisation", "flip_aug": "flip", "class_tokens": "default_caption",
    "enable_wildcard": "caption_lines", "caption_separator": "separator", "shuffle_caption": "shuffle_tags",
    "keep_tokens": "keep_tags", "keep_tokens_separator": "keep_separator", "caption_dropout_rate": "caption_dropout",
    "secondary_separator": "secondary_separator",
    "caption_tag_dropout_rate": "tag_dropout", "caption_prefix": "prefix", "caption_suffix": "suffix",
}  # fmt: skip
OF_DATASETS = {
    "resolution": "resolution", "enable_bucket": "buckets", "bucket_reso_steps": "bucket_step",
    "min_bucket_reso": "bucket_least", "max_bucket_reso": "bucket_most",
}  # fmt: skip
CHANGED: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "bucket_no_upscale": lambda value: {"upscale": not value},
    "random_crop": lambda value: {"crop": "random" if value else "center"},
    "alpha_mask": lambda value: {"masks": "alpha" if value else "beside"},
    "caption_extension": lambda value: {"caption_endings": (value,)},
}
PLACES = ("image_dir", "metadata_file")
LEFT_TO_RECIPE = ("batch_size", "cache_info")  # what a recipe says, or the cache of latents does without asking
LEFT_OUT = ("custom_attributes", "validation_seed")  # notes of people, and a choice that is always the same here
RESIZED = (None, "lanczos")  # how pictures are made smaller here
SPLIT = "validation_split"  # the share of pictures that are held out
# What has no counterpart here; each is refused unless it has the value that does nothing.
WITHOUT_EFFECT: Mapping[str, Any] = {
    "color_aug": False, "face_crop_aug_range": None, "token_warmup_min": 1, "token_warmup_step": 0,
    "caption_dropout_every_n_epochs": 0, "conditioning_data_dir": None, "skip_image_resolution": None,
    "network_multiplier": 1.0,
}  # fmt: skip
KNOWN = (
    *OF_SUBSETS,
    *OF_DATASETS,
    *CHANGED,
    *PLACES,
    *LEFT_TO_RECIPE,
    *LEFT_OUT,
    *WITHOUT_EFFECT,
    SPLIT,
    "resize_interpolation",
)


@dataclass(frozen=True)
class Config:
    """The entries of all subsets, and the options of the set."""

    entries: list[Entry]
    options: PictureOptions


def read_kohya(path: Path, options: PictureOptions) -> Config:
    """Returns what a dataset_config says; `options` are those of the recipe, over which the file's go.

    Folders are looked for from where the command runs, as kohya's scripts do it, and then from beside the file. Raises
    SfumatoError for unknown keys, for options that have no counterpart, and for several data sets of unequal options.
    """
    table = read_toml(path)
    if odd := sorted(table.keys() - {"general", "datasets"}):
        raise unknown("table", odd[0], ("general", "datasets"))
    general, datasets = table.get("general", {}), table.get("datasets", [])
    if not isinstance(general, dict) or not isinstance(datasets, list) or not datasets:
        raise SfumatoError(f"{path} has no [[datasets]]; expected [general], [[datasets]] and [[datasets.subsets]]")
    entries: list[Entry] = []
    chosen: list[PictureOptions] = []
    for number, dataset in enumerate(datasets, 1):
        where = f"{path}, datasets {number}"
        subsets = dataset.get("subsets") if isinstance(dataset, dict) else None
        if not isinstance(subsets, list) or not all(isinstance(subset, dict) for subset in subsets) or not subsets:
            raise SfumatoError(f"{where} has no subsets; give it [[datasets.subsets]] with an image_dir each")
        outer = general | {name: value for name, value in dataset.items() if name != "subsets"}
        chosen.append(_options(outer, options, where))
        for place, subset in enumerate(subsets, 1):
            entries += _subset(path, outer | subset, options, f"{where}, subset {place}")
    if any(_of_set(one) != _of_set(chosen[0]) for one in chosen):
        raise SfumatoError(
            f"{path} has datasets of several resolutions or buckets; give all the same, or train by turns"
        )
    learnt = sum(not entry.options.regularisation for entry in entries)
    return Config(entries, _split(chosen[0], general | datasets[0], learnt, str(path)))


def _split(options: PictureOptions, keys: Mapping[str, Any], count: int, where: str) -> PictureOptions:
    """The options with the share of `count` pictures held out that a file asks for."""
    share = keys.get(SPLIT, 0)
    if not isinstance(share, int | float) or not 0 <= share < 1:
        raise SfumatoError(f"{where}: {SPLIT} is {shortened(share)}; expected a share from 0 to less than 1")
    return replace(options, held_out=max(1, round(share * count))) if share else options


def _subset(path: Path, keys: dict[str, Any], options: PictureOptions, where: str) -> list[Entry]:
    own = _options(keys, options, where)
    if own.regularisation:
        own = replace(own, weight=options.regularisation_weight, trigger="")
    if "metadata_file" in keys:
        return table_entries(_found(path, keys["metadata_file"], f"{where}: metadata_file"), own)
    if "image_dir" not in keys:
        raise SfumatoError(f"{where} has no image_dir; name the folder of its pictures")
    return list(folder_entries(_found(path, keys["image_dir"], f"{where}: image_dir"), own, deep=False))


def _options(keys: Mapping[str, Any], options: PictureOptions, where: str) -> PictureOptions:
    """The options with what some keys say."""
    table: dict[str, Any] = {field.name: getattr(options, field.name) for field in fields(options)}
    for name, value in keys.items():
        if name not in KNOWN:
            raise unknown(f"key in {where}:", name, KNOWN, "see docs/data.md for those that are read")
        if name in CHANGED:
            table |= CHANGED[name](value)
        elif name in WITHOUT_EFFECT and value != WITHOUT_EFFECT[name]:
            raise SfumatoError(f"{where}: {name} = {shortened(value)} has no counterpart here; take it out")
        elif name == "resize_interpolation" and value not in RESIZED:
            raise SfumatoError(
                f"{where}: {name} is {shortened(value)}; pictures are resized by lanczos here, take it out"
            )
        elif name in LEFT_TO_RECIPE:
            warn(f"{where}: {name} is left out; the recipe says it")
        elif ours := OF_SUBSETS.get(name) or OF_DATASETS.get(name):
            table[ours] = _square(value, where) if name == "resolution" else value
    return build(PictureOptions, table, where)


def _square(value: Any, where: str) -> Any:
    """The edge of a square as large as kohya's resolution, a number or two."""
    if isinstance(value, list) and len(value) == 2 and value[0] != value[1]:
        raise SfumatoError(f"{where}: resolution = {value} is no square; give one number, buckets do the rest")
    return value[0] if isinstance(value, list) and value else value


def _of_set(options: PictureOptions) -> tuple[Any, ...]:
    return tuple(getattr(options, name) for name in (*OF_DATASETS.values(), "upscale"))


def _found(path: Path, value: Any, where: str) -> Path:
    """A place that a config names."""
    if not isinstance(value, str):
        raise SfumatoError(f"{where} is {shortened(value)}; expected a path")
    for place in (Path(value).expanduser(), path.parent / value):
        if place.exists():
            return place
    raise SfumatoError(f"{where}: there is no {value}, neither here nor beside {path.name}; correct the path")
