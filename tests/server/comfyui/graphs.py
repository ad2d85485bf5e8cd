"""Graphs for the tests, and what their clients do again and again."""

from __future__ import annotations

import io
import time
from typing import Any

import httpx
from PIL import Image


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def txt2img(
    text: str = "a red heart", seed: int = 1, steps: int = 2, side: int = 128, batch: int = 1
) -> dict[str, Any]:
    """ComfyUI's default graph on the model that ships."""
    return {
        "3": node(
            "KSampler", model=["4", 0], seed=seed, steps=steps, cfg=1.5, sampler_name="euler", scheduler="normal",
            positive=["6", 0], negative=["7", 0], latent_image=["5", 0], denoise=1,
        ),
        "4": node("CheckpointLoaderSimple", ckpt_name="emoji"),
        "5": node("EmptyLatentImage", width=side, height=side, batch_size=batch),
        "6": node("CLIPTextEncode", text=text, clip=["4", 1]),
        "7": node("CLIPTextEncode", text="", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", filename_prefix="test", images=["8", 0]),
    }  # fmt: skip


def ended(client: httpx.Client, job: str) -> dict[str, Any]:
    """The history of a graph, once it is ended."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        found = client.get(f"/history/{job}").json()
        if found:
            return found[job]
        time.sleep(0.05)
    raise AssertionError("the graph did not end")


def image_of(client: httpx.Client, names: dict[str, str]) -> Image.Image:
    """A picture that a history names."""
    return Image.open(io.BytesIO(client.get("/view", params=names).raise_for_status().content)).convert("RGB")
