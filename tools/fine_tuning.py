"""Fine-tune the embedded model as docs/training.md shows, and print the figures that stand there.

python tools/fine_tuning.py --data data/emoji --runs runs/fine-tuning [NAME ...]     # some minutes of a core each

Each proof trains by the command that users have, and compares what the model draws before and after by the judge, a
network that no training sees (see `sfumato.pipeline.clip_scorer`). Those that are not of the emoji set learn from the
icons of an openly licensed npm package (`npm` downloads it). "sheet" joins the pictures of all proofs that were made.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

import sfumato  # noqa: E402, I001 (first: it says how torch's threads wait)
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from PIL import Image  # noqa: E402
from torch import Tensor  # noqa: E402

from sfumato.data.emoji.build import draw_icon, svg_of  # noqa: E402
from sfumato.data.emoji.npm import Package, default_cache, fetch  # noqa: E402
from sfumato.data.emoji.training import EmojiTrainingSet  # noqa: E402
from sfumato.images.tensors import compose, to_images, to_pixels  # noqa: E402
from sfumato.pipeline.clip_scorer import JUDGE, load_scorer  # noqa: E402
from sfumato.pipeline.hints import make_hint  # noqa: E402
from sfumato.train.config import read_config  # noqa: E402
from sfumato.train.methods.ldm import LDMTraining  # noqa: E402
from sfumato.train.restyle import restyled  # noqa: E402
from sfumato.train.sheet import sheet  # noqa: E402

PLANET, STYLES = "1fa90", ("3d", "flat", "gradient", "noto")  # a thing that no training saw, in four pictures
PICTURES = 64  # that show a style
OTHERS = ("red apple", "cat face", "a rocket and a house", "two fish", "pizza", "a blue heart", "tree", "robot")
THING = ("a sks planet", "a sks planet on a blue background", "two sks planet", "a sks planet and a red apple")
ICONS = Package(
    "@iconify-json/streamline-emojis", "1.2.4",
    "sha512-iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A==",
)  # fmt: skip
# Things of the package that nothing learns from.
HELD = ("rocket", "mushroom", "snail", "red apple", "ambulance", "tiger face", "umbrella", "octopus")
LEARNT = ("guitar", "koala", "sailboat", "anchor", "ant", "snowman", "tractor", "skull")
# Of what the edges are, and what is drawn by them.
CASES = (
    ("a castle, 3D style", "a castle, flat icon"), ("a red apple, 3D style", "a red apple, 3D style"),
    ("a cat face, flat icon", "a cat face, 3D style"), ("a rocket, 3D style", "a rocket, 3D style"),
    ("a robot, flat icon", "a robot, flat icon"), ("a tree and a house, 3D style", "a tree and a house, 3D style"),
    ("a pizza, 3D style", "a green apple, 3D style"), ("two fish, 3D style", "two fish, flat icon"),
)  # fmt: skip
# Of what the depth is, and what is drawn by it: other things, which would lie otherwise.
DEPTHS = (
    ("a pizza, 3D style", "a green apple, 3D style"), ("a red heart, 3D style", "a strawberry, 3D style"),
    ("a star, 3D style", "a sunflower, 3D style"), ("a house, 3D style", "a castle, 3D style"),
    ("a cat face, 3D style", "a dog face, 3D style"), ("a rocket, 3D style", "a carrot, 3D style"),
    ("a tree, 3D style", "a mushroom, 3D style"), ("a small car, 3D style", "a blue fish, 3D style"),
)  # fmt: skip
NEAR = 2  # pixels by which an edge may lie beside its hint
UNET = "emoji-unet"
ANIMALS = ("frog", "octopus", "duck", "tiger face", "strawberry", "cactus", "red heart", "banana")
OTHER = 0.2  # of the range from -1 to 1: by how much a thing differs from its background
SIDE, SHOWN, THUMB = 256, 4, 112
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
LORA = 'name = "{name}"\nrank = 8\nlayers = ["*"]\n'
WORD = 'word = "sks planet"\nlike = "planet"\n'
DREAMBOOTH = (
    'prompt = "a sks planet"\nclass_prompt = "a planet"\nclass_pictures = 24\nclass_steps = 8\n[lora]\n'
    + LORA.format(name="thing")
)
EDGES = 'hint = "canny"\nhidden = 84\nblocks = 2\npositions = true\n[data]\ncaption_dropout = 0.1\n'


@dataclass(frozen=True, eq=False)
class Proof:
    """Figures in words, and pictures (N, 3, H, W) of before (or what was learnt from) and after."""

    figures: list[str]
    before: Tensor
    after: Tensor


def drawn(sd: sfumato.StableDiffusion, prompts: Sequence[str], seed: int = 0, **options: Any) -> Tensor:
    """Pictures (N, 3, H, W) in [-1, 1] of prompts, one each."""
    pictures = [sd.txt2img(prompt, seed=seed + k, watermark=False, **options)[0] for k, prompt in enumerate(prompts)]
    return torch.cat([to_pixels(picture) for picture in pictures])


def trained(method: str, recipe: str, data: Path, run: Path, *more: str | Path) -> Path:
    """Trains by a recipe and returns the folder of what comes of it."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "recipe.toml").write_text(recipe)
    command = [sys.executable, "-m", "sfumato", "train", method, run / "recipe.toml", *more]
    subprocess.run(list(map(str, [*command, "--data", data, "--out", run / "run", "--threads", 1])), check=True)
    return run / "run" / "export"


