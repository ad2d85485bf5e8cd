"""From names and paths to licences."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sfumato.errors import SfumatoError
from sfumato.hub.licence_text import terms
from sfumato.hub.local_models import embedded_model


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sd1.5", "creativeml-openrail-m"),
        ("stabilityai/stable-diffusion-2-1", "openrail++"),
        ("sdxl", "openrail++"),
        ("sdxl-turbo", "stabilityai-ai-community"),
        ("sd3.5-large", "stabilityai-ai-community"),
        ("vae-ft-mse", "mit"),
        ("emoji", "sfumato-emoji"),
        ("openrail++", "openrail++"),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert terms(name).licence.id == expected


def test_a_file_has_the_licence_of_its_family_and_a_word_of_caution(
    tmp_path: Path, put: Callable[[Path], Path]
) -> None:
    found = terms(str(put(tmp_path / "fine-tuned.safetensors")))
    assert found.licence.id == "creativeml-openrail-m" and "added terms" in found.note
    assert terms(str(embedded_model())).licence.id == "sfumato-emoji"


def test_what_shows_no_licence_says_so(tmp_path: Path) -> None:
    with pytest.raises(SfumatoError, match=r"'nothing' is no release, licence or file; known are emoji, sd1.1"):
        terms("nothing")
    (tmp_path / "web.safetensors").write_bytes(b"<html>")
    with pytest.raises(SfumatoError, match="web page"):
        terms(str(tmp_path / "web.safetensors"))
