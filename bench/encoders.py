"""Text encoders and autoencoders at full width, float32: ours against transformers' and diffusers', the same weights.

python bench/encoders.py [NAME ...] [--depth 2] [--rounds 5] [--threads 1]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTextConfig as TheirCLIPConfig
from transformers import CLIPTextModelWithProjection, T5EncoderModel
from transformers import T5Config as TheirT5Config

from common import COLUMNS, count_flops, race, show, twins
from sfumato.checkpoint.diffusers_config import clip_to, t5_to, vae_to
from sfumato.families import family
from sfumato.nets.clip import CLIPText
from sfumato.nets.t5 import T5
from sfumato.nets.vae import VAE
from sfumato.spec import CLIPTextConfig, T5Config, VAEConfig

WINDOW = 77


def clip(name: str, config: CLIPTextConfig, rounds: int) -> list[str]:
    """Two prompts of one window."""
    config = replace(config, projection_dim=config.projection_dim or config.hidden_size)
    with torch.device("meta"):
        ours, theirs = CLIPText(config), CLIPTextModelWithProjection(TheirCLIPConfig(**clip_to(config)))
    twins(ours, theirs)
    theirs.text_model.embeddings.position_ids = torch.arange(WINDOW)[None]  # not among the weights
    ids = torch.randint(0, config.bos_token_id, (2, WINDOW))
    ids[:, -1] = config.eos_token_id
    flops = count_flops(lambda: CLIPText(config)(torch.empty_like(ids, device="meta")).projected)
    return race(name, lambda: ours(ids).projected, lambda: theirs(ids).text_embeds, flops, rounds)


def t5(name: str, config: T5Config, rounds: int) -> list[str]:
    """Two prompts of 256 tokens."""
    with torch.device("meta"):
        ours, theirs = T5(config), T5EncoderModel(TheirT5Config(**t5_to(config)))
    twins(ours, theirs, twice={"encoder.embed_tokens.weight": "shared.weight"})
    ids = torch.randint(0, config.vocab_size, (2, config.length))
    flops = count_flops(lambda: T5(config)(torch.empty_like(ids, device="meta")))
    return race(name, lambda: ours(ids), lambda: theirs(ids).last_hidden_state, flops, rounds)


def vae(name: str, config: VAEConfig, side: int, decode: bool, rounds: int) -> list[str]:
    """One picture of `side` pixels."""
    with torch.device("meta"):
        ours, theirs = VAE(config), AutoencoderKL.from_config(vae_to(config, side))
    twins(ours, theirs)
    shape = (1, config.latent_channels, side // config.factor, side // config.factor)
    x = torch.randn(shape if decode else (1, config.in_channels, side, side))

    def step(network: VAE, x: Tensor) -> Tensor:
        return network.decode(x) if decode else network.encode(x)

    def rival() -> Tensor:
        return theirs.decode(x).sample if decode else theirs.encode(x).latent_dist.parameters

    flops = count_flops(lambda: step(VAE(config), torch.empty_like(x, device="meta")))
    return race(name, lambda: step(ours, x), rival, flops, rounds)


@torch.inference_mode()
def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sd1, sd2, sd3 = (family(name).spec for name in ("sd1", "sd2", "sd3_medium"))
    big_g, xxl = sd3.text_2 or sd3.text, sd3.text_3 or T5Config()
    options = argparse.Namespace()

    rows: dict[str, Callable[[], list[str]]] = {
        "CLIP-L": lambda: clip("CLIP-L", sd1.text, options.rounds),
        "OpenCLIP-H": lambda: clip("OpenCLIP-H", replace(sd2.text, layers=options.depth), options.rounds),
        "OpenCLIP-bigG": lambda: clip("OpenCLIP-bigG", replace(big_g, layers=options.depth), options.rounds),
        "T5-XXL": lambda: t5("T5-XXL", replace(xxl, layers=options.depth, vocab_size=1000), options.rounds),
        "VAE encode": lambda: vae("VAE encode", sd1.vae, options.side, False, options.rounds),
        "VAE decode": lambda: vae("VAE decode", sd1.vae, options.side, True, options.rounds),
        "VAE of 3 decode": lambda: vae("VAE of 3 decode", sd3.vae, options.side, True, options.rounds),
    }
    arguments.add_argument("names", nargs="*", default=list(rows))
    arguments.add_argument("--side", type=int, default=256, help="of the autoencoders' pictures, in pixels")
    arguments.add_argument("--depth", type=int, default=2, help="layers of the large text encoders")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments.parse_args(namespace=options)
    torch.set_num_threads(options.threads)
    title = f"float32, {options.threads} threads, pictures of {options.side} pixels"
    show(title, COLUMNS, [make() for name, make in rows.items() if name in options.names])


if __name__ == "__main__":
    main()