def with_file(method: str, recipe: str, data: Path, run: Path, *more: str | Path) -> sfumato.StableDiffusion:
    """The embedded model with the file that a training makes."""
    file = next(trained(method, recipe, data, run, *more).glob("*.safetensors"))
    sd = sfumato.load()
    sd.adapters.add(file)
    return sd


def likeness(a: Tensor, b: Tensor) -> Tensor:
    """How alike the judge finds pictures (N, 3, H, W) and (M, 3, H, W): cosines (N, M)."""
    judge = load_scorer(JUDGE, torch.device("cpu"))
    with torch.no_grad():
        return judge.encode_image(a) @ judge.encode_image(b).T


def drift(before: Tensor, after: Tensor) -> str:
    """What changed of pictures that were to stay."""
    alike, far = likeness(before, after).diagonal().mean(), (before - after).square().mean().sqrt()
    return f"everything else: likeness to what was drawn before {alike:.2f}, distance {far:.3f} (white to black is 2)"


def captioned(folder: Path, pictures: dict[str, Image.Image], captions: Sequence[str]) -> Path:
    """A folder of pictures with captions beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for (name, picture), caption in zip(pictures.items(), captions, strict=True):
        picture.save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(caption)
    return folder


def planets(data: EmojiTrainingSet, folder: Path) -> tuple[Path, Tensor]:
    """The folder with the four pictures of the new thing, and the pictures."""
    found = {style: data.find(PLANET, style) for style in STYLES}
    pictures = {style: Image.fromarray(data.picture(number)) for style, number in found.items() if number is not None}
    shown = torch.stack([compose(data.picture(number), (255, 255, 255)) for number in found.values() if number])
    return captioned(folder / "pictures", pictures, [THING[0]] * len(pictures)), shown


def of_thing(sd: sfumato.StableDiffusion, pictures: Tensor) -> Proof:
    """How well a model with a new word draws the thing, and whether it keeps the others."""
    plain, others = sfumato.load(), (drawn(sfumato.load(), OTHERS), drawn(sd, OTHERS))
    seeds = [drawn(model, [prompt] * 8) for model, prompt in ((plain, "a planet"), (sd, THING[0]))]
    like = [likeness(one, pictures).amax(1).mean() for one in seeds]
    real = (likeness(pictures, pictures) - 2 * torch.eye(len(pictures))).amax(1).mean()
    figure = f"likeness to its pictures: {like[0]:.2f} before, {like[1]:.2f} after (they among each other {real:.2f})"
    return Proof([figure, drift(*others)], pictures, drawn(sd, THING))


def embedding(data: EmojiTrainingSet, folder: Path, steps: int) -> Proof:
    """A word for a thing of four pictures."""
    place, pictures = planets(data, folder)
    recipe = WORD + 'style = "3d"\nanchor = 0.01\n' + LOOP.format(steps=steps, batch=16, lr=1e-2)
    return of_thing(with_file("embedding", recipe, data.path, folder, "--pictures", place), pictures)


def thing(data: EmojiTrainingSet, folder: Path, steps: int) -> Proof:
    """A LoRA that brings a word for a thing of four pictures."""
    place, pictures = planets(data, folder)
    recipe = LORA.format(name="thing") + WORD + LOOP.format(steps=steps, batch=4, lr=1e-3)
    return of_thing(with_file("lora", recipe, place, folder), pictures)


def dreambooth(data: EmojiTrainingSet, folder: Path, steps: int) -> Proof:
    """The same with pictures of its class, which the model draws first."""
    place, pictures = planets(data, folder)
    recipe = DREAMBOOTH + LOOP.format(steps=steps, batch=8, lr=1e-3)
    return of_thing(with_file("dreambooth", recipe, place, folder), pictures)


def style(data: EmojiTrainingSet, folder: Path, steps: int) -> Proof:
    """A LoRA of a style, that of a photographic negative."""
    numbers = data.splits["train"][:: len(data.splits["train"]) // PICTURES][:PICTURES].tolist()
    plain = torch.stack([compose(data.picture(number), (255, 255, 255)) for number in numbers])
    pictures = dict(zip(map(str, numbers), to_images(restyled(plain, "negative")), strict=True))
    captions = [data.prompt(data.subject(number), data.group(number), "en") for number in numbers]
    place = captioned(folder / "pictures", pictures, captions)
    sd, before = sfumato.load(), drawn(sfumato.load(), OTHERS)
    sd = with_file("lora", LORA.format(name="style") + LOOP.format(steps=steps, batch=16, lr=3e-3), place, folder)
    after, wanted = drawn(sd, OTHERS), restyled(before, "negative")
    far, near = ((pictures - wanted).square().mean().sqrt() for pictures in (before, after))
    alike = [likeness(wanted, one).diagonal().mean() for one in (before, after)]
    figures = [
        f"distance from the negative of what was drawn before: {far:.2f} before, {near:.2f} after",
        f"likeness to that negative: {alike[0]:.2f} before, {alike[1]:.2f} after",
    ]
    return Proof(figures, before, after)


def hypernetwork(data: EmojiTrainingSet, folder: Path, steps: int) -> Proof:
    """A hypernetwork of a style, that of old photographs, for the small U-Net that ships."""
    known = set(read_config(UNET, LDMTraining).data["only"])
    names = [one.names["en"] for one in data.concepts if one.subgroup in known]
    plain, names = sfumato.load(UNET), names[:: len(names) // PICTURES][:PICTURES]
    pictures = to_images(restyled(drawn(plain, names), "sepia"))
    place = captioned(folder / "pictures", dict(zip(map(str, range(PICTURES)), pictures, strict=True)), names)
    recipe = f'model = "{UNET}"\nname = "sepia"\nlayers = [1, 1]\n' + LOOP.format(steps=steps, batch=16, lr=4e-3)
    export = trained("hypernetwork", recipe, place, folder)
    before, after = (drawn(plain, ANIMALS, 50, hypernetwork=one) for one in ((), (str(export / "sepia.pt"),)))
    wanted = restyled(before, "sepia")
    far, near = ((pictures - wanted).square().mean().sqrt() for pictures in (before, after))
    spread = [(one.amax(1) - one.amin(1)).mean() for one in (before, after, wanted)]
    figures = [
        f"distance from the sepia of what was drawn before: {far:.2f} before, {near:.2f} after",
        f"largest minus smallest of red, green and blue: {spread[0]:.2f} before, {spread[1]:.2f} after, "
        f"{spread[2]:.2f} in sepia",
    ]
    return Proof(figures, before, after)


def icons(known: EmojiTrainingSet) -> dict[str, Image.Image]:
    """The icons of the package that are called as things of the emoji set, on white."""
    with tarfile.open(fetch(ICONS, default_cache())) as archive:
        member = archive.extractfile("package/icons.json")
        assert member is not None, "the pinned archive has it"
        held = json.load(member)
    names = {concept.names["en"].casefold() for concept in known.concepts}
    found: dict[str, Image.Image] = {}
    for key in held["icons"]:
        name = key.replace("-", " ")
        source = svg_of(held, key) if name in names else None
        if source is not None:
            found[name] = to_images(compose(draw_icon(source, SIDE), (255, 255, 255))[None])[0]
    return found


def learnt_icons(data: EmojiTrainingSet, folder: Path) -> tuple[Path, Tensor, Tensor]:
    """The folder of icons to learn from, and pictures of HELD things and of LEARNT ones."""
    every = icons(data)
    own = {name: picture for name, picture in every.items() if name not in HELD}
    held, learnt = (torch.cat([to_pixels(every[name]) for name in names]) for names in (HELD, LEARNT))
    return captioned(folder / "pictures", own, list(own)), held, learnt


def full(data: EmojiTrainingSet, folder: Path, steps: int) -> Proof:
    """All weights, on another set of artwork."""
    place, *real = learnt_icons(data, folder)
    export = trained("full", LOOP.format(steps=steps, batch=16, lr=1e-3), place, folder)
    plain, sd = sfumato.load(), sfumato.load(export)
    figures = [f"{len(list(place.glob('*.png')))} icons"]
    for what, names, pictures in zip(("held", "learnt"), (HELD, LEARNT), real, strict=True):
        before, after = (drawn(model, names) for model in (plain, sd))
        alike = [likeness(pictures, one).diagonal().mean() for one in (before, after)]
        far = [(pictures - one).square().mean().sqrt() for one in (before, after)]
        figures.append(
            f"eight things that were {what}: likeness to the set's pictures of them {alike[0]:.2f} before, "
            f"{alike[1]:.2f} after; distance {far[0]:.2f} before, {far[1]:.2f} after"
        )
    return Proof(figures, before, after)


def follows(picture: Image.Image, hint: Tensor) -> float:
    """How well the edges of a picture agree with a hint (1, 1, H, W), bool: F1 of edges that have one near."""
    own = to_pixels(make_hint("canny", picture)).mean(1, keepdim=True) > 0
    near = [F.max_pool2d(one.float(), 2 * NEAR + 1, 1, NEAR) > 0 for one in (hint, own)]
    precision, recall = ((a & b).sum() / a.sum().clamp(min=1) for a, b in ((own, near[0]), (hint, near[1])))
    return (2 * precision * recall / (precision + recall).clamp(min=1e-6)).item()


def steered(control: str, cases: Sequence[tuple[Image.Image, str]]) -> Proof:
    """How well pictures of words follow the edges of other pictures, with a ControlNet and without."""
    sd, scores, rows = sfumato.load(), list[list[float]](), list[list[Tensor]]()
    for k, (picture, prompt) in enumerate(cases):
        hint = make_hint("canny", picture)
        wanted = to_pixels(hint).mean(1, keepdim=True) > 0
        given = {"control": [sfumato.Control(control, picture, hint="canny")]}
        pair = [sd.txt2img(prompt, seed=100 + k, watermark=False, **more)[0] for more in ({}, given)]
        scores.append([follows(one, wanted) for one in pair])
        rows.append([to_pixels(hint.convert("RGB")), to_pixels(pair[1])])
    means = torch.tensor(scores).mean(0)
    figure = f"edges that agree with the hint within {NEAR} pixels (F1): {means[0]:.2f} without, {means[1]:.2f} with"
    hints, drawings = (torch.cat(column) for column in zip(*rows, strict=True))
    return Proof([figure], hints, drawings)


def edges(data: EmojiTrainingSet, folder: Path, steps: int) -> Proof:
    """A ControlNet of edges, on another set of artwork."""
    place, real, _ = learnt_icons(data, folder)
    export = trained("controlnet", EDGES + LOOP.format(steps=steps, batch=16, lr=2e-3), place, folder)
    return steered(str(export / "control.safetensors"), [*zip(to_images(real), HELD, strict=True)])


def shipped(data: EmojiTrainingSet, folder: Path, steps: int) -> Proof:
    """The ControlNet that ships, on edges of pictures of another seed or style; nothing is trained."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = to_images(drawn(sfumato.load(), [source for source, _ in CASES], seed=5))
    return steered("emoji-edges", [*zip(sources, (prompt for _, prompt in CASES), strict=True)])


