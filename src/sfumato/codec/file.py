"""The file of a compressed picture; docs/codec.md has the layout byte by byte."""

from __future__ import annotations

import struct
from binascii import crc_hqx
from dataclasses import dataclass

from sfumato.errors import SfumatoError

MAGIC = b"SFZ\x01"
MAX_PROMPT = 255  # bytes
_HEAD = struct.Struct("<4sIHHeB")
_CHECK = struct.Struct("<H")


@dataclass(frozen=True)
class Compressed:
    """A picture as its quantised latents.

    `autoencoder` is the fingerprint of what reads them, `width` and `height` are pixels, `step` is the width of a
    quantisation step in the units of the denoising network, `payload` what `symbols.pack` made of the numbers.
    """

    autoencoder: int
    width: int
    height: int
    step: float
    prompt: str
    payload: bytes

    def to_bytes(self) -> bytes:
        """Raises SfumatoError for a prompt that is too long."""
        prompt = self.prompt.encode()
        if len(prompt) > MAX_PROMPT:
            raise SfumatoError(f"the prompt has {len(prompt)} bytes; a compressed picture holds up to {MAX_PROMPT}")
        head = _HEAD.pack(MAGIC, self.autoencoder, self.width, self.height, self.step, len(prompt))
        body = head + prompt + self.payload
        return body + _CHECK.pack(crc_hqx(body, 0))

    @classmethod
    def from_bytes(cls, data: bytes) -> Compressed:
        """Raises SfumatoError for what is no compressed picture, or a damaged one."""
        if data[: len(MAGIC)] != MAGIC:
            raise SfumatoError("this is no compressed picture; give a file that `sfumato compress` wrote")
        body, check = data[: -_CHECK.size], data[-_CHECK.size :]
        if len(body) < _HEAD.size or _CHECK.unpack(check)[0] != crc_hqx(body, 0):
            raise SfumatoError("the compressed picture is damaged or cut short; compress it again")
        _, autoencoder, width, height, step, length = _HEAD.unpack_from(body)
        prompt, payload = body[_HEAD.size : _HEAD.size + length], body[_HEAD.size + length :]
        if not width or not height or not 0 < step < float("inf") or len(prompt) < length:
            raise SfumatoError("the compressed picture says impossible things; compress it again")
        return cls(autoencoder, width, height, step, prompt.decode(errors="replace"), payload)
