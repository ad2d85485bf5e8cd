"""Files of textual inversion (Gal et al. 2022): vectors that a text encoder reads in place of a word.

What trainers and programs write: AUTOMATIC1111's `.pt`, its pictures that hold one, diffusers' `learned_embeds`,
kohya's `emb_params`, the pairs and triples of XL and 3, and embeddings that lie inside a LoRA's file.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.checkpoint.checkpoint import Checkpoint
from sfumato.checkpoint.hashes import sha256
from sfumato.checkpoint.keymap import Shapes
from sfumato.checkpoint.open import open_file
from sfumato.errors import SfumatoError
from sfumato.nets.prior import NewThing
from sfumato.text.embeddings import Embedding

PICTURES = (".png", ".webp")
HASH = 12  # hexadecimal digits by which AUTOMATIC1111 names an embedding
BUNDLE = "bundle_emb."  # before the names of embeddings inside a LoRA's file
# Names of the vectors for each encoder. One text encoder alone has "clip".
TOWERS = {"clip_l": "clip_l", "clip_g": "clip_g", "t5xxl": "t5", "t5": "t5", "emb_params": "clip"}
FAMILIES = {
    (768,): "1.x", (1024,): "2.x", (1280,): "the XL refiner", (768, 1280): "XL", (768, 1280, 4096): "3",
}  # fmt: skip
THING = ("thing_codes", "thing_known")  # what a scene prior draws, beside `emb_params`
_BUNDLED = "|".join((*TOWERS, *THING, r"string_to_param\..+"))
MOST_VECTORS = 1024
MOST_PIXELS = 1 << 25
MOST_BYTES = 1 << 26  # of what a picture holds
_CHUNK = "sd-ti-embedding"  # of a PNG file, as AUTOMATIC1111 calls it


@dataclass(frozen=True, eq=False)
class TextualInversion:
    """Vectors (n, D) for each text encoder by "clip_l", "clip_g" and "t5", or "clip" where the file has one alone.

    `thing` is what a scene prior is to draw, in files of `sfumato train embedding`. `step` and `trained_on` are what
    the trainer wrote, if it did. `sha256` is the file's.
    """

    name: str
    path: Path
    vectors: Mapping[str, Tensor]
    sha256: str
    step: str | None = None
    trained_on: str | None = None
    thing: NewThing | None = None

    @property
    def hash(self) -> str:
        """The first digits of the file's SHA-256, as AUTOMATIC1111 writes them into a picture's settings."""
        return self.sha256[:HASH]

    @property
    def count(self) -> int:
        """Tokens that it takes the place of."""
        return len(next(iter(self.vectors.values())))

    @property
    def widths(self) -> tuple[int, ...]:
        """The width of each encoder's vectors, CLIP's before T5's."""
        return tuple(self.vectors[part].shape[1] for part in ("clip", "clip_l", "clip_g", "t5") if part in self.vectors)

    @property
    def made_for(self) -> str:
        """The family that has text encoders of these widths, or the widths."""
        return FAMILIES.get(self.widths) or FAMILIES.get(self.widths[:-1] if "t5" in self.vectors else (), "") or (
            f"text encoders {' + '.join(map(str, self.widths))} wide"
        )  # fmt: skip

    def fitted(
        self, towers: Sequence[int], t5: int | None, title: str, codes: tuple[int, int] | None = None
    ) -> Embedding:
        """Its vectors for text towers of these widths, in their order, and for T5 where a model has it.

        `title` is the model's, for the error, `codes` the shape of what its scene prior remembers of a thing, if it has
        one. Raises SfumatoError where a tower has no vectors, or others, and for a thing of another prior.
        """
        if self.thing is not None and tuple(self.thing.codes.shape) != codes:
            raise SfumatoError(
                f"the embedding {self.name} ({self.path.name}) holds a thing for a scene prior of another size than "
                f"that of {title}; train it for this model by `sfumato train embedding`"
            )
        parts = [self._for_tower(k, width, len(towers)) for k, width in enumerate(towers)]
        long = self.vectors.get("t5")
        fits = [part for part in parts if part is not None]
        if len(fits) < len(parts) or (t5 is not None and long is not None and long.shape[1] != t5):
            widths = " + ".join(map(str, towers))
            raise SfumatoError(
                f"the embedding {self.name} ({self.path.name}) was made for {self.made_for}; "
                f"this model is {title}, whose text encoders are {widths} wide: take one made for it"
            )
        return Embedding(self.name, tuple(fits), long if t5 is not None else None, self.sha256, self.thing)

    def _for_tower(self, place: int, width: int, towers: int) -> Tensor | None:
        """The vectors for one of a model's towers; a tower alone takes those of its width, whatever their name."""
        names = ("clip", "clip_l", "clip_g") if towers == 1 else (("clip_l", "clip_g")[place],) if place < 2 else ()
        found = (self.vectors[name] for name in names if name in self.vectors)
        return next((part for part in found if part.shape[1] == width), None)