def outline(pictures: Tensor) -> Tensor:
    """Where pictures (N, 3, H, W) differ from the colour at their edges, (N, 1, H, W), bool."""
    edges = torch.cat([pictures[:, :, 0], pictures[:, :, -1], pictures[..., 0], pictures[..., -1]], 2)
    return (pictures - edges.median(2).values[:, :, None, None]).abs().amax(1, keepdim=True) > OTHER


def overlap(a: Tensor, b: Tensor) -> float:
    """The mean share that places a and b (N, 1, H, W), bool, have in common, of those that either has."""
    return ((a & b).flatten(1).sum(1) / (a | b).flatten(1).sum(1).clamp(min=1)).mean().item()


def depth(data: EmojiTrainingSet, folder: Path, steps: int) -> Proof:
    """The depth variant that ships, on the depth of pictures of other things; nothing is trained."""
    folder.mkdir(parents=True, exist_ok=True)
    plain, deep = sfumato.load(), sfumato.load("emoji-depth")
    sources = drawn(plain, [source for source, _ in DEPTHS], seed=5)
    prompts = [prompt for _, prompt in DEPTHS]
    before = drawn(plain, prompts, seed=100)
    asked = enumerate(zip(to_images(sources), prompts, strict=True))
    given = {"strength": 1.0, "watermark": False}
    after = torch.cat([to_pixels(deep.depth2img(one, text, seed=100 + k, **given)[0]) for k, (one, text) in asked])
    judge = load_scorer(JUDGE, torch.device("cpu"))
    with torch.no_grad():
        texts = judge.encode_text(prompts)
        fits = [(judge.encode_image(one) @ texts.T).argmax(1).eq(torch.arange(len(prompts))) for one in (before, after)]
    wanted = outline(sources)
    figures = [
        f"outline in common with the picture of the depth: {overlap(outline(before), wanted):.2f} by words alone, "
        f"{overlap(outline(after), wanted):.2f} with depth",
        f"own prompt fits best, of {len(prompts)}: {fits[0].sum()} by words alone, {fits[1].sum()} with depth",
    ]
    return Proof(figures, sources, after)


