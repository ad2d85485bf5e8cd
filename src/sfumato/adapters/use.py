"""How strongly an adapter is used, and where: what a view of a model is named by."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.adapters.file import AdapterFile


@dataclass(frozen=True)
class Use:
    """One adapter at its strengths: of the network that draws, and of the text encoders (None: the same).

    `word` is what prompts call an embedding. Equal uses are equal changes, so views of a model are cached by them.
    """

    file: AdapterFile
    network: float = 1.0
    text: float | None = None
    word: str = ""

    @property
    def text_strength(self) -> float:
        return self.network if self.text is None else self.text

    def strength(self, part: str) -> float:
        """The strength for a part of a model: "text", "text_2" ... are its text encoders."""
        return self.text_strength if part.startswith("text") else self.network
