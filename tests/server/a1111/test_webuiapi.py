"""Every call that the `webuiapi` package makes of the web UI itself and of ControlNet."""

from __future__ import annotations

import json
import threading
import time

import pytest
import webuiapi
from PIL import Image, ImageChops, ImageDraw

import sfumato
from sfumato.images.control.canny import canny

SMALL = {"width": 128, "height": 128, "steps": 2, "seed": 5, "cfg_scale": 1.5}


def dotted(size: int = 128) -> Image.Image:
    image = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(image).ellipse((32, 32, 96, 96), "red")
    return image


def left_half(size: int = 128) -> Image.Image:
    mask = Image.new("L", (size, size), 0)
    mask.paste(255, (0, 0, size // 2, size))
    return mask


def test_txt2img_is_what_python_draws_and_seeds_count_on(api: webuiapi.WebUIApi) -> None:
    got = api.txt2img(prompt="a red heart", negative_prompt="blue", batch_size=2, n_iter=2, **SMALL)
    assert got.info["all_seeds"] == [5, 6, 7, 8] and len(got.images) == 4
    wanted = sfumato.load().txt2img(
        "a red heart", "blue", n=4, sampler="euler", steps=2, width=128, height=128, seed=5, cfg=1.5
    )
    for one, other in zip(got.images, wanted, strict=True):
        assert max(high for _, high in ImageChops.difference(one.convert("RGB"), other).getextrema()) <= 1
    assert got.images[0].text["parameters"] == got.info["infotexts"][0]
    assert got.parameters["prompt"] == "a red heart" and got.parameters["steps"] == 2


def same(one: Image.Image, other: Image.Image) -> bool:
    """Whether two pictures have the same pixels, whatever their files say."""
    return ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getbbox() is None


INFO = {
    "prompt", "all_prompts", "negative_prompt", "all_negative_prompts", "seed", "all_seeds", "subseed", "all_subseeds",
    "subseed_strength", "width", "height", "sampler_name", "cfg_scale", "steps", "batch_size", "sd_model_name",
    "sd_model_hash", "sd_vae_name", "sd_vae_hash", "denoising_strength", "extra_generation_params",
    "index_of_first_image", "infotexts", "styles", "job_timestamp", "clip_skip", "version",
}  # fmt: skip


def test_info_has_every_key(api: webuiapi.WebUIApi) -> None:
    got = api.txt2img(prompt="a cat", subseed_strength=0.5, subseed=9, send_images=False, **SMALL)
    assert got.images == [] and got.info.keys() >= INFO
    assert (got.info["width"], got.info["height"], got.info["steps"]) == (128, 128, 2)
    assert got.info["sampler_name"] == "Euler" and got.info["cfg_scale"] == 1.5
    assert got.info["all_subseeds"] == [9] and got.info["subseed_strength"] == 0.5
    assert got.info["sd_model_name"] == "emoji"


def test_hires_second_pass(api: webuiapi.WebUIApi) -> None:
    got = api.txt2img(prompt="a cat", enable_hr=True, hr_scale=2, denoising_strength=0.5, **SMALL)
    assert got.image.size == (256, 256)
    assert got.info["extra_generation_params"]["Hires upscaler"] == "Latent"
    sized = api.txt2img(
        prompt="a cat", enable_hr=True, hr_resize_x=192, hr_resize_y=192, hr_upscaler="Lanczos",
        hr_second_pass_steps=1, **SMALL,
    )  # fmt: skip
    assert sized.image.size == (192, 192) and sized.info["extra_generation_params"]["Hires steps"] == "1"


def test_img2img_on_several_pictures(api: webuiapi.WebUIApi) -> None:
    got = api.img2img(images=[dotted(), dotted()], prompt="a cat", denoising_strength=0.5, **SMALL)
    assert len(got.images) == 2 and got.info["all_seeds"] == [5, 6] and got.info["denoising_strength"] == 0.5
    assert got.parameters["init_images"] is None and got.parameters["mask"] is None
    with_them = api.img2img(images=[dotted()], include_init_images=True, denoising_strength=0.1, **SMALL)
    assert with_them.parameters["init_images"][0].startswith("data:image/png;base64,")


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_resize_modes(api: webuiapi.WebUIApi, mode: int) -> None:
    wide = Image.new("RGB", (192, 96), "blue")
    got = api.img2img(images=[wide], resize_mode=mode, denoising_strength=0.1, **SMALL)
    assert got.image.size == (128, 128)


@pytest.mark.parametrize(("fill", "name"), [(0, "fill"), (1, "original"), (2, "latent noise"), (3, "latent nothing")])
def test_inpainting_leaves_the_rest_alone(api: webuiapi.WebUIApi, fill: int, name: str) -> None:
    got = api.img2img(
        images=[dotted()], mask_image=left_half(), inpainting_fill=fill, inpaint_full_res=False, mask_blur=0,
        denoising_strength=0.9, **SMALL,
    )  # fmt: skip
    assert same(got.image.crop((64, 0, 128, 128)), dotted().crop((64, 0, 128, 128)))
    assert got.info["extra_generation_params"]["Masked content"] == name


def test_inpainting_only_masked_and_inverted(api: webuiapi.WebUIApi) -> None:
    got = api.img2img(
        images=[dotted(160)], mask_image=left_half(160), inpainting_mask_invert=1, inpaint_full_res=True,
        inpaint_full_res_padding=16, mask_blur=0, **SMALL,
    )  # fmt: skip
    assert got.image.size == (160, 160)
    assert same(got.image.crop((0, 0, 80, 160)), dotted(160).crop((0, 0, 80, 160)))
    told = got.info["extra_generation_params"]
    assert (told["Inpaint area"], told["Masked area padding"]) == ("Only masked", "16")


def test_scripts(api: webuiapi.WebUIApi) -> None:
    args = [4, "1-2", [], 6, "1,2", [], 0, "", [], True, True, False, False, False, False, False, 0, False]
    got = api.txt2img(prompt="a cat", script_name="X/Y/Z Plot", script_args=args, **SMALL)
    assert len(got.images) == 5 and got.image.width > 256
    assert [one.split("Steps: ")[1][0] for one in got.info["infotexts"][1:]] == ["1", "2", "1", "2"]
    only_sheet = api.txt2img(prompt="a cat", script_name="X/Y/Z plot", script_args=["Steps", "1"], **SMALL)
    assert len(only_sheet.images) == 1
    matrix = api.txt2img(prompt="a cat|red", script_name="Prompt matrix", script_args=[False], **SMALL)
    assert len(matrix.images) == 3 and matrix.info["all_prompts"] == ["a cat", "a cat, red"]
    large = api.img2img(
        images=[dotted()], script_name="SD upscale", script_args=["", 64, "None", 1.5], denoising_strength=0.2, **SMALL
    )
    assert large.image.size == (192, 192)


def test_controlnet_units(api: webuiapi.WebUIApi) -> None:
    assert api.has_controlnet, "the client sends no empty list of units otherwise, and keeps those of the call before"
    unit = webuiapi.ControlNetUnit(
        image=dotted(), module="canny", model="emoji-edges", weight=0.8, guidance_end=0.9, control_mode=2,
        resize_mode="Crop and Resize", threshold_a=100, threshold_b=200,
    )  # fmt: skip
    got = api.txt2img(prompt="a cat", controlnet_units=[unit], **SMALL)
    assert len(got.images) == 2 and same(got.images[1], canny(dotted())) and got.info["all_seeds"] == [5]
    told = got.info["extra_generation_params"]["ControlNet 0"]
    for part in ("Module: canny", "Weight: 0.8", "Guidance End: 0.9", "ControlNet is more important"):
        assert part in told
    plain = api.txt2img(prompt="a cat", **SMALL)
    assert "ControlNet 0" not in plain.info["extra_generation_params"] and not same(plain.image, got.image)
    assert api.controlnet_model_list()[0].startswith("emoji-edges") and "canny" in api.controlnet_module_list()
    assert api.controlnet_version() >= 2
    edges = api.controlnet_detect([dotted()], module="canny", processor_res=128, threshold_a=100, threshold_b=200)
    assert same(edges.image, canny(dotted())) and edges.info == "Success"


def test_extras(api: webuiapi.WebUIApi) -> None:
    drawn = api.txt2img(prompt="a cat", **SMALL).image
    large = api.extra_single_image(drawn, upscaler_1="Lanczos", upscaling_resize=2)
    assert large.image.size == (256, 256) and large.image.text["parameters"] == drawn.text["parameters"]
    several = api.extra_batch_images(
        [dotted(), dotted(96)], upscaler_1="Nearest", upscaler_2="Lanczos", extras_upscaler_2_visibility=0.5,
        resize_mode=1, upscaling_resize_w=200, upscaling_resize_h=160,
    )  # fmt: skip
    assert [one.size for one in several.images] == [(200, 160), (200, 160)]
    read = api.png_info(drawn)
    assert read.info == drawn.text["parameters"]
    assert api.png_info(dotted()).info == ""
    assert api.interrogate(dotted()).info


def test_progress_interrupt_and_skip(api: webuiapi.WebUIApi) -> None:
    idle = api.get_progress()
    assert (idle["progress"], idle["state"]["job_count"], idle["current_image"]) == (0.0, 0, None)
    long = {**SMALL, "steps": 400, "width": 256, "height": 256}
    got: list[webuiapi.WebUIApiResult] = []

    def draw() -> None:
        got.append(api.txt2img(prompt="a cat", n_iter=2, **long))

    def until(ready) -> dict:
        for _ in range(600):
            told = api.get_progress()
            if ready(told):
                return told
            time.sleep(0.05)
        raise AssertionError(told)

    thread = threading.Thread(target=draw)
    thread.start()
    told = until(lambda one: one["current_image"])
    assert 0 < told["progress"] < 1 and told["state"]["job_count"] == 2 and told["state"]["sampling_steps"] == 400
    assert api.skip() is None
    until(lambda one: one["state"]["job_no"] == 1)
    assert api.interrupt() == {}
    thread.join(60)
    assert got[0].images == [] and got[0].info["all_seeds"] == []
    api.util_wait_for_ready(0.1)


def test_lists(api: webuiapi.WebUIApi) -> None:
    assert {"name", "aliases", "options"} == api.get_samplers()[0].keys() and "Euler a" in api.util_get_sampler_names()
    assert {"name", "label", "aliases", "default_rho", "need_inner_model"} == api.get_schedulers()[0].keys()
    assert "karras" in api.util_get_scheduler_names()
    assert [one["name"] for one in api.get_upscalers()[:3]] == ["None", "Lanczos", "Nearest"]
    assert "Latent" in [one["name"] for one in api.get_latent_upscale_modes()]
    assert {"emoji", "emoji-fast.safetensors"} <= {one.split(" [")[0] for one in api.util_get_model_names()}
    assert {"title", "model_name", "hash", "sha256", "filename", "config"} == api.get_sd_models()[0].keys()
    assert [one["name"] for one in api.get_loras()] == ["sepia"]
    assert api.get_embeddings()["loaded"]["saturn-emoji"]["vectors"] == 1
    for empty in (api.get_hypernetworks, api.get_face_restorers, api.get_realesrgan_models, api.get_prompt_styles,
                  api.get_sd_vae, api.get_artists, api.get_artist_categories):  # fmt: skip
        assert isinstance(empty(), list)
    assert api.get_memory()["ram"]["total"] > 0 and api.get_cmd_flags()["api"] is True
    assert "x/y/z plot" in api.get_scripts()["txt2img"] and api.refresh_checkpoints() is None


def test_options(api: webuiapi.WebUIApi) -> None:
    assert api.util_get_current_model().startswith("emoji")
    whole = api.get_options()
    assert api.set_options({**whole, "CLIP_stop_at_last_layers": 1, "nobody_knows_this": 3}) is None
    api.util_set_model("emoji-fast.safetensors", find_closest=False)
    assert api.util_get_current_model().startswith("emoji-fast")
    assert api.txt2img(prompt="a cat", **SMALL).info["sd_model_name"] == "emoji-fast"
    other = api.txt2img(prompt="a cat", override_settings={"sd_model_checkpoint": "emoji"}, **SMALL)
    assert other.info["sd_model_name"] == "emoji" and api.util_get_current_model().startswith("emoji-fast")
    api.set_options({"samples_format": "webp"})
    picture = api.txt2img(prompt="a cat", **SMALL).image
    assert picture.format == "WEBP"
    assert json.dumps(api.get_options())
