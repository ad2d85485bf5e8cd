"""Which models are on this machine, and which file a name means. Nothing here uses the network."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sfumato import user_config as settings
from sfumato.checkpoint.hashes import hashed_file, kept_sha256
from sfumato.errors import SfumatoError
from sfumato.hub.catalogue import RELEASES, Release, release
from sfumato.hub.licences import EMBEDDED_LICENCE

EMBEDDED, VARIANTS, EXAMPLES = "emoji", "variants", "adapters"
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".gguf")
ADAPTERS = ("lora", "embedding", "hypernetwork")  # kinds of files that change a model
PICTURES = (".png", ".webp")  # in which AUTOMATIC1111 hides embeddings
# What the folders of A1111 and ComfyUI hold. A folder without any of them holds whole models.
ROOMS = {
    "Stable-diffusion": "model",
    "checkpoints": "model",
    "diffusion_models": "model",
    "unet": "model",
    "VAE": "vae",
    "vae": "vae",
    "text_encoder": "text encoder",
    "text_encoders": "text encoder",
    "clip": "text encoder",
    "Lora": "lora",
    "LyCORIS": "lora",
    "loras": "lora",
    "embeddings": "embedding",
    "hypernetworks": "hypernetwork",
    "ipadapter": "ip-adapter",
    "clip_vision": "image encoder",
    "ControlNet": "controlnet",
    "controlnet": "controlnet",
    "t2i_adapter": "controlnet",
    "ESRGAN": "upscaler",
    "RealESRGAN": "upscaler",
    "upscale_models": "upscaler",
}


@dataclass(frozen=True)
class Found:
    """A model file or diffusers folder on disk; `name` is what a user may call it by, besides its release's name."""

    path: Path
    name: str
    kind: str
    release: Release | None

    @property
    def size(self) -> int:
        """Bytes on disk."""
        files = [self.path] if self.path.is_file() else [file for file in self.path.rglob("*") if file.is_file()]
        return sum(file.stat().st_size for file in files)

    @property
    def sha256(self) -> str | None:
        """Its hash if that was computed once, of a folder that of its U-Net or transformer."""
        file = hashed_file(self.path)
        return kept_sha256(file) if file else None


@dataclass(frozen=True)
class Model:
    """A known release, a model on disk, or both.

    `path` is None for a release that is not here, `release` None for a file that is no official one. `what` is a noun
    phrase: the release's title, or what the tensors show. `licence` is an id of `hub.licences`, for strays that of
    their family. `sha256` is None until it was computed once. `problem` says why a file cannot be described.
    """

    name: str
    what: str
    release: str | None = None
    family: str | None = None
    kind: str = "model"
    layout: str | None = None
    size: int | None = None
    dtype: str | None = None
    licence: str | None = None
    sha256: str | None = None
    path: Path | None = None
    problem: str | None = None


def embedded_model() -> Path:
    """The folder of the default model that ships with the package."""
    return settings.shipped(EMBEDDED)


def embedded_variants() -> list[Path]:
    """The files of its variants that ship with the package (see `checkpoint.variant`)."""
    return sorted(settings.shipped(VARIANTS).glob("*.safetensors"))


def models() -> list[Model]:
    """Every known release and every model on this machine, in the catalogue's order, then by path.

    Of files only the headers are read. Looks into the own models folder, the folders of the user's settings and the
    Hugging Face cache. Raises SfumatoError for settings that cannot be read.
    """
    here = [_described(one) for one in found()]
    names = {model.release for model in here}
    absent = [_absent(one) for one in RELEASES if one.name not in names]
    order = {one.name: index for index, one in enumerate(RELEASES)}
    last = len(order)
    return sorted(
        here + absent, key=lambda one: (order.get(one.release or "", last), one.kind != "model", str(one.path))
    )


def found() -> list[Found]:
    """Everything that looks like a model in the places that models lie in, each file once, whatever links to it."""
    return _once(_everywhere())