def coolness(pictures: Tensor) -> Tensor:
    """How much more blue than red pictures (N, 3, H, W) are, (N,)."""
    return (pictures[:, 2] - pictures[:, 0]).mean((1, 2))


def taste(data: EmojiTrainingSet, folder: Path, steps: int) -> Proof:
    """DPO towards cooler colours, from pairs that the model drew itself."""
    sd, captions = sfumato.load(), [data.prompt(subject, "3d", "en") for subject in range(0, 1200, 50)]
    for number, caption in enumerate(captions):
        if (folder / "chosen" / f"{number:03}.txt").is_file():
            continue
        pair = torch.cat([drawn(sd, [caption], seed) for seed in (number, 1000 + number)])
        order = to_images(pair[coolness(pair).argsort(descending=True)])
        for name, picture in zip(("rejected", "chosen"), reversed(order), strict=True):
            captioned(folder / name, {f"{number:03}": picture}, [caption])
    recipe = LORA.format(name="taste") + "beta = 500\n" + LOOP.format(steps=steps, batch=4, lr=2e-3)
    sd = with_file("dpo", recipe, folder / "chosen", folder, "--rejected", folder / "rejected")
    before, after = drawn(sfumato.load(), OTHERS), drawn(sd, OTHERS)
    figures = [
        f"blue minus red of what is drawn: {coolness(before).mean():.3f} before, {coolness(after).mean():.3f} after",
        f"pictures that became cooler: {(coolness(after) > coolness(before)).sum()} of {len(OTHERS)}",
        f"likeness to what was drawn before: {likeness(before, after).diagonal().mean():.2f}",
    ]
    return Proof(figures, before, after)


