"""How strongly an adapter is used, and where: what a view of a model is named by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sfumato.adapters import blocks
from sfumato.adapters.file import AdapterFile
from sfumato.adapters.layer_names import Layer
from sfumato.diffusion.interval import Interval


@dataclass(frozen=True)
class Use:
    """One adapter at its strengths: of the network that draws, and of the text encoders (None: the same).

    `word` is what prompts call an embedding. `blocks` weigh parts of the network and, as "BASE", the text encoders (see
    there). `during` says at which noise levels or steps the network is changed, as `diffusion.interval` has it; None is
    always. Equal uses are equal changes, so views of a model are cached by them.
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
    """When an adapter is used, of `steps` steps: `during` as an interval, or steps counted from 1.

    "step=5-15", and "start=5" with "stop=15", are what LoRA Block Weight has. Raises ValueError and SfumatoError.
    """
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
