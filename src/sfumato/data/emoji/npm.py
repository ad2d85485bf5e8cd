"""Downloads pinned npm packages and reads files out of them without unpacking anything onto the disk."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sfumato import user_config as settings
from sfumato.errors import SfumatoError

# The largest file that any pinned package holds is 104 MB of JSON.
MEMBER_BYTES = 256 << 20
TOTAL_BYTES = 512 << 20
FETCH_SECONDS = 600


@dataclass(frozen=True)
class Package:
    """One version of an npm package; `integrity` is the SHA-512 of its archive as npm prints it."""

    name: str
    version: str
    integrity: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def filename(self) -> str:
        """The name of the archive, as `npm pack` calls it."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


def default_cache() -> Path:
    """Returns `$XDG_CACHE_HOME/sfumato/npm`, or `~/.cache/sfumato/npm`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sfumato" / "npm"


def fetch(package: Package, cache: Path) -> Path:
    """Returns the archive of `package` in the folder `cache`; downloads it unless one with the right hash is there.

    Raises SfumatoError if npm is missing or fails, or if the archive is not the pinned one.
    """
    cache = cache.absolute()  # npm runs in a folder of its own
    archive = cache / package.filename
    if archive.is_file() and _matches(archive, package):
        return archive
    settings.forbid_offline(f"downloading {package}")
    npm = shutil.which("npm")
    if npm is None:
        raise SfumatoError(f"npm is not installed, it downloads {package}; install Node.js, or put {archive} in place")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as folder:
            command = [npm, "pack", str(package), "--pack-destination", folder, "--ignore-scripts", "--loglevel=error"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS)
            found = list(Path(folder).glob("*.tgz"))
            if done.returncode or len(found) != 1:
                reason = (done.stderr.strip().splitlines() or ["no message"])[0]
                raise SfumatoError(f"npm could not download {package} ({reason}); check the network and try again")
            if not _matches(found[0], package):
                raise SfumatoError(f"{package} from npm is not the pinned archive (SHA-512 differs); do not use it")
            os.replace(found[0], archive)
    except subprocess.TimeoutExpired as error:
        raise SfumatoError(f"npm took over {FETCH_SECONDS} s for {package}; check the network and try again") from error
    except OSError as error:
        raise SfumatoError(f"cannot write the cache {cache}: {error.strerror}; choose another with --cache") from error
    return archive


def read(archive: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Returns the regular files of a package, by path without the leading `package/`, for which `wanted(path)` is true.

    Links and devices are passed over, and sizes are limited. Raises SfumatoError for a broken or oversized archive.
    """
    files: dict[str, bytes] = {}
    total = 0
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                path = member.name.partition("/")[2]
                if not member.isreg() or not wanted(path):
                    continue
                total += member.size
                if member.size > MEMBER_BYTES or total > TOTAL_BYTES:
                    raise SfumatoError(f"{archive}: {path} is larger than expected; delete the archive and try again")
                stream = tar.extractfile(member)
                assert stream is not None, "a regular member has contents"
                files[path] = stream.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise SfumatoError(f"cannot read {archive} ({error}); delete it and try again") from error
    return files


def _matches(archive: Path, package: Package) -> bool:
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    return hmac.compare_digest(f"sha512-{base64.b64encode(digest).decode()}", package.integrity)
