"""Tensors that are made once and kept on disk under a hash of everything they are made from, within a bound."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from sfumato.data.pictures.protocol import CaptionedPictures, Sample
from sfumato.errors import SfumatoError, warn
from sfumato.nets.vae import VAE
from sfumato.pipeline.latents import encode
from sfumato.train.preparation import Tensors, kept, shown
from sfumato.user_config import folder as user_folder

GIB = 1 << 30
MOST = 20 * GIB  # bytes that are kept, unless the user says otherwise
ENCODER = ("encoder.", "quant_conv.")  # the part of an autoencoder that latents depend on
SUFFIX = ".safetensors"


class Cache:
    """A folder of tensors by key, which many runs may share; by default that of the user.

    A key must name everything that its tensors depend on, so that none is ever stale. Where the folder would grow above
    `most` bytes, files that this run has not used go, the oldest first; if there are none, what is new is not kept, and
    a warning says so.
    """

    def __init__(self, folder: Path | None = None, most: int = MOST) -> None:
        if most < 0:
            raise SfumatoError(f"the cache may have {most} bytes; expected a number from 0")
        self.folder = folder or user_folder("cache") / "training"
        self._most = most
        self._began = time.time()
        self._bytes = sum(size for _, size, _ in self._files())

    def __contains__(self, key: str) -> bool:
        return self._file(key).is_file()

    def tensors(self, key: str, make: Callable[[], Tensors]) -> Tensors:
        """Returns the tensors of a key, on the CPU: those that are kept, or else what `make` returns."""
        file = self._file(key)
        if file.is_file():
            with suppress(OSError):  # another run may just have removed it, or it may not be ours
                os.utime(file)
        before = file.stat().st_size if file.is_file() else 0
        if not before and not self._has_room():
            return {name: value.cpu() for name, value in make().items()}
        found = kept(file, make)
        self._bytes += file.stat().st_size - before if file.is_file() else 0
        return found

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{SUFFIX}"

    def _has_room(self) -> bool:
        """Whether another file may be written; removes what this run has not used if that is needed."""
        if self._bytes < self._most:
            return True
        for used, size, path in sorted(self._files()):
            if used >= self._began or self._bytes < 0.9 * self._most:
                break
            path.unlink(missing_ok=True)
            self._bytes -= size
        if self._bytes >= self._most:
            warn(
                f"{self.folder} is full ({self._most / GIB:.3g} GiB), so that what is new is made again each time; "
                "allow it more"
            )
        return self._bytes < self._most

    def _files(self) -> list[tuple[float, int, Path]]:
        """When each file was last used, its bytes and its path."""
        found = []
        for path in self.folder.glob(f"??/*{SUFFIX}"):
            with suppress(OSError):
                about = path.stat()
                found.append((about.st_mtime, about.st_size, path))
        return found


class EncodedPictures:
    """Latents of a set's pictures, kept under the hash of the picture, of its transform and of the encoder."""

    def __init__(self, pictures: CaptionedPictures, vae: VAE, cache: Cache) -> None:
        self._pictures, self._vae, self._cache = pictures, vae, cache
        self._encoder = weights_hash(vae, ENCODER, vae.cfg)

    def __call__(self, sample: Sample) -> Tensor:
        """Returns the latents (C, h, w) of a sample's view, float16 on the CPU: the encoder's mean.

        Each view is encoded by itself, so that it does not depend on what else is in a batch.
        """
        return self._cache.tensors(self._key(sample), lambda: {"latents": self._encoded(sample)})["latents"]

    def fill(self, most: int) -> None:
        """Encodes the views that are not there yet, as far as there is room, with a bar on stderr.

        If there are more than `most`, none is: they are encoded as batches ask for them. If it is stopped, the next
        call goes on.
        """
        missing = [view for view in self._pictures.views() if self._key(view) not in self._cache]
        if len(missing) > most:
            return
        for view in shown(missing, f"encode {self._pictures.name}"):
            self(view)
            if self._key(view) not in self._cache:
                break

    def _key(self, sample: Sample) -> str:
        return joined_hash("latents", self._pictures.key(sample), self._encoder)

    @torch.no_grad()
    def _encoded(self, sample: Sample) -> Tensor:
        device = next(self._vae.parameters()).device
        return encode(self._vae, self._pictures.pixels(sample)[None].to(device))[0].half()


def joined_hash(*parts: object) -> str:
    """Returns a hash of parts that their text tells apart, for a key."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:40]


def weights_hash(network: torch.nn.Module, prefixes: tuple[str, ...] = ("",), *more: object) -> str:
    """Returns a hash of the weights whose names begin with one of the prefixes, and of `more`."""
    digest = hashlib.sha256(repr(more).encode())
    add_weights(digest, {name: value for name, value in network.state_dict().items() if name.startswith(prefixes)})
    return digest.hexdigest()


def add_weights(digest: hashlib._Hash, weights: Mapping[str, Tensor]) -> None:
    """Adds names and bytes of weights to a digest, in the order of names."""
    for name, value in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
