"""Files of a repository on the hub: what there is, and fetching one so that it is whole or not there at all.

huggingface_hub knows addresses, tokens, proxies and errors. It throws away what an interrupted process had received, so
the bytes are received here: a download goes on where any earlier one stopped.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub.errors as errors
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.utils import WeakFileLock, build_hf_headers, get_session, hf_raise_for_status

from sfumato.checkpoint.hashes import keep, sha256
from sfumato.errors import SfumatoError
from sfumato.hub.catalogue import File

NETWORK = errors.HTTPError  # httpx's or httpx2's, as the installed version has it
TRIES = 5  # in a row that bring nothing
PAUSE = 1.0  # seconds before the second try, doubled each time
TEMPORARY = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Remote:
    """A file in a repository at a commit. `digest` is its SHA-256, or of small files git's SHA-1; hexadecimal."""

    repository: str
    commit: str
    name: str
    size: int
    digest: str

    def is_at(self, path: Path) -> bool:
        """Whether a local file is this one, byte by byte."""
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        if len(self.digest) == 64:
            return sha256(path) == self.digest
        blob = b"blob %d\0" % self.size + path.read_bytes()
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == self.digest


def endpoint() -> str:
    """The hub's address: `HF_ENDPOINT`, or Hugging Face itself."""
    return os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")


def listing(repository: str) -> dict[str, Remote]:
    """The files of a repository by name. Raises SfumatoError when the hub cannot be reached or does not show it."""
    try:
        info = HfApi(endpoint=endpoint()).model_info(
            repository, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
    except (NETWORK, OSError) as error:
        raise _told(error, repository) from error
    except (ValueError, KeyError, TypeError) as error:  # no JSON, or other JSON than a hub's
        raise SfumatoError(f"{endpoint()} does not answer as a hub does; check HF_ENDPOINT and the network") from error
    files = {}
    for one in info.siblings or []:
        digest = str(one.lfs.sha256 if one.lfs else one.blob_id)
        if one.size is None or info.sha is None or not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", digest):
            raise SfumatoError(f"{endpoint()} does not say what {one.rfilename} of {repository} is; try later")
        files[one.rfilename] = Remote(repository, info.sha, one.rfilename, one.size, digest)
    return files


def pinned(files: dict[str, Remote], file: File, repository: str) -> Remote:
    """The file of the catalogue. Raises SfumatoError when the repository lacks it or holds another one."""
    remote = files.get(file.name)
    if remote is None:
        raise SfumatoError(f"{repository} no longer holds {file.name}; look at {endpoint()}/{repository}")
    if file.sha256 is not None and remote.digest != file.sha256:
        raise SfumatoError(
            f"{repository} holds another {file.name} than was released (its SHA-256 differs); it is not downloaded"
        )
    return remote


def fetch(remote: Remote, target: Path, parts: Path, progress: Callable[[int], None]) -> None:
    """Download a file to `target`, beginning with what an earlier try left in the folder `parts`.

    `progress` is told how many bytes are there. `target` is replaced when everything is there and its hash is right;
    two processes that fetch the same file do it once. Raises SfumatoError when the connection fails for good (what came
    is kept), when access is refused, or when the bytes are not those that the hub announced (they are deleted).
    """
    try:
        parts.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        part, lock = parts / remote.digest, parts / f"{remote.digest}.lock"
        with WeakFileLock(lock):
            if not remote.is_at(target):
                _complete(remote, part, progress)
                if not remote.is_at(part):
                    part.unlink()
                    raise SfumatoError(
                        f"{remote.name} of {remote.repository} arrived damaged (its hash differs) and was deleted; "
                        "pull it again"
                    )
                os.replace(part, target)
            with suppress(OSError):
                lock.unlink()
    except OSError as error:
        raise SfumatoError(
            f"cannot write to {target.parent}: {error.strerror or error}; choose another place"
        ) from error
    if len(remote.digest) == 64:
        keep(target, remote.digest)
    progress(remote.size)


def _complete(remote: Remote, part: Path, progress: Callable[[int], None]) -> None:
    """Receive what `part` lacks, again and again while that brings anything."""
    if _size(part) > remote.size:
        part.unlink()
    failures = 0
    while (have := _size(part)) < remote.size:
        fault = SfumatoError(f"{endpoint()} sends nothing of {remote.name}; try again later")
        status = None
        try:
            _receive(remote, part, progress)
        except (NETWORK, errors.OfflineModeIsEnabled) as error:
            fault = _told(error, remote.repository, remote.name)
            status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
        failures = 0 if _size(part) > have else failures + 1
        if failures == TRIES or status not in (None, *TEMPORARY):
            raise fault
        if failures:
            time.sleep(PAUSE * 2 ** (failures - 1))


def _receive(remote: Remote, part: Path, progress: Callable[[int], None]) -> None:
    have = _size(part)
    url = hf_hub_url(remote.repository, remote.name, revision=remote.commit, endpoint=endpoint())
    headers = build_hf_headers() | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
        hf_raise_for_status(response)
        if response.status_code != 206:  # from the beginning, whatever was asked for
            have = 0
        with part.open("ab" if have else "wb") as file:
            progress(have)
            for chunk in response.iter_bytes():
                file.write(chunk)
                have += len(chunk)
                progress(have)
                if have > remote.size:
                    break
            file.flush()
            os.fsync(file.fileno())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _told(error: Exception, repository: str, name: str = "") -> SfumatoError:
    """What went wrong between us and the hub, in one line."""
    page = f"{endpoint()}/{repository}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return SfumatoError("HF_HUB_OFFLINE forbids all network; unset it to download")
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if isinstance(error, errors.GatedRepoError) or status in (401, 403):
        return SfumatoError(
            f"the hub does not give {repository} to you ({status}), it is gated or gone; accept its terms at {page} "
            "with your account, put a token of that account into HF_TOKEN, and pull again"
        )
    if status == 404:
        return SfumatoError(f"{endpoint()} has no {name or 'repository'} at {repository} (404); look at {page}")
    if status is not None:
        return SfumatoError(f"the hub answers {status} for {repository}; try again later, what came is kept")
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if not name:
        return SfumatoError(f"cannot reach {endpoint()} ({reason}); check the network and pull again")
    return SfumatoError(f"the connection to {endpoint()} failed ({reason}); pull again, what came is kept")
