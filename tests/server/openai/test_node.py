"""OpenAI's own client for node draws here, where it is installed."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

SCRIPT = Path(__file__).with_name("client.cjs")


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """The environment in which node finds the package."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("needs node and npm")
    everywhere = subprocess.run([npm, "root", "--global"], capture_output=True, text=True).stdout.strip()
    found = os.pathsep.join(filter(None, (os.environ.get("NODE_PATH"), everywhere)))
    environment = {**os.environ, "NODE_PATH": found}
    if subprocess.run([node, "-e", "require.resolve('openai')"], env=environment, capture_output=True).returncode:
        pytest.skip("needs OpenAI's package for node: npm install --global openai")
    return environment


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")


@pytest.mark.slow
def test_the_client_for_node_draws(server: str, environment: dict[str, str], tmp_path: Path) -> None:
    Image.new("RGB", (128, 128), "blue").save(tmp_path / "picture.png")
    mask = Image.new("RGBA", (128, 128), "black")
    mask.paste((0, 0, 0, 0), (64, 0, 128, 128))
    mask.save(tmp_path / "mask.png")
    command = ["node", str(SCRIPT), server, str(tmp_path / "picture.png"), str(tmp_path / "mask.png")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [opened(one).size for one in told["generated"]] == [(64, 128)] * 2
    edited = opened(told["edited"])
    assert edited.getpixel((10, 64)) == (0, 0, 255) and edited.crop((64, 0, 128, 128)).getcolors(4) is None
    assert opened(told["varied"]).size == (256, 256)
    assert [event["type"] for event in told["events"]][-1] == "image_generation.completed"
    partial = [event["partial_image_index"] for event in told["events"][:-1]]
    assert partial == [*range(len(partial))] and partial
    assert all(opened(event["b64_json"]).size == (128, 128) for event in told["events"])
    assert "emoji" in told["models"] and told["bad"] and "nowhere" in told["said"]
