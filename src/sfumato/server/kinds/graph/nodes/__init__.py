"""The nodes, by what they are about; importing this fills the table."""

from __future__ import annotations

from sfumato.server.kinds.graph.nodes import (
    conditioning,
    control,
    images,
    latents,
    loaders,
    masks,
    patches,
    samplers,
    sigmas,
    values,
)

ALL = (loaders, patches, conditioning, control, latents, samplers, sigmas, images, masks, values)
