"""Training the denoiser of a latent diffusion model on frozen latents, with a text tower that may learn too."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.data import captions, scene_captions
from sfumato.data.dataset import EmojiData
from sfumato.data.scenes import Scene, Scenes
from sfumato.diffusion import guidance as guide
from sfumato.diffusion import predict
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.driver import Denoiser, Failed, Finished, drive
from sfumato.diffusion.noise_schedule import table_of
from sfumato.diffusion.process import per_row
from sfumato.diffusion.rng import NoiseStream
from sfumato.diffusion.sample import find_sampler
from sfumato.diffusion.sigma_schedules import sigma_list
from sfumato.errors import SfumatoError
from sfumato.families import family
from sfumato.loading.save import save_folder
from sfumato.nets.clip import CLIPText
from sfumato.nets.mmdit import MMDiT
from sfumato.nets.unet import UNet
from sfumato.pipeline.sampling import first_latents, last_latents
from sfumato.seeding import shuffled, stream
from sfumato.spec import CLIPTextConfig, Defaults, MMDiTConfig, NoiseSchedule, Prediction, UNetConfig, VAEConfig
from sfumato.train.config import LoopConfig
from sfumato.train.latents import UNNAMED, cached, cached_scenes
from sfumato.train.loop import Batch, arithmetic
from sfumato.train.networks import described, new_unet, text_transformer
from sfumato.train.sheet import sheet
from sfumato.train.start import Start

MAX_FILE = 16 << 20
RATIOS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0)  # of the validation's noise to its signal


@dataclass(frozen=True)
class LDMTraining:
    """Recipe of a denoiser.

    The network is a U-Net, `net`, or a `transformer`; what depends on the autoencoder and the text tower is filled in.
    `init` is a model (a path, or "emoji") whose weights are the first ones. `length` is the number of tokens that the
    network sees, start and end included. `styles` says how often pictures of a style come in an epoch
    (default once), `subgroups` the same for Unicode's subgroups of concepts, `languages` how often captions of one are
    drawn. With `scenes` the first so many of `data.scenes` are `scene_share` of every batch. `min_snr` is the gamma of
    Hang et al. 2023, 0 for equal weights. Times are drawn, stratified over the batch, as sigmoid(t_shift + t_scale z):
    "uniform" takes z from the logistic distribution, which makes them uniform for t_shift 0 and t_scale 1,
    "logit_normal" from the normal one (Esser et al. 2024, equation 19). `train_text` lets the text tower go on learning
    with the denoiser. Sheets draw `prompts` x `sheet_styles`; their steps and guidance, and `sampler` and `schedule`,
    become the model's own defaults.
    """

    loop: LoopConfig
    net: UNetConfig | None = None
    transformer: MMDiTConfig | None = None
    prediction: Prediction = "v"
    noise: NoiseSchedule = field(default_factory=NoiseSchedule)
    init: str = ""
    length: int = 32
    drop: float = 0.1
    backgrounds: int = 3
    background_share: float = captions.BACKGROUND_SHARE
    styles: dict[str, int] = field(default_factory=dict)
    subgroups: dict[str, int] = field(default_factory=dict)
    languages: dict[str, float] = field(default_factory=dict)
    scenes: int = 0
    scene_share: float = 0.4
    min_snr: float = 0.0
    times: Literal["uniform", "logit_normal"] = "uniform"
    t_shift: float = 0.0
    t_scale: float = 1.0
    train_text: bool = False
    held_out: int = 48
    sheet_steps: int = 20
    sheet_cfg: float = 4.0
    sampler: str = "dpmpp_2m"
    schedule: str = "karras"
    prompts: tuple[str, ...] = ("red apple", "dog face", "rocket", "house", "red heart", "pizza", "octopus", "robot")
    sheet_styles: tuple[str, ...] = ("3d", "flat", "twemoji")


class LDMTask:
    """See `loop.Task`; `networks` is the denoiser, and the text tower where that learns too."""

    def __init__(self, cfg: LDMTraining, data: EmojiData, start: Start, latents: Path, device: torch.device):
        _check(cfg)
        self.cfg, self.data, self.device = cfg, data, device
        self.vae = start.vae.to(device)
        self.text = shortened(start.text, cfg.length, pooled=cfg.transformer is not None).to(device)
        self.tokenizer = copy.copy(start.tokenizer)
        self.tokenizer.max_length = cfg.length
        torch.manual_seed(cfg.loop.seed)
        self.network = _network(cfg, self.vae.cfg, self.text.cfg, data.size // self.vae.cfg.factor)
        start.carry_over(self.network)
        if cfg.loop.compile:
            self.network.compile()
        self.networks: nn.Module = self.network
        if cfg.train_text:
            self.networks = nn.ModuleDict({"unet": self.network, "text": self.text.requires_grad_(True)})
        self.table = table_of(cfg.prediction, cfg.noise)
        self.denoiser = Denoiser(self.network, cfg.prediction, self.table)
        self._cache = cached(latents, data, self.vae, cfg.backgrounds, 0, device)
        self._layouts: list[Scene] = []
        if cfg.scenes:
            scenes = Scenes(data)
            self._layouts = [scenes[k] for k in range(cfg.scenes + cfg.held_out)]
            self._scenes = cached_scenes(latents, scenes, self._layouts, self.vae, device)
        train, held_out = (
            np.repeat(numbers, [self._repeats(int(i)) for i in numbers])
            for numbers in (
                data.splits["train"],
                np.concatenate([data.splits["unseen_picture"], data.splits["unseen_concept"]]),
            )
        )
        self._epoch, self._held_out = train, np.unique(held_out)
        self._languages = [cfg.languages.get(language, 1.0) for language in captions.LANGUAGES]
        if not cfg.languages:
            self._languages = list(captions.LANGUAGE_WEIGHTS)

    def batch(self, step: int) -> Batch:
        cfg, seed, count = self.cfg, self.cfg.loop.seed, self.cfg.loop.batch
        scenes = round(cfg.scene_share * count) if cfg.scenes else 0
        single = count - scenes
        numbers = self._epoch[shuffled(seed, "pictures", step * single, single, len(self._epoch))]
        rng = Random(int(stream(seed, "captions", step).integers(2**63)))
        variants, texts = [], []
        for i in numbers:
            plain = cfg.backgrounds == 0 or rng.random() >= cfg.background_share
            variant = 0 if plain else rng.randint(1, cfg.backgrounds)
            text = self._caption(int(i), variant, rng)
            variants.append(variant)
            texts.append("" if rng.random() < cfg.drop else text)
        x0 = self._cache.latents[numbers, variants]
        if scenes:
            places = shuffled(seed, "scenes", step * scenes, scenes, cfg.scenes)
            for k in places:
                text = scene_captions.caption(self._layouts[k], self._language(rng), rng)
                texts.append("" if rng.random() < cfg.drop else text)
            x0 = torch.cat([x0, self._scenes[places]])
        chance = stream(seed, "noise", step)
        u = (chance.permutation(count) + chance.random(count)) / count
        return {
            "x0": x0.float(),
            "noise": torch.from_numpy(chance.standard_normal(tuple(x0.shape), np.float32)),
            "t": self._times(torch.from_numpy(u)),
            "ids": self.tokenizer(texts),
        }

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        losses = self._losses(batch)
        sigma = self.table.sigmas[batch["t"].cpu()].to(losses)
        loss = (losses * weights(self.cfg.prediction, sigma, self.cfg.min_snr)).mean()
        return loss, {"mse": losses.detach().mean()}

    def validate(self) -> dict[str, float]:
        """`errors`, each as the geometric mean over the noise levels, which count alike in it however far apart."""
        errors = self.errors()
        means = {f"x0_{name}": math.exp(np.log(list(rows.values())).mean()) for name, rows in errors.items()}
        return means | {f"x0_seen_{ratio:g}": error for ratio, error in errors["seen"].items()}

    def errors(self) -> dict[str, dict[float, float]]:
        """Mean squared error of the estimate of x0 by ratio of noise to signal, of pictures "seen" by training and not.

        Over a fixed grid of (picture, ratio, noise), so that it compares whatever networks predict, on whichever path.
        "scenes" are such that training does not see.
        """
        found, languages = {}, captions.LANGUAGES
        for name, numbers in {"seen": np.unique(self._epoch), "unseen": self._held_out}.items():
            if len(numbers):
                chosen = numbers[np.linspace(0, len(numbers) - 1, self.cfg.held_out).astype(int)]
                prompts = [
                    captions.prompt(self.data.concept(int(i)), self.data.style(int(i)), languages[k % 6])
                    for k, i in enumerate(chosen)
                ]
                x0 = self._cache.latents[chosen, 0]
                found[name] = {ratio: self._error(x0, prompts, ratio) for ratio in RATIOS}
        if self._layouts:
            new = self._layouts[self.cfg.scenes :]
            prompts = [scene_captions.prompt(scene, languages[k % 6]) for k, scene in enumerate(new)]
            x0 = self._scenes[self.cfg.scenes :]
            found["scenes"] = {ratio: self._error(x0, prompts, ratio) for ratio in RATIOS}
        return found

    def samples(self) -> Image.Image:
        """A row of pictures for each of `sheet_styles`, drawn from the same noise in each column."""
        cfg = self.cfg
        prompts = [f"{p}, {captions.STYLE_WORDS['en'][style][0]}" for style in cfg.sheet_styles for p in cfg.prompts]
        seeds = [*range(len(cfg.prompts))] * len(cfg.sheet_styles)
        pictures = self.draw(prompts, seeds)
        return sheet(pictures.split(len(cfg.prompts)))

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Pictures (N, 3, H, W) in about [-1, 1], by the recipe's own steps and guidance."""
        cfg, side, path = self.cfg, self.data.size // self.vae.cfg.factor, self.denoiser.path
        sampler, sigmas = find_sampler(cfg.sampler), sigma_list(cfg.schedule, self.table, cfg.sheet_steps)
        (empty,) = self.encode([""])
        jobs = []
        for seed, cond in zip(seeds, self.encode(prompts), strict=True):
            stream = NoiseStream(seed, (1, self.vae.cfg.latent_channels, side, side), self.device)
            both = guide.network_guide(self.denoiser, cond), guide.network_guide(self.denoiser, empty)
            steer = guide.Guidance(partial(guide.cfg, *both, cfg.sheet_cfg))
            x = first_latents(stream.normal(), sigmas, sampler, path)
            jobs.append(sampler.job(steer, x, sigmas, path, stream, self.table))
        latents: dict[int, Tensor] = {}
        for number, event in drive(jobs, max_rows=64):
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                latents[number] = last_latents(event.x, sigmas, sampler, path)
        z = torch.cat([latents[number] for number in range(len(jobs))])
        return torch.cat([self.vae.decode(self.vae.from_latents(part)) for part in z.split(16)])

    def encode(self, prompts: Sequence[str]) -> list[Cond]:
        """One row of conditioning for each prompt."""
        cond = self._cond(self.tokenizer(prompts).to(self.device))
        return [cond.select(slice(i, i + 1)) for i in range(len(prompts))]

    def export(self, folder: Path) -> None:
        """A diffusers folder in float16, files of at most 16 MiB."""
        cfg, size = self.cfg, self.data.size
        spec = dataclasses.replace(
            described(self.network),
            vae=self.vae.cfg,
            text=self.text.cfg,
            prediction=cfg.prediction,
            noise=cfg.noise,
            defaults=Defaults(size, size, cfg.sheet_steps, cfg.sheet_cfg, cfg.sampler, cfg.schedule),
        )
        self.tokenizer.save(folder / "tokenizer")
        save_folder(
            folder,
            spec,
            {family(spec.family).denoiser: self.network, "vae": self.vae, "text": self.text},
            tokenizer_folder=folder / "tokenizer",
            dtype=torch.float16,
            max_file_size=MAX_FILE,
        )

    def _repeats(self, i: int) -> int:
        """How often a picture comes in an epoch."""
        return self.cfg.styles.get(self.data.style(i), 1) * self.cfg.subgroups.get(self.data.concept(i).subgroup, 1)

    def _language(self, rng: Random) -> str:
        return rng.choices(captions.LANGUAGES, self._languages)[0]

    def _caption(self, i: int, variant: int, rng: Random) -> str:
        language = self._language(rng)
        place = int(self._cache.colours[i, variant])
        colour = None if place == UNNAMED else captions.COLOURS[place]
        return captions.caption(self.data.concept(i), self.data.style(i), language, rng, colour)

    def _cond(self, ids: Tensor) -> Cond:
        states = self.text(ids)
        return Cond(states.read(), states.vector)

    def _times(self, u: Tensor) -> Tensor:
        """Whole times (B,), places in the table's `sigmas`, from uniform numbers in [0, 1)."""
        cfg, u = self.cfg, u.clamp(1e-6, 1 - 1e-6)
        z = torch.special.ndtri(u) if cfg.times == "logit_normal" else torch.logit(u)
        share = torch.sigmoid(cfg.t_shift + cfg.t_scale * z)
        return (share * cfg.noise.steps).long().clamp(max=cfg.noise.steps - 1)

    def _losses(self, batch: Batch) -> Tensor:
        """Mean squared error of each sample (B,) against the target that sampling assumes."""
        kind, x0 = self.cfg.prediction, batch["x0"]
        sigma = self.table.sigmas[batch["t"].cpu()]
        x = self.denoiser.path.noised(x0, batch["noise"], sigma)
        c_in, _, _ = predict.preconditioning(kind, sigma)
        t = self.table.time(sigma).to(x)
        output = self.network(per_row(c_in, x) * x, t, self._cond(batch["ids"])).float()
        return (output - predict.target(kind, x0, x, sigma)).square().mean((1, 2, 3))

    def _error(self, x0: Tensor, prompts: Sequence[str], ratio: float) -> float:
        """Mean squared error of x0 (N, C, h, w) for these prompts where noise is `ratio` times the signal."""
        x0 = x0.float()
        noise = torch.from_numpy(stream(0, f"grid {ratio}", 0).standard_normal(tuple(x0.shape), np.float32))
        sigma = torch.full((len(x0),), self.denoiser.path.sigma_at(ratio), dtype=torch.float64)
        x0, noise = x0.to(self.device), noise.to(self.device)
        x = self.denoiser.path.noised(x0, noise, sigma)
        with arithmetic(self.cfg.loop, self.device):
            estimate = self.denoiser(x, sigma, self._cond(self.tokenizer(prompts).to(self.device)))
        return (estimate.float() - x0).square().mean().item()


