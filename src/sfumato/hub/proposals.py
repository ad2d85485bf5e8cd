"""Which of the releases this machine can draw with, best first."""

from __future__ import annotations

from dataclasses import dataclass

from sfumato import user_config
from sfumato.errors import SfumatoError
from sfumato.hub.catalogue import Release, release
from sfumato.hub.licences import EMBEDDED_LICENCE
from sfumato.hub.local_models import EMBEDDED, embedded_model, find
from sfumato.loading.memory import memory_plan
from sfumato.runtime.machine import Device, free_disk

# Releases that anybody may download without an account, the most capable first.
WANTED = ("sdxl", "sd2.1-base", "sd1.5")
RESERVE = 0.9  # of the free memory may be taken
MEGABITS = 100  # a second: the line for which times of downloads are stated


@dataclass(frozen=True)
class Proposal:
    """A model that fits this machine. Bytes; `here` says that nothing need be downloaded."""

    name: str
    title: str
    licence: str
    size: int
    memory: int
    dtype: str
    here: bool

    @property
    def minutes(self) -> float:
        """How long it takes to download over a line of MEGABITS."""
        return 0.0 if self.here else self.size * 8 / (MEGABITS * 1e6) / 60


def embedded(device: Device) -> Proposal:
    """The model that ships, which fits everywhere."""
    plan = memory_plan(embedded_model(), device.dtype)
    size = plan.file or 0
    return Proposal(EMBEDDED, plan.title, EMBEDDED_LICENCE, size, plan.drawing, device.dtype, True)


def proposals(device: Device) -> list[Proposal]:
    """The releases for which a device has the memory, and the disk the room; offline only those that are here.

    Only sizes are computed; nothing is loaded, and the network is not used.
    """
    found = []
    room, offline = free_disk(user_config.own_models()), user_config.offline()
    for name in WANTED:
        one = release(name)
        assert one is not None and one.file.size is not None
        here = _here(one)
        if not here and (offline or (room is not None and room < one.file.size)):
            continue
        memory = memory_plan(one.family, device.dtype).drawing
        if device.free is None or memory <= RESERVE * device.free:
            found.append(Proposal(one.name, one.title, one.licence, one.file.size, memory, device.dtype, here))
    return found


def _here(one: Release) -> bool:
    try:
        find(one.name)
    except SfumatoError:
        return False
    return True
