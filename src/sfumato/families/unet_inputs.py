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


def is_standalone_unet(shapes: Shapes, prefix: str, release: Spec) -> bool:
    """There is no text tower, and the U-Net is conditioned as the release's."""
    if holds(shapes, "cond_stage_model.", "conditioner.", "control_model.", "text_encoder"):
        return False
    own = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    contexts = {shape[-1:] for name, shape in own.items() if name.endswith("attn2.to_k.weight")}
    vector = own.get("label_emb.0.0.weight") or own.get("add_embedding.linear_1.weight") or (release.unet.vector_dim,)
    labelled = any(name.startswith(("label_emb.", "add_embedding.", "class_embedding.")) for name in own)
    unet = release.unet
    conditioned = (unet.vector_dim or unet.classes) is not None
    return contexts == {(unet.context_dim,)} and vector[-1] == unet.vector_dim and labelled == conditioned
