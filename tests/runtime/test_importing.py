"""Torch is imported without Python's collector, and nothing of its compiler is needed to load a model."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sfumato.hub.local_models import EMBEDDED, locate
from sfumato.loading.load import load_parts


@pytest.mark.parametrize(("before", "after"), [("", "True"), ("gc.disable()", "False")])
def test_torch_is_imported_without_the_collector(tmp_path: Path, before: str, after: str) -> None:
    (tmp_path / "torch.py").write_text("import gc\nduring = gc.isenabled()\n")
    code = f"import gc; {before}\nimport sfumato, torch; print(torch.during, gc.isenabled(), gc.get_freeze_count() > 0)"
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", after, after]


def test_a_torch_that_cannot_be_imported_leaves_the_collector_on(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('broken')\n")
    code = f"import gc, sys; sys.path.insert(0, {str(tmp_path)!r})\nimport sfumato\n"
    code += "try:\n    import torch\nexcept ImportError as error:\n    print(error, gc.isenabled())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["broken", "True"]


def test_loading_draws_no_random_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device they are nothing, and cost the import of torch's compiler: over a second."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("random numbers for weights that are loaded")

    for name in ("randn", "rand", "randint", "normal"):
        monkeypatch.setattr(torch, name, refuse)
    load_parts(locate(EMBEDDED)[0])
