import numpy as np
import torch

import sfumato
from sfumato.pipeline.batch import Request, decoded, draw_each, trajectories
from sfumato.settings.settings import Settings

PROMPTS = [("a cat", 5), ("a cat: (in brackets), and much more that fills a second window " * 3, 6), ("a", 5)]
REQUESTS = [Request(prompt, seed) for prompt, seed in PROMPTS]


def test_pictures_side_by_side_are_those_drawn_alone(model: str) -> None:
    sd = sfumato.load(model, device="cpu")
    settings = Settings.of(sd.spec, "-", steps=3, width=32, height=16, watermark=False)
    pictures = {picture.index: picture for picture in draw_each(sd, REQUESTS, settings)}
    assert sorted(pictures) == [0, 1, 2]
    for k, (prompt, seed) in enumerate(PROMPTS):
        same = {"steps": 3, "width": 32, "height": 16, "watermark": False, "prompt_syntax": "plain"}
        alone = sd.txt2img(prompt, seed=seed, **same).images[0]
        assert pictures[k].seed == seed
        assert np.abs(np.asarray(alone).astype(int) - np.asarray(pictures[k].image)).max() <= 1


def test_trajectories_run_from_noise_to_what_is_drawn(model: str) -> None:
    sd = sfumato.load(model, device="cpu")
    settings = Settings.of(sd.spec, "-", steps=3, width=32, height=16)
    latents = trajectories(sd, REQUESTS, settings)
    assert latents.shape == (3, 4, 4, 8, 16)
    assert torch.equal(latents[0, 0], latents[2, 0]) and not torch.equal(latents[0, 0], latents[1, 0])
    ends = decoded(sd.vae, latents[:, -1]).clamp(-1, 1)
    for picture in draw_each(sd, REQUESTS, settings):
        drawn = torch.from_numpy(np.array(picture.image)).movedim(-1, 0) / 127.5 - 1
        assert (ends[picture.index] - drawn).abs().max() <= 1.5 / 127.5
