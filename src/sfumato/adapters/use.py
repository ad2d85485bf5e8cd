"""How strongly an adapter is used, and where: what a view of a model is named by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from sfumato.adapters import blocks
from sfumato.adapters.file import AdapterFile
from sfumato.adapters.layer_names import Layer
from sfumato.diffusion.interval import Interval


@dataclass(frozen=True)
class Use:
    """One adapter at its strengths: of the network that draws, and of the text encoders (None: the same).

    `word` is what prompts call an embedding. `blocks` weigh parts of the network and, as "BASE", the text encoders (see
    there). `during` says when the network is changed, see the function of that name; None is always. Equal uses are
    equal changes, so views of a model are cached by them.
    """

    file: AdapterFile
    network: float = 1.0
    text: float | None = None
    word: str = ""
    blocks: blocks.Factors = ()
    during: str | None = None

    @property
    def text_strength(self) -> float:
        """The strength for the text encoders, as a whole."""
        strength = self.network if self.text is None else self.text
        return strength * blocks.factor(self.blocks, "BASE", "")

    def factors(self, sigmas: Tensor) -> list[float]:
        """What the network's strength is multiplied by at each of the noise levels, the last of which is the end."""
        levels = sigmas[:-1].tolist()
        if self.during is None:
            return [1.0] * len(levels)
        if "=" not in self.during:
            low, high = Interval.parse(self.during).levels(sigmas)
            return [float(low <= level <= high) for level in levels]
        shares, points = _points(self.during)
        places = [100 * i / len(levels) for i in range(len(levels))] if shares else levels
        return [_between(points, place) for place in places]

    @property
    def changes_network(self) -> bool:
        """Whether the network that draws is another with it; embeddings are read by the text encoders alone."""
        return self.file.kind in ("lora", "hypernetwork")

    @property
    def changes_weights(self) -> bool:
        """Whether it is a difference of weights, so that it can be merged into them or added at run time."""
        return self.file.kind == "lora"

    @property
    def changes_text(self) -> bool:
        """Whether the text encoders read otherwise with it."""
        return self.file.kind in ("lora", "embedding")

    def strength(self, layer: Layer) -> float:
        """The strength for a layer of the network or of a text encoder."""
        if layer.part.startswith("text"):
            return self.text_strength
        return self.network * blocks.factor(self.blocks, layer.block, layer.name)


def during(said: Mapping[str, str], steps: int) -> str | None:
    """When an adapter is used, of `steps` steps: an interval, points such as "0%=1,50%=0.3", or steps counted from 1.

    Between points, at shares of the steps or at noise levels, the strength goes on a straight line. "step=5-15", and
    "start=5" with "stop=15", are what LoRA Block Weight has. Raises ValueError and SfumatoError.
    """
    if "=" in said.get("during", ""):
        _points(said["during"])
        return said["during"]
    if "during" in said:
        return str(Interval.parse(said["during"]))
    first, _, last = said.get("step", "-").partition("-")
    first, last = said.get("start", first) or "1", said.get("stop", last) or str(steps)
    if not first.isdecimal() or not last.isdecimal():
        raise ValueError(f"the steps are {first} to {last}; give whole numbers, such as step=5-15")
    if (int(first), int(last)) == (1, steps):
        return None
    low, high = (100 * (min(steps, int(step)) - 0.5) / steps for step in (int(first) - 1, int(last)))
    return str(Interval.parse(f"{max(0, low):.4f}%-{high:.4f}%"))  # half way between two steps, so no rounding matters


def _points(text: str) -> tuple[bool, list[tuple[float, float]]]:
    """Whether places are shares of the steps in percent, not noise levels, and what the strength is times, by place.

    Raises ValueError.
    """
    pairs = [part.partition("=")[::2] for part in text.split(",")]
    shares = all(place.strip().endswith("%") for place, _ in pairs)
    try:
        return shares, sorted((float(place.strip().rstrip("%") if shares else place), float(y)) for place, y in pairs)
    except ValueError:
        form = "give shares of the steps, such as 0%=1,50%=0.3, or noise levels, such as 10=0,2=1"
        raise ValueError(f"the points are {text!r}; {form}") from None


def _between(points: Sequence[tuple[float, float]], place: float) -> float:
    """The value on the straight lines between points; beyond the outermost that of these."""
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= place <= x1 and x0 < x1:
            return y0 + (y1 - y0) * (place - x0) / (x1 - x0)
    return points[0][1] if place < points[0][0] else points[-1][1]
