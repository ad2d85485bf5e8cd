"""What the U-Net of a file takes besides its latents, read from the shape of its first convolution."""

from __future__ import annotations

from sfumato.checkpoint.keymap import Shapes, holds, width
from sfumato.spec import Spec

UNET, VAE_PREFIX = "model.diffusion_model.", "first_stage_model."  # of the original layouts


def unet_channels(shapes: Shapes) -> tuple[int, int]:
    """Channels that the U-Net of a file takes, and channels of its latents; (0, 4) where there is no U-Net."""
    first = shapes.get(f"{UNET}input_blocks.0.0.weight") or shapes.get("unet/conv_in.weight", ())
    latent = width(shapes, f"{VAE_PREFIX}post_quant_conv") or width(shapes, "vae/post_quant_conv") or 4
    return first[1] if len(first) == 4 else 0, latent


def unet_takes_latents(shapes: Shapes) -> bool:
    """The U-Net takes latents and nothing else."""
    taken, latent = unet_channels(shapes)
    return taken == latent


def unet_takes_mask(shapes: Shapes) -> bool:
    """The U-Net takes latents, a mask and the latents of the masked picture."""
    taken, latent = unet_channels(shapes)
    return taken == 2 * latent + 1


def unet_takes_depth(shapes: Shapes) -> bool:
    """The U-Net takes latents and the depth of every place."""
    taken, latent = unet_channels(shapes)
    return taken == latent + 1


def unet_takes_lowres(shapes: Shapes) -> bool:
    """The U-Net takes latents and a small picture."""
    taken, latent = unet_channels(shapes)
    return taken == latent + 3


def unet_takes_picture(shapes: Shapes) -> bool:
    """The U-Net takes latents and the latents of a picture that is to be changed."""
    taken, latent = unet_channels(shapes)
    return taken == 2 * latent


def contexts(shapes: Shapes, prefix: str) -> set[int]:
    """The widths of the text that the attentions of a U-Net read: one, where it is whole."""
    own = (shape for name, shape in shapes.items() if name.startswith(prefix) and name.endswith("attn2.to_k.weight"))
    return {shape[-1] for shape in own if shape}


def is_second_line(shapes: Shapes, prefix: str) -> bool:
    """The U-Net is of 2.x and not of 1.x: its text is 1024 wide, or it projects by linear layers, not convolutions."""
    widths = contexts(shapes, prefix)
    linear = any(
        name.startswith(prefix) and name.endswith("proj_in.weight") and len(shape) == 2
        for name, shape in shapes.items()
    )
    return widths == {1024} or (linear and widths != {768})


def is_standalone_unet(shapes: Shapes, prefix: str, release: Spec) -> bool:
    """The U-Net is conditioned as the release's, by the widths of what it reads, whatever text towers are beside it."""
    if holds(shapes, "control_model.", "cc_projection.") or (prefix == "unet/" and holds(shapes, "text_encoder")):
        return False
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    vector = own.get("label_emb.0.0.weight") or own.get("add_embedding.linear_1.weight") or (release.unet.vector_dim,)
    labelled = any(name.startswith(("label_emb.", "add_embedding.", "class_embedding.")) for name in own)
    unet = release.unet
    conditioned = (unet.vector_dim or unet.classes) is not None
    read = contexts(shapes, prefix) == {unet.context_dim}
    return read and vector[-1] == unet.vector_dim and labelled == conditioned
