"""A set of pictures as people bring them, some 230: how many are read right or refused rightly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import foreign
from foreign import comment, graph, infotext, node, png, upscaled
from sfumato.errors import SfumatoError
from sfumato.provenance.read import read

LEAST_OF_227 = 215


@dataclass(frozen=True)
class Case:
    """A file that `make` writes into a folder, and what it says, or with which words it is refused."""

    name: str
    make: Callable[[Path], Path]
    program: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    prompts: tuple[str, str] = ("a house", "blurry")
    strength: float | None = None
    refused: str = ""

    def right(self, folder: Path) -> bool:
        """Whether the file is read as it is meant, or refused with the right words."""
        try:
            recipe = read(self.make(folder))
        except SfumatoError as error:
            return bool(self.refused) and self.refused in str(error)
        same = (recipe.program, recipe.prompt, recipe.negative) == (self.program, *self.prompts)
        near = recipe.strength == (None if self.strength is None else pytest.approx(self.strength))
        return not self.refused and same and near and self.options.items() <= recipe.options.items()


USUAL = {"steps": 20, "seed": 7, "cfg": 7.5, "width": 512, "height": 768}


def containers(text: str, name: str = "parameters") -> Iterator[tuple[str, Callable[[Path], Path]]]:
    """The ways in which programs put one text into a file."""
    yield "tEXt", lambda folder: png(folder / "a.png", **{name: text})
    yield "UTF-8 tEXt", lambda folder: foreign.raw_chunk(folder / "a.png", name, text.encode())
    yield "zTXt", lambda folder: foreign.raw_chunk(folder / "a.png", name, text.encode(), b"zTXt")
    yield "late tEXt", lambda folder: foreign.raw_chunk(folder / "a.png", name, text.encode(), late=True)
    yield "iTXt", lambda folder: foreign.itxt(folder / "a.png", name, text)


def comments(text: str) -> Iterator[tuple[str, Callable[[Path], Path]]]:
    for suffix in (".jpg", ".webp"):
        for code in ("le", "be", "bom", "ascii", "zero", "none"):
            yield (
                f"{code}{suffix}",
                lambda folder, suffix=suffix, code=code: comment(folder / f"a{suffix}", foreign.coded(text, code)),
            )


def web_uis() -> Iterator[Case]:
    versions = {
        None: "AUTOMATIC1111", "v1.2.1": "AUTOMATIC1111", "v1.5.2": "AUTOMATIC1111", "v1.8.0": "AUTOMATIC1111",
        "v1.10.1": "AUTOMATIC1111", "f0.0.17v1.8.0rc": "Forge", "f2.0.1v1.10.1-previous-1": "Forge",
        "f1.3.0-v1.10.1RC-latest-1038": "Forge", "neo": "Forge Neo", "classic": "Forge Classic",
    }  # fmt: skip
    for version, program in versions.items():
        text = infotext("a house, テスト", version=version, Sampler="Euler a")
        expected = {**USUAL, "sampler": "euler_ancestral", "schedule": "discrete"}
        for kind, make in (*list(containers(text))[1:3], *list(comments(text))[::5]):
            yield Case(f"{version} {kind}", make, program, expected, ("a house, テスト", "blurry"))
    text = infotext()
    for kind, make in (*containers(text), *comments(text)):
        yield Case(f"infotext {kind}", make, "AUTOMATIC1111", USUAL)
    for packed in (True, False):
        for channels in ("A", "RGB"):
            yield Case(
                f"pixels {packed} {channels}",
                lambda folder, packed=packed, channels=channels: foreign.hidden(
                    folder / "a.png", text, packed, channels
                ),
                "AUTOMATIC1111",
                USUAL,
            )
    yield from fields_of_web_uis()


def fields_of_web_uis() -> Iterator[Case]:
    again = {"Denoising_strength": 0.3, "Hires_upscale": 2}
    for text, expected in (
        (infotext(Hires_steps=10, **again), {"hires_steps": 33, "hires_scale": 2.0}),
        (infotext(Hires_upscaler="Latent", **again), {"hires_steps": 66, "hires_upscaler": "latent"}),
        (infotext(Hires_upscaler="4x-UltraSharp", **again), {"hires_upscaler": "lanczos"}),
        (infotext(Denoising_strength=0.5, Hires_resize="1024x1536"), {"hires_scale": 2.0}),
        (infotext(Size="1024x1536", Denoising_strength=0.5, First_pass_size="512x768"), {"hires_scale": 2.0}),
        (infotext(Sampler="DPM++ 2M", Schedule_type="Automatic"), {"schedule": "karras"}),
        (infotext(Sampler="DPM++ 2M SDE", Schedule_type="Automatic"), {"schedule": "exponential"}),
        (infotext(Sampler="DPM++ 2M Karras", version="v1.6.0"), {"schedule": "karras"}),
        (infotext(Sampler="DPM++ 2M", version="v1.6.0"), {"schedule": "discrete"}),
        (infotext(Sampler="DPM++ SDE", version=None), {"schedule": "discrete"}),
        (infotext(line='Lora hashes: "ink: 0a", TI hashes: "x: 1"'), {}),
        (infotext(line='Hashes: {"model": "0a", "lora:ink": "1, 2"}'), {}),
        (infotext(line="RNG: CPU"), {"rng": "cpu"}),
        (infotext(line="RNG: NV"), {"rng": "nv"}),
        (infotext(line="Clip skip: 2"), {"clip_skip": 2}),
        (infotext(line="Tiling: True"), {"tiling": "both"}),
        (infotext(line="Variation seed: 5, Variation seed strength: 0.2"), {"variation_seed": 5}),
        (infotext(line="Refiner: r [0123456789], Refiner switch at: 0.8"), {"switch_at": 0.8}),
        (infotext(line="Emphasis: No norm"), {"emphasis": "plain"}),
        (infotext() + "\nTemplate: a {house|hut}\nNegative Template: blurry", {}),
        (infotext().replace("\n", "\r\n"), {}),
        (infotext().replace("Negative prompt", " Negative prompt"), {}),
        (infotext(Sampler="euler_ancestral_karras", version="ComfyUI"), {"rng": "cpu", "schedule": "karras"}),
        (infotext(Sampler="dpmpp_2m_sde_gpu_karras", version=None), {"sampler": "dpmpp_2m_sde"}),
        (infotext(Sampler=None, line="App: SD.Next, Operations: txt2img", version="56a8aea"), {}),
        (infotext(line="App: SD.Next, Sampler sigma: karras", version="56a8aea"), {"schedule": "karras"}),
        (infotext(version=None, line='Civitai resources: [{"type":"checkpoint","modelName":"m"}]'), {}),
        (infotext(Sampler="DPM++ 2M SDE Karras", version="Fooocus v2.2.0"), {"prompt_syntax": "comfyui"}),
    ):
        program = "AUTOMATIC1111"
        for mark in ("SD.Next", "Civitai", "Fooocus"):
            program = mark if mark in text else program
        program = "ComfyUI" if "_karras" in text else program
        expected = {} if "First pass" in text else USUAL | expected
        yield Case(text[-40:], lambda folder, text=text: png(folder / "a.png", parameters=text), program, expected)
    for sampler, steps in (("Euler", 11), ("DDIM", 10), ("UniPC", 10)):
        text = infotext(Sampler=sampler, Denoising_strength=0.5)
        make = lambda folder, text=text: png(folder / "a.png", parameters=text)  # noqa: E731
        yield Case(f"on a picture {sampler}", make, "AUTOMATIC1111", USUAL, strength=steps / 20)


def graphs() -> Iterator[Case]:
    plain = json.dumps(graph())
    for kind, make in (*containers(plain, "prompt"), *comments(plain)):
        yield Case(f"graph {kind}", make, "ComfyUI", USUAL | {"prompt_syntax": "comfyui"})
    for names in ({"Model": f"prompt:{plain}"}, {"Make": f"Prompt: {plain}"}, {"ImageDescription": f"prompt: {plain}"}):
        for suffix in (".jpg", ".webp"):
            make = lambda folder, names=names, suffix=suffix: foreign.tag(folder / f"a{suffix}", **names)  # noqa: E731
            yield Case(f"graph in {[*names]}{suffix}", make, "ComfyUI", USUAL)
    made: list[tuple[dict[str, Any], tuple[int, int], dict[str, Any]]] = [
        (graph(sampler_name=name, scheduler=schedule), (512, 768), {"sampler": ours, "schedule": list_})
        for name, ours in (
            ("euler", "euler"), ("euler_ancestral", "euler_ancestral"), ("dpmpp_2m", "dpmpp_2m"), ("heun", "heun"),
            ("dpmpp_2m_sde_gpu", "dpmpp_2m_sde"), ("dpmpp_3m_sde", "dpmpp_3m_sde"), ("uni_pc_bh2", "unipc_bh2"),
            ("lcm", "lcm"), ("ddim", "ddim"), ("dpm_2_ancestral", "dpm_2_ancestral"), ("lms", "lms"),
        )
        for schedule, list_ in (("normal", "discrete"), ("karras", "karras"), ("sgm_uniform", "sgm_uniform"))
    ]  # fmt: skip
    made += [
        (graph(foreign.NET, positive=["9c", 0], negative=["9c", 1]), (512, 768), {}),
        (graph(denoise=0.8), (512, 768), {"steps": 25}),
        (graph(upscaled()), (1024, 1536), {"hires_scale": 2.0, "hires_steps": 16}),
        (graph(upscaled(False)), (1024, 1536), {"hires_scale": 2.0, "hires_upscaler": "lanczos"}),
        (graph(upscaled()), (512, 768), {}),
        (foreign.base_and_refiner(), (512, 768), {"steps": 25, "seed": 721}),
        (graph(seed=["50", 0]) | {"50": node("Seed Everywhere", seed=7)}, (512, 768), {}),
        (graph({"50": node("Reroute", **{"": ["6", 0]})}, positive=["50", 0]), (512, 768), {}),
        (graph({"50": node("LoraLoader", lora_name="l", model=["4", 0])}, model=["50", 0]), (512, 768), {}),
    ]
    made += [
        (foreign.by_nodes(node("KSamplerSelect", sampler_name="euler"), schedule), (512, 768), {"schedule": ours})
        for schedule, ours in (
            (node("KarrasScheduler", steps=20, sigma_max=14.614642, sigma_min=0.0291675, rho=7.0), "karras"),
            (node("ExponentialScheduler", steps=20, sigma_max=14.614642, sigma_min=0.0291675), "exponential"),
            (node("BasicScheduler", steps=20, scheduler="sgm_uniform", denoise=1, model=["4", 0]), "sgm_uniform"),
            (node("BetaSamplingScheduler", steps=20, alpha=0.6, beta=0.6, model=["4", 0]), "beta"),
            (node("AlignYourStepsScheduler", steps=20, denoise=1, model_type="SDXL"), "align_your_steps_xl"),
        )
    ]
    for place, (one, size, expected) in enumerate(made):
        make = lambda folder, one=one, size=size: png(folder / "a.png", size, prompt=one, workflow="{}")  # noqa: E731
        yield Case(f"graph {place}", make, "ComfyUI", USUAL | expected)
    both = infotext("unknown", "unknown", Seed=0, Sampler="euler_karras", version="ComfyUI")
    yield Case("both", lambda folder: png(folder / "a.png", parameters=both, prompt=graph()), "ComfyUI", USUAL)
    last = upscaled() | {"60": node("CLIPTextEncode", text="a tree", clip=["4", 1])}
    last["16"]["inputs"] |= {"positive": ["60", 0]}
    make = lambda folder: png(folder / "a.png", (1024, 1536), prompt=graph(last))  # noqa: E731
    yield Case("another second pass", make, "ComfyUI", {"width": 1024}, ("a tree", "blurry"), 0.5)
    under = {"13": node("VAEEncode", pixels=["14", 0], vae=["4", 2]), "14": node("LoadImage", image="sketch.png")}
    one = graph(under, latent_image=["13", 0], denoise=0.5)
    yield Case("on a picture", lambda folder: png(folder / "a.png", prompt=one), "ComfyUI", {"steps": 40}, strength=0.5)


def others() -> Iterator[Case]:
    for program, name, data in (
        ("SwarmUI", "parameters", foreign.SWARM), ("Fooocus", "parameters", foreign.FOOOCUS),
        ("Fooocus", "Comment", foreign.FOOOCUS),
        ("RuinedFooocus", "parameters", foreign.RUINED), ("a Hugging Face Space", "parameters", foreign.SPACE),
        ("tensor.art", "generation_data", foreign.TENSOR_ART), ("Stability Matrix", "parameters-json", foreign.MATRIX),
        ("AUTOMATIC1111", "parameters", foreign.PAYLOAD), ("InvokeAI", "invokeai_metadata", foreign.INVOKE),
        ("InvokeAI", "sd-metadata", foreign.INVOKE_2), ("InvokeAI", "Dream", foreign.DREAM),
    ):  # fmt: skip
        text = data if isinstance(data, str) else json.dumps(data)
        for kind, make in containers(text, name):
            yield Case(f"{program} {kind}", make, program, USUAL)
        if name == "parameters":
            for kind, make in list(comments(text))[::4]:
                yield Case(f"{program} {kind}", make, program, USUAL)
    for texts in (foreign.EASY, foreign.EASY_LABELS):
        yield Case("Easy", lambda folder, texts=texts: png(folder / "a.png", **texts), "Easy Diffusion", USUAL)
    yield Case("Easy", dict(comments(json.dumps(foreign.EASY)))["ascii.jpg"], "Easy Diffusion", USUAL)
    yield Case("Draw Things", lambda folder: foreign.xmp(folder / "a.png", foreign.DRAW_THINGS), "Draw Things", USUAL)
    novel = {"Software": "NovelAI", "Description": "a house", "Comment": json.dumps(foreign.NOVEL)}
    yield Case("NovelAI", lambda folder: png(folder / "a.png", **novel), "NovelAI", USUAL)
    yield Case("NovelAI webp", dict(comments(json.dumps(novel)))["ascii.webp"], "NovelAI", USUAL)
    yield Case("NovelAI pixels", lambda folder: foreign.hidden(folder / "a.png", json.dumps(novel)), "NovelAI", USUAL)
    both = lambda folder: png(folder / "a.png", parameters=foreign.SWARM, prompt=graph())  # noqa: E731
    yield Case("SwarmUI with a graph", both, "SwarmUI", USUAL)


def refusals() -> Iterator[Case]:
    for words, texts in (
        ("says nothing of how it was drawn", {}),
        ("says nothing of how it was drawn", {"Software": "gimp"}),
        ("has texts, but none", {"Comment": "Created with GIMP"}),
        ("has texts, but none", {"Title": "holiday", "Author": "me"}),
        ("not known here", {"parameters": {"answer": 42}}),
        ("not known here", {"Comment": {"answer": 42}}),
        ("ComfyUI's editor", {"workflow": {"nodes": [], "links": []}}),
        ("damaged", {"parameters": '{"prompt": "a house"'}),
        ("damaged", {"prompt": '{"3": {"class_type": "KSampler"'}),
        ("no JSON object", {"prompt": "[[]]"}),
        ("no sampler", {"prompt": {"1": node("LoadImage", image="x")}}),
    ):
        yield Case(words, lambda folder, texts=texts: png(folder / "a.png", **texts), refused=words)


def test_the_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [*web_uis(), *graphs(), *others(), *refusals()]
    wrong = []
    for place, case in enumerate(cases):
        folder = tmp_path / str(place)
        folder.mkdir()
        if not case.right(folder):
            wrong.append(case.name)
    right = len(cases) - len(wrong)
    with capsys.disabled():
        print(f"\nread right or refused rightly: {right} of {len(cases)} pictures")
    assert len(cases) >= 227 and right / len(cases) >= LEAST_OF_227 / 227, wrong
    assert not wrong
