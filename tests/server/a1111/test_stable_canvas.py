"""Requests that the client @stable-canvas/sd-webui-a1111-client 1.2.1 for node sends, as they were recorded."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import httpx
import pytest
from PIL import Image


def base64_of(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


HEART = base64_of(Image.new("RGB", (128, 128), "red"))
_half = Image.new("L", (128, 128))
_half.paste(255, (64, 0, 128, 128))
MASK = base64_of(_half)
SMALL = {"steps": 2, "width": 128, "height": 128, "seed": 1}
UNIT = {
    "enabled": True, "image": HEART, "mask": None, "module": "canny", "model": "emoji-edges", "weight": 1,
    "resize_mode": "Scale to Fit (Inner Fit)", "low_vram": False, "processor_res": -1, "threshold_a": -1,
    "threshold_b": -1, "guidance_start": 0, "guidance_end": 1, "control_mode": "Balanced", "pixel_perfect": False,
}  # fmt: skip
ON_THE_PICTURE = {**UNIT, "mask": MASK, "pixel_perfect": True}
# What its calls send: the service, the pipeline, processes with the extension ControlNet.
DRAWN: list[tuple[str, dict[str, Any], int]] = [
    ("txt2img", {"prompt": "a red heart", **SMALL}, 1),
    ("txt2img", {"override_settings": {"sd_model_checkpoint": "emoji"}, "override_settings_restore_afterwards": False,
                 "prompt": "a sunset", "negative_prompt": "blurry", "sampler_name": "DPM++ 2M",
                 "scheduler": "exponential", "width": 128, "height": 128, "steps": 2, "cfg_scale": 5}, 1),
    ("txt2img", {"prompt": "a sunset", "width": 128, "height": 128, "steps": 2, "cfg_scale": 5, "enable_hr": True,
                 "hr_scale": 2, "hr_upscaler": "Latent", "hr_second_pass_steps": 2}, 1),
    ("img2img", {"prompt": "a sunset", "width": 128, "height": 128, "steps": 2, "init_images": [HEART],
                 "inpainting_fill": 1, "mask": MASK}, 1),
    ("txt2img", {"prompt": "a cat", **SMALL, "alwayson_scripts": {"ControlNet": {"args": [UNIT]}}}, 2),
    ("img2img", {"prompt": "a cat", "init_images": [HEART], **SMALL,
                 "alwayson_scripts": {"ControlNet": {"args": [UNIT]}}}, 2),
    ("img2img", {"prompt": "a cat", "init_images": [HEART], "mask": MASK, **SMALL,
                 "alwayson_scripts": {"ControlNet": {"args": [ON_THE_PICTURE]}}}, 2),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "count"), DRAWN)
def test_what_it_draws(client: httpx.Client, path: str, body: dict[str, Any], count: int) -> None:
    reply = client.post(f"/sdapi/v1/{path}", json=body)
    assert reply.status_code == 200, reply.text
    told = reply.json()
    side = 256 if body.get("enable_hr") else 128
    images = [Image.open(io.BytesIO(base64.b64decode(one))) for one in told["images"]]
    assert [image.size for image in images][:1] == [(side, side)] and len(images) == count
    assert json.loads(told["info"])["prompt"] == body["prompt"] and told["parameters"]["prompt"] == body["prompt"]


def test_its_other_calls(client: httpx.Client) -> None:
    body = {"controlnet_module": "canny", "controlnet_input_images": [HEART], "controlnet_processor_res": 512}
    assert len(client.post("/controlnet/detect", json=body).json()["images"]) == 1
    settings = {"samples_format": "png", "samples_save": True, "CLIP_stop_at_last_layers": 1}
    assert client.post("/sdapi/v1/options", json=settings).json() is None
    paths = ["internal/ping", "controlnet/version", "controlnet/model_list", "controlnet/module_list",
             "controlnet/control_types", "sdapi/v1/progress"]  # fmt: skip
    paths += [f"sdapi/v1/{one}" for one in ("sd-models", "samplers", "embeddings", "extensions")]
    for path in paths:
        assert client.get("/" + path).status_code == 200, path
    without = {"Tiled VAE": {"args": [True, 1024, 96, True, True, True, False]}}
    reply = client.post("/sdapi/v1/txt2img", json={"prompt": "a cat", **SMALL, "alwayson_scripts": without})
    assert reply.status_code == 422 and "Tiled VAE not found" in reply.json()["detail"], "as without the extension"
