"""Content credentials: a signed statement in a picture's file that a model drew it (C2PA 2.1), by c2pa-python."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from sfumato import __version__
from sfumato.errors import SfumatoError
from sfumato.images.files import encode

ALGORITHMS = ("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519")
TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
# What the IPTC calls a picture that a model drew, https://cv.iptc.org/newscodes/digitalsourcetype/
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@dataclass(frozen=True)
class Credentials:
    """Signs files of pictures with a private key (PEM, PKCS 8) and its certificates (PEM, the signer's first).

    Raises SfumatoError where c2pa-python is not installed, and for a key and certificates that sign nothing together.
    """

    key: Path
    certificates: Path
    _signer: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            import c2pa
        except ImportError:
            raise SfumatoError("content credentials need c2pa-python; `pip install sfumato[credentials]`") from None
        try:
            key, chain = self.key.read_bytes(), self.certificates.read_bytes()
        except OSError as error:
            raise SfumatoError(f"cannot read {error.filename}: {error.strerror}; give a PEM file") from error
        reasons = []
        for algorithm in ALGORITHMS:  # whichever the key is for
            try:
                signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(algorithm.encode(), chain, key, None))
                object.__setattr__(self, "_signer", signer)
                self.signed(encode(Image.new("RGB", (8, 8))), ".png")
                return
            except Exception as error:  # c2pa has a class of errors for every part of the standard
                reasons.append(str(error))
        raise SfumatoError(f"{self.key} and {self.certificates} sign no pictures ({reasons[0]}); give a pair that fits")

    def signed(self, content: bytes, suffix: str) -> bytes:
        """The file of a picture, in the format that `suffix` names, with the statement in it."""
        import c2pa

        ours = {"name": "sfumato", "version": __version__}
        created = {"action": "c2pa.created", "digitalSourceType": SOURCE, "softwareAgent": ours}
        actions = {"label": "c2pa.actions.v2", "data": {"actions": [created]}}
        statement = json.dumps({"claim_generator_info": [ours], "title": "picture", "assertions": [actions]})
        target = io.BytesIO()
        with c2pa.Builder(statement) as builder:
            builder.sign(self._signer, TYPES[suffix.lower()], io.BytesIO(content), target)
        return target.getvalue()
