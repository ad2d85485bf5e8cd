"""What a user sets once: where things lie, which folders hold models, whether the network may be used.

Environment variables win over `config.toml`, which holds `models = ["~/ComfyUI"]` and `offline = true`. All of it lies
where the XDG base directories say, or in the one folder `SFUMATO_HOME`.
"""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from sfumato.errors import SfumatoError
from sfumato.files import read_toml

TRUE = ("1", "true", "yes", "on")
BASES = {"data": ".local/share", "state": ".local/state", "cache": ".cache", "config": ".config"}


def folder(kind: Literal["data", "state", "cache", "config"]) -> Path:
    """Where sfumato keeps things of this kind; it need not be there yet."""
    own = os.environ.get("SFUMATO_HOME")
    if own:
        return Path(os.path.expanduser(own))
    base = os.environ.get(f"XDG_{kind.upper()}_HOME")
    return (Path(base) if base else Path.home() / BASES[kind]) / "sfumato"


def shipped(name: str) -> Path:
    """What came with the package under this name, whether it is there or not."""
    return Path(str(resources.files("sfumato") / "assets" / name))


def own_models() -> Path:
    """The folder that `sfumato pull` fills."""
    return folder("data") / "models"


def model_folders() -> tuple[Path, ...]:
    """Further folders with models: `SFUMATO_MODELS` (separated as PATH is), or `models` of the configuration.

    Raises SfumatoError for a configuration that cannot be read.
    """
    listed = os.environ.get("SFUMATO_MODELS")
    names = listed.split(os.pathsep) if listed is not None else _config()["models"]
    return tuple(Path(os.path.expanduser(name)) for name in names if name)


def offline() -> bool:
    """Whether all network is forbidden: `SFUMATO_OFFLINE`, `HF_HUB_OFFLINE` (what `--offline` sets), or `offline`.

    Raises SfumatoError for a configuration that cannot be read.
    """
    asked = (os.environ.get(name, "").strip().lower() for name in ("SFUMATO_OFFLINE", "HF_HUB_OFFLINE"))
    return any(value in TRUE for value in asked) or _config()["offline"]


def confined() -> bool:
    """Whether only files of the model folders may be models, no other paths: `SFUMATO_CONFINED`, as a server sets."""
    return os.environ.get("SFUMATO_CONFINED", "").strip().lower() in TRUE


def forbid_offline(what: str) -> None:
    """Raise SfumatoError when the network that `what` needs is forbidden."""
    if offline():
        raise SfumatoError(f"{what} needs the network, which offline mode forbids; leave out --offline to allow it")


def _config() -> dict[str, Any]:
    path = folder("config") / "config.toml"
    config: dict[str, Any] = {"models": [], "offline": False}
    try:
        if not os.path.lexists(path):
            return config
    except ValueError as error:
        raise SfumatoError(f"cannot read {path}: {error}; correct it or remove it") from error
    config |= read_toml(path)
    models = config["models"]
    if set(config) != {"models", "offline"} or not isinstance(config["offline"], bool):
        raise SfumatoError(f"{path} may set models (a list of folders) and offline (true or false), and nothing else")
    if not isinstance(models, list) or not all(isinstance(name, str) for name in models):
        raise SfumatoError(f"models in {path} is no list of folders; write it as models = ['/path/to/ComfyUI']")
    return config
