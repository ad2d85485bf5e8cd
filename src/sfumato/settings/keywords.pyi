# Written by tools/keywords.py from the tables of this folder; change those, and run it.
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from sfumato.diffusion.options import Value
from sfumato.settings.control import Control
from sfumato.settings.image_prompt import ImagePrompt

class Options(TypedDict, total=False):
    """What a user may say about a picture, whatever the task; None, or nothing, is the default."""

    # Sampling steps. Default: the model's own.
    steps: int | None
    # Sampler, also by the names of web UIs, which may end in the schedule ('DPM++ 2M Karras');
    # `sfumato samplers` lists all. Default: the model's own.
    sampler: str | None
    # Schedule of the noise levels, also by the names of web UIs; `sfumato samplers` lists all.
    # Default: the model's own.
    schedule: str | None
    # Noise levels in place of steps and schedule, such as 14.6,7,3,1,0.1,0.
    sigmas: Sequence[float] | None
    # An option of the sampler or its schedule, such as eta=0.5; `sfumato samplers` lists all.
    sampler_options: Mapping[str, Value] | None
    # Guidance scale: how closely to follow the prompt; 1 is none, and faster. Default: the model's
    # own.
    cfg: float | None
    # Seed of the first picture; the next have the numbers after it; below 2^64. Default: drawn at
    # random.
    seed: int | None
    # Width in pixels. Default: the model's own.
    width: int | None
    # Height in pixels. Default: the model's own.
    height: int | None
    # Layer of the text encoder to read, counted from the last, which is 1. Default: the model's own.
    clip_skip: int | None
    # Only at these noise levels, such as 0.28-5.4, or steps, such as 20%-80%. Default: everywhere.
    cfg_interval: str | None
    # CFG++, for ddim, ddpm, euler and euler_ancestral: the guidance scale is then about 0 to 1, by
    # default 0.6.
    cfg_pp: bool | None
    # Scale of skip-layer guidance, for 3.5 medium; its authors use 2.5. Default: the model's own.
    slg: float | None
    # Only at these noise levels, such as 0.28-5.4, or steps, such as 20%-80%. Default: where its
    # authors do.
    slg_interval: str | None
    # How much of the contrast that strong guidance adds is taken back; 0.7 is usual. Default: the
    # model's own.
    cfg_rescale: float | None
    # Project guidance, so that strong guidance does not oversaturate.
    apg: bool | None
    # How much of what oversaturates is kept; 1 is all. Default: 0.
    apg_eta: float | None
    # The greatest length of the projected step, 0 for any. Default: 15.
    apg_norm: float | None
    # How much of the step before is added. Default: -0.5.
    apg_momentum: float | None
    # Dynamic thresholding: the percentile beyond which values are cut, such as 99.5. Default: 0.
    threshold: float | None
    # Thresholding keeps the spread of this guidance scale. Default: the model's own scale.
    mimic_scale: float | None
    # Thresholding draws values back into this number instead.
    threshold_limit: float | None
    # Scale of perturbed-attention guidance, for more structure; 3 is usual. Default: 0.
    pag: float | None
    # Perturb this module, such as up_blocks.1. Default: the middle.
    pag_layers: Sequence[str] | None
    # Only at these noise levels, such as 0.28-5.4, or steps, such as 20%-80%. Default: everywhere.
    pag_interval: str | None
    # Scale of the gradient of the perceptor's score, for models of its kind; slow. Default: 0.
    clip_guidance: float | None
    # Only at these noise levels, such as 0.28-5.4, or steps, such as 20%-80%. Default: everywhere.
    clip_interval: str | None
    # What the weight of a word does. Default: a1111.
    emphasis: str | None
    # Whose rules brackets and other marks follow; plain: all is drawn as it stands. Default: a1111.
    prompt_syntax: str | None
    # Where the files lie that __name__ in a prompt takes a line from. Default: wildcards/ in
    # sfumato's configuration.
    wildcards: str | Path | None
    # Add a style from the styles file.
    styles: Sequence[str] | None
    # A styles.csv as web UIs have it. Default: styles.csv in sfumato's configuration.
    styles_file: str | Path | None
    # Draw with a LoRA or one of its kin, as <lora:NAME:WEIGHT> in a prompt: a file, or the name of
    # one in the model folders.
    lora: Sequence[str] | None
    # Use what fits of a LoRA that fits the model only in part.
    lora_partial: bool | None
    # Know an embedding's word in prompts: a file, or the name of one in the model folders.
    embedding: Sequence[str] | None
    # Draw with a hypernetwork, as <hypernet:NAME:WEIGHT> in a prompt: a file, or the name of one in
    # the model folders.
    hypernetwork: Sequence[str] | None
    # Steer by a ControlNet or T2I-Adapter, such as canny=photo.png,hint=canny,weight=0.8; without a
    # picture it sees that which is drawn on.
    control: Sequence[Control | str] | None
    # Draw what a picture shows, beside the words, by an IP-Adapter, such as
    # plus.safetensors=face.png,weight=0.7.
    ip_adapter: Sequence[ImagePrompt | str] | None
    # Of a model of unCLIP: the picture of which it draws variations.
    image_prompt: Any | None
    # How far variations may go from the picture: steps of noise on what CLIP says of it. Default: 0.
    image_noise: int | None
    # Use the network's inner blocks again where they change little: first-block:0.1, teacache:0.2 or
    # deepcache:3. Default: none.
    step_cache: str | None
    # The share of places that attention merges with others like them. Default: 0.
    token_merging: float | None
    # What makes the picture of latents: the model's own decoder, or the tiny one that it was loaded
    # with. Default: full.
    decoder: str | None
    # How many pictures. Default: 1.
    n: int | None
    # Draw so many, and keep those that the embedded CLIP finds nearest to the prompt.
    best_of: int | None
    # Keep those of `best_of` that this aesthetic predictor of LAION's likes best.
    aesthetic: str | Path | None
    # The image encoder that the aesthetic predictor reads, CLIP ViT-L/14 for most. Default: the one
    # in the folder clip_vision that fits.
    clip_vision: str | Path | None
    # Where noise comes from; nv: the numbers that an NVIDIA GPU would draw, as most pictures of web
    # UIs have. Default: cpu.
    rng: str | None
    # Mark pictures invisibly as generated. Default: on.
    watermark: bool | None
    # Blank pictures that this safety checker of 1.x finds unsafe; model: the one in the model's own
    # folder. Default: none is checked.
    safety: str | Path | None
    # Draw pictures whose opposite edges fit together.
    tiling: str | None
    # Turn the noise of the seed towards that of this one; of the next picture towards the next.
    # Default: drawn at random.
    variation_seed: int | None
    # How far to vary the picture of the seed; 1 is another picture. Default: 0.
    variation_strength: float | None
    # Begin with the noise of a picture of this size and the same seed, in the middle.
    seed_resize: tuple[int, int] | None
    # The size of the imagined original. Default: the drawn size.
    original_size: tuple[int, int] | None
    # What is cut off the original at its left and top. Default: 0,0.
    crop: tuple[int, int] | None
    # The size that it is told to draw. Default: the drawn size.
    target_size: tuple[int, int] | None
    # The refiner: how good a picture it shall make. Default: 6.
    aesthetic_score: float | None
    # After which share of the training times, counted from noise, the refiner goes on. Default: 0.8
    # with a refiner.
    switch_at: float | None
    # How much of the picture the second pass draws anew. Default: 0.5.
    hires_strength: float | None
    # Draw on top of the picture once more, so many times as wide and high.
    hires_scale: float | None
    # Sampling steps of the second pass. Default: as many as of the first.
    hires_steps: int | None
    # What enlarges for it; a file is a pixel upscaler. Default: latent.
    hires_upscaler: str | Path | None
    # Sampler of the second pass. Default: that of the first.
    hires_sampler: str | None
    # Schedule of the second pass. Default: that of the first.
    hires_schedule: str | None
    # What the second pass draws. Default: the prompt.
    hires_prompt: str | None
    # The negative prompt of the second pass. Default: the negative prompt.
    hires_negative: str | None
