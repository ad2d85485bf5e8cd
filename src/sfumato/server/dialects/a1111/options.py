"""The web UI's settings that clients read and set, kept for each user."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from sfumato.errors import OptionError, SfumatoError
from sfumato.files import atomic_write
from sfumato.server.dialects.a1111.local import LocalFiles, title
from sfumato.settings.checks import is_number
from sfumato.settings.table import OPTIONS

FILE = "a1111-options.json"
SAMPLES = ("png", "jpg", "jpeg", "webp")
AUTOMATIC_VAE = ("Automatic", "None", "", None)
EMPHASES = {word: value for value, word in OPTIONS["emphasis"].words.items()} | {"None": "none"}
NOISE = {"CPU": "cpu", "GPU": "nv", "NV": "nv"}

DEFAULTS: dict[str, Any] = {
    "sd_model_checkpoint": None,
    "sd_vae": "Automatic",
    "CLIP_stop_at_last_layers": 1,
    "randn_source": "CPU",
    "emphasis": "Original",
    "eta_ancestral": 1.0,
    "eta_ddim": 0.0,
    "token_merging_ratio": 0.0,
    "token_merging_ratio_img2img": 0.0,
    "samples_format": "png",
}
"""What can be set, and what it is until somebody does; the checkpoint is then the server's own."""
TOLD: dict[str, Any] = {
    "sd_checkpoint_hash": "", "show_progress_every_n_steps": 10, "live_previews_enable": True,
    "live_previews_image_format": "jpeg", "return_grid": False, "enable_pnginfo": True,
}  # fmt: skip
"""What clients read besides. It can be posted back, which changes nothing."""


class OptionStore:
    """The settings of all users, in one file of the server's folder."""

    def __init__(self, folder: Path, files: LocalFiles, default_model: str | None):
        self._path, self._files, self._default = folder / FILE, files, default_model
        self._lock = Lock()
        self._kept: dict[str, dict[str, Any]] | None = None

    def get(self, user: str) -> dict[str, Any]:
        """All settings of a user. Reads files, so not on the event loop."""
        with self._lock:
            found = {**DEFAULTS, **self._read().get(user, {})}
        name = found["sd_model_checkpoint"]
        try:
            model = self._files.default(self._default) if name is None else self._files.find(name)
        except SfumatoError:  # it was there when it was chosen
            model = self._files.default(self._default)
        return {**found, **TOLD, "sd_model_checkpoint": title(model), "sd_checkpoint_hash": model.sha256 or ""}

    def set(self, user: str, values: Mapping[str, Any]) -> None:
        """Keeps those of `values` that can be set. Raises SfumatoError for one that cannot be honoured."""
        chosen = {name: CHECKS[name](self._files, value) for name, value in values.items() if name in DEFAULTS}
        with self._lock:
            kept = self._read()
            kept[user] = {**kept.get(user, {}), **chosen}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._path) as file:
                file.write(json.dumps(kept).encode())

    def _read(self) -> dict[str, dict[str, Any]]:
        if self._kept is None:
            try:
                self._kept = json.loads(self._path.read_bytes())
            except FileNotFoundError:
                self._kept = {}
            except (OSError, ValueError) as error:
                raise SfumatoError(f"cannot read {FILE} of the server's folder: {error}; remove the file") from None
        return self._kept


def _checkpoint(files: LocalFiles, value: Any) -> str | None:
    return None if value in (None, "") else title(files.find(_text("sd_model_checkpoint", value)))


def _vae(files: LocalFiles, value: Any) -> str:
    if value in AUTOMATIC_VAE:
        return value or "Automatic"
    return files.find(_text("sd_vae", value), "vae", "VAE").name


def _layers(files: LocalFiles, value: Any) -> int:
    try:
        return OPTIONS["clip_skip"].checked(value)
    except OptionError as error:
        raise SfumatoError(str(error).replace("clip_skip", "CLIP_stop_at_last_layers")) from None


def _share(name: str) -> Callable[[LocalFiles, Any], float]:
    def check(files: LocalFiles, value: Any) -> float:
        if not is_number(value) or not 0 <= value <= 1:
            raise SfumatoError(f"{name} is {value!r}; give a number from 0 to 1")
        return float(value)

    return check


def _one_of(name: str, known: Mapping[str, Any] | tuple[str, ...]) -> Callable[[LocalFiles, Any], str]:
    def check(files: LocalFiles, value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise SfumatoError(f"{name} is {value!r}; choose one of {', '.join(known)}")
        return value

    return check


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise SfumatoError(f"{name} is {value!r}; give a name")
    return value


CHECKS: dict[str, Callable[[LocalFiles, Any], Any]] = {
    "sd_model_checkpoint": _checkpoint,
    "sd_vae": _vae,
    "CLIP_stop_at_last_layers": _layers,
    "randn_source": _one_of("randn_source", NOISE),
    "emphasis": _one_of("emphasis", EMPHASES),
    **{
        name: _share(name)
        for name in ("eta_ancestral", "eta_ddim", "token_merging_ratio", "token_merging_ratio_img2img")
    },
    "samples_format": _one_of("samples_format", SAMPLES),
}
"""How a value is checked, by the setting's name; for a request's override_settings too."""


def overridden(options: Mapping[str, Any], overrides: Mapping[str, Any], files: LocalFiles) -> dict[str, Any]:
    """The settings with those that a request overrides. Raises SfumatoError for values that cannot be honoured."""
    own = {name: CHECKS[name](files, value) for name, value in overrides.items() if name in DEFAULTS}
    if own.get("sd_model_checkpoint", "") is None:
        del own["sd_model_checkpoint"]
    return {**options, **own}
