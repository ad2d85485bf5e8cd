"""What a model family is, as data. Nothing here runs a network or opens a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Prediction = Literal["eps", "v", "x0", "flow", "edm"]
MAX_SIDE = 8192
# Mean and spread of the pixels of CLIP's training pictures, from 0 to 1.
CLIP_PIXELS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
ID_WIDTH = 256  # of the sinusoids of one number that conditions XL
SizeId = Literal["original_size", "crop", "target_size", "aesthetic_score"]


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of the denoising U-Net (1.x layout; Rombach et al. 2022, appendix E).

    `heads` is a fixed number of heads per block (1.x) and `head_dim` a fixed width (2.x, XL); exactly one is set.
    `depth[i]` is the number of transformer layers after each residual block of level i, 0 for none; `up_depth[i]` are
    those of every block of level i on the way up, where they differ (distilled models; empty: as `depth`). Between the
    `middle_blocks` residual blocks of the middle, if there are two, are `middle_depth` layers. `vector_dim` is the
    width of the vector that joins the time embedding (XL: pooled text and sizes), `classes` the number of rows of a
    table that joins it instead (the upscaler's noise level), `guidance_dim` that of an embedding of the guidance scale
    (LCM, Luo et al. 2023). Levels of `cross_only` attend to the text twice and never to themselves.
    """

    in_channels: int = 4
    out_channels: int = 4
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks: int = 2
    depth: tuple[int, ...] = (1, 1, 1, 0)
    up_depth: tuple[tuple[int, ...], ...] = ()
    middle_depth: int = 1
    middle_blocks: Literal[0, 1, 2] = 2
    context_dim: int = 768
    heads: int | None = 8
    head_dim: int | None = None
    linear_projection: bool = False
    groups: int = 32
    vector_dim: int | None = None
    classes: int | None = None
    cross_only: tuple[bool, ...] = ()
    guidance_dim: int | None = None

    def up_depths(self, level: int) -> tuple[int, ...]:
        """Transformer layers after each residual block of a level on the way up."""
        return self.up_depth[level] if self.up_depth else (self.depth[level],) * (self.blocks + 1)

    def heads_at(self, channels: int) -> int:
        """Number of attention heads in a block of the given width."""
        return self.heads if self.heads is not None else max(1, channels // (self.head_dim or 64))


@dataclass(frozen=True)
class MMDiTConfig:
    """Sizes of the transformer of 3 and 3.5 (Esser et al. 2024). `positions` is the side of its table of positions.

    `qk_norm` normalises queries and keys; the blocks `dual` have a second attention of the picture alone.
    `out_channels` is None where as many channels are drawn as are read; else the others of `in_channels` are those of
    `Cond.concat`. `seen` is the side, in patches, of the pictures that training showed where they had one size: larger
    ones then stretch the positions of those over themselves. None takes each patch's own row of the table.
    """

    in_channels: int = 16
    out_channels: int | None = None
    patch: int = 2
    hidden: int = 1536
    heads: int = 24
    depth: int = 24
    context_dim: int = 4096
    pooled_dim: int = 2048
    positions: int = 192
    qk_norm: bool = False
    dual: tuple[int, ...] = ()
    seen: int | None = None


@dataclass(frozen=True)
class ControlNetConfig:
    """Sizes of a ControlNet for a U-Net (Zhang et al. 2023): those of the U-Net whose way down it has a copy of, and
    the channels of the convolutions that its hint goes through, the hint's own first.

    A ControlNet-Union tells `kinds` of hints apart, by a vector of `kind_width` for each, which goes through
    `kind_layers` small layers; 0 kinds are a ControlNet for one. `pooled` ones give the mean of each map.
    """

    unet: UNetConfig
    hint: tuple[int, ...] = (3, 16, 32, 96, 256)
    kinds: int = 0
    kind_width: int = 320
    kind_layers: int = 1
    pooled: bool = False


@dataclass(frozen=True)
class T2IAdapterConfig:
    """Sizes of a T2I-Adapter (Mou et al. 2023): channels of its maps, one a level, each after `blocks` small blocks.

    `unshuffle` is the side of the squares of pixels that it takes as channels. `halves[i]` says whether map i has half
    the sides of the one before. `light` ones have a quarter of the channels inside their blocks.
    """

    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks: int = 2
    hint_channels: int = 3
    unshuffle: int = 8
    halves: tuple[bool, ...] = (False, True, True, True)
    light: bool = False


@dataclass(frozen=True)
class MMDiTControlConfig:
    """Sizes of a ControlNet for the transformer of 3 and 3.5.

    `transformer` are those of its own blocks, `width` that of the transformer which it controls. `hint_channels` are
    those of the hint's latents. `joint` blocks read the text as well. `own_patches` make tokens of the latents, with
    `positions` added or without; else the controlled transformer's do. With `chained` each block goes on from the one
    before. `own_pooled` ones read the pooled text, others what the controlled transformer has made of it; with
    `zero_pooled` they read zeros in its place.
    """

    transformer: MMDiTConfig
    width: int
    hint_channels: int = 16
    joint: bool = True
    own_patches: bool = True
    positions: bool = True
    chained: bool = True
    own_pooled: bool = True
    zero_pooled: bool = False


@dataclass(frozen=True)
class PriorConfig:
    """Sizes of a scene prior, see `nets.prior`: words -> things and places -> codes, a draft, and conditioning.

    It remembers pictures of `concepts` in `styles` as codes of `code` numbers each, from which a picture of
    `latent_channels` channels and `side` x `side` latents is made, with `detail` further numbers that only the draft
    shows: so many of 15, of 5 and of 3 levels, see `nets.packed`. `attributes` numbers beside each code say where the
    thing lies and what colour it has. `tints` and `grounds` count the colours of things and of grounds, "none said"
    included. `text_dim` is the width of the text tower, of which a reader of width `reader` and `reader_layers` layers
    makes the things, with `phrases` rows of a lexicon.
    """

    concepts: int
    styles: int = 6
    code: int = 192
    detail: tuple[int, ...] = ()
    attributes: int = 64
    latent_channels: int = 16
    side: int = 16
    tints: int = 8
    grounds: int = 22
    text_dim: int = 192
    reader: int = 192
    reader_layers: int = 2
    reader_heads: int = 4
    phrases: int = 0


@dataclass(frozen=True)
class VAEConfig:
    """Sizes of the KL autoencoder; latents = (moments - shift) * scale, `2**(len(channels)-1)` pixels a side each.

    `mean` and `std`, where a model has them, normalise each channel before. `quant_convs` are the 1x1 convolutions on
    both sides of the latents, which SD3 dropped.
    """

    in_channels: int = 3
    latent_channels: int = 4
    channels: tuple[int, ...] = (128, 256, 512, 512)
    blocks: int = 2
    groups: int = 32
    scale: float = 0.18215
    shift: float = 0.0
    quant_convs: bool = True
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def factor(self) -> int:
        """Pixels per latent along one side."""
        return 2 ** (len(self.channels) - 1)

    @property
    def units(self) -> tuple[object, ...]:
        """What two autoencoders must share for latents of one to be latents of the other."""
        return self.latent_channels, self.factor, self.scale, self.shift, self.mean, self.std


@dataclass(frozen=True)
class CLIPTextConfig:
    """Sizes of a CLIP text transformer (Radford et al. 2021), and how a U-Net reads it.

    `eos_token_id` marks the pooled position. `skip` is the layer that is read, 1 for the last, 2 for the last but one;
    `normalised` says whether its output goes through the final norm. `pooled` says whether the vector of the whole
    prompt conditions the network too, and whether it is read before the projection or after.
    """

    vocab_size: int = 49408
    hidden_size: int = 768
    intermediate_size: int = 3072
    layers: int = 12
    heads: int = 12
    max_length: int = 77
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    bos_token_id: int = 49406
    eos_token_id: int = 49407
    pad_token_id: int = 49407
    projection_dim: int | None = None
    skip: int = 1
    normalised: bool = True
    pooled: Literal["plain", "projected"] | None = None


@dataclass(frozen=True)
class CLIPVisionConfig:
    """Sizes of CLIP's vision transformer for pictures of `size` x `size` pixels, cut into patches; ViT-H/14 by default.

    `projection_dim` is the width of the space that it shares with a text tower, None where nothing projects.
    """

    hidden_size: int = 1280
    intermediate_size: int = 5120
    layers: int = 32
    heads: int = 16
    size: int = 224
    patch: int = 14
    activation: Literal["quick_gelu", "gelu"] = "gelu"
    projection_dim: int | None = 1024


@dataclass(frozen=True)
class T5Config:
    """Sizes of a T5 encoder (Raffel et al. 2020); XXL by default. Prompts are padded to `length` tokens, never cut."""

    vocab_size: int = 32128
    hidden_size: int = 4096
    intermediate_size: int = 10240
    layers: int = 24
    heads: int = 64
    head_dim: int = 64
    length: int = 256


@dataclass(frozen=True)
class DPTConfig:
    """Sizes of DPT-hybrid (Ranftl et al. 2021): a ResNet of three `stages`, a vision transformer, a fusion of maps.

    `positions` is the side of the transformer's table of positions, for pictures of 16 times that. `neck` are the
    channels of the maps that are fused, from fine to coarse, `fusion` those in which it happens.
    """

    stem: int = 64
    stages: tuple[int, ...] = (256, 512, 1024)
    depths: tuple[int, ...] = (3, 4, 9)
    groups: int = 32
    positions: int = 24
    hidden: int = 768
    intermediate: int = 3072
    layers: int = 12
    heads: int = 12
    norm_eps: float = 1e-6
    neck: tuple[int, ...] = (256, 512, 768, 768)
    fusion: int = 256

    @property
    def reads(self) -> tuple[int, int]:
        """The layers whose outputs are fused: after three quarters of them and after all."""
        return 3 * self.layers // 4 - 1, self.layers - 1


@dataclass(frozen=True)
class DepthNetConfig:
    """Sizes of the embedded model's depth network: `channels` of its maps of 1/2, 1/4 ... of the picture's sides.

    `side` is that of the pictures it was trained on.
    """

    channels: tuple[int, ...] = (16, 24, 40, 48)
    groups: int = 8
    side: int = 128


@dataclass(frozen=True)
class NoiseSchedule:
    """The noise levels of training: `kind` is the shape of the curve of betas from `start` to `end` over `steps` steps.

    "cosine" has a curve of its own (Nichol & Dhariwal 2021). Of "karras" start and end are noise levels themselves, for
    networks that know every level between them (Karras et al. 2022). `zero_terminal_snr` rescales betas so that the
    last step is pure noise (Lin et al. 2023). A flow has no betas; its levels are shifted towards noise by `shift`
    (Esser et al. 2024, equation 23), or by a shift that grows with the picture: `log_shift` are its logarithms for 256
    and for 4096 patches.
    """

    kind: Literal["scaled_linear", "linear", "cosine", "karras"] = "scaled_linear"
    start: float = 0.00085
    end: float = 0.012
    steps: int = 1000
    zero_terminal_snr: bool = False
    shift: float = 1.0
    log_shift: tuple[float, float] | None = None


@dataclass(frozen=True)
class SkipLayers:
    """Skip-layer guidance as its authors use it: without which blocks, how strong, over which share of the steps."""

    layers: tuple[int, ...]
    scale: float
    start: float
    end: float


@dataclass(frozen=True)
class Defaults:
    """Settings that a user who says nothing gets, as the authors of the release advise."""

    width: int = 512
    height: int = 512
    steps: int = 30
    cfg: float = 7.5
    sampler: str = "dpmpp_2m"
    schedule: str = "karras"
    clip_skip: int = 1
    cfg_rescale: float = 0.0
    slg: float = 0.0


@dataclass(frozen=True)
class Spec:
    """A model family, or one model of it: its networks, its diffusion and its defaults.

    `variant` names the release where several have the same names and shapes ("base", "turbo"); else it is empty.
    `transformer`, if set, is the denoising network, in place of the U-Net. `prior`, if set, stands between the text
    tower and the denoising network, and drafts the picture. `depth` estimates the depth of a picture,
    for a U-Net that takes it. `micro_conditioning` are the numbers that condition XL besides the pooled text (Podell
    et al. 2023). `zero_empty_negative`: an empty negative prompt is encoded as zeros, without the text towers.
    `discrete_timesteps`: the network only knows whole training steps. `vp_init_noise`: every sampler starts at variance
    1 + sigma^2. `image` is the vision tower whose vector of a picture the network is shown, under `image_noise`
    (unCLIP). `low_res`: the model enlarges a picture, to which this noise was added for up to `max_noise_level`
    steps. `licence` is an id of `hub.licences`.
    """

    family: str
    title: str
    variant: str = ""
    unet: UNetConfig = field(default_factory=UNetConfig)
    transformer: MMDiTConfig | None = None
    vae: VAEConfig = field(default_factory=VAEConfig)
    text: CLIPTextConfig = field(default_factory=CLIPTextConfig)
    text_2: CLIPTextConfig | None = None
    text_3: T5Config | None = None
    prior: PriorConfig | None = None
    depth: DPTConfig | DepthNetConfig | None = None
    image: CLIPVisionConfig | None = None
    image_noise: NoiseSchedule | None = None
    low_res: NoiseSchedule | None = None
    max_noise_level: int = 350
    micro_conditioning: tuple[SizeId, ...] = ()
    zero_empty_negative: bool = False
    prediction: Prediction = "eps"
    discrete_timesteps: bool = False
    vp_init_noise: bool = False
    noise: NoiseSchedule = field(default_factory=NoiseSchedule)
    skip_layers: SkipLayers | None = None
    defaults: Defaults = field(default_factory=Defaults)
    licence: str = ""

    @property
    def embeds_guidance(self) -> bool:
        """Whether the network is told the guidance scale, and draws in one call what others take two for (LCM)."""
        return self.transformer is None and self.unet.guidance_dim is not None

    @property
    def backbone(self) -> UNetConfig | MMDiTConfig:
        """The sizes of the denoising network."""
        return self.unet if self.transformer is None else self.transformer

    @property
    def inpaints(self) -> bool:
        """Whether the network sees a mask and the latents of the picture outside it, beside its own latents."""
        return self.beside_latents == self.vae.latent_channels + 1

    @property
    def edits(self) -> bool:
        """Whether the network sees the latents of a picture that it changes, beside its own."""
        return self.prior is None and self.beside_latents == self.vae.latent_channels

    @property
    def beside_latents(self) -> int:
        """How many channels the network sees beside its own latents and the prior's draft: a mask, depth, a picture."""
        draft = 0 if self.prior is None else self.prior.latent_channels
        return self.backbone.in_channels - self.vae.latent_channels - draft

    @property
    def multiple(self) -> int:
        """What the sides of a picture, in pixels, must be multiples of."""
        return self.vae.factor * (1 if self.transformer is None else self.transformer.patch)

    @property
    def max_side(self) -> int:
        """The longest side of a picture in pixels: what any use could want, or what a table of positions holds."""
        return MAX_SIDE if self.transformer is None else min(MAX_SIDE, self.transformer.positions * self.multiple)