def find(name: str, kind: str = "model") -> Found:
    """The model that a name means: a release, a repository in the Hugging Face cache, or a file with or without suffix.

    Of a release that is here in several copies the first is taken: the own folder's, then those of the user's folders
    in their order, then the cache's. Raises SfumatoError when there is no such model here, or several.
    """
    wanted = release(name)
    here = [one for one in _everywhere() if one.kind == kind]
    if wanted is not None and (wanted.part or "model") == kind:
        for one in here:
            if one.release == wanted:
                return one
        size = f" ({wanted.file.size / 1e9:.1f} GB)" if wanted.file.size else ""
        raise SfumatoError(
            f"{wanted.title} is not on this machine; `sfumato pull {wanted.name}` downloads it{size}, or give its path"
        )
    named = _once(one for one in here if name in (one.name, one.path.name))
    named = named or _once(one for one in here if name.lower() in (one.name.lower(), one.path.name.lower()))
    if len(named) == 1:
        return named[0]
    if named:
        paths = ", ".join(str(one.path) for one in named)
        raise SfumatoError(f"{name!r} may mean {paths}; give the path of one of them")
    known = [one.name for one in RELEASES] + [one.name for one in here]
    near = difflib.get_close_matches(name, known, n=3)
    hint = f", such as {' or '.join(near)}" if near else ""
    raise SfumatoError(f"no model at {name!r}, and none of this name; `sfumato models` lists them{hint}")


def in_model_folders(path: Path) -> bool:
    """Whether a file or folder lies, links resolved, in a place that models lie in."""
    from huggingface_hub import constants

    places = (settings.own_models(), *settings.model_folders(), Path(constants.HF_HUB_CACHE), settings.shipped(""))
    return any(path.resolve().is_relative_to(place.resolve()) for place in places)


def permitted(path: Path) -> Path:
    """The path of a model that was found. Raises SfumatoError for a link out of the folders where these confine us."""
    if settings.confined() and not in_model_folders(path):
        raise SfumatoError(f"{path.name} is a link out of the model folders; whoever runs this may add its folder")
    return path


def release_of(path: Path) -> Release | None:
    """The release that a file is: by its hash where that is known, else by its name and size together."""
    if not path.is_file():
        return None
    value, size = kept_sha256(path), path.stat().st_size
    for one in RELEASES:
        if value is not None and one.file.sha256 is not None:
            if value == one.file.sha256:
                return one
        elif path.name == one.file.name and one.file.size in (None, size):
            return one
    return None


def _everywhere() -> list[Found]:
    embedded = [embedded_model(), *embedded_variants()]
    ours = [Found(path, _plain_name(path), "model", None) for path in embedded]
    ours += _in_roots([settings.shipped(EXAMPLES)])
    return [*ours, *_in_own_folder(), *_in_folders(), *_in_cache()]


def _once(several: Iterable[Found]) -> list[Found]:
    """The first of those that are the same file."""
    result: dict[tuple[int, int], Found] = {}
    for one in several:
        status = one.path.stat()
        result.setdefault((status.st_dev, status.st_ino), one)
    return list(result.values())


def _in_own_folder() -> Iterator[Found]:
    for path in _weights(settings.own_models()):
        known = release(path.name) if path.is_dir() else release_of(path)
        room = path.relative_to(settings.own_models()).parts[0]
        yield Found(path, _plain_name(path), (known and known.part) or ROOMS.get(room, "model"), known)


def _in_folders() -> Iterator[Found]:
    return _in_roots(settings.model_folders())


def _in_roots(roots: Iterable[Path]) -> Iterator[Found]:
    for root in roots:
        for room, kind in _rooms(root):
            for path in _weights(room, kind):
                known = release_of(path)
                yield Found(path, _plain_name(path), (known and known.part) or kind, known)


def _in_cache() -> Iterator[Found]:
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except (CacheNotFound, ValueError, OSError):
        return
    for repository in sorted(repositories, key=lambda one: one.repo_id):
        if repository.repo_type != "model" or not repository.revisions:
            continue
        # The revision that "main" points at, else the last one that was fetched.
        latest = max(repository.revisions, key=lambda one: ("main" in one.refs, one.last_modified))
        for path in _weights(latest.snapshot_path):
            known = release(repository.repo_id) if path == latest.snapshot_path else release_of(path)
            name = repository.repo_id if path == latest.snapshot_path else path.stem
            yield Found(path, name, (known and known.part) or "model", known)


def in_rooms(kind: str) -> dict[str, Path]:
    """The files by their names in all rooms of one kind, the first of each name. Nothing is opened."""
    own = settings.own_models()
    rooms = [own / name for name, held in ROOMS.items() if held == kind]
    rooms += [
        room
        for root in (*settings.model_folders(), settings.shipped(EXAMPLES))
        for room, held in _rooms(root)
        if held == kind
    ]
    found: dict[str, Path] = {}
    for path in (path for room in rooms if room.is_dir() for path in _weights(room, kind)):
        found.setdefault(path.stem, path)
    return found


