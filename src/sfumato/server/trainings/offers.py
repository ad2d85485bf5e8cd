"""Which methods of training a server offers, what each asks for, and the keys of its recipe that this becomes."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Literal

from sfumato.adapters.learned import Kind
from sfumato.spec import Spec
from sfumato.train.registry import Method, of_pictures_alone

Hint = Literal["canny", "gradient", "scribble", "lineart"]
Keys = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be learnt, and how it is to be called.

    `kind` is the kind of a LoRA's differences, `hint` what a ControlNet follows. `word` is a new word for what the
    pictures show, and `like` the known word that it is used like.
    """

    name: str
    method: str = "lora"
    kind: Kind = "lora"
    word: str = ""
    like: str = ""
    hint: Hint = "canny"

    @property
    def how(self) -> Method:
        """Its method."""
        return method_of(self.method)


@dataclass(frozen=True)
class Offer:
    """What a training asks for besides a name, pictures and steps; `required` must be given, `optional` may be.

    `keys` returns the keys of the method's recipe that take what was asked for. `steps` are those that the server
    proposes (None: as many as the recipe has).
    """

    keys: Callable[[Asked], Keys]
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    steps: int | None = None


def _lora(one: Asked) -> Keys:
    word = {"word": one.word, "like": one.like} if one.word else {}
    return {"kind": one.kind, "name": one.name, **word}


def _hint(one: Asked) -> Keys:
    return {"hint": one.hint}


OFFERS: Mapping[str, Offer] = {
    "lora": Offer(_lora, optional=("kind", "word", "like"), steps=400),
    "dreambooth": Offer(
        lambda one: {"lora.name": one.name, "prompt": one.word, "class_prompt": one.like}, required=("word", "like")
    ),
    "textual-inversion": Offer(lambda one: {"word": one.name, "like": one.like}, optional=("like",)),
    "hypernetwork": Offer(lambda one: {"name": one.name}),
    "full": Offer(lambda one: {}),
    "controlnet": Offer(_hint, optional=("hint",)),
    "t2i-adapter": Offer(_hint, optional=("hint",)),
    "inpaint": Offer(lambda one: {}),
    "lcm": Offer(lambda one: {"lora.name": one.name}),
}


def offered() -> list[Method]:
    """The methods that a server can start, the usual choice first."""
    order = [*OFFERS]
    return sorted(of_pictures_alone(), key=lambda one: order.index(one.name))


def method_of(name: str) -> Method:
    """The method of this name. Raises KeyError for one that is not offered."""
    return {one.name: one for one in offered()}[name]


def misfit(method: Method, spec: Spec) -> str:
    """Why a model cannot be trained by the method, as the end of a sentence about the model; else nothing."""
    if method.name != "inpaint" and (spec.beside_latents or spec.low_res is not None):
        return "works from a picture, and not from words alone"
    if "U-Net" in method.needs and spec.transformer is not None:
        return "has no U-Net"
    if "no scene prior" in method.needs and spec.prior is not None:
        return "has a scene prior"
    return ""


@lru_cache(maxsize=64)
def proposed_steps(method: Method) -> int:
    """The steps that are proposed: those of the recipe, unless the offer says otherwise."""
    recipe = resources.files("sfumato.train").joinpath("configs", f"{method.recipe}.toml")
    steps: int = tomllib.loads(recipe.read_text(encoding="utf-8"))["loop"]["steps"]
    return OFFERS[method.name].steps or steps
