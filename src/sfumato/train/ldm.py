"""Training the denoiser of a latent diffusion model on frozen latents and a frozen text tower."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sfumato.data import captions
from sfumato.data.dataset import EmojiData
from sfumato.diffusion import guide, predict
from sfumato.diffusion.cond import Cond
from sfumato.diffusion.drive import Denoiser, Failed, Finished, drive
from sfumato.diffusion.path import path_of, per_row
from sfumato.diffusion.rng import NoiseStream
from sfumato.diffusion.sample import find_sampler
from sfumato.diffusion.schedule import NoiseTable, sigma_list, training_sigmas
from sfumato.errors import SfumatoError
from sfumato.nets.clip import CLIPText
from sfumato.nets.unet import UNet
from sfumato.spec import Defaults, Prediction, Schedule, Spec, UNetConfig
from sfumato.tasks.txt2img import first_latents
from sfumato.train.config import LoopConfig
from sfumato.train.latents import UNNAMED, cached
from sfumato.train.loop import Batch, arithmetic
from sfumato.train.sheet import sheet
from sfumato.train.start import Start
from sfumato.train.stateless import shuffled, stream
from sfumato.weights.save import save_folder

MAX_FILE = 16 << 20


@dataclass(frozen=True)
class LDMTraining:
    """Recipe of a denoiser.

    `net` gets its channels in and out and its context from the autoencoder and the text tower. `init` is a model (a
    path, or "emoji") whose weights are the first ones. `length` is the number of tokens the U-Net sees, start and end
    included. `styles` says how often pictures of a style come in an epoch
    (default once), `subgroups` the same for Unicode's subgroups of concepts, `languages` how often captions of one are
    drawn. `min_snr` is the gamma of Hang et al. 2023, 0 for equal weights. `t_shift` moves training towards high (> 0)
    or low (< 0) noise: times are drawn as sigmoid(logit(u) + t_shift), u uniform and stratified over the batch.
    `train_text` lets the text tower go on learning with the denoiser. Sheets draw `prompts` x `sheet_styles`; their
    steps and guidance, and `sampler` and `schedule`, become the model's own defaults.
    """

    loop: LoopConfig
    net: UNetConfig = field(default_factory=UNetConfig)
    prediction: Prediction = "v"
    noise: Schedule = field(default_factory=Schedule)
    init: str = ""
    length: int = 32
    drop: float = 0.1
    backgrounds: int = 3
    background_share: float = captions.BACKGROUND_SHARE
    styles: dict[str, int] = field(default_factory=dict)
    subgroups: dict[str, int] = field(default_factory=dict)
    languages: dict[str, float] = field(default_factory=dict)
    min_snr: float = 0.0
    t_shift: float = 0.0
    train_text: bool = False
    held_out: int = 48
    sheet_steps: int = 20
    sheet_cfg: float = 4.0
    sampler: str = "dpmpp_2m"
    schedule: str = "karras"
    prompts: tuple[str, ...] = ("red apple", "dog face", "rocket", "house", "red heart", "pizza", "octopus", "robot")
    sheet_styles: tuple[str, ...] = ("3d", "flat", "twemoji")


class LDMTask:
    """See `loop.Task`; `networks` is the U-Net, and the text tower where that learns too."""

    def __init__(self, cfg: LDMTraining, data: EmojiData, start: Start, latents: Path, device: torch.device):
        _check(cfg)
        self.cfg, self.data, self.device = cfg, data, device
        self.vae = start.vae.to(device)
        self.text = shortened(start.text, cfg.length).to(device)
        self.tokenizer = copy.copy(start.tokenizer)
        self.tokenizer.max_length = cfg.length
        self.spec = Spec(
            family="sd1",
            title="Stable Diffusion 1.x",
            unet=dataclasses.replace(
                cfg.net,
                in_channels=self.vae.cfg.latent_channels,
                out_channels=self.vae.cfg.latent_channels,
                context_dim=self.text.cfg.hidden_size,
            ),
            vae=self.vae.cfg,
            text=self.text.cfg,
            prediction=cfg.prediction,
            noise=cfg.noise,
            defaults=Defaults(data.size, data.size, cfg.sheet_steps, cfg.sheet_cfg, cfg.sampler, cfg.schedule),
        )
        torch.manual_seed(cfg.loop.seed)
        self.unet = UNet(self.spec.unet)
        self._start_at_zero()
        start.carry_over(self.unet)
        if cfg.loop.compile:
            self.unet.compile()
        self.networks: nn.Module = self.unet
        if cfg.train_text:
            self.networks = nn.ModuleDict({"unet": self.unet, "text": self.text.requires_grad_(True)})
        self.table = NoiseTable(training_sigmas(cfg.noise))
        self._cache = cached(latents, data, self.vae, cfg.backgrounds, 0, device)
        train = [int(i) for i in data.splits["train"]]
        repeats = [cfg.styles.get(data.style(i), 1) * cfg.subgroups.get(data.concept(i).subgroup, 1) for i in train]
        self._epoch = np.repeat(train, repeats)
        self._languages = [cfg.languages.get(language, 1.0) for language in captions.LANGUAGES]
        if not cfg.languages:
            self._languages = list(captions.LANGUAGE_WEIGHTS)

    def batch(self, step: int) -> Batch:
        cfg, seed, count = self.cfg, self.cfg.loop.seed, self.cfg.loop.batch
        numbers = self._epoch[shuffled(seed, "pictures", step * count, count, len(self._epoch))]
        rng = Random(int(stream(seed, "captions", step).integers(2**63)))
        variants, texts = [], []
        for i in numbers:
            plain = cfg.backgrounds == 0 or rng.random() >= cfg.background_share
            variant = 0 if plain else rng.randint(1, cfg.backgrounds)
            text = self._caption(int(i), variant, rng)
            variants.append(variant)
            texts.append("" if rng.random() < cfg.drop else text)
        chance = stream(seed, "noise", step)
        u = (chance.permutation(count) + chance.random(count)) / count
        x0 = self._cache.latents[numbers, variants].float()
        return {
            "x0": x0,
            "noise": torch.from_numpy(chance.standard_normal(tuple(x0.shape), np.float32)),
            "t": self._times(torch.from_numpy(u)),
            "ids": self.tokenizer(texts),
        }

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        losses = self._losses(batch)
        sigma = self.table.sigma(batch["t"].cpu()).to(losses)
        loss = (losses * weights(self.cfg.prediction, sigma, self.cfg.min_snr)).mean()
        return loss, {"mse": losses.detach().mean()}

    def validate(self) -> dict[str, float]:
        """Unweighted loss on a fixed grid of (sample, t, noise), for pictures that training sees and does not see."""
        held_out = np.concatenate([self.data.splits["unseen_picture"], self.data.splits["unseen_concept"]])
        figures = {}
        for name, numbers in {"seen": self.data.splits["train"], "unseen": held_out}.items():
            chosen = numbers[np.linspace(0, len(numbers) - 1, min(self.cfg.held_out, len(numbers))).astype(int)]
            grid = {t: self._grid(chosen, t) for t in range(50, self.cfg.noise.steps, 100)}
            with arithmetic(self.cfg.loop, self.device):
                by_time = {t: self._losses(batch).mean().item() for t, batch in grid.items()}
            figures[f"loss_{name}"] = sum(by_time.values()) / len(by_time)
            if name == "seen":
                figures |= {f"t{t}": value for t, value in by_time.items()}
        return figures

    def samples(self) -> Image.Image:
        """A row of pictures for each of `sheet_styles`, drawn by DDIM from the same noise in each column."""
        cfg = self.cfg
        prompts = [f"{p}, {captions.STYLE_WORDS['en'][style][0]}" for style in cfg.sheet_styles for p in cfg.prompts]
        seeds = [*range(len(cfg.prompts))] * len(cfg.sheet_styles)
        pictures = self.draw(prompts, seeds)
        return sheet(pictures.split(len(cfg.prompts)))

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """Pictures (N, 3, H, W) in about [-1, 1], by the recipe's own steps and guidance."""
        cfg, side = self.cfg, self.data.size // self.vae.cfg.factor
        sampler, sigmas = find_sampler("ddim"), sigma_list("sgm_uniform", self.table, cfg.sheet_steps)
        denoiser = Denoiser(self.unet, cfg.prediction, self.table)
        (empty,) = self.encode([""])
        jobs = []
        for seed, cond in zip(seeds, self.encode(prompts), strict=True):
            noise = NoiseStream(seed, (1, self.vae.cfg.latent_channels, side, side), self.device)
            steer = guide.cfg(guide.plain(denoiser, cond), guide.plain(denoiser, empty), cfg.sheet_cfg)
            x = first_latents(noise.normal(), sigmas, sampler)
            jobs.append(sampler.run(steer, x, sigmas, denoiser.path, noise))
        latents: dict[int, Tensor] = {}
        for number, event in drive(jobs, max_rows=64):
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                latents[number] = event.x
        z = torch.cat([latents[number] for number in range(len(jobs))])
        return torch.cat([self.vae.decode(self.vae.from_latents(part)) for part in z.split(16)])

    def encode(self, prompts: Sequence[str]) -> list[Cond]:
        """One row of conditioning for each prompt."""
        tokens = self.text(self.tokenizer(prompts).to(self.device)).last
        return [Cond(row) for row in tokens.split(1)]

    def export(self, folder: Path) -> None:
        """A diffusers folder in float16, files of at most 16 MiB."""
        self.tokenizer.save(folder / "tokenizer")
        save_folder(
            folder,
            self.spec,
            {"unet": self.unet, "vae": self.vae, "text": self.text},
            tokenizer_folder=folder / "tokenizer",
            dtype=torch.float16,
            max_file_size=MAX_FILE,
        )

    def _caption(self, i: int, variant: int, rng: Random) -> str:
        language = rng.choices(captions.LANGUAGES, self._languages)[0]
        place = int(self._cache.colours[i, variant])
        colour = None if place == UNNAMED else captions.COLOURS[place]
        return captions.caption(self.data.concept(i), self.data.style(i), language, rng, colour)

    def _times(self, u: Tensor) -> Tensor:
        """Whole times (B,) from uniform numbers in [0, 1)."""
        shifted = torch.sigmoid(torch.logit(u.clamp(1e-6, 1 - 1e-6)) + self.cfg.t_shift)
        return (shifted * self.cfg.noise.steps).long().clamp(max=self.cfg.noise.steps - 1)

    def _losses(self, batch: Batch) -> Tensor:
        """Mean squared error of each sample (B,) against the target that sampling assumes."""
        kind, x0 = self.cfg.prediction, batch["x0"]
        sigma = self.table.sigma(batch["t"].cpu())
        x = path_of(kind).noised(x0, batch["noise"], sigma)
        c_in, _, _ = predict.preconditioning(kind, sigma)
        tokens = self.text(batch["ids"]).last
        output = self.unet(per_row(c_in, x) * x, batch["t"], Cond(tokens)).float()
        return (output - predict.target(kind, x0, x, sigma)).square().mean((1, 2, 3))

    def _grid(self, numbers: np.ndarray, t: int) -> Batch:
        rng = stream(0, "grid", t)
        x0 = self._cache.latents[numbers, 0].float()
        prompts = [
            captions.prompt(self.data.concept(int(i)), self.data.style(int(i)), captions.LANGUAGES[k % 6])
            for k, i in enumerate(numbers)
        ]
        batch = {
            "x0": x0,
            "noise": torch.from_numpy(rng.standard_normal(tuple(x0.shape), np.float32)),
            "t": torch.full((len(numbers),), t),
            "ids": self.tokenizer(prompts),
        }
        return {name: value.to(self.device) for name, value in batch.items()}

    def _start_at_zero(self) -> None:
        """Residual branches and the output begin at zero, as in the original: the first steps learn the mean."""
        for name, module in self.unet.named_modules():
            if name.endswith(("conv2", "proj_out", "conv_out")):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)


def weights(kind: Prediction, sigma: Tensor, gamma: float) -> Tensor:
    """Min-SNR loss weights (B,) with S = 1 / sigma^2 (Hang et al. 2023, section 3.4); ones for gamma 0.

    For v the paper's min(S, gamma) / (S + 1); for eps min(S, gamma) / S; for x0 min(S, gamma).
    """
    if not gamma:
        return torch.ones_like(sigma)
    snr = sigma**-2
    return snr.clamp(max=gamma) / {"v": snr + 1, "eps": snr, "x0": torch.ones_like(snr)}[kind]


def shortened(text: CLIPText, length: int) -> CLIPText:
    """The same tower for rows of at most `length` tokens. Raises SfumatoError if it was made for fewer."""
    if length > text.cfg.max_length:
        raise SfumatoError(f"length is {length}; this text tower takes at most {text.cfg.max_length}")
    short = CLIPText(dataclasses.replace(text.cfg, max_length=length))
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
    if cfg.length < 3:
        raise SfumatoError(f"length is {cfg.length}; expected at least 3")
