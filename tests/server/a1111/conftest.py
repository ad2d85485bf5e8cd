"""The real client of the web UI's API, on the live server."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import webuiapi


@pytest.fixture
def api(server: str) -> Iterator[webuiapi.WebUIApi]:
    """The client, with the settings of a new user."""
    yield webuiapi.WebUIApi(baseurl=f"{server}/sdapi/v1", sampler="Euler", steps=2)
    httpx.post(f"{server}/sdapi/v1/options", json={"sd_model_checkpoint": None, "samples_format": "png"}, timeout=120)
