"""What other programs left in their pictures: each kind of file that is read, and each that is rightly refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import foreign
from foreign import (
    DRAW_THINGS,
    DRAWN,
    DREAM,
    EASY,
    EASY_LABELS,
    FOOOCUS,
    INVOKE,
    INVOKE_2,
    MATRIX,
    NET,
    NOVEL,
    PAYLOAD,
    RUINED,
    SPACE,
    SWARM,
    TENSOR_ART,
    base_and_refiner,
    by_nodes,
    comment,
    graph,
    infotext,
    node,
    png,
    upscaled,
)
from sfumato.errors import SfumatoError
from sfumato.provenance.read import read
from sfumato.provenance.readers import a1111
from sfumato.provenance.readers.comfyui import of_graph
from sfumato.provenance.readers.graph import Graph
from sfumato.provenance.recipe import Recipe

ALL = {"steps": 20, "seed": 7, "cfg": 7.5, "width": 512, "height": 768}


def found(recipe: Recipe, program: str, **options: object) -> Recipe:
    """The recipe, after a look at what all of these files say."""
    assert recipe.program == program
    assert (recipe.prompt, recipe.negative) == ("a house", "blurry"), recipe
    assert (ALL | options).items() <= recipe.options.items(), recipe.options
    return recipe


def lost(recipe: Recipe, *words: str) -> None:
    for each in words:
        assert any(each in line for line in recipe.lost), (each, recipe.lost)


@pytest.mark.parametrize(
    ("texts", "program", "options"),
    [
        ({"parameters": SWARM}, "SwarmUI", {"sampler": "euler_ancestral", "schedule": "karras", "rng": "cpu"}),
        ({"parameters": FOOOCUS, "fooocus_scheme": "fooocus"}, "Fooocus", {"sampler": "dpmpp_2m_sde"}),
        ({"Comment": FOOOCUS}, "Fooocus", {"schedule": "karras", "prompt_syntax": "comfyui"}),
        ({"parameters": RUINED}, "RuinedFooocus", {"sampler": "euler", "schedule": "karras"}),
        ({"parameters": SPACE}, "a Hugging Face Space", {"sampler": "dpmpp_2m", "schedule": "karras"}),
        ({"generation_data": TENSOR_ART}, "tensor.art", {"sampler": "euler"}),
        ({"parameters-json": MATRIX}, "Stability Matrix", {"sampler": "euler_ancestral", "schedule": "karras"}),
        ({"parameters": PAYLOAD}, "AUTOMATIC1111", {"sampler": "euler"}),
        (EASY, "Easy Diffusion", {"sampler": "euler_ancestral"}),
        (EASY_LABELS, "Easy Diffusion", {"sampler": "euler_ancestral"}),
        ({"Software": "NovelAI", "Description": "a house", "Comment": NOVEL}, "NovelAI", {"schedule": "karras"}),
        ({"invokeai_metadata": INVOKE}, "InvokeAI", {"prompt_syntax": "invokeai"}),
        ({"sd-metadata": INVOKE_2, "Dream": DREAM}, "InvokeAI", {"sampler": "lms", "rng": "nv"}),
        ({"Dream": DREAM}, "InvokeAI", {"sampler": "lms"}),
    ],
)
def test_every_program_is_read_by_its_own_names(
    tmp_path: Path, texts: dict[str, Any], program: str, options: dict[str, object]
) -> None:
    recipe = found(read(png(tmp_path / "a.png", **texts)), program, **options)
    assert recipe.strength is None and recipe.model in ("m", "NovelAI", None)
    for name, text in texts.items():
        if isinstance(text, dict) and name != "Comment":  # the same in a file of its own
            (tmp_path / "a.json").write_text(json.dumps(text))
            found(read(tmp_path / "a.json"), program, **options)


def test_draw_things_and_what_lies_in_pixels(tmp_path: Path) -> None:
    recipe = found(read(foreign.xmp(tmp_path / "a.png", DRAW_THINGS)), "Draw Things", sampler="dpmpp_2m")
    assert recipe.strength is None
    assert read(foreign.xmp(tmp_path / "b.png", DRAW_THINGS | {"strength": 0.5})).strength == 0.5
    for packed in (True, False):
        for channels in ("A", "RGB"):
            path = foreign.hidden(tmp_path / "c.png", infotext(), packed, channels)
            found(read(path), "AUTOMATIC1111")
    novel = json.dumps({"Software": "NovelAI", "Description": "a house", "Comment": json.dumps(NOVEL)})
    found(read(foreign.hidden(tmp_path / "d.png", novel)), "NovelAI")


def test_weights_of_novelai_are_translated(tmp_path: Path) -> None:
    data = NOVEL | {"prompt": "{{cat}}, [dog], 1.5::fox::, (x) -0.8::feet::"}
    recipe = read(png(tmp_path / "a.png", Software="NovelAI", Comment=data))
    assert recipe.prompt == "(cat:1.103), (dog:0.9524), (fox:1.5), \\(x\\) (feet:-0.8)"
    old = {key: value for key, value in NOVEL.items() if key not in ("width", "height", "request_type")}
    recipe = read(png(tmp_path / "b.png", (512, 768), Description="a house", Comment=old | {"strength": 0.4}))
    lost(found(recipe, "NovelAI"), "strength 0.4, if it was drawn on a picture")


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({}, "says nothing of how it was drawn"),
        ({"Comment": "Created with GIMP"}, "has texts, but none that says in a known form how it was drawn: Comment"),
        ({"parameters": {"answer": 42}}, r"form that is not known here: parameters \(JSON with answer"),
        ({"workflow": {"nodes": [], "links": []}}, "workflow for ComfyUI's editor; save it in the API format"),
        ({"parameters": '{"sui_image_params": {'}, "damaged"),
        ({"prompt": "{"}, "damaged"),
        ({"prompt": "[[[" * 10_000}, "no JSON object"),
        ({"prompt": {"1": node("CheckpointLoaderSimple", ckpt_name="m")}}, "no sampler that is known here"),
    ],
)
def test_what_is_not_known_is_named_and_refused(tmp_path: Path, texts: dict[str, Any], words: str) -> None:
    with pytest.raises(SfumatoError, match=words):
        read(png(tmp_path / "a.png", **texts))


@pytest.mark.parametrize("data", [{"name": "x", "version": "1.0"}, {}, {"prompt": "a cat"}, {"a": {"b": 1}}])
def test_json_that_is_no_programs_is_refused(tmp_path: Path, data: dict[str, Any]) -> None:
    (tmp_path / "package.json").write_text(json.dumps(data))
    with pytest.raises(SfumatoError, match="form that is not known here"):
        read(tmp_path / "package.json")


def test_a_graph_in_any_wrapping(tmp_path: Path) -> None:
    posted = {"prompt": graph(), "client_id": "x"}
    (tmp_path / "a.json").write_text(json.dumps(posted))
    found(read(tmp_path / "a.json"), "ComfyUI", **DRAWN)
    text = json.dumps(graph())
    for path in (
        png(tmp_path / "a.png", prompt=text, workflow="{}"),
        comment(tmp_path / "a.jpg", json.dumps(posted), ifd0=True),
        comment(tmp_path / "b.jpg", foreign.coded(text, "le")),
        foreign.tag(tmp_path / "a.webp", Model=f"prompt:{text}", Make="workflow:{}"),
        foreign.tag(tmp_path / "c.jpg", Make=f"Prompt: {text}", ImageDescription="Workflow: {}"),
    ):
        found(read(path), "ComfyUI", **DRAWN)


# Kind B: what nodes do.


def test_a_node_with_two_outputs_leads_on_by_the_output(tmp_path: Path) -> None:
    made = graph(NET, positive=["9c", 0], negative=["9c", 1])
    recipe = found(read(png(tmp_path / "a.png", prompt=made)), "ComfyUI", **DRAWN)
    lost(recipe, "ControlNetApplyAdvanced")
    assert not any("combined" in line for line in recipe.lost)
    unknown = json.loads(json.dumps(made).replace("ControlNetApplyAdvanced", "Nobody's Node"))
    found(read(png(tmp_path / "a.png", prompt=unknown)), "ComfyUI", **DRAWN)


def test_zeros_are_no_prompt(tmp_path: Path) -> None:
    zeros = {"9c": node("ConditioningZeroOut", conditioning=["6", 0])}
    recipe = read(png(tmp_path / "a.png", prompt=graph(zeros, negative=["9c", 0])))
    assert (recipe.prompt, recipe.negative) == ("a house", "")
    lost(recipe, "zeros as the negative prompt")


def test_prompts_that_are_the_same_deserve_a_word(tmp_path: Path) -> None:
    recipe = read(png(tmp_path / "a.png", prompt=graph(negative=["6", 0])))
    assert recipe.negative == "a house"
    lost(recipe, "prompt and negative prompt are the same")
    assert read(png(tmp_path / "a.png", prompt=graph(negative=["6", 0], cfg=1))).lost == []


def test_texts_come_through_other_nodes(tmp_path: Path) -> None:
    further = {
        "30": node("PrimitiveStringMultiline", value="a "),
        "31": node("StringConcatenate", string_a=["30", 0], string_b="house", delimiter=""),
        "32": node("Reroute", **{"": ["6", 0]}),
        "33": node("ConditioningSetArea", conditioning=["32", 0], width=64),
        "34": node("CLIPTextEncode", text="a tree", clip=["4", 1]),
        "35": node("ConditioningCombine", conditioning_1=["33", 0], conditioning_2=["34", 0]),
        "36": node("GLIGENTextBoxApply", text="sun", clip=["4", 1], conditioning_to=["35", 0]),
    }
    made = graph(further, positive=["36", 0])
    made["6"]["inputs"]["text"] = ["31", 0]
    recipe = found(read(png(tmp_path / "a.png", prompt=made)), "ComfyUI", **DRAWN)
    lost(recipe, "GLIGENTextBoxApply", "ConditioningCombine", "ConditioningSetArea", "1 more text is combined")


def test_loaders_that_encode_both_prompts(tmp_path: Path) -> None:
    loader = {"40": node("Efficient Loader", ckpt_name="m.ckpt", positive="a house", negative="blurry",
                         empty_latent_width=512, lora_name="None")}  # fmt: skip
    made = graph(loader, positive=["40", 1], negative=["40", 2], model=["40", 0], without=("4", "6", "7"))
    recipe = found(read(png(tmp_path / "a.png", prompt=made)), "ComfyUI", **DRAWN)
    assert recipe.model == "m"


def test_circles_and_dead_links_end(tmp_path: Path) -> None:
    made = graph(positive=["6", 0], negative=["99", 0], model=["50", 0])
    made |= {"50": node("A", model=["51", 0]), "51": node("B", model=["50", 0])}
    made["6"]["inputs"]["text"] = ["52", 0]
    made |= {"52": node("C", text=["53", 0]), "53": node("D", text=["52", 0])}
    recipe = read(png(tmp_path / "a.png", prompt=made))
    assert (recipe.prompt, recipe.negative, recipe.model) == ("", "", None)


def test_loras_layers_and_a_vae(tmp_path: Path) -> None:
    further = {
        "41": node("LoraLoader", lora_name="x\\ink.safetensors", strength_model=0.8, model=["4", 0], clip=["4", 1]),
        "42": node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["41", 1]),
        "43": node("VAELoader", vae_name="v.pt"),
        "44": node("RescaleCFG", multiplier=0.7, model=["41", 0]),
    }
    made = graph(further, model=["44", 0])
    made["6"]["inputs"]["clip"] = made["7"]["inputs"]["clip"] = ["42", 0]
    made["8"]["inputs"]["vae"] = ["43", 0]
    recipe = found(read(png(tmp_path / "a.png", prompt=made)), "ComfyUI", clip_skip=2, cfg_rescale=0.7, **DRAWN)
    assert recipe.model == "m"
    lost(recipe, "VAE v")
    assert recipe.loras == ["ink:te=0.8:unet=0.8"] and "LoRA ink, strength 0.8" in recipe.rules


# Kind C: which sampler, which pass.
def test_noise_that_begins_lower_needs_no_picture(tmp_path: Path) -> None:
    recipe = read(png(tmp_path / "a.png", prompt=graph(denoise=0.8)))
    assert recipe.strength is None and recipe.levels == (5, 25) and recipe.options["steps"] == 25


@pytest.mark.parametrize("latent", [True, False])
def test_a_second_pass_is_a_hires_recipe(tmp_path: Path, latent: bool) -> None:
    made = graph(upscaled(latent, seed=99))
    recipe = found(read(png(tmp_path / "a.png", (1024, 1536), prompt=made)), "ComfyUI", hires_scale=2.0, hires_steps=16)
    assert recipe.options["hires_strength"] == 0.5
    assert recipe.options["hires_upscaler"] == ("latent" if latent else "lanczos")
    lost(recipe, "the seed of the second pass, 99", *([] if latent else ["4x.pth"]))
    # The picture's own size says which of the two was saved.
    first = found(read(png(tmp_path / "b.png", (512, 768), prompt=made)), "ComfyUI", **DRAWN)
    assert "hires_scale" not in first.options
    lost(first, "1 more samplers in the workflow (nodes 16)")
    alone = {key: one for key, one in made.items() if key != "9"}
    assert read(png(tmp_path / "c.png", prompt=alone)).options["hires_scale"] == 2.0


def test_a_second_pass_of_another_kind_needs_the_picture_of_the_first(tmp_path: Path) -> None:
    other = upscaled(seed=99) | {"60": node("CLIPTextEncode", text="a tree", clip=["4", 1])}
    other["16"]["inputs"]["positive"] = ["60", 0]
    recipe = read(png(tmp_path / "a.png", (1024, 1536), prompt=graph(other)))
    assert (recipe.prompt, recipe.strength, recipe.options["seed"]) == ("a tree", 0.5, 99)
    assert (recipe.options["width"], recipe.options["height"]) == (1024, 1536)
    assert recipe.source == "another sampler's picture in the same workflow, node 3"


def test_what_enlarged_the_finished_picture_is_named(tmp_path: Path) -> None:
    after = {"20": node("UpscaleModelLoader", model_name="4x.pth"),
             "21": node("ImageUpscaleWithModel", upscale_model=["20", 0], image=["8", 0])}  # fmt: skip
    made = graph(after)
    made["9"]["inputs"]["images"] = ["21", 0]
    lost(found(read(png(tmp_path / "a.png", (2048, 3072), prompt=made)), "ComfyUI", **DRAWN), "4x.pth) enlarged")
    made["21"] = node("FaceDetailer", image=["8", 0], steps=20, cfg=8, sampler_name="euler", seed=1, model=["4", 0])
    lost(found(read(png(tmp_path / "a.png", prompt=made)), "ComfyUI", **DRAWN), "FaceDetailer drew over")


def test_a_base_and_its_refiner(tmp_path: Path) -> None:
    recipe = found(read(png(tmp_path / "a.png", prompt=base_and_refiner())), "ComfyUI", steps=25, seed=721)
    assert (recipe.model, recipe.refiner, recipe.switch_step) == ("m", "refiner", 20)
    assert recipe.levels is None and recipe.strength is None and recipe.lost == []
    same = base_and_refiner()
    same["69"]["inputs"] |= {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0]}
    recipe = found(read(png(tmp_path / "a.png", prompt=same)), "ComfyUI", steps=25, seed=721)
    assert recipe.refiner is None and recipe.lost == []


def test_a_sampler_without_noise_gives_no_seed(tmp_path: Path) -> None:
    made = graph()
    made["3"] = base_and_refiner()["69"] | {}
    made["3"]["inputs"] |= {"latent_image": ["5", 0], "start_at_step": 0}
    assert "seed" not in read(png(tmp_path / "a.png", prompt=made)).options


def test_a_hand_over_by_steps_over_an_enlarged_picture(tmp_path: Path) -> None:
    second = upscaled(False)
    second["16"] = node("KSamplerAdvanced", add_noise="enable", noise_seed=8, steps=20, cfg=7.5, sampler_name="euler",
                        scheduler="normal", start_at_step=14, end_at_step=10_000, model=["4", 0], positive=["6", 0],
                        negative=["7", 0], latent_image=["14", 0])  # fmt: skip
    made = graph(second, without=("9",))
    recipe = found(read(png(tmp_path / "a.png", prompt=made)), "ComfyUI", hires_steps=20, hires_scale=2.0)
    assert recipe.options["hires_strength"] == 6 / 20


# Kind D: strength of the web UI.
def test_a_hires_pass_takes_all_its_steps() -> None:
    text = infotext(Denoising_strength=0.3, Hires_upscale=2, Hires_steps=10, Hires_upscaler="Latent")
    recipe = a1111.read(text)
    assert recipe.strength is None and recipe.options["hires_steps"] == 33
    assert int(recipe.options["hires_strength"] * 33 + 1e-9) == 10
    recipe = a1111.read(text.replace(", Hires steps: 10", "").replace("Steps: 20", "Steps: 12"))
    assert recipe.options["hires_steps"] == 40 and int(recipe.options["hires_strength"] * 40 + 1e-9) == 12
    tiny = a1111.read(text.replace("strength: 0.3", "strength: 0.001"))
    assert tiny.options["hires_steps"] == 1000
    lost(tiny, "a list has at most 1000")


@pytest.mark.parametrize(
    ("sampler", "strength", "steps"),
    [("Euler", 0.5, 11), ("DDIM", 0.5, 10), ("PLMS", 0.5, 10), ("UniPC", 0.5, 10), ("DPM++ 2M", 1, 20)],
)
def test_steps_on_a_picture_by_sampler(sampler: str, strength: float, steps: int) -> None:
    recipe = a1111.read(infotext(Sampler=sampler, Denoising_strength=strength))
    assert recipe.strength == steps / 20


def test_the_first_pass_of_2022() -> None:
    text = infotext(version=None, Size="1024x1024", Denoising_strength=0.7, First_pass_size="512x512")
    recipe = a1111.read(text)
    assert recipe.strength is None
    expected = {"width": 512, "height": 512, "hires_scale": 2.0, "hires_steps": 28}
    assert expected.items() <= recipe.options.items()
    recipe = a1111.read(text.replace("512x512", "0x0"))
    assert (recipe.options["width"], recipe.options["hires_scale"]) == (512, 2.0)
    lost(recipe, "the size of the first pass, which the program chose")


def test_a_second_pass_by_its_size_and_with_its_own_settings() -> None:
    text = infotext(Denoising_strength=0.5, Hires_resize="1024x0", Hires_sampler="DDIM", Hires_CFG_Scale=7.5,
                    Hires_upscaler="Latent (nearest-exact)", Hires_prompt='"a tall, red house"',
                    Hires_negative_prompt="fog", Hires_schedule_type="Use same scheduler")  # fmt: skip
    recipe = a1111.read(text)
    assert recipe.options["hires_scale"] == 2.0 and recipe.options["hires_upscaler"] == "latent"
    own = {"hires_sampler": "ddim", "hires_prompt": "a tall, red house", "hires_negative": "fog"}
    assert own.items() <= recipe.options.items() and "hires_schedule" not in recipe.options
    assert int(recipe.options["hires_strength"] * recipe.options["hires_steps"] + 1e-9) == 19
    lost(recipe, "Latent (nearest-exact)")
    assert not any("Hires CFG" in line for line in recipe.lost)


# Kind E: prompt languages by their programs.
def test_every_prompt_is_read_by_the_rules_of_its_program(tmp_path: Path) -> None:
    assert read(png(tmp_path / "a.png", prompt=graph())).options["prompt_syntax"] == "comfyui"
    assert read(png(tmp_path / "b.png", invokeai_metadata=INVOKE)).options["prompt_syntax"] == "invokeai"
    for version, syntax in (("v1.5.1", "a1111-1.5"), ("v1.10.1", "a1111"), ("f2.0.1v1.10.1-x", "a1111")):
        assert a1111.read(infotext(version=version)).options["prompt_syntax"] == syntax


# Kind F: defaults that follow the version.
@pytest.mark.parametrize(
    ("fields", "version", "schedule"),
    [
        ({"Sampler": "DPM++ 2M"}, "v1.5.1", "discrete"),
        ({"Sampler": "DPM++ 2M SDE"}, "v1.8.0", "discrete"),
        ({"Sampler": "DPM2 a"}, None, "discrete"),
        ({"Sampler": "Restart"}, "v1.6.0", "karras"),
        ({"Sampler": "DPM++ 2M Karras"}, "v1.5.1", "karras"),
        ({"Sampler": "DPM++ 2M SDE Exponential"}, "v1.6.0", "exponential"),
        ({"Sampler": "DPM++ 2M", "Schedule_type": "Automatic"}, "v1.10.1", "karras"),
        ({"Sampler": "DPM++ 2M SDE", "Schedule_type": "Automatic"}, "v1.10.1", "exponential"),
        ({"Sampler": "DPM++ 3M SDE", "Schedule_type": "Automatic"}, "f2.0.1v1.10.1", "exponential"),
        ({"Sampler": "Euler a", "Schedule_type": "Automatic"}, "neo", "discrete"),
        ({"Sampler": "DPM++ 2M", "Schedule_type": "Automatic"}, "classic", "karras"),
        ({"Sampler": "DPM++ 2M", "Schedule_type": "Uniform"}, "v1.9.4", "discrete"),
    ],
)
def test_the_list_of_levels_by_version(fields: dict[str, str], version: str | None, schedule: str) -> None:
    assert a1111.read(infotext(version=version, **fields)).options["schedule"] == schedule


@pytest.mark.parametrize(
    ("version", "line", "program"),
    [
        ("v1.8.0", "", "AUTOMATIC1111"), ("f2.0.1v1.10.1", "", "Forge"), ("neo", "", "Forge Neo"),
        ("classic", "", "Forge Classic"), ("56a8aea", "App: SD.Next", "SD.Next"), ("ComfyUI", "", "ComfyUI"),
        ("Fooocus v2.2.0", "", "Fooocus"), (None, "Civitai resources: []", "Civitai"),
    ],
)  # fmt: skip
def test_descendants_of_the_web_ui_by_name(version: str | None, line: str, program: str) -> None:
    assert a1111.read(infotext(version=version, line=line)).program == program


def test_a_refiner_of_the_web_ui() -> None:
    text = infotext(Refiner="sd_xl_refiner_1.0 [7440042bbd]", Refiner_switch_at=0.8)
    recipe = a1111.read(text)
    assert recipe.refiner == "sd_xl_refiner_1.0" and recipe.options["switch_at"] == 0.8
    old = a1111.read(text.replace("v1.10.1", "v1.6.0"))
    assert old.switch_step == 16 and "switch_at" not in old.options


CODES = ("le", "be", "ascii", "zero", "none")


def test_a_refiner_of_fooocus(tmp_path: Path) -> None:
    recipe = read(
        png(tmp_path / "a.png", parameters=FOOOCUS | {"refiner_model": "r.safetensors", "refiner_switch": 0.8})
    )
    assert (recipe.refiner, recipe.switch_step) == ("r", 16)


# Kind G: where text lies and how it is encoded.
@pytest.mark.parametrize("prompt", ["a café, Gérôme", "テスト", "a cat"])
def test_utf_8_wherever_it_was_written(tmp_path: Path, prompt: str) -> None:
    text = infotext(prompt)
    paths = [
        foreign.raw_chunk(tmp_path / "a.png", "parameters", text.encode()),
        foreign.raw_chunk(tmp_path / "b.png", "parameters", text.encode(), b"zTXt"),
        foreign.raw_chunk(tmp_path / "c.png", "parameters", text.encode(), late=True),
        foreign.itxt(tmp_path / "d.png", "parameters", text),
        *(comment(tmp_path / f"{code}.jpg", foreign.coded(text, code)) for code in CODES),
        comment(tmp_path / "e.webp", foreign.coded(text, "bom")),
        comment(tmp_path / "f.webp", text.encode(), ifd0=True),
    ]
    assert [read(path).prompt for path in paths] == [prompt] * len(paths)
    latin = foreign.raw_chunk(tmp_path / "g.png", "parameters", infotext("a café").encode("latin-1"))
    assert read(latin).prompt == "a café"


# Kind H: the settings are not on the last line.
def test_lines_after_the_settings() -> None:
    text = infotext("a red cat") + "\nTemplate: a {red|blue} cat\nNegative Template: blurry\nsomething else"
    recipe = a1111.read(text)
    assert (recipe.prompt, recipe.negative, recipe.options["steps"]) == ("a red cat", "blurry", 20)
    lost(recipe, "After the settings (something else)")
    assert a1111.read(infotext().replace("Negative", "  Negative")).negative == "blurry"
    assert a1111.read(infotext("Steps: 3, to the sea").replace("\n", "\r\n")).prompt == "Steps: 3, to the sea"


def test_values_that_are_json() -> None:
    line = 'Hashes: {"model": "a, b: c"}, Civitai resources: [{"type":"checkpoint","modelName":"n, o"}], Clip skip: 2'
    recipe = a1111.read(infotext(line=line, version=None, Model=None))
    assert (recipe.model, recipe.options["clip_skip"]) == ("n, o", 2)


# Kind I: two descriptions in one file.
def test_a_graph_decides_over_an_infotext(tmp_path: Path) -> None:
    text = infotext("unknown", "unknown", Sampler="euler_ancestral_karras", Seed=0, version="ComfyUI")
    recipe = found(read(png(tmp_path / "a.png", parameters=text, prompt=graph())), "ComfyUI", **DRAWN)
    assert recipe.model_hash == "0123456789"
    swarm = found(read(png(tmp_path / "b.png", parameters=SWARM, prompt=graph())), "SwarmUI", **DRAWN)
    assert swarm.model_hash == "abcd"


def test_names_of_comfyui_in_an_infotext() -> None:
    text = infotext(Sampler="euler_ancestral_karras", version=None).replace("CFG scale", "CFG Scale")
    recipe = a1111.read(text)
    expected = {"sampler": "euler_ancestral", "schedule": "karras", "cfg": 7.5, "rng": "cpu", "emphasis": "comfy"}
    assert recipe.program == "ComfyUI" and expected.items() <= recipe.options.items()
    assert a1111.read(infotext(Sampler="dpmpp_2m_sde_gpu_karras")).options["sampler"] == "dpmpp_2m_sde"


# Numbers without end.
@pytest.mark.parametrize("value", ["9" * 5000, "1e400", "NaN", "Infinity", "-1e99", "[]", "true", '"x"', "1.5"])
def test_numbers_beyond_all_bounds_are_lost(tmp_path: Path, value: str) -> None:
    text = json.dumps(graph()).replace('"steps": 20', f'"steps": {value}')
    try:
        recipe = read(png(tmp_path / "a.png", prompt=text))
    except SfumatoError:
        assert len(value) > 4000  # no JSON that Python reads
        return
    assert "steps" not in recipe.options and all(len(line) < 300 for line in recipe.lost)
    recipe = a1111.read(infotext(Steps=value, Seed=value))
    assert "steps" not in recipe.options


def test_a_seed_keeps_all_its_digits() -> None:
    assert a1111.read(infotext(Seed=2**63 - 1)).options["seed"] == 2**63 - 1
    assert "seed" not in a1111.read(infotext(Seed=-1)).options


def test_nodes_that_are_a_sampler_or_a_list_of_levels_say_their_options() -> None:
    sampler = node("SamplerDPMPP_2M_SDE", solver_type="heun", eta=0.5, s_noise=1.0, noise_device="gpu")
    levels = node("KarrasScheduler", steps=20, sigma_max=10.0, sigma_min=0.0291675, rho=5.0)
    recipe = of_graph(Graph(by_nodes(sampler, levels)))
    assert recipe.options["sampler"] == "dpmpp_2m_sde" and recipe.options["schedule"] == "karras"
    assert recipe.options["sampler_options"] == {"solver": "heun", "eta": 0.5, "rho": 5.0}
    assert "KarrasScheduler: noise levels from 0.0291675 to 10; the model's own are taken" in recipe.lost
    one, two = (
        of_graph(Graph(by_nodes(node("SamplerEulerAncestral", eta=9e9), node("SDTurboScheduler", steps=n))))
        for n in (1, 2)
    )
    assert one.options["schedule"] == "trailing" and "sampler_options" not in one.options
    assert any("eta is 9000000000.0" in line for line in one.lost)
    assert not any("SDTurbo" in line for line in one.lost) and any("SDTurbo" in line for line in two.lost)
