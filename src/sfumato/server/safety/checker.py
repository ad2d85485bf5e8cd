"""Checks that the safety checker which the server is to apply to all pictures exists."""

from __future__ import annotations

from pathlib import Path

from sfumato.errors import SfumatoError
from sfumato.hub.local_models import EMBEDDED, locate
from sfumato.loading.safety import FOLDER
from sfumato.server.config import Config
from sfumato.settings.picture import OWN_CHECKER


def check_safety(config: Config) -> None:
    """Raises SfumatoError if the configured safety checker does not exist."""
    if config.safety == OWN_CHECKER:
        name = config.model or EMBEDDED
        path, _ = locate(name)
        if not (path / FOLDER).is_dir():
            raise SfumatoError(f"{name} comes without a safety checker; give the file or folder of 1.x's")
    elif config.safety is not None and not Path(config.safety).expanduser().exists():
        raise SfumatoError(f"there is no safety checker {config.safety}; give its file or folder")
