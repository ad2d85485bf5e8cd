"""Binary arithmetic coding with probabilities that adapt (Witten, Neal & Cleary 1987), in whole numbers throughout.

Encoder and decoder make the same steps on every machine, because no step is a float's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_ONE = 1 << 16  # the probability 1
_TOP, _MASK = 1 << 24, (1 << 32) - 1
_MEMORY = 30  # bits after which old ones count less


@dataclass
class Bit:
    """The chance that a bit is 0, learnt from the bits so far."""

    zero: int = _ONE // 2
    seen: int = 0

    def learn(self, bit: int) -> None:
        goal = 64 if bit else _ONE - 64
        self.zero += (goal - self.zero) * 2 // (2 * self.seen + 3)
        self.seen = min(self.seen + 1, _MEMORY)


class Encoder:
    """Collects bits; `finish` gives the bytes."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.low, self.range = 0, _MASK

    def code(self, model: Bit, bit: int) -> int:
        """Write a bit and learn from it; returns it."""
        bound = (self.range >> 16) * model.zero
        if bit:
            self.low += bound
            self.range -= bound
            self._carry()
        else:
            self.range = bound
        while self.range < _TOP:
            self._shift()
            self.range <<= 8
        model.learn(bit)
        return bit

    def finish(self) -> bytes:
        """The shortest bytes that decode to what was written; the decoder reads zeros after them."""
        for keep in (8, 16, 24):
            rounded = (self.low + (1 << 32 - keep) - 1) >> 32 - keep << 32 - keep
            if rounded < self.low + self.range:
                self.low = rounded
                break
        self._carry()
        for _ in range(4):
            self._shift()
        return bytes(self.out).rstrip(b"\0")

    def _carry(self) -> None:
        if self.low > _MASK:
            place = len(self.out) - 1
            while self.out[place] == 0xFF:
                self.out[place] = 0
                place -= 1
            self.out[place] += 1
            self.low &= _MASK

    def _shift(self) -> None:
        self.out.append(self.low >> 24)
        self.low = self.low << 8 & _MASK


class Decoder:
    """Reads the bits that an `Encoder` wrote, with the same models in the same order."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0
        self.range, self.value = _MASK, 0
        for _ in range(4):
            self._shift()

    def code(self, model: Bit, bit: int = 0) -> int:
        """The next bit; what is given for it does not matter."""
        bound = (self.range >> 16) * model.zero
        found = int(self.value >= bound)
        if found:
            self.value -= bound
            self.range -= bound
        else:
            self.range = bound
        while self.range < _TOP:
            self._shift()
            self.range <<= 8
        model.learn(found)
        return found

    def _shift(self) -> None:
        byte = self.data[self.place] if self.place < len(self.data) else 0
        self.place += 1
        self.value = (self.value << 8 & _MASK) | byte


Code = Callable[[Bit, int], int]
"""`Encoder.code` or `Decoder.code`: what walks through symbols does not care in which direction."""