PROOFS: dict[str, tuple[Callable[[EmojiTrainingSet, Path, int], Proof], int]] = {
    "embedding": (embedding, 150), "thing": (thing, 120), "dreambooth": (dreambooth, 120), "style": (style, 500),
    "full": (full, 300), "edges": (edges, 400), "hypernetwork": (hypernetwork, 900), "taste": (taste, 150),
    "shipped": (shipped, 0), "depth": (depth, 0),
}  # fmt: skip


def write_sheet(runs: Path) -> None:
    """Joins the rows of all proofs, in their order: before on the left, after on the right."""
    rows = [Image.open(runs / f"{name}.png") for name in PROOFS if (runs / f"{name}.png").is_file()]
    whole = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    for row, top in zip(rows, range(0, whole.height, rows[0].height), strict=True):
        whole.paste(row, (0, top))
    whole.save(runs / "fine-tuning.webp", "WEBP", quality=60, method=6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join([*PROOFS, "sheet"]))
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "emoji")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "fine-tuning")
    parser.add_argument("--steps", type=int, help="Instead of the usual number.")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for name in [one for one in chosen.names or PROOFS if one != "sheet"]:
        prove, steps = PROOFS[name]
        proof = prove(EmojiTrainingSet(chosen.data), chosen.runs / name, chosen.steps or steps)
        both = torch.cat([proof.before[:SHOWN], proof.after[:SHOWN]])
        sheet([F.interpolate(both, (THUMB, THUMB), mode="area")]).save(chosen.runs / f"{name}.png")
        print(f"{name}:", *proof.figures, sep="\n  ", flush=True)
    write_sheet(chosen.runs)


if __name__ == "__main__":
    main()
