"""The way from one picture to another."""

import json
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from PIL import Image

import sfumato
from sfumato.api import StableDiffusion
from sfumato.errors import SfumatoError
from sfumato.images.video import save_motion
from sfumato.tasks.interpolate import Frame, frames_between

SMALL = {"steps": 3, "width": 16, "height": 16, "watermark": False, "sampler": "euler"}


@pytest.fixture
def sd(model: str) -> StableDiffusion:
    return sfumato.load(model)


def test_frames_run_evenly_from_the_first_key_to_the_last() -> None:
    assert frames_between(2, 3, False) == [Frame(0, 1, 0), Frame(0, 1, 0.5), Frame(0, 1, 1)]
    assert frames_between(3, 5, False)[2:] == [Frame(1, 2, 0), Frame(1, 2, 0.5), Frame(1, 2, 1)]
    assert frames_between(2, 4, True) == [Frame(0, 1, 0), Frame(0, 1, 0.5), Frame(1, 0, 0), Frame(1, 0, 0.5)]
    shares = [frame.start + frame.share for frame in frames_between(4, 100, False)]
    assert shares == pytest.approx([3 * k / 99 for k in range(100)])


def test_the_ends_are_the_pictures_themselves(sd: StableDiffusion) -> None:
    way = sd.interpolate(["a cat", "a dog"], seeds=[3, 9], frames=4, **SMALL)
    first = sd.txt2img("a cat", seed=3, **SMALL)
    last = sd.txt2img("a dog", seed=9, **SMALL)
    assert (way.images[0], way.images[-1]) == (first.images[0], last.images[0])
    assert len(way.images) == 4 and len({image.tobytes() for image in way.images}) == 4
    assert "Frame: 2 of 4" in way.infotexts[1] and "Towards prompt: a dog" in way.infotexts[1]


def test_one_prompt_through_seeds_and_prompts_with_one_seed(sd: StableDiffusion) -> None:
    seeds = sd.interpolate(["a cat"], seeds=[3, 9], frames=3, **SMALL).images
    middle = sd.txt2img("a cat", seed=3, variation_seed=9, variation_strength=0.5, **SMALL).images[0]
    assert seeds[1] == middle
    words = sd.interpolate(["a cat", "a dog", "a cat"], frames=3, seed=3, **SMALL).images
    assert words[0] == words[2] != words[1] == sd.txt2img("a dog", seed=3, **SMALL).images[0]


def test_prompts_that_change_over_the_steps_are_mixed_step_by_step(sd: StableDiffusion) -> None:
    way = sd.interpolate(["a [cat:dog:0.5]", "a dog"], frames=2, seed=3, **SMALL).images
    assert way[0] == sd.txt2img("a [cat:dog:0.5]", seed=3, **SMALL).images[0]


@pytest.mark.parametrize(
    ("prompts", "options", "words"),
    [
        (["a cat"], {}, "lead nowhere"),
        (["a cat", "a dog"], {"seeds": [1, 2, 3]}, "lead nowhere"),
        (["a cat", "a dog"], {"frames": 1}, "frames is 1"),
        (["a cat"], {"seeds": [1, "7"]}, "seed 2 is '7'"),
        (["a cat"], {"seeds": [-1, 7]}, "seed 1 is -1"),
        (["a cat", "a cat AND a dog"], {}, "equally many parts"),
        (["a cat", "a dog " * 90], {}, "only prompts of as many windows"),
    ],
)
def test_what_leads_nowhere_is_refused(sd: StableDiffusion, prompts: list[str], options: dict, words: str) -> None:
    with pytest.raises(SfumatoError, match=words):
        sd.interpolate(prompts, **options, **SMALL)


def test_moving_pictures(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (33, 20), colour) for colour in ("red", "green", "blue")]
    for suffix in (".gif", ".webp", ".png"):
        save_motion(frames, tmp_path / f"a{suffix}", fps=10)
        with Image.open(tmp_path / f"a{suffix}") as image:
            assert image.n_frames == 3 and image.size == (33, 20)
            image.seek(1)
            image.load()
            assert image.info["duration"] == 100
            assert image.convert("RGB").getpixel((5, 5)) == (0, 128, 0)
    save_motion(frames, tmp_path / "a.mp4", fps=10)
    with av.open(str(tmp_path / "a.mp4")) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert (len(pictures), pictures[0].shape, container.streams.video[0].average_rate) == (3, (20, 32, 3), 10)
        assert abs(pictures[2][5, 5].astype(int) - (0, 0, 255)).max() < 30
    with pytest.raises(SfumatoError, match=r"cannot write moving pictures as '.avi'"):
        save_motion(frames, tmp_path / "a.avi", fps=10)


def test_mp4_without_pyav_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(SfumatoError, match=r"pip install 'sfumato\[video\]', or write .gif"):
        save_motion([Image.new("RGB", (8, 8))], tmp_path / "a.mp4", fps=10)


def test_the_command(run: Callable, refused: Callable, model: str, tmp_path: Path) -> None:
    options = ("--model", model, "--steps", 2, "--size", "16x16", "--frames", 3)
    done = run("interpolate", "a cat", "a dog", "--seeds", "1,2", *options, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["file"] == "motion.gif"
    with Image.open("motion.gif") as image:
        assert image.n_frames == 3
    assert run("interpolate", "a cat", "a dog", *options, "--out", "frames/").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "frames").iterdir()) == ["0000.png", "0001.png", "0002.png"]
    refused(
        run("interpolate", "a cat", "a dog", *options, "--out", "motion.gif"), "motion.gif exists; give another name"
    )
    refused(run("interpolate", "a cat", *options, "--overwrite"), "lead nowhere")
    refused(run("interpolate", "a cat", "--seeds", "1,x", *options, "--overwrite"), "the seeds are '1,x'")
    refused(run("interpolate", "a cat", "a dog", *options, "--out", "a.avi"), "moving pictures as '.avi'")
