"""What memory a model takes is counted without loading it."""

import json

import pytest
import torch
from typer.testing import CliRunner

from sfumato.cli.main import app
from sfumato.errors import SfumatoError
from sfumato.loading.memory import LIBRARY, _peak, memory_plan


def test_a_file(tiny, write):
    path = write(tiny.original(torch.float16))
    half, full = memory_plan(path, "float16"), memory_plan(path)
    counts = {part: sum(p.numel() for p in network.parameters()) for part, network in tiny.networks.items()}
    assert half.parameters == full.parameters == counts
    assert half.weights == {part: 2 * count for part, count in counts.items()}
    assert full.weights == {part: 4 * count for part, count in counts.items()}
    assert half.file == path.stat().st_size
    assert half.largest == 2 * max(p.numel() for network in tiny.networks.values() for p in network.parameters())
    assert half.loading == sum(half.weights.values()) + half.largest + LIBRARY
    assert full.step > half.step > 2 * 2 * 32 * 256 * 256 and full.decode > half.decode  # the first of the skips


def test_the_largest_family():
    result = CliRunner().invoke(app, ["inspect", "sd35_large", "--plan", "--json"])
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert plan["parameters"]["text_3"] == 4_762_310_656
    assert plan["weights"]["transformer"] == 2 * 8_056_627_520 + 2 * 192 * 192 * 2432  # a table of positions
    assert 28e9 < plan["loading"] < plan["drawing"] < 32e9


def test_what_is_printed(tiny, write):
    path = write(tiny.original())
    result = CliRunner().invoke(app, ["inspect", str(path), "--plan"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Stable Diffusion 1.x as float16, a file of")
    assert "GB  one step at 512x512, two rows" in result.stdout


def test_what_has_no_plan(tiny, write):
    with pytest.raises(SfumatoError, match="unknown dtype 'int4'; choose float32"):
        memory_plan(write(tiny.original()), "int4")
    with pytest.raises(SfumatoError, match="unknown kind"):
        memory_plan(write({"x": torch.zeros(2, 2, 2)}))


def test_tensors_count_while_they_live():
    def run() -> None:
        a = torch.empty(100)  # 400 bytes
        b = a.view(10, 10)[2:]
        del a
        c = b + 1  # 320 more
        del b
        torch.stack([c, c])  # 640 more, the first 400 are gone

    assert _peak(run) == 320 + 640
