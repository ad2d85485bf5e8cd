"""Keeps loaded models within a limit of memory; the one used longest ago is unloaded first."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Iterable

import torch

from sfumato.api import StableDiffusion, load
from sfumato.runtime.device import choose_device, free_memory
from sfumato.server.composite import Composite

SHARE = 0.5  # of the free memory, where nobody gives a limit


class Models:
    """The models of a worker by their names."""

    def __init__(
        self,
        device: str | None = None,
        dtype: str | None = None,
        limit: int | None = None,
        loader: Callable[[str], StableDiffusion] | None = None,
    ):
        self.device = choose_device(device)
        self._load = loader or (lambda name: _loaded(name, self.device, dtype))
        self.limit = limit
        self._models: OrderedDict[str, StableDiffusion] = OrderedDict()

    def get(self, name: str, in_use: Iterable[str] = ()) -> StableDiffusion:
        """Returns a model by name, loads it if needed; models `in_use` stay. Raises SfumatoError as `sfumato.load`."""
        if name not in self._models:
            self._models[name] = self._load(name)
            self._shrink({name, *in_use})
        self._models.move_to_end(name)
        return self._models[name]

    @property
    def names(self) -> list[str]:
        """The loaded models, the one used last at the end."""
        return [*self._models]

    @property
    def bytes(self) -> int:
        """The bytes of all weights."""
        return sum(map(weight_bytes, self._models.values()))

    def unload(self, keep: Iterable[str] = ()) -> None:
        """Unloads all models but some."""
        for name in set(self._models) - set(keep):
            del self._models[name]
        self._collect()

    def _shrink(self, kept: set[str]) -> None:
        limit = self.limit
        if limit is None:
            free = free_memory(self.device)
            limit = 1 << 62 if free is None else int(SHARE * (free + self.bytes))
        for name in list(self._models):
            if self.bytes <= limit:
                break
            if name not in kept:
                del self._models[name]
        self._collect()

    def _collect(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _loaded(name: str, device: torch.device, dtype: str | None) -> StableDiffusion:
    parts = Composite.of(name)
    return load(parts.model, device, dtype, **parts.further)


def weight_bytes(model: StableDiffusion) -> int:
    """Returns the bytes of a model's weights; shared weights count once."""
    seen = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for network in model.networks.values()
        for tensor in (*network.parameters(), *network.buffers())
    }
    return sum(seen.values())
