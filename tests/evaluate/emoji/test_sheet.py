import json
from importlib import resources
from pathlib import Path

import numpy as np

import sfumato
from sfumato.evaluate.emoji import sheet
from sfumato.settings.settings import Settings


def test_no_prompt_of_the_sheet_is_held_out():
    held_out = json.loads((resources.files("sfumato.data.emoji") / "holdout.json").read_text())
    codes = set(sheet.PROMPTS.values())
    assert len(codes) == len(sheet.PROMPTS) == 32
    assert not codes & set(held_out["concepts"])
    assert not {f"{style}/{code}" for style in sheet.STYLES for code in codes} & set(held_out["pictures"])


def test_pictures_lie_where_their_prompt_and_style_belong(model: Path):
    sd = sfumato.load(model, device="cpu")
    settings = Settings.of(sd.spec, "-", steps=1, seed=7, watermark=False)
    told: list[tuple] = []
    drawn = sheet.draw_sheet(sd, settings, lambda *what: told.append(what))
    assert drawn.size == (16 * 34 - 2, 6 * 34 - 2)
    assert told[-1] == ("drawing", 96, 96)
    # The 18th prompt in the second style: second block, its second row.
    alone = sd.txt2img("automobile, flat icon", steps=1, seed=24, watermark=False).images[0]
    cut = drawn.crop((34, 4 * 34, 34 + 32, 4 * 34 + 32))
    assert np.abs(np.asarray(alone).astype(int) - np.asarray(cut)).max() <= 1
