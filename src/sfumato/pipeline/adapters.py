"""The adapters of a model: those that were added to it, and those that a request names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from sfumato.adapters import blocks, hypernetwork, lora
from sfumato.adapters.file import NAMED, AdapterFile, Kind, plain_name
from sfumato.adapters.use import Use, during
from sfumato.adapters.words import embeddings
from sfumato.errors import SfumatoError, warn
from sfumato.hub.local_adapters import IMAGE_KIND, KINDS, find_adapter
from sfumato.hub.local_models import in_rooms
from sfumato.settings.adapters import read_lora
from sfumato.settings.image_prompt import ImagePrompt
from sfumato.settings.settings import Settings
from sfumato.spec import Spec
from sfumato.text.embeddings import Embedding, known, marked
from sfumato.text.prompt.syntax import WITH_CHANCE, parsed
from sfumato.text.prompt.tree import Adapter

Fits = Callable[[tuple[Use, ...]], bool]
"""Whether the copy of weights that LoRAs would be merged into fits into memory."""
TAGS: dict[str, Kind] = {"lora": "lora", "lyco": "lora", "hypernet": "hypernetwork"}  # in prompts


class Adapters:
    """What a model draws every picture with, besides what a request asks for: a collection of `Use`, by name, and the
    pictures that IP-Adapters show it (`show`).

    All views and copies of a model share it. Nothing here changes the model's own weights: without an adapter it is
    what it was, bit for bit. `merge` says whether adapters that all pictures of a request share are merged into a copy
    of the weights that they change, which costs its memory and no time later; else they are added at every step. None,
    as at the start, merges where the copy takes at most half of the memory that is free.
    """

    def __init__(self, spec: Spec):
        self.spec = spec
        self.merge: bool | None = None
        self._asks = True
        self._uses: dict[str, Use] = {}
        self._images: dict[str, ImagePrompt] = {}
        self._opened_before: dict[str, Path] = {}

    def add(
        self, adapter: str | Path, weight: float = 1.0, text_weight: float | None = None, name: str | None = None,
        *, strict: bool = True,
    ) -> AdapterFile:  # fmt: skip
        """Use an adapter's file, or one of the model folders by its name, in every picture from now on.

        `weight` is its strength, `text_weight` that for the text encoders (None: the same). Of what is added twice
        under the same name the last counts. `strict` False takes what fits of a file that fits in part. Raises
        SfumatoError for what is not here, is no adapter or does not fit.
        """
        file = self._opened(str(adapter), KINDS, name)
        self._uses[file.name] = self._use(file, weight, text_weight, not strict)
        return file

    def show(
        self, adapter: str | Path, image: Any, weight: float = 1.0, *, encoder: str | None = None,
        name: str | None = None,
    ) -> str:  # fmt: skip
        """Have every picture from now on see `image` by an IP-Adapter; see `sfumato.ImagePrompt`.

        Returns the name by which `remove` knows it: `name`, else that of the adapter's file. Raises SfumatoError for
        an adapter that is not here; one that does not fit is refused when a picture is drawn.
        """
        path = find_adapter(str(adapter), (IMAGE_KIND,))
        called = plain_name(path) if name is None else name
        self._images[called] = ImagePrompt(str(path), image, weight, encoder=encoder)
        return called

    def image_prompts(self, one: Settings) -> tuple[ImagePrompt, ...]:
        """What a picture of these settings is shown by IP-Adapters: what was added, then what options ask for."""
        return (*self._images.values(), *one.ip_adapter)

    def remove(self, name: str) -> None:
        """Use an adapter no more. Raises SfumatoError for a name that is not used."""
        if name not in self:
            raise SfumatoError(f"no adapter {name!r} is used; {self._listed()}")
        self._uses.pop(name, None)
        self._images.pop(name, None)

    def clear(self) -> None:
        """Use none of them any more."""
        self._uses.clear()
        self._images.clear()

    @contextmanager
    def using(
        self, adapter: str | Path, weight: float = 1.0, text_weight: float | None = None, *, strict: bool = True
    ) -> Iterator[AdapterFile]:
        """Use an adapter while the context lasts; see `add`. What was used before is used again after it."""
        before = self._uses.copy()
        try:
            yield self.add(adapter, weight, text_weight, strict=strict)
        finally:
            self._uses.clear()
            self._uses.update(before)

    def alone(self) -> Adapters:
        """The same adapters for a model that goes on where another leaves off: what the request asks for is not its."""
        result = copy.copy(self)
        result._asks = False
        return result

    def uses(self, one: Settings) -> tuple[Use, ...]:
        """What a picture of these settings is drawn with: what was added, what options and what the prompt ask for.

        Who asks for one that was added asks for it at another strength. Raises SfumatoError as `add`.
        """
        if not self._asks:
            return tuple(self._uses.values())
        by_prompt = tuple(self._of_tag(kind, tag, fix, one) for kind, tag, fix in self._tags(one))
        uses = (*self.unsaid(one), *by_prompt)
        return (*uses, *self._embeddings(one, uses))

    def unsaid(self, one: Settings) -> tuple[Use, ...]:
        """Of the `uses` of a picture those of networks that its own prompt does not name. Raises SfumatoError."""
        asked: list[tuple[Kind, Adapter]] = [("lora", read_lora(text)) for text in one.lora]
        asked += [("hypernetwork", read_lora(text)) for text in one.hypernetwork]
        named = {tag.name for _, tag in asked} | {tag.name for _, tag, _ in self._tags(one)}
        added = (use for name, use in self._uses.items() if name not in named)
        return (*added, *(self._of_tag(kind, tag, "take it out", one) for kind, tag in asked))

    def _tags(self, one: Settings) -> list[tuple[Kind, Adapter, str]]:
        """The adapters in a prompt, each with its kind and what a user may do who has none such."""
        if "<" not in one.prompt:
            return []
        every = (tag for tag in parsed(one.prompt_syntax, one.prompt).adapters if tag.kind in TAGS)
        fix = "take it out of the prompt, or write \\{} to have it read as words"
        return [(TAGS[tag.kind], tag, fix.format(tag)) for tag in every]

    def _of_tag(self, kind: Kind, tag: Adapter, fix: str, one: Settings) -> Use:
        here = self._uses.get(tag.name)
        if here is not None and here.file.kind == kind:
            file, partial = here.file, True
        else:
            file, partial = self._opened(tag.name, (kind,), None, fix), one.lora_partial
        use = self._use(file, tag.network_weight, tag.text_weight, partial)
        return self._weighed(use, tag, one.steps) if use.changes_weights else use

    def words(self, one: Settings) -> tuple[Embedding, ...]:
        """The words that are read when a prompt is only looked at: those that were added, and those that are here."""
        added = tuple(self._uses.values())
        return embeddings((*added, *self._embeddings(one, added, needed=False)), self.spec)

    def _use(self, file: AdapterFile, weight: float, text_weight: float | None, partial: bool) -> Use:
        """An adapter at its strengths. Raises SfumatoError for one that does not fit, of LoRAs not even in part."""
        if file.kind == "lora":
            lora.read(file, self.spec).check(self.spec, partial)
            return Use(file, weight, None if text_weight == weight else text_weight)
        if file.kind == "hypernetwork":
            with file.checkpoint() as checkpoint:
                hypernetwork.check(hypernetwork.read(checkpoint), self.spec, file.path)
            return Use(file, weight)
        use = Use(file, word=file.name)
        embeddings([use], self.spec)
        return use

    def _weighed(self, use: Use, tag: Adapter, steps: int) -> Use:
        """A use with the weights of blocks, and for the steps, that a tag says. Raises SfumatoError for others."""
        said = dict(option.split("=", 1) for option in tag.options if "=" in option)
        try:
            weights = blocks.read(said["lbw"]) if "lbw" in said else ()
            if self.spec.transformer is not None and any(name in blocks.LISTS[26] for name, _ in weights):
                raise ValueError(f"{self.spec.title} has no such blocks; name modules, as transformer_blocks.3=0.5")
            return replace(use, blocks=weights, during=during(said, steps))
        except ValueError as error:
            raise SfumatoError(f"{tag} cannot be read: {error}") from error

    def divided(self, settings: Settings, copy_fits: Fits) -> tuple[tuple[Use, ...], tuple[Use, ...]]:
        """What changes the network for all pictures of a request at all times, and LoRAs that do for some or at some.

        With `merge` off, and where `copy_fits` says no, LoRAs are all among the second. Raises SfumatoError as `uses`,
        for wildcards that cannot be read.
        """
        chance = self._asks and settings.prompt_syntax in WITH_CHANCE and "<" in settings.prompt
        pictures = map(settings.of_picture, range(settings.draws)) if chance else (settings,)
        return self.divide([self.uses(one) for one in pictures], copy_fits)

    def divide(self, sets: Sequence[tuple[Use, ...]], copy_fits: Fits) -> tuple[tuple[Use, ...], tuple[Use, ...]]:
        """As `divided`, of what each picture is drawn with."""
        every = dict.fromkeys(use for uses in sets for use in uses if use.changes_network)
        once = {use for use in every if all(uses.count(use) == 1 for uses in sets)}
        always = [use for use in every if use in once and use.during is None]
        weights = tuple(use for use in always if use.changes_weights)
        merge = copy_fits(weights) if self.merge is None else self.merge
        shared = tuple(use for use in always if merge or not use.changes_weights)
        return shared, tuple(use for use in every if use not in shared and use.changes_weights)

    def _embeddings(self, one: Settings, uses: Sequence[Use], needed: bool = True) -> Iterator[Use]:
        """The embeddings that options and prompts name, but for those that `uses` bring; each once.

        A name that stands among the words of a web UI's prompt, as its users write it, is one where such a file lies in
        the folders; if that was made for another family, it is read as words. With `needed` False so is all that is
        not here, else SfumatoError is raised.
        """
        there = {word.name.lower() for word in embeddings(uses, self.spec)}
        texts = (one.prompt, one.negative)
        said = "\n".join(texts)
        words: dict[str, bool] = dict.fromkeys(one.embedding, True)  # whether it has to be there
        here = in_rooms("embedding") if one.prompt_syntax != "plain" else {}
        if one.prompt_syntax in WITH_CHANCE:
            tags = [tag for text in texts if "embedding:" in text for tag in parsed(one.prompt_syntax, text).adapters]
            words |= dict.fromkeys((tag.name for tag in tags if tag.kind == "embedding"), True)
            words = {name: False for name in here if name.lower() in said.lower()} | words
        elif one.prompt_syntax != "plain":
            named, maybe = marked(said)
            words = {name: False for name in maybe if known(name, here)} | dict.fromkeys(named, True) | words
        for word, sure in words.items():
            if word.lower() in there:
                continue
            try:
                marked_word = f", or write \\embedding:{word} to have it read as words"
                fix = "take it out" + ("" if word in one.embedding else marked_word)
                file = self._opened(str(here.get(word, word)), ("embedding",), None, fix)
                use = Use(file, word=file.name if word in one.embedding else word)
                embeddings([use], self.spec)
            except SfumatoError as error:
                if sure and needed:
                    raise
                warn(f"{error}; it is read as words")
                continue
            if use.word.lower() not in there:
                there.add(use.word.lower())
                yield use

    def _opened(self, name: str, kinds: Sequence[str], called: str | None = None, else_do: str = "") -> AdapterFile:
        """The adapter of one of these kinds that a path or name means; a file that was opened is known by its name.

        Raises SfumatoError.
        """
        try:
            path = find_adapter(name, kinds, else_do)
        except SfumatoError:
            if name not in self._opened_before:
                raise
            path = self._opened_before[name]
        status = path.stat()
        file = _open(path, called, (status.st_mtime_ns, status.st_size))
        if file.kind not in kinds:
            expected = " or ".join(name for kind, name in NAMED.items() if kind in kinds)
            raise SfumatoError(f"{path} is {NAMED[file.kind]}; give {expected}")
        self._opened_before[file.name] = path
        return file

    def _listed(self) -> str:
        return f"there are {', '.join((*self._uses, *self._images))}" if len(self) else "there are none"

    def __iter__(self) -> Iterator[Use]:
        return iter(tuple(self._uses.values()))

    def __len__(self) -> int:
        return len(self._uses) + len(self._images)

    def knows(self, name: str) -> bool:
        """Whether a name needs no search in the model folders."""
        return name in self._uses or name in self._opened_before

    def __contains__(self, name: object) -> bool:
        return name in self._uses or name in self._images

    def __repr__(self) -> str:
        listed = [f"{use.file.name} ({use.file.kind}) at {use.network:g}" for use in self]
        listed += [f"{name} ({IMAGE_KIND}) at {one.weight:g}" for name, one in self._images.items()]
        return f"<Adapters: {', '.join(listed) or 'none'}>"


@lru_cache(maxsize=256)
def _open(path: Path, called: str | None, state: tuple[int, int]) -> AdapterFile:
    """The file, which is opened again when its `state` has changed."""
    return AdapterFile.open(path, called)
