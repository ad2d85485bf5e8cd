"""How families find out the sizes of the networks in a file or folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sfumato.checkpoint import diffusers_config
from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.checkpoint.keymap import holds
from sfumato.errors import SfumatoError
from sfumato.spec import Defaults, Spec

INDEX, SCHEDULER = "model_index", "scheduler/scheduler_config"


@contextmanager
def sizes_of(checkpoint: Checkpoint, release: Spec) -> Iterator[None]:
    """Turn shapes that are not those of a network into an SfumatoError that names the file."""
    try:
        yield
    except (LookupError, ValueError) as error:
        text = f"looks like {release.title}, but its sizes cannot be read ({error.args[0]}); it is not whole"
        raise SfumatoError(f"{checkpoint.path} {text}") from error


@dataclass(frozen=True)
class Folder:
    """The JSON files of a diffusers folder, named without `.json`; `parts` are those whose tensors it holds."""

    checkpoint: Checkpoint
    parts: frozenset[str]

    @classmethod
    def of(cls, checkpoint: Checkpoint, prefixes: Mapping[str, str]) -> Folder:
        """`prefixes` as in Layout. Raises SfumatoError where a part's file is missing, or a pipeline's scheduler's."""
        present = {part: prefix for part, prefix in prefixes.items() if holds(checkpoint.shapes, prefix)}
        needed = []
        if checkpoint.container == "folder" or INDEX in checkpoint.configs:  # else a single file in a folder's names
            needed += [f"{prefix}config" for prefix in present.values()]
        if INDEX in checkpoint.configs:
            needed.append(SCHEDULER)
        for name in needed:
            if name not in checkpoint.configs:
                raise SfumatoError(f"{checkpoint.path} holds no {name}.json; give a complete diffusers folder")
        return cls(checkpoint, frozenset(present))

    def has(self, name: str) -> bool:
        return name in self.checkpoint.configs

    def read(self, name: str) -> tuple[diffusers_config.Config, str]:
        """A file and what messages call it. Raises KeyError without it."""
        return self.checkpoint.configs[name], f"{self.checkpoint.path}/{name}.json"

    def sized(self, defaults: Defaults, denoiser: str, side: int, factor: int) -> Defaults:
        """The defaults with the size that the denoiser's file states, else `side` latents of `factor` pixels."""
        config, where = self.read(denoiser) if self.has(denoiser) else ({}, "")
        height, width = diffusers_config.sample_size(config, where, side)
        return replace(defaults, width=width * factor, height=height * factor)

    def defaults(self, defaults: Defaults) -> Defaults:
        """The defaults that a folder written by sfumato states, else the given ones."""
        own = self.checkpoint.configs.get("defaults", {})
        return diffusers_config.defaults_from(own, f"{self.checkpoint.path}/sfumato.json", defaults)
