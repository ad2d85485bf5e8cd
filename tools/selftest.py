"""Write the reference data that `sfumato doctor` compares this machine with, after a change of the model that ships.

python tools/selftest.py     # some seconds

Samplers and tokens are a part of the originals' reference data in tests/golden; pictures are drawn here and now. A
picture that another machine, already known to be right, draws as before proves the new reference.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

import sfumato  # noqa: E402
from sfumato.user_config import shipped  # noqa: E402
from sfumato.verify.folder import SELFTEST  # noqa: E402
from sfumato.verify.pictures import NAME, draw, small, text_of  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"
RUNS, STATES = ("euler", "dpmpp_2m"), 4  # the last states of each: what ships must stay small
PROMPTS = 12
PICTURES = {
    "heart": {"prompt": "a red heart", "options": {"seed": 1, "steps": 4}},
    "scene": {"prompt": "สองแมวบนพื้นสีเหลือง", "options": {"seed": 2, "steps": 4, "sampler": "dpmpp_2m"}},
}


def samplers(folder: Path) -> None:
    """How k-diffusion's samplers end on a denoiser that is known exactly."""
    name = "samplers/k_diffusion"
    content = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    content["runs"] = {run: content["runs"][run] for run in RUNS}
    tensors = load_file(GOLDEN / f"{name}.safetensors")
    kept = {key: value for key, value in tensors.items() if key.split(".")[0] in ("toy", "x_T_unit")}
    kept |= {f"{run}.x": tensors[f"{run}.x"][-STATES:].clone() for run in RUNS}
    (folder / "samplers").mkdir(parents=True, exist_ok=True)
    _write(folder / f"{name}.json", content)
    save_file(kept, folder / f"{name}.safetensors")


def tokens(folder: Path) -> None:
    """CLIP's ids of some prompts."""
    name = "text/clip_bpe_tokens.json"
    content = json.loads((GOLDEN / name).read_text(encoding="utf-8"))
    content["prompts"] = content["prompts"][:: len(content["prompts"]) // PROMPTS]
    (folder / "text").mkdir(parents=True, exist_ok=True)
    _write(folder / name, content)


def pictures(folder: Path) -> None:
    """Small pictures of the model that ships."""
    model = sfumato.load(device="cpu")
    entries = {name: {**entry, "pixels": text_of(small(draw(model, entry)))} for name, entry in PICTURES.items()}
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    _write(folder / "pictures" / NAME, {"model": model.hash, "pictures": entries})


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for write in (samplers, tokens, pictures):
        write(shipped(SELFTEST))
