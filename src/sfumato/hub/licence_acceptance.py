"""Which licences the user accepted, for which release and when: one JSON file in the state folder."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sfumato import __version__
from sfumato import user_config as settings
from sfumato.errors import SfumatoError
from sfumato.files import atomic_write
from sfumato.hub.catalogue import Release
from sfumato.hub.licences import licence


def record_file() -> Path:
    return settings.folder("state") / "licences.json"


def accepted(release: Release) -> bool:
    """Whether the licence that this release has now was accepted for it. Raises SfumatoError for a broken record."""
    return any((one.get("release"), one.get("licence")) == (release.name, release.licence) for one in _records())


def record(release: Release) -> None:
    """Write down that the user accepts, beside what was written before. Raises SfumatoError when that fails."""
    entry = {
        "release": release.name,
        "licence": release.licence,
        "title": licence(release.licence).title,
        "text": licence(release.licence).url,
        "accepted": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
    }
    with atomic_write(record_file()) as file:
        file.write(json.dumps([*_records(), entry], indent=1).encode())


def _records() -> list[dict[str, Any]]:
    path = record_file()
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        raise SfumatoError(f"cannot read the accepted licences in {path}; correct it or move it away") from error
    if not isinstance(records, list) or not all(isinstance(one, dict) for one in records):
        raise SfumatoError(f"{path} is no list of accepted licences; correct it or move it away")
    return records
