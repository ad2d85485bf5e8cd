"""`sfumato.client` with a live server: what a script does."""

from __future__ import annotations

import io
import socket
from pathlib import Path

import pytest
from PIL import Image

from sfumato.client import Client, ServerError
from sfumato.errors import SfumatoError

QUICK = {"steps": 2, "width": 128, "height": 128, "seed": 5}


def test_a_script_draws(server: str, tmp_path: Path) -> None:
    client = Client(server, timeout=300)
    seen = []
    job = client.wait(client.submit("a red heart", options=QUICK, key="mine").id, seen.append)
    assert client.submit("a red heart", options=QUICK, key="mine").id == job.id
    assert [event["event"] for event in client.events(job.id)] == ["done"]
    assert job.pictures[0].seed == 5 and job.id in [one.id for one in client.jobs(3)]
    file = client.picture(job.pictures[0])
    assert Image.open(io.BytesIO(file)).size == (128, 128)

    (tmp_path / "heart.png").write_bytes(file)
    name = client.send_picture(tmp_path / "heart.png")
    again = client.draw("a cat", kind="img2img", pictures={"image": name}, how={"strength": 0.5}, options=QUICK)
    assert len(again) == 1 and again[0][:4] == b"\x89PNG"
    assert "emoji" in [one.name for one in client.models()]


def test_refusals_are_errors(server: str) -> None:
    client = Client(server, timeout=300)
    with pytest.raises(ServerError, match="steps") as refused:
        client.submit("a cat", options={"steps": -1})
    assert refused.value.status == 400
    with pytest.raises(ServerError, match="no job") as missing:
        client.job("nowhere")
    assert missing.value.status == 404
    with pytest.raises(ServerError, match="no server answers"):
        Client("http://127.0.0.1:9").models()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections and never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ServerError, match=r"did not answer within 0\.2 s"):
            Client(address, timeout=0.2).jobs()
    job = client.submit("a cat", options={**QUICK, "steps": 900})
    assert client.cancel(job.id).state == "cancelled"
    with pytest.raises(SfumatoError, match="was cancelled"):
        client.wait(job.id)
