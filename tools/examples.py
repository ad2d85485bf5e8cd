"""Train the adapters that ship for the embedded model anew, in src/sfumato/assets/adapters; see docs/adapters.md.

python tools/examples.py --data data/emoji --runs runs/examples [NAME ...]     # some minutes of one core each

They fit one base. When its weights change, tests/assets tells that they have to be trained again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from PIL import Image  # noqa: E402

from sfumato.data.emoji.training import EmojiTrainingSet  # noqa: E402

ADAPTERS = ROOT / "src" / "sfumato" / "assets" / "adapters"
PLANET = "1fa90"  # the ringed planet, which is kept from all training, so that the model does not know it
# By name: the method, its recipe, what it exports, and the room of the file.
EXAMPLES = {
    "sepia": ("lora", "emoji-lora-style", "sepia.safetensors", "loras"),
    "saturn-emoji": ("embedding", "emoji-embedding", "saturn-emoji.safetensors", "embeddings"),
    "emoji-edges": ("controlnet", "emoji-control-edges", "control.safetensors", "controlnet"),
}


def write_pictures(data: EmojiTrainingSet, folder: Path) -> None:
    """Writes the pictures of the new thing, named after their styles."""
    folder.mkdir(parents=True, exist_ok=True)
    for style in data.groups:
        number = data.find(PLANET, style)
        if number is not None:
            Image.fromarray(data.picture(number)).save(folder / f"{style}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(EXAMPLES))
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "emoji")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "examples")
    chosen = parser.parse_args()
    for name in chosen.names or EXAMPLES:
        method, recipe, export, room = EXAMPLES[name]
        run = chosen.runs / name
        command = [sys.executable, "-m", "sfumato", "train", method, recipe, "--data", chosen.data, "--out", run]
        if method == "embedding":
            write_pictures(EmojiTrainingSet(chosen.data), chosen.runs / "pictures")
            command += ["--pictures", chosen.runs / "pictures"]
        subprocess.run(list(map(str, command)), check=True)
        (ADAPTERS / room).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / "export" / export, ADAPTERS / room / f"{name}.safetensors")


if __name__ == "__main__":
    main()
