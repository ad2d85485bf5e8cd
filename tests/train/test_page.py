"""The page that a run leaves."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from sfumato.train.origin import origin, origin_in, save_sheet
from sfumato.train.page import read_curves, write_page
from sfumato.train.report import LOG

RECORD = {"loop": {"steps": 20, "lr": 0.1}, "name": "a <b>", "data": {}}


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def a_run(folder: Path) -> nn.Module:
    lines = [
        {"step": 5, "loss": 2.0, "lr": 0.1}, {"step": 10, "loss": float("inf"), "lr": 0.1},
        {"step": 10, "val/x0": 0.5}, {"step": 10, "val/x0": 0.25}, {"step": 20, "loss": 1.0, "lr": 0.05},
    ]  # fmt: skip
    (folder / LOG).write_text("".join(json.dumps(line) + "\n" for line in lines))
    torch.manual_seed(0)
    network = nn.Linear(2, 2)
    for step in (10, 20):
        save_sheet(folder / f"samples/step-{step:08d}.png", Image.new("RGB", (4, 4)), origin(RECORD, step, network))
    return network


def test_the_page_shows_curves_sheets_data_and_settings(tmp_path: Path) -> None:
    network = a_run(tmp_path)
    text = write_page(
        tmp_path, RECORD, {"set": "<mine>", "samples an epoch": 7}, "20 of 20 steps, finished"
    ).read_text()
    reader = Reader()
    reader.feed(text)
    tags = [tag for tag, _ in reader.found]
    assert tags.count("svg") == 3 and tags.count("img") == 2
    assert not re.search(r"(src|href)=\"(?!data:)|<link|<script", text)
    for words in ("&lt;mine&gt;", "a &lt;b&gt;", "loop.lr", "samples an epoch", "20 of 20 steps, finished", "0.25"):
        assert words in text
    for step in (10, 20):
        found = origin(RECORD, step, network)
        assert found == origin_in(tmp_path / f"samples/step-{step:08d}.png") and found["lineage"] in text


def test_curves_leave_out_what_is_not_finite(tmp_path: Path) -> None:
    a_run(tmp_path)
    curves = read_curves(tmp_path / LOG)
    assert curves["loss"] == [(5, 2.0), (20, 1.0)] and curves["val/x0"] == [(10, 0.25)]


def test_the_lineage_follows_weights_recipe_and_step() -> None:
    network = nn.Linear(2, 2)
    first = origin(RECORD, 1, network)
    assert first == origin(RECORD, 1, network)
    others = [
        origin(RECORD, 2, network),
        origin(RECORD | {"name": "c"}, 1, network),
        origin(RECORD, 1, nn.Linear(2, 2)),
    ]
    assert len({one["lineage"] for one in (first, *others)}) == 4