def _rooms(root: Path) -> list[tuple[Path, str]]:
    """The rooms of a web UI's folder, of which A1111 keeps that of embeddings beside its models, not among them."""
    bases = (root / "models", root)
    rooms = [(base / name, kind) for base in bases for name, kind in ROOMS.items() if (base / name).is_dir()]
    return rooms if rooms and not (root / "model_index.json").is_file() else [(root, "model")]


def _weights(folder: Path, kind: str = "model") -> Iterator[Path]:
    """Diffusers folders that hold weights, and single files; parts of folders are not looked at on their own.

    Embeddings may lie in `.bin` files and in pictures.
    """
    suffixes = (*SUFFIXES, ".bin", *PICTURES) if kind == "embedding" else SUFFIXES
    seen: set[str] = set()
    for place, subfolders, files in os.walk(folder, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if os.path.realpath(place) in seen:  # links may form a circle
            subfolders.clear()
            continue
        seen.add(os.path.realpath(place))
        if "model_index.json" in files:
            subfolders.clear()
            if any(path.suffix in (".safetensors", ".bin") for path in Path(place).glob("*/*")):
                yield Path(place)
        for name in sorted(files):
            if name.lower().endswith(suffixes) and not name.startswith(".") and os.path.isfile(f"{place}/{name}"):
                yield Path(place, name)


def _plain_name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _absent(one: Release) -> Model:
    return Model(
        name=one.name,
        what=one.title,
        release=one.name,
        family=one.family,
        kind=one.part or "model",
        size=one.file.size if one.layout == "original" else None,
        licence=one.licence,
        sha256=one.file.sha256,
    )


def _described(one: Found) -> Model:
    from sfumato.checkpoint.open import open_checkpoint
    from sfumato.loading.detect import identify

    if one.kind in (*ADAPTERS, "ip-adapter"):
        return _described_adapter(one)
    known, embedded = one.release, (embedded_model(), *embedded_variants())
    model = Model(
        name=known.name if known else one.name,
        what=known.title if known else "",
        release=known.name if known else None,
        kind=one.kind,
        size=one.size,
        licence=known.licence if known else EMBEDDED_LICENCE if one.path in embedded else None,
        sha256=one.sha256,
        path=one.path,
    )
    try:
        with open_checkpoint(one.path) as checkpoint:
            identity = identify(checkpoint)
            kinds = Counter(str(stored.dtype).removeprefix("torch.") for stored in checkpoint.tensors.values())
    except SfumatoError as error:
        return replace(model, what=model.what or "broken", problem=str(error))
    family = identity.family
    return replace(
        model,
        what=model.what or identity.title,
        family=family.name if family else known.family if known else None,
        layout=identity.layout,
        dtype=kinds.most_common(1)[0][0] if kinds else None,
        licence=model.licence or (family.spec.licence if family else None) or None,
    )


def _described_adapter(one: Found) -> Model:
    from sfumato.adapters.describe import describe_file

    model = Model(one.name, "", kind=one.kind, size=one.size, sha256=kept_sha256(one.path), path=one.path)
    try:
        found = describe_file(one.path)
    except SfumatoError as error:
        return replace(model, what="broken", problem=str(error))
    return replace(model, what=str(found) if found else f"no {one.kind} that is known here")


def locate(name: str | Path, kind: str = "model") -> tuple[Path, str | None]:
    """Returns the file or folder that a path or a name means, and the variant if it is a file of a known release.

    Raises SfumatoError for what is neither.
    """
    if name == EMBEDDED and kind == "model":
        return embedded_model(), None
    try:
        path = Path(name).expanduser()
        if name != "" and path.exists() and (not settings.confined() or in_model_folders(path)):
            release = release_of(path)
            return path, release.variant if release else None
    except (TypeError, ValueError, RuntimeError, OSError):  # no path, the home of nobody, too long a name
        pass
    if not isinstance(name, str) or not name.strip() or os.path.isabs(name):
        raise SfumatoError(f"no model at {str(name)!r}; give a checkpoint file or folder, or '{EMBEDDED}'")
    found = find(name, kind)
    return permitted(found.path), found.release.variant if found.release and found.path.is_file() else None
