"""Fine-tune the embedded model as docs/training.md shows, and print the figures that stand there.

python tools/fine_tuning.py --data data/emoji --runs runs/fine-tuning [NAME ...]     # some ten minutes of a core each

"style" is a LoRA of a style, from a folder of pictures with captions; "taste" is DPO towards cooler colours, from pairs
that the model drew itself. Pictures of before and after are compared by the judge, a network that no training sees (see
`sfumato.pipeline.clip_scorer`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

import sfumato  # noqa: E402, I001 (first: it says how torch's threads wait)
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from sfumato.data.emoji.training import EmojiTrainingSet  # noqa: E402
from sfumato.images.tensors import compose, to_images, to_pixels  # noqa: E402
from sfumato.pipeline.clip_scorer import JUDGE, load_scorer  # noqa: E402
from sfumato.train.restyle import restyled  # noqa: E402
from sfumato.train.sheet import sheet  # noqa: E402

PICTURES = 64  # that show a style
OTHERS = ("red apple", "cat face", "a rocket and a house", "two fish", "pizza", "a blue heart", "tree", "robot")
LOOP = """
[loop]
steps = {steps}
batch = {batch}
lr = {lr}
warmup = 10
lr_schedule = "cooldown"
decay = 0.4
weight_decay = 0.0
ema = 0.0
validate_every = 1000
sample_every = 1000
"""
STYLE = 'name = "style"\nrank = 8\nlayers = ["*"]\nsheet_steps = 8\nprompts = ["red apple", "tree"]\n'
TASTE = 'name = "taste"\nrank = 8\nlayers = ["*"]\nbeta = 500\nsheet_steps = 8\nprompts = ["red apple", "tree"]\n'


def drawn(sd: sfumato.StableDiffusion, prompts: Sequence[str], seed: int = 0, **options: object) -> Tensor:
    """Pictures (N, 3, H, W) in [-1, 1] of prompts, one each."""
    pictures = [sd.txt2img(prompt, seed=seed + k, watermark=False, **options)[0] for k, prompt in enumerate(prompts)]
    return torch.cat([to_pixels(picture) for picture in pictures])


def trained(method: str, recipe: str, data: Path, run: Path, *more: str) -> Path:
    """Trains by a recipe and returns the file that comes of it."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "recipe.toml").write_text(recipe)
    command = [sys.executable, "-m", "sfumato", "train", method, str(run / "recipe.toml"), *more]
    subprocess.run([*command, "--data", str(data), "--out", str(run / "run"), "--threads", "1"], check=True)
    return next((run / "run" / "export").glob("*.safetensors"))


def likeness(a: Tensor, b: Tensor) -> Tensor:
    """How alike the judge finds pictures (N, 3, H, W) and (M, 3, H, W): cosines (N, M)."""
    judge = load_scorer(JUDGE, torch.device("cpu"))
    with torch.no_grad():
        return judge.encode_image(a) @ judge.encode_image(b).T


def style(data: EmojiTrainingSet, folder: Path, steps: int) -> tuple[list[str], list[Tensor]]:
    """A LoRA of a style, that of a photographic negative: the figures, and rows of a sheet."""
    place = folder / "pictures"
    place.mkdir(parents=True, exist_ok=True)
    numbers = data.splits["train"][:: len(data.splits["train"]) // PICTURES][:PICTURES].tolist()
    for number in numbers:
        picture = restyled(compose(data.picture(number), (255, 255, 255))[None], "negative")
        to_images(picture)[0].save(place / f"{number:05}.png")
        (place / f"{number:05}.txt").write_text(data.prompt(data.subject(number), data.group(number), "en"))
    file = trained("lora", STYLE + LOOP.format(steps=steps, batch=16, lr=2e-3), place, folder)
    sd = sfumato.load()
    before = drawn(sd, OTHERS)
    sd.adapters.add(file)
    after, wanted = drawn(sd, OTHERS), restyled(before, "negative")
    far, near = ((pictures - wanted).square().mean().sqrt() for pictures in (before, after))
    kept = likeness(wanted, after).diagonal().mean()
    figures = [
        f"distance from the negative of what was drawn before: {far:.2f} before, {near:.2f} after",
        f"likeness to that negative: {likeness(wanted, before).diagonal().mean():.2f} before, {kept:.2f} after",
    ]
    return figures, [before[:4], after[:4], before[4:], after[4:]]


def coolness(pictures: Tensor) -> Tensor:
    """How much more blue than red pictures (N, 3, H, W) are, (N,)."""
    return (pictures[:, 2] - pictures[:, 0]).mean((1, 2))


def taste(data: EmojiTrainingSet, folder: Path, steps: int) -> tuple[list[str], list[Tensor]]:
    """DPO towards cooler colours: the figures, and rows of a sheet."""
    sd, captions = sfumato.load(), [data.prompt(subject, "3d", "en") for subject in range(0, 1200, 50)]
    for name in ("chosen", "rejected"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, caption in enumerate(captions):
        if (folder / "chosen" / f"{number:03}.txt").is_file():
            continue
        pair = torch.cat([drawn(sd, [caption], seed) for seed in (number, 1000 + number)])
        order = coolness(pair).argsort(descending=True)
        for name, picture in zip(("chosen", "rejected"), to_images(pair[order]), strict=True):
            picture.save(folder / name / f"{number:03}.png")
        (folder / "chosen" / f"{number:03}.txt").write_text(caption)
    recipe = TASTE + LOOP.format(steps=steps, batch=4, lr=2e-3)
    file = trained("dpo", recipe, folder / "chosen", folder, "--rejected", str(folder / "rejected"))
    sd = sfumato.load()
    before = drawn(sd, OTHERS)
    sd.adapters.add(file)
    after = drawn(sd, OTHERS)
    kept = likeness(before, after).diagonal().mean()
    figures = [
        f"blue minus red of what is drawn: {coolness(before).mean():.3f} before, {coolness(after).mean():.3f} after",
        f"pictures that became cooler: {(coolness(after) > coolness(before)).sum()} of {len(OTHERS)}",
        f"likeness to what was drawn before: {kept:.2f}",
    ]
    return figures, [before[:4], after[:4]]


PROOFS: dict[str, tuple[Callable[[EmojiTrainingSet, Path, int], tuple[list[str], list[Tensor]]], int]] = {
    "style": (style, 150), "taste": (taste, 150),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROOFS))
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "emoji")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "fine-tuning")
    parser.add_argument("--steps", type=int, help="Instead of the usual number.")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = EmojiTrainingSet(chosen.data)
    for name in chosen.names or PROOFS:
        prove, steps = PROOFS[name]
        figures, rows = prove(data, chosen.runs / name, chosen.steps or steps)
        picture = sheet([torch.nn.functional.interpolate(row, (128, 128), mode="area") for row in rows])
        path = chosen.runs / f"{name}.webp"
        picture.save(path, "WEBP", quality=80)
        print(f"{name}: {path}", *figures, sep="\n  ")


if __name__ == "__main__":
    main()