def is_textual_inversion(shapes: Shapes) -> bool:
    """Whether names and shapes are those of a file that holds one embedding and nothing else."""
    names = [name for name in shapes if not name.startswith("string_to_token") and name not in THING]
    if any(name.startswith("string_to_param") for name in names):
        return True
    flat = all(len(shapes[name]) <= 2 for name in names)
    return bool(names) and flat and (len(names) == 1 or all(name in TOWERS for name in names))


def read(path: str | Path, name: str | None = None) -> TextualInversion:
    """Reads an embedding's file: a checkpoint of some trainer, or a picture that holds one; nothing is executed.

    It is called `name`, or as the file; a file that is called as diffusers calls all of them, by its token. Raises
    SfumatoError for a file that holds no embedding, or a broken one.
    """
    path = Path(path)
    if path.suffix.lower() in PICTURES:
        said, tensors = _from_picture(path)
        own = said.get("name")
        return _made(name or (own if isinstance(own, str) and own else path.stem), path, tensors, said)
    with open_file(path) as checkpoint:
        if not is_textual_inversion(checkpoint.shapes):
            raise SfumatoError(
                f"{path} is no embedding: it holds {len(checkpoint.tensors)} tensors; an embedding holds one, "
                "or one for each text encoder (clip_l, clip_g, t5xxl)"
            )
        tensors = {key: one.read() for key, one in checkpoint.tensors.items() if not key.startswith("string_to_token")}
        token = next(key for key in tensors if key not in THING)
        stem = token.strip("<>") if path.stem.startswith("learned_embeds") and token not in TOWERS else path.stem
        return _made(name or stem, path, tensors, checkpoint.metadata)


def bundled(checkpoint: Checkpoint) -> list[TextualInversion]:
    """The embeddings inside a LoRA's file, by the names that they have there. Raises SfumatoError as `read`."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, one in checkpoint.tensors.items():
        match = re.fullmatch(rf"{re.escape(BUNDLE)}(.+)\.({_BUNDLED})", key)
        if match is not None:
            found.setdefault(match[1], {})[match[2]] = one.read()
    return [_made(name, checkpoint.path, tensors, {}) for name, tensors in found.items()]


def bundle_of(word: Embedding) -> dict[str, Tensor]:
    """The tensors by which a LoRA's file holds a word of a model with one text encoder; see `bundled`."""
    tensors = {"emb_params": word.clip[0]}
    if word.thing is not None:
        tensors |= dict(zip(THING, (word.thing.codes, word.thing.known), strict=True))
    return {f"{BUNDLE}{word.name}.{name}": tensor.float().cpu().contiguous() for name, tensor in tensors.items()}


