"""Threads wait without spinning, and small networks get few of them."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from typer.testing import Result

from sfumato.runtime.threads import FEW, LIMITS, PASSIVE, SMALL, fitting_threads

# What the environment holds at the moment in which torch is about to be imported.
PROBE = """
import importlib.abc, os, sys
class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("KMP_BLOCKTIME"))
            sys.stdout.flush()
            os._exit(0)
sys.meta_path.insert(0, Watch())
"""
DRAWING = "sys.argv = ['sfumato', 'txt2img', 'a cat']; import runpy; runpy.run_module('sfumato', run_name='__main__')"


def seen(code: str, **environment: str) -> str:
    others = {name: value for name, value in os.environ.items() if name not in (*PASSIVE, "GOMP_SPINCOUNT")}
    done = subprocess.run(
        [sys.executable, "-c", PROBE + code], capture_output=True, text=True, env=others | environment
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "code", ["import sfumato; sfumato.load", "import sfumato.train.run", "import sfumato.nets.unet", DRAWING]
)
def test_the_policy_is_set_before_torch_is_imported(code: str) -> None:
    assert seen(code) == "PASSIVE 0"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None"),
        ({"KMP_BLOCKTIME": "200"}, "None 200"),
        ({"GOMP_SPINCOUNT": "7"}, "None None"),
    ],
)
def test_what_the_user_set_stays(environment: dict[str, str], expected: str) -> None:
    assert seen("import sfumato; sfumato.load", **environment) == expected


def test_tests_have_the_policy_too() -> None:
    assert any(name in os.environ for name in (*PASSIVE, "GOMP_SPINCOUNT"))


def test_small_networks_get_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    assert fitting_threads(SMALL - 1, 64) == FEW
    assert fitting_threads(SMALL - 1, 1) == 1
    assert fitting_threads(SMALL, 64) == 64
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert fitting_threads(1, 8) == 8


def test_threads_of_the_command_line(run: Callable[..., Result], refused: Callable[..., None], model: str) -> None:
    before = torch.get_num_threads()
    words = ("txt2img", "a cat", "--model", model, "--steps", 1, "--size", "32x32", "--out", "cat.png")
    try:
        assert run(*words, "--threads", 3).exit_code == 0
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert run(*words, "--overwrite").exit_code == 0
    assert torch.get_num_threads() == before
    refused(run(*words, "--threads", 0), "--threads")
