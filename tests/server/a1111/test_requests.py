"""Bodies as clients send them, and what is answered to those that cannot be honoured."""

from __future__ import annotations

import base64
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image

V1 = "/sdapi/v1"
SMALL = {"width": 128, "height": 128, "steps": 1, "seed": 5}


def base64_of(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def white(width: int = 128, height: int = 128) -> str:
    return base64_of(Image.new("RGB", (width, height), "white"))


UNIT = {"model": "emoji-edges", "image": white()}


def drawn(client: httpx.Client, path: str = "/txt2img", **body: object) -> tuple[list[Image.Image], dict]:
    reply = client.post(V1 + path, json=body)
    assert reply.status_code == 200, reply.text
    told = reply.json()
    images = [Image.open(io.BytesIO(base64.b64decode(one))) for one in told["images"]]
    return images, {**told, "info": json.loads(told["info"])}


def test_open_webui(client: httpx.Client) -> None:
    """It posts the whole settings back with another checkpoint, then a short body, and reads the images."""
    options = client.get(V1 + "/options").json()
    assert "sd_model_checkpoint" in options
    titles = {one["model_name"]: one["title"] for one in client.get(V1 + "/sd-models").json()}
    chosen = client.post(V1 + "/options", json={**options, "sd_model_checkpoint": titles["emoji"]})
    assert (chosen.status_code, chosen.json()) == (200, None)
    images, told = drawn(
        client, prompt="a cat", batch_size=1, width=256, height=256, steps=1, negative_prompt="", cfg_scale=1.5,
        sampler_name="Euler", scheduler="Karras",
    )  # fmt: skip
    assert images[0].size == (256, 256) and told["info"]["extra_generation_params"]["Schedule type"] == "Karras"


def test_silly_tavern(client: httpx.Client) -> None:
    """It reads the lists, then draws; its scale of 7 is honoured on a model made for weak guidance."""
    for path in ("options", "upscalers", "latent-upscale-modes", "sd-vae", "sd-modules", "samplers", "schedulers",
                 "sd-models", "progress"):  # fmt: skip
        assert client.get(f"{V1}/{path}").status_code == 200
    body = {
        "url": "http://here", "auth": "", "prompt": "a cat", "negative_prompt": "dog", "sampler_name": "DPM++ 2M",
        "scheduler": "karras", "steps": 2, "cfg_scale": 7, "width": 120, "height": 136, "restore_faces": False,
        "enable_hr": True, "hr_upscaler": "Latent (nearest-exact)", "hr_scale": 1.5, "hr_additional_modules": [],
        "denoising_strength": 0.4, "hr_second_pass_steps": 1, "clip_skip": 1, "save_images": True, "send_images": True,
        "override_settings": {"CLIP_stop_at_last_layers": 1, "sd_vae": "Automatic"},
        "override_settings_restore_afterwards": True, "do_not_save_grid": False, "do_not_save_samples": False,
    }  # fmt: skip
    images, told = drawn(client, **body)
    assert images[0].size == (192, 192), "sides that the model cannot draw are taken to the nearest that it can"
    assert told["info"]["cfg_scale"] == 7 and told["info"]["extra_generation_params"]["APG Norm Threshold"] == "1.5"


def test_a_body_that_says_nothing_has_the_models_own_defaults(client: httpx.Client) -> None:
    _, told = drawn(client, prompt="a cat", steps=None, cfg_scale=None, sampler_name=None, width=128, height=128)
    assert (told["parameters"]["steps"], told["parameters"]["cfg_scale"]) == (12, 1.5)
    assert told["parameters"]["sampler_name"] == "Euler" and told["info"]["seed"] >= 0


def test_infotext_counts_where_the_body_says_nothing(client: httpx.Client) -> None:
    text = "a red heart\nNegative prompt: blue\nSteps: 1, Sampler: Heun, CFG scale: 1.5, Seed: 3, Size: 128x128"
    _, told = drawn(client, infotext=text)
    assert (told["info"]["prompt"], told["info"]["seed"], told["info"]["sampler_name"]) == ("a red heart", 3, "Heun")
    _, other = drawn(client, infotext=text, prompt="a cat", seed=4)
    assert (other["info"]["prompt"], other["info"]["negative_prompt"], other["info"]["seed"]) == ("a cat", "blue", 4)


def test_scripts_that_are_always_on(client: httpx.Client) -> None:
    mask = base64_of(Image.new("L", (128, 128), 255))
    _, told = drawn(
        client, "/img2img", prompt="a cat", init_images=["data:image/png;base64," + white()], mask=mask, width=128,
        height=128, inpaint_full_res=False, denoising_strength=None, alwayson_scripts={
            "Soft inpainting": {"args": [True, 1, 0.5, 4, 0, 0.5, 2]}, "Seed": {"args": [7, True, 9, 0.5, 0, 0]},
            "Sampler": {"args": [1, "Heun", "Karras"]}, "Comments": {"args": [True]},
        },
    )  # fmt: skip
    more = told["info"]["extra_generation_params"]
    assert more["Soft inpainting"] == "True" and more["Schedule type"] == "Karras"
    assert (told["info"]["seed"], told["info"]["subseed"], told["info"]["steps"]) == (7, 9, 1)
    assert told["info"]["denoising_strength"] == 0.75


def test_two_units_one_of_them_on_the_picture_itself(client: httpx.Client) -> None:
    units = [
        {"enabled": False}, {"input_image": {"image": white(), "mask": None}, "module": "None", "model": "emoji-edges",
                             "resize_mode": 2, "control_mode": 1, "save_detected_map": False},
        {"module": "softedge_pidinet", "model": "emoji-edges", "weight": 0.5},
    ]  # fmt: skip
    images, told = drawn(
        client, "/img2img", prompt="a cat", init_images=[white()], alwayson_scripts={"controlnet": {"args": units}},
        **SMALL,
    )  # fmt: skip
    more = told["info"]["extra_generation_params"]
    assert len(images) == 1 and "Resize and Fill" in more["ControlNet 0"] and "gradient" in more["ControlNet 1"]


def test_the_second_pass_has_its_own_words_and_sampler(client: httpx.Client) -> None:
    body = {**SMALL, "prompt": "a cat", "styles": [], "enable_hr": True, "hr_scale": 1.5, "sampler_name": "Euler"}
    own = {
        "hr_sampler_name": "Heun",
        "hr_scheduler": "Karras",
        "hr_prompt": "a red heart, 3D",
        "hr_negative_prompt": "fog",
    }
    (plain,), told = drawn(client, **body, hr_checkpoint_name="Use same checkpoint", hr_sampler_name="Use same sampler")
    assert not any(name in told["info"]["extra_generation_params"] for name in ("Hires sampler", "Hires prompt"))
    (other,), told = drawn(client, **body, **own)
    more = told["info"]["extra_generation_params"]
    assert (more["Hires sampler"], more["Hires schedule type"]) == ("Heun", "Karras")
    assert (more["Hires prompt"], more["Hires negative prompt"]) == ("a red heart, 3D", "fog")
    assert told["info"]["sampler_name"] == "Euler" and told["info"]["prompt"] == "a cat"
    assert other.size == plain.size and other.tobytes() != plain.tobytes()


def test_noise_of_another_size(client: httpx.Client) -> None:
    (plain,), told = drawn(client, prompt="a cat", **SMALL, seed_resize_from_w=0, seed_resize_from_h=64)
    assert (told["info"]["seed_resize_from_w"], told["info"]["seed_resize_from_h"]) == (-1, -1)
    (resized,), told = drawn(client, prompt="a cat", **SMALL, seed_resize_from_w=96, seed_resize_from_h=64)
    assert "Seed resize from: 96x64" in told["info"]["infotexts"][0] and resized.tobytes() != plain.tobytes()
    assert (told["info"]["seed_resize_from_w"], told["info"]["seed_resize_from_h"]) == (96, 64)
    (by_script,), _ = drawn(
        client, prompt="a cat", **SMALL, alwayson_scripts={"Seed": {"args": [5, True, -1, 0, 96, 64]}}
    )
    assert by_script.tobytes() == resized.tobytes()


def test_a_units_mask_is_what_it_shows(client: httpx.Client) -> None:
    """As on the extension's canvas: marks on a part of a picture are the hint; marks on all of it are none."""
    part = Image.new("L", (128, 128))
    part.paste(255, (32, 32, 96, 96))

    def hint(mask: Image.Image | None) -> Image.Image:
        unit = UNIT | {"module": "none", "mask": mask and base64_of(mask)}
        return drawn(client, prompt="a cat", **SMALL, alwayson_scripts={"ControlNet": {"args": [unit]}})[0][1]

    assert hint(part).convert("L").tobytes() == part.tobytes()
    assert hint(None).tobytes() == hint(Image.new("L", (128, 128), 255)).tobytes()
    masked = UNIT | {"module": "inpaint_only", "mask": base64_of(part)}
    images, _ = drawn(client, prompt="a cat", **SMALL, alwayson_scripts={"ControlNet": {"args": [masked]}})
    assert len(images) == 1


@pytest.mark.parametrize(
    ("path", "body", "status", "part"),
    [
        ("/txt2img", {"sampler_name": "Oiler"}, 400, "Sampler not found"),
        ("/txt2img", {"scheduler": "Oiler"}, 400, "schedule"),
        ("/txt2img", {"script_name": "loopback"}, 422, "Script 'loopback' not found"),
        (
            "/txt2img",
            {"alwayson_scripts": {"ADetailer": {"args": [True]}}},
            422,
            "always on script ADetailer not found",
        ),
        ("/txt2img", {"alwayson_scripts": {"ControlNet": {"args": [{"model": "None"}]}}}, 422, "no model"),
        ("/txt2img", {"alwayson_scripts": {"ControlNet": {"args": [{"model": "emoji-edges"}]}}}, 422, "no picture"),
        ("/txt2img", {"alwayson_scripts": {"ControlNet": {"args": [{"model": "canny"}]}}}, 400, "unknown ControlNet"),
        ("/txt2img", {"override_settings": {"sd_model_checkpoint": "nowhere"}}, 404, "Model not found"),
        ("/txt2img", {"override_settings": {"CLIP_stop_at_last_layers": "two"}}, 400, "CLIP_stop_at_last_layers"),
        ("/txt2img", {"restore_faces": True}, 422, "restore_faces"),
        ("/txt2img", {"seed_resize_from_w": 512, "seed_resize_from_h": 10**6}, 400, "seed_resize"),
        ("/txt2img", {"enable_hr": True, "hr_sampler_name": "Oiler"}, 400, "unknown sampler"),
        ("/txt2img", {"enable_hr": True, "hr_prompt": "<lora:../../etc/passwd:1>"}, 400, "lora in the prompt"),
        ("/txt2img", {"enable_hr": True, "hr_checkpoint_name": "nowhere"}, 400, "unknown checkpoint"),
        ("/txt2img", {"alwayson_scripts": {"ControlNet": {"args": [UNIT | {"module": "inpaint"}]}}}, 422, "a mask"),
        ("/txt2img", {"alwayson_scripts": {"ControlNet": {"args": [UNIT | {"mask": 5}]}}}, 422, "no text"),
        ("/txt2img", {"enable_hr": True, "hr_resize_x": 256, "hr_resize_y": 512}, 422, "hr_resize_x"),
        ("/txt2img", {"steps": 0}, 400, "steps"),
        ("/txt2img", {"n_iter": -1}, 400, "n_iter"),
        ("/txt2img", {"n_iter": 10**9}, 400, "n_iter"),
        ("/txt2img", {"width": 10**400}, 422, "width"),
        ("/txt2img", {"script_name": "x/y/z plot", "script_args": ["Steps", None, 5]}, 400, "no list"),
        ("/txt2img", {"script_name": "x/y/z plot", "script_args": ["Steps", "1-" + "9" * 400]}, 400, "no number"),
        ("/txt2img", {"script_name": "x/y/z plot", "script_args": ["Prompt order", "a,b,c,d,e,f,g"]}, 400, "orders"),
        ("/txt2img", {"alwayson_scripts": {"ControlNet": {"args": [UNIT | {"weight": 10**400}]}}}, 400, "weight"),
        ("/txt2img", {"alwayson_scripts": {"ControlNet": {"args": [UNIT | {"resize_mode": "x"}]}}}, 400, "resize_mode"),
        ("/txt2img", {"alwayson_scripts": {"ControlNet": {"args": 5}}}, 422, "no list"),
        ("/img2img", {"init_images": [white()], "script_name": "sd upscale", "script_args": [0, "a"]}, 400, "overlap"),
        ("/txt2img", {"steps": "many"}, 422, "steps"),
        ("/txt2img", {"width": -64}, 400, "width"),
        ("/txt2img", {"script_name": "x/y/z plot", "script_args": [4, ""]}, 400, "no values"),
        ("/txt2img", {"script_name": "x/y/z plot", "script_args": ["Extra noise", "1"]}, 400, "not here"),
        ("/txt2img", {"script_name": "x/y/z plot", "script_args": ["Steps", "1-2000"]}, 400, "more than 1000"),
        ("/txt2img", {"script_name": "prompt matrix", "prompt": "a"}, 400, "1 to 8 parts"),
        ("/img2img", {}, 404, "Init image not found"),
        ("/img2img", {"init_images": ["http://127.0.0.1/a.png"]}, 400, "send the picture in base64"),
        ("/img2img", {"init_images": ["no base64!"]}, 400, "base64"),
        ("/img2img", {"init_images": ["aGVsbG8="]}, 400, "an init image"),
        ("/img2img", {"init_images": [white()], "resize_mode": 4}, 422, "resize_mode"),
        ("/img2img", {"init_images": [white()], "mask": white(), "inpainting_fill": 9}, 422, "inpainting_fill"),
        ("/img2img", {"init_images": [white()], "mask": white(), "mask_blur_x": 8}, 422, "mask_blur"),
        ("/img2img", {"init_images": [white()], "denoising_strength": 2}, 400, "strength"),
        ("/extra-single-image", {}, 404, "Image not found"),
        ("/extra-single-image", {"image": white(), "upscaler_1": "LDSR"}, 400, "upscaler"),
        ("/extra-single-image", {"image": white(), "gfpgan_visibility": 1}, 422, "face restorer"),
        ("/extra-single-image", {"image": white(), "upscaling_resize": 1e300}, 400, "upscaling_resize"),
        ("/png-info", {"image": "aGVsbG8="}, 400, "picture"),
        ("/interrogate", {"image": ""}, 404, "Image not found"),
        ("/interrogate", {"image": white(), "model": "deepdanbooru"}, 404, "Model not found"),
        ("/options", {"sd_model_checkpoint": "nowhere"}, 400, "unknown checkpoint"),
        ("/options", {"samples_format": "tiff"}, 400, "samples_format"),
        ("/options", {"eta_ddim": "much"}, 400, "eta_ddim"),
        ("/options", {"token_merging_ratio": 2}, 400, "token_merging_ratio"),
        ("/train/embedding", {}, 403, "sfumato train"),
        ("/server-stop", {}, 403, "do not stop"),
    ],
)
def test_what_cannot_be_honoured_is_said(client: httpx.Client, path: str, body: dict, status: int, part: str) -> None:
    before = client.get("/api/jobs").json()
    reply = client.post(V1 + path, json=body)
    told = reply.json()
    assert (reply.status_code, told.keys()) == (status, {"error", "detail", "body", "errors"}), reply.text
    assert part in told["detail"] and told["detail"] == told["errors"]
    assert client.get("/api/jobs").json() == before, "no job exists"


def test_a_lora_that_is_not_here_is_named(client: httpx.Client) -> None:
    reply = client.post(V1 + "/txt2img", json={"prompt": "a <lora:nowhere:1> cat", **SMALL})
    assert reply.status_code == 400 and "nowhere" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [({"controlnet_module": "openpose_full"}, 422), ({"controlnet_module": "canny"}, 422),
     ({"controlnet_module": "inpaint_only", "controlnet_input_images": [white()]}, 422),
     ({"controlnet_module": "canny", "controlnet_images": [white(4096, 1)], "controlnet_processor_res": 8000}, 400)],
)  # fmt: skip
def test_hints_that_cannot_be_made(client: httpx.Client, body: dict, status: int) -> None:
    assert client.post("/controlnet/detect", json=body).status_code == status


