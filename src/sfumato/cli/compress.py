"""`sfumato compress` and `sfumato decompress`: pictures as a few bytes, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from sfumato.cli.options import Json, Loading, Overwrite, Seed, command
from sfumato.errors import SfumatoError

PictureFile = Annotated[str, typer.Argument(metavar="PICTURE", help="A PNG, JPEG or WebP file.")]
PackedFile = Annotated[str, typer.Argument(metavar="FILE", help="What `sfumato compress` wrote.")]
Quality = Annotated[
    float | None, typer.Option(help="From 0 to 120, else 50; every 20 more halve the steps of the quantisation.")
]
Bytes = Annotated[int | None, typer.Option("--bytes", help="Instead of it: the best that fits into so many bytes.")]
Prompt = Annotated[str, typer.Option(help="What the picture shows, to tell the decoder; it costs its own length.")]
PackedOut = Annotated[str | None, typer.Option("--out", metavar="FILE", help="Else PICTURE's name with .sfz here.")]
PictureOut = Annotated[str | None, typer.Option("--out", metavar="FILE", help="Else FILE's name with .png here.")]
Steps = Annotated[int, typer.Option(help="Denoising steps: 1 comes closest to the original, 0 shows what was stored.")]
Noise = Annotated[float, typer.Option(help="Noise to add before, of which the model makes detail; 0.2 is visible.")]


@command
def compress(
    picture: PictureFile,
    *,
    quality: Quality = None,
    size: Bytes = None,
    prompt: Prompt = "",
    loading: Loading,
    out: PackedOut = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write a picture as the quantised latents of a model: very few bytes, which only that model opens.

    See docs/codec.md for what is lost.
    """
    from sfumato.files import atomic_write
    from sfumato.images.inputs import load_image

    if quality is not None and size is not None:
        raise SfumatoError("--bytes chooses the quality itself; give one of --bytes and --quality")
    image, path = load_image(picture), _target(picture, out, ".sfz", overwrite)

    # Importing torch takes over a second: after what can fail without it.
    from sfumato.tasks import compress as task

    data = task.compress(loading.load(), image, task.QUALITY if quality is None else quality, size, prompt)
    with atomic_write(path) as file:
        file.write(data)
    bits = 8 * len(data) / (image.width * image.height)
    record = {"file": str(path), "bytes": len(data), "bits_per_pixel": round(bits, 4)}
    typer.echo(json.dumps(record) if as_json else path)


@command
def decompress(
    file: PackedFile,
    *,
    steps: Steps = 1,
    noise: Noise = 0.0,
    seed: Seed = 0,
    loading: Loading,
    out: PictureOut = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Draw the picture that `sfumato compress` wrote; the network repairs what was lost."""
    from sfumato.files import read_bytes
    from sfumato.images.files import save

    path, data = _target(file, out, ".png", overwrite), read_bytes(file)
    image = loading.load().decompress(data, steps=steps, noise=noise, seed=seed or 0)
    save(image, path)
    record = {"file": str(path), "width": image.width, "height": image.height}
    typer.echo(json.dumps(record) if as_json else path)


def _target(source: str, out: str | None, suffix: str, overwrite: bool) -> Path:
    """What `--out` says, or a file here of the source's name. Raises SfumatoError."""
    from sfumato.cli.output import check_free
    from sfumato.files import check_writable

    path = Path(out) if out is not None else Path(Path(source).with_suffix(suffix).name)
    check_free(path, overwrite)
    check_writable(path.parent, path.name)
    return path
