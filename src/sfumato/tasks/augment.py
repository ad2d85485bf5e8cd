"""Whole folders of pictures drawn slightly anew: more training data, or the same without the people in it.

Local sampling: noise to a strength and back (SDEdit, Meng et al. 2022), name by name, with the captions beside them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from PIL import Image

from sfumato.errors import SfumatoError, warn
from sfumato.files import atomic_write
from sfumato.images.files import FORMATS, save
from sfumato.images.inputs import load_image
from sfumato.images.resize import natural_size
from sfumato.pipeline.events import Picture
from sfumato.pipeline.model import Model
from sfumato.settings.settings import MAX_SEED, Options, Settings, sized
from sfumato.tasks.img2img import check_strength, img2img

SLIGHTLY, UNRECOGNISABLY = 0.3, 0.6
CAPTION = ".txt"


@dataclass(frozen=True)
class Written:
    """A picture of the folder is done, number `done` of `total`; `paths` are its copies, none if it was skipped."""

    source: Path
    paths: tuple[Path, ...]
    done: int
    total: int


def augment(
    model: Model, source: Path, target: Path, strength: float = SLIGHTLY, options: Options | None = None
) -> Generator[Written, None, None]:
    """Draw every picture under the folder `source` anew, into the same places under `target`; yields as they are done.

    A caption beside a picture (its name with .txt) is its prompt, and is copied. Guidance is 1 unless the options say
    otherwise, the size in pixels stays. The options' `n` is the number of copies, NAME-1, NAME-2 ... if more than one.
    A picture's seed follows from the options' seed (0) and its name, so it does not depend on what else is there.
    Copies that exist are kept, so that the same call goes on where one was interrupted. A file that cannot be read is
    skipped with an SfumatoWarning. Raises SfumatoError at once for a strength outside 0 to 1, a folder without
    pictures, and a target inside the source.
    """
    check_strength(strength)
    options = Options() if options is None else options
    Settings.of(model.spec, "", **options)
    pictures = _pictures(source, target)
    return _augment(model, source, target, strength, options, pictures)


def _pictures(source: Path, target: Path) -> list[Path]:
    if not source.is_dir():
        raise SfumatoError(f"{source} is not a folder; give one with pictures")
    if target.resolve().is_relative_to(source.resolve()):
        raise SfumatoError(f"{target} lies in {source}, so its pictures would be drawn again; choose another folder")
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in FORMATS and path.is_file())
    if not found:
        raise SfumatoError(f"{source} has no pictures ({', '.join(FORMATS)}); give a folder that has some")
    return found


def _augment(
    model: Model, source: Path, target: Path, strength: float, options: Options, pictures: list[Path]
) -> Generator[Written, None, None]:
    for number, path in enumerate(pictures):
        name = path.relative_to(source)
        copies = options.get("n") or 1
        paths = [target / name.with_stem(name.stem + (f"-{k + 1}" if copies > 1 else "")) for k in range(copies)]
        try:
            image = load_image(path)
        except SfumatoError as error:
            warn(f"{error}; left out")
            yield Written(path, (), number + 1, len(pictures))
            continue
        caption = path.with_suffix(CAPTION)
        words = caption.read_text(encoding="utf-8", errors="replace") if caption.is_file() else None
        if not all(each.exists() for each in paths):
            seed = ((options.get("seed") or 0) + crc32(name.as_posix().encode())) % MAX_SEED
            mine: Options = {**options, "seed": seed}
            if mine.get("cfg") is None:
                mine["cfg"] = 1.0
            for picture in _drawn(model, image, (words or "").strip(), strength, mine):
                save(picture.image.resize(image.size, Image.Resampling.LANCZOS), paths[picture.index], picture.infotext)
        for each in paths if words is not None else ():
            with atomic_write(each.with_suffix(CAPTION)) as file:
                file.write(caption.read_bytes())
        yield Written(path, tuple(paths), number + 1, len(pictures))


def _drawn(model: Model, image: Image.Image, prompt: str, strength: float, options: Options) -> Iterator[Picture]:
    settings = Settings.of(model.spec, prompt, **sized(options, *natural_size(image, model.spec)))
    with closing(img2img(model, image, settings, strength)) as events:
        yield from (event for event in events if isinstance(event, Picture))