def _made(name: str, path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, Any]) -> TextualInversion:
    """Checks the vectors of a file and gives them their encoders' names. Raises SfumatoError."""
    vectors: dict[str, Tensor] = {}
    thing = NewThing(*(tensors[key].float().clone() for key in THING)) if all(key in tensors for key in THING) else None
    for key, tensor in ((key, tensor) for key, tensor in tensors.items() if key not in THING):
        part = TOWERS.get(key, "clip")
        if part in vectors:
            raise SfumatoError(f"{path} holds several embeddings for one text encoder; keep one in a file")
        value = tensor.detach().float().clone()
        value = value[None] if value.dim() == 1 else value
        if value.dim() != 2 or not 1 <= len(value) <= MOST_VECTORS or not value.shape[1]:
            raise SfumatoError(
                f"{path} has {key} of shape {tuple(tensor.shape)}; vectors of an embedding are (n, width)"
            )
        if not value.isfinite().all():
            raise SfumatoError(f"{path} holds numbers that are not finite; it is broken, take another copy")
        vectors[part] = value
    counts = {part: len(value) for part, value in vectors.items() if part != "t5"}
    if len(set(counts.values())) != 1:
        raise SfumatoError(f"{path} has vectors for CLIP's text encoders in different numbers ({counts}); it is broken")
    told = {key: str(said[key]) for key in ("step", "sd_checkpoint_name") if said.get(key) not in (None, "")}
    digest = sha256(path)
    return TextualInversion(name, path, vectors, digest, told.get("step"), told.get("sd_checkpoint_name"), thing)


def _from_picture(path: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """What a picture of AUTOMATIC1111's web UI holds: the record of an embedding, and its tensors."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise SfumatoError(f"{path} is too large ({image.width}x{image.height}) to hold an embedding")
            text = getattr(image, "text", {}).get(_CHUNK)
            raw = base64.b64decode(text) if text else _inflated(_hidden(np.asarray(image.convert("RGB"))))
        record = json.loads(raw)
        param = record["string_to_param"]
        # Lists of numbers, each marked as a tensor; torch finds rows of different lengths.
        tensors = {f"string_to_param.{key}": torch.tensor(one["TORCHTENSOR"]) for key, one in param.items()}
        return record, tensors
    except SfumatoError:
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, zlib.error, binascii.Error,
            Image.DecompressionBombError) as error:  # fmt: skip
        raise SfumatoError(
            f"{path} is a picture that holds no embedding; `sfumato replay {path.name} --explain` says how it was drawn"
        ) from error


def _inflated(data: bytes) -> bytes:
    unpacked = zlib.decompressobj().decompress(data, MOST_BYTES)
    if len(unpacked) == MOST_BYTES:
        raise ValueError("too much data")
    return unpacked


def _hidden(pixels: np.ndarray) -> bytes:
    """The bytes that AUTOMATIC1111 hides in a picture (H, W, 3): their halves lie in two blocks, left and right of a
    black column each. Four bits of every value count, and are exclusive-ored with a stream of numbers."""
    there = np.argwhere((pixels > 0).all(2))
    if not len(there):
        raise ValueError("black")
    (top, left), (bottom, right) = there.min(0), there.max(0) + 1
    inside = pixels[top:bottom, left:right]
    bits = inside & 15
    black = np.flatnonzero(bits.sum((0, 2)) == 0)
    if len(black) < 2:
        raise ValueError("no blocks")
    low, high = bits[:, : black.min()], bits[:, black.max() + 1 :]
    if low.shape != high.shape or not low.size:
        raise ValueError("blocks of different sizes")
    mask = _stream(low.size).reshape(low.shape) & 15
    return ((high ^ mask) << 4 | (low ^ mask)).astype(np.uint8).tobytes()


def _stream(count: int) -> np.ndarray:
    """The first numbers of the web UI's generator, x -> 1664525 x + 1013904223 modulo 2^32 from 0, each modulo 255."""
    powers = np.cumprod(np.append(np.uint32(1), np.full(count - 1, 1664525, np.uint32)), dtype=np.uint32)
    return (np.cumsum(powers, dtype=np.uint32) * np.uint32(1013904223) % 255).astype(np.uint8)
