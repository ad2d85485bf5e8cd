"""Where things lie, and what the configuration may say."""

from pathlib import Path

import pytest

from sfumato import user_config as settings
from sfumato.errors import SfumatoError


def test_folders_follow_the_xdg_variables_and_sfumato_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("SFUMATO_HOME")
    for name in ("DATA", "STATE", "CACHE", "CONFIG"):
        monkeypatch.delenv(f"XDG_{name}_HOME", raising=False)
    assert settings.own_models() == Path("/home/someone/.local/share/sfumato/models")
    assert settings.folder("state") == Path("/home/someone/.local/state/sfumato")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert settings.folder("cache") == tmp_path / "sfumato"
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path / "one"))
    assert {settings.folder(kind) for kind in ("data", "state", "cache", "config")} == {tmp_path / "one"}


@pytest.mark.parametrize(
    ("text", "offline", "models"),
    [("", False, ()), ("offline = true", True, ()), ("models = ['/a', '/b']", False, (Path("/a"), Path("/b")))],
)
def test_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, offline: bool, models: tuple[Path, ...]
) -> None:
    monkeypatch.setenv("SFUMATO_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    (tmp_path / "config.toml").write_text(text)
    assert settings.offline() is offline and settings.model_folders() == models
    monkeypatch.setenv("SFUMATO_OFFLINE", "1")
    monkeypatch.setenv("SFUMATO_MODELS", "/c::/d")
    assert settings.offline() and settings.model_folders() == (Path("/c"), Path("/d"))
    with pytest.raises(SfumatoError, match="drawing needs the network, which offline mode forbids"):
        settings.forbid_offline("drawing")
