"""Content credentials are read by the library of those who wrote the standard."""

from __future__ import annotations

import datetime
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from sfumato.errors import SfumatoError
from sfumato.images.files import encode
from sfumato.provenance.credentials import SOURCE, TYPES, Credentials

c2pa = pytest.importorskip("c2pa")
x509 = pytest.importorskip("cryptography.x509")


def certificate(name: str, key, issuer: str, issuer_key, authority: bool):
    from cryptography.hazmat.primitives import hashes

    def called(text: str) -> object:
        named = ((x509.NameOID.ORGANIZATION_NAME, "Test"), (x509.NameOID.COMMON_NAME, text))
        return x509.Name([x509.NameAttribute(kind, value) for kind, value in named])

    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    usage = [not authority, False, False, False, False, authority, authority, False, False]
    made = (
        x509.CertificateBuilder(called(issuer), called(name), key.public_key(), 1 + authority, now - day, now + 9 * day)
        .add_extension(x509.BasicConstraints(authority, None), True)
        .add_extension(x509.KeyUsage(*usage), True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    if not authority:
        made = made.add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
    return made.sign(issuer_key, hashes.SHA256())


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    chain = [certificate("own", own, "root", root, False), certificate("root", root, "root", root, True)]
    folder = tmp_path_factory.mktemp("keys")
    (folder / "chain.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
    (folder / "key.pem").write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return Credentials(folder / "key.pem", folder / "chain.pem")


@pytest.mark.parametrize("suffix", TYPES)
def test_signed_pictures_verify(credentials: Credentials, suffix: str) -> None:
    plain = encode(Image.effect_noise((64, 64), 50), suffix, "a red heart\nSteps: 2")
    content = credentials.signed(plain, suffix)
    reader = c2pa.Reader(TYPES[suffix], io.BytesIO(content))
    assert reader.get_validation_state() == "Valid"
    assert SOURCE in json.dumps(reader.get_active_manifest())
    before, after = Image.open(io.BytesIO(plain)), Image.open(io.BytesIO(content))
    assert before.tobytes() == after.tobytes()
    changed = bytearray(content)
    changed[content.index(plain[-40:-30])] ^= 1  # one bit of the picture
    assert c2pa.Reader(TYPES[suffix], io.BytesIO(bytes(changed))).get_validation_state() == "Invalid"


def test_a_key_that_does_not_fit_is_refused(credentials: Credentials, tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match="sign no pictures"):
        Credentials(credentials.certificates, credentials.certificates)
    with pytest.raises(SfumatoError, match="cannot read"):
        Credentials(tmp_path / "none", credentials.certificates)
