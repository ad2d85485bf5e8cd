"""Pictures drawn again from the settings of several programs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import sfumato
from sfumato.api import StableDiffusion
from sfumato.errors import SfumatoError
from sfumato.pipeline.events import Picture, Progress
from sfumato.pipeline.sampling import levels_of
from sfumato.provenance.read import read
from sfumato.provenance.readers import a1111, invokeai
from sfumato.provenance.readers.comfyui import of_graph
from sfumato.provenance.readers.graph import Graph
from sfumato.provenance.recipe import Recipe
from sfumato.settings.settings import Settings
from sfumato.tasks.replay import replay
from sfumato.tasks.txt2img import switch_level

SMALL = {"steps": 4, "width": 16, "height": 16, "watermark": False}

A1111 = """a (red:1.2) cat, <lora:ink:0.8>
second line
Negative prompt: blurry,
ugly
Steps: 20, Sampler: DPM++ 2M Karras, CFG scale: 6.5, Seed: 965400086, Size: 512x768, Model hash: 6ce0161689, \
Model: v1-5-pruned-emaonly, Clip skip: 2, ENSD: 31337, Eta: 0.5, ControlNet 0: "Module: canny, Weight: 1", \
Version: v1.8.0"""

COMFY = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 42, "steps": 20, "cfg": 8.0, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1.0,
            "model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd\\\\v1-5.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 640, "height": 448, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": ["12", 0], "clip": ["11", 0]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "text, watermark", "clip": ["11", 0]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
    "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "ink.safetensors", "model": ["4", 0], "clip": ["4", 1]}},
    "11": {"class_type": "CLIPSetLastLayer", "inputs": {"stop_at_clip_layer": -2, "clip": ["10", 1]}},
    "12": {"class_type": "PrimitiveNode", "inputs": {"value": "a glass bottle"}},
}  # fmt: skip

INVOKE = {
    "app_version": "4.2.0", "generation_mode": "txt2img", "positive_prompt": "a cat++ on a (red mat)1.3, old-",
    "negative_prompt": "", "width": 512, "height": 640, "seed": 7, "rand_device": "cpu", "cfg_scale": 7.5, "steps": 30,
    "scheduler": "dpmpp_2m_k", "clip_skip": 1, "model": {"name": "stable-diffusion-v1-5", "base": "sd-1"},
    "loras": [{"weight": 0.5}], "seamless_x": True, "seamless_y": True,
}  # fmt: skip


@pytest.fixture
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


@pytest.mark.parametrize(
    "options",
    [
        {"cfg": 5.5, "sampler": "Euler a", "seed": 7, "clip_skip": 2},
        {"rng": "nv", "sampler": "dpmpp_sde", "schedule": "exponential", "seed": 7},
        {"variation_seed": 3, "variation_strength": 0.3, "seed": 7, "cfg_rescale": 0.5},
        {"tiling": "both", "emphasis": "comfy", "prompt_syntax": "a1111", "seed": 7},
        {"hires_scale": 2, "hires_strength": 0.6, "hires_upscaler": "lanczos", "seed": 7},
        {"cfg_pp": True, "cfg_interval": "20%-80%", "sampler": "euler", "seed": 7},
        {"apg": True, "apg_eta": 0.5, "apg_momentum": -0.2, "threshold": 99, "pag": 2.0, "seed": 7},
        {"sampler": "ddim", "schedule": "karras", "sampler_options": {"eta": 0.5, "rho": 3.5}, "seed": 7},
        {"sampler": "dpm_2_ancestral", "sigmas": [14.6146, 7, 2 / 3, 0.1, 0], "seed": 7},
    ],
)
def test_our_own_pictures_come_back_bit_by_bit(sd: StableDiffusion, options: dict, tmp_path: Path) -> None:
    drawn = sd.txt2img("a (cat:1.2)", "dog", **options, **SMALL)
    sfumato.images.files.save(drawn.images[0], tmp_path / "a.png", drawn.infotexts[0])
    again = sd.replay(tmp_path / "a.png")
    assert again.images == drawn.images and again.infotexts == drawn.infotexts
    assert read(tmp_path / "a.png").lost == []


def test_a_picture_on_a_picture_needs_that(sd: StableDiffusion, tmp_path: Path) -> None:
    under = Image.radial_gradient("L").resize((16, 16)).convert("RGB")
    drawn = sd.img2img(under, "a cat", strength=0.5, seed=4, steps=4)
    sfumato.images.files.save(drawn.images[0], tmp_path / "a.webp", drawn.infotexts[0])
    assert sd.replay(tmp_path / "a.webp", under).images == drawn.images
    drawn = sd.txt2img("a cat", seed=4, **SMALL)
    sfumato.images.files.save(drawn.images[0], tmp_path / "b.webp", drawn.infotexts[0])
    recipe = read(tmp_path / "b.webp")
    replay(sd, recipe, under)
    assert len(recipe.lost) == 1 and recipe.lost[0].startswith("the picture that was given")
    with pytest.raises(
        SfumatoError, match="drawn on top of another picture, which its file does not hold; give that too"
    ):
        sd.replay(tmp_path / "a.webp")


def test_the_web_ui() -> None:
    recipe = a1111.read(A1111)
    assert recipe.program == "AUTOMATIC1111"
    assert (recipe.prompt, recipe.negative) == ("a (red:1.2) cat, <lora:ink:0.8>\nsecond line", "blurry,\nugly")
    expected = {
        "steps": 20, "cfg": 6.5, "seed": 965400086, "width": 512, "height": 768, "clip_skip": 2, "rng": "nv",
        "sampler": "dpmpp_2m", "schedule": "karras", "emphasis": "a1111",
    }  # fmt: skip
    assert expected.items() <= recipe.options.items()
    assert (recipe.model, recipe.model_hash, recipe.strength) == ("v1-5-pruned-emaonly", "6ce0161689", None)
    assert recipe.lost == [
        "Eta (DPM++ 2M has no option 'eta'; it has rho)", "ENSD (31337)",
        "ControlNet 0 (Module: canny, Weight: 1)",
    ]  # fmt: skip
    assert any("CUDA GPU" in rule for rule in recipe.rules)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ("Sampler: Euler, RNG: CPU", {"rng": "cpu"}),
        ("Sampler: Euler a, Eta: 0.5, Sigma noise: 1.1", {"sampler_options": {"eta": 0.5, "s_noise": 1.1}}),
        ("Sampler: DDIM, Eta DDIM: 1", {"sampler_options": {"eta": 1.0}}),
        ("Sampler: UniPC, UniPC variant: bh2, UniPC order: 3", {"sampler_options": {"variant": "bh2", "order": 3}}),
        ("Sampler: DPM++ 2M Karras, Schedule rho: 5", {"sampler_options": {"rho": 5.0}}),
        ("Sampler: Euler, RNG: NV", {"rng": "nv"}),
        ("Sampler: DPM++ 2M, Schedule type: Automatic", {"sampler": "dpmpp_2m"}),
        ("Sampler: DPM++ 2M, Schedule type: Exponential", {"schedule": "exponential"}),
        ("Sampler: Euler, Emphasis: No norm", {"emphasis": "plain"}),
        ("Sampler: Euler, Tiling: True", {"tiling": "both"}),
        ("Sampler: Euler, Variation seed: 5, Variation seed strength: 0.2", {"variation_seed": 5}),
    ],
)
def test_what_fields_of_the_web_ui_mean(fields: str, found: dict[str, object]) -> None:
    recipe = a1111.read(f"a cat\nSteps: 8, {fields}, CFG scale: 7, Seed: 1, Size: 64x64, Version: v1.10.1")
    assert found.items() <= recipe.options.items()


def test_one_step_more_on_a_picture_of_the_web_ui() -> None:
    text = "a cat\nSteps: 20, Sampler: Euler, Seed: 1, Denoising strength: 0.5, Version: f2.0.1v1.10.1"
    recipe = a1111.read(text)
    assert recipe.program == "Forge" and recipe.strength == 11 / 20
    assert a1111.read(text.replace("f2.0.1v1.10.1", "sfumato 0.1")).strength == 0.5


def test_a_second_pass_of_the_web_ui() -> None:
    text = "a cat\nSteps: 20, Sampler: Euler, Seed: 1, Denoising strength: 0.5, Hires upscale: 2, Hires steps: 10, "
    recipe = a1111.read(f"{text}Hires upscaler: 4x-UltraSharp, Version: v1.10.1")
    expected = {"hires_scale": 2, "hires_steps": 20, "hires_strength": 0.5, "hires_upscaler": "lanczos"}
    assert expected.items() <= recipe.options.items() and recipe.strength is None
    assert "the upscaler of the second pass (4x-UltraSharp); Lanczos' filter is taken" in recipe.lost


def test_unknown_samplers_are_said() -> None:
    recipe = a1111.read("a cat\nSteps: 8, Sampler: Warp Drive, Seed: x, Size: 64x64")
    assert recipe.lost[:2] == [
        "seed 'x' is no number",
        "sampler 'Warp Drive' is not known here; the usual one is taken",
    ]
    assert "sampler" not in recipe.options


def test_a_workflow() -> None:
    recipe = of_graph(Graph(COMFY))
    assert (recipe.prompt, recipe.negative) == ("a glass bottle", "text, watermark")
    expected = {
        "seed": 42, "steps": 20, "cfg": 8.0, "sampler": "dpmpp_2m", "schedule": "karras", "clip_skip": 2, "width": 640,
        "height": 448, "rng": "cpu", "emphasis": "comfy",
    }  # fmt: skip
    assert expected.items() <= recipe.options.items()
    assert recipe.model == "v1-5" and recipe.strength is None
    assert recipe.loras == ["ink:te=1:unet=1"]


def test_loras_that_are_here_are_used_and_the_others_said(sd: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    def here(name: str, kinds: tuple[str, ...]) -> Path:
        if name != "ink":
            raise SfumatoError(f"no {name}")
        return Path("ink.safetensors")

    monkeypatch.setattr("sfumato.tasks.replay.find_adapter", here)
    monkeypatch.setattr("sfumato.tasks.replay.txt2img", lambda model, settings, refiner: iter(()))
    given = [{"model": {"name": "ink"}, "weight": 0.5}, {"lora": {"model_name": "oil"}, "weight": 1}]
    recipe = invokeai.of_data(INVOKE | {"width": 64, "height": 64, "loras": given})
    assert recipe.loras == ["ink:te=0.5:unet=0.5", "oil:te=1:unet=1"]
    settings, _ = replay(sd, recipe)
    assert settings.lora == ("ink:te=0.5:unet=0.5",)
    assert "the LoRA oil, which is not in the model folders" in recipe.lost


def test_a_workflow_that_begins_with_a_picture() -> None:
    graph = json.loads(json.dumps(COMFY))
    graph["3"]["inputs"] |= {"denoise": 0.6, "latent_image": ["13", 0], "steps": 12, "scheduler": "normal"}
    graph["13"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["14", 0], "vae": ["4", 2]}}
    graph["14"] = {"class_type": "LoadImage", "inputs": {"image": "sketch.png"}}
    recipe = of_graph(Graph(graph))
    assert (recipe.options["steps"], recipe.strength, recipe.source) == (20, 0.6, "sketch.png")
    assert recipe.options["schedule"] == "discrete"


def test_a_workflow_of_parts() -> None:
    graph = {
        "1": {"class_type": "SamplerCustomAdvanced", "inputs": {
            "noise": ["2", 0], "guider": ["3", 0], "sampler": ["4", 0], "sigmas": ["5", 0], "latent_image": ["6", 0],
        }},
        "2": {"class_type": "RandomNoise", "inputs": {"noise_seed": 77}},
        "3": {"class_type": "CFGGuider", "inputs": {
            "cfg": 4.5, "positive": ["7", 0], "negative": ["8", 0], "model": ["9", 0],
        }},
        "4": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler_ancestral"}},
        "5": {"class_type": "BasicScheduler", "inputs": {
            "scheduler": "sgm_uniform", "steps": 9, "denoise": 1, "model": ["9", 0],
        }},
        "6": {"class_type": "EmptySD3LatentImage", "inputs": {"width": 1024, "height": 1024, "batch_size": 2}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox"}},
        "8": {"class_type": "CLIPTextEncode", "inputs": {"text": ""}},
        "9": {"class_type": "UNETLoader", "inputs": {"unet_name": "sd3.5_medium.safetensors"}},
    }  # fmt: skip
    recipe = of_graph(Graph(graph))
    expected = {
        "seed": 77,
        "cfg": 4.5,
        "sampler": "euler_ancestral",
        "schedule": "sgm_uniform",
        "steps": 9,
        "width": 1024,
    }
    assert expected.items() <= recipe.options.items()
    assert (recipe.prompt, recipe.model) == ("a fox", "sd3.5_medium")
    assert any("other pictures of the batch" in lost for lost in recipe.lost)


def test_invokeai() -> None:
    recipe = invokeai.of_data(INVOKE)
    assert recipe.prompt == "a cat++ on a (red mat)1.3, old-" and recipe.options["prompt_syntax"] == "invokeai"
    expected = {
        "width": 512, "height": 640, "seed": 7, "cfg": 7.5, "steps": 30, "sampler": "dpmpp_2m", "schedule": "karras",
        "clip_skip": 2, "rng": "cpu", "tiling": "both",
    }  # fmt: skip
    assert expected.items() <= recipe.options.items()
    assert recipe.model == "stable-diffusion-v1-5" and recipe.lost == [
        "words that weigh less than 1 are mixed with the prompt without them there", "loras: of no name",
    ]  # fmt: skip


def png(path: Path, **texts: str) -> Path:
    chunks = PngInfo()
    for name, text in texts.items():
        chunks.add_text(name, text)
    Image.new("RGB", (8, 8)).save(path, pnginfo=chunks)
    return path


def test_every_program_is_known_by_its_file(tmp_path: Path) -> None:
    for texts, program in (
        ({"parameters": A1111}, "AUTOMATIC1111"),
        ({"prompt": json.dumps(COMFY), "workflow": "{}"}, "ComfyUI"),
        ({"invokeai_metadata": json.dumps(INVOKE)}, "InvokeAI"),
    ):
        assert read(png(tmp_path / "a.png", **texts)).program == program
    exif = Image.Exif()
    exif[0x0110] = f"prompt:{json.dumps(COMFY)}"
    Image.new("RGB", (8, 8)).save(tmp_path / "a.webp", exif=exif)
    assert read(tmp_path / "a.webp").program == "ComfyUI"
    (tmp_path / "a.txt").write_text(A1111)
    (tmp_path / "a.json").write_text(json.dumps(COMFY))
    assert (read(tmp_path / "a.txt").program, read(tmp_path / "a.json").program) == ("AUTOMATIC1111", "ComfyUI")


def test_bad_files_are_refused(tmp_path: Path) -> None:
    for texts, words in (
        ({}, "says nothing of how it was drawn"),
        ({"prompt": "{"}, "are damaged"),
        ({"prompt": "[" * 100_000}, "no JSON object"),
        ({"prompt": "[[]]"}, "are no JSON object"),
        ({"prompt": "{}"}, "in a form that is not known here"),
    ):
        with pytest.raises(SfumatoError, match=words):
            read(png(tmp_path / "a.png", **texts))
    with pytest.raises(SfumatoError, match="there is no file"):
        read(tmp_path / "no.png")
    (tmp_path / "b.json").write_text('{"nodes": []}')
    with pytest.raises(SfumatoError, match="save it in the API format"):
        read(tmp_path / "b.json")
    (tmp_path / "c.txt").write_text(" \n")
    with pytest.raises(SfumatoError, match="says nothing of how it was drawn"):
        read(tmp_path / "c.txt")


def test_a_hires_pass_of_the_web_ui_takes_all_its_steps(sd: StableDiffusion) -> None:
    text = (
        "a cat\nSteps: 12, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 16x16, Denoising strength: 0.3, "
        "Hires upscale: 2, Hires steps: 10, Hires upscaler: Latent, Version: v1.10.1"
    )
    settings, events = replay(sd, a1111.read(text))
    steps = [event for event in events if isinstance(event, Progress)]
    assert (settings.hires_steps, len(steps)) == (33, 22)


def test_a_second_pass_goes_on_with_the_prompt(sd: StableDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    read_texts: list[str] = []
    encode = type(sd.encode).__call__
    monkeypatch.setattr(
        type(sd.encode),
        "__call__",
        lambda self, spans, *args: (
            read_texts.append(" ".join(str(one.text) for each in spans for one in each)) or encode(self, spans, *args)
        ),
    )
    sd.txt2img("[a cat:a dog:0.5]", hires_scale=2, hires_strength=0.5, seed=1, steps=6, width=16, height=16)
    assert "a cat" in read_texts[0] and "a cat" not in read_texts[-1] and "a dog" in read_texts[-1]


def test_a_strength_of_an_api_can_be_denied(sd: StableDiffusion) -> None:
    text = "a cat\nSteps: 4, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 16x16, Denoising strength: 0.7"
    with pytest.raises(SfumatoError, match="--from-words"):
        replay(sd, a1111.read(text))
    recipe = a1111.read(text)
    settings, _ = replay(sd, recipe, from_words=True)
    assert settings.seed == 5 and any("means nothing" in rule for rule in recipe.rules)


def test_part_of_a_list_over_nothing_is_drawn_from_words(sd: StableDiffusion) -> None:
    recipe = Recipe("ComfyUI", "a cat", options={"steps": 10, "seed": 3, "width": 16, "height": 16}, levels=(2, 10))
    settings, events = replay(sd, recipe)
    whole = levels_of(Settings.of(sd.spec, "a cat", steps=10, seed=3, width=16, height=16), sd.table_for(16, 16))
    assert settings.sigmas == (*whole.tolist()[2:10], 0.0)
    assert sum(isinstance(event, Progress) for event in events) == 8
    with pytest.raises(SfumatoError, match="which are none"):
        replay(sd, Recipe("ComfyUI", "a cat", options={"steps": 10}, levels=(10, 10)))


def test_a_refiner_goes_on_at_its_step(sd: StableDiffusion) -> None:
    options = {"steps": 10, "seed": 3, "width": 16, "height": 16, "sampler": "euler"}
    recipe = Recipe("ComfyUI", "a cat", options=dict(options), refiner="another", switch_step=8)
    settings, events = replay(sd, recipe, refiner=sd)
    assert settings.switch_at is not None
    level = switch_level(sd.table_for(16, 16), settings.switch_at)
    sigmas = levels_of(settings, sd.table_for(16, 16)).tolist()
    assert sigmas[8] < level < sigmas[7]
    assert recipe.lost == [] and any(isinstance(event, Picture) for event in events)
    recipe = Recipe("ComfyUI", "a cat", options=dict(options), refiner="another", switch_step=8)
    replay(sd, recipe)
    assert recipe.lost == ["the refiner another, which drew from step 8 on; give it with --refiner"]


def test_the_command(run: Callable, refused: Callable, model: str) -> None:
    options = ("--model", model, "--steps", 2, "--size", "16x16", "--seed", 3)
    assert run("txt2img", "a cat", *options, "--out", "a.png").exit_code == 0
    done = run("replay", "a.png", "--model", model, "--out", "b.png", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["settings"]["program"] == "sfumato"
    assert "drawn by sfumato\nrule: " in done.stderr
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    refused(run("replay", "a.png"), "drawn by tiny", "not on this machine; give one with --model")
    explained = json.loads(run("replay", "a.png", "--explain").stdout)
    assert explained["prompt"] == "a cat" and explained["options"]["seed"] == 3
    Image.new("RGB", (8, 8)).save("c.png")
    refused(run("replay", "c.png"), "says nothing of how it was drawn")
