"""LoRAs added to a model for good."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sfumato.adapters import lora
from sfumato.adapters.file import AdapterFile
from sfumato.adapters.lora import Change
from sfumato.adapters.use import Use
from sfumato.checkpoint.keymap import Rule
from sfumato.errors import SfumatoError
from sfumato.hub.local_adapters import find_adapter
from sfumato.merging.inputs import Parameter
from sfumato.settings.adapters import read_lora
from sfumato.spec import Spec


@dataclass(frozen=True)
class Baked:
    """What LoRAs change: by parameter, the differences of what `Rule` joins it with, each with its strength."""

    uses: Sequence[Use]
    changes: Mapping[Parameter, Mapping[Rule, Sequence[tuple[Change, float]]]]

    @classmethod
    def of(cls, uses: Sequence[Use], spec: Spec, partial: bool = False) -> Baked:
        """Read the files. Raises SfumatoError for those that do not fit; `partial` allows that some layers do not."""
        changes: dict[Parameter, dict[Rule, list[tuple[Change, float]]]] = defaultdict(dict)
        for use in uses:
            found = lora.read(use.file, spec)
            if not partial or not found.changes:
                found.check(spec)
            for change in found.changes:
                rule, strength = change.layer.rule, use.strength(change.layer)
                for name in rule.ours:
                    changes[change.layer.part, name].setdefault(rule, []).append((change, strength))
        return cls(uses, dict(changes))

    def parameter(self, key: Parameter, before: Callable[[Parameter], Tensor]) -> Tensor:
        """A changed parameter in float32; `before` gives parameters as they are without LoRAs, in float32."""
        part, name = key
        value = before(key)
        for rule, several in self.changes[key].items():
            ours = [value if one == name else before((part, one)) for one in rule.ours]
            (joined,) = rule.transform.to_theirs(ours)
            total = joined.clone()
            for change, strength in several:
                total += change.delta.delta(joined, strength)
            value = rule.transform.to_ours([total])[rule.ours.index(name)]
        return value

    def record(self) -> list[dict[str, Any]]:
        """What a recipe says of them."""
        return [record(use) for use in self.uses]


def used_lora(text: str | Path) -> Use:
    """The LoRA that a path or name with its weights means. Raises SfumatoError for what is none, or not here."""
    try:
        read = read_lora(str(text))
    except ValueError as error:
        raise SfumatoError(str(error).format(name="a LoRA")) from None
    return Use(AdapterFile.open(find_adapter(read.name, "lora")), read.network_weight, read.text_weight)


def record(use: Use) -> dict[str, Any]:
    """What a recipe says of a LoRA."""
    return {"name": use.file.name, "sha256": use.file.sha256, "weight": use.network, "text_weight": use.text_strength}
