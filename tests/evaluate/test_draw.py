from pathlib import Path

import numpy as np

import sfumato
from sfumato.evaluate.draw import draw
from sfumato.settings.settings import Settings


def test_pictures_side_by_side_are_those_drawn_alone(model: Path):
    sd = sfumato.load(model, device="cpu")
    settings = Settings.of(sd.spec, "-", steps=3, seed=0, watermark=False)
    requests = [("c01 en", 5), ("c02 th, flat icon, and much more that fills a second window " * 2, 6), ("c03", 5)]
    pictures = {picture.index: picture for picture in draw(sd, requests, settings)}
    assert sorted(pictures) == [0, 1, 2]
    for k, (prompt, seed) in enumerate(requests):
        alone = sd.txt2img(prompt, steps=3, seed=seed, watermark=False).images[0]
        assert pictures[k].seed == seed
        assert np.abs(np.asarray(alone).astype(int) - np.asarray(pictures[k].image)).max() <= 1
