"""What nodes draw, worked on in this process without a server."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sfumato
from server.comfyui.graphs import node, txt2img
from sfumato.diffusion.driver import answered
from sfumato.errors import SfumatoError, SfumatoWarning
from sfumato.pipeline.events import Picture
from sfumato.server.composite import Composite
from sfumato.server.jobs.inputs import Inputs
from sfumato.server.jobs.job import JobRequest
from sfumato.server.kinds.base import Report
from sfumato.server.kinds.graph.kind import Graph


@lru_cache(maxsize=2)
def loaded(name: str) -> sfumato.StableDiffusion:
    parts = Composite.of(name)
    return sfumato.load(parts.model, **parts.further)


class Bench:
    """Where graphs are worked on here."""

    def __init__(self, folder: Path):
        self.inputs = Inputs(folder)

    def model(self, name: str) -> sfumato.StableDiffusion:
        return loaded(name)


class Worked:
    """Works on graphs with one memory of what nodes gave."""

    def __init__(self, folder: Path):
        self.bench, self.kind = Bench(folder), Graph()
        self.reports: list[dict[str, Any]] = []

    def __call__(
        self, graph: dict[str, Any], done: int = 0, options: Mapping[str, Any] | None = None
    ) -> list[np.ndarray]:
        given = {"watermark": False, **(options or {})}
        request = JobRequest(kind="graph", how={"graph": graph}, options=given)
        events = list(answered(self.kind.begin(request, self.bench, done).work))
        self.reports = [dict(event.data) for event in events if isinstance(event, Report)]
        return [np.asarray(event.image).astype(int) for event in events if isinstance(event, Picture)]


@pytest.fixture
def work(tmp_path: Path) -> Worked:
    return Worked(tmp_path / "inputs")


def difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a - b).max())


def custom(graph: dict[str, Any], **nodes: dict[str, Any]) -> dict[str, Any]:
    return {**graph, **nodes}


def test_two_samplers_that_share_the_steps_draw_what_one_does(work: Worked) -> None:
    whole = txt2img(seed=5, steps=4)
    (one,) = work(whole)
    shared = dict(whole["3"]["inputs"])
    del shared["seed"], shared["denoise"]
    first = node("KSamplerAdvanced", **shared, add_noise="enable", noise_seed=5, start_at_step=0, end_at_step=2,
                 return_with_leftover_noise="enable")  # fmt: skip
    second = node("KSamplerAdvanced", **{**shared, "latent_image": ["a", 0]}, add_noise="disable", noise_seed=9,
                  start_at_step=2, end_at_step=10000, return_with_leftover_noise="disable")  # fmt: skip
    (two,) = work({**whole, "a": first, "3": second})
    assert difference(one, two) <= 1


def test_a_sampler_put_together_draws_what_a_whole_one_does(work: Worked) -> None:
    whole = txt2img(seed=5, steps=3)
    (one,) = work(whole)
    graph = {
        **whole,
        "3": node("SamplerCustomAdvanced", noise=["n", 0], guider=["g", 0], sampler=["s", 0], sigmas=["l", 0],
                  latent_image=["5", 0]),
        "n": node("RandomNoise", noise_seed=5),
        "g": node("CFGGuider", model=["4", 0], positive=["6", 0], negative=["7", 0], cfg=1.5),
        "s": node("KSamplerSelect", sampler_name="euler"),
        "l": node("BasicScheduler", model=["4", 0], scheduler="normal", steps=3, denoise=1.0),
    }  # fmt: skip
    (two,) = work(graph)
    assert difference(one, two) <= 1


def test_texts_that_are_combined_with_themselves_draw_as_one(work: Worked) -> None:
    whole = txt2img(seed=5)
    (one,) = work(whole)
    for made in (
        node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["6", 0]),
        node("ConditioningAverage", conditioning_to=["6", 0], conditioning_from=["6", 0], conditioning_to_strength=0.3),
        node("ConditioningSetAreaPercentage", conditioning=["6", 0], width=1.0, height=1.0, x=0.0, y=0.0, strength=2.0),
    ):
        graph = {**whole, "c": made}
        graph["3"] = node("KSampler", **{**whole["3"]["inputs"], "positive": ["c", 0]})
        (two,) = work(graph)
        assert difference(one, two) <= 1, made["class_type"]


def test_areas_hold_what_their_texts_say(work: Worked) -> None:
    graph = txt2img(seed=5, steps=6, side=256)
    graph["6"]["inputs"]["text"] = "a red heart on a plain background"
    graph["b"] = node("CLIPTextEncode", text="a green tree", clip=["4", 1])
    graph["left"] = node("ConditioningSetArea", conditioning=["6", 0], width=128, height=256, x=0, y=0, strength=1.0)
    graph["right"] = node("ConditioningSetArea", conditioning=["b", 0], width=128, height=256, x=128, y=0, strength=1.0)
    graph["c"] = node("ConditioningCombine", conditioning_1=["left", 0], conditioning_2=["right", 0])
    graph["3"]["inputs"]["positive"] = ["c", 0]
    (drawn,) = work(graph)
    redness = (drawn[..., 0] - drawn[..., 1]).mean(0)
    assert redness[:128].mean() > redness[128:].mean() + 20


def test_only_what_is_masked_is_drawn(work: Worked) -> None:
    picture = Image.new("RGB", (128, 128), (40, 60, 200))
    graph = txt2img(text="a red heart", seed=5, steps=3)
    graph |= {
        "p": node("LoadImage", image=work.bench.inputs.add(picture)),
        "m": node("SolidMask", value=0.0, width=128, height=128),
        "hole": node("SolidMask", value=1.0, width=64, height=128),
        "mask": node("MaskComposite", destination=["m", 0], source=["hole", 0], x=64, y=0, operation="add"),
        "e": node("VAEEncode", pixels=["p", 0], vae=["4", 2]),
        "5": node("SetLatentNoiseMask", samples=["e", 0], mask=["mask", 0]),
    }
    (drawn,) = work(graph)
    plain = np.asarray(picture).astype(int)
    assert np.abs(drawn[:, :32] - plain[:, :32]).mean() < 12  # as the autoencoder has it
    assert np.abs(drawn[:, 80:] - plain[:, 80:]).mean() > 30


def test_an_empty_mask_gives_the_picture_back(work: Worked) -> None:
    picture = Image.radial_gradient("L").resize((128, 128)).convert("RGB")
    graph = txt2img(seed=5, steps=2)
    graph |= {
        "p": node("LoadImage", image=work.bench.inputs.add(picture)),
        "e": node("VAEEncode", pixels=["p", 0], vae=["4", 2]),
        "m": node("SolidMask", value=0.0, width=128, height=128),
        "5": node("SetLatentNoiseMask", samples=["e", 0], mask=["m", 0]),
    }
    (drawn,) = work(graph)
    (through,) = work({**graph, "8": node("VAEDecode", samples=["e", 0], vae=["4", 2])})
    assert difference(drawn, through) <= 1


def test_a_lora_and_a_controlnet_draw_what_they_draw_in_txt2img(work: Worked) -> None:
    hint = Image.new("RGB", (128, 128))
    hint.paste((255, 255, 255), (32, 32, 96, 96))
    graph = txt2img(text="a red heart", seed=5)
    graph |= {
        "p": node("LoadImage", image=work.bench.inputs.add(hint)),
        "l": node("LoraLoader", model=["4", 0], clip=["4", 1], lora_name="sepia.safetensors", strength_model=0.8,
                  strength_clip=0.5),
        "cn": node("ControlNetLoader", control_net_name="emoji-edges"),
        "c": node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], control_net=["cn", 0],
                  image=["p", 0], strength=0.7, start_percent=0.0, end_percent=0.5),
    }  # fmt: skip
    graph["6"]["inputs"]["clip"] = graph["7"]["inputs"]["clip"] = ["l", 1]
    graph["3"]["inputs"] |= {"model": ["l", 0], "positive": ["c", 0], "negative": ["c", 1]}
    (drawn,) = work(graph)
    control = sfumato.Control("emoji-edges", hint, weight=0.7, end=0.5)
    same = loaded("emoji").txt2img(
        "a red heart", seed=5, steps=2, cfg=1.5, sampler="euler", schedule="discrete", width=128, height=128,
        lora="sepia:0.5:0.8", control=[control], emphasis="comfy", watermark=False,
    )  # fmt: skip
    assert difference(drawn, np.asarray(same[0]).astype(int)) <= 1


def test_a_part_of_a_graph_that_did_not_change_is_kept(work: Worked) -> None:
    graph = txt2img(seed=5)
    work(graph)
    graph["u"] = node("ImageScaleBy", image=["8", 0], upscale_method="lanczos", scale_by=0.5)
    graph["9"]["inputs"]["images"] = ["u", 0]
    (small,) = work(graph)
    assert small.shape == (64, 64, 3)
    assert {"3", "8"} <= set(next(one["cached"] for one in work.reports if "cached" in one))
    assert work.kind.forget() > 0
    work(graph)
    assert not {"3", "8"} & set(next(one["cached"] for one in work.reports if "cached" in one))


def test_a_graph_that_begins_again_shows_what_was_not_shown(work: Worked) -> None:
    graph = txt2img(seed=5, batch=2)
    both = work(graph)
    (second,) = work(graph, done=1)
    assert difference(both[1], second) == 0
    assert work.reports[-1] == {"outputs": {"9": {"pictures": [0, 2], "kind": "output"}}}


def test_a_larger_second_pass(work: Worked) -> None:
    graph = txt2img(text="a red heart", seed=5, steps=3)
    graph |= {
        "u": node("LatentUpscaleBy", samples=["3", 0], upscale_method="bilinear", scale_by=2.0),
        "k": node("KSampler", **{**graph["3"]["inputs"], "latent_image": ["u", 0], "denoise": 0.5}),
    }
    graph["8"]["inputs"]["samples"] = ["k", 0]
    (drawn,) = work(graph)
    assert drawn.shape == (256, 256, 3)
    middle = drawn[96:160, 96:160].reshape(-1, 3).mean(0)
    assert middle[0] > middle[1] + 40


def test_pictures_change_as_their_nodes_say(work: Worked) -> None:
    picture = Image.linear_gradient("L").resize((96, 64)).convert("RGB")
    name = work.bench.inputs.add(picture)
    graph = {
        "p": node("LoadImage", image=name),
        "i": node("ImageInvert", image=["p", 0]),
        "c": node("ImageCrop", image=["i", 0], width=32, height=16, x=8, y=4),
        "o": node("ImagePadForOutpaint", image=["c", 0], left=8, top=0, right=0, bottom=8, feathering=0),
        "m": node("MaskToImage", mask=["o", 1]),
        "s": node("SaveImage", images=["o", 0], filename_prefix="x"),
        "t": node("PreviewImage", images=["m", 0]),
    }
    padded, mask = work(graph)
    expected = 255 - np.asarray(picture).astype(int)[4:20, 8:40]
    assert padded.shape == (24, 40, 3)
    assert difference(padded[:16, 8:], expected) == 0
    assert mask[:16, 8:].max() == 0 and mask[16:].min() == 255 and mask[:, :8].min() == 255
    assert work.reports[-1]["outputs"]["t"]["kind"] == "temp"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"5": node("EmptyLatentImage", width=4096, height=128, batch_size=1)}, "width"),
        ({"5": node("EmptyLatentImage", width=8192, height=8192, batch_size=64)}, "the limit is"),
        ({"8": node("VAEDecode", samples=["5", 0], vae=["4", 2])}, "4 channels"),
    ],
)
def test_what_a_model_cannot_draw_is_said(work: Worked, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(SfumatoError, match=said):
        work({**txt2img(), **changed})


def test_empty_latents_take_the_nearest_size_that_the_model_draws(work: Worked) -> None:
    (drawn,) = work(txt2img() | {"5": node("EmptyLatentImage", width=136, height=104, batch_size=1)})
    assert drawn.shape == (96, 128, 3)


def test_latents_of_a_picture_take_the_nearest_size_too(work: Worked) -> None:
    graph = txt2img()
    graph["u"] = node("LatentUpscale", samples=["3", 0], upscale_method="bislerp", width=176, height=0, crop="disabled")
    graph["k"] = node("KSampler", **{**graph["3"]["inputs"], "latent_image": ["u", 0], "denoise": 0.5})
    graph["8"]["inputs"]["samples"] = ["k", 0]
    (drawn,) = work(graph)
    assert drawn.shape[0] % 32 == drawn.shape[1] % 32 == 0


def test_a_scale_that_clients_send_by_habit_does_not_break_the_picture(work: Worked) -> None:
    graph = txt2img(text="a red heart", seed=5, steps=4)
    (usual,) = work(graph)
    graph["3"]["inputs"]["cfg"] = 8.0
    (strong,) = work(graph)
    assert np.abs(strong - usual).mean() < 25


def test_a_safety_checker_that_the_operator_wants_sees_all_that_is_shown(
    work: Worked, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Everything:
        name = "everything"

        def __call__(self, image: Image.Image) -> bool:
            return True

    monkeypatch.setattr("sfumato.server.kinds.graph.nodes.images.safety_check", lambda model, settings: Everything())
    picture = work.bench.inputs.add(Image.new("RGB", (32, 32), "red"))
    graph = {"p": node("LoadImage", image=picture), "s": node("PreviewImage", images=["p", 0])}
    assert work(graph)[0].max() == 255
    with pytest.warns(SfumatoWarning, match="blanked"):
        assert work(graph, options={"safety": "model"})[0].max() == 0


def test_a_safety_checker_that_is_not_here_stops_the_graph(work: Worked) -> None:
    with pytest.raises(SfumatoError, match="safety checker"):
        work(txt2img(), options={"safety": "model"})
