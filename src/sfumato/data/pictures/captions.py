"""Captions as training sees them: one of several, tags shuffled and dropped, words added."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from sfumato.data.pictures.options import SubsetOptions


def drawn_caption(captions: Sequence[str], options: SubsetOptions, rng: Random) -> str:
    """Returns one of the captions, with what the options do to it by chance; empty for the share that they drop."""
    if rng.random() < options.caption_dropout:
        return ""
    return _dressed(_tags_changed(rng.choice(captions) if captions else "", options, rng), options)


def plain_caption(captions: Sequence[str], options: SubsetOptions) -> str:
    """Returns the first caption with all tags in their order, and with the words that the options add."""
    text = captions[0] if captions else ""
    return _dressed(text.replace(options.keep_separator, "") if options.keep_separator else text, options)


def names_trigger(caption: str, trigger: str) -> bool:
    """Returns whether a caption has the trigger's words, whatever the case."""
    return re.search(rf"(?<!\w){re.escape(trigger)}(?!\w)", caption, re.IGNORECASE) is not None


def _tags_changed(caption: str, options: SubsetOptions, rng: Random) -> str:
    kept, free = "", caption
    if options.keep_separator and options.keep_separator in caption:
        kept, free = caption.split(options.keep_separator, 1)
        free = free.replace(options.keep_separator, options.separator)
    if not (options.shuffle_tags or options.tag_dropout):
        return caption.replace(options.keep_separator, "") if options.keep_separator else caption
    fixed, tags = _tags(kept, options), _tags(free, options)
    if not fixed:
        fixed, tags = tags[: options.keep_tags], tags[options.keep_tags :]
    tags = [tag for tag in tags if rng.random() >= options.tag_dropout]
    if options.shuffle_tags:
        rng.shuffle(tags)
    return f"{options.separator.strip()} ".join(fixed + tags)


def _tags(text: str, options: SubsetOptions) -> list[str]:
    return [tag.strip() for tag in text.split(options.separator) if tag.strip()]


def _dressed(caption: str, options: SubsetOptions) -> str:
    """A caption with prefix, suffix and trigger, whose tags are all parted in the same way."""
    if options.secondary_separator:
        caption = caption.replace(options.secondary_separator, options.separator)
    caption = " ".join(part for part in (options.prefix.strip(), caption.strip(), options.suffix.strip()) if part)
    if options.trigger and not names_trigger(caption, options.trigger):
        return f"{options.trigger}, {caption}" if caption else options.trigger
    return caption