def test_small_endpoints(client: httpx.Client) -> None:
    assert client.get("/internal/ping").json() == {}
    assert client.get("/internal/pending-tasks").json() == {"size": 0, "tasks": []}
    told = client.post("/internal/progress", json={"id_task": "none"}).json()
    assert (told["active"], told["queued"], told["completed"]) == (False, False, True)
    assert client.get("/controlnet/settings").json() == {"control_net_unit_count": 3}
    types = client.get("/controlnet/control_types").json()["control_types"]
    assert types["Canny"]["default_option"] == "canny" and "All" in types
    detail = client.get("/controlnet/module_list").json()["module_detail"]["canny"]
    assert [one and one["value"] for one in detail["sliders"]] == [None, 100, 200]
    plot = next(one for one in client.get(V1 + "/script-info").json() if one["name"] == "x/y/z plot")
    assert plot["args"][0]["label"] == "X type" and "Steps" in plot["args"][0]["choices"]
    for path in ("unload-checkpoint", "reload-checkpoint", "refresh-vae", "interrupt", "skip"):
        assert client.post(f"{V1}/{path}").status_code == 200
    assert client.get(V1 + "/extensions").json() == []


def test_two_calls_at_once(server: str) -> None:
    """Progress and interrupt are about the call that came first; the other one goes on."""
    with httpx.Client(base_url=server, timeout=120) as one, ThreadPoolExecutor(2) as threads:
        long = threads.submit(drawn, one, prompt="a cat", **{**SMALL, "steps": 900}, force_task_id="mine")
        while one.get(V1 + "/progress").json()["state"]["job_count"] == 0:
            time.sleep(0.02)
        short = threads.submit(drawn, one, prompt="a dog", **SMALL, n_iter=2)
        told = one.get(V1 + "/progress").json()["state"]
        assert (told["job_count"], told["job"]) == (1, "Batch 1 out of 1")
        assert one.get("/internal/pending-tasks").json()["tasks"] == ["mine"]
        assert not one.post("/internal/progress", json={"id_task": "mine"}).json()["completed"]
        one.post(V1 + "/interrupt")
        assert long.result(60)[0] == [] and len(short.result(60)[0]) == 2
    jobs = httpx.get(server + "/api/jobs", params={"count": 3}, timeout=120).json()
    assert [job["state"] for job in jobs] == ["done", "done", "cancelled"]