def _network(cfg: LDMTraining, vae: VAEConfig, text: CLIPTextConfig, side: int) -> UNet | MMDiT:
    """Raises SfumatoError unless the recipe has one network."""
    if cfg.net is not None and cfg.transformer is None:
        return new_unet(cfg.net, vae, text)
    if cfg.transformer is not None and cfg.net is None:
        return text_transformer(cfg.transformer, vae, text, side)
    raise SfumatoError("the recipe has to describe one network; give it either the table [net] or [transformer]")


def weights(kind: Prediction, sigma: Tensor, gamma: float) -> Tensor:
    """Min-SNR loss weights (B,) with S = 1 / sigma^2 (Hang et al. 2023, section 3.4); ones for gamma 0.

    For v the paper's min(S, gamma) / (S + 1); for eps min(S, gamma) / S; for x0 min(S, gamma).
    """
    if not gamma:
        return torch.ones_like(sigma)
    snr = sigma**-2
    return snr.clamp(max=gamma) / {"v": snr + 1, "eps": snr, "x0": torch.ones_like(snr)}[kind]


def shortened(text: CLIPText, length: int, pooled: bool) -> CLIPText:
    """The same tower for rows of at most `length` tokens; `pooled`: the network is also told the prompt as a whole.

    Raises SfumatoError if the tower was made for fewer tokens.
    """
    if length > text.cfg.max_length:
        raise SfumatoError(f"length is {length}; this text tower takes at most {text.cfg.max_length}")
    short = CLIPText(dataclasses.replace(text.cfg, max_length=length, pooled="plain" if pooled else None))
    state = text.state_dict()
    positions = "text_model.embeddings.position_embedding.weight"
    short.load_state_dict(state | {positions: state[positions][:length]})
    return short.eval().requires_grad_(False)


def _check(cfg: LDMTraining) -> None:
    for given, known, what in (
        (cfg.styles, captions.STYLES, "style"),
        (dict.fromkeys(cfg.sheet_styles), captions.STYLES, "style"),
        (cfg.languages, captions.LANGUAGES, "language"),
    ):
        unknown = sorted(given.keys() - set(known))
        if unknown:
            raise SfumatoError(f"unknown {what} '{unknown[0]}'; choose from {', '.join(known)}")
    if cfg.min_snr and cfg.prediction not in ("v", "eps", "x0"):
        raise SfumatoError(f"min_snr is not defined for '{cfg.prediction}'; set it to 0")
    if cfg.prediction == "edm":
        raise SfumatoError("prediction is 'edm'; training knows eps, v, x0 and flow")
    if not 0 <= cfg.scene_share <= 1:
        raise SfumatoError(f"scene_share is {cfg.scene_share}; expected 0 to 1")
    if cfg.length < 3:
        raise SfumatoError(f"length is {cfg.length}; expected at least 3")
